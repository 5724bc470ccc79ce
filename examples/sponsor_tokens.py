"""Checks SponsorSync's tokens offline, with joserfc; both example applications use it."""

import logging
import time
from collections.abc import Callable
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

_KEPT_S = 300.0
_MIN_FETCH_INTERVAL_S = 10.0

# Exceptions of joserfc for bad tokens. A token's header may contain anything, and joserfc does not
# check all types in it: `"crit": 5` raises a TypeError, a list an AttributeError.
_REFUSED = (JoseError, ValueError, TypeError, AttributeError, RecursionError)

_log = logging.getLogger(__name__)


class KeysAwayError(Exception):
    """No keys have been fetched yet, so no token can be checked; answer with status 503."""


class SponsorTokens:
    """Checks tokens about one sponsorable, and refuses those about others.

    `fetch_keys` returns SponsorSync's public keys, the parsed `/.well-known/jwks.json`. The keys
    are fetched again after five minutes, and stay in use while that fails. They are also fetched
    for a token with an unknown key, but at most every ten seconds: such a token may be forged.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        sponsorable: str,
        fetch_keys: Callable[[], dict[str, Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch_keys = fetch_keys
        self._clock = clock
        self._keys = KeySet([])
        self._fetched_at = self._due_at = clock()
        # jwt.decode() checks only the signature; this checks the claims.
        self._registry = jwt.JWTClaimsRegistry(
            leeway=5,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            sub={"essential": True},
            exp={"essential": True},
            sponsorable={"essential": True, "value": sponsorable.lower()},
        )

    def read(self, token: str) -> dict[str, Any] | None:
        """Returns the claims of a valid token, else None.

        Raises:
            KeysAwayError: No keys have been fetched yet.
        """
        try:
            kid = jws.extract_compact(token.encode()).headers().get("kid")
            claims = jwt.decode(token, self._find_keys(kid), algorithms=["ES256"]).claims
            self._registry.validate(claims)
        except _REFUSED:
            return None
        return claims

    def _find_keys(self, kid: object) -> KeySet:
        now = self._clock()
        is_missing = all(key.kid != kid for key in self._keys.keys)
        if now >= self._due_at or (is_missing and now >= self._fetched_at + _MIN_FETCH_INTERVAL_S):
            self._load_keys()
        if not self._keys:
            raise KeysAwayError
        return self._keys

    def _load_keys(self) -> None:
        kept_s = _MIN_FETCH_INTERVAL_S
        try:
            self._keys = KeySet.import_key_set(self._fetch_keys())  # type: ignore[arg-type]
            kept_s = _KEPT_S
        except Exception:  # noqa: BLE001 - a proxy may answer instead of SponsorSync, with anything
            _log.exception("SponsorSync's keys could not be fetched; the previous keys stay valid")
        self._fetched_at = self._clock()
        self._due_at = self._fetched_at + kept_s


def is_entitled(claims: dict[str, Any], cents: int) -> bool:
    """Returns whether the claims say that the person is entitled, by a tier of at least `cents`.

    A missing claim counts as not entitled, or as a tier of 0.
    """
    return claims.get("entitled") is True and claims.get("cents", 0) >= cents
