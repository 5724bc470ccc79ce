"""A service with a durable Redis and an administrator's token, and clients of it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from tests.conftest import RunService, Service
from tests.support.administration import TOKEN
from tests.support.use_cases import SECRET


@pytest.fixture
async def service(
    run_service: RunService, durable_url: SecretStr, maintainer_settings: dict[str, Any]
) -> AsyncIterator[Service]:
    """A service with a durable Redis, the maintainer's token, a webhook and organizations."""
    async with run_service(
        durable_url=durable_url,
        admin_token=SecretStr(TOKEN),
        webhook_secret=SecretStr(SECRET),
        org_entitlement="members",
        **maintainer_settings,
    ) as running:
        yield running
