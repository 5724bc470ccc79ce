"""Sign in with GitHub, and sign out."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import Field

from sponsorsync.domain.errors import (
    LoginDeniedError,
    LoginError,
    LoginExpiredError,
    LoginRejectedError,
    SponsorSyncError,
)
from sponsorsync.web.cookies import OpenAttempt
from sponsorsync.web.dependencies import ServicesDep, SessionToken
from sponsorsync.web.errors import error_responses, respond_to
from sponsorsync.web.origins import choose_next_url
from sponsorsync.web.schemas import Model

router = APIRouter(tags=["login"])

CALLBACK_PATH = "/oauth2/callback"

_AFTER_LOGIN = "/account"


class SignedInOut(Model, from_attributes=True):
    """A part of the profile, as the callback returns it to a client that accepts JSON."""

    status: Literal["success"] = "success"
    id: int
    email: str | None
    user_login: str = Field(validation_alias="login")


@router.get(
    "/login", status_code=303, response_class=RedirectResponse, summary="Sign in with GitHub"
)
async def start_login(
    request: Request,
    services: ServicesDep,
    next_url: Annotated[
        str | None,
        Query(
            alias="next",
            description="The next page: a path of this site, or an address of an allowed origin.",
            examples=["/account"],
        ),
    ] = None,
    login: Annotated[
        str | None, Query(max_length=100, description="The GitHub account to suggest.")
    ] = None,
    *,
    moved: Annotated[bool, Query(include_in_schema=False)] = False,
) -> Response:
    """Sends the browser to GitHub; a cookie binds the sign-in to this browser."""
    if not moved and request.headers.get("host") != urlsplit(services.origin).netloc:
        # The attempt's cookie must be set on the host to which GitHub sends the browser back.
        # `moved` prevents endless redirects behind a proxy that rewrites the Host header.
        here = request.url.include_query_params(moved="true")
        return RedirectResponse(f"{services.origin}{here.path}?{here.query}", status_code=303)
    attempt = services.sign_in.start(login_hint=login or None)
    response = RedirectResponse(attempt.url, status_code=303)
    services.cookies.clear_excess_attempts(response, request.cookies)
    services.cookies.set_attempt(
        response,
        OpenAttempt(
            state=attempt.state,
            code_verifier=attempt.code_verifier,
            next_url=choose_next_url(
                next_url, default=_AFTER_LOGIN, allowed_origins=services.allowed_origins
            ),
        ),
        now=services.clock(),
    )
    return response


@router.get(
    CALLBACK_PATH,
    status_code=303,
    response_class=RedirectResponse,
    summary="Finish the sign-in (GitHub sends the browser here)",
    responses={
        200: {"model": SignedInOut, "description": "With `Accept: application/json`"},
        **error_responses(400, 403, 502, 503),
    },
)
async def finish_login(
    request: Request,
    services: ServicesDep,
    replaced_session: SessionToken,
    state: Annotated[str, Query(description="The state that was sent to GitHub.")] = "",
    code: Annotated[str, Query(description="Exchanged for a token, once.")] = "",
    error: Annotated[str, Query(description="Why there is no code.")] = "",
    iss: Annotated[str | None, Query(description="The issuer (RFC 9207).")] = None,
) -> Response:
    """Exchanges the code, loads the person and their sponsorships, and opens a session.

    `state` is checked first, even before `error`, because any site can send a browser here.
    """
    attempt = services.cookies.read_attempt(request.cookies, state, now=services.clock())
    if attempt is None or attempt.person_id is not None:
        raise LoginExpiredError(
            "This sign-in was not started in this browser, was used already, or was started more "
            "than ten minutes ago. Please sign in again."
        )
    response: Response
    try:
        if iss is not None and iss != services.sign_in.oauth.issuer:
            raise LoginExpiredError("The answer does not come from GitHub. Please sign in again.")
        if error or not code:
            raise _refusal(error)
        signed_in = await services.sign_in.finish(
            code=code, code_verifier=attempt.code_verifier, replaces=replaced_session
        )
    except SponsorSyncError as failure:
        response = respond_to(request, failure)
    else:
        if _wants_json(request):
            body = SignedInOut.model_validate(signed_in.profile)
            response = JSONResponse(body.model_dump())
        else:
            response = RedirectResponse(attempt.next_url, status_code=303)
        services.cookies.set_session(response, signed_in.session_token)
    services.cookies.clear_attempt(response, state)
    return response


@router.post(
    "/logout",
    status_code=303,
    response_class=RedirectResponse,
    summary="Sign out",
    responses={204: {"description": "Without `Accept: text/html`"}, **error_responses(403)},
)
async def logout(request: Request, services: ServicesDep, token: SessionToken) -> Response:
    """Ends the session on the server and in the browser; without a session it does nothing."""
    if token is not None:
        await services.people.end_session(token)
    response = (
        RedirectResponse("/", status_code=303)
        if "text/html" in request.headers.get("accept", "")
        else Response(status_code=204)
    )
    services.cookies.clear_session(response)
    return response


def _refusal(error: str) -> LoginError:
    # https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-authorization-request-errors
    if error == "access_denied":
        return LoginDeniedError(
            "You did not allow SponsorSync to see your GitHub profile, so you are not signed in. "
            "Nothing was stored. You can try again whenever you like."
        )
    if error == "application_suspended":
        return LoginRejectedError("GitHub has suspended this site's OAuth app.")
    if error == "redirect_uri_mismatch":
        return LoginRejectedError(
            "GitHub does not know this site's callback address. Its operator has to enter "
            f"SPONSORSYNC_PUBLIC_URL followed by {CALLBACK_PATH} in the OAuth app's settings."
        )
    return LoginError("GitHub did not complete the sign-in. Please try again.")


def _wants_json(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    return "application/json" in accept and "text/html" not in accept
