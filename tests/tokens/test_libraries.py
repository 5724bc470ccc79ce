"""PyJWT and joserfc check our tokens with the public keys alone."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt as pyjwt
import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from sponsorsync.tokens.keyring import Keyring, create_keyring
from tests.support.forged_tokens import encode_part
from tests.tokens.issuing import AUDIENCE, ISSUER, MINUTE, NOW, create_issuer, issue

Read = Callable[[str, dict[str, Any]], dict[str, Any]]

KEYRING = create_keyring(NOW - 80 * MINUTE)
# The first key is retired 71 minutes after the rotation, so by now.
ROTATED = KEYRING.rotate(NOW - 80 * MINUTE)
REFUSED = (pyjwt.PyJWTError, JoseError, KeyError)


def _read_with_pyjwt(token: str, public: dict[str, Any]) -> dict[str, Any]:
    keys = pyjwt.PyJWKSet.from_dict(public)
    key = keys[pyjwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = pyjwt.decode(
        token,
        key,
        algorithms=["ES256"],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={"require": ["iss", "aud", "sub", "exp"]},
    )
    return claims


def _read_with_joserfc(token: str, public: dict[str, Any]) -> dict[str, Any]:
    keys = KeySet.import_key_set(public)  # type: ignore[arg-type]
    claims = jwt.decode(token, keys, algorithms=["ES256"]).claims
    jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        sub={"essential": True},
        exp={"essential": True},
    ).validate(claims)
    return claims


both = pytest.mark.parametrize("read", [_read_with_pyjwt, _read_with_joserfc])


def _issue(
    *, keyring: Keyring = KEYRING, audience: str = AUDIENCE, age: timedelta = timedelta()
) -> str:
    # The libraries go by the real clock, and a run of all tests may take longer than a token lives.
    return issue(create_issuer(keyring, audience=audience), now=datetime.now(UTC) - age)


def _public(keyring: Keyring = KEYRING, *, at: datetime = NOW) -> dict[str, Any]:
    """Returns the public keys at a time, as parsed from JSON."""
    keys = create_issuer(keyring).list_public_keys(now=at)
    public: dict[str, Any] = json.loads(json.dumps({"keys": keys}))
    return public


@both
def test_a_valid_token_is_accepted(read: Read) -> None:
    """The library has the public keys only."""
    claims = read(_issue(), _public())

    assert (claims["sub"], claims["sponsorable"], claims["cents"]) == ("7", "maintainer", 1000)


@both
def test_a_token_is_refused_after_its_end(read: Read) -> None:
    """The token is valid for ten minutes."""
    assert read(_issue(age=9 * MINUTE), _public())
    with pytest.raises(REFUSED, match=r"(?i)expired"):
        read(_issue(age=10 * MINUTE), _public())


@both
def test_a_token_for_another_audience_is_refused(read: Read) -> None:
    """Such a token belongs to another application."""
    with pytest.raises(REFUSED, match=r"(?i)aud"):
        read(_issue(audience="https://other.example"), _public())


@both
@pytest.mark.parametrize("name", ["none", "None", "HS256"])
def test_an_unsigned_token_is_refused(read: Read, name: str) -> None:
    """The header has a valid key id, but there is no signature (RFC 8725, 2.1)."""
    header = encode_part({"alg": name, "kid": KEYRING.keys[0].kid})
    _, claims, _ = _issue().split(".")

    with pytest.raises(REFUSED, match=r"(?i)alg"):
        read(f"{header}.{claims}.", _public())


@both
def test_a_token_of_the_old_key_is_accepted_after_a_rotation(read: Read) -> None:
    """The public keys may be fetched at once or 70 minutes later; the new key works, too."""
    rotated_at = NOW - 80 * MINUTE
    old, new = _issue(), _issue(keyring=ROTATED)

    assert read(old, _public(ROTATED, at=rotated_at))
    assert read(old, _public(ROTATED, at=rotated_at + 70 * MINUTE))
    assert read(new, _public(ROTATED, at=rotated_at))
    assert old.partition(".")[0] != new.partition(".")[0]


@both
def test_a_token_of_a_retired_key_is_refused(read: Read) -> None:
    """A key is retired at its end, or at once if it has leaked."""
    leaked = KEYRING.rotate(NOW, retire_old=True)

    for public in (_public(ROTATED, at=NOW), _public(leaked)):
        with pytest.raises(REFUSED, match=r"(?i)no key"):
            read(_issue(), public)
        assert read(_issue(keyring=leaked), _public(leaked))
