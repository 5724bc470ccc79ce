"""Forward auth: a reverse proxy asks before each request whether to allow it.

docs/forward-auth.md has the configuration of nginx, Traefik and Caddy.
"""

import re
from datetime import UTC
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sponsorsync.domain.access_check import Caller, require_entitlement
from sponsorsync.domain.entitlement import Entitlement, evaluate
from sponsorsync.domain.errors import NotFoundError, SponsorSyncError
from sponsorsync.domain.sponsorship import normalize_login
from sponsorsync.web.dependencies import READER_SECURITY, find_caller, not_signed_in
from sponsorsync.web.errors import error_responses, respond_to
from sponsorsync.web.origins import choose_next_url, find_forwarded_url
from sponsorsync.web.services import Services

router = APIRouter(tags=["forward auth"])

_PATH = "/auth/sponsor"
# Only such a login is sent in a header. Other programs write to Redis, too, and other text could
# inject a header.
_LOGIN = re.compile(r"[A-Za-z0-9_-]+")
# Queries without escapes, repeated or other parameters. FastAPI would get the same values.
_PLAIN_QUERY = re.compile(
    rb"(?:sponsorable=([A-Za-z0-9-]{0,100})(?:&|$))?(?:min_cents=([0-9]{1,8}))?"
)

_HEADERS = {
    "X-Sponsor-Id": "GitHub's numeric id of the person.",
    "X-Sponsor-Login": "The login; absent if unknown.",
    "X-Sponsor-Cents": "The tier in US cents; absent where it is not known.",
    "X-Sponsor-Until": "Exclusive end of the entitlement; absent if it has none.",
}

Sponsorable = Annotated[
    str | None,
    Query(
        max_length=100,
        examples=["octo-org"],
        description="A login; by default the first of SPONSORSYNC_SPONSORABLES.",
    ),
]


def choose_sponsorable(services: Services, wanted: str | None) -> str:
    """Returns the sponsorable of a request; by default the first one.

    Raises:
        NotFoundError: The sponsorable is not configured.
    """
    if not wanted:
        return services.sponsorables[0]
    login = normalize_login(wanted)
    if login not in services.sponsorables:
        raise NotFoundError("That sponsorable is not one of SPONSORSYNC_SPONSORABLES.")
    return login


@router.get(
    _PATH,
    status_code=204,
    response_class=Response,
    summary="Check the entitlement for a reverse proxy",
    openapi_extra={"security": READER_SECURITY},
    responses={
        204: {
            "description": "The person is entitled",
            "headers": {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in _HEADERS.items()
            },
        },
        **error_responses(401, 403, 404, 409, 503),
    },
)
async def authorize_sponsor(
    request: Request,
    sponsorable: Sponsorable = None,
    min_cents: Annotated[
        int,
        Query(ge=0, le=100_000_000, examples=[1000], description="The lowest tier, in US cents."),
    ] = 0,
) -> Response:
    """Answers 204 while the person is entitled with a tier of at least `min_cents`.

    401: `X-Login-Url` and the body have the address of the sign-in. The sign-in leads back to the
    requested address if one of `SPONSORSYNC_TRUSTED_PROXIES` sends that in `X-Forwarded-Proto`,
    `-Host` and `-Uri`. 403: `X-Sponsor-Url` is the sponsorable's page, and `code` in the body is
    the reason: no sponsor (`not_a_sponsor`), a lower tier (`tier_too_low`), an unknown tier
    (`tier_unknown`), or that GitHub has not told whether the person is entitled
    (`entitlement_unknown`).
    """
    return await _authorize(request, sponsorable, min_cents)


class PlainForwardAuth:
    """Answers `GET /auth/sponsor` before FastAPI if the query needs no further validation.

    FastAPI's routing alone takes longer than this answer, which is the most frequent one. All other
    requests, such as malformed ones and HEAD, go on to FastAPI.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI request."""
        plain = (
            _PLAIN_QUERY.fullmatch(scope["query_string"])
            if scope["type"] == "http" and scope["path"] == _PATH and scope["method"] == "GET"
            else None
        )
        if plain is None:
            await self._app(scope, receive, send)
            return
        sponsorable, min_cents = plain.groups(b"")
        request = Request(scope, receive)
        try:
            response = await _authorize(request, sponsorable.decode(), int(min_cents or 0))
        except SponsorSyncError as error:
            response = respond_to(request, error)
        await response(scope, receive, send)


async def _authorize(request: Request, sponsorable: str | None, min_cents: int) -> Response:
    services: Services = request.state.services
    credential = find_caller(request, services)
    receiver = choose_sponsorable(services, sponsorable)
    caller = None if credential is None else await services.people.load_caller(credential, receiver)
    if caller is None:
        raise not_signed_in(request, login_url=_login_url(request, services))
    entitlement = evaluate(receiver, caller.facts, policy=services.policy, now=services.clock())
    require_entitlement(
        entitlement, min_cents=min_cents, sponsor_url=services.sponsor_urls[receiver]
    )
    return Response(status_code=204, headers=_to_headers(caller, entitlement))


def _to_headers(caller: Caller, entitlement: Entitlement) -> dict[str, str]:
    headers = {"X-Sponsor-Id": str(caller.person_id)}
    if caller.login is not None and _LOGIN.fullmatch(caller.login):
        headers["X-Sponsor-Login"] = caller.login
    if entitlement.tier_cents is not None:
        headers["X-Sponsor-Cents"] = str(entitlement.tier_cents)
    if entitlement.until is not None:
        headers["X-Sponsor-Until"] = f"{entitlement.until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return headers


def _login_url(request: Request, services: Services) -> str:
    """Returns the address of the sign-in, with the forwarded address as `next` if it is allowed."""
    url = f"{services.origin}/login"
    forwarded = find_forwarded_url(
        request.headers,
        peer=request.client.host if request.client else None,
        trusted_proxies=services.trusted_proxies,
    )
    if forwarded is None:
        return url
    back = choose_next_url(
        forwarded.removeprefix(services.origin)
        if forwarded.startswith(f"{services.origin}/")
        else forwarded,
        default="",
        allowed_origins=services.allowed_origins,
    )
    return f"{url}?next={quote(back, safe='/')}" if back else url
