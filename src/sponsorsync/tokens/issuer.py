"""Signs tokens, and reads them again."""

import asyncio
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, GuestProtocol

from sponsorsync.background import Supervisor
from sponsorsync.domain.entitlement import Entitlement, EntitlementStatus
from sponsorsync.domain.errors import SettingsError
from sponsorsync.settings import Settings
from sponsorsync.tokens.keyring import ALGORITHM, Keyring, load_keyring, load_or_create_keyring

_LONGEST_TOKEN = 2048
_RELOAD_S = 5.0

# joserfc does not validate all header values: `"crit": 5` raises a TypeError.
_REFUSED = (JoseError, ValueError, TypeError, RecursionError)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A signed token and its lifetime."""

    token: str
    expires_in_s: int


@dataclass(slots=True)
class TokenIssuer:
    """Signs and reads tokens with the keys of `keyring`, which may be replaced at any time."""

    keyring: Keyring
    _: KW_ONLY
    issuer: str
    audience: str
    life: timedelta

    def issue(self, person_id: int, entitlement: Entitlement, *, now: datetime) -> IssuedToken:
        """Returns a token with the person's id and entitlement.

        The token expires at the latest when the entitlement ends.
        """
        issued_at = int(now.timestamp())
        expires_at = issued_at + int(self.life.total_seconds())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": str(person_id),
            "iat": issued_at,
            "sponsorable": entitlement.sponsorable,
        }
        if entitlement.status is not EntitlementStatus.UNKNOWN:  # an unknown status has no claim
            claims["entitled"] = entitlement.status is EntitlementStatus.ENTITLED
        if entitlement.tier_cents is not None:
            claims["cents"] = entitlement.tier_cents
        if entitlement.until is not None:
            claims["until"] = int(entitlement.until.timestamp())
            expires_at = min(expires_at, claims["until"])
        key = self.keyring.find_signing(now)
        token = jwt.encode(
            {"alg": ALGORITHM, "kid": key.kid},
            {**claims, "exp": expires_at},
            key.key,
            algorithms=[ALGORITHM],
        )
        return IssuedToken(token=token, expires_in_s=expires_at - issued_at)

    def read(self, token: str, *, now: datetime) -> int | None:
        """Returns the person id of a token; None if the token is not valid."""
        if len(token) > _LONGEST_TOKEN:
            return None
        registry = jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            iss={"essential": True, "value": self.issuer},
            aud={"essential": True, "value": self.audience},
            sub={"essential": True},
            exp={"essential": True},
        )
        try:
            find_key = partial(self._find_key, now)
            claims = jwt.decode(token, find_key, algorithms=[ALGORITHM]).claims
            # `iat` is not checked: another replica's clock may be slightly ahead.
            registry.validate({name: claims.get(name) for name in ("iss", "aud", "sub", "exp")})
            return int(claims["sub"])
        except _REFUSED:
            return None

    def list_public_keys(self, *, now: datetime) -> list[dict[str, str]]:
        """Returns the public parts of all keys that are not retired, as JWKs."""
        return [key.to_public_jwk() for key in self.keyring.list_accepted(now)]

    def _find_key(self, now: datetime, token: GuestProtocol) -> ECKey:
        key = self.keyring.find(token.headers().get("kid"), now)
        if key is None:
            raise ValueError("the token names an unknown key")
        return key.key


async def open_tokens(
    supervisor: Supervisor,
    settings: Settings,
    *,
    life: timedelta,
    clock: Callable[[], datetime],
    reload_s: float = _RELOAD_S,
) -> TokenIssuer | None:
    """Returns the token issuer, or None if SPONSORSYNC_TOKEN_AUDIENCE is not set.

    Also starts a loop that reloads the key file, which `sponsorsync keys rotate` may change.

    Raises:
        SettingsError: The key file cannot be used.
    """
    if settings.token_audience is None:
        return None
    tokens = TokenIssuer(
        await asyncio.to_thread(load_or_create_keyring, settings, now=clock()),
        issuer=settings.origin,
        audience=settings.token_audience,
        life=life,
    )
    reload = partial(reload_keys, tokens, settings)
    supervisor.start("token_keys", reload, every_s=reload_s)
    return tokens


async def reload_keys(tokens: TokenIssuer, settings: Settings) -> None:
    """Loads the keys from the file again; keeps the present keys if that fails."""
    try:
        keyring = await asyncio.to_thread(load_keyring, settings)
    except SettingsError as error:
        _log.warning("token_keys_not_reloaded", reason=str(error))
        return
    if [each.kid for each in keyring.keys] != [each.kid for each in tokens.keyring.keys]:
        _log.info("token_keys_reloaded", count=len(keyring.keys))
    tokens.keyring = keyring
