"""Output of commands: the progress of long work, and the final report."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sponsorsync.reports import Report

R = TypeVar("R", bound="Report")

_PLAIN_EVERY_S = 1.0


class Counts(Protocol):
    """The total number of people, and the number of people that are done."""

    total: int
    people: int


def print_report(report: R, print_text: Callable[[Console, R], None], *, as_json: bool) -> None:
    """Prints a report as one line of JSON, or as text by `print_text`."""
    if as_json:
        print(report.model_dump_json())  # noqa: T201 - the command's own output
    else:
        print_text(Console(highlight=False, soft_wrap=True), report)


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
            # People who sign in meanwhile are counted too, so `people` may exceed `total`.
            progress.update(task, completed=counts.people, total=max(counts.total, counts.people))

        yield report
