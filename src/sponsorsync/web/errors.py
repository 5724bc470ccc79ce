"""How errors are said: the one place that decides on HTTP statuses.

A browser gets a page, everybody else RFC 9457 problem details, by the Accept header.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from sponsorsync.domain import errors
from sponsorsync.web.pages import render_page
from sponsorsync.web.schemas import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI
    from starlette.requests import Request

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Rule:
    status: HTTPStatus
    code: str
    title: str


# The first that fits counts: subclasses stand before their parents.
_RULES: tuple[tuple[type[errors.SponsorSyncError], _Rule], ...] = (
    (
        errors.TooLargeError,
        _Rule(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "That is too much at once"),
    ),
    (
        errors.MalformedEventError,
        _Rule(HTTPStatus.BAD_REQUEST, "malformed_event", "That is no event"),
    ),
    (
        errors.InvalidInputError,
        _Rule(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_input", "That cannot be used"),
    ),
    (
        errors.BearerRefusedError,
        _Rule(HTTPStatus.UNAUTHORIZED, "bearer_refused", "That token does not count"),
    ),
    (
        errors.TokenReadsOnlyError,
        _Rule(HTTPStatus.FORBIDDEN, "token_reads_only", "A token may only read"),
    ),
    (
        errors.NotSignedInError,
        _Rule(HTTPStatus.UNAUTHORIZED, "not_signed_in", "You are not signed in"),
    ),
    (
        errors.NotASponsorError,
        _Rule(HTTPStatus.FORBIDDEN, "not_a_sponsor", "This is for sponsors"),
    ),
    (
        errors.TierTooLowError,
        _Rule(HTTPStatus.FORBIDDEN, "tier_too_low", "This is for a higher tier"),
    ),
    (
        errors.TierUnknownError,
        _Rule(HTTPStatus.FORBIDDEN, "tier_unknown", "Your tier is not known"),
    ),
    (
        errors.CoverUnknownError,
        _Rule(HTTPStatus.FORBIDDEN, "cover_unknown", "It is not known whether you are a sponsor"),
    ),
    (
        errors.EventSignatureError,
        _Rule(HTTPStatus.UNAUTHORIZED, "bad_signature", "That was not signed by GitHub"),
    ),
    (
        errors.NoWebhookError,
        _Rule(HTTPStatus.NOT_FOUND, "no_webhook", "There is no webhook here"),
    ),
    (
        errors.RefreshNeedsLoginError,
        _Rule(HTTPStatus.CONFLICT, "sign_in_again", "Sign in again for that"),
    ),
    (
        errors.RefreshLimitedError,
        _Rule(HTTPStatus.TOO_MANY_REQUESTS, "refresh_limited", "Not so often, please"),
    ),
    (
        errors.NoMaintainerTokenError,
        _Rule(HTTPStatus.CONFLICT, "no_maintainer_token", "There is no maintainer's token"),
    ),
    (
        errors.NotFoundError,
        _Rule(HTTPStatus.NOT_FOUND, "not_found", "That is not there"),
    ),
    (
        errors.AdminTokenMissingError,
        _Rule(HTTPStatus.UNAUTHORIZED, "admin_token_missing", "This is for administrators"),
    ),
    (
        errors.AdminForbiddenError,
        _Rule(HTTPStatus.FORBIDDEN, "not_an_administrator", "This is for administrators"),
    ),
    (
        errors.NoTokensError,
        _Rule(HTTPStatus.CONFLICT, "no_tokens", "There are no tokens"),
    ),
    (
        errors.NoPatreonError,
        _Rule(HTTPStatus.CONFLICT, "no_patreon", "There is no Patreon"),
    ),
    (
        errors.NoDurableError,
        _Rule(HTTPStatus.CONFLICT, "no_durable", "There is no durable side"),
    ),
    (
        errors.JobRunningError,
        _Rule(HTTPStatus.CONFLICT, "job_running", "One of these is running already"),
    ),
    (
        errors.CrossSiteError,
        _Rule(HTTPStatus.FORBIDDEN, "cross_site", "Another site asked for this"),
    ),
    (
        errors.LoginDeniedError,
        _Rule(HTTPStatus.FORBIDDEN, "login_denied", "You did not give your consent"),
    ),
    (
        errors.LoginExpiredError,
        _Rule(HTTPStatus.BAD_REQUEST, "login_expired", "This sign-in is not, or no longer, valid"),
    ),
    (
        errors.LoginRejectedError,
        _Rule(HTTPStatus.BAD_GATEWAY, "login_rejected", "GitHub does not accept this site"),
    ),
    (
        errors.LoginError,
        _Rule(HTTPStatus.BAD_REQUEST, "login_failed", "The sign-in did not work"),
    ),
    (
        errors.GitHubLimitedError,
        _Rule(HTTPStatus.SERVICE_UNAVAILABLE, "github_limited", "GitHub asks for patience"),
    ),
    (
        errors.GitHubError,
        _Rule(HTTPStatus.BAD_GATEWAY, "github_unavailable", "GitHub cannot be asked"),
    ),
    (
        errors.PatreonDeniedError,
        _Rule(HTTPStatus.FORBIDDEN, "patreon_denied", "You did not give your consent"),
    ),
    (
        errors.PatreonExpiredError,
        _Rule(HTTPStatus.BAD_REQUEST, "patreon_expired", "This is not, or no longer, valid"),
    ),
    (
        errors.PatreonLimitedError,
        _Rule(HTTPStatus.SERVICE_UNAVAILABLE, "patreon_limited", "Patreon asks for patience"),
    ),
    (
        errors.PatreonError,
        _Rule(HTTPStatus.BAD_GATEWAY, "patreon_unavailable", "Patreon cannot be asked"),
    ),
    (
        errors.StoreUnavailableError,
        _Rule(HTTPStatus.SERVICE_UNAVAILABLE, "store_unavailable", "The database is away"),
    ),
    (
        errors.StoreConflictError,
        _Rule(HTTPStatus.CONFLICT, "store_conflict", "The data are of another kind"),
    ),
    (
        errors.GearsUnsupportedError,
        _Rule(HTTPStatus.CONFLICT, "no_gears", "There is no RedisGears to run this"),
    ),
    (
        errors.GearsError,
        _Rule(HTTPStatus.BAD_GATEWAY, "gears_failed", "RedisGears did not do it"),
    ),
)
_OTHER_RULE = _Rule(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "Something went wrong")


def add_error_handlers(app: FastAPI) -> None:
    """Makes the app answer every error, foreseen or not, in our words."""
    app.add_exception_handler(errors.SponsorSyncError, _handle_ours)
    app.add_exception_handler(RequestValidationError, _handle_validation)
    app.add_exception_handler(HTTPException, _handle_http)


def respond_to(request: Request, error: errors.SponsorSyncError) -> Response:
    """Returns the answer that an error of ours amounts to."""
    rule = next((rule for kind, rule in _RULES if isinstance(error, kind)), _OTHER_RULE)
    problem = Problem(title=rule.title, status=rule.status, code=rule.code, detail=str(error))
    headers = {}
    if isinstance(
        error,
        errors.GitHubLimitedError
        | errors.PatreonLimitedError
        | errors.RefreshLimitedError
        | errors.StoreUnavailableError,
    ):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, errors.RefreshNeedsLoginError):
        problem.login_url = headers["X-Login-Url"] = error.login_url
    elif isinstance(error, errors.AdminTokenMissingError):
        headers["WWW-Authenticate"] = 'Bearer realm="SponsorSync"'
    elif isinstance(error, errors.EventSignatureError):
        headers["WWW-Authenticate"] = 'Signature realm="SponsorSync"'
    elif isinstance(error, errors.NotSignedInError):
        problem.login_url = headers["X-Login-Url"] = error.login_url
        # RFC 9110, 11.6.1 wants a challenge with each 401; ours is a cookie, or a token (RFC 6750).
        headers["WWW-Authenticate"] = (
            'Bearer realm="SponsorSync", error="invalid_token"'
            if isinstance(error, errors.BearerRefusedError)
            else 'Cookie realm="SponsorSync"'
        )
    elif isinstance(error, errors.NotEntitledError):
        problem.sponsor_url = headers["X-Sponsor-Url"] = error.sponsor_url
    if rule.status >= HTTPStatus.INTERNAL_SERVER_ERROR or rule.status is HTTPStatus.CONFLICT:
        _log.warning(
            "request_failed",
            path=request.url.path,
            code=rule.code,
            detail=str(error),
            cause=str(error.__cause__),
        )
    elif isinstance(error, errors.LoginError):
        _log.info("login_failed", code=rule.code, detail=str(error))
    return _render(request, problem, headers)


def describe_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns FastAPI's description of the error answers of a route (see `openapi.py`)."""
    return {
        status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in statuses
    }


def respond_to_unforeseen(request: Request, error: Exception) -> Response:
    """Returns the answer to an error that nobody foresaw; the trace goes to the log alone."""
    incident = uuid.uuid4().hex
    _log.error("unforeseen_error", path=request.url.path, incident=incident, exc_info=error)
    problem = Problem(
        title=_OTHER_RULE.title,
        status=_OTHER_RULE.status,
        code=_OTHER_RULE.code,
        detail=f"This is our fault. The operator finds it in the log as {incident}.",
    )
    return _render(request, problem, {})


async def _handle_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.SponsorSyncError)  # noqa: S101 - the registration says so
    return respond_to(request, error)


async def _handle_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the registration says so
    return respond_to(request, errors.InvalidInputError(_describe_validation(error.errors())))


async def _handle_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the registration says so
    status = HTTPStatus(error.status_code)
    details = {
        HTTPStatus.NOT_FOUND: "There is nothing at this address.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"This address takes no {request.method}.",
    }
    problem = Problem(
        title=status.phrase,
        status=status,
        code=status.name.lower(),
        detail=details.get(status, str(error.detail)),
    )
    return _render(request, problem, dict(error.headers or {}))


def _describe_validation(found: Sequence[Any]) -> str:
    """Returns one sentence on the first fault; what was sent is not repeated, it may be huge."""
    first = found[0]
    if first["type"] == "json_invalid":  # its place is a count of characters
        return f"the body: should be JSON ({first['ctx']['error']})."
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    return f"{where}: {first['msg']}."


def _render(request: Request, problem: Problem, headers: dict[str, str]) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        page = render_page("error.html", status=problem.status, problem=problem)
        page.headers.update(headers)
        return page
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        status_code=problem.status,
        headers=headers,
        media_type="application/problem+json",
    )
