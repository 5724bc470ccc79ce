"""Background work: loops that only the supervisor ends, and one-time work."""

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import TypeVar

import pytest
import structlog
from structlog.testing import capture_logs
from structlog.typing import EventDict

from sponsorsync.background import Supervisor, open_supervisor
from sponsorsync.domain.errors import GitHubUnreachableError

T = TypeVar("T")


class _SkippingLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop that does not wait: its clock jumps to the next timer."""

    def __init__(self) -> None:
        self._skipped = _SkippingSelector()
        super().__init__(self._skipped)

    def time(self) -> float:
        """Returns the real time plus all skipped waits."""
        return super().time() + self._skipped.skipped_s


class _SkippingSelector(selectors.DefaultSelector):
    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.skipped_s += timeout or 0
        return super().select(0)


def _run(main: Coroutine[None, None, T]) -> tuple[T, list[EventDict]]:
    """Runs a coroutine on an event loop that skips waits; returns its result and the log."""
    with asyncio.Runner(loop_factory=_SkippingLoop) as runner, capture_logs() as logs:
        return runner.run(main), list(logs)


async def _hang() -> None:
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


async def test_close_waits_for_the_work_that_was_started() -> None:
    """For example, a token is revoked after the answer, also if the service stops at once."""
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0)
        done.append("done")

    async with open_supervisor() as background:
        background.start_once("work", work())
        assert done == []

    assert done == ["done"]


async def test_an_error_of_the_block_still_waits_for_the_work() -> None:
    """The error of the block is raised after the work is done."""
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        done.set()

    async def serve() -> None:
        async with open_supervisor() as background:
            background.start_once("work", work())
            raise RuntimeError("closing")

    with pytest.raises(RuntimeError, match="closing"):
        await serve()

    assert done.is_set()


async def test_close_without_any_work_returns_at_once() -> None:
    """Most often no work is left when the service stops."""
    await Supervisor().aclose()


def test_work_that_takes_too_long_is_cancelled_and_may_clean_up() -> None:
    """A GitHub that does not answer must not keep the service from stopping."""
    ends: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ends.append("cleaned up")

    async def serve() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with open_supervisor() as background:
            background.start_once("work", work())
        return loop.time() - began

    took_s, logs = _run(serve())

    assert ends == ["cleaned up"]
    assert 5 <= took_s < 6
    assert logs == []


def test_work_that_is_done_in_time_is_not_cancelled_with_the_rest() -> None:
    """Other work hangs until its cancellation at the end of the time limit."""
    ends: list[str] = []

    async def work() -> None:
        await asyncio.sleep(4)
        ends.append("done")

    async def serve() -> None:
        async with open_supervisor() as background:
            background.start_once("hang", _hang())
            background.start_once("work", work())

    _run(serve())

    assert ends == ["done"]


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (
            GitHubUnreachableError("GitHub could not be reached."),
            {"log_level": "warning", "reason": "GitHub could not be reached."},
        ),
        (ZeroDivisionError(), {"log_level": "error", "exc_info": True}),
    ],
    ids=["expected", "unexpected"],
)
async def test_failed_work_stops_no_other_work(error: Exception, logged: dict[str, object]) -> None:
    """The failure is logged; only an unexpected error has a traceback."""
    done: list[str] = []

    async def fail() -> None:
        raise error

    async def work() -> None:
        await asyncio.sleep(0)
        done.append("done")

    with capture_logs() as logs:
        async with open_supervisor() as background:
            background.start_once("fail", fail())
            background.start_once("work", work())

    assert logs == [{"event": "background_work_failed", "work": "fail", **logged}]
    assert done == ["done"]


@pytest.mark.parametrize(
    ("error", "shown", "event"),
    [
        (
            GitHubUnreachableError("GitHub could not be reached."),
            "GitHub could not be reached.",
            ("loop_waits", "warning"),
        ),
        (ValueError("a secret"), "ValueError", ("loop_failed", "error")),
        (asyncio.CancelledError(), "CancelledError", ("loop_failed", "error")),
    ],
)
@pytest.mark.parametrize("every_s", [None, 3.0])
def test_no_exception_ends_a_loop(
    error: BaseException, shown: str, event: tuple[str, str], every_s: float | None
) -> None:
    """A CancelledError of an awaited task does not, either; `close` does, without a log entry."""
    runs: list[str] = []

    async def work() -> None:
        runs.append("run")
        if len(runs) == 1:
            raise error
        await _hang()

    async def serve() -> Supervisor:
        async with open_supervisor() as supervisor:
            supervisor.start("relay", work, every_s=every_s)
            await asyncio.sleep(3.2)
            [state] = supervisor.list_loops()
            failed = state.status, state.failures, state.last_error, state.last_failed_at is None
            await asyncio.sleep(5)
        assert failed == ("failing", 1, shown, False)
        return supervisor

    supervisor, logs = _run(serve())

    assert len(runs) == 2
    assert supervisor.list_loops() == []
    assert [(log["event"], log["log_level"], log["loop"]) for log in logs] == [(*event, "relay")]


def test_a_loop_rests_longer_after_each_failure_until_it_works_again() -> None:
    """The pause is limited to ten seconds, and short again after a successful pass."""
    rests: list[float] = []
    outcomes = iter([*["fail"] * 6, "work", *["fail"] * 2])
    done = asyncio.Event()

    async def work() -> None:
        rests.append(asyncio.get_running_loop().time())
        error = next(outcomes, "done")
        if error == "done":
            done.set()
        elif error == "fail":
            raise ValueError

    async def serve() -> None:
        async with open_supervisor() as supervisor:
            supervisor.start("sweep", work, every_s=2.0)
            await done.wait()

    _run(serve())

    waits = [later - earlier - 2.0 for earlier, later in pairwise(rests)]
    longest = [1, 2, 4, 8, 10, 10, 0, 1, 2]
    assert all(
        limit / 2 <= round(waited_s, 1) <= limit + 0.1
        for waited_s, limit in zip(waits, longest, strict=True)
    ), waits


def test_an_outage_changes_neither_the_first_pass_nor_the_pause() -> None:
    """An expected error must not delay the first pass after the outage."""
    passes: list[float] = []
    done = asyncio.Event()

    async def work() -> None:
        passes.append(asyncio.get_running_loop().time())
        if len(passes) == 6:
            done.set()
        raise GitHubUnreachableError("down")

    async def serve() -> float:
        began = asyncio.get_running_loop().time()
        async with open_supervisor() as supervisor:
            supervisor.start("sweep", work, every_s=2.0)
            await done.wait()
        return began

    began, _ = _run(serve())

    assert [round(at - began, 1) for at in passes] == [0, 2, 4, 6, 8, 10]


def test_a_loop_without_passes_is_healthy_after_a_while() -> None:
    """Such a loop never returns, so running for a while is the only sign that it works."""
    errors = iter([ValueError(), ValueError()])

    async def work() -> None:
        for error in errors:
            raise error
        await _hang()

    async def serve() -> list[str]:
        async with open_supervisor() as supervisor:
            supervisor.start("relay", work)
            [state] = supervisor.list_loops()
            statuses: list[str] = []
            for _ in range(3):
                await asyncio.sleep(3.2)
                statuses.append(state.status)
            return statuses

    statuses, _ = _run(serve())

    assert statuses == ["failing", "failing", "running"]


async def test_a_loop_that_has_returned_is_not_listed() -> None:
    """The loop that registers scripts returns if there is no RedisGears, which is no failure."""

    async def work() -> None:
        pass

    async with open_supervisor() as supervisor:
        supervisor.start("gears_scripts", work)
        started = [loop.name for loop in supervisor.list_loops()]
        await asyncio.sleep(0.01)
        ended = supervisor.list_loops()

    assert (started, ended) == (["gears_scripts"], [])


@pytest.mark.parametrize("is_once", [True, False])
def test_work_that_swallows_a_cancellation_is_ended(*, is_once: bool) -> None:
    """On Python 3.11 redis-py sometimes does so; otherwise the service would never stop."""

    async def work() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await _hang()

    async def serve() -> None:
        async with open_supervisor() as supervisor:
            if is_once:
                supervisor.start_once("revoke a token", work())
            else:
                supervisor.start("relay", work)
            await asyncio.sleep(0)

    _run(asyncio.wait_for(serve(), 10))


def test_a_cancelled_close_ends_everything() -> None:
    """The service may be killed while it waits for the last one-time work."""
    ends: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(name)

    async def serve() -> None:
        supervisor = Supervisor()
        supervisor.start("relay", partial(work, "relay"))
        supervisor.start_once("revoke a token", work("revoke a token"))
        with suppress(TimeoutError):
            await asyncio.wait_for(supervisor.aclose(), 1)
        assert sorted(ends) == ["relay", "revoke a token"]

    _run(serve())
