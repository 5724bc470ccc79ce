"""Patreon's OAuth flow: its address and its errors. tests/contracts has all that GitHub shares."""

from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from sponsorsync.domain.errors import AccountLinkError, LinkExpiredError, LinkRefusedError
from sponsorsync.patreon.oauth import PatreonOAuth
from tests.support.script import Script

CALLBACK = "http://sponsorsync.test/patreon/callback"


@pytest.fixture
def oauth(way: Script) -> PatreonOAuth:
    """Our OAuth client of the simulated Patreon."""
    return PatreonOAuth(
        transport=way,
        patreon_url="http://patreon.test",
        client_id="client",
        client_secret=SecretStr("secret"),
        redirect_uri=CALLBACK,
        timeout_s=1,
    )


def test_an_attempt_sends_the_browser_to_patreon_with_all_it_needs(oauth: PatreonOAuth) -> None:
    """With the scope `identity`, Patreon shows the membership in our campaign only."""
    attempt = oauth.start()

    assert attempt.url.startswith("http://patreon.test/oauth2/authorize?")
    assert dict(parse_qsl(urlsplit(attempt.url).query)) == {
        "response_type": "code",
        "client_id": "client",
        "redirect_uri": CALLBACK,
        "scope": "identity",
        "state": attempt.state,
    }


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
    """The name of the error decides, and not the status."""
    way.answer(httpx.Response(status, json={"error": name}))

    with pytest.raises(AccountLinkError) as caught:
        await oauth.fetch_token(code="code")

    assert type(caught.value) is kind


async def test_a_page_that_blocks_robots_is_a_refusal(oauth: PatreonOAuth, way: Script) -> None:
    """Patreon sends it with status 403: https://github.com/itchio/itch.io/issues/1289."""
    way.answer(httpx.Response(403, text="<html>Please enable JS</html>"))

    with pytest.raises(LinkRefusedError, match="HTTP 403"):
        await oauth.fetch_token(code="code")
