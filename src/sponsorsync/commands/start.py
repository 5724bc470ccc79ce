"""Start and end of every command: its settings, its log, its event loop and its signals."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TypeVar

from sponsorsync.logs import configure_logging
from sponsorsync.settings import Settings, find_unknown_names, load_settings

T = TypeVar("T")


def start() -> Settings:
    """Loads the settings, configures the log, and warns of variables that are not settings.

    Raises:
        SettingsError: A setting is malformed.
    """
    settings = load_settings()
    configure_logging(settings.log_format)
    for name in find_unknown_names(os.environ):
        print(f"sponsorsync: {name} is not a setting and is ignored", file=sys.stderr)  # noqa: T201 - the command's own output
    return settings


def run_check(work: Coroutine[None, None, bool]) -> None:
    """Runs a coroutine that returns whether it succeeded; exits with status 1 if it did not."""
    if not run(work):
        sys.exit(1)


def run(work: Coroutine[None, None, T]) -> T:
    """Runs work on uvloop, or on asyncio's own loop if uvloop is not installed (on Windows)."""
    try:
        import uvloop  # noqa: PLC0415 - the installation may not have it
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@asynccontextmanager
async def stop_signals() -> AsyncIterator[asyncio.Event]:
    """Yields an event that SIGINT or SIGTERM sets."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
