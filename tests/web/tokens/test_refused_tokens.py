"""Forged, changed and expired tokens are refused."""

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.conftest import Browser, Clock
from tests.support.forged_tokens import HOSTILE_HEADERS, encode, encode_part, forge, forged_tokens
from tests.support.issued_tokens import (
    MONTHLY,
    create_claims,
    create_issuer,
    fetch_bearer,
    sign_claims,
)


async def test_a_token_ends_to_the_second(sponsor: Browser, program: Browser, clock: Clock) -> None:
    """At the second of `exp` the token is already refused."""
    clock.now = clock.now.replace(microsecond=0)
    bearer = await fetch_bearer(sponsor)
    clock.advance(minutes=9, seconds=59)
    before = await program.get("/me", headers=bearer)
    clock.advance(seconds=1)
    after = await program.get("/me", headers=bearer)

    assert (before.status_code, after.status_code) == (200, 401)
    assert after.json()["code"] == "bearer_refused"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://other.example"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"sub": None},
        {"sub": "octocat"},
        {"sub": 48210377},
        {"exp": None},
        {"exp": "later"},
        {"exp": 1},
    ],
    ids=str,
)
def test_our_key_with_other_claims_is_refused(clock: Clock, changed: dict[str, Any]) -> None:
    """The same key may sign for another installation or audience."""
    tokens = create_issuer(clock)
    claims = {**create_claims(clock), **changed}
    signed = sign_claims({n: v for n, v in claims.items() if v is not None}, tokens)

    assert tokens.read(sign_claims(create_claims(clock), tokens), now=clock()) == MONTHLY
    assert tokens.read(signed, now=clock()) is None


def test_a_token_that_is_not_signed_is_refused(clock: Clock) -> None:
    """`alg: none` means that there is no signature (RFC 8725, 2.1)."""
    tokens = create_issuer(clock)
    kid = tokens.keyring.keys[0].kid
    for name in ("none", "None", "NONE"):
        header = encode_part({"alg": name, "kid": kid})
        assert tokens.read(f"{header}.{encode_part(create_claims(clock))}.", now=clock()) is None


def test_the_public_key_cannot_sign(clock: Clock) -> None:
    """An attacker signs with HS256, and the public key as its secret (RFC 8725, 2.1)."""
    tokens = create_issuer(clock)
    key = tokens.keyring.keys[0]
    body = f"{encode_part({'alg': 'HS256', 'kid': key.kid})}.{encode_part(create_claims(clock))}"
    secrets = [
        key.key.as_pem(private=False),
        key.key.as_der(private=False),
        json.dumps(key.to_public_jwk()).encode(),
        b"",
    ]
    for secret in secrets:
        signature = encode(hmac.digest(secret, body.encode(), hashlib.sha256))
        assert tokens.read(f"{body}.{signature}", now=clock()) is None


@pytest.mark.parametrize("header", [{"kid": "unknown"}, {"kid": None}, {"kid": 1}, {"kid": [1]}])
def test_a_token_of_an_unknown_key_is_refused(clock: Clock, header: dict[str, Any]) -> None:
    """The token is signed with another key, or with ours under another key id."""
    tokens = create_issuer(clock)
    own = tokens.keyring.keys[0].key
    for key in (own, ECKey.generate_key("P-256")):
        body = f"{encode_part({'alg': 'ES256', **header})}.{encode_part(create_claims(clock))}"
        named = jwt.encode({"alg": "ES256"}, create_claims(clock), key, algorithms=["ES256"])
        assert tokens.read(named, now=clock()) is None
        assert tokens.read(f"{body}.{named.rpartition('.')[2]}", now=clock()) is None


def test_another_key_with_our_key_id_is_refused(clock: Clock) -> None:
    """Anyone knows the key id; a key or its address in the header is ignored."""
    tokens = create_issuer(clock)
    foreign = ECKey.generate_key("P-256")
    kid = tokens.keyring.keys[0].kid
    for more in ({}, {"jwk": foreign.as_dict(private=False)}, {"jku": "https://evil.example"}):
        header = {"alg": "ES256", "kid": kid, **more}
        token = jwt.encode(header, create_claims(clock), foreign, algorithms=["ES256"])
        assert tokens.read(token, now=clock()) is None


@given(text=st.one_of(st.text(), st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_text_is_refused_without_an_error(clock: Clock, text: str) -> None:
    """Any client can send any text as a token."""
    assert create_issuer(clock).read(text, now=clock()) is None


@given(at=st.integers(0, 10_000), to=st.characters(codec="ascii"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_token_is_refused_without_an_error(clock: Clock, at: int, to: str) -> None:
    """One character is changed; the last one of a signature has unused bits."""
    tokens = create_issuer(clock)
    token = sign_claims(create_claims(clock), tokens)
    at %= len(token) - 1
    changed = f"{token[:at]}{to}{token[at + 1 :]}"

    assert changed == token or tokens.read(changed, now=clock()) is None


@given(token=forged_tokens())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_malformed_token_parts_are_refused(clock: Clock, token: tuple[str, str, bool]) -> None:
    """A valid signature does not help: the header is parsed before it is checked."""
    tokens = create_issuer(clock)

    assert tokens.read(forge(tokens.keyring.keys[0].key, *token), now=clock()) is None


def test_deeply_nested_claims_are_refused_without_an_error(clock: Clock) -> None:
    """Deep nesting exhausts the stack of Python's JSON parser."""
    tokens = create_issuer(clock)
    token = forge(tokens.keyring.keys[0].key, '{"alg": "ES256"}', "[" * 1200, True)

    assert tokens.read(token, now=clock()) is None


@pytest.mark.parametrize("header", HOSTILE_HEADERS, ids=str)
async def test_a_header_that_joserfc_fails_on_is_401(program: Browser, header: object) -> None:
    """The library raises other errors than its own; any client could cause a 500 with them."""
    token = f"{encode_part(header)}.e30.AA"

    answer = await program.get("/me", headers={"authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.json()["code"]) == (401, "bearer_refused")


def test_a_huge_token_is_not_parsed(clock: Clock) -> None:
    """A token is parsed before its signature is checked, which costs time."""
    tokens = create_issuer(clock)

    assert (
        tokens.read(sign_claims(create_claims(clock) | {"x": "x" * 2048}, tokens), now=clock())
        is None
    )
