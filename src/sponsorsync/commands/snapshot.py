"""`sponsorsync snapshot`: copies all people from local to durable."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sponsorsync.commands.output import print_report, show_progress
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.gears.batch import BatchSummary
from sponsorsync.redis_pair import open_engine, run_scripts_snapshot
from sponsorsync.settings import Settings
from sponsorsync.sync.snapshot import SnapshotSummary


async def run_snapshot(
    settings: Settings, *, collection: str | None, dry_run: bool, scan: bool, as_json: bool
) -> bool:
    """Copies all people and prints a report.

    Returns whether durable has everything; in a dry run, whether everything could be read.
    """
    async with open_engine(settings) as engine:
        engine.snapshot.check_collection(collection)
        summary = SnapshotSummary(is_dry_run=dry_run)
        try:
            await engine.open()
        except StoreUnavailableError as error:
            summary.reason = str(error)
        else:
            with show_progress("Copying", to_stderr=as_json) as report:
                summary = await engine.snapshot.run(
                    collection=collection, dry_run=dry_run, scan=scan, report=report
                )
    print_report(summary, _print_snapshot, as_json=as_json)
    if dry_run:
        return summary.reason is None and not summary.errors
    return summary.agrees


async def run_gears_snapshot(settings: Settings, *, as_json: bool) -> bool:
    """Runs the copying scripts inside local and prints a report; returns whether all succeeded."""
    summary = await run_scripts_snapshot(settings.require_for_sync(), folder=None)
    print_report(summary, _print_scripts, as_json=as_json)
    return summary.agrees


def _print_snapshot(console: Console, summary: SnapshotSummary) -> None:
    if summary.reason is not None and not summary.people:
        console.print(f"Nothing was copied: {summary.reason}", markup=False)
        return
    verb = "would be copied" if summary.is_dry_run else "are now on durable"
    console.print(
        f"{summary.records:,} of {summary.people:,} people {verb}: "
        f"{summary.bytes:,} bytes in {summary.seconds:.2f} s."
    )
    if summary.imported:
        console.print(f"{summary.imported:,} people had data without a version.")
    for reason, count in sorted(summary.skipped.items()):
        console.print(f"{count:,} {_SKIPPED[reason]}")
    for error in summary.errors:
        console.print(f"  {error}", markup=False)
    if summary.on_their_way:
        console.print(f"Changes of {summary.on_their_way:,} people are not on durable yet.")
    if summary.reason is not None:
        console.print(f"The snapshot ended early: {summary.reason} Repeat it: that loses nothing.")


_SKIPPED = {
    "visitor": "numbers belong to anonymous visitors; their sets were not copied.",
    "wrong type": "people have a key of the wrong type, which was not copied:",
    "unknown": "people have a part that is unknown here (such as their entitlement).",
    "newer": "people had newer data on durable, which were copied here.",
}


def _print_scripts(console: Console, summary: BatchSummary) -> None:
    table = Table("script", "done", "skipped", "failed", "seconds", box=None)
    for run in summary.scripts:
        skipped = ", ".join(f"{count:,} {why}" for why, count in sorted(run.skipped.items()))
        counts = (f"{run.done:,}", escape(skipped), f"{run.failed:,}", f"{run.seconds:.2f}")
        table.add_row(run.script, *counts)
    if summary.reason is not None and not summary.scripts:
        console.print(f"Nothing was copied: {summary.reason}", markup=False)
        return
    console.print(table)
    for run in summary.scripts:
        for error in [*run.errors, *([run.reason] if run.reason else [])]:
            console.print(f"{run.script}: {error}", markup=False)
    if summary.reason is not None:
        console.print(f"The snapshot ended early: {summary.reason} Repeat it: that loses nothing.")
