"""`sponsorsync verify`: compares local with durable."""

from rich.console import Console
from rich.table import Table

from sponsorsync.commands.output import print_report, show_progress
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.redis_pair import open_engine
from sponsorsync.settings import Settings
from sponsorsync.sync.verify import VerifySummary


async def run_verify(settings: Settings, *, fix: bool, as_json: bool) -> bool:
    """Compares both Redises and prints the differences; returns whether there are none."""
    async with open_engine(settings) as engine:
        summary = VerifySummary()
        try:
            await engine.open()
        except StoreUnavailableError as error:
            summary.reason = str(error)
        else:
            with show_progress("Comparing", to_stderr=as_json) as report:
                summary = await engine.verifier.run(fix=fix, report=report)
    print_report(summary, _print_verify, as_json=as_json)
    return summary.agrees


def _print_verify(console: Console, summary: VerifySummary) -> None:
    if summary.reason is not None and not summary.people:
        console.print(f"Nothing was compared: {summary.reason}", markup=False)
        return
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
        console.print(f"{summary.repaired:,} differences were repaired.")
    if summary.on_their_way:
        console.print(
            f"Changes of {summary.on_their_way:,} people are not on durable yet; "
            f"{summary.waiting_for_entitlement:,} of these people wait for GitHub's answer."
        )
    if summary.visitors:
        console.print(f"{summary.visitors:,} people have the number of an anonymous visitor, too.")
    _print_result(console, summary)


def _print_result(console: Console, summary: VerifySummary) -> None:
    verb = "are" if summary.reason is None else "were found"
    console.print(
        f"{summary.equal:,} of {summary.people:,} people {verb} equal, in {summary.seconds:.2f} s."
    )
    if summary.reason is not None:
        console.print(f"The comparison ended early: {summary.reason}", markup=False)
    elif summary.agrees:
        console.print("Both Redises have the same data.")
    else:
        console.print("The two Redises differ, or the comparison is incomplete.")
