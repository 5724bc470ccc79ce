"""Work that an answer does not wait for: it is finished, or cancelled, or heard of."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING

import pytest
import structlog
from structlog.testing import capture_logs

from sponsorsync.background import BackgroundWork, open_background_work
from sponsorsync.domain.errors import GitHubUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait for a time: its clock jumps there."""

    def __init__(self) -> None:
        self._skipped = _SkippingSelector()
        super().__init__(self._skipped)

    def time(self) -> float:
        """Returns the time, with all that was skipped."""
        return super().time() + self._skipped.skipped_s


class _SkippingSelector(selectors.DefaultSelector):
    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.skipped_s += timeout or 0
        return super().select(0)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


async def test_whoever_closes_waits_for_what_was_started() -> None:
    """A token is revoked behind the answer, also when the service stops right then."""
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0)
        done.append("done")

    async with open_background_work() as background:
        background.start(work(), name="work")
        assert done == []

    assert done == ["done"]


async def test_an_error_of_whoever_closes_leaves_nothing_behind() -> None:
    """Nor is it lost."""
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        done.set()

    async def serve() -> None:
        async with open_background_work() as background:
            background.start(work(), name="work")
            raise RuntimeError("closing")

    with pytest.raises(RuntimeError, match="closing"):
        await serve()

    assert done.is_set()


async def test_without_any_work_there_is_nothing_to_wait_for() -> None:
    """The usual case."""
    await BackgroundWork().drain()


def test_what_takes_too_long_is_cancelled_and_may_clean_up() -> None:
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
        async with open_background_work() as background:
            background.start(work(), name="work")
        return loop.time() - began

    with asyncio.Runner(loop_factory=SkippingLoop) as runner, capture_logs() as logs:
        took_s = runner.run(serve())

    assert ends == ["cleaned up"]
    assert 5 <= took_s < 6
    assert logs == []


def test_what_is_done_in_time_is_not_cancelled_with_the_rest() -> None:
    """One that hangs takes no other one along."""
    ends: list[str] = []

    async def hang() -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        await asyncio.sleep(4)
        ends.append("done")

    async def serve() -> None:
        async with open_background_work() as background:
            background.start(hang(), name="hang")
            background.start(work(), name="work")

    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(serve())

    assert ends == ["done"]


async def test_an_expected_failure_is_a_warning_with_its_sentence() -> None:
    """No traceback: it is nobody's fault here."""

    async def work() -> None:
        raise GitHubUnreachableError("GitHub could not be reached.")

    with capture_logs() as logs:
        async with open_background_work() as background:
            background.start(work(), name="revoke a token")

    assert logs == [
        {
            "event": "background_work_failed",
            "log_level": "warning",
            "work": "revoke a token",
            "reason": "GitHub could not be reached.",
        }
    ]


async def test_an_unexpected_failure_is_an_error_with_its_traceback() -> None:
    """Nobody else is there to see it, and the work beside it goes on."""
    done: list[str] = []

    async def fail() -> None:
        raise ZeroDivisionError

    async def work() -> None:
        await asyncio.sleep(0)
        done.append("done")

    with capture_logs() as logs:
        async with open_background_work() as background:
            background.start(fail(), name="fail")
            background.start(work(), name="work")

    assert logs == [
        {
            "event": "background_work_failed",
            "log_level": "error",
            "work": "fail",
            "exc_info": True,
        }
    ]
    assert done == ["done"]
