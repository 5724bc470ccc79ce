"""Comparing with GitHub: what is repaired, what is reported, and what is left alone."""

from __future__ import annotations

import asyncio
import json
import re
import tracemalloc
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import AsyncMock

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from sponsorsync.background import open_supervisor
from sponsorsync.commands.doctor import examine
from sponsorsync.commands.serve import bind_next_free, port_of, run_server
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.errors import (
    InvalidInputError,
    JobRunningError,
    NoMaintainerTokenError,
)
from sponsorsync.domain.sources import EntitlementSource, Grant
from sponsorsync.github.client import GitHubClient
from sponsorsync.http_client import create_http_client
from sponsorsync.reconcile.reconciler import Reconciler, ReconcileSummary
from sponsorsync.reconcile.schedule import Pace, ReconcileSchedule
from sponsorsync.redis_pair import create_entitlements, create_people, open_redis_pair
from sponsorsync.sandbox.hooks import Hook
from sponsorsync.store import keys
from sponsorsync.store.entitlements import end_entitlements
from sponsorsync.store.reconciliations import ReconciliationStore
from tests.conftest import GITHUB_URL, ORIGIN, SPONSORABLE
from tests.support.command import run_command
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from redis.asyncio import Redis

    from sponsorsync.sandbox.github import SimulatedGitHub
    from sponsorsync.sandbox.people import People
    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.settings import Settings
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.entitlements import EntitlementStore
    from tests.conftest import Browser, Clock, RunService

MONTHLY, PRIVATE, FORMER, STRANGER = 48_210_377, 73_355_190, 29_871_456, 112_493_071
ONE_TIME = 61_904_882
ACTIVE = 5
"""Of the people by role: monthly, one-time, private, patreon, and the organization."""

SECRET = "a-secret-shared-with-github"
TOKEN = "an-administrators-token"
SPONSORS = 10_000
BYTES_A_SPONSOR = 600
"""Some 360 were measured: the best that was told of each, and one page at a time."""


class Way(httpx.AsyncBaseTransport):
    """The way to GitHub; `before` is called ahead of each page, with its number from 1.

    While there is a `limit`, that is the answer, with these headers.
    """

    def __init__(self, rest: httpx.AsyncBaseTransport) -> None:
        self._rest = rest
        self._answers: list[bytes] = []
        self._next: Iterator[bytes] | None = None
        self.pages = 0
        self.before: Callable[[int], Awaitable[None]] | None = None
        self.rewrite: Callable[[bytes], bytes] | None = None
        self.limit: Mapping[str, str] | None = None

    def replay(self) -> None:
        """Answers from now on what GitHub has answered so far, without asking again."""
        self._next = iter(self._answers)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Leads there."""
        self.pages += 1
        if self.before is not None:
            await self.before(self.pages)
        if self.limit is not None:
            return httpx.Response(429, headers=self.limit)
        if self._next is not None:
            return httpx.Response(200, content=next(self._next))
        response = await self._rest.handle_async_request(request)
        self._answers.append(await response.aread())
        if self.rewrite is not None:
            return httpx.Response(200, content=self.rewrite(self._answers[-1]))
        return response


@dataclass(frozen=True)
class Nap:
    """A wait that was asked for, and for how long nobody else may compare at that moment."""

    seconds: float
    held_ms: int


@dataclass
class Replica:
    """One replica's parts that compare, and GitHub."""

    reconciler: Reconciler
    entitlements: EntitlementStore
    reconciliations: ReconciliationStore
    local_store: RedisStore
    github: SimulatedGitHub
    local: Redis
    clock: Clock
    way: Way
    naps: list[Nap]

    async def compare(self, **more: Any) -> ReconcileSummary:  # noqa: ANN401 - run's own
        """Compares, some time after whatever was before."""
        self.clock.advance(minutes=1)
        return await self.reconciler.run(**more)

    @asynccontextmanager
    async def comparing(self) -> AsyncIterator[asyncio.Task[ReconcileSummary]]:
        """Yields a comparison that waits for GitHub's first answer, and lets it go on then."""
        may_answer = asyncio.Event()

        async def wait(page: int) -> None:
            if page == 1:
                await may_answer.wait()

        self.way.before = wait
        task = asyncio.create_task(self.compare())
        try:
            await until(lambda: _has_asked(self, 1))
            yield task
        finally:
            may_answer.set()
            await task

    async def let_in(self, person_id: int) -> None:
        """Entitlements somebody by hand."""
        given = Grant(source=EntitlementSource.OVERRIDE, since=self.clock.now, until=None)

        def decide(known: EntitlementFacts | None) -> EntitlementFacts:
            facts = known or EntitlementFacts(SPONSORABLE, checked_at=None)
            return replace(facts, grants=(given,))

        await self.entitlements.change(SPONSORABLE, person_id, decide, by="override")

    async def entitled(self) -> set[int]:
        """Returns the index of who is entitled."""
        return {int(each) for each in await self.local.smembers(keys.sponsors(SPONSORABLE))}

    async def facts(self, person_id: int) -> dict[str, str]:
        """Returns what is kept of somebody."""
        kept = await self.local.hgetall(keys.sponsorship(SPONSORABLE, person_id))
        return {str(field): str(value) for field, value in kept.items()}

    async def audited(self) -> list[tuple[str, int]]:
        """Returns what happened to whom, the first first."""
        entries = cast("list[tuple[str, dict[str, str]]]", await self.local.xrange(keys.AUDIT))
        return [(fields["what"], int(fields["id"])) for _, fields in entries]


@asynccontextmanager
async def open_replica(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock, *, login: str
) -> AsyncIterator[Replica]:
    """Opens a replica that asks GitHub with somebody's token."""
    token = SecretStr(github.tokens.issue(github.people.get_person(login)))
    async with AsyncExitStack() as stack:
        redis_pair = await open_redis_pair(stack, settings)
        way = Way(httpx.ASGITransport(github.app))
        naps: list[Nap] = []

        async def sleep(seconds: float) -> None:
            naps.append(Nap(seconds, await local.pttl(keys.RECONCILING)))
            assert len(naps) < 1000, "it would wait for ever"

        client = create_http_client(way, timeout_s=5)
        await stack.enter_async_context(client)
        entitlements = create_entitlements(
            settings, redis_pair, create_people(settings, redis_pair)
        )
        reconciliations = ReconciliationStore(redis_pair.local, sponsorables=settings.sponsorables)
        reconciler = Reconciler(
            GitHubClient(client, api_url=settings.github_api_url),
            entitlements,
            reconciliations,
            token=token,
            sponsorables=settings.sponsorables,
            policy=settings.entitlement_policy,
            clock=clock,
            sleep=sleep,
        )
        yield Replica(
            reconciler,
            entitlements,
            reconciliations,
            redis_pair.local,
            github,
            local,
            clock,
            way,
            naps,
        )


@pytest.fixture
async def replica(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock
) -> AsyncIterator[Replica]:
    """A replica with the maintainer's token.

    Its clock is a day late: what it ends is over to Redis, too, which has a clock of its own.
    """
    clock.advance(days=-1)
    async with open_replica(settings, github, local, clock, login="maintainer") as opened:
        yield opened


# ---------------------------------------------------------------------- what is repaired


async def test_a_first_comparison_learns_of_everybody(replica: Replica) -> None:
    """Private, paid once, by Patreon and by an organization; who stopped long ago is no news."""
    summary = await replica.compare()

    assert (summary.reason, summary.counts) == (None, {"created": ACTIVE})
    assert (summary.total, summary.people, summary.pages) == (ACTIVE + 1, ACTIVE + 1, 1)
    assert PRIVATE in await replica.entitled()
    assert await replica.facts(FORMER) == {}
    assert (summary.points, summary.budget is not None) == (1, True)
    assert await replica.local.sismember(keys.DIRTY, str(PRIVATE))


async def test_the_same_again_changes_nothing(replica: Replica) -> None:
    """Nobody becomes dirty, and nothing is reported."""
    await replica.compare()
    await replica.local.delete(keys.DIRTY)
    summary = await replica.compare()

    assert (summary.counts, summary.newer) == ({}, 0)
    assert await replica.local.scard(keys.DIRTY) == 0


async def test_a_missed_created_is_repaired_and_reported(replica: Replica) -> None:
    """As if the webhook had come."""
    await replica.compare()
    replica.github.people.sponsor("stranger", SPONSORABLE, cents=500)
    summary = await replica.compare()

    assert [(d.person_id, d.kind) for d in summary.drifts] == [(STRANGER, "created")]
    assert STRANGER in await replica.entitled()
    assert (await replica.facts(STRANGER))["tier_cents"] == "500"
    assert (await replica.audited())[-1] == ("granted", STRANGER)


@pytest.mark.parametrize("how", ["is listed as ended", "is not listed"])
async def test_a_missed_cancelled_is_repaired_and_reported(replica: Replica, how: str) -> None:
    """Whether GitHub still lists the sponsorship or not."""
    await replica.compare()
    people = replica.github.people
    [sponsorship] = people.sponsorships_of(people.get("monthly"))
    sponsorship.is_ended = True
    if how == "is not listed":
        people.sponsorships.remove(sponsorship)
    summary = await replica.compare()

    assert [(d.person_id, d.kind) for d in summary.drifts] == [(MONTHLY, "ended")]
    assert MONTHLY not in await replica.entitled()
    assert (await replica.audited())[-1] == ("lost", MONTHLY)


async def test_another_tier_is_repaired_and_reported(replica: Replica) -> None:
    """And what else changed."""
    await replica.compare()
    [sponsorship] = replica.github.people.sponsorships_of(replica.github.people.get("monthly"))
    assert sponsorship.tier is not None
    sponsorship.tier.monthly_price_in_cents = 2500
    summary = await replica.compare()

    assert [(d.person_id, d.kind) for d in summary.drifts] == [(MONTHLY, "changed")]
    assert (await replica.facts(MONTHLY))["tier_cents"] == "2500"


async def test_a_dry_run_only_reports(replica: Replica) -> None:
    """The same, without a change."""
    summary = await replica.compare(dry_run=True)

    assert (summary.is_dry_run, summary.counts) == (True, {"created": ACTIVE})
    assert await replica.local.keys("*") == []


async def test_the_better_of_several_sponsorships_counts_over_pages(replica: Replica) -> None:
    """A former one may stand pages after the present one, and the other way round."""
    people = replica.github.people
    people.sponsor("stranger", SPONSORABLE, cents=700, days_ago=2000)
    for number in range(150):
        people.add_person(f"p{number}")
        people.sponsor(f"p{number}", SPONSORABLE, days_ago=500 + number)
    people.sponsor("stranger", SPONSORABLE, cents=100, days_ago=1, ended=True)
    people.sponsor("monthly", SPONSORABLE, cents=1, days_ago=3000, ended=True)
    first = await replica.compare()
    again = await replica.compare()

    assert (first.pages, again.counts) == (2, {})
    assert (await replica.facts(STRANGER))["tier_cents"] == "700"
    assert (await replica.facts(MONTHLY))["tier_cents"] == "1000"
    assert {"changed", "ended"}.isdisjoint(first.counts)


async def test_a_payment_beside_a_monthly_sponsorship_takes_nothing_from_it(
    replica: Replica,
) -> None:
    """It is newer, so it stands pages before; a failure in between leaves what was granted."""
    people = replica.github.people
    for number in range(150):
        people.add_person(f"p{number}")
        people.sponsor(f"p{number}", SPONSORABLE, days_ago=2 + number / 10)
    people.sponsor("monthly", SPONSORABLE, cents=100, days_ago=1, one_time=True)
    await replica.compare()
    known = await replica.facts(MONTHLY)
    replica.way.pages, between = 0, {}

    async def look(page: int) -> None:
        between[page] = await replica.facts(MONTHLY)
        replica.github.switches.forbidden = page > 1

    replica.way.before = look
    failed = await replica.compare()
    replica.way.before, replica.github.switches.forbidden = None, False
    complete = await replica.compare()

    assert (known["tier_cents"], "valid_until" in known) == ("1000", False)
    assert between[2] == await replica.facts(MONTHLY) == known
    assert (failed.counts, complete.counts) == ({}, {})


async def test_what_only_completes_the_facts_is_no_drift(replica: Replica) -> None:
    """An event tells of no payment source, so nothing was missed."""
    await replica.compare()
    await replica.local.hdel(keys.sponsorship(SPONSORABLE, MONTHLY), "payment_source")
    summary = await replica.compare()

    assert (summary.counts, summary.drifts) == ({}, [])
    assert (await replica.facts(MONTHLY))["payment_source"] == "github"


async def test_what_was_decided_meanwhile_is_kept(replica: Replica) -> None:
    """A page, an override, and the end of the pages: each judges on what is known by then."""
    await replica.compare()
    people = replica.github.people
    [sponsorship] = people.sponsorships_of(people.get("monthly"))
    sponsorship.is_ended = True
    for number in range(150):
        people.add_person(f"p{number}")
        people.sponsor(f"p{number}", SPONSORABLE, days_ago=500 + number)
    replica.way.pages = 0

    async def let_in(page: int) -> None:
        if page > 1:
            await replica.let_in(MONTHLY)

    replica.way.before = let_in
    summary = await replica.compare()

    facts = await replica.facts(MONTHLY)
    assert summary.counts["ended"] == 1
    assert (int(facts["valid_until"]), facts["also_until"]) == (
        int(replica.clock.now.timestamp()),
        "never",
    )
    assert MONTHLY in await replica.entitled()


# ---------------------------------------------------------------------- unknown is not no


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        ("forbidden", True),
        ("forbidden_data", True),
        ("partial", True),
        ("rate_limited", True),
        ("secondary_limit", True),
        ("insufficient_scopes", True),
        ("fail", {"graphql"}),
        ("bad_json", {"graphql"}),
    ],
)
async def test_what_is_no_whole_answer_ends_nobody(
    replica: Replica, switch: str, value: object
) -> None:
    """Whatever was wrong; it says what, and when it may be asked again."""
    await replica.compare()
    before = await replica.entitled()
    people = replica.github.people
    people.sponsorships.clear()
    people.sponsor("stranger", SPONSORABLE)
    setattr(replica.github.switches, switch, value)
    summary = await replica.compare()

    assert summary.reason is not None
    assert (await replica.entitled(), summary.counts) == (before, {})
    assert (summary.retry_after_s == 60) == ("limit" in switch)
    assert await replica.local.exists(keys.RECONCILING) == 0


async def test_a_failure_on_the_last_page_ends_nobody(replica: Replica) -> None:
    """Who has come until then is entitled all the same."""
    await replica.compare()
    people = replica.github.people
    people.sponsorships.clear()
    for number in range(150):
        people.add_person(f"p{number}")
        people.sponsor(f"p{number}", SPONSORABLE, ended=number == 0)
    replica.way.pages = 0

    async def break_second(page: int) -> None:
        replica.github.switches.forbidden = page > 1

    replica.way.before = break_second
    failed = await replica.compare()
    after_failure = await replica.entitled()
    replica.way.before = None
    replica.github.switches.forbidden = False
    complete = await replica.compare()

    assert (failed.pages, list(failed.counts)) == (1, ["created"])
    assert MONTHLY in after_failure
    assert complete.counts["ended"] == ACTIVE - 1  # what was paid once has its own end
    assert MONTHLY not in await replica.entitled()


async def test_who_is_not_listed_may_be_one_who_is_hidden(replica: Replica) -> None:
    """GitHub lists null in the place of some sponsorships."""
    await replica.compare()
    [sponsorship] = replica.github.people.sponsorships_of(replica.github.people.get("monthly"))
    sponsorship.is_null = True
    summary = await replica.compare()

    assert (summary.hidden, summary.unknown, summary.counts) == (1, 1, {})
    assert MONTHLY in await replica.entitled()


async def test_who_is_listed_as_former_may_be_one_who_is_hidden(replica: Replica) -> None:
    """The one that goes on may be the one that is null."""
    await replica.compare()
    people = replica.github.people
    [sponsorship] = people.sponsorships_of(people.get("monthly"))
    sponsorship.is_null = True
    people.sponsor("monthly", SPONSORABLE, cents=100, days_ago=900, ended=True)
    summary = await replica.compare()

    assert (summary.hidden, summary.unknown, summary.counts) == (1, 1, {})
    assert MONTHLY in await replica.entitled()


async def test_an_answer_that_is_too_short_ends_nobody(replica: Replica) -> None:
    """It says itself how many there are."""
    await replica.compare()
    before = await replica.entitled()
    replica.way.rewrite = _without_nodes
    summary = await replica.compare()

    assert "0 of 6" in (summary.reason or "")
    assert (await replica.entitled(), summary.counts) == (before, {})


async def test_a_complete_answer_ends_the_time_of_not_knowing(replica: Replica) -> None:
    """Also of who is listed and not entitled: GitHub has told."""
    await replica.compare()
    people = replica.github.people
    [sponsorship] = people.sponsorships_of(people.get("monthly"))
    sponsorship.is_ended = True
    await replica.compare()
    key = keys.sponsorship(SPONSORABLE, MONTHLY)
    await replica.local.hset(key, "unknown_since", "1795420800")
    summary = await replica.compare()

    assert summary.counts == {}
    assert "unknown_since" not in await replica.facts(MONTHLY)


async def test_somebody_elses_token_is_refused(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock, replica: Replica
) -> None:
    """It sees no private sponsorship: each of them would end."""
    await replica.compare()
    async with open_replica(settings, github, local, clock, login="stranger") as other:
        summary = await other.compare()

    assert "does not belong to maintainer" in (summary.reason or "")
    assert PRIVATE in await replica.entitled()


async def test_an_organizations_sponsors_are_seen_by_its_owner(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock
) -> None:
    """The token is a person's."""
    owner = github.people.get_person("maintainer")
    github.people.add_organization("octo-org", owners=[owner], has_sponsors_listing=True)
    github.people.sponsor("private", "octo-org", private=True)
    settings = settings.model_copy(update={"sponsorables": ("octo-org", "gone")})
    async with open_replica(settings, github, local, clock, login="maintainer") as replica:
        summary = await replica.compare()

    assert await local.sismember(keys.sponsors("octo-org"), str(PRIVATE))
    assert summary.reason == "gone: GitHub knows no account gone."


async def test_news_that_come_meanwhile_stand(replica: Replica, run_service: RunService) -> None:
    """The answer is older: it neither ends who has just come, nor brings back who has just gone."""
    await replica.compare()
    people = replica.github.people
    [sponsorship] = people.sponsorships_of(people.get("monthly"))
    async with run_service(webhook_secret=SecretStr(SECRET)) as service:
        hook = Hook(
            url=f"{ORIGIN}/webhooks/github",
            secret=SECRET,
            base_url=GITHUB_URL,
            transport=httpx.ASGITransport(service.app),
        )
        joining = people.sponsor("stranger", SPONSORABLE)
        people.sponsorships.remove(joining)  # GitHub's answer is of before

        async def tell(_: int) -> None:
            await hook.send(hook.tell("created", joining))
            await hook.send(hook.tell("cancelled", sponsorship))

        replica.way.before = tell
        summary = await replica.compare()

    assert (summary.newer, summary.counts) == (2, {})
    assert STRANGER in await replica.entitled()
    assert MONTHLY not in await replica.entitled()


async def test_an_announced_end_is_kept(replica: Replica) -> None:
    """GitHub calls the sponsorship active until then, and says no more."""
    await replica.compare()
    end = int((replica.clock.now + timedelta(days=3)).timestamp())
    await replica.local.hset(keys.sponsorship(SPONSORABLE, MONTHLY), "valid_until", end)
    summary = await replica.compare()

    assert summary.counts == {}
    assert (await replica.facts(MONTHLY))["valid_until"] == str(end)


async def test_who_asked_is_told_that_they_are_no_sponsor(replica: Replica) -> None:
    """They were answered that it follows; who did not ask has no facts without being a sponsor."""
    await replica.compare()
    key = keys.sponsorship(SPONSORABLE, STRANGER)
    await replica.reconciliations.admit_refresh(STRANGER)
    await replica.compare(dry_run=True)
    before = await replica.facts(STRANGER)
    first = await replica.compare()
    told = await replica.facts(STRANGER)
    await replica.local.hset(key, "unknown_since", "1795420800")
    await replica.compare()
    unasked = await replica.facts(STRANGER)
    await replica.local.delete(f"sponsorsync:refreshed:{STRANGER}")  # a minute later
    await replica.reconciliations.admit_refresh(STRANGER)
    await replica.compare()

    assert (before, told["source"], first.counts) == ({}, "none", {})
    assert "unknown_since" in unasked
    assert "unknown_since" not in await replica.facts(STRANGER)
    assert await replica.reconciliations.load_awaiting(SPONSORABLE) == []


async def test_who_asked_and_may_be_hidden_stays_unknown(replica: Replica) -> None:
    """The one whom GitHub does not show may be anybody."""
    [sponsorship] = replica.github.people.sponsorships_of(replica.github.people.get("monthly"))
    sponsorship.is_null = True
    await replica.reconciliations.admit_refresh(MONTHLY)
    await replica.compare()

    assert await replica.facts(MONTHLY) == {}
    assert await replica.reconciliations.load_awaiting(SPONSORABLE) == [MONTHLY]


async def test_of_who_deleted_their_account_nothing_is_written(
    replica: Replica, run_service: RunService
) -> None:
    """Though they had asked before."""
    async with run_service() as service:
        browser = await service.open_browser()
        await browser.sign_in("stranger")
        await replica.reconciliations.admit_refresh(STRANGER)
        await browser.delete("/me")
    await replica.compare()

    assert await replica.facts(STRANGER) == {}


# ---------------------------------------------------------------------- wrong-type keys


async def test_a_foreign_key_of_one_person_is_in_nobody_elses_way(replica: Replica) -> None:
    """In the place of the entitlement, or the application's own; the comparison is complete."""
    await replica.compare()
    people = replica.github.people
    for role in ("monthly", "one-time", "patreon"):
        [sponsorship] = people.sponsorships_of(people.get(role))
        sponsorship.is_ended = True
    people.sponsor("stranger", SPONSORABLE)
    foreign = keys.sponsorship(SPONSORABLE, PRIVATE), keys.preferences(MONTHLY, "mnodes")
    for key in foreign:
        await replica.local.delete(key)
        await replica.local.set(key, "somebody else's")
    with capture_logs() as logs:
        summary = await replica.compare()
    told = {log["person"]: log["reason"] for log in logs if log["event"] == "entitlement_not_saved"}

    assert (summary.reason, summary.conflicts) == (None, 2)
    assert summary.counts == {"created": 1, "ended": 1}
    assert await replica.reconciler.load_last(SPONSORABLE) is not None
    assert STRANGER in await replica.entitled()
    assert (foreign[0] in told[PRIVATE], foreign[1] in told[MONTHLY]) == (True, True)


async def test_a_foreign_key_in_everybodys_way_is_told_and_nothing_is_complete(
    replica: Replica,
) -> None:
    """Nobody could be kept; that is no answer of GitHub's about anybody."""
    await replica.local.set(keys.AUDIT, "somebody else's")
    with capture_logs() as logs:
        summary = await replica.compare()

    assert "data of another kind" in (summary.reason or "")
    assert keys.AUDIT in str(logs)
    assert await replica.reconciler.load_last(SPONSORABLE) is None


# ---------------------------------------------------------------------- one at a time


async def test_one_replica_compares_at_a_time(replica: Replica) -> None:
    """The second is told so, while the first one waits for GitHub's answer."""
    async with replica.comparing() as first:
        with pytest.raises(JobRunningError):
            await replica.compare()
        pages = replica.way.pages
    summary = first.result()

    assert (pages, summary.reason, summary.pages) == (1, None, 1)
    assert await replica.local.exists(keys.RECONCILING) == 0


async def test_who_died_while_comparing_blocks_nobody_for_ever(replica: Replica) -> None:
    """Their right ends by itself; until then it is theirs."""
    await replica.local.set(keys.RECONCILING, "another", px=50_000)
    with pytest.raises(JobRunningError):
        await replica.compare()
    untouched = await replica.local.get(keys.RECONCILING)
    await replica.local.delete(keys.RECONCILING)
    held_ms = 0

    async def look(_: int) -> None:
        nonlocal held_ms
        held_ms = await replica.local.pttl(keys.RECONCILING)

    replica.way.before = look
    summary = await replica.compare()

    assert (untouched, summary.reason) == ("another", None)
    assert 0 < held_ms <= keys.RECONCILING_TTL_MS


async def test_who_has_lost_the_right_stops(replica: Replica) -> None:
    """Another one is comparing by then."""

    async def lose(_: int) -> None:
        await replica.local.set(keys.RECONCILING, "another", px=50_000)

    replica.way.before = lose
    summary = await replica.compare()

    assert "another replica" in (summary.reason or "")
    assert await replica.entitled() == set()
    assert await replica.local.get(keys.RECONCILING) == "another"


async def test_ten_thousand_in_one_pass(replica: Replica) -> None:
    """A hundred pages, each kept before the next one is asked for; little of each is remembered."""
    _fill(replica.github.people, SPONSORS)
    await replica.compare(dry_run=True)
    replica.way.replay()
    with measured_peak() as peak:
        summary = await replica.compare()

    assert (summary.reason, summary.counts) == (None, {"created": SPONSORS})
    assert (summary.total, summary.people, summary.newer) == (SPONSORS, SPONSORS, 0)
    assert summary.points == summary.pages == SPONSORS // 100
    assert await replica.local.scard(keys.sponsors(SPONSORABLE)) == SPONSORS
    assert peak[0] < BYTES_A_SPONSOR * SPONSORS


def _fill(people: People, count: int) -> None:
    """Gives the maintainer so many sponsors, and no others."""
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
def measured_peak() -> Iterator[list[int]]:
    """Yields a list that holds, at the end, by how many bytes memory had grown at most."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------------- limits


def _retry_after(seconds: int) -> dict[str, str]:
    return {"retry-after": str(seconds)}


def _reset_in(seconds: int) -> dict[str, str]:
    at = int(datetime.now(UTC).timestamp()) + seconds
    return {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(at)}


@pytest.mark.parametrize(
    ("create_headers", "wait_s"),
    [(partial(_retry_after, 45), 45), (partial(_reset_in, 600), 600), (dict, 60)],
    ids=["Retry-After", "reset", "neither"],
)
async def test_a_short_limit_is_waited_out_between_two_pages(
    replica: Replica, create_headers: Callable[[], dict[str, str]], wait_s: int
) -> None:
    """A comparison that began anew each time would never come past the page of the limit."""
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


async def test_who_waits_keeps_the_right_to_compare(replica: Replica) -> None:
    """It is renewed before it ends; nobody else spends what is left of the limit."""

    async def limit_first(page: int) -> None:
        replica.way.limit = {"retry-after": "600"} if page == 1 else None
        await replica.local.pexpire(keys.RECONCILING, 1000)

    replica.way.before = limit_first
    await replica.compare()

    assert len(replica.naps) == 30
    assert min(nap.held_ms - 1000 * nap.seconds for nap in replica.naps) > 0


async def test_who_loses_the_right_while_waiting_stops(replica: Replica) -> None:
    """As between two pages."""

    async def lose(_: int) -> None:
        await replica.local.set(keys.RECONCILING, "another", px=50_000)

    replica.way.before = lose
    replica.way.limit = {"retry-after": "600"}
    summary = await replica.compare()

    assert "another replica" in (summary.reason or "")
    assert (replica.naps, replica.way.pages) == ([], 1)


@pytest.mark.parametrize(
    ("retry_after_s", "waited_s"), [(901, 0), (400, 800), (60, 900)], ids=["long", "two", "many"]
)
async def test_beyond_a_quarter_of_an_hour_it_gives_up(
    replica: Replica, retry_after_s: int, waited_s: int
) -> None:
    """At once where that is known, else once no page has come for so long."""
    replica.way.limit = {"retry-after": str(retry_after_s)}
    summary = await replica.compare()

    assert sum(nap.seconds for nap in replica.naps) == waited_s
    assert summary.retry_after_s == retry_after_s
    assert f"It may be asked again in {retry_after_s} s." in (summary.reason or "")
    assert await replica.local.exists(keys.RECONCILING) == 0


async def test_a_job_that_waits_says_until_when_and_may_be_stopped(
    run_service: RunService, github: SimulatedGitHub, local: Redis, clock: Clock
) -> None:
    """The service ends without waiting, and lets others compare."""
    token = SecretStr(github.tokens.issue(github.people.get_person("maintainer")))
    github.switches.rate_limited = True
    github.switches.retry_after_s = 600
    async with run_service(
        admin_token=SecretStr(TOKEN), maintainer_token=token, reconcile_hours=0
    ) as service:
        browser = await service.open_browser()
        browser.headers["Authorization"] = f"Bearer {TOKEN}"
        await browser.post("/admin/reconcile")

        async def is_waiting() -> bool:
            return (await browser.get("/admin/reconcile")).json()["waiting_until"] is not None

        await until(is_waiting)
        state = (await browser.get("/admin/reconcile")).json()
        held = await local.exists(keys.RECONCILING)

    assert (state["status"], held) == ("running", 1)
    assert datetime.fromisoformat(state["waiting_until"]) == clock.now + timedelta(seconds=600)
    assert await local.exists(keys.RECONCILING) == 0


# ---------------------------------------------------------------------- who starts it


async def test_without_a_token_or_for_another_login_nothing_begins(
    run_service: RunService, github: SimulatedGitHub
) -> None:
    """The answer names the setting."""
    token = SecretStr(github.tokens.issue(github.people.get_person("maintainer")))
    admin = {"admin_token": SecretStr(TOKEN)}
    async with (
        run_service(**admin) as service,
        run_service(**admin, maintainer_token=token, reconcile_hours=0) as other,
    ):
        browser, second = await service.open_browser(), await other.open_browser()
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        missing = await browser.post("/admin/reconcile", headers=bearer)
        unknown = await second.post("/admin/reconcile?sponsorable=nobody", headers=bearer)

    assert (missing.status_code, missing.json()["code"]) == (409, "no_maintainer_token")
    assert "SPONSORSYNC_MAINTAINER_TOKEN" in missing.json()["detail"]
    assert unknown.status_code == 422


async def test_an_administrator_starts_it_and_reads_the_trail(
    run_service: RunService, github: SimulatedGitHub
) -> None:
    """202 at once, the state until it is done, and each grant afterwards, page by page."""
    token = SecretStr(github.tokens.issue(github.people.get_person("maintainer")))
    async with run_service(
        admin_token=SecretStr(TOKEN), maintainer_token=token, reconcile_hours=0
    ) as service:
        browser = await service.open_browser()
        browser.headers["Authorization"] = f"Bearer {TOKEN}"
        started = await browser.post("/admin/reconcile?sponsorable=Maintainer")

        async def has_ended() -> bool:
            return bool((await browser.get("/admin/reconcile")).json()["ended_at"])

        await until(has_ended)
        state = (await browser.get("/admin/reconcile")).json()
        first = (await browser.get("/admin/audit?limit=3")).json()
        second = (await browser.get(f"/admin/audit?limit=3&before={first['next_before']}")).json()
        wrong = await browser.get("/admin/audit?before=yesterday")

    entries = first["entries"] + second["entries"]
    assert (started.status_code, state["status"], wrong.status_code) == (202, "done", 422)
    assert (state["people"], state["summary"]["counts"]) == (ACTIVE + 1, {"created": ACTIVE})
    assert {(entry["what"], entry["by"]) for entry in entries} == {("granted", "reconcile")}
    assert len({entry["person_id"] for entry in entries}) == ACTIVE
    assert state["summary"]["budget"]["remaining"] == state["summary"]["budget"]["limit"] - 1
    assert (entries[0]["before"], entries[0]["after"]["source"]) == ({}, "sponsorship")
    assert second["next_before"] is None


async def test_the_service_compares_after_its_start_and_after_events(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock
) -> None:
    """The wait in between is the schedule's, and short here."""
    async with open_replica(settings, github, local, clock, login="maintainer") as replica:
        schedule = _schedule(replica, Pace(every=timedelta(hours=24), settle_s=0.01, pause_s=0.01))
        async with _running(schedule):
            await until(lambda: _is_entitled(replica, MONTHLY))
            clock.advance(hours=1)
            github.people.sponsor("stranger", SPONSORABLE)
            await schedule.request(SPONSORABLE)
            await until(lambda: _is_entitled(replica, STRANGER))
            pages = replica.way.pages

    assert pages == 2


async def test_what_was_compared_a_while_ago_is_due_after_its_time_only(
    replica: Replica,
) -> None:
    """By whichever replica, before a restart or after it."""
    await replica.compare()
    pace = Pace(every=timedelta(hours=24), settle_s=0.0, pause_s=0.0, check_s=0.01)
    async with _running(_schedule(replica, pace)):
        await asyncio.sleep(0.1)
        early = replica.way.pages
        replica.clock.advance(hours=24)
        await until(lambda: _has_asked(replica, 2))
        await asyncio.sleep(0.1)

    assert (early, replica.way.pages) == (1, 2)


@pytest.mark.parametrize("method", ["load_requests", "load_reconciled"])
async def test_an_unforeseen_failure_does_not_end_the_schedule(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Nobody would notice before entitles are wrong for days."""
    answers = iter([RuntimeError("unforeseen")])
    is_right = getattr(replica.reconciliations, method)

    async def fail_once(*arguments: str) -> object:
        for error in answers:
            raise error
        return await is_right(*arguments)

    monkeypatch.setattr(replica.reconciliations, method, fail_once)
    pace = Pace(every=timedelta(hours=24), settle_s=0.0, check_s=0.01)
    with capture_logs() as logs:
        async with _running(_schedule(replica, pace)):
            await until(lambda: _is_entitled(replica, MONTHLY))

    assert [log for log in logs if log["event"] == "loop_failed"] != []


async def test_a_failing_question_of_what_is_due_does_not_stop_what_was_asked_for(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event's look does not depend on the clock's."""

    async def fail(_: str) -> datetime:
        raise RuntimeError("unforeseen")

    schedule = _schedule(replica, Pace(every=timedelta(hours=24), settle_s=0.0, check_s=0.01))
    schedule._sponsorables = ("broken", SPONSORABLE)
    monkeypatch.setattr(replica.reconciler, "load_last", fail)
    with capture_logs():
        async with _running(schedule):
            await schedule.request(SPONSORABLE)
            await until(lambda: _is_entitled(replica, MONTHLY))


async def test_an_unforeseen_failure_of_one_look_leaves_the_others_their_turn(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And GitHub is not asked again before the pause is over."""
    looks: list[str] = []

    async def run(sponsorable: str) -> ReconcileSummary:
        looks.append(sponsorable)
        if sponsorable == "broken":
            raise RuntimeError("unforeseen")
        return ReconcileSummary()

    async def have_all_had_their_turn() -> bool:
        return SPONSORABLE in looks

    async def load_last(_: str) -> None:
        return None

    schedule = _schedule(replica, Pace(every=timedelta(hours=24), settle_s=0.0, check_s=0.01))
    schedule._sponsorables = ("broken", SPONSORABLE)
    monkeypatch.setattr(replica.reconciler, "run", run)
    monkeypatch.setattr(replica.reconciler, "load_last", load_last)
    with capture_logs() as logs:
        async with _running(schedule):
            await until(have_all_had_their_turn)

    assert looks == ["broken", SPONSORABLE]
    assert [log["event"] for log in logs] == ["loop_failed"]


async def test_several_events_are_one_look(replica: Replica) -> None:
    """A burst costs GitHub no more than one event does."""
    schedule = _schedule(replica, Pace(every=None, settle_s=0.05, pause_s=60))
    async with _running(schedule):
        for _ in range(50):
            await schedule.request(SPONSORABLE)
        await until(lambda: _has_asked(replica, 1))
        await schedule.request(SPONSORABLE)
        await asyncio.sleep(0.2)

    assert replica.way.pages == 1


@pytest.mark.parametrize(
    ("create_headers", "wait_s"),
    [
        (partial(_retry_after, 1200), 1200),
        (partial(_retry_after, 20), 60),
        (partial(_reset_in, 7200), 7200),
        (dict, 60),
    ],
    ids=["Retry-After", "short", "reset", "neither"],
)
async def test_github_is_left_alone_after_it_refused(
    replica: Replica, create_headers: Callable[[], dict[str, str]], wait_s: int
) -> None:
    """For as long as it says, a minute at least, whatever is asked for meanwhile."""
    replica.way.limit = create_headers()
    schedule = _schedule(replica, Pace(every=None, settle_s=0.0, pause_s=0.0, check_s=0.01))

    async def ask_meanwhile(_: int) -> None:
        await schedule.request(SPONSORABLE)

    async def waits() -> bool:
        return any(log["event"] == "reconcile_waits" for log in logs)

    replica.way.before = ask_meanwhile
    with capture_logs() as logs:
        async with _running(schedule):
            await schedule.request(SPONSORABLE)
            await until(waits)
            pages = replica.way.pages
            await schedule.request(SPONSORABLE)
            await asyncio.sleep(0.1)
    [waited_s] = [log["seconds"] for log in logs if log["event"] == "reconcile_waits"]

    assert replica.way.pages == pages
    assert waited_s == pytest.approx(wait_s, abs=30)


async def test_what_another_replica_has_compared_is_not_compared_again(replica: Replica) -> None:
    """Both found it due in the same minute."""
    schedule = _schedule(replica, Pace(every=timedelta(hours=1), settle_s=0.2, check_s=0.02))
    async with _running(schedule):
        await asyncio.sleep(0.05)
        await replica.reconciliations.save_reconciled(SPONSORABLE, replica.clock.now)
        await asyncio.sleep(0.5)

    assert replica.way.pages == 0


async def test_a_look_that_was_asked_for_outlasts_a_restart(replica: Replica) -> None:
    """What asked for it was answered, and does not come again."""
    pace = Pace(every=None, settle_s=0.0, pause_s=60, check_s=0.01)
    await _schedule(replica, pace).request(SPONSORABLE)
    async with _running(_schedule(replica, pace)):
        await until(lambda: _is_entitled(replica, MONTHLY))
        await until(lambda: _is_done(replica))

    assert replica.way.pages == 1


async def test_a_look_is_done_by_a_complete_comparison_only(replica: Replica) -> None:
    """Whoever ran it; a dry run keeps nothing."""
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


async def test_who_asks_while_it_is_looked_is_not_answered_by_that(replica: Replica) -> None:
    """GitHub's answer may be of before; also of an end that another replica sweeps."""
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


async def test_a_look_of_another_replica_is_not_repeated(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them see that one is wanted."""
    schedule = _schedule(replica, Pace(every=None, settle_s=0.0, check_s=0.01))
    await schedule.request(SPONSORABLE)
    await replica.compare()  # as the other one does
    load_requests, times = replica.reconciliations.load_requests, 0

    async def count() -> dict[str, str]:
        nonlocal times
        times += 1
        return await load_requests()

    async def has_gone_round() -> bool:
        return times > 3

    monkeypatch.setattr(replica.reconciliations, "load_requests", count)
    async with _running(schedule):
        await until(has_gone_round)

    assert replica.way.pages == 1


async def test_who_takes_back_a_cancellation_is_entitled_soon_after_its_end(
    replica: Replica,
) -> None:
    """GitHub tells of the cancellation, and never that it was taken back."""
    await replica.compare()
    ends = int(replica.clock.now.timestamp()) + 60  # a day ago to Redis
    key = keys.sponsorship(SPONSORABLE, MONTHLY)
    await replica.local.hset(key, "valid_until", ends)
    await replica.local.zadd(keys.ENTITLEMENT_ENDS, {f"{SPONSORABLE}:{MONTHLY}": ends})
    replica.clock.advance(minutes=2)
    await end_entitlements(replica.local_store)
    ended = MONTHLY not in await replica.entitled()
    schedule = _schedule(replica, Pace(every=None, settle_s=0.0, check_s=0.02))
    async with _running(schedule):
        await until(lambda: _is_entitled(replica, MONTHLY))

    assert ended
    assert "valid_until" not in await replica.facts(MONTHLY)


async def test_a_payment_that_ends_is_no_reason_to_look(replica: Replica) -> None:
    """Its end was known from the beginning."""
    await replica.compare()
    member = f"{SPONSORABLE}:{ONE_TIME}"
    await replica.local.hset(keys.sponsorship(SPONSORABLE, ONE_TIME), "valid_until", 1)
    await replica.local.zadd(keys.ENTITLEMENT_ENDS, {member: 1})
    await end_entitlements(replica.local_store)

    assert await replica.reconciliations.load_requests() == {}


def _schedule(replica: Replica, pace: Pace) -> ReconcileSchedule:
    return ReconcileSchedule(
        replica.reconciler,
        replica.reconciliations,
        sponsorables=(SPONSORABLE,),
        pace=pace,
        clock=replica.clock,
    )


@asynccontextmanager
async def _running(schedule: ReconcileSchedule) -> AsyncIterator[None]:
    async with open_supervisor() as supervisor:
        schedule.start(supervisor)
        yield


async def _is_entitled(replica: Replica, person_id: int) -> bool:
    return person_id in await replica.entitled()


async def _is_done(replica: Replica) -> bool:
    return await replica.reconciliations.load_requests() == {}


async def _has_asked(replica: Replica, pages: int) -> bool:
    return replica.way.pages >= pages


def test_what_could_not_begin_says_why(replica: Replica) -> None:
    """Before anything is asked."""
    replica.reconciler.check("Maintainer")
    with pytest.raises(InvalidInputError):
        replica.reconciler.check("nobody")
    replica.reconciler._token = None
    with pytest.raises(NoMaintainerTokenError):
        replica.reconciler.check(None)


async def test_a_failure_is_told_of_until_one_is_complete(
    replica: Replica, run_service: RunService, settings: Settings
) -> None:
    """Also of the schedule's own, and before there ever was a complete one; not of a dry run."""
    told: list[tuple[object, object, str, list[str]]] = []

    async def look(browser: Browser) -> None:
        [last] = (await browser.get("/admin/reconcile")).json()["last"]
        metrics = (await browser.get("/metrics")).text
        [failing] = re.findall(r"^sponsorsync_reconcile_failing.*$", metrics, re.MULTILINE)
        diagnostics = [f.seen for f in await examine(settings) if "comparing" in f.subject]
        told.append((last["failed_at"], last["reason"], failing, diagnostics))

    async with run_service(admin_token=SecretStr(TOKEN)) as service:
        browser = await service.open_browser()
        browser.headers["Authorization"] = f"Bearer {TOKEN}"
        await look(browser)
        replica.github.switches.forbidden = True
        await replica.compare(dry_run=True)
        await look(browser)
        failed = await replica.compare()
        await look(browser)
        replica.github.switches.forbidden = False
        await replica.compare()
        await look(browser)
        [last] = (await browser.get("/admin/reconcile")).json()["last"]

    metric = f'sponsorsync_reconcile_failing{{sponsorable="{SPONSORABLE}"}}'
    fine: tuple[object, ...] = (None, None, f"{metric} 0.0", [])
    failed_at, reason, failing, [seen] = told[2]
    assert [told[0], told[1], told[3]] == [fine, fine, fine]
    assert failing == f"{metric} 1.0"
    assert failed.reason == f"{SPONSORABLE}: {reason}"
    assert seen.endswith(f"UTC for {SPONSORABLE}: {reason}")
    assert datetime.fromisoformat(str(failed_at)) < replica.clock.now
    assert last["sponsorable"] == SPONSORABLE
    assert datetime.fromisoformat(last["reconciled_at"]) == replica.clock.now.replace(microsecond=0)


async def test_a_limit_is_noted_as_a_failure(replica: Replica) -> None:
    """One that is too long to be waited for ends a comparison, too."""
    replica.way.limit = {"retry-after": "3600"}
    await replica.compare()
    [last] = await replica.reconciler.load_last_reconciles()

    assert last.failed is not None
    assert "It may be asked again in 3600 s." in last.failed.reason


async def test_what_nobody_foresaw_is_noted_as_a_failure(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedule has it in the log alone."""
    monkeypatch.setattr(replica.entitlements, "load", AsyncMock(side_effect=RuntimeError))
    with pytest.raises(RuntimeError):
        await replica.compare()
    [last] = await replica.reconciler.load_last_reconciles()

    assert last.failed is not None
    assert "our fault" in last.failed.reason


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"at": "x", "reason": 1}', '{"at": 1e30}'])
async def test_what_somebody_else_wrote_is_no_failure(replica: Replica, text: str) -> None:
    """It must not keep the doctor from looking at the rest."""
    await replica.local.hset(keys.RECONCILE_FAILED, SPONSORABLE, text)
    [last] = await replica.reconciler.load_last_reconciles()

    assert last.failed is None


async def test_the_state_of_a_job_is_told_without_redis(run_service: RunService) -> None:
    """What other replicas did is not known then, which is not 'nothing'."""
    async with run_service(
        admin_token=SecretStr(TOKEN), redis_url=SecretStr("redis://127.0.0.1:1/0")
    ) as service:
        browser = await service.open_browser()
        answer = await browser.get("/admin/reconcile", headers={"Authorization": f"Bearer {TOKEN}"})

    assert (answer.status_code, answer.json()["last"]) == (200, None)


async def test_metrics_tell_when_the_last_complete_comparison_was(
    replica: Replica, run_service: RunService
) -> None:
    """An alarm is made of its age; one that did not come to its end does not count."""
    await replica.compare()
    began_at = int(replica.clock.now.timestamp())
    replica.github.switches.forbidden = True
    await replica.compare()
    async with run_service() as service:
        text = (await (await service.open_browser()).get("/metrics")).text
    [line] = re.findall(
        r"^sponsorsync_reconciled_timestamp_seconds(\{.*) (.*)$", text, re.MULTILINE
    )

    assert line[0] == f'{{sponsorable="{SPONSORABLE}"}}'
    assert int(float(line[1])) == began_at


# ---------------------------------------------------------------------- the command


async def test_the_command_repairs_and_reports(
    github: SimulatedGitHub,
    local_server: EmbeddedValkey,
    durable_server: EmbeddedValkey,
    local: Redis,
    durable: Redis,
    tmp_path: Path,
) -> None:
    """As JSON and for people; 1 where GitHub did not tell everything."""
    assert durable is not None  # it is empty now
    token = github.tokens.issue(github.people.get_person("maintainer"))
    sock = bind_next_free("127.0.0.1", 0)  # any
    environment = {
        "SPONSORSYNC_GITHUB_API_URL": f"http://127.0.0.1:{port_of(sock)}/api",
        "SPONSORSYNC_MAINTAINER_TOKEN": token,
        "NO_PROXY": "127.0.0.1",
    }

    async def reconcile(*options: str) -> tuple[int, str, str]:
        return await run_command(
            tmp_path,
            local_server.url,
            durable_server.url,
            "reconcile",
            *options,
            environment=environment,
        )

    async with run_server(github.app, sock):
        status, out, _ = await reconcile("--dry-run", "--json")
        dry, keys_after_dry = json.loads(out), await local.keys("sponsorship:*")
        told, text, _ = await reconcile("--sponsorable", "maintainer")
        github.switches.rate_limited = True
        github.switches.retry_after_s = 3600
        limited, limits, errors = await reconcile()

    assert (status, dry["counts"], keys_after_dry) == (0, {"created": ACTIVE}, [])
    assert (told, limited) == (0, 1)
    assert f"{ACTIVE} entitles were created" in text
    assert "points of GitHub's rate limit; 4,998 of 5,000 are left until" in text
    assert "nobody's entitlement was ended: GitHub's rate limit is reached" in limits
    assert token not in out + text + limits + errors


def _without_nodes(answer: bytes) -> bytes:
    content = json.loads(answer)
    content["data"]["repositoryOwner"]["sponsorshipsAsMaintainer"]["nodes"] = []
    return json.dumps(content).encode()
