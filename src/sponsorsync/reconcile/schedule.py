"""When GitHub is compared with: now and then, and soon after an event."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from sponsorsync.domain.errors import GitHubLimitedError, SponsorSyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from sponsorsync.background import Supervisor
    from sponsorsync.reconcile.reconciler import Reconciler
    from sponsorsync.store.reconciliations import ReconciliationStore

_LEAST_WAIT_S = 60.0
"""GitHub wants to be left alone for a minute at least when it refused."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often.

    Attributes:
        every: From one comparison by the clock to the next; None: only after events.
        settle_s: From an event to the look that it asks for, so that several share one.
        pause_s: From one look to the next at the same sponsorable, at least.
        check_s: How often it is looked whether one is due.
    """

    every: timedelta | None
    settle_s: float = 10.0
    pause_s: float = 300.0
    check_s: float = 60.0


class ReconcileSchedule:
    """Has sponsorables compared with GitHub."""

    def __init__(
        self,
        reconciler: Reconciler,
        reconciliations: ReconciliationStore,
        *,
        sponsorables: Sequence[str],
        pace: Pace,
        clock: Callable[[], datetime],
    ) -> None:
        self._reconciler = reconciler
        self._reconciliations = reconciliations
        self._sponsorables = sponsorables
        self._pace = pace
        self._clock = clock
        # When to look at whom; what was asked for stands in Redis, and so outlasts this process.
        self._wanted: dict[str, float] = {}
        self._not_before: dict[str, float] = {}
        self._wake = asyncio.Event()

    async def request(self, sponsorable: str) -> bool:
        """Asks for a look soon; several of these are one.

        Raises:
            StoreError: Local cannot be asked; then there is none.
        """
        await self._reconciliations.save_request(sponsorable)
        self._want(sponsorable, self._pace.settle_s)
        self._wake.set()
        return True

    def start(self, supervisor: Supervisor) -> None:
        """Starts the loop that looks."""
        supervisor.start("reconcile_schedule", self.keep)

    async def keep(self) -> None:
        """Looks until it is cancelled, or until an error that nobody foresaw."""
        while True:
            self._wake.clear()
            # First, so that a failure to find further ones does not stop those that are ripe.
            for sponsorable in self._ripe():
                await self._look(sponsorable)
            await self._note_due()
            try:
                async with asyncio.timeout(self._rest_s()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _want(self, sponsorable: str, seconds: float) -> None:
        at = max(_now_s() + seconds, self._not_before.get(sponsorable, 0.0))
        self._wanted.setdefault(sponsorable, at)

    def _ripe(self) -> list[str]:
        now_s = _now_s()
        return [sponsorable for sponsorable, at in self._wanted.items() if at <= now_s]

    def _rest_s(self) -> float:
        until = min(self._wanted.values(), default=_now_s() + self._pace.check_s)
        return min(max(0.0, until - _now_s()), self._pace.check_s)

    async def _note_due(self) -> None:
        try:
            # Of who asked before a restart, or a replica that is gone. And GitHub does not say that
            # somebody has taken back an announced cancellation: it goes on to show an active
            # sponsorship.
            for sponsorable in await self._reconciliations.load_requests():
                self._want(sponsorable, self._pace.settle_s)
            for sponsorable in self._sponsorables:
                if sponsorable not in self._wanted and await self._is_due(sponsorable):
                    self._want(sponsorable, self._pace.settle_s)
        except SponsorSyncError as error:
            _log.warning("reconcile_waits", reason=str(error))

    async def _is_due(self, sponsorable: str) -> bool:
        if self._pace.every is None:
            return False
        last = await self._reconciler.load_last(sponsorable)
        return last is None or self._clock() - last >= self._pace.every

    async def _is_still_wanted(self, sponsorable: str) -> bool:
        """Another replica may have looked meanwhile."""
        try:
            looks = await self._reconciliations.load_requests()
            return sponsorable in looks or await self._is_due(sponsorable)
        except SponsorSyncError:
            return True

    async def _look(self, sponsorable: str) -> None:
        del self._wanted[sponsorable]
        # Ahead of the question: where it is not wanted any more, another replica has just looked.
        self._not_before[sponsorable] = _now_s() + self._pace.pause_s
        if not await self._is_still_wanted(sponsorable):
            return
        try:
            summary = await self._reconciler.run(sponsorable=sponsorable)
        except GitHubLimitedError as error:
            wait_s, reason = max(_LEAST_WAIT_S, error.retry_after_s), str(error)
        except SponsorSyncError as error:
            wait_s, reason = self._pace.pause_s, str(error)
        except Exception:
            # The supervisor restarts this loop soon: the other sponsorables have their turn then.
            self._put_off(sponsorable, self._pace.pause_s)
            raise
        else:
            if summary.reason is None:
                return
            wait_s = max(_LEAST_WAIT_S, summary.retry_after_s or self._pace.pause_s)
            reason = summary.reason
        _log.warning("reconcile_waits", sponsorable=sponsorable, seconds=wait_s, reason=reason)
        self._put_off(sponsorable, wait_s)

    def _put_off(self, sponsorable: str, wait_s: float) -> None:
        # Also a look that was requested during the last one.
        self._wanted[sponsorable] = self._not_before[sponsorable] = _now_s() + wait_s


def _now_s() -> float:
    return asyncio.get_running_loop().time()
