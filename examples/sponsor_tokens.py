"""Checking SponsorSync's tokens offline, with joserfc: what both examples beside this one share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT_S = 300.0
_ASKED_AT_MOST_EVERY_S = 10.0


class SponsorTokens:
    """Reads tokens; `fetch_keys` gets what `/.well-known/jwks.json` answers.

    The keys are kept for five minutes. A token that names another key makes them be fetched anew,
    but not for each one that somebody makes up.
    """

    def __init__(
        self, *, issuer: str, audience: str, fetch_keys: Callable[[], dict[str, Any]]
    ) -> None:
        self._fetch_keys = fetch_keys
        self._keys = KeySet([])
        self._fetched_at = -_KEPT_S
        # decode() looks at the signature only.
        self._registry = jwt.JWTClaimsRegistry(
            leeway=5,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            sub={"essential": True},
            exp={"essential": True},
        )

    def read(self, token: str) -> dict[str, Any] | None:
        """Returns the claims of a token that counts, else None."""
        try:
            kid = jws.extract_compact(token.encode()).headers().get("kid")
            claims = jwt.decode(token, self._find_keys(kid), algorithms=["ES256"]).claims
            self._registry.validate(claims)
        except (JoseError, ValueError):
            return None
        return claims

    def _find_keys(self, kid: object) -> KeySet:
        age_s = time.monotonic() - self._fetched_at
        is_missing = all(key.kid != kid for key in self._keys.keys)
        if age_s >= _KEPT_S or (is_missing and age_s >= _ASKED_AT_MOST_EVERY_S):
            self._keys = KeySet.import_key_set(self._fetch_keys())  # type: ignore[arg-type]
            self._fetched_at = time.monotonic()
        return self._keys


def gives(claims: dict[str, Any], cents: int) -> bool:
    """Tells whether somebody is covered by so much; what is not claimed is not known."""
    return claims.get("covered") is True and claims.get("cents", 0) >= cents
