"""Access tokens, from a running service or from an issuer alone."""

from datetime import timedelta
from typing import Any

from joserfc import jwt

from sponsorsync.tokens.issuer import TokenIssuer
from sponsorsync.tokens.keyring import create_keyring
from tests.conftest import Browser, Clock

AUDIENCE = "https://pattern.example"
ISSUER = "http://sponsorsync.test"
MONTHLY = 48210377


def create_issuer(clock: Clock) -> TokenIssuer:
    """Returns an issuer with a new key, whose tokens are valid for ten minutes."""
    return TokenIssuer(
        create_keyring(clock()), issuer=ISSUER, audience=AUDIENCE, life=timedelta(minutes=10)
    )


def create_claims(clock: Clock) -> dict[str, Any]:
    """Returns the claims of a token that is valid now."""
    now = int(clock().timestamp())
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": str(MONTHLY), "iat": now, "exp": now + 600}


def sign_claims(claims: dict[str, Any], tokens: TokenIssuer, *, key: int = 0) -> str:
    """Signs claims with one of the issuer's keys."""
    signing = tokens.keyring.keys[key]
    header = {"alg": "ES256", "kid": signing.kid}
    return jwt.encode(header, claims, signing.key, algorithms=["ES256"])


async def fetch_bearer(browser: Browser) -> dict[str, str]:
    """Fetches a token for the signed-in person; returns the header with it."""
    token = (await browser.post("/token")).json()["access_token"]
    return {"authorization": f"Bearer {token}"}
