"""A replica that reconciles, and a transport to GitHub that tests can disturb."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.background import open_supervisor
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.sources import EntitlementSource, Grant
from sponsorsync.github.client import GitHubClient
from sponsorsync.http_client import create_http_client
from sponsorsync.reconcile.reconciler import Reconciler
from sponsorsync.reconcile.report import ReconcileSummary
from sponsorsync.reconcile.schedule import Pace, ReconcileSchedule
from sponsorsync.redis_pair import create_entitlements, create_people, open_redis_pair
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.entitlements import EntitlementStore
from sponsorsync.store.reconciliations import ReconciliationStore
from tests.conftest import SPONSORABLE, Clock
from tests.support.waiting import until

ACTIVE = 5
"""The number of active sponsors: monthly, one-time, private, patreon and an organization."""


class Way(httpx.AsyncBaseTransport):
    """A transport to GitHub; `before` is called ahead of each request, with its number from 1.

    While `limit` is set, every answer is a rate limit with these headers. `rewrite` changes the
    body of an answer.
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
        """Answers later requests with the recorded answers, in their order."""
        self._next = iter(self._answers)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Forwards the request, or answers with a limit or a recorded answer."""
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
    """A wait of the reconciler, and the remaining TTL of its lock at the start of the wait."""

    seconds: float
    lock_ms: int


@dataclass
class Replica:
    """The parts of one service process that reconcile, and the simulated GitHub."""

    reconciler: Reconciler
    entitlements: EntitlementStore
    reconciliations: ReconciliationStore
    local_store: RedisStore
    github: SimulatedGitHub
    local: Redis
    clock: Clock
    way: Way
    naps: list[Nap] = field(default_factory=list)

    async def compare(self, **more: Any) -> ReconcileSummary:  # noqa: ANN401 - run's own
        """Advances the clock by a minute, then reconciles."""
        self.clock.advance(minutes=1)
        return await self.reconciler.run(**more)

    @asynccontextmanager
    async def comparing(self) -> AsyncIterator[asyncio.Task[ReconcileSummary]]:
        """Yields a reconcile that waits for GitHub's first answer until the block ends."""
        may_answer = asyncio.Event()

        async def wait(page: int) -> None:
            if page == 1:
                await may_answer.wait()

        self.way.before = wait
        task = asyncio.create_task(self.compare())
        try:
            await until(lambda: self.has_asked(1))
            yield task
        finally:
            may_answer.set()
            await task

    @asynccontextmanager
    async def running(self, schedule: ReconcileSchedule) -> AsyncIterator[None]:
        """Runs a schedule until the block ends."""
        async with open_supervisor() as supervisor:
            schedule.start(supervisor)
            yield

    def create_schedule(self, pace: Pace) -> ReconcileSchedule:
        """Returns a schedule that is not started yet."""
        return ReconcileSchedule(
            self.reconciler,
            self.reconciliations,
            sponsorables=(SPONSORABLE,),
            pace=pace,
            clock=self.clock,
        )

    def add_sponsors(self, count: int, **options: Any) -> None:  # noqa: ANN401 - sponsor's own
        """Adds sponsors; each began a tenth of a day before the previous one."""
        days_ago = options.pop("days_ago", 500)
        for number in range(count):
            self.github.people.add_person(f"p{number}")
            self.github.people.sponsor(
                f"p{number}", SPONSORABLE, days_ago=days_ago + number / 10, **options
            )

    async def override(self, person_id: int) -> None:
        """Entitles a person by an administrator's override."""
        grant = Grant(source=EntitlementSource.OVERRIDE, since=self.clock.now, until=None)

        def decide(stored: EntitlementFacts | None) -> EntitlementFacts:
            facts = stored or EntitlementFacts(SPONSORABLE, checked_at=None)
            return replace(facts, grants=(grant,))

        await self.entitlements.change(SPONSORABLE, person_id, decide, by="override")

    async def has_asked(self, pages: int) -> bool:
        """Returns whether GitHub has been asked for at least so many pages."""
        return self.way.pages >= pages

    async def is_entitled(self, person_id: int) -> bool:
        """Returns whether a person is in the index of entitled people."""
        return person_id in await self.entitled()

    async def entitled(self) -> set[int]:
        """Returns the ids in the index of entitled people."""
        return {int(each) for each in await self.local.smembers(keys.sponsors(SPONSORABLE))}

    async def facts(self, person_id: int) -> dict[str, str]:
        """Returns the stored facts of a person."""
        fields = await self.local.hgetall(keys.sponsorship(SPONSORABLE, person_id))
        return {str(field): str(value) for field, value in fields.items()}

    async def last_audited(self) -> tuple[str, int]:
        """Returns the kind of the last change in the audit trail, and the id of its person."""
        entries = await self.local.xrevrange(keys.AUDIT, count=1)
        [(_, fields)] = cast("list[tuple[str, dict[str, str]]]", entries)
        return fields["what"], int(fields["id"])


@asynccontextmanager
async def open_replica(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock, *, login: str
) -> AsyncIterator[Replica]:
    """Opens a replica that asks GitHub with a token of the person with this login."""
    async with AsyncExitStack() as stack:
        redis_pair = await open_redis_pair(stack, settings)
        way = Way(httpx.ASGITransport(github.app))
        naps: list[Nap] = []

        async def sleep(seconds: float) -> None:
            naps.append(Nap(seconds, await local.pttl(keys.RECONCILING)))
            assert len(naps) < 1000, "it would wait for ever"

        client = create_http_client(way, timeout_s=5)
        await stack.enter_async_context(client)
        people = create_people(settings, redis_pair)
        entitlements = create_entitlements(settings, redis_pair, people)
        reconciliations = ReconciliationStore(redis_pair.local, sponsorables=settings.sponsorables)
        reconciler = Reconciler(
            GitHubClient(client, api_url=settings.github_api_url),
            entitlements,
            reconciliations,
            token=issue_token(github, login),
            sponsorables=settings.sponsorables,
            policy=settings.entitlement_policy,
            clock=clock,
            sleep=sleep,
        )
        parts = (reconciler, entitlements, reconciliations, redis_pair.local)
        yield Replica(*parts, github, local, clock, way, naps)


@pytest.fixture
async def replica(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock
) -> AsyncIterator[Replica]:
    """A replica with the maintainer's token.

    Its clock is a day behind that of Redis, so an end that it saves has passed for Redis.
    """
    clock.advance(days=-1)
    async with open_replica(settings, github, local, clock, login="maintainer") as opened:
        yield opened


def retry_after(seconds: int) -> dict[str, str]:
    """Returns the header of a rate limit that lasts so many seconds."""
    return {"retry-after": str(seconds)}


def reset_in(seconds: int) -> dict[str, str]:
    """Returns the headers of a used-up rate limit that is reset after so many seconds."""
    at = int(datetime.now(UTC).timestamp()) + seconds
    return {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(at)}


def issue_token(github: SimulatedGitHub, login: str = "maintainer") -> SecretStr:
    """Returns a new token of a person."""
    return SecretStr(github.tokens.issue(github.people.get_person(login)))
