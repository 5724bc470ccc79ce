"""Two clients with the administrator's token: without a session, and with a sponsor's."""

import pytest

from tests.conftest import Browser, Service
from tests.support.administration import BEARER


@pytest.fixture
async def admin(service: Service) -> Browser:
    """A client with the administrator's token, and without a session."""
    client = await service.open_browser()
    client.headers.update(BEARER)
    return client


@pytest.fixture
async def sponsor_admin(sponsor: Browser) -> Browser:
    """A client with the administrator's token, in which the monthly sponsor has signed in."""
    sponsor.headers.update(BEARER)
    return sponsor
