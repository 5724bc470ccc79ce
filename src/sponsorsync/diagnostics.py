"""Diagnostic results and their table."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console
from rich.markup import escape
from rich.table import Table


class Level(StrEnum):
    """Severity of a diagnostic; after an ERROR the command's exit status is 1."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


_MARKS = {
    Level.OK: "[green]ok[/]",
    Level.WARNING: "[yellow]warning[/]",
    Level.ERROR: "[red]error[/]",
}


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """The result of checking a setting or a server; `advice` is empty if nothing is wrong."""

    subject: str
    level: Level
    seen: str
    advice: str = ""


def warn_unless(ok: bool, subject: str, seen: str, advice: str) -> Diagnostic:
    """Returns an OK diagnostic if `ok`, else a WARNING with the advice."""
    if ok:
        return Diagnostic(subject, Level.OK, seen)
    return Diagnostic(subject, Level.WARNING, seen, advice)


def fail_unless(ok: bool, subject: str, seen: str, advice: str) -> Diagnostic:
    """Returns an OK diagnostic if `ok`, else an ERROR with the advice."""
    if ok:
        return Diagnostic(subject, Level.OK, seen)
    return Diagnostic(subject, Level.ERROR, seen, advice)


def print_diagnostics(diagnostics: Sequence[Diagnostic]) -> None:
    """Prints a table on standard output."""
    table = Table("", box=None)
    # Long texts are wrapped, not cut off, so that people can copy names, also from 80 columns.
    table.add_column("checked", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("what to do", overflow="fold")
    for each in diagnostics:
        table.add_row(
            _MARKS[each.level], escape(each.subject), escape(each.seen), escape(each.advice)
        )
    Console().print(table)
