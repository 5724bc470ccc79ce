"""Patreon's web flow from our side: where it begins, and what its codes give."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from sponsorsync.domain.errors import (
    AccountLinkError,
    LinkExpiredError,
    LinkLimitedError,
    LinkRefusedError,
)
from sponsorsync.patreon.client import PatreonClient
from sponsorsync.patreon.oauth import PatreonOAuth

if TYPE_CHECKING:
    from sponsorsync.linked_source import LinkAttempt
    from sponsorsync.sandbox.patreon import SimulatedPatreon
    from tests.support.script import Script

SECRET = SecretStr("secret")
CALLBACK = "http://sponsorsync.test/patreon/callback"


def _create_oauth(
    transport: httpx.AsyncBaseTransport,
    *,
    client_secret: SecretStr = SECRET,
    redirect_uri: str = CALLBACK,
) -> PatreonOAuth:
    return PatreonOAuth(
        transport,
        patreon_url="http://patreon.test",
        client_id="client",
        client_secret=client_secret,
        redirect_uri=redirect_uri,
        timeout_s=1,
    )


@pytest.fixture
def oauth(way: Script) -> PatreonOAuth:
    """Our side, on the way to the simulated Patreon."""
    return _create_oauth(way)


def _query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


async def _consent(patreon: SimulatedPatreon, attempt: LinkAttempt, role: str) -> dict[str, str]:
    """What the browser does at Patreon; returns what it comes back with."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(patreon.app)) as browser:
        redirect = await browser.get(f"{attempt.url}&patron={role}")
    return _query(redirect.headers["location"])


# --- start ----------------------------------------------------------------------------------------


def test_an_attempt_sends_the_browser_to_patreon_with_all_it_needs(oauth: PatreonOAuth) -> None:
    """The scope is the least: with it Patreon tells of the client's own campaign alone."""
    attempt = oauth.start()

    assert attempt.url.startswith("http://patreon.test/oauth2/authorize?")
    assert _query(attempt.url) == {
        "response_type": "code",
        "client_id": "client",
        "redirect_uri": CALLBACK,
        "scope": "identity",
        "state": attempt.state,
    }


# --- the token ------------------------------------------------------------------------------------


async def test_a_code_gives_a_token_that_tells_who_it_is(
    oauth: PatreonOAuth, patreon: SimulatedPatreon, way: Script
) -> None:
    """The whole of a link, but for what is done with it."""
    attempt = oauth.start()
    back = await _consent(patreon, attempt, "active")

    token = await oauth.fetch_token(code=back["code"])

    async with httpx.AsyncClient(transport=way) as http:
        identity = await PatreonClient(http, patreon_url=patreon.url).fetch_identity(token)
    assert back["state"] == attempt.state
    assert identity.account_id == patreon.patrons["active"].id
    assert [each.campaign_id for each in identity.patronages] == [patreon.campaign_id]


async def test_who_says_no_comes_back_without_a_code(
    oauth: PatreonOAuth, patreon: SimulatedPatreon
) -> None:
    """With the state, so that the attempt can be closed."""
    attempt = oauth.start()

    back = await _consent(patreon, attempt, "denier")

    assert back == {"error": "access_denied", "state": attempt.state}


async def test_a_code_is_worth_nothing_at_another_callback(
    oauth: PatreonOAuth, patreon: SimulatedPatreon, way: Script
) -> None:
    """Patreon compares it with the one of the authorization."""
    back = await _consent(patreon, oauth.start(), "active")

    with pytest.raises(LinkExpiredError):
        await _create_oauth(way, redirect_uri="http://elsewhere.test").fetch_token(
            code=back["code"]
        )


async def test_a_wrong_secret_is_for_the_operator_to_mend(
    patreon: SimulatedPatreon, way: Script
) -> None:
    """The sentence names the settings, and not their values."""
    oauth = _create_oauth(way, client_secret=SecretStr("wrong-secret"))
    back = await _consent(patreon, oauth.start(), "active")

    with pytest.raises(LinkRefusedError, match="PATREON_SECRET") as caught:
        await oauth.fetch_token(code=back["code"])

    assert "wrong-secret" not in repr(caught.value)


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (401, "invalid_grant", LinkExpiredError),
        (400, "invalid_grant", LinkExpiredError),
        (401, "invalid_client", LinkRefusedError),
        (401, "access_denied", LinkRefusedError),
        (400, "something_new", LinkRefusedError),
        (200, "invalid_grant", LinkExpiredError),
    ],
)
async def test_each_oauth_error_is_one_kind_of_ours(
    oauth: PatreonOAuth, way: Script, status: int, name: str, kind: type[AccountLinkError]
) -> None:
    """By its name, not by the status it comes with."""
    way.answer(httpx.Response(status, json={"error": name}))

    with pytest.raises(AccountLinkError) as caught:
        await oauth.fetch_token(code="code")

    assert type(caught.value) is kind


async def test_the_token_endpoint_reports_the_wait_that_a_limit_names(
    oauth: PatreonOAuth, patreon: SimulatedPatreon
) -> None:
    """The token endpoint has the limits of the rest."""
    patreon.switches.rate_limited = True

    with pytest.raises(LinkLimitedError) as caught:
        await oauth.fetch_token(code="code")

    assert caught.value.retry_after_s == 9


async def test_the_page_that_keeps_robots_out_is_a_refusal(
    oauth: PatreonOAuth, way: Script
) -> None:
    """It comes with 403: https://github.com/itchio/itch.io/issues/1289."""
    way.answer(httpx.Response(403, text="<html>Please enable JS</html>"))

    with pytest.raises(LinkRefusedError, match="HTTP 403"):
        await oauth.fetch_token(code="code")
