"""Forward auth: a reverse proxy asks, for each request to something else, whether to let it in.

docs/forward-auth.md has what nginx, Traefik and Caddy need for that.
"""

from __future__ import annotations

import re
from datetime import UTC
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from sponsorsync.domain.access_check import Caller, require_entitlement
from sponsorsync.domain.entitlement import Entitlement, evaluate
from sponsorsync.domain.errors import NotFoundError, SponsorSyncError
from sponsorsync.domain.sponsorship import normalize_login
from sponsorsync.web.dependencies import READER_SECURITY, find_caller, not_signed_in
from sponsorsync.web.errors import describe_responses, respond_to
from sponsorsync.web.origins import choose_next_url, find_forwarded_url
from sponsorsync.web.services import Services

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

router = APIRouter(tags=["forward auth"])

_PATH = "/auth/sponsor"
_MAX_LOGIN_LENGTH = 100
_MAX_CENTS = 100_000_000
# What is none comes from somebody else's hand, and could be more than one header.
_LOGIN = re.compile(r"[A-Za-z0-9_-]+")
# What FastAPI would take and read alike: no escapes, nothing twice, nothing that is too much.
_PLAIN_QUERY = re.compile(
    rb"(?:sponsorable=([A-Za-z0-9-]{0,100})(?:&|$))?(?:min_cents=([0-9]{1,8}))?"
)

_TOLD = {
    "X-Sponsor-Id": "GitHub's numeric id of who calls.",
    "X-Sponsor-Login": "Their login; absent where it is not known.",
    "X-Sponsor-Cents": "What they give, in US cents; absent where it is not known.",
    "X-Sponsor-Until": "When the entitlement ends, exclusively; absent while it has no end.",
}

Sponsorable = Annotated[
    str | None,
    Query(
        max_length=_MAX_LOGIN_LENGTH,
        examples=["octo-org"],
        description="Whom they should sponsor; else the first of SPONSORSYNC_SPONSORABLES.",
    ),
]


def choose_sponsorable(services: Services, wanted: str | None) -> str:
    """Returns the sponsorable that a request is about.

    Raises:
        NotFoundError: It is none of those that are configured.
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
    summary="May who calls see what is for sponsors?",
    openapi_extra={"security": READER_SECURITY},
    responses={
        204: {
            "description": "Yes",
            "headers": {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in _TOLD.items()
            },
        },
        **describe_responses(401, 403, 404, 409, 503),
    },
)
async def authorize_sponsor(
    request: Request,
    sponsorable: Sponsorable = None,
    min_cents: Annotated[
        int,
        Query(ge=0, le=_MAX_CENTS, examples=[1000], description="The least tier, in US cents."),
    ] = 0,
) -> Response:
    """Answers 204 while the person is entitled by at least so many cents.

    401 has the address of the sign-in in `X-Login-Url` and in the body, with the way back where
    one of `SPONSORSYNC_TRUSTED_PROXIES` tells what was asked for (`X-Forwarded-Proto`, `-Host` and
    `-Uri`). 403 has the sponsorable's page in `X-Sponsor-Url`; its `code` tells who is no sponsor
    (`not_a_sponsor`) from who gives less (`tier_too_low`), from whose tier nobody told
    (`tier_unknown`), and from who may be one, which nobody could tell (`entitlement_unknown`).
    """
    return await _authorize(request, sponsorable, min_cents)


class PlainQuestions:
    """Answers `GET /auth/sponsor` before FastAPI does, where the query leaves nothing to check.

    FastAPI's way to a route takes longer than this answer, and none is asked for more often. What
    is not plain goes that way: every mistake, and HEAD.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, as ASGI has it."""
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
    caller = find_caller(request, services)
    receiver = choose_sponsorable(services, sponsorable)
    standing = None if caller is None else await services.people.load_caller(caller, receiver)
    if standing is None:
        raise not_signed_in(request, login_url=_login_url(request, services))
    entitlement = evaluate(receiver, standing.facts, policy=services.policy, now=services.clock())
    require_entitlement(
        entitlement, min_cents=min_cents, sponsor_url=services.sponsor_urls[receiver]
    )
    return Response(status_code=204, headers=_describe(standing, entitlement))


def _describe(standing: Caller, entitlement: Entitlement) -> dict[str, str]:
    headers = {"X-Sponsor-Id": str(standing.person_id)}
    if standing.login is not None and _LOGIN.fullmatch(standing.login):
        headers["X-Sponsor-Login"] = standing.login
    if entitlement.tier_cents is not None:
        headers["X-Sponsor-Cents"] = str(entitlement.tier_cents)
    if entitlement.until is not None:
        headers["X-Sponsor-Until"] = f"{entitlement.until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return headers


def _login_url(request: Request, services: Services) -> str:
    """Returns the sign-in's address, with the way back where it is known and allowed."""
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
