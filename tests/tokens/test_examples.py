"""The examples for other services: they let in whom they should, offline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt as pyjwt
import pytest

from examples import fastapi_app, flask_app
from examples.sponsor_tokens import SponsorTokens
from sponsorsync.domain.cover import CoverFacts, CoverPolicy, CoverSource, judge
from sponsorsync.tokens.issuer import TokenIssuer
from sponsorsync.tokens.keyring import create_keyring

ISSUER, AUDIENCE = "https://sponsors.example.org", "https://app.example.org"
POLICY = CoverPolicy(one_time=timedelta(days=31), stale=timedelta(hours=72))
NOW = datetime.now(UTC)
KEYRING = create_keyring(NOW)


def _issue(*, cents: int | None, audience: str = AUDIENCE, now: datetime = NOW) -> str:
    issuer = TokenIssuer(KEYRING, issuer=ISSUER, audience=audience, life=timedelta(minutes=10))
    source = CoverSource.NONE if cents is None else CoverSource.SPONSORSHIP
    facts = CoverFacts("maintainer", checked_at=now, source=source, tier_cents=cents)
    return issuer.issue(7, judge("maintainer", facts, policy=POLICY, now=now), now=now).token


def _tokens() -> SponsorTokens:
    def fetch_keys() -> dict[str, Any]:
        return {"keys": [key.show() for key in KEYRING.keys]}

    return SponsorTokens(issuer=ISSUER, audience=AUDIENCE, fetch_keys=fetch_keys)


def test_pyjwt_takes_a_token_by_the_public_keys_alone() -> None:
    """Another library, with nothing of ours in it."""
    keys = pyjwt.PyJWKSet.from_dict({"keys": [key.show() for key in KEYRING.keys]})
    token = _issue(cents=1000)
    key = keys[pyjwt.get_unverified_header(token)["kid"]]

    claims = pyjwt.decode(token, key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)

    assert (claims["sub"], claims["cents"]) == ("7", 1000)


CASES = [
    (_issue(cents=1000), 200),
    (_issue(cents=500), 403),
    (_issue(cents=None), 403),
    (_issue(cents=1000, audience="https://other.example"), 401),
    (_issue(cents=1000, now=NOW - timedelta(minutes=20)), 401),
    ("x", 401),
    ("", 401),
]


@pytest.mark.parametrize(("token", "status"), CASES)
async def test_fastapi_lets_sponsors_in(token: str, status: int) -> None:
    """Without asking SponsorSync for each request."""
    transport = httpx.ASGITransport(fastapi_app.create_app(_tokens()))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        answer = await client.get("/members", headers={"authorization": f"Bearer {token}"})

    assert answer.status_code == status


@pytest.mark.parametrize(("token", "status"), CASES)
def test_flask_lets_sponsors_in(token: str, status: int) -> None:
    """Likewise where nothing is asynchronous."""
    client = flask_app.create_app(_tokens()).test_client()
    answer = client.get("/members", headers={"authorization": f"Bearer {token}"})

    assert answer.status_code == status
