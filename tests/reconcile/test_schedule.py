"""The schedule runs a reconcile at the start, at intervals, and after requests."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from sponsorsync.reconcile.report import ReconcileSummary
from sponsorsync.reconcile.schedule import Pace
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.store.entitlements import end_entitlements
from tests.conftest import SPONSORABLE, Clock
from tests.reconcile.conftest import Replica, open_replica, reset_in, retry_after
from tests.support.use_cases import MONTHLY, ONE_TIME, STRANGER
from tests.support.waiting import until

PACE = Pace(every=timedelta(hours=24), settle_s=0.0, check_s=0.01)


async def test_the_schedule_reconciles_at_its_start_and_after_requests(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock
) -> None:
    """The first reconcile finds a sponsor, the requested one another, new sponsor."""
    async with open_replica(settings, github, local, clock, login="maintainer") as replica:
        schedule = replica.create_schedule(
            Pace(every=timedelta(hours=24), settle_s=0.01, pause_s=0.01)
        )
        async with replica.running(schedule):
            await until(lambda: replica.is_entitled(MONTHLY))
            clock.advance(hours=1)
            github.people.sponsor("stranger", SPONSORABLE)
            await schedule.request(SPONSORABLE)
            await until(lambda: replica.is_entitled(STRANGER))
            pages = replica.way.pages

    assert pages == 2


async def test_a_reconcile_is_due_only_after_the_interval(replica: Replica) -> None:
    """The last reconcile of any replica counts, also one before a restart."""
    await replica.compare()
    pace = Pace(every=timedelta(hours=24), settle_s=0.0, pause_s=0.0, check_s=0.01)
    async with replica.running(replica.create_schedule(pace)):
        await asyncio.sleep(0.1)
        early = replica.way.pages
        replica.clock.advance(hours=24)
        await until(lambda: replica.has_asked(2))
        await asyncio.sleep(0.1)

    assert (early, replica.way.pages) == (1, 2)


@pytest.mark.parametrize("method", ["load_requests", "load_reconciled"])
async def test_an_unexpected_error_does_not_end_the_schedule(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Otherwise nobody would notice until entitlements are wrong for days."""
    answers = iter([RuntimeError("unforeseen")])
    is_right = getattr(replica.reconciliations, method)

    async def fail_once(*arguments: str) -> object:
        for error in answers:
            raise error
        return await is_right(*arguments)

    monkeypatch.setattr(replica.reconciliations, method, fail_once)
    with capture_logs() as logs:
        async with replica.running(replica.create_schedule(PACE)):
            await until(lambda: replica.is_entitled(MONTHLY))

    assert [log for log in logs if log["event"] == "loop_failed"] != []


async def test_requests_do_not_depend_on_the_check_of_the_interval(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check whether an interval is over fails; requested reconciles still run."""

    async def fail(_: str) -> datetime:
        raise RuntimeError("unforeseen")

    schedule = replica.create_schedule(PACE)
    schedule.sponsorables = ("broken", SPONSORABLE)
    monkeypatch.setattr(replica.reconciliations, "load_reconciled", fail)
    with capture_logs():
        async with replica.running(schedule):
            await schedule.request(SPONSORABLE)
            await until(lambda: replica.is_entitled(MONTHLY))


async def test_an_unexpected_error_of_one_reconcile_does_not_stop_the_others(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other sponsorable is reconciled, and the failing one only after the pause."""
    runs: list[str] = []

    async def run(sponsorable: str) -> ReconcileSummary:
        runs.append(sponsorable)
        if sponsorable == "broken":
            raise RuntimeError("unforeseen")
        return ReconcileSummary()

    async def have_all_had_their_turn() -> bool:
        return SPONSORABLE in runs

    async def load_reconciled(_: str) -> None:
        return None

    schedule = replica.create_schedule(PACE)
    schedule.sponsorables = ("broken", SPONSORABLE)
    monkeypatch.setattr(replica.reconciler, "run", run)
    monkeypatch.setattr(replica.reconciliations, "load_reconciled", load_reconciled)
    with capture_logs() as logs:
        async with replica.running(schedule):
            await until(have_all_had_their_turn)

    assert runs == ["broken", SPONSORABLE]
    assert [log["event"] for log in logs] == ["loop_failed"]


async def test_several_requests_share_one_reconcile(replica: Replica) -> None:
    """A burst of webhook events causes one reconcile."""
    schedule = replica.create_schedule(Pace(every=None, settle_s=0.05, pause_s=60))
    async with replica.running(schedule):
        for _ in range(50):
            await schedule.request(SPONSORABLE)
        await until(lambda: replica.has_asked(1))
        await schedule.request(SPONSORABLE)
        await asyncio.sleep(0.2)

    assert replica.way.pages == 1


@pytest.mark.parametrize(
    ("create_headers", "wait_s"),
    [
        (partial(retry_after, 1200), 1200),
        (partial(retry_after, 20), 60),
        (partial(reset_in, 7200), 7200),
        (dict, 60),
    ],
    ids=["Retry-After", "short", "reset", "neither"],
)
async def test_github_is_not_asked_again_during_a_rate_limit(
    replica: Replica, create_headers: Callable[[], dict[str, str]], wait_s: int
) -> None:
    """The wait is GitHub's, a minute at least, even if requests arrive meanwhile."""
    replica.way.limit = create_headers()
    schedule = replica.create_schedule(Pace(every=None, settle_s=0.0, pause_s=0.0, check_s=0.01))

    async def ask_meanwhile(_: int) -> None:
        await schedule.request(SPONSORABLE)

    async def waits() -> bool:
        return any(log["event"] == "reconcile_waits" for log in logs)

    replica.way.before = ask_meanwhile
    with capture_logs() as logs:
        async with replica.running(schedule):
            await schedule.request(SPONSORABLE)
            await until(waits)
            pages = replica.way.pages
            await schedule.request(SPONSORABLE)
            await asyncio.sleep(0.1)
    [waited_s] = [log["seconds"] for log in logs if log["event"] == "reconcile_waits"]

    assert replica.way.pages == pages
    assert waited_s == pytest.approx(wait_s, abs=30)


async def test_a_reconcile_by_another_replica_is_not_repeated(replica: Replica) -> None:
    """Both replicas find the reconcile due; one finishes it during the delay of the other."""
    schedule = replica.create_schedule(Pace(every=timedelta(hours=1), settle_s=0.2, check_s=0.02))
    async with replica.running(schedule):
        await asyncio.sleep(0.05)
        await replica.reconciliations.save_reconciled(SPONSORABLE, replica.clock.now)
        await asyncio.sleep(0.5)

    assert replica.way.pages == 0


async def test_a_request_outlasts_a_restart(replica: Replica) -> None:
    """The webhook event was answered, so GitHub does not send it again."""
    pace = Pace(every=None, settle_s=0.0, pause_s=60, check_s=0.01)
    await replica.create_schedule(pace).request(SPONSORABLE)
    async with replica.running(replica.create_schedule(pace)):
        await until(lambda: replica.is_entitled(MONTHLY))
        await until(lambda: _is_done(replica))

    assert replica.way.pages == 1


async def test_only_a_complete_reconcile_settles_a_request(replica: Replica) -> None:
    """A failed reconcile and a dry run leave the request in Redis."""
    await replica.reconciliations.save_request(SPONSORABLE)
    asked = await replica.reconciliations.load_requests()
    replica.github.switches.forbidden = True
    await replica.compare()
    after_failure = await replica.reconciliations.load_requests()
    replica.github.switches.forbidden = False
    await replica.compare(dry_run=True)
    after_dry_run = await replica.reconciliations.load_requests()
    await replica.compare()

    assert asked == after_failure == after_dry_run
    assert (list(asked), await replica.reconciliations.load_requests()) == ([SPONSORABLE], {})


async def test_a_request_during_a_reconcile_needs_another_one(replica: Replica) -> None:
    """The answer of GitHub may be older than the second request."""
    await replica.reconciliations.save_request(SPONSORABLE)
    before = await replica.reconciliations.load_requests()

    async def ask_again(_: int) -> None:
        await replica.reconciliations.save_request(SPONSORABLE)

    replica.way.before = ask_again
    await replica.compare()
    between = await replica.reconciliations.load_requests()
    replica.way.before = None
    await replica.compare()

    assert list(between) == [SPONSORABLE]
    assert between != before
    assert await replica.reconciliations.load_requests() == {}


async def test_a_request_settled_by_another_replica_is_not_repeated(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All replicas see the request; a complete reconcile of one of them removes it."""
    schedule = replica.create_schedule(Pace(every=None, settle_s=0.0, check_s=0.01))
    await schedule.request(SPONSORABLE)
    await replica.compare()  # as the other replica does
    load_requests, times = replica.reconciliations.load_requests, 0

    async def count() -> dict[str, str]:
        nonlocal times
        times += 1
        return await load_requests()

    async def has_gone_round() -> bool:
        return times > 3

    monkeypatch.setattr(replica.reconciliations, "load_requests", count)
    async with replica.running(schedule):
        await until(has_gone_round)

    assert replica.way.pages == 1


async def test_a_cancellation_taken_back_is_found_after_the_announced_end(replica: Replica) -> None:
    """GitHub sends an event for a cancellation, but none when it is taken back."""
    await replica.compare()
    ends = int(replica.clock.now.timestamp()) + 60  # for the clock of Redis, a day ago
    key = keys.sponsorship(SPONSORABLE, MONTHLY)
    await replica.local.hset(key, "valid_until", ends)
    await replica.local.zadd(keys.ENTITLEMENT_ENDS, {f"{SPONSORABLE}:{MONTHLY}": ends})
    replica.clock.advance(minutes=2)
    await end_entitlements(replica.local_store)
    ended = MONTHLY not in await replica.entitled()
    schedule = replica.create_schedule(Pace(every=None, settle_s=0.0, check_s=0.02))
    async with replica.running(schedule):
        await until(lambda: replica.is_entitled(MONTHLY))

    assert ended
    assert "valid_until" not in await replica.facts(MONTHLY)


async def test_the_end_of_a_one_time_payment_requests_no_reconcile(replica: Replica) -> None:
    """The end of a payment was computed at its start, so GitHub need not be asked."""
    await replica.compare()
    member = f"{SPONSORABLE}:{ONE_TIME}"
    await replica.local.hset(keys.sponsorship(SPONSORABLE, ONE_TIME), "valid_until", 1)
    await replica.local.zadd(keys.ENTITLEMENT_ENDS, {member: 1})
    await end_entitlements(replica.local_store)

    assert await replica.reconciliations.load_requests() == {}


async def _is_done(replica: Replica) -> bool:
    return await replica.reconciliations.load_requests() == {}
