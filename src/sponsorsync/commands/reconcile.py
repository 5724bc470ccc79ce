"""`sponsorsync reconcile`: compares the stored sponsorships with GitHub."""

from contextlib import AsyncExitStack

from rich.console import Console
from rich.table import Table

from sponsorsync.commands.output import print_report, show_progress
from sponsorsync.github.client import GitHubClient
from sponsorsync.http_client import create_http_client, open_transport
from sponsorsync.reconcile.reconciler import Reconciler
from sponsorsync.reconcile.report import ReconcileSummary
from sponsorsync.redis_pair import create_entitlements, create_people, open_redis_pair
from sponsorsync.settings import Settings
from sponsorsync.store.reconciliations import ReconciliationStore


async def run_reconcile(
    settings: Settings, *, sponsorable: str | None, dry_run: bool, as_json: bool
) -> bool:
    """Compares with GitHub and prints a report; returns whether the comparison is complete."""
    settings.require_for_sync()
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    async with AsyncExitStack() as stack:
        redis_pair = await open_redis_pair(stack, settings)
        if redis_pair.engine is not None:
            await redis_pair.engine.open()
        transport = await stack.enter_async_context(open_transport())
        client = create_http_client(transport, timeout_s=settings.github_timeout_s)
        await stack.enter_async_context(client)
        reconciler = Reconciler(
            GitHubClient(client, api_url=settings.github_api_url),
            create_entitlements(settings, redis_pair, create_people(settings, redis_pair)),
            ReconciliationStore(redis_pair.local, sponsorables=settings.sponsorables),
            token=settings.maintainer_token,
            sponsorables=settings.sponsorables,
            policy=settings.entitlement_policy,
        )
        with show_progress("Comparing with GitHub", to_stderr=as_json) as report_counts:

            def report(summary: ReconcileSummary) -> None:
                report_counts(summary)
                if summary.waiting_until is not None:
                    errors.print(
                        "GitHub's rate limit is reached; the comparison continues at "
                        f"{summary.waiting_until:%H:%M:%S} UTC."
                    )

            summary = await reconciler.run(sponsorable=sponsorable, dry_run=dry_run, report=report)
    print_report(summary, _print_reconcile, as_json=as_json)
    return summary.reason is None


def _print_reconcile(console: Console, summary: ReconcileSummary) -> None:
    if summary.drifts:
        table = Table("sponsorable", "person", "drift", box=None)
        for drift in summary.drifts:
            table.add_row(drift.sponsorable, str(drift.person_id), drift.kind)
        console.print(table)
    would = "would be" if summary.is_dry_run else "were"
    for kind, count in sorted(summary.counts.items()):
        console.print(f"{count:,} entitlements {would} {kind}.")
    if summary.newer:
        console.print(
            f"{summary.newer:,} entitlements changed meanwhile and were left as they are."
        )
    if summary.hidden:
        console.print(
            f"GitHub hides the sponsor of {summary.hidden:,} sponsorships, so {summary.unknown:,} "
            "people that it does not list keep their entitlement."
        )
    if summary.conflicts:
        console.print(
            f"Nothing was stored for {summary.conflicts:,} people, who have a key of the wrong "
            "type (see the log)."
        )
    if summary.budget is not None:
        console.print(
            f"It took {summary.points:,} points of GitHub's rate limit; "
            f"{summary.budget.remaining:,} of {summary.budget.limit:,} are left until "
            f"{summary.budget.reset_at:%H:%M} UTC."
        )
    console.print(
        f"{summary.people:,} sponsors on {summary.pages:,} pages were compared in "
        f"{summary.seconds:.2f} s."
    )
    if summary.reason is not None:
        console.print(
            f"The comparison is not complete, so it ended no entitlement: {summary.reason}"
        )
