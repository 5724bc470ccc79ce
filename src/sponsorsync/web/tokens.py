"""Tokens that other services check offline, and their public keys."""

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from sponsorsync.domain.entitlement import evaluate
from sponsorsync.domain.errors import NoTokensError, NotSignedInError
from sponsorsync.tokens.issuer import TokenIssuer
from sponsorsync.web.dependencies import ServicesDep, SessionOnly
from sponsorsync.web.errors import error_responses
from sponsorsync.web.forward_auth import Sponsorable, choose_sponsorable
from sponsorsync.web.schemas import Model
from sponsorsync.web.services import Services

router = APIRouter(tags=["tokens"])


class TokenOut(Model):
    """A signed token, for `Authorization: Bearer …` (RFC 6750)."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a kind of token
    expires_in: int = Field(examples=[600], description="In seconds.")


class JwkOut(Model):
    """One public key (RFC 7517)."""

    kid: str
    kty: Literal["EC"]
    crv: Literal["P-256"]
    alg: Literal["ES256"]
    use: Literal["sig"]
    x: str
    y: str


class JwksOut(Model):
    """Every key whose tokens are valid."""

    keys: list[JwkOut]


@router.post(
    "/token",
    summary="Create a token that other services check offline",
    responses=error_responses(401, 403, 404, 409, 503),
)
async def create_token(
    services: ServicesDep, session: SessionOnly, sponsorable: Sponsorable = None
) -> TokenOut:
    """Returns a token for the signed-in person, entitled or not, that is valid for some minutes.

    Its claim `sub` is GitHub's numeric id; `entitled`, `cents` and `until` describe the entitlement
    for `sponsorable`, and are absent if unknown. The token expires no later than the entitlement.
    The call needs a session: a token cannot create another token.
    """
    tokens = _require_tokens(services)
    receiver = choose_sponsorable(services, sponsorable)
    standing = await services.people.load_caller(session, receiver)
    if standing is None:
        raise NotSignedInError
    now = services.clock()
    entitlement = evaluate(receiver, standing.facts, policy=services.policy, now=now)
    issued = tokens.issue(standing.person_id, entitlement, now=now)
    return TokenOut(access_token=issued.token, expires_in=issued.expires_in_s)


@router.get(
    "/.well-known/jwks.json",
    summary="List the public keys of the tokens",
    responses=error_responses(409),
)
async def list_token_keys(services: ServicesDep) -> JwksOut:
    """Returns every key whose tokens are valid (RFC 7517); it may be cached for five minutes.

    A new key is listed ten minutes before it signs tokens, so such a cache has it in time.
    """
    keys = _require_tokens(services).list_public_keys(now=services.clock())
    return JwksOut(keys=[JwkOut.model_validate(key) for key in keys])


def _require_tokens(services: Services) -> TokenIssuer:
    if services.tokens is None:
        raise NoTokensError
    return services.tokens
