"""A service that issues tokens, and a client without a session."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import Browser, RunService, Service
from tests.support.issued_tokens import AUDIENCE


@pytest.fixture
async def service(run_service: RunService) -> AsyncIterator[Service]:
    """A service that issues tokens, since it has a token audience."""
    async with run_service(token_audience=AUDIENCE) as running:
        yield running


@pytest.fixture
async def program(service: Service) -> Browser:
    """A client without any session."""
    return await service.open_browser()
