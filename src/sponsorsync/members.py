"""Members of organizations that sponsor: what their login shows, and what becomes of it later.

An organization's own cover is kept like anybody's, under its number: webhook and reconcile tell of
it. Each change of it is noted by the script that keeps it, until all of its members were judged
again; whoever dies in between leaves the note.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from sponsorsync.domain.assessment import assess, is_as_new, is_better, tell_the_same
from sponsorsync.domain.cover import CoverFacts
from sponsorsync.domain.errors import (
    DurableUnavailableError,
    StoreConflictError,
    StoreError,
    StoreUnavailableError,
)
from sponsorsync.domain.organizations import (
    SponsoringOrganization,
    follow_organization,
    miss_memberships,
    see_memberships,
)
from sponsorsync.domain.sources import CoverSource
from sponsorsync.store.entitlements import CoverChange, Saved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sponsorsync.background import Supervisor
    from sponsorsync.domain.cover import CoverPolicy
    from sponsorsync.domain.sponsorship import Membership, Memberships, Sponsorship
    from sponsorsync.store.entitlements import EntitlementStore
    from sponsorsync.store.locks import HeldLock
    from sponsorsync.store.organizations import ChangedOrganization, OrganizationStore

    _Decide = Callable[[CoverFacts | None], CoverFacts | None]

_LOOK_S = 5.0
_CHUNK = 100
_BY = "organization"

_log = structlog.get_logger(__name__)


class Members:
    """Keeps the cover of members in step with that of their organizations."""

    def __init__(
        self,
        covers: EntitlementStore,
        organizations: OrganizationStore,
        *,
        policy: CoverPolicy,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._covers = covers
        self._organizations = organizations
        self._policy = policy
        self._clock = clock

    async def see(
        self,
        person_id: int,
        sponsorable: str,
        facts: CoverFacts | None,
        memberships: Memberships | None,
        *,
        asked_at: datetime,
    ) -> CoverFacts | None:
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
            return None if facts is None else miss_memberships(facts, now=now)
        known = facts or CoverFacts(sponsorable=sponsorable, checked_at=None)
        former = {g.organization_id for g in known.grants if g.organization_id is not None}
        candidates, unsure = await self._find_candidates(sponsorable, memberships, former)
        shown = {each.id for each in memberships.organizations}
        hidden = set() if memberships.is_complete else former - shown
        sponsoring = [
            await self._see_organization(person_id, sponsorable, each, asked_at)
            for each in candidates
        ]
        return see_memberships(
            known,
            [each for each in sponsoring if each is not None],
            hidden=hidden | (former & unsure),
            is_complete=memberships.is_complete and not unsure,
            policy=self._policy,
            now=now,
        )

    async def follow(self) -> None:
        """Judges again the members of each organization whose cover has changed, and who is new.

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
                    await self._follow_organization(changed, lock)
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
        known = await self._covers.load(sponsorable, numbers)
        unknown = await self._covers.find_unknown(sponsorable, numbers)
        candidates = []
        for each in memberships.organizations:
            facts = known[each.id].facts
            if any(given.sponsorable == sponsorable for given in each.sponsorships) or (
                facts is not None and (facts.is_sponsoring(now) or each.id in former)
            ):
                candidates.append(each)
        return candidates, unknown - {each.id for each in candidates}

    async def _see_organization(
        self, person_id: int, sponsorable: str, membership: Membership, asked_at: datetime
    ) -> SponsoringOrganization | None:
        facts = await self._learn(sponsorable, membership, asked_at)
        if facts.source is not CoverSource.SPONSORSHIP:
            return None
        return SponsoringOrganization(
            id=membership.id,
            login=membership.login,
            facts=facts,
            has_seat=await self._organizations.take_seat(
                sponsorable,
                membership.id,
                person_id,
                seats=self._policy.seats,
            ),
        )

    async def _learn(
        self, sponsorable: str, membership: Membership, asked_at: datetime
    ) -> CoverFacts:
        """Returns what is known of an organization's own cover, after what its member sees of it.

        A member sees no private sponsorship and no tier, so nothing is concluded from what is not
        shown, and a tier that is known stays.
        """
        given = [g for g in membership.sponsorships if g.sponsorable == sponsorable]

        def decide(known: CoverFacts | None) -> CoverFacts | None:
            if is_as_new(known, asked_at):
                return None
            return self._assess_organization(sponsorable, given, known)

        _, facts = await self._covers.change(sponsorable, membership.id, decide, by="login")
        return facts or CoverFacts(sponsorable=sponsorable, checked_at=self._clock())

    def _assess_organization(
        self, sponsorable: str, given: Sequence[Sponsorship], known: CoverFacts | None
    ) -> CoverFacts | None:
        if not given:
            return None
        now = self._clock()
        told = assess(sponsorable, given, previous=known, policy=self._policy, now=now)
        if known is None:
            return told
        is_shown = any(known.since == each.created_at for each in given)
        if not is_shown and known.is_sponsoring(now) and is_better(known, told, now=now):
            return None  # GitHub may keep it back: a private one beside another of before
        if known.since == told.since:
            told = replace(told, tier_cents=told.tier_cents or known.tier_cents)
        return None if tell_the_same(told, known) else told

    async def _follow_organization(self, changed: ChangedOrganization, lock: HeldLock) -> None:
        # For certain: 'not known' would end the cover of all its members.
        known = await self._covers.load_for_certain(changed.sponsorable, changed.id)
        sponsor = known.facts or CoverFacts(changed.sponsorable, checked_at=None)
        members = list(changed.newcomers)
        if changed.note is not None:
            members = await self._organizations.load_members(changed.sponsorable, changed.id)

        def decide(facts: CoverFacts | None) -> CoverFacts | None:
            if facts is None:
                return None
            told = follow_organization(facts, changed.id, sponsor, policy=self._policy)
            return None if told == facts else told

        for at in range(0, len(members), _CHUNK):
            chunk = members[at : at + _CHUNK]
            left = await self._follow_together(changed.sponsorable, chunk, decide)
            await self._follow_each(changed, left, decide)
            if not await lock.extend():
                raise StoreUnavailableError(
                    "The right to judge members was lost meanwhile: another replica may be at it."
                )
        await self._organizations.settle_organizations(changed.notes)
        _log.info("organization_followed", organization=changed.id, members=len(members))

    async def _follow_together(
        self, sponsorable: str, members: Sequence[int], decide: _Decide
    ) -> Sequence[int]:
        """Judges members with two round trips; returns who has to be judged once more, alone."""
        changes = []
        for person_id, known in (await self._covers.load(sponsorable, members)).items():
            facts = decide(known.facts)
            if facts is not None:
                changes.append(CoverChange(person_id, facts, known.version, by=_BY, reference=""))
        saved = await self._covers.save(changes)
        return [
            change.person_id
            for change, outcome in zip(changes, saved, strict=True)
            if outcome is not Saved.OK
        ]

    async def _follow_each(
        self, organization: ChangedOrganization, members: Sequence[int], decide: _Decide
    ) -> None:
        for member in members:
            try:
                await self._covers.change(organization.sponsorable, member, decide, by=_BY)
            except StoreConflictError as error:
                # Of no use to wait for: nobody else's cover hangs on it.
                _log.warning(
                    "member_not_followed",
                    organization=organization.id,
                    member=member,
                    reason=str(error),
                )


def follow_organizations(supervisor: Supervisor, members: Members) -> None:
    """Starts the loop that keeps members in step; several replicas may run it at once."""
    supervisor.start("organization_members", members.follow, every_s=_LOOK_S)
