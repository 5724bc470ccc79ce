"""Linking an account of Patreon's to who is signed in (docs/patreon.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from sponsorsync.domain.errors import (
    NoPatreonError,
    PatreonDeniedError,
    PatreonExpiredError,
    SponsorSyncError,
)
from sponsorsync.web.cookies import OpenAttempt
from sponsorsync.web.dependencies import PersonId, ServicesDep
from sponsorsync.web.errors import error_responses, respond_to
from sponsorsync.web.services import Services

if TYPE_CHECKING:
    from sponsorsync.entitlements.account_link import PatreonLink

router = APIRouter(prefix="/patreon", tags=["patreon"])

CALLBACK_PATH = "/patreon/callback"
NO_PATRON_URL = "/account?patreon=none"
_SEE_OTHER = 303


@router.get(
    "/link",
    status_code=_SEE_OTHER,
    response_class=RedirectResponse,
    summary="Begin to link an account of Patreon's",
    responses=error_responses(401, 409),
)
async def start_link(request: Request, person_id: PersonId, services: ServicesDep) -> Response:
    """Sends the browser to Patreon, bound to it and to who is signed in by a cookie."""
    attempt = _require_patreon(services).start()
    response = RedirectResponse(attempt.url, status_code=_SEE_OTHER)
    services.cookies.clear_excess_attempts(response, request.cookies)
    services.cookies.set_attempt(
        response,
        OpenAttempt(
            state=attempt.state, code_verifier="", next_url="/account", person_id=person_id
        ),
        now=services.clock(),
    )
    return response


@router.get(
    "/callback",
    status_code=_SEE_OTHER,
    response_class=RedirectResponse,
    summary="End of it: Patreon sends the browser here",
    responses=error_responses(400, 401, 403, 409, 502, 503),
)
async def finish_link(
    request: Request,
    person_id: PersonId,
    services: ServicesDep,
    state: Annotated[str, Query(description="As it was sent to Patreon.")] = "",
    code: Annotated[str, Query(description="To be exchanged for a token, once.")] = "",
    error: Annotated[str, Query(description="Why there is no code.")] = "",
) -> Response:
    """Asks Patreon once what the person gives; its token is not kept.

    The state is checked before anything else: anybody can link to this address.
    """
    patreon = _require_patreon(services)
    attempt = services.cookies.read_attempt(request.cookies, state, now=services.clock())
    if attempt is None or attempt.person_id != person_id:
        raise PatreonExpiredError(
            "This was not begun in this browser by who is signed in, was used already, or began "
            "more than ten minutes ago. Please link Patreon again."
        )
    response: Response
    try:
        if error or not code:
            raise PatreonDeniedError(
                "You did not allow SponsorSync to see your Patreon profile, so nothing was linked."
            )
        is_patron = await patreon.finish(person_id, code=code)
    except SponsorSyncError as failure:
        response = respond_to(request, failure)
    else:
        back = attempt.next_url if is_patron else NO_PATRON_URL
        response = RedirectResponse(back, status_code=_SEE_OTHER)
    services.cookies.clear_attempt(response, state)
    return response


@router.post(
    "/unlink",
    status_code=_SEE_OTHER,
    response_class=RedirectResponse,
    summary="Forget my account of Patreon's",
    responses=error_responses(401, 403, 409, 503),
)
async def unlink(person_id: PersonId, services: ServicesDep) -> Response:
    """Ends what it entitled; it is no error to have none."""
    await _require_patreon(services).unlink(person_id)
    return RedirectResponse("/account", status_code=_SEE_OTHER)


def _require_patreon(services: Services) -> PatreonLink:
    if services.patreon is None:
        raise NoPatreonError
    return services.patreon
