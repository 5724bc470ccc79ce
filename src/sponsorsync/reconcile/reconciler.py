"""Reconcile: compares stored entitlements with GitHub's list, and repairs differences."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import SecretStr

from sponsorsync.domain.entitlement import EntitlementPolicy
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
from sponsorsync.domain.reconciliation import FailedReconcile, LastReconcile
from sponsorsync.domain.sponsorship import normalize_login
from sponsorsync.github.client import GitHubClient
from sponsorsync.github.sponsorships import ReceivedPage
from sponsorsync.reconcile.comparison import Comparison
from sponsorsync.reconcile.report import ReconcileSummary
from sponsorsync.store import keys
from sponsorsync.store.entitlements import EntitlementStore
from sponsorsync.store.locks import HeldLock
from sponsorsync.store.reconciliations import ReconciliationStore

_UNEXPECTED = "This is our fault. The operator's log says more."
# A run waits for a rate limit that ends within this time: a new run would start from the first page
# and reach the same limit again.
_MAX_WAIT_S = 15 * 60
_EXTEND_EVERY_S = keys.RECONCILING_TTL_MS / 1000 / 3

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Run:
    """One call of `Reconciler.run`: its lock, its summary and its progress callback."""

    lock: HeldLock
    summary: ReconcileSummary
    report: Callable[[ReconcileSummary], None]

    async def extend_lock(self) -> None:
        if not await self.lock.extend():
            raise StoreUnavailableError(
                "This reconcile lost its lock; another replica may be running one."
            )

    def report_wait(self, until: datetime | None) -> None:
        self.summary.waiting_until = until
        self.report(self.summary)


@dataclass
class Reconciler:
    """Compares one sponsorable, or all of them one after the other, with GitHub."""

    github: GitHubClient
    entitlements: EntitlementStore
    reconciliations: ReconciliationStore
    token: SecretStr | None
    sponsorables: Sequence[str]
    policy: EntitlementPolicy
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def require_startable(self, sponsorable: str | None) -> None:
        """Returns nothing if `run` could start.

        Raises:
            NoMaintainerTokenError: No maintainer's token is configured.
            InvalidInputError: The sponsorable is not configured.
        """
        if self.token is None:
            raise NoMaintainerTokenError
        if sponsorable is not None and normalize_login(sponsorable) not in self.sponsorables:
            names = ", ".join(self.sponsorables)
            raise InvalidInputError(f"There is no such sponsorable; use one of: {names}.")

    async def run(
        self,
        *,
        sponsorable: str | None = None,
        dry_run: bool = False,
        report: Callable[[ReconcileSummary], None] = lambda _: None,
    ) -> ReconcileSummary:
        """Asks GitHub for all sponsorships, and repairs stored entitlements that differ.

        A failure after the start raises nothing: the summary's `reason` has its message.

        Raises:
            NoMaintainerTokenError, InvalidInputError: See `require_startable`.
            JobRunningError: A reconcile is running, in this or another replica.
            StoreUnavailableError: Local cannot be asked at the start.
        """
        self.require_startable(sponsorable)
        summary = ReconcileSummary(is_dry_run=dry_run)
        began = time.monotonic()
        selected = self.sponsorables if sponsorable is None else [normalize_login(sponsorable)]
        async with self.reconciliations.hold_lock() as lock:
            if lock is None:
                raise JobRunningError(
                    "A reconcile is already running, started by the schedule or another replica."
                )
            run = _Run(lock, summary, report)
            try:
                for each in selected:
                    await self._reconcile_and_record_failure(each, run)
            except GitHubLimitedError as error:
                summary.retry_after_s = error.retry_after_s
                summary.add_reason(_explain(error))
            except StoreConflictError as error:
                # The key is the service's own; a wrong-type key of one person is only counted.
                _log.warning("reconcile_meets_wrong_type_key", cause=str(error.__cause__))
                summary.add_reason(str(error))
            except StoreUnavailableError as error:
                summary.add_reason(str(error))
        summary.seconds = time.monotonic() - began
        _log.info(
            "reconciled",
            sponsorables=list(selected),
            dry_run=dry_run,
            people=summary.people,
            counts=dict(summary.counts),
            conflicts=summary.conflicts,
            reason=summary.reason,
        )
        return summary

    async def load_last_reconciles(self) -> list[LastReconcile]:
        """Returns each sponsorable's last full reconcile by any replica, and a failure since then.

        Raises:
            StoreError: Local cannot be asked.
        """
        failed = await self.reconciliations.load_failed()
        return [
            LastReconcile(
                sponsorable=each,
                reconciled_at=await self.reconciliations.load_reconciled(each),
                failed=failed.get(each),
            )
            for each in self.sponsorables
        ]

    async def _reconcile_and_record_failure(self, sponsorable: str, run: _Run) -> None:
        try:
            reason = await self._reconcile(sponsorable, run)
        except SponsorSyncError as error:
            await self._save_failure(sponsorable, _explain(error), run)
            raise
        except Exception:
            await self._save_failure(sponsorable, _UNEXPECTED, run)
            raise
        if reason is not None:
            run.summary.add_reason(f"{sponsorable}: {reason}")
            await self._save_failure(sponsorable, reason, run)

    async def _save_failure(self, sponsorable: str, reason: str, run: _Run) -> None:
        if not run.summary.is_dry_run:
            with suppress(StoreError):  # the log has the reason, too
                failed = FailedReconcile(at=self.clock(), reason=reason)
                await self.reconciliations.save_failed(sponsorable, failed)

    async def _reconcile(self, sponsorable: str, run: _Run) -> str | None:
        """Compares one sponsorable; returns why the comparison is incomplete, or None."""
        request = (await self.reconciliations.load_requests()).get(sponsorable)
        # Redis stores moments in whole seconds.
        began_at = self.clock().replace(microsecond=0)
        comparison = Comparison(
            self.entitlements,
            self.reconciliations,
            sponsorable=sponsorable,
            policy=self.policy,
            began_at=began_at,
            summary=run.summary,
            report=run.report,
        )
        try:
            async with aclosing(self._fetch_pages(sponsorable, run)) as pages:
                async for page in pages:
                    await run.extend_lock()
                    await comparison.apply_page(page)
        except GitHubLimitedError:
            raise
        except GitHubError as error:
            return str(error)
        reason = comparison.explain_incomplete()
        if reason is not None:
            return reason
        # GitHub has sent every page: only now a missing or ended sponsorship is certain.
        async with aclosing(comparison.apply_losses()) as steps:
            async for _ in steps:
                await run.extend_lock()
        if not run.summary.is_dry_run:
            await self.reconciliations.save_reconciled(sponsorable, began_at, request)
        return None

    async def _fetch_pages(self, sponsorable: str, run: _Run) -> AsyncGenerator[ReceivedPage, None]:
        """Yields GitHub's pages; if it meets a short rate limit, waits until the limit ends."""
        if self.token is None:
            raise NoMaintainerTokenError
        token = self.token.get_secret_value()
        cursor: str | None = None
        wait_left_s = _MAX_WAIT_S
        while True:
            try:
                async with aclosing(
                    self.github.fetch_received(token, sponsorable, after=cursor)
                ) as pages:
                    async for page in pages:
                        cursor, wait_left_s = page.next_cursor, _MAX_WAIT_S
                        yield page
            except GitHubLimitedError as error:
                wait_left_s -= error.retry_after_s
                if wait_left_s < 0:
                    raise
                await self._wait(error.retry_after_s, run)
            else:
                return

    async def _wait(self, seconds: float, run: _Run) -> None:
        """Waits until GitHub's rate limit ends, and extends the lock meanwhile."""
        run.report_wait(self.clock() + timedelta(seconds=seconds))
        _log.info("reconcile_waits_for_github", seconds=seconds)
        try:
            while seconds > 0:
                await run.extend_lock()
                await self.sleep(min(seconds, _EXTEND_EVERY_S))
                seconds -= _EXTEND_EVERY_S
        finally:
            run.report_wait(None)


def _explain(error: SponsorSyncError) -> str:
    if isinstance(error, GitHubLimitedError):
        return f"{error} It may be asked again in {error.retry_after_s} s."
    return str(error)
