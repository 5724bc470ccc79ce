"""Compares what is known of covers with all that GitHub tells the maintainer, and repairs it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from sponsorsync.domain.cover import CoverSource, assess, is_better, tell_the_same
from sponsorsync.domain.errors import (
    GitHubError,
    GitHubLimitedError,
    InvalidInputError,
    JobRunningError,
    NoMaintainerTokenError,
    StoreUnavailableError,
)
from sponsorsync.domain.sponsorship import normalize_login
from sponsorsync.store import keys
from sponsorsync.store.covers import CoverChange, KnownCover, Saved

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

    from sponsorsync.domain.cover import CoverFacts, CoverPolicy
    from sponsorsync.domain.sponsorship import Sponsorship
    from sponsorsync.github.client import GitHubClient
    from sponsorsync.github.messages import Budget, ReceivedPage
    from sponsorsync.store.covers import CoverStore

_REPORTED = 100
_CHUNK = 100
# A limit that ends by then is waited for in place: starting over would meet the same one again.
_PATIENCE_S = 15 * 60
_HOLD_EVERY_S = keys.RECONCILING_TTL_MS / 1000 / 3

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Drift:
    """Something that nobody had told before: `created`, `changed` or `ended`."""

    sponsorable: str
    person_id: int
    kind: str


@dataclass
class ReconcileSummary:
    """What a comparison with GitHub found.

    Attributes:
        total: Sponsorships that GitHub lists.
        people: Sponsors that were looked at so far.
        counts: How many drifts there were of each kind.
        drifts: The first hundred.
        newer: Covers that changed while GitHub was asked; they were left as they are.
        hidden: Sponsorships of which GitHub does not show whose they are.
        unknown: People who are covered here and whom GitHub did not list, while some were hidden.
        points: What it has cost of GitHub's rate limit.
        budget: What is left of that.
        waiting_until: When it goes on, while it waits for a limit of GitHub's to end.
        reason: Why it is not complete; nobody's cover was ended then.
        retry_after_s: When GitHub may be asked again, where it said so.
    """

    is_dry_run: bool = False
    total: int = 0
    people: int = 0
    pages: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    drifts: list[Drift] = field(default_factory=list)
    newer: int = 0
    hidden: int = 0
    unknown: int = 0
    points: int = 0
    budget: Budget | None = None
    waiting_until: datetime | None = None
    seconds: float = 0.0
    reason: str | None = None
    retry_after_s: int | None = None

    def note(self, drift: Drift) -> None:
        """Counts a drift, and keeps it while there is room."""
        self.counts[drift.kind] += 1
        if len(self.drifts) < _REPORTED:
            self.drifts.append(drift)

    def fail(self, reason: str) -> None:
        """Says why it is not complete."""
        self.reason = reason if self.reason is None else f"{self.reason} {reason}"

    def to_json(self) -> dict[str, object]:
        """Returns all of it as JSON has it."""
        budget = None
        if self.budget is not None:
            budget = {
                "limit": self.budget.limit,
                "remaining": self.budget.remaining,
                "reset_at": self.budget.reset_at.isoformat(),
            }
        return {
            **{name: value for name, value in vars(self).items() if name != "waiting_until"},
            "counts": dict(self.counts),
            "drifts": [asdict(drift) for drift in self.drifts],
            "budget": budget,
        }


class Reconciler:
    """Compares one sponsorable, or all of them, one after the other."""

    def __init__(
        self,
        github: GitHubClient,
        covers: CoverStore,
        *,
        token: SecretStr | None,
        sponsorables: Sequence[str],
        policy: CoverPolicy,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._github = github
        self._covers = covers
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
                    await self._reconcile(each, lease, summary, report)
            except GitHubLimitedError as error:
                summary.retry_after_s = error.retry_after_s
                summary.fail(f"{error} It may be asked again in {error.retry_after_s} s.")
            except StoreUnavailableError as error:
                summary.fail(str(error))
        summary.seconds = time.monotonic() - began
        _log.info(
            "reconciled",
            sponsorables=list(wanted),
            dry_run=dry_run,
            people=summary.people,
            counts=dict(summary.counts),
            reason=summary.reason,
        )
        return summary

    async def load_last(self, sponsorable: str) -> datetime | None:
        """Returns when the last complete comparison began, of whichever replica."""
        return await self._covers.load_reconciled(sponsorable)

    async def _reconcile(
        self,
        sponsorable: str,
        lease: str,
        summary: ReconcileSummary,
        report: Callable[[ReconcileSummary], None],
    ) -> None:
        # Moments are kept in whole seconds.
        began_at = self._clock().replace(microsecond=0)
        comparison = _Comparison(
            self._covers,
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
            summary.fail(f"{sponsorable}: {error}")
            return
        # Every page has come: only now somebody's absence, or end, is an answer.
        async with aclosing(comparison.end_others()) as steps:
            async for _ in steps:
                await self._hold(lease)
        if not summary.is_dry_run:
            await self._covers.save_reconciled(sponsorable, began_at)

    async def _fetch(
        self,
        sponsorable: str,
        lease: str,
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
        lease: str,
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
    async def _lease(self) -> AsyncIterator[str]:
        token = secrets.token_hex(8)
        if not await self._covers.take_reconciling(token):
            raise JobRunningError(
                "GitHub is being compared with already, by the schedule or another replica."
            )
        try:
            yield token
        finally:
            with suppress(StoreUnavailableError):  # then its time ends it
                await self._covers.give_up_reconciling(token)

    async def _hold(self, lease: str) -> None:
        if not await self._covers.hold_reconciling(lease):
            raise StoreUnavailableError("Another replica has begun to compare meanwhile.")


class _Comparison:
    """One sponsorable's, from the first page to those who are on none."""

    def __init__(
        self,
        covers: CoverStore,
        *,
        sponsorable: str,
        policy: CoverPolicy,
        began_at: datetime,
        summary: ReconcileSummary,
        report: Callable[[ReconcileSummary], None],
    ) -> None:
        self._covers = covers
        self._sponsorable = sponsorable
        self._policy = policy
        self._began_at = began_at
        self._summary = summary
        self._report = report
        self._is_first = True
        self._hidden = 0
        # Of each sponsor the best that was told: sponsorships of one may be on several pages.
        self._told: dict[int, CoverFacts] = {}

    async def take(self, page: ReceivedPage) -> None:
        """Keeps who is covered, and remembers who is not."""
        self._summary.total += page.total if self._is_first else 0
        self._is_first = False
        self._summary.pages += 1
        self._summary.points += page.budget.cost
        self._summary.budget = page.budget
        self._summary.hidden += page.hidden
        self._hidden += page.hidden
        by_sponsor: dict[int, list[Sponsorship]] = {}
        for person_id, sponsorship in page.sponsorships:
            by_sponsor.setdefault(person_id, []).append(sponsorship)
        known = await self._covers.load(self._sponsorable, list(by_sponsor))
        covered = []
        for person_id, sponsorships in by_sponsor.items():
            told = self._assess(sponsorships, known[person_id])
            best = self._told.get(person_id)
            if best is not None and not is_better(told, best, now=self._began_at):
                continue
            self._summary.people += best is None
            self._told[person_id] = told
            if told.is_covered(self._began_at):
                covered.append((person_id, known[person_id], told, best))
        await self._apply(covered)

    async def end_others(self) -> AsyncGenerator[None, None]:
        """Ends the cover of whom GitHub lists as former sponsors, and of whom it does not list.

        Yields after each few of them.
        """
        ended = [
            person_id
            for person_id, told in self._told.items()
            if not told.is_covered(self._began_at)
        ]
        for at in range(0, len(ended), _CHUNK):
            await self._end(ended[at : at + _CHUNK], is_listed=True)
            yield
        async for members in self._covers.walk_covered(self._sponsorable):
            missing = [person_id for person_id in members if person_id not in self._told]
            for at in range(0, len(missing), _CHUNK):
                await self._end(missing[at : at + _CHUNK], is_listed=False)
                yield

    async def _end(self, person_ids: Sequence[int], *, is_listed: bool) -> None:
        known = await self._covers.load(self._sponsorable, person_ids)
        changes = []
        for person_id, cover in known.items():
            before = cover.facts
            if before is None or before.source is not CoverSource.SPONSORSHIP:
                continue
            if not before.is_covered(self._began_at):
                continue
            if self._hidden and not is_listed:
                # They may be one of those whom GitHub does not show.
                self._summary.unknown += 1
                continue
            told = self._told[person_id] if is_listed else self._assess([], cover)
            changes.append((person_id, cover, told, None))
        await self._apply(changes)

    def _assess(self, sponsorships: Iterable[Sponsorship], cover: KnownCover) -> CoverFacts:
        return assess(
            self._sponsorable,
            sponsorships,
            previous=cover.facts,
            policy=self._policy,
            now=self._began_at,
        )

    async def _apply(
        self, told: Sequence[tuple[int, KnownCover, CoverFacts, CoverFacts | None]]
    ) -> None:
        """Keeps what differs; the last of each is what this comparison has kept before."""
        changes = []
        for person_id, cover, facts, kept in told:
            if cover.facts is not None and tell_the_same(cover.facts, facts):
                continue
            if self._is_newer(cover.facts, kept):
                self._summary.newer += 1
                continue
            changes.append((cover.facts, self._change(person_id, cover, facts)))
        saved = [Saved.OK] * len(changes)
        if not self._summary.is_dry_run:
            saved = await self._covers.save([change for _, change in changes])
        for (before, change), outcome in zip(changes, saved, strict=True):
            if outcome is Saved.OK:
                self._note(before, change)
            else:
                self._summary.newer += 1
        self._report(self._summary)

    def _is_newer(self, facts: CoverFacts | None, kept: CoverFacts | None) -> bool:
        """Tells whether facts are of after the answer began, and not from this comparison."""
        if facts is None or (kept is not None and tell_the_same(facts, kept)):
            return False
        return facts.checked_at >= self._began_at

    def _change(self, person_id: int, cover: KnownCover, facts: CoverFacts) -> CoverChange:
        return CoverChange(
            person_id=person_id,
            facts=facts,
            version=cover.version,
            by="reconcile",
            reference="",
        )

    def _note(self, before: CoverFacts | None, change: CoverChange) -> None:
        was_covered = before is not None and before.is_covered(self._began_at)
        kind = "changed" if was_covered else "created"
        if not change.facts.is_covered(self._began_at):
            kind = "ended"
        self._summary.note(Drift(self._sponsorable, change.person_id, kind))
