"""A service with a durable Redis and an administrator's token, and clients of it."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from sponsorsync.sandbox.github import SimulatedGitHub
from tests.conftest import SPONSORABLE, RunService, Service
from tests.support.administration import TOKEN
from tests.support.use_cases import SECRET


@pytest.fixture
async def service(
    run_service: RunService, durable_url: SecretStr, github: SimulatedGitHub
) -> AsyncIterator[Service]:
    """A service with a durable Redis, the maintainer's token, a webhook and organizations."""
    token = github.tokens.issue(github.people.get_person(SPONSORABLE))
    async with run_service(
        durable_url=durable_url,
        admin_token=SecretStr(TOKEN),
        webhook_secret=SecretStr(SECRET),
        maintainer_token=SecretStr(token),
        reconcile_hours=0,
        org_entitlement="members",
    ) as running:
        yield running
