"""Background work: loops that run as long as the service, and tasks that run once."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import structlog

from sponsorsync.domain.errors import SponsorSyncError

_BACKOFF_FIRST_S = 1.0
_BACKOFF_LONGEST_S = 10.0
_HEALTHY_S = 5.0
_DRAIN_S = 5.0
_CANCEL_AGAIN_S = 0.2

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class LoopState:
    """The state of one background loop of this replica.

    Attributes:
        status: `failing` from a failure until the loop works again.
        failures: The number of exceptions that have ended the loop's work since the start.
        last_error: The last failure: the message of an error of ours, else the error's class.
    """

    name: str
    status: Literal["running", "failing"] = "running"
    failures: int = 0
    last_error: str | None = None
    last_failed_at: datetime | None = None


class _Loop:
    """One loop, whose work is restarted after any exception.

    Without `every_s` the work runs for long, and each restart waits longer than the previous one.
    With `every_s` the work is one pass, repeated after that pause; only unexpected errors make the
    pause longer.
    """

    def __init__(
        self, name: str, work: Callable[[], Coroutine[None, None, None]], every_s: float | None
    ) -> None:
        self.state = LoopState(name)
        self._work = work
        self._every_s = every_s
        self._backoff_s = _BACKOFF_FIRST_S

    async def run(self) -> None:
        """Runs until it is cancelled, or until work without `every_s` returns."""
        while True:
            try:
                if self._every_s is None:
                    await self._run_for_long()
                    return
                await self._work()
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - all are restarted
                # Neither error type tells whether this loop was cancelled: a cancellation may come
                # out as another error (see `end_tasks`), and a CancelledError may come from a task
                # for which the work waited.
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    return
                wait_s = self._record_failure(error)
            else:
                self._recover()
                wait_s = self._every_s
            await asyncio.sleep(wait_s)

    async def _run_for_long(self) -> None:
        recovery = asyncio.get_running_loop().call_later(_HEALTHY_S, self._recover)
        try:
            await self._work()
        finally:
            recovery.cancel()

    def _recover(self) -> None:
        self.state.status = "running"
        self._backoff_s = _BACKOFF_FIRST_S

    def _record_failure(self, error: BaseException) -> float:
        """Records and logs a failure; returns the seconds to wait until the restart."""
        is_expected = isinstance(error, SponsorSyncError)
        if is_expected and self._every_s is not None:
            wait_s = self._every_s  # probably an outage, whose end the next pass notices
        else:
            jitter = random.uniform(0.5, 1.0)  # noqa: S311
            wait_s = (self._every_s or 0.0) + self._backoff_s * jitter
            self._backoff_s = min(2 * self._backoff_s, _BACKOFF_LONGEST_S)
        self.state.status = "failing"
        self.state.failures += 1
        self.state.last_failed_at = datetime.now(UTC)
        # Only our own errors' messages are shown: others may contain personal data or a secret.
        self.state.last_error = str(error) if is_expected else type(error).__name__
        shown = {"loop": self.state.name, "seconds": round(wait_s, 1)}
        if is_expected:
            _log.warning("loop_waits", **shown, reason=str(error))
        else:
            _log.error("loop_failed", **shown, exc_info=error)
        return wait_s


class Supervisor:
    """Runs this process's background loops and one-shot tasks, and ends them when it is closed."""

    def __init__(self) -> None:
        self._loops: dict[str, LoopState] = {}
        self._loop_tasks: set[asyncio.Task[None]] = set()
        self._one_shot_tasks: set[asyncio.Task[None]] = set()

    def start(
        self,
        name: str,
        work: Callable[[], Coroutine[None, None, None]],
        *,
        every_s: float | None = None,
    ) -> None:
        """Starts a loop that is restarted after any exception.

        Args:
            name: The loop's name in the log, `/readyz` and the metrics.
            work: Without `every_s`, it runs until it is cancelled; if it returns, the loop has
                ended. With `every_s`, it does one pass and returns.
            every_s: The pause after each pass.
        """
        loop = _Loop(name, work, every_s)
        self._loops[name] = loop.state
        task = asyncio.create_task(loop.run(), name=name)
        self._loop_tasks.add(task)
        task.add_done_callback(self._loop_tasks.discard)
        task.add_done_callback(lambda _: self._loops.pop(name))

    def start_once(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Starts a task that runs once; `aclose` waits a bounded time for its end."""
        task = asyncio.create_task(_log_failure(name, work), name=name)
        self._one_shot_tasks.add(task)
        task.add_done_callback(self._one_shot_tasks.discard)

    def list_loops(self) -> list[LoopState]:
        """Returns the state of each loop that has not ended."""
        return list(self._loops.values())

    async def aclose(self) -> None:
        """Waits a bounded time for the one-shot tasks, then cancels all tasks and loops."""
        try:
            if self._one_shot_tasks:
                await asyncio.wait(self._one_shot_tasks, timeout=_DRAIN_S)
        finally:
            await end_tasks(*self._one_shot_tasks, *self._loop_tasks)


def open_supervisor() -> AbstractAsyncContextManager[Supervisor]:
    """Returns a context manager for a supervisor, which ends its work when the context ends.

    Open it after every resource that a loop uses, so that the loops end before their resources.
    """
    return aclosing(Supervisor())


async def _log_failure(name: str, work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except SponsorSyncError as error:
        _log.warning("background_work_failed", work=name, reason=str(error))
    except Exception:  # noqa: BLE001 - nothing else reports it
        _log.exception("background_work_failed", work=name)


async def end_tasks(*tasks: asyncio.Task[None]) -> None:
    """Cancels tasks until all of them have ended, even if the caller is cancelled meanwhile.

    It cancels repeatedly, because a single cancellation can get lost in redis-py. On Python 3.11
    `asyncio.wait_for` may swallow it (https://github.com/python/cpython/issues/86296). While a
    connection is being opened, it becomes a connection error, which a loop takes for an outage. So
    use this, and not a task group, which cancels only once, for tasks that use Redis.
    """
    waiting, is_cancelled = set(tasks), False
    while waiting:
        for task in waiting:
            task.cancel()
        try:
            await asyncio.wait(waiting, timeout=_CANCEL_AGAIN_S)
        except asyncio.CancelledError:
            is_cancelled = True
        waiting = {task for task in waiting if not task.done()}
    if is_cancelled:
        raise asyncio.CancelledError
