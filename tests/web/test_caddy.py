"""Caddy in front of an application, configured as the documentation shows."""

from pathlib import Path

import httpx
import pytest

from sponsorsync.app import create_app
from sponsorsync.commands.serve import bind, port_of, run_server
from sponsorsync.settings import Settings
from tests.conftest import Clock, RunBrowser
from tests.support.caddy import CADDY, run_caddy
from tests.support.nginx import free_port

pytestmark = pytest.mark.skipif(CADDY is None, reason="Caddy is not installed")

MONTHLY = 48210377
# The request headers that the application behind Caddy returns as its answer.
NAMES = ("X-Sponsor-Id", "X-Sponsor-Cents", "X-Sponsor-Until", "X-Sponsor-More", "X_Sponsor_Id")
ECHO = " ".join(f"{{http.request.header.{name}}}" for name in NAMES)


async def test_an_application_gets_our_headers_and_none_of_the_browsers(
    tmp_path: Path, settings: Settings, clock: Clock, run_browser: RunBrowser
) -> None:
    """Caddy removes the browser's headers of these names, also those that we do not send."""
    audience = "https://app.example.org"
    async with run_browser("monthly", token_audience=audience) as browser:
        token = (await browser.post("/token")).json()["access_token"]
    forged = dict.fromkeys(NAMES, "from-the-browser")
    port, sock = free_port(), bind("127.0.0.1", 0)
    app = create_app(settings.model_copy(update={"token_audience": audience}), clock=clock)
    async with (
        run_server(app, sock),
        run_caddy(tmp_path, port=port, service_port=port_of(sock), answer=ECHO),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        bearer = {"Authorization": f"Bearer {token}"}
        allowed = await client.get("/members/a", headers=forged | bearer)
        refused = await client.get("/members/a", headers=forged)
        ready = await client.get("/healthz")

    assert allowed.text.split()[:2] == [str(MONTHLY), "1000"]
    assert "from-the-browser" not in allowed.text
    assert (allowed.status_code, refused.status_code, ready.status_code) == (200, 401, 200)
