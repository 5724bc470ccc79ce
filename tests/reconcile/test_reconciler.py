"""A reconcile: one at a time, page by page, within GitHub's rate limits."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

import pytest

from sponsorsync.domain.errors import JobRunningError
from sponsorsync.sandbox.people import People
from sponsorsync.store import keys
from tests.conftest import SPONSORABLE
from tests.reconcile.conftest import Replica, reset_in, retry_after

SPONSORS = 2_000
BYTES_A_SPONSOR, BYTES_OF_A_PAGE = 600, 1_100_000
"""Limits of memory; about 360 bytes for each sponsor and 1,000,000 for one page were measured."""


async def test_one_replica_compares_at_a_time(replica: Replica) -> None:
    """A second reconcile is refused while the first one waits for GitHub."""
    async with replica.comparing() as first:
        with pytest.raises(JobRunningError):
            await replica.compare()
        pages = replica.way.pages
    summary = first.result()

    assert (pages, summary.reason, summary.pages) == (1, None, 1)
    assert await replica.local.exists(keys.RECONCILING) == 0


async def test_the_reconcile_lock_of_a_dead_replica_expires(replica: Replica) -> None:
    """A lock has a TTL; while it exists, other replicas respect it."""
    await replica.local.set(keys.RECONCILING, "another", px=50_000)
    with pytest.raises(JobRunningError):
        await replica.compare()
    untouched = await replica.local.get(keys.RECONCILING)
    await replica.local.delete(keys.RECONCILING)
    held_ms = 0

    async def record(_: int) -> None:
        nonlocal held_ms
        held_ms = await replica.local.pttl(keys.RECONCILING)

    replica.way.before = record
    summary = await replica.compare()

    assert (untouched, summary.reason) == ("another", None)
    assert 0 < held_ms <= keys.RECONCILING_TTL_MS


@pytest.mark.parametrize("limit", [None, retry_after(600)], ids=["at a page", "while waiting"])
async def test_a_lost_lock_ends_comparing(replica: Replica, limit: dict[str, str] | None) -> None:
    """The lock has expired, and another replica holds it now."""

    async def lose(_: int) -> None:
        await replica.local.set(keys.RECONCILING, "another", px=50_000)

    replica.way.before, replica.way.limit = lose, limit
    summary = await replica.compare()

    assert "another replica" in (summary.reason or "")
    assert (replica.naps, replica.way.pages) == ([], 1)
    assert await replica.entitled() == set()
    assert await replica.local.get(keys.RECONCILING) == "another"


async def test_many_pages_are_compared_with_little_memory(replica: Replica) -> None:
    """Each page is saved before the next one is fetched, so memory grows little with the people."""
    _fill(replica.github.people, SPONSORS)
    await replica.compare(dry_run=True)
    replica.way.replay()
    with _measure_peak() as peak:
        summary = await replica.compare()

    assert (summary.reason, summary.counts) == (None, {"created": SPONSORS})
    assert (summary.total, summary.people, summary.newer) == (SPONSORS, SPONSORS, 0)
    assert summary.points == summary.pages == SPONSORS // 100
    assert await replica.local.scard(keys.sponsors(SPONSORABLE)) == SPONSORS
    assert peak[0] < BYTES_A_SPONSOR * SPONSORS + BYTES_OF_A_PAGE


def _fill(people: People, count: int) -> None:
    """Replaces the sponsors of the maintainer by so many new ones."""
    people.add_organization("many")
    template = people.sponsor("many", SPONSORABLE, days_ago=1)
    account = template.sponsor
    people.sponsorships[:] = [
        replace(
            template,
            number=number,
            sponsor=replace(account, database_id=10**9 + number, login=f"many-{number}"),
        )
        for number in range(count)
    ]


@contextmanager
def _measure_peak() -> Iterator[list[int]]:
    """Yields a list that has one item after the block: the peak of memory in bytes."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("create_headers", "wait_s"),
    [(partial(retry_after, 45), 45), (partial(reset_in, 600), 600), (dict, 60)],
    ids=["Retry-After", "reset", "neither"],
)
async def test_a_short_rate_limit_is_waited_for_between_two_pages(
    replica: Replica, create_headers: Callable[[], dict[str, str]], wait_s: int
) -> None:
    """A reconcile that began again after each limit would never get past that page."""
    _fill(replica.github.people, 150)
    reports: list[datetime | None] = []

    async def limit_second(page: int) -> None:
        replica.way.limit = create_headers() if page == 2 else None

    replica.way.before = limit_second
    summary = await replica.compare(report=lambda counts: reports.append(counts.waiting_until))
    waits = [each - replica.clock.now for each in reports if each is not None]

    assert (summary.reason, summary.counts) == (None, {"created": 150})
    assert (replica.way.pages, summary.pages, summary.points) == (3, 2, 2)
    assert sum(nap.seconds for nap in replica.naps) == pytest.approx(wait_s, abs=30)
    assert [wait.total_seconds() for wait in waits] == [sum(nap.seconds for nap in replica.naps)]
    assert (summary.waiting_until, "waiting_until" in summary.model_dump()) == (None, False)


async def test_the_lock_is_kept_while_waiting_for_a_rate_limit(replica: Replica) -> None:
    """Another replica with the lock would use up the rest of the limit."""

    async def limit_first(page: int) -> None:
        replica.way.limit = retry_after(600) if page == 1 else None
        await replica.local.pexpire(keys.RECONCILING, 1000)

    replica.way.before = limit_first
    await replica.compare()

    assert len(replica.naps) == 30
    assert min(nap.lock_ms - 1000 * nap.seconds for nap in replica.naps) > 0


@pytest.mark.parametrize(
    ("retry_after_s", "waited_s"), [(901, 0), (400, 800), (60, 900)], ids=["long", "two", "many"]
)
async def test_a_rate_limit_beyond_a_quarter_of_an_hour_ends_the_comparison(
    replica: Replica, retry_after_s: int, waited_s: int
) -> None:
    """The comparison ends at once if GitHub announces a longer wait, else after 15 idle minutes."""
    replica.way.limit = retry_after(retry_after_s)
    summary = await replica.compare()
    [last] = await replica.reconciler.load_last_reconciles()

    assert sum(nap.seconds for nap in replica.naps) == waited_s
    assert summary.retry_after_s == retry_after_s
    assert f"It may be asked again in {retry_after_s} s." in (summary.reason or "")
    assert last.failed is not None
    assert last.failed.reason == summary.reason
    assert await replica.local.exists(keys.RECONCILING) == 0
