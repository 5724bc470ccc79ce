"""`sponsorsync snapshot`, `verify`, `reconcile` and `relay`: parts without the service."""

from __future__ import annotations

import json
import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from sponsorsync.domain.errors import NoDurableError, StoreUnavailableError
from sponsorsync.github.client import GitHubClient
from sponsorsync.http_client import create_http_client, open_transport
from sponsorsync.reconcile import Reconciler
from sponsorsync.server import stop_signals
from sponsorsync.sides import create_covers, create_people, open_sides, run_scripts_snapshot
from sponsorsync.store.reconciliations import ReconciliationStore
from sponsorsync.sync.engine import run_engine
from sponsorsync.sync.snapshot import SnapshotSummary
from sponsorsync.sync.verify import VerifySummary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from sponsorsync.gears.batch import BatchSummary
    from sponsorsync.reconcile import ReconcileSummary
    from sponsorsync.settings import Settings
    from sponsorsync.sync.engine import SyncEngine

_PLAIN_EVERY_S = 1.0


class _Counts(Protocol):
    """What both kinds of work report."""

    total: int
    people: int


async def run_snapshot(
    settings: Settings, *, collection: str | None, dry_run: bool, scan: bool, as_json: bool
) -> bool:
    """Copies everybody, and prints how far it is and what it did.

    Returns whether durable has everything (in a dry run: whether everything could be read).

    Raises:
        SponsorSyncError: It could not begin.
    """
    console = Console(highlight=False, soft_wrap=True)
    async with _open_engine(settings) as engine:
        engine.snapshot.check_collection(collection)
        summary = SnapshotSummary(is_dry_run=dry_run)
        try:
            await engine.open()
        except StoreUnavailableError as error:
            summary.reason = str(error)
        else:
            with _progress("Copying", to_stderr=as_json) as report:
                summary = await engine.snapshot.run(
                    collection=collection, dry_run=dry_run, scan=scan, report=report
                )
    if as_json:
        print(json.dumps(summary.to_json()))  # noqa: T201 - the CLI's word
    else:
        _print_snapshot(console, summary)
    if dry_run:
        return summary.reason is None and not summary.errors
    return summary.agrees


async def run_gears_snapshot(settings: Settings, *, as_json: bool, folder: Path | None) -> bool:
    """Has the scripts inside local copy everybody, and prints what each did.

    Returns whether every one copied all that was to be copied.

    Args:
        settings: All of them.
        as_json: Prints JSON.
        folder: Where the scripts are; None for where this installation has them.

    Raises:
        SponsorSyncError: It could not begin.
    """
    summary = await run_scripts_snapshot(settings.require_for_sync(), folder=folder)
    if as_json:
        print(json.dumps(summary.to_json()))  # noqa: T201 - the CLI's word
    else:
        _print_scripts(Console(highlight=False, soft_wrap=True), summary)
    return summary.agrees


async def run_verify(settings: Settings, *, fix: bool, as_json: bool) -> bool:
    """Compares both sides, and prints how far it is and what it found.

    Returns whether both are known to be equal.

    Raises:
        SponsorSyncError: It could not begin.
    """
    console = Console(highlight=False, soft_wrap=True)
    async with _open_engine(settings) as engine:
        summary = VerifySummary()
        try:
            await engine.open()
        except StoreUnavailableError as error:
            summary.reason = str(error)
        else:
            with _progress("Comparing", to_stderr=as_json) as report:
                summary = await engine.verifier.run(fix=fix, report=report)
    if as_json:
        print(json.dumps(summary.to_json()))  # noqa: T201 - the CLI's word
    else:
        _print_verify(console, summary)
    return summary.agrees


async def run_reconcile(
    settings: Settings, *, sponsorable: str | None, dry_run: bool, as_json: bool
) -> bool:
    """Compares with GitHub, and prints how far it is and what it found.

    Returns whether GitHub has told everything.

    Raises:
        SponsorSyncError: It could not begin.
    """
    settings.require_for_sync()
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    async with AsyncExitStack() as stack:
        sides = await open_sides(stack, settings)
        if sides.engine is not None:
            await sides.engine.open()
        transport = await stack.enter_async_context(open_transport())
        client = create_http_client(transport, timeout_s=settings.github_timeout_s)
        await stack.enter_async_context(client)
        reconciler = Reconciler(
            GitHubClient(client, api_url=settings.github_api_url),
            create_covers(settings, sides, create_people(settings, sides)),
            ReconciliationStore(sides.local, sponsorables=settings.sponsorables),
            token=settings.maintainer_token,
            sponsorables=settings.sponsorables,
            policy=settings.cover_policy,
        )
        with _progress("Comparing with GitHub", to_stderr=as_json) as report_counts:

            def report(summary: ReconcileSummary) -> None:
                report_counts(summary)
                if summary.waiting_until is not None:
                    errors.print(
                        "GitHub's rate limit is reached; it goes on at "
                        f"{summary.waiting_until:%H:%M:%S} UTC."
                    )

            summary = await reconciler.run(sponsorable=sponsorable, dry_run=dry_run, report=report)
    if as_json:
        print(json.dumps(summary.to_json()))  # noqa: T201 - the CLI's word
    else:
        _print_reconcile(Console(highlight=False, soft_wrap=True), summary)
    return summary.reason is None


async def run_relay(settings: Settings) -> None:
    """Runs the engine until a signal ends it: relay and listener too, whatever the service does.

    Raises:
        SponsorSyncError: It could not begin.
    """
    plain = settings.model_copy(update={"engine": "plain"})
    async with stop_signals() as stop, _open_engine(plain) as engine, run_engine(engine):
        print("SponsorSync relay ready", flush=True)  # noqa: T201 - the CLI's word
        await stop.wait()


@asynccontextmanager
async def _open_engine(settings: Settings) -> AsyncIterator[SyncEngine]:
    settings.require_for_sync()
    async with AsyncExitStack() as stack:
        sides = await open_sides(stack, settings)
        if sides.engine is None:
            raise NoDurableError
        yield sides.engine


# ---------------------------------------------------------------------- how far it is


@contextmanager
def _progress(what: str, *, to_stderr: bool) -> Iterator[Callable[[_Counts], None]]:
    """Yields what shows counts: a bar on a terminal, else a line now and then."""
    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    if console.is_terminal:
        with _bar(what, console) as report:
            yield report
        return
    last = time.monotonic()

    def report_plainly(counts: _Counts) -> None:
        nonlocal last
        if time.monotonic() - last >= _PLAIN_EVERY_S:
            last = time.monotonic()
            console.print(f"{what}: {counts.people:,} of {counts.total:,} people")

    yield report_plainly


@contextmanager
def _bar(what: str, console: Console) -> Iterator[Callable[[_Counts], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def report(counts: _Counts) -> None:
            # People who come meanwhile are met, too.
            progress.update(task, completed=counts.people, total=max(counts.total, counts.people))

        yield report


# ---------------------------------------------------------------------- what it did


def _print_snapshot(console: Console, summary: SnapshotSummary) -> None:
    verb = "would be copied" if summary.is_dry_run else "are on durable as they are here"
    console.print(
        f"{summary.records:,} of {summary.people:,} people {verb}: "
        f"{summary.bytes:,} bytes in {summary.seconds:.2f} s."
    )
    if summary.adopted:
        console.print(f"{summary.adopted:,} had data that nobody had versioned yet.")
    for reason, count in sorted(summary.skipped.items()):
        console.print(f"{count:,} {_SKIPPED[reason]}")
    for error in summary.errors:
        console.print(f"  {error}", markup=False)
    if summary.on_their_way:
        console.print(f"{summary.on_their_way:,} people are still on their way to durable.")
    if summary.reason is not None:
        console.print(f"It ended early: {summary.reason} Repeat it; nothing is lost by that.")


_SKIPPED = {
    "visitor": "numbers are those of anonymous visitors; their sets stay where they are.",
    "wrong type": "people have data of another type, which were left alone:",
    "unknown": "people have something that is not known yet (such as their cover).",
    "newer": "people were newer on durable; that was taken over here.",
}


def _print_scripts(console: Console, summary: BatchSummary) -> None:
    table = Table("script", "done", "skipped", "failed", "seconds", box=None)
    for run in summary.scripts:
        skipped = ", ".join(f"{count:,} {why}" for why, count in sorted(run.skipped.items()))
        counts = (f"{run.done:,}", escape(skipped), f"{run.failed:,}", f"{run.seconds:.2f}")
        table.add_row(run.script, *counts)
    console.print(table)
    for run in summary.scripts:
        for error in [*run.errors, *([run.reason] if run.reason else [])]:
            console.print(f"{run.script}: {error}", markup=False)
    if summary.reason is not None:
        console.print(f"It ended early: {summary.reason} Repeat it; nothing is lost by that.")


def _print_reconcile(console: Console, summary: ReconcileSummary) -> None:
    if summary.drifts:
        table = Table("sponsorable", "person", "drift", box=None)
        for drift in summary.drifts:
            table.add_row(drift.sponsorable, str(drift.person_id), drift.kind)
        console.print(table)
    would = "would be" if summary.is_dry_run else "were"
    for kind, count in sorted(summary.counts.items()):
        console.print(f"{count:,} covers {would} {kind}.")
    if summary.newer:
        console.print(f"{summary.newer:,} covers changed meanwhile and were left as they are.")
    if summary.hidden:
        console.print(
            f"GitHub does not show whose {summary.hidden:,} sponsorships are, so "
            f"{summary.unknown:,} people whom it does not list keep their cover."
        )
    if summary.conflicts:
        console.print(
            f"Nothing could be kept of {summary.conflicts:,} people: somebody else wrote a key of "
            "theirs. The log names it."
        )
    if summary.budget is not None:
        console.print(
            f"It took {summary.points:,} points of GitHub's rate limit; "
            f"{summary.budget.remaining:,} of {summary.budget.limit:,} are left until "
            f"{summary.budget.reset_at:%H:%M} UTC."
        )
    console.print(
        f"{summary.people:,} sponsors were looked at on {summary.pages:,} pages, in "
        f"{summary.seconds:.2f} s."
    )
    if summary.reason is not None:
        console.print(f"It is not complete, so nobody's cover was ended: {summary.reason}")


def _print_verify(console: Console, summary: VerifySummary) -> None:
    if summary.differences:
        table = Table("person", "part", "difference")
        for each in summary.differences:
            table.add_row(str(each.person_id), each.part, each.kind)
        console.print(table)
    for kind, count in sorted(summary.counts.items()):
        console.print(f"{count:,} differences: {kind}")
    for row in summary.dead:
        console.print(
            f"durable refuses {row['id']}: {row['reason']} (next try at {row['next_try']})",
            markup=False,
        )
    if summary.mended:
        console.print(f"{summary.mended:,} differences were mended.")
    if summary.on_their_way:
        console.print(
            f"{summary.on_their_way:,} people are on their way to durable; "
            f"{summary.waiting_for_cover:,} of them wait until GitHub tells whether they are "
            "covered."
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
