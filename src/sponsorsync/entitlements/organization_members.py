"""Members of organizations that sponsor: what their login shows, and what becomes of it later.

An organization's own entitlement is kept like anybody's, under its number: webhook and reconcile
tell of it. Each change of it is noted by the script that keeps it, until all of its members were
judged again; whoever dies in between leaves the note.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.errors import (
    DurableUnavailableError,
    StoreConflictError,
    StoreError,
    StoreUnavailableError,
)
from sponsorsync.domain.fact_derivation import are_equivalent, derive_facts, is_better, is_not_older
from sponsorsync.domain.organizations import (
    SponsoringOrganization,
    mark_memberships_unknown,
    recompute_member,
    record_memberships,
)
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.store.entitlements import EntitlementChange, Saved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sponsorsync.background import Supervisor
    from sponsorsync.domain.entitlement import EntitlementPolicy
    from sponsorsync.domain.sponsorship import Membership, Memberships, Sponsorship
    from sponsorsync.store.entitlements import EntitlementStore
    from sponsorsync.store.locks import HeldLock
    from sponsorsync.store.organizations import ChangedOrganization, OrganizationStore

    _Decide = Callable[[EntitlementFacts | None], EntitlementFacts | None]

_LOOK_S = 5.0
_CHUNK = 100
_BY = "organization"

_log = structlog.get_logger(__name__)


class Members:
    """Keeps the entitlement of members in step with that of their organizations."""

    def __init__(
        self,
        entitlements: EntitlementStore,
        organizations: OrganizationStore,
        *,
        policy: EntitlementPolicy,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._entitlements = entitlements
        self._organizations = organizations
        self._policy = policy
        self._clock = clock

    async def see(
        self,
        person_id: int,
        sponsorable: str,
        facts: EntitlementFacts | None,
        memberships: Memberships | None,
        *,
        asked_at: datetime,
    ) -> EntitlementFacts | None:
        """Returns a person's facts after a login, which are not kept yet.

        Args:
            person_id: Who signed in.
            sponsorable: Whom an organization may sponsor.
            facts: What else is known; None where that is nothing.
            memberships: What GitHub showed; None where it showed nothing.
            asked_at: The moment before it was asked.

        Raises:
            StoreUnavailableError: The local Redis cannot be asked.
        """
        now = self._clock()
        if memberships is None:
            return None if facts is None else mark_memberships_unknown(facts, now=now)
        known = facts or EntitlementFacts(sponsorable=sponsorable, checked_at=None)
        former = {g.organization_id for g in known.grants if g.organization_id is not None}
        candidates, unsure = await self._find_candidates(sponsorable, memberships, former)
        shown = {each.id for each in memberships.organizations}
        hidden = set() if memberships.is_complete else former - shown
        sponsoring = [
            await self._record_organization(person_id, sponsorable, each, asked_at)
            for each in candidates
        ]
        return record_memberships(
            known,
            [each for each in sponsoring if each is not None],
            hidden=hidden | (former & unsure),
            is_complete=memberships.is_complete and not unsure,
            policy=self._policy,
            now=now,
        )

    async def follow(self) -> None:
        """Recomputes the members of each organization that changed, and its new members.

        One replica does so at a time, to spare work: whoever does, versions decide.

        Raises:
            StoreError: A Redis cannot be asked; what was not done stays noted.
        """
        if not await self._organizations.has_changed_organizations():
            return
        failed: list[StoreError] = []
        async with self._organizations.hold_lock() as lock:
            if lock is None:
                return
            for changed in await self._organizations.find_changed_organizations():
                try:
                    await self._recompute_organization(changed, lock)
                except (DurableUnavailableError, StoreConflictError) as error:
                    # It keeps its note, and keeps nobody else waiting.
                    failed.append(error)
        if failed:
            raise failed[0]

    async def _find_candidates(
        self, sponsorable: str, memberships: Memberships, former: set[int]
    ) -> tuple[list[Membership], set[int]]:
        """Leaves out organizations of which nobody ever told that they sponsor.

        Returns the others, and the numbers of those of which only durable may know, and is away.
        """
        now = self._clock()
        numbers = [each.id for each in memberships.organizations]
        known = await self._entitlements.load(sponsorable, numbers)
        unknown = await self._entitlements.find_unknown(sponsorable, numbers)
        candidates = []
        for each in memberships.organizations:
            facts = known[each.id].facts
            if any(given.sponsorable == sponsorable for given in each.sponsorships) or (
                facts is not None and (facts.is_sponsoring(now) or each.id in former)
            ):
                candidates.append(each)
        return candidates, unknown - {each.id for each in candidates}

    async def _record_organization(
        self, person_id: int, sponsorable: str, membership: Membership, asked_at: datetime
    ) -> SponsoringOrganization | None:
        facts = await self._learn(sponsorable, membership, asked_at)
        if facts.source is not EntitlementSource.SPONSORSHIP:
            return None
        return SponsoringOrganization(
            id=membership.id,
            login=membership.login,
            facts=facts,
            has_seat=await self._organizations.claim_seat(
                sponsorable,
                membership.id,
                person_id,
                seats=self._policy.seats,
            ),
        )

    async def _learn(
        self, sponsorable: str, membership: Membership, asked_at: datetime
    ) -> EntitlementFacts:
        """Saves what a member sees of an organization's sponsorship; returns the stored facts.

        A member sees no private sponsorship and no tier, so nothing is concluded from what is not
        shown, and a tier that is known stays.
        """
        given = [g for g in membership.sponsorships if g.sponsorable == sponsorable]

        def decide(known: EntitlementFacts | None) -> EntitlementFacts | None:
            if is_not_older(known, asked_at):
                return None
            return self._derive_organization_facts(sponsorable, given, known)

        _, facts = await self._entitlements.change(sponsorable, membership.id, decide, by="login")
        return facts or EntitlementFacts(sponsorable=sponsorable, checked_at=self._clock())

    def _derive_organization_facts(
        self, sponsorable: str, given: Sequence[Sponsorship], known: EntitlementFacts | None
    ) -> EntitlementFacts | None:
        if not given:
            return None
        now = self._clock()
        told = derive_facts(sponsorable, given, previous=known, policy=self._policy, now=now)
        if known is None:
            return told
        is_shown = any(known.since == each.created_at for each in given)
        if not is_shown and known.is_sponsoring(now) and is_better(known, told, now=now):
            return None  # GitHub may keep it back: a private one beside another of before
        if known.since == told.since:
            told = replace(told, tier_cents=told.tier_cents or known.tier_cents)
        return None if are_equivalent(told, known) else told

    async def _recompute_organization(self, changed: ChangedOrganization, lock: HeldLock) -> None:
        # For certain: 'not known' would end the entitlement of all its members.
        known = await self._entitlements.load_for_certain(changed.sponsorable, changed.id)
        sponsor = known.facts or EntitlementFacts(changed.sponsorable, checked_at=None)
        members = list(changed.newcomers)
        if changed.entry is not None:
            members = await self._organizations.load_members(changed.sponsorable, changed.id)

        def decide(facts: EntitlementFacts | None) -> EntitlementFacts | None:
            if facts is None:
                return None
            told = recompute_member(facts, changed.id, sponsor, policy=self._policy)
            return None if told == facts else told

        for at in range(0, len(members), _CHUNK):
            chunk = members[at : at + _CHUNK]
            left = await self._recompute_together(changed.sponsorable, chunk, decide)
            await self._recompute_each(changed, left, decide)
            if not await lock.extend():
                raise StoreUnavailableError(
                    "The right to judge members was lost meanwhile: another replica may be at it."
                )
        await self._organizations.settle_organizations(changed.entries)
        _log.info("organization_followed", organization=changed.id, members=len(members))

    async def _recompute_together(
        self, sponsorable: str, members: Sequence[int], decide: _Decide
    ) -> Sequence[int]:
        """Judges members with two round trips; returns who has to be judged once more, alone."""
        changes = []
        for person_id, known in (await self._entitlements.load(sponsorable, members)).items():
            facts = decide(known.facts)
            if facts is not None:
                changes.append(
                    EntitlementChange(person_id, facts, known.version, by=_BY, reference="")
                )
        saved = await self._entitlements.save(changes)
        return [
            change.person_id
            for change, outcome in zip(changes, saved, strict=True)
            if outcome is not Saved.OK
        ]

    async def _recompute_each(
        self, organization: ChangedOrganization, members: Sequence[int], decide: _Decide
    ) -> None:
        for member in members:
            try:
                await self._entitlements.change(organization.sponsorable, member, decide, by=_BY)
            except StoreConflictError as error:
                # Of no use to wait for: nobody else's entitlement hangs on it.
                _log.warning(
                    "member_not_followed",
                    organization=organization.id,
                    member=member,
                    reason=str(error),
                )


def recompute_members(supervisor: Supervisor, members: Members) -> None:
    """Starts the loop that keeps members in step; several replicas may run it at once."""
    supervisor.start("organization_members", members.follow, every_s=_LOOK_S)
