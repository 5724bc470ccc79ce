"""What looking at the settings and the servers finds, and how it is printed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence


class Level(StrEnum):
    """How bad a finding is; an ERROR makes the exit status 1."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that was looked at.

    Attributes:
        subject: A variable, or a server.
        advice: What to do; empty where nothing is.
    """

    subject: str
    level: Level
    seen: str
    advice: str = ""


def print_diagnostics(diagnostics: Sequence[Diagnostic]) -> None:
    """Prints a table on standard output."""
    table = Table("", box=None)
    # Nothing is cut off, however narrow it is (80 in a pipe): names are there to be copied.
    table.add_column("what", no_wrap=True)
    table.add_column("seen", overflow="fold")
    table.add_column("what to do", overflow="fold")
    marks = {Level.OK: "[green]ok[/]", Level.WARNING: "[yellow]mind[/]", Level.ERROR: "[red]bad[/]"}
    for finding in diagnostics:
        table.add_row(
            marks[finding.level],
            escape(finding.subject),
            escape(finding.seen),
            escape(finding.advice),
        )
    Console().print(table)
