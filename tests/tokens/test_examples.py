"""The example applications in examples/ check tokens offline."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given

from examples import fastapi_app, flask_app
from examples.sponsor_tokens import SponsorTokens
from sponsorsync.tokens.keyring import create_keyring
from tests.support.forged_tokens import HOSTILE_HEADERS, encode_part, forge, forged_tokens
from tests.tokens.issuing import AUDIENCE, ISSUER, NOW, create_issuer, issue

KEYRING = create_keyring(NOW)


def _issue(
    cents: int | None = 1000,
    *,
    audience: str = AUDIENCE,
    sponsorable: str = "maintainer",
    now: datetime = NOW,
) -> str:
    issuer = create_issuer(KEYRING, audience=audience, life=timedelta(days=1))
    return issue(issuer, now=now, cents=cents, sponsorable=sponsorable)


def _fetch_keys() -> dict[str, Any]:
    return {"keys": [key.to_public_jwk() for key in KEYRING.keys]}


def _fail_to_fetch() -> dict[str, Any]:
    raise httpx.ConnectError("SponsorSync is away")


def _tokens(
    fetch_keys: Callable[[], dict[str, Any]] = _fetch_keys,
    clock: Callable[[], float] = time.monotonic,
) -> SponsorTokens:
    return SponsorTokens(
        issuer=ISSUER,
        audience=AUDIENCE,
        sponsorable="Maintainer",
        fetch_keys=fetch_keys,
        clock=clock,
    )


async def _ask_both(tokens: SponsorTokens, token: str) -> list[int]:
    """Returns the statuses of the FastAPI and the Flask example."""
    headers = {"authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(fastapi_app.create_app(tokens))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        by_fastapi = await client.get("/members", headers=headers)
    by_flask = flask_app.create_app(tokens).test_client().get("/members", headers=headers)
    return [by_fastapi.status_code, by_flask.status_code]


CASES = [
    (_issue(), 200),
    (_issue(500), 403),
    (_issue(None), 403),
    (_issue(sponsorable="the-other"), 401),
    (_issue(audience="https://other.example"), 401),
    (_issue(now=NOW - timedelta(days=2)), 401),
    ("x", 401),
    ("", 401),
    *((f"{encode_part(header)}.e30.AA", 401) for header in HOSTILE_HEADERS),
]


@pytest.mark.parametrize(("token", "status"), CASES)
async def test_fastapi_and_flask_let_sponsors_in(token: str, status: int) -> None:
    """The examples check a token with cached keys, without a request to SponsorSync."""
    assert await _ask_both(_tokens(), token) == [status, status]


@given(token=forged_tokens())
def test_any_forged_token_is_refused_without_an_error(token: tuple[str, str, bool]) -> None:
    """The header of a token is parsed before its signature is checked."""
    assert _tokens().read(forge(KEYRING.keys[0].key, *token)) is None


def test_an_example_refuses_deeply_nested_claims() -> None:
    """Deep nesting exhausts the stack of Python's JSON parser."""
    token = forge(KEYRING.keys[0].key, '{"alg": "ES256"}', "[" * 1200, True)

    assert _tokens().read(token) is None


# --- while SponsorSync is away --------------------------------------------------------------------


async def test_an_example_without_keys_answers_503(caplog: pytest.LogCaptureFixture) -> None:
    """The token may be valid, so it is not refused; the log has the cause."""
    assert await _ask_both(_tokens(_fail_to_fetch), _issue()) == [503, 503]
    assert "SponsorSync is away" in caplog.text


@pytest.mark.parametrize(
    "fail",
    [_fail_to_fetch, dict, lambda: {"keys": []}, lambda: {"keys": [{"kty": "EC"}]}, lambda: None],
    ids=["away", "no keys in it", "no keys", "no key", "null"],
)
def test_the_old_keys_are_used_while_new_ones_are_not_available(fail: Callable[[], Any]) -> None:
    """The keys are requested again after ten seconds, and not with each request."""
    answers = Answers([_fetch_keys, fail, fail, _fetch_keys])
    tokens = _tokens(answers.give_next, lambda: answers.now)
    token = _issue()
    seen = [
        (answers.ask_at(now, tokens, token), answers.given)
        for now in (0, 299, 300, 309, 310, 319, 320, 619)
    ]

    assert seen == [(True, each) for each in (1, 1, 2, 2, 3, 3, 4, 4)]


def test_an_unknown_key_id_does_not_cause_extra_requests() -> None:
    """Keys are requested every ten seconds at most, also while SponsorSync is away."""
    answers = Answers([_fetch_keys, _fail_to_fetch, _fail_to_fetch])
    tokens = _tokens(answers.give_next, lambda: answers.now)
    made_up = f"{encode_part({'alg': 'ES256', 'kid': 'made-up'})}.e30.AA"
    seen = [(answers.ask_at(now, tokens, made_up), answers.given) for now in (0, 9, 10, 19, 20, 29)]

    assert seen == [(False, each) for each in (1, 1, 2, 2, 3, 3)]


class Answers:
    """Answers of SponsorSync in their order, and a clock that tests set."""

    def __init__(self, answers: list[Callable[[], Any]]) -> None:
        self._answers = answers
        self.given = 0
        self.now = 0.0

    def give_next(self) -> Any:  # noqa: ANN401 - some are nothing at all
        """Returns or raises the next answer."""
        self.given += 1
        return self._answers[self.given - 1]()

    def ask_at(self, now: float, tokens: SponsorTokens, token: str) -> bool:
        """Returns whether a token is accepted at this time."""
        self.now = now
        return tokens.read(token) is not None
