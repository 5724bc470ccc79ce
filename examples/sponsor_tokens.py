"""Checking SponsorSync's tokens offline, with joserfc: what both examples beside this one share."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT_S = 300.0
_ASKED_AT_MOST_EVERY_S = 10.0

# What joserfc raises for what is no token of ours. Anybody may write the header, and joserfc takes
# some of it for what it should be: `"crit": 5` is a TypeError, a list an AttributeError.
_REFUSED = (JoseError, ValueError, TypeError, AttributeError, RecursionError)

_log = logging.getLogger(__name__)


class KeysAwayError(Exception):
    """The keys were never fetched, so nobody can tell whether a token counts: answer 503."""


class SponsorTokens:
    """Reads tokens about one sponsorable; `fetch_keys` gets what `/.well-known/jwks.json` answers.

    A token about another sponsorable is refused, however much is given to them.

    The keys are kept for five minutes, and while they cannot be fetched anew. A token that names
    another key makes them be fetched as well, but not for each one that somebody makes up.
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
        self._asked_at = self._due_at = clock()
        # decode() looks at the signature only.
        self._registry = jwt.JWTClaimsRegistry(
            leeway=5,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            sub={"essential": True},
            exp={"essential": True},
            sponsorable={"essential": True, "value": sponsorable.lower()},
        )

    def read(self, token: str) -> dict[str, Any] | None:
        """Returns the claims of a token that counts, else None.

        Raises:
            KeysAwayError: There are no keys to check it with.
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
        if now >= self._due_at or (is_missing and now >= self._asked_at + _ASKED_AT_MOST_EVERY_S):
            self._ask_for_keys()
        if not self._keys:
            raise KeysAwayError
        return self._keys

    def _ask_for_keys(self) -> None:
        kept_s = _ASKED_AT_MOST_EVERY_S
        try:
            self._keys = KeySet.import_key_set(self._fetch_keys())  # type: ignore[arg-type]
            kept_s = _KEPT_S
        except Exception:  # noqa: BLE001 - a proxy may answer in SponsorSync's place, with anything
            _log.exception("SponsorSync's keys could not be fetched; those from before are kept")
        self._asked_at = self._clock()
        self._due_at = self._asked_at + kept_s


def gives(claims: dict[str, Any], cents: int) -> bool:
    """Tells whether somebody is entitled by so much; what is not claimed is not known."""
    return claims.get("entitled") is True and claims.get("cents", 0) >= cents
