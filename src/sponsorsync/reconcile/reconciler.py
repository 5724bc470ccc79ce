"""Compare the stored entitlements with what GitHub shows the maintainer, and repair them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import structlog
from pydantic import Field

from sponsorsync.domain.errors import (
    GitHubError,
    GitHubLimitedError,
    InvalidInputError,
    JobRunningError,
    NoMaintainerTokenError,
    SponsorSyncError,
    StoreConflictError,
    StoreError,
    StoreUnavailableError,
)
from sponsorsync.domain.fact_derivation import (
    are_equivalent,
    derive_facts,
    have_same_sponsorship,
    is_better,
)
from sponsorsync.domain.reconciliation import FailedReconcile, LastReconcile
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.domain.sponsorship import normalize_login
from sponsorsync.reports import FrozenReport, Report
from sponsorsync.store import keys
from sponsorsync.store.entitlements import EntitlementChange, Saved

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Sequence,
    )

    from pydantic import SecretStr

    from sponsorsync.domain.account import StoredEntitlement
    from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
    from sponsorsync.domain.sponsorship import Sponsorship
    from sponsorsync.github.client import GitHubClient
    from sponsorsync.github.sponsorships import ReceivedPage
    from sponsorsync.store.entitlements import EntitlementStore
    from sponsorsync.store.locks import HeldLock
    from sponsorsync.store.reconciliations import ReconciliationStore

_REPORTED = 100
_CHUNK = 100
_OUR_FAULT = "This is our fault. The operator's log says more."
# A limit that ends by then is waited for in place: starting over would meet the same one again.
_PATIENCE_S = 15 * 60
_HOLD_EVERY_S = keys.RECONCILING_TTL_MS / 1000 / 3

_log = structlog.get_logger(__name__)


class Drift(FrozenReport):
    """Something that no event and no login had told."""

    sponsorable: str
    person_id: int
    kind: Literal["created", "changed", "ended"]


class BudgetLeft(FrozenReport, from_attributes=True):
    """The rest of the maintainer's rate limit at GitHub."""

    limit: int
    remaining: int
    reset_at: datetime


class ReconcileSummary(Report):
    """Result of a comparison with GitHub."""

    is_dry_run: bool = False
    total: int = Field(default=0, description="Sponsorships that GitHub lists.")
    people: int = Field(default=0, description="Sponsors it has looked at.")
    pages: int = 0
    counts: Counter[str] = Field(
        default_factory=Counter,
        examples=[{"created": 1, "ended": 2}],
        description="Drifts of each kind.",
    )
    drifts: list[Drift] = Field(default_factory=list, description="The first 100.")
    newer: int = Field(
        default=0, description="Entitlements that changed while GitHub was asked; left as they are."
    )
    hidden: int = Field(
        default=0, description="Sponsorships of which GitHub does not show whose they are."
    )
    unknown: int = Field(
        default=0, description="Entitled here and not listed, while some were hidden."
    )
    conflicts: int = Field(
        default=0,
        description="People with a wrong-type key among theirs; the log names them.",
    )
    points: int = Field(default=0, description="What it has cost of GitHub's rate limit.")
    budget: BudgetLeft | None = None
    # Of the work, not of its result: when it goes on, while it waits for a limit of GitHub's.
    waiting_until: datetime | None = Field(default=None, exclude=True)
    seconds: float = 0.0
    reason: str | None = Field(
        default=None, description="Why it is not complete; then nobody's entitlement was ended."
    )
    retry_after_s: int | None = Field(
        default=None, description="When GitHub may be asked again, where it said so."
    )

    def note(self, drift: Drift) -> None:
        """Counts a drift, and keeps it while there is room."""
        self.counts[drift.kind] += 1
        if len(self.drifts) < _REPORTED:
            self.drifts.append(drift)

    def fail(self, reason: str) -> None:
        """Says why it is not complete."""
        self.reason = reason if self.reason is None else f"{self.reason} {reason}"


class Reconciler:
    """Compares one sponsorable, or all of them, one after the other."""

    def __init__(
        self,
        github: GitHubClient,
        entitlements: EntitlementStore,
        reconciliations: ReconciliationStore,
        *,
        token: SecretStr | None,
        sponsorables: Sequence[str],
        policy: EntitlementPolicy,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._github = github
        self._entitlements = entitlements
        self._reconciliations = reconciliations
        self._token = token
        self._sponsorables = sponsorables
        self._policy = policy
        self._clock = clock
        self._sleep = sleep

    def check(self, sponsorable: str | None) -> None:
        """Returns where a comparison could begin.

        Raises:
            NoMaintainerTokenError: There is no token to ask GitHub with.
            InvalidInputError: There is no such sponsorable.
        """
        if self._token is None:
            raise NoMaintainerTokenError
        if sponsorable is not None and normalize_login(sponsorable) not in self._sponsorables:
            known = ", ".join(self._sponsorables)
            raise InvalidInputError(f"There is no such sponsorable; there are {known}.")

    async def run(
        self,
        *,
        sponsorable: str | None = None,
        dry_run: bool = False,
        report: Callable[[ReconcileSummary], None] = lambda _: None,
    ) -> ReconcileSummary:
        """Asks for everything and repairs what differs; what comes of it says the summary.

        Raises:
            NoMaintainerTokenError, InvalidInputError: See `check`.
            JobRunningError: Another replica is comparing.
            StoreUnavailableError: Local cannot be asked at the beginning.
        """
        self.check(sponsorable)
        summary = ReconcileSummary(is_dry_run=dry_run)
        began = time.monotonic()
        wanted = self._sponsorables if sponsorable is None else [normalize_login(sponsorable)]
        async with self._lease() as lease:
            try:
                for each in wanted:
                    await self._try(each, lease, summary, report)
            except GitHubLimitedError as error:
                summary.retry_after_s = error.retry_after_s
                summary.fail(_to_reason(error))
            except StoreConflictError as error:
                # In the place of a key that is everybody's: those of one person are counted.
                _log.warning("reconcile_meets_foreign_key", cause=str(error.__cause__))
                summary.fail(str(error))
            except StoreUnavailableError as error:
                summary.fail(str(error))
        summary.seconds = time.monotonic() - began
        _log.info(
            "reconciled",
            sponsorables=list(wanted),
            dry_run=dry_run,
            people=summary.people,
            counts=dict(summary.counts),
            conflicts=summary.conflicts,
            reason=summary.reason,
        )
        return summary

    async def load_last(self, sponsorable: str) -> datetime | None:
        """Returns when the last complete comparison began, of whichever replica."""
        return await self._reconciliations.load_reconciled(sponsorable)

    async def load_last_reconciles(self) -> list[LastReconcile]:
        """Returns what became of the last ones of each sponsorable, of whichever replica.

        Raises:
            StoreError: Local cannot be asked.
        """
        failed = await self._reconciliations.load_failed()
        return [
            LastReconcile(
                sponsorable=each,
                reconciled_at=await self._reconciliations.load_reconciled(each),
                failed=failed.get(each),
            )
            for each in self._sponsorables
        ]

    async def _try(
        self,
        sponsorable: str,
        lease: HeldLock,
        summary: ReconcileSummary,
        report: Callable[[ReconcileSummary], None],
    ) -> None:
        """Compares, and has every operator see it where that was not complete."""
        try:
            reason = await self._reconcile(sponsorable, lease, summary, report)
        except SponsorSyncError as error:
            await self._note_failed(sponsorable, _to_reason(error), summary)
            raise
        except Exception:
            await self._note_failed(sponsorable, _OUR_FAULT, summary)
            raise
        if reason is not None:
            summary.fail(f"{sponsorable}: {reason}")
            await self._note_failed(sponsorable, reason, summary)

    async def _note_failed(self, sponsorable: str, reason: str, summary: ReconcileSummary) -> None:
        if not summary.is_dry_run:
            with suppress(StoreError):  # the log has it all the same
                failed = FailedReconcile(at=self._clock(), reason=reason)
                await self._reconciliations.save_failed(sponsorable, failed)

    async def _reconcile(
        self,
        sponsorable: str,
        lease: HeldLock,
        summary: ReconcileSummary,
        report: Callable[[ReconcileSummary], None],
    ) -> str | None:
        """Returns why it was not complete; None where it was."""
        look = (await self._reconciliations.load_requests()).get(sponsorable)
        # Moments are kept in whole seconds.
        began_at = self._clock().replace(microsecond=0)
        comparison = _Comparison(
            self._entitlements,
            self._reconciliations,
            sponsorable=sponsorable,
            policy=self._policy,
            began_at=began_at,
            summary=summary,
            report=report,
        )
        try:
            async with aclosing(self._fetch(sponsorable, lease, summary, report)) as pages:
                async for page in pages:
                    await self._hold(lease)
                    await comparison.take(page)
        except GitHubLimitedError:
            raise
        except GitHubError as error:
            return str(error)
        reason = comparison.check_complete()
        if reason is not None:
            return reason
        # Every page has come: only now somebody's absence, or end, is an answer.
        async with aclosing(comparison.end_others()) as steps:
            async for _ in steps:
                await self._hold(lease)
        if not summary.is_dry_run:
            await self._reconciliations.save_reconciled(sponsorable, began_at, look)
        return None

    async def _fetch(
        self,
        sponsorable: str,
        lease: HeldLock,
        summary: ReconcileSummary,
        report: Callable[[ReconcileSummary], None],
    ) -> AsyncGenerator[ReceivedPage, None]:
        """Yields the pages, and waits out a limit between two of them, unless it takes too long."""
        if self._token is None:
            raise NoMaintainerTokenError
        token = self._token.get_secret_value()
        cursor: str | None = None
        patience_s = _PATIENCE_S
        while True:
            try:
                async with aclosing(
                    self._github.fetch_received(token, sponsorable, after=cursor)
                ) as pages:
                    async for page in pages:
                        cursor, patience_s = page.next_cursor, _PATIENCE_S
                        yield page
            except GitHubLimitedError as error:
                patience_s -= error.retry_after_s
                if patience_s < 0:
                    raise
                await self._wait(error.retry_after_s, lease, summary, report)
            else:
                return

    async def _wait(
        self,
        seconds: float,
        lease: HeldLock,
        summary: ReconcileSummary,
        report: Callable[[ReconcileSummary], None],
    ) -> None:
        """Waits until GitHub may be asked again; meanwhile nobody else compares."""
        summary.waiting_until = self._clock() + timedelta(seconds=seconds)
        report(summary)
        _log.info("reconcile_waits_for_github", seconds=seconds)
        try:
            while seconds > 0:
                await self._hold(lease)
                await self._sleep(min(seconds, _HOLD_EVERY_S))
                seconds -= _HOLD_EVERY_S
        finally:
            summary.waiting_until = None
            report(summary)

    @asynccontextmanager
    async def _lease(self) -> AsyncIterator[HeldLock]:
        async with self._reconciliations.hold_lock() as lock:
            if lock is None:
                raise JobRunningError(
                    "GitHub is being compared with already, by the schedule or another replica."
                )
            yield lock

    async def _hold(self, lease: HeldLock) -> None:
        if not await lease.extend():
            raise StoreUnavailableError(
                "The right to compare was lost meanwhile: another replica may be comparing."
            )


class _Comparison:
    """One sponsorable's, from the first page to those who are on none.

    What a page adds to somebody's entitlement is kept at once. What takes from it waits for the
    last page, since sponsorships of one person may be on several, and is judged on what is known
    then.
    """

    def __init__(
        self,
        entitlements: EntitlementStore,
        reconciliations: ReconciliationStore,
        *,
        sponsorable: str,
        policy: EntitlementPolicy,
        began_at: datetime,
        summary: ReconcileSummary,
        report: Callable[[ReconcileSummary], None],
    ) -> None:
        self._entitlements = entitlements
        self._reconciliations = reconciliations
        self._sponsorable = sponsorable
        self._policy = policy
        self._began_at = began_at
        self._summary = summary
        self._report = report
        self._hidden = 0
        self._nodes = 0
        self._total = 0
        self._told: dict[int, tuple[Sponsorship, ...]] = {}
        # Whose entitlement is another one than what was told so far.
        self._open: set[int] = set()
        # What this comparison itself has kept, as a hash: it is not newer than the answer.
        self._kept: dict[int, int] = {}
        self._noted: set[int] = set()
        self._conflicts: set[int] = set()

    async def take(self, page: ReceivedPage) -> None:
        """Keeps what a page adds to entitlements, and remembers the rest of it."""
        if self._nodes == 0:
            self._summary.total += page.total
        self._total = page.total
        self._nodes += page.nodes
        self._hidden += page.hidden
        self._summary.pages += 1
        self._summary.points += page.budget.cost
        self._summary.budget = BudgetLeft.model_validate(page.budget)
        self._summary.hidden += page.hidden
        before = len(self._told)
        for person_id, sponsorship in page.sponsorships:
            self._told[person_id] = (*self._told.get(person_id, ()), sponsorship)
        self._summary.people += len(self._told) - before
        ids = list(dict.fromkeys(person_id for person_id, _ in page.sponsorships))
        self._open.difference_update(ids)
        self._open.update(await self._keep(ids, self._adds))

    def check_complete(self) -> str | None:
        """Returns why nobody's absence, or end, is an answer; None where it is."""
        if self._nodes < self._total:
            return f"GitHub showed {self._nodes} of {self._total} sponsorships."
        return None

    async def end_others(self) -> AsyncGenerator[None, None]:
        """Keeps what takes from entitlements: of whom GitHub lists, and of whom it does not list.

        Yields after each few of them.
        """
        waiting = sorted(self._open)
        for at in range(0, len(waiting), _CHUNK):
            await self._keep(waiting[at : at + _CHUNK], self._may_take)
            yield
        async for members in self._entitlements.scan_entitled(self._sponsorable):
            missing = [person_id for person_id in members if person_id not in self._told]
            for at in range(0, len(missing), _CHUNK):
                await self._keep(missing[at : at + _CHUNK], self._may_end)
                yield
        # Whoever is hidden may be one of them.
        asked = [] if self._hidden else await self._reconciliations.load_awaiting(self._sponsorable)
        for at in range(0, len(asked), _CHUNK):
            await self._answer(asked[at : at + _CHUNK])
            yield

    async def _answer(self, asked: Sequence[int]) -> None:
        """Tells who has asked that GitHub does not list them; of all others nothing is written."""
        missing = [person_id for person_id in asked if person_id not in self._told]
        await self._keep(missing, self._may_answer)
        if not self._summary.is_dry_run:
            await self._reconciliations.settle_awaiting(self._sponsorable, asked)

    def _adds(self, known: EntitlementFacts | None, told: EntitlementFacts) -> bool:
        if not told.is_sponsoring(self._began_at):
            return False
        is_entitled = known is not None and known.is_sponsoring(self._began_at)
        return not is_entitled or known is None or is_better(told, known, now=self._began_at)

    def _may_take(self, known: EntitlementFacts | None, told: EntitlementFacts) -> bool:
        if known is None or known.source is not EntitlementSource.SPONSORSHIP:
            return False  # of a former sponsor who was not known as one
        return not self._ends(known, told) or self._is_sure()

    def _may_end(self, known: EntitlementFacts | None, told: EntitlementFacts) -> bool:
        # Of who is entitled by something else there is nothing to end.
        return self._ends(known, told) and self._is_sure()

    def _may_answer(self, known: EntitlementFacts | None, told: EntitlementFacts) -> bool:
        is_known = known is not None and known.is_sponsoring(self._began_at)
        return not is_known and not told.is_sponsoring(self._began_at)

    def _ends(self, known: EntitlementFacts | None, told: EntitlementFacts) -> bool:
        return (
            known is not None
            and known.is_sponsoring(self._began_at)
            and not told.is_sponsoring(self._began_at)
        )

    def _is_sure(self) -> bool:
        """Whoever is hidden may be anybody."""
        if self._hidden:
            self._summary.unknown += 1
        return not self._hidden

    async def _keep(
        self,
        person_ids: Sequence[int],
        may_keep: Callable[[EntitlementFacts | None, EntitlementFacts], bool],
    ) -> list[int]:
        """Keeps what was told of these people where it is not known; returns of whom it may not."""
        entitlements = await self._entitlements.load(self._sponsorable, person_ids)
        changes, refused = [], []
        for person_id, entitlement in entitlements.items():
            told = self._derive_facts(self._told.get(person_id, ()), entitlement)
            if entitlement.facts is not None and are_equivalent(entitlement.facts, told):
                continue
            if self._is_newer(person_id, entitlement.facts):
                self._summary.newer += 1
            elif may_keep(entitlement.facts, told):
                changes.append((entitlement.facts, self._change(person_id, entitlement, told)))
            else:
                refused.append(person_id)
        saved = [Saved.OK] * len(changes)
        if not self._summary.is_dry_run:
            saved = await self._entitlements.save([change for _, change in changes])
        for (before, change), outcome in zip(changes, saved, strict=True):
            if outcome is Saved.OK:
                self._kept[change.person_id] = _hash_sponsorship(change.facts)
                self._note(before, change)
            elif outcome is Saved.CONFLICT:
                self._note_conflict(change.person_id)
            else:
                self._summary.newer += 1
        self._report(self._summary)
        return refused

    def _derive_facts(
        self, sponsorships: Iterable[Sponsorship], entitlement: StoredEntitlement
    ) -> EntitlementFacts:
        return derive_facts(
            self._sponsorable,
            sponsorships,
            previous=entitlement.facts,
            policy=self._policy,
            now=self._began_at,
        )

    def _is_newer(self, person_id: int, facts: EntitlementFacts | None) -> bool:
        """Tells whether facts are of after the answer began, and not from this comparison."""
        if facts is None or facts.checked_at is None or facts.checked_at < self._began_at:
            return False
        return self._kept.get(person_id) != _hash_sponsorship(facts)

    def _change(
        self, person_id: int, entitlement: StoredEntitlement, facts: EntitlementFacts
    ) -> EntitlementChange:
        return EntitlementChange(
            person_id=person_id,
            facts=facts,
            version=entitlement.version,
            by="reconcile",
            reference="",
        )

    def _note_conflict(self, person_id: int) -> None:
        if person_id not in self._conflicts:
            self._conflicts.add(person_id)
            self._summary.conflicts += 1

    def _note(self, before: EntitlementFacts | None, change: EntitlementChange) -> None:
        if change.person_id in self._noted:
            return
        if before is not None and have_same_sponsorship(before, change.facts):
            return  # nothing of which an event would have told
        was_entitled = before is not None and before.is_sponsoring(self._began_at)
        if before is None and not change.facts.is_sponsoring(self._began_at):
            return  # of who was not known, and is no sponsor
        self._noted.add(change.person_id)
        kind: Literal["created", "changed", "ended"] = "changed" if was_entitled else "created"
        if not change.facts.is_sponsoring(self._began_at):
            kind = "ended"
        self._summary.note(
            Drift(sponsorable=self._sponsorable, person_id=change.person_id, kind=kind)
        )


def _to_reason(error: SponsorSyncError) -> str:
    if isinstance(error, GitHubLimitedError):
        return f"{error} It may be asked again in {error.retry_after_s} s."
    return str(error)


def _hash_sponsorship(facts: EntitlementFacts) -> int:
    return hash((facts.checked_at, facts.tier_cents, facts.since, facts.valid_until))
