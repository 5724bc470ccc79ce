"""The schedule of reconciles: at intervals, and soon after each request."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from sponsorsync.background import Supervisor
from sponsorsync.domain.errors import GitHubLimitedError, SponsorSyncError
from sponsorsync.reconcile.reconciler import Reconciler
from sponsorsync.store.reconciliations import ReconciliationStore

# GitHub demands at least a minute without requests after it has refused one.
_MIN_WAIT_S = 60.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Times between two reconciles of one sponsorable.

    Attributes:
        every: The interval; None if only requests start a reconcile.
        settle_s: Time from a request to its reconcile, so that several requests share a reconcile.
        pause_s: Shortest time from one reconcile to the next.
        check_s: Time from one check for due sponsorables to the next.
    """

    every: timedelta | None
    settle_s: float = 10.0
    pause_s: float = 300.0
    check_s: float = 60.0


@dataclass
class ReconcileSchedule:
    """Runs a reconcile of each sponsorable when it is due."""

    reconciler: Reconciler
    reconciliations: ReconciliationStore
    sponsorables: Sequence[str]
    pace: Pace
    clock: Callable[[], datetime]
    # Both by sponsorable, in the event loop's seconds. The requests themselves are in Redis, where
    # they outlast this process.
    _due_s: dict[str, float] = field(default_factory=dict, init=False)
    _not_before_s: dict[str, float] = field(default_factory=dict, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def request(self, sponsorable: str) -> None:
        """Requests a reconcile soon; several requests share a reconcile.

        Raises:
            StoreError: Local cannot be asked; nothing was requested.
        """
        await self.reconciliations.save_request(sponsorable)
        self._plan(sponsorable)
        self._wake.set()

    def start(self, supervisor: Supervisor) -> None:
        """Starts the loop that reconciles."""
        supervisor.start("reconcile_schedule", self.run)

    async def run(self) -> None:
        """Reconciles sponsorables when they are due, until it is cancelled.

        An unexpected error ends it, too.
        """
        while True:
            self._wake.clear()
            # Before `_plan_due`, whose failure must not delay sponsorables that are already due.
            for sponsorable in [each for each, at_s in self._due_s.items() if at_s <= _now_s()]:
                await self._reconcile(sponsorable)
            await self._plan_due()
            try:
                async with asyncio.timeout(self._rest_s()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _plan(self, sponsorable: str) -> None:
        at_s = max(_now_s() + self.pace.settle_s, self._not_before_s.get(sponsorable, 0.0))
        self._due_s.setdefault(sponsorable, at_s)

    def _rest_s(self) -> float:
        until_s = min(self._due_s.values(), default=_now_s() + self.pace.check_s)
        return min(max(0.0, until_s - _now_s()), self.pace.check_s)

    async def _plan_due(self) -> None:
        try:
            # Requests made before a restart, by other replicas, or when an entitlement ended: its
            # end may be wrong, as GitHub does not report that a sponsor took back a cancellation.
            for sponsorable in await self.reconciliations.load_requests():
                self._plan(sponsorable)
            for sponsorable in self.sponsorables:
                if sponsorable not in self._due_s and await self._is_interval_over(sponsorable):
                    self._plan(sponsorable)
        except SponsorSyncError as error:
            _log.warning("reconcile_waits", reason=str(error))

    async def _is_interval_over(self, sponsorable: str) -> bool:
        if self.pace.every is None:
            return False
        last = await self.reconciliations.load_reconciled(sponsorable)
        return last is None or self.clock() - last >= self.pace.every

    async def _is_still_due(self, sponsorable: str) -> bool:
        """Returns False if another replica has reconciled the sponsorable meanwhile."""
        try:
            requests = await self.reconciliations.load_requests()
            return sponsorable in requests or await self._is_interval_over(sponsorable)
        except SponsorSyncError:
            return True

    async def _reconcile(self, sponsorable: str) -> None:
        del self._due_s[sponsorable]
        # Also if the sponsorable is no longer due: then another replica has just reconciled it.
        self._not_before_s[sponsorable] = _now_s() + self.pace.pause_s
        if not await self._is_still_due(sponsorable):
            return
        try:
            summary = await self.reconciler.run(sponsorable=sponsorable)
        except GitHubLimitedError as error:
            wait_s, reason = max(_MIN_WAIT_S, error.retry_after_s), str(error)
        except SponsorSyncError as error:
            wait_s, reason = self.pace.pause_s, str(error)
        except Exception:
            # The supervisor restarts this loop, which then reconciles the other sponsorables.
            self._postpone(sponsorable, self.pace.pause_s)
            raise
        else:
            if summary.reason is None:
                return
            wait_s = max(_MIN_WAIT_S, summary.retry_after_s or self.pace.pause_s)
            reason = summary.reason
        _log.warning("reconcile_waits", sponsorable=sponsorable, seconds=wait_s, reason=reason)
        self._postpone(sponsorable, wait_s)

    def _postpone(self, sponsorable: str, wait_s: float) -> None:
        """Postpones the next reconcile, even if it was requested during the last one."""
        self._due_s[sponsorable] = self._not_before_s[sponsorable] = _now_s() + wait_s


def _now_s() -> float:
    return asyncio.get_running_loop().time()
