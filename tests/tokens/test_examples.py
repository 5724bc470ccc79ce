"""The examples for other services check tokens offline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given

from examples import fastapi_app, flask_app
from examples.sponsor_tokens import SponsorTokens
from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy, evaluate
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.tokens.issuer import TokenIssuer
from sponsorsync.tokens.keyring import create_keyring
from tests.support.forged_tokens import HOSTILE_HEADERS, encode_part, forge, forged_tokens

if TYPE_CHECKING:
    from collections.abc import Callable

ISSUER, AUDIENCE = "https://sponsors.example.org", "https://app.example.org"
POLICY = EntitlementPolicy(one_time=timedelta(days=31), stale=timedelta(hours=72))
NOW = datetime.now(UTC)
KEYRING = create_keyring(NOW)


def _issue(
    *,
    cents: int | None,
    audience: str = AUDIENCE,
    sponsorable: str = "maintainer",
    now: datetime = NOW,
) -> str:
    issuer = TokenIssuer(KEYRING, issuer=ISSUER, audience=audience, life=timedelta(days=1))
    source = EntitlementSource.NONE if cents is None else EntitlementSource.SPONSORSHIP
    facts = EntitlementFacts(sponsorable, checked_at=now, source=source, tier_cents=cents)
    return issuer.issue(7, evaluate(sponsorable, facts, policy=POLICY, now=now), now=now).token


def _fetch_keys() -> dict[str, Any]:
    return {"keys": [key.to_public_jwk() for key in KEYRING.keys]}


def _fail_to_fetch() -> dict[str, Any]:
    raise httpx.ConnectError("SponsorSync is away")


def _tokens(fetch_keys: Callable[[], dict[str, Any]] = _fetch_keys) -> SponsorTokens:
    return SponsorTokens(
        issuer=ISSUER, audience=AUDIENCE, sponsorable="Maintainer", fetch_keys=fetch_keys
    )


CASES = [
    (_issue(cents=1000), 200),
    (_issue(cents=500), 403),
    (_issue(cents=None), 403),
    (_issue(cents=1000, sponsorable="the-other"), 401),
    (_issue(cents=1000, audience="https://other.example"), 401),
    (_issue(cents=1000, now=NOW - timedelta(days=2)), 401),
    ("x", 401),
    ("", 401),
    *((f"{encode_part(header)}.e30.AA", 401) for header in HOSTILE_HEADERS),
]


@pytest.mark.parametrize(("token", "status"), CASES)
async def test_fastapi_lets_sponsors_in(token: str, status: int) -> None:
    """Without a request to SponsorSync for each call."""
    answer = await _ask_fastapi(_tokens(), token)

    assert answer.status_code == status


@pytest.mark.parametrize(("token", "status"), CASES)
def test_flask_lets_sponsors_in(token: str, status: int) -> None:
    """The same without asyncio."""
    client = flask_app.create_app(_tokens()).test_client()
    answer = client.get("/members", headers={"authorization": f"Bearer {token}"})

    assert answer.status_code == status


@given(token=forged_tokens())
def test_any_forged_token_is_refused_without_an_error(token: tuple[str, str, bool]) -> None:
    """Its header is parsed before the signature is checked."""
    assert _tokens().read(forge(KEYRING.keys[0].key, *token)) is None


def test_an_example_refuses_deeply_nested_claims() -> None:
    """Python's JSON parser is limited by the stack."""
    token = forge(KEYRING.keys[0].key, '{"alg": "ES256"}', "[" * 1200, True)

    assert _tokens().read(token) is None


# --- while SponsorSync is away --------------------------------------------------------------------


async def test_an_example_without_keys_answers_503(caplog: pytest.LogCaptureFixture) -> None:
    """The token may be valid; the log gives the cause."""
    token, tokens = _issue(cents=1000), _tokens(_fail_to_fetch)

    by_fastapi = await _ask_fastapi(tokens, token)
    by_flask = (
        flask_app.create_app(tokens)
        .test_client()
        .get("/members", headers={"authorization": f"Bearer {token}"})
    )

    assert (by_fastapi.status_code, by_flask.status_code) == (503, 503)
    assert "SponsorSync is away" in caplog.text


@pytest.mark.parametrize(
    "fail",
    [_fail_to_fetch, dict, lambda: {"keys": []}, lambda: {"keys": [{"kty": "EC"}]}, lambda: None],
    ids=["away", "no keys in it", "no keys", "no key", "null"],
)
def test_the_old_keys_are_used_while_new_ones_are_not_available(fail: Callable[[], Any]) -> None:
    """The next attempt follows after ten seconds, not with each request."""
    answers = Answers([_fetch_keys, fail, fail, _fetch_keys])
    tokens = SponsorTokens(
        issuer=ISSUER,
        audience=AUDIENCE,
        sponsorable="maintainer",
        fetch_keys=answers.give_next,
        clock=lambda: answers.now,
    )
    token = _issue(cents=1000)
    seen = [
        (answers.ask_at(now, tokens, token), answers.given)
        for now in (0, 299, 300, 309, 310, 319, 320, 619)
    ]

    assert seen == [(True, each) for each in (1, 1, 2, 2, 3, 3, 4, 4)]


def test_an_unknown_key_id_does_not_cause_extra_requests() -> None:
    """Neither in normal operation nor during an outage of SponsorSync."""
    answers = Answers([_fetch_keys, _fail_to_fetch, _fail_to_fetch])
    tokens = SponsorTokens(
        issuer=ISSUER,
        audience=AUDIENCE,
        sponsorable="maintainer",
        fetch_keys=answers.give_next,
        clock=lambda: answers.now,
    )
    made_up = f"{encode_part({'alg': 'ES256', 'kid': 'made-up'})}.e30.AA"
    seen = [(answers.ask_at(now, tokens, made_up), answers.given) for now in (0, 9, 10, 19, 20, 29)]

    assert seen == [(False, each) for each in (1, 1, 2, 2, 3, 3)]


class Answers:
    """The answers of SponsorSync, one after the other, and the present time."""

    def __init__(self, answers: list[Callable[[], Any]]) -> None:
        self._answers = answers
        self.given = 0
        self.now = 0.0

    def give_next(self) -> Any:  # noqa: ANN401 - some are nothing at all
        """Returns or raises the next answer."""
        self.given += 1
        return self._answers[self.given - 1]()

    def ask_at(self, now: float, tokens: SponsorTokens, token: str) -> bool:
        """Tells whether a token counts at that time."""
        self.now = now
        return tokens.read(token) is not None


async def _ask_fastapi(tokens: SponsorTokens, token: str) -> httpx.Response:
    transport = httpx.ASGITransport(fastapi_app.create_app(tokens))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.get("/members", headers={"authorization": f"Bearer {token}"})
