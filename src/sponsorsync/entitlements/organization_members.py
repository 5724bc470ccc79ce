"""Entitlements of the members of sponsoring organizations.

An organization has an entitlement of its own, stored like a person's under its number; webhook and
reconcile update it. The script that saves it also saves a note that the organization has changed.
The note stays until all members are recomputed, so that nothing is lost if a replica crashes
meanwhile.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from sponsorsync.background import Supervisor
from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
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
from sponsorsync.domain.sponsorship import Membership, Memberships, Sponsorship
from sponsorsync.store.entitlements import EntitlementChange, EntitlementStore, Saved
from sponsorsync.store.locks import HeldLock
from sponsorsync.store.organizations import ChangedOrganization, OrganizationStore

_Decide = Callable[[EntitlementFacts | None], EntitlementFacts | None]

_RECOMPUTE_EVERY_S = 5.0
_CHUNK = 100
_BY = "organization"

_log = structlog.get_logger(__name__)


@dataclass
class OrganizationMembers:
    """Updates the entitlements of members when those of their organizations change."""

    entitlements: EntitlementStore
    organizations: OrganizationStore
    policy: EntitlementPolicy
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def start(self, supervisor: Supervisor) -> None:
        """Starts the loop that recomputes members; several replicas may run it at once."""
        supervisor.start("organization_members", self.recompute_changed, every_s=_RECOMPUTE_EVERY_S)

    async def record_memberships(
        self,
        person_id: int,
        sponsorable: str,
        facts: EntitlementFacts | None,
        memberships: Memberships | None,
        *,
        asked_at: datetime,
    ) -> EntitlementFacts | None:
        """Returns a person's facts with a grant for each sponsoring organization they belong to.

        Saves the organizations' facts and the seats of members, but not the person's facts.
        `memberships` is None if GitHub did not answer; `asked_at` is the moment before the request.

        Raises:
            StoreUnavailableError: The local Redis cannot be asked.
        """
        now = self.clock()
        if memberships is None:
            return None if facts is None else mark_memberships_unknown(facts, now=now)
        stored = facts or EntitlementFacts(sponsorable=sponsorable, checked_at=None)
        former = {g.organization_id for g in stored.grants if g.organization_id is not None}
        candidates, unsure = await self._find_candidates(sponsorable, memberships, former)
        shown = {each.id for each in memberships.organizations}
        hidden = set() if memberships.is_complete else former - shown
        sponsoring = [
            await self._record_organization(person_id, sponsorable, each, asked_at)
            for each in candidates
        ]
        return record_memberships(
            stored,
            [each for each in sponsoring if each is not None],
            hidden=hidden | (former & unsure),
            is_complete=memberships.is_complete and not unsure,
            policy=self.policy,
            now=now,
        )

    async def recompute_changed(self) -> None:
        """Recomputes all members of each changed organization, and the new members of others.

        A lock admits one replica at a time, but only to save work: versions detect concurrent
        changes.

        Raises:
            StoreError: A Redis cannot be asked; the notes of the remaining organizations stay.
        """
        if not await self.organizations.has_changed_organizations():
            return
        failed: list[StoreError] = []
        async with self.organizations.hold_lock() as lock:
            if lock is None:
                return
            for changed in await self.organizations.find_changed_organizations():
                try:
                    await self._recompute_organization(changed, lock)
                except (DurableUnavailableError, StoreConflictError) as error:
                    # The note of this organization stays; the others are recomputed.
                    failed.append(error)
        if failed:
            raise failed[0]

    async def _find_candidates(
        self, sponsorable: str, memberships: Memberships, former: set[int]
    ) -> tuple[list[Membership], set[int]]:
        """Returns the memberships in organizations that may sponsor, and the ids of unknown ones.

        An organization is unknown if its entitlement may be on durable, which cannot be asked.
        """
        now = self.clock()
        numbers = [each.id for each in memberships.organizations]
        stored = await self.entitlements.load(sponsorable, numbers)
        unknown = await self.entitlements.find_unknown(sponsorable, numbers)
        candidates = []
        for each in memberships.organizations:
            facts = stored[each.id].facts
            if any(shown.sponsorable == sponsorable for shown in each.sponsorships) or (
                facts is not None and (facts.is_sponsoring(now) or each.id in former)
            ):
                candidates.append(each)
        return candidates, unknown - {each.id for each in candidates}

    async def _record_organization(
        self, person_id: int, sponsorable: str, membership: Membership, asked_at: datetime
    ) -> SponsoringOrganization | None:
        facts = await self._save_organization(sponsorable, membership, asked_at)
        if facts.source is not EntitlementSource.SPONSORSHIP:
            return None
        return SponsoringOrganization(
            id=membership.id,
            login=membership.login,
            facts=facts,
            has_seat=await self.organizations.claim_seat(
                sponsorable, membership.id, person_id, seats=self.policy.seats
            ),
        )

    async def _save_organization(
        self, sponsorable: str, membership: Membership, asked_at: datetime
    ) -> EntitlementFacts:
        """Saves an organization's sponsorship as GitHub shows it to a member; returns its facts.

        GitHub shows members neither private sponsorships nor tiers. So a sponsorship that is not
        shown may still exist, and a stored tier stays.
        """
        shown = [each for each in membership.sponsorships if each.sponsorable == sponsorable]

        def decide(stored: EntitlementFacts | None) -> EntitlementFacts | None:
            if not shown or is_not_older(stored, asked_at):
                return None
            return self._derive_organization_facts(sponsorable, shown, stored)

        _, facts = await self.entitlements.change(sponsorable, membership.id, decide, by="login")
        return facts or EntitlementFacts(sponsorable=sponsorable, checked_at=self.clock())

    def _derive_organization_facts(
        self, sponsorable: str, shown: Sequence[Sponsorship], stored: EntitlementFacts | None
    ) -> EntitlementFacts | None:
        now = self.clock()
        facts = derive_facts(sponsorable, shown, previous=stored, policy=self.policy, now=now)
        if stored is None:
            return facts
        is_shown = any(stored.since == each.created_at for each in shown)
        if not is_shown and stored.is_sponsoring(now) and is_better(stored, facts, now=now):
            return None  # the stored sponsorship may be private, and the shown one a former one
        if stored.since == facts.since:
            facts = replace(facts, tier_cents=facts.tier_cents or stored.tier_cents)
        return None if are_equivalent(facts, stored) else facts

    async def _recompute_organization(self, changed: ChangedOrganization, lock: HeldLock) -> None:
        # `for_certain`: facts that are unknown here would end the entitlements of all members.
        stored = await self.entitlements.load_for_certain(changed.sponsorable, changed.id)
        sponsor = stored.facts or EntitlementFacts(changed.sponsorable, checked_at=None)
        members = list(changed.newcomers)
        if changed.entry is not None:
            members = await self.organizations.load_members(changed.sponsorable, changed.id)

        def decide(facts: EntitlementFacts | None) -> EntitlementFacts | None:
            if facts is None:
                return None
            recomputed = recompute_member(facts, changed.id, sponsor, policy=self.policy)
            return None if recomputed == facts else recomputed

        for at in range(0, len(members), _CHUNK):
            chunk = members[at : at + _CHUNK]
            left = await self._recompute_together(changed.sponsorable, chunk, decide)
            await self._recompute_each(changed, left, decide)
            if not await lock.extend():
                raise StoreUnavailableError(
                    "The lock for recomputing members was lost; another replica may hold it."
                )
        await self.organizations.settle_organizations(changed.entries)
        _log.info("organization_recomputed", organization=changed.id, members=len(members))

    async def _recompute_together(
        self, sponsorable: str, members: Sequence[int], decide: _Decide
    ) -> Sequence[int]:
        """Recomputes members in two round trips; returns those whose change was not saved."""
        changes = []
        for person_id, stored in (await self.entitlements.load(sponsorable, members)).items():
            facts = decide(stored.facts)
            if facts is not None:
                changes.append(
                    EntitlementChange(person_id, facts, stored.version, by=_BY, reference="")
                )
        saved = await self.entitlements.save(changes)
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
                await self.entitlements.change(organization.sponsorable, member, decide, by=_BY)
            except StoreConflictError as error:
                # A later attempt would fail too, and no other entitlement depends on this one.
                _log.warning(
                    "member_not_recomputed",
                    organization=organization.id,
                    member=member,
                    reason=str(error),
                )
