"""Comparison of one sponsorable's stored entitlements with GitHub's list of sponsorships."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sponsorsync.domain.account import StoredEntitlement
from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
from sponsorsync.domain.fact_derivation import (
    are_equivalent,
    derive_facts,
    have_same_sponsorship,
    is_better,
)
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.domain.sponsorship import Sponsorship
from sponsorsync.github.sponsorships import ReceivedPage
from sponsorsync.reconcile.report import BudgetLeft, Drift, ReconcileSummary
from sponsorsync.store.entitlements import EntitlementChange, EntitlementStore, Saved
from sponsorsync.store.reconciliations import ReconciliationStore

_CHUNK = 100


@dataclass
class Comparison:
    """Applies GitHub's list of sponsorships to the stored entitlements of one sponsorable.

    A page's sponsorships that improve an entitlement are saved at once. Changes that end or reduce
    an entitlement wait until all pages are read, since a later page may list a better sponsorship
    of the same person. Facts that were checked after the comparison began are newer than GitHub's
    list, and stay.
    """

    entitlements: EntitlementStore
    reconciliations: ReconciliationStore
    sponsorable: str
    policy: EntitlementPolicy
    began_at: datetime
    summary: ReconcileSummary
    report: Callable[[ReconcileSummary], None]
    # Numbers over all pages: sponsorships that GitHub listed; those of them with a hidden sponsor;
    # and the total that GitHub states.
    _nodes: int = field(default=0, init=False)
    _hidden: int = field(default=0, init=False)
    _total: int = field(default=0, init=False)
    _sponsorships: dict[int, tuple[Sponsorship, ...]] = field(default_factory=dict, init=False)
    # People whose stored entitlement differs from the pages so far.
    _differing: set[int] = field(default_factory=set, init=False)
    # Hashes of facts that this comparison has saved itself, and which are therefore not newer than
    # GitHub's list.
    _saved: dict[int, int] = field(default_factory=dict, init=False)
    _drifted: set[int] = field(default_factory=set, init=False)
    _conflicts: set[int] = field(default_factory=set, init=False)

    async def apply_page(self, page: ReceivedPage) -> None:
        """Saves the entitlements that a page creates or improves; remembers its sponsorships."""
        if self._nodes == 0:
            self.summary.total += page.total
        self._total = page.total
        self._nodes += page.nodes
        self._hidden += page.hidden
        self.summary.pages += 1
        self.summary.points += page.budget.cost
        self.summary.budget = BudgetLeft.model_validate(page.budget)
        self.summary.hidden += page.hidden
        before = len(self._sponsorships)
        for person_id, sponsorship in page.sponsorships:
            self._sponsorships[person_id] = (*self._sponsorships.get(person_id, ()), sponsorship)
        self.summary.people += len(self._sponsorships) - before
        ids = list(dict.fromkeys(person_id for person_id, _ in page.sponsorships))
        self._differing.difference_update(ids)
        self._differing.update(await self._save(ids, self._is_gain))

    def explain_incomplete(self) -> str | None:
        """Returns why GitHub's list is incomplete, or None.

        In an incomplete list a missing sponsorship may still exist.
        """
        if self._nodes < self._total:
            return f"GitHub showed {self._nodes} of {self._total} sponsorships."
        return None

    async def apply_losses(self) -> AsyncGenerator[None, None]:
        """Ends and reduces entitlements, after the last page; yields after each chunk of people."""
        for chunk in _split(sorted(self._differing)):
            await self._save(chunk, self._may_take)
            yield
        async for members in self.entitlements.scan_entitled(self.sponsorable):
            for chunk in _split(self._find_unlisted(members)):
                await self._save(chunk, self._may_end)
                yield
        if self._hidden:
            return  # a person whose refresh waits for an answer may be one of the hidden sponsors
        for chunk in _split(await self.reconciliations.load_awaiting(self.sponsorable)):
            # Of people who are not listed, only those whose refresh waits get facts saved.
            await self._save(self._find_unlisted(chunk), self._is_new_answer)
            if not self.summary.is_dry_run:
                await self.reconciliations.settle_awaiting(self.sponsorable, chunk)
            yield

    def _find_unlisted(self, person_ids: Sequence[int]) -> list[int]:
        return [person_id for person_id in person_ids if person_id not in self._sponsorships]

    async def _save(
        self,
        person_ids: Sequence[int],
        may_save: Callable[[EntitlementFacts | None, EntitlementFacts], bool],
    ) -> list[int]:
        """Saves GitHub's facts where they differ from the stored ones and `may_save` allows it.

        Returns the people whose facts differ, but may not be saved.
        """
        changes, refused = [], []
        stored = await self.entitlements.load(self.sponsorable, person_ids)
        for person_id, entitlement in stored.items():
            before, facts = entitlement.facts, self._derive_facts(person_id, entitlement)
            if before is not None and are_equivalent(before, facts):
                continue
            if self._is_newer(person_id, before):
                self.summary.newer += 1
            elif may_save(before, facts):
                version = entitlement.version
                change = EntitlementChange(person_id, facts, version, by="reconcile", reference="")
                changes.append((before, change))
            else:
                refused.append(person_id)
        outcomes = [Saved.OK] * len(changes)
        if not self.summary.is_dry_run:
            outcomes = await self.entitlements.save([change for _, change in changes])
        for (before, change), outcome in zip(changes, outcomes, strict=True):
            self._count(before, change, outcome)
        self.report(self.summary)
        return refused

    def _derive_facts(self, person_id: int, entitlement: StoredEntitlement) -> EntitlementFacts:
        return derive_facts(
            self.sponsorable,
            self._sponsorships.get(person_id, ()),
            previous=entitlement.facts,
            policy=self.policy,
            now=self.began_at,
        )

    def _is_newer(self, person_id: int, stored: EntitlementFacts | None) -> bool:
        """Returns whether another check saved the stored facts after this comparison began."""
        if stored is None or stored.checked_at is None or stored.checked_at < self.began_at:
            return False
        return self._saved.get(person_id) != _hash_sponsorship(stored)

    def _is_gain(self, stored: EntitlementFacts | None, reported: EntitlementFacts) -> bool:
        if stored is None or not self._is_sponsor(stored):
            return self._is_sponsor(reported)
        return self._is_sponsor(reported) and is_better(reported, stored, now=self.began_at)

    def _may_take(self, stored: EntitlementFacts | None, reported: EntitlementFacts) -> bool:
        if stored is None or stored.source is not EntitlementSource.SPONSORSHIP:
            return False  # GitHub lists a former sponsorship, which was never stored: no loss
        return not self._is_end(stored, reported) or self._is_certain()

    def _may_end(self, stored: EntitlementFacts | None, reported: EntitlementFacts) -> bool:
        # A person who is entitled by another source has no sponsorship to end.
        return self._is_end(stored, reported) and self._is_certain()

    def _is_new_answer(self, stored: EntitlementFacts | None, reported: EntitlementFacts) -> bool:
        return not self._is_sponsor(stored) and not self._is_sponsor(reported)

    def _is_end(self, stored: EntitlementFacts | None, reported: EntitlementFacts) -> bool:
        return self._is_sponsor(stored) and not self._is_sponsor(reported)

    def _is_sponsor(self, facts: EntitlementFacts | None) -> bool:
        return facts is not None and facts.is_sponsoring(self.began_at)

    def _is_certain(self) -> bool:
        """Returns whether GitHub hid no sponsor; else counts a person who may be hidden."""
        if self._hidden:
            self.summary.unknown += 1
        return not self._hidden

    def _count(
        self, before: EntitlementFacts | None, change: EntitlementChange, outcome: Saved
    ) -> None:
        if outcome is Saved.OK:
            self._saved[change.person_id] = _hash_sponsorship(change.facts)
            self._count_drift(before, change)
        elif outcome is not Saved.CONFLICT:
            self.summary.newer += 1
        elif change.person_id not in self._conflicts:
            self._conflicts.add(change.person_id)
            self.summary.conflicts += 1

    def _count_drift(self, before: EntitlementFacts | None, change: EntitlementChange) -> None:
        if change.person_id in self._drifted:
            return
        if before is not None and have_same_sponsorship(before, change.facts):
            return  # no webhook event reports this difference, so it is no drift
        is_entitled = self._is_sponsor(change.facts)
        if before is None and not is_entitled:
            return  # facts about a new person who is no sponsor are no drift
        self._drifted.add(change.person_id)
        kind: Literal["created", "changed", "ended"] = "ended"
        if is_entitled:
            kind = "changed" if self._is_sponsor(before) else "created"
        self.summary.add_drift(
            Drift(sponsorable=self.sponsorable, person_id=change.person_id, kind=kind)
        )


def _split(person_ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(person_ids), _CHUNK):
        yield person_ids[at : at + _CHUNK]


def _hash_sponsorship(facts: EntitlementFacts) -> int:
    return hash((facts.checked_at, facts.tier_cents, facts.since, facts.valid_until))
