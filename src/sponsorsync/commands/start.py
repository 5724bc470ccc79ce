"""Start of every command: its settings, its log and its event loop."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, TypeVar

from sponsorsync.logs import configure_logging
from sponsorsync.settings import find_unknown_names, load_settings

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sponsorsync.settings import Settings

T = TypeVar("T")


def start() -> Settings:
    """Reads the settings, configures the log, and warns of variables that are no setting.

    Raises:
        SettingsError: A setting does not fit.
    """
    settings = load_settings()
    configure_logging(settings.log_format)
    for name in find_unknown_names(os.environ):
        print(f"sponsorsync: {name} is no setting, so it is not read", file=sys.stderr)  # noqa: T201 - the CLI's word
    return settings


def run_check(work: Coroutine[None, None, bool]) -> None:
    """Runs work that returns whether all is well, and ends with status 1 if it is not."""
    if not run(work):
        sys.exit(1)


def run(work: Coroutine[None, None, T]) -> T:
    """Runs work on uvloop, or on asyncio's own loop where there is no uvloop (on Windows)."""
    try:
        import uvloop  # noqa: PLC0415 - the installation may not have it
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
