"""Progress of a command that works through many people."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PLAIN_EVERY_S = 1.0


class Counts(Protocol):
    """How many people there are, and how many are done."""

    total: int
    people: int


@contextmanager
def show_progress(what: str, *, to_stderr: bool) -> Iterator[Callable[[Counts], None]]:
    """Yields a function that shows counts: as a bar on a terminal, else as a line each second."""
    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    if console.is_terminal:
        with _bar(what, console) as report:
            yield report
        return
    last = time.monotonic()

    def report_plainly(counts: Counts) -> None:
        nonlocal last
        if time.monotonic() - last >= _PLAIN_EVERY_S:
            last = time.monotonic()
            console.print(f"{what}: {counts.people:,} of {counts.total:,} people")

    yield report_plainly


@contextmanager
def _bar(what: str, console: Console) -> Iterator[Callable[[Counts], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def report(counts: Counts) -> None:
            # People who come meanwhile are met, too.
            progress.update(task, completed=counts.people, total=max(counts.total, counts.people))

        yield report
