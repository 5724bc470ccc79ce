"""A service with Patreon and two Redises, and a browser of a person without a sponsorship."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from tests.conftest import PATREON_SETTINGS, Browser, RunService, Service


@pytest.fixture
async def service(run_service: RunService, durable_url: SecretStr) -> AsyncIterator[Service]:
    """A service with Patreon and both Redises."""
    async with run_service(durable_url=durable_url, **PATREON_SETTINGS) as running:
        yield running


@pytest.fixture
async def stranger(service: Service) -> Browser:
    """A browser of a person that sponsors nobody at GitHub."""
    return await service.sign_in("stranger")
