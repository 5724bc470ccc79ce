"""A service with a durable Redis and an administrator's token, and clients of it."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.valkey import EmbeddedValkey
from tests.conftest import SPONSORABLE, Browser, RunService, Service
from tests.support.administration import BEARER, TOKEN, WEBHOOK_SECRET


@pytest.fixture
async def service(
    run_service: RunService, durable_server: EmbeddedValkey, durable: Redis, github: SimulatedGitHub
) -> AsyncIterator[Service]:
    """A service with a durable Redis, the maintainer's token, a webhook and organizations."""
    assert durable is not None  # it is empty now
    token = github.tokens.issue(github.people.get_person(SPONSORABLE))
    async with run_service(
        durable_url=SecretStr(durable_server.url),
        admin_token=SecretStr(TOKEN),
        webhook_secret=SecretStr(WEBHOOK_SECRET),
        maintainer_token=SecretStr(token),
        reconcile_hours=0,
        org_entitlement="members",
    ) as running:
        yield running


@pytest.fixture
async def admin(service: Service) -> Browser:
    """A client with the administrator's token, and without a session."""
    client = await service.open_browser()
    client.headers.update(BEARER)
    return client
