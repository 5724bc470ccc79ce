"""Random malformed and forged webhook events."""

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr
from redis.asyncio import Redis
from starlette.types import ASGIApp, Message

from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementStatus, evaluate
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.redis_pair import create_entitlements, create_people, open_redis_pair
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.hooks import Hook
from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.store.entitlements import EntitlementStore
from tests.conftest import GITHUB_URL, ORIGIN, SPONSORABLE, Clock, RunService
from tests.support.entitlements import POLICY
from tests.support.mutations import Request, create_request, forge, mutate
from tests.support.scale import scale

SECRET = "a-secret-shared-with-github"
SPONSORABLES = (SPONSORABLE, "octocat", "octo-org")
PARTS = scale(1)
BATCHES = 5
BATCH = 100
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC)


class Target:
    """A service, valid events, and access to its stored entitlements.

    No dataclass: Hypothesis would print all fields of a failing example.
    """

    def __init__(
        self,
        app: ASGIApp,
        bodies: list[bytes],
        entitlements: EntitlementStore,
        local: Redis,
        clock: Clock,
    ) -> None:
        self.bodies = bodies
        self.local = local
        self._app = app
        self._entitlements = entitlements
        self._clock = clock

    async def send(self, request: Request) -> tuple[int, bytes]:
        """Calls the app directly, since an HTTP client would take longer than the service."""
        status, body = 0, b""

        async def receive() -> Message:
            return {"type": "http.request", "body": request.body}

        async def send(message: Message) -> None:
            nonlocal status, body
            status = message.get("status", status)
            body += message.get("body", b"")

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/webhooks/github",
            "raw_path": b"/webhooks/github",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", ORIGIN.removeprefix("http://").encode()), *request.headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await self._app(scope, receive, send)
        return status, body

    async def load_everything(self) -> dict[bytes | str, bytes | None]:
        """Returns the dump of every key."""
        return {name: await self.local.dump(name) for name in await self.local.keys("*")}

    async def find_wrong(self) -> list[str]:
        """Returns a message for each inconsistent entitlement or index in local."""
        wrong = []
        for sponsorable in SPONSORABLES:
            ids = [
                int(name.decode().rpartition(":")[2])
                for name in await self.local.keys(f"{keys.sponsorship(sponsorable, 0)[:-1]}*")
                if isinstance(name, bytes)
            ]
            stored = await self._entitlements.load(sponsorable, ids)
            wrong += [f"{id_}: {why}" for id_ in ids for why in _evaluate(stored[id_].facts)]
            indexed = await self.local.smembers(keys.sponsors(sponsorable))
            if {int(each) for each in indexed} != {
                id_
                for id_ in ids
                if evaluate(sponsorable, stored[id_].facts, policy=POLICY, now=self._clock()).status
                is EntitlementStatus.ENTITLED
            }:
                wrong.append(f"the index of {sponsorable}: {indexed!r}")
        return wrong


def _evaluate(facts: EntitlementFacts | None) -> list[str]:
    if facts is None:
        return ["cannot be read"]
    moments = [facts.checked_at or EARLIEST, facts.since or EARLIEST, facts.valid_until or EARLIEST]
    rules = {
        "source": facts.source is EntitlementSource.SPONSORSHIP,
        "since": facts.since is not None,
        "moments": all(EARLIEST <= moment <= LATEST for moment in moments),
        "tier_cents": 0 <= (facts.tier_cents or 0) <= 10**9,
        "one-time without an end": not facts.is_one_time or facts.valid_until is not None,
    }
    return [f"{name} of {facts}" for name, is_kept in rules.items() if not is_kept]


@pytest.fixture
async def target(
    run_service: RunService,
    settings: Settings,
    local: Redis,
    local_server: EmbeddedValkey,
    clock: Clock,
    bodies: list[bytes],
) -> AsyncIterator[Target]:
    """A service for all sponsorables of the events."""
    assert await local.ping()
    settings = settings.model_copy(update={"sponsorables": SPONSORABLES})
    async with AsyncExitStack() as stack:
        redis_pair = await open_redis_pair(stack, settings)
        service = await stack.enter_async_context(
            run_service(webhook_secret=SecretStr(SECRET), sponsorables=SPONSORABLES)
        )
        yield Target(
            service.app,
            bodies,
            create_entitlements(settings, redis_pair, create_people(settings, redis_pair)),
            await stack.enter_async_context(Redis.from_url(local_server.url)),
            clock,
        )


@pytest.fixture
def bodies(github: SimulatedGitHub) -> list[bytes]:
    """Events of the simulated GitHub, and GitHub's own examples where they are installed."""
    hook = Hook(url="", secret=SECRET, base_url=GITHUB_URL)
    joining = github.people.sponsor("stranger", SPONSORABLE, cents=1000, days_ago=3)
    payment = github.people.sponsor("monthly", SPONSORABLE, days_ago=1, one_time=True)
    end = joining.created_at
    events = [
        hook.event("created", joining),
        hook.event("created", payment),
        hook.event("cancelled", joining),
        hook.event("edited", joining, former_privacy="private"),
        hook.event("tier_changed", joining, former_cents=500),
        hook.event("pending_cancellation", joining, effective_date=end),
        hook.event("pending_tier_change", joining, former_cents=500, effective_date=end),
    ]
    folder = os.environ.get("SPONSORSYNC_GITHUB_EXAMPLES")
    files = sorted(Path(folder).rglob("sponsorship.*.json")) if folder else []
    return [event.body for event in events] + [file.read_bytes() for file in files]


@pytest.mark.random
@pytest.mark.parametrize("part", range(PARTS))
@given(seed=st.integers(min_value=0, max_value=2**64 - 1))
@hypothesis_settings(
    max_examples=BATCHES,
    # No shrinking: a smaller seed gives no simpler example.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_no_malformed_event_does_harm(target: Target, part: int, seed: int) -> None:
    """A signed event is accepted or refused as malformed; a forged one changes nothing.

    A failure prints its part and seed; `@example(seed=…)` repeats it. The test has several short
    parts, so that none exceeds the time limit of a test on a busy machine.
    """
    rng = Random(f"{part}/{seed}")  # noqa: S311 - to be repeated
    await target.local.flushall()
    good = [create_request(target.bodies[0], SECRET, b"sponsorship", b"the-first")]
    good += [mutate(target.bodies, rng, SECRET) for _ in range(BATCH)]
    answers = [await target.send(request) for request in good]
    before = await target.load_everything()
    wrong = await target.find_wrong()
    forged = [await target.send(forge(request, rng, SECRET)) for request in good]
    after = await target.load_everything()

    assert answers[0] == (202, b'{"outcome":"applied"}')
    assert {status for status, _ in answers} <= {202, 400}
    assert Counter(status for status, _ in forged) == {401: BATCH + 1}
    assert (wrong, after) == ([], before)
