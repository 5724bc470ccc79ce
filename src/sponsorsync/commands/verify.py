"""`sponsorsync verify`: compares local with durable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from sponsorsync.commands.engine import open_engine
from sponsorsync.commands.progress import show_progress
from sponsorsync.commands.show_report import show_report
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.sync.verify import VerifySummary

if TYPE_CHECKING:
    from rich.console import Console

    from sponsorsync.settings import Settings


async def run_verify(settings: Settings, *, fix: bool, as_json: bool) -> bool:
    """Compares both sides, and prints how far it is and what it found.

    Returns whether both are known to be equal.

    Raises:
        SponsorSyncError: It could not begin.
    """
    async with open_engine(settings) as engine:
        summary = VerifySummary()
        try:
            await engine.open()
        except StoreUnavailableError as error:
            summary.reason = str(error)
        else:
            with show_progress("Comparing", to_stderr=as_json) as report:
                summary = await engine.verifier.run(fix=fix, report=report)
    show_report(summary, _print_verify, as_json=as_json)
    return summary.agrees


def _print_verify(console: Console, summary: VerifySummary) -> None:
    if summary.differences:
        table = Table("person", "part", "difference")
        for each in summary.differences:
            table.add_row(str(each.person_id), each.part, each.kind)
        console.print(table)
    for kind, count in sorted(summary.counts.items()):
        console.print(f"{count:,} differences: {kind}")
    for letter in summary.dead_letters:
        console.print(
            f"durable refuses {letter.id}: {letter.reason} (next try at {letter.next_try})",
            markup=False,
        )
    if summary.repaired:
        console.print(f"{summary.repaired:,} differences were mended.")
    if summary.on_their_way:
        console.print(
            f"{summary.on_their_way:,} people are on their way to durable; "
            f"{summary.waiting_for_entitlement:,} of them wait until GitHub tells whether they are "
            "entitled."
        )
    if summary.visitors:
        console.print(f"{summary.visitors:,} numbers are those of anonymous visitors, too.")
    console.print(
        f"{summary.equal:,} of {summary.people:,} people are equal, in {summary.seconds:.2f} s."
    )
    if summary.reason is not None:
        console.print(f"It ended early: {summary.reason}")
    elif summary.agrees:
        console.print("Both sides agree.")
    else:
        console.print("It cannot be said that both sides agree.")
