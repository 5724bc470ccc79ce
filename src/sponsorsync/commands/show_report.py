"""Print the report of a command, as JSON or for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable

    from sponsorsync.reports import Report

R = TypeVar("R", bound="Report")


def show_report(report: R, print_report: Callable[[Console, R], None], *, as_json: bool) -> None:
    """Prints a report: as one line of JSON, or as `print_report` writes it."""
    if as_json:
        print(report.model_dump_json())  # noqa: T201 - the output of the command
    else:
        print_report(Console(highlight=False, soft_wrap=True), report)
