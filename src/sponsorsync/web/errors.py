"""HTTP answers to errors; only this module decides their statuses.

A client that accepts HTML gets a page, any other client RFC 9457 problem details.
"""

import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sponsorsync.domain import errors
from sponsorsync.entitlements.linked_sources import LINKED_SOURCES
from sponsorsync.linked_source import callback_path
from sponsorsync.web.pages import render_page
from sponsorsync.web.schemas import Problem

_log = structlog.get_logger(__name__)


STATUSES = {
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
    "malformed_event": HTTPStatus.BAD_REQUEST,
    "login_expired": HTTPStatus.BAD_REQUEST,
    "login_failed": HTTPStatus.BAD_REQUEST,
    "link_expired": HTTPStatus.BAD_REQUEST,
    "bearer_refused": HTTPStatus.UNAUTHORIZED,
    "not_signed_in": HTTPStatus.UNAUTHORIZED,
    "bad_signature": HTTPStatus.UNAUTHORIZED,
    "admin_token_missing": HTTPStatus.UNAUTHORIZED,
    "token_reads_only": HTTPStatus.FORBIDDEN,
    "not_a_sponsor": HTTPStatus.FORBIDDEN,
    "tier_too_low": HTTPStatus.FORBIDDEN,
    "tier_unknown": HTTPStatus.FORBIDDEN,
    "entitlement_unknown": HTTPStatus.FORBIDDEN,
    "not_an_administrator": HTTPStatus.FORBIDDEN,
    "cross_site": HTTPStatus.FORBIDDEN,
    "login_denied": HTTPStatus.FORBIDDEN,
    "link_denied": HTTPStatus.FORBIDDEN,
    "no_webhook": HTTPStatus.NOT_FOUND,
    "not_found": HTTPStatus.NOT_FOUND,
    "sign_in_again": HTTPStatus.CONFLICT,
    "no_maintainer_token": HTTPStatus.CONFLICT,
    "no_tokens": HTTPStatus.CONFLICT,
    "no_link_source": HTTPStatus.CONFLICT,
    "no_durable": HTTPStatus.CONFLICT,
    "job_running": HTTPStatus.CONFLICT,
    "store_conflict": HTTPStatus.CONFLICT,
    "no_gears": HTTPStatus.CONFLICT,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "invalid_input": HTTPStatus.UNPROCESSABLE_ENTITY,
    "refresh_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "login_rejected": HTTPStatus.BAD_GATEWAY,
    "github_unavailable": HTTPStatus.BAD_GATEWAY,
    "link_unavailable": HTTPStatus.BAD_GATEWAY,
    "gears_failed": HTTPStatus.BAD_GATEWAY,
    "github_limited": HTTPStatus.SERVICE_UNAVAILABLE,
    "link_limited": HTTPStatus.SERVICE_UNAVAILABLE,
    "store_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The HTTP status of each code of `domain/errors.py`."""

# RFC 9110, 11.6.1 requires a challenge with each 401. It names the missing credential: a token
# (Bearer, RFC 6750), the session cookie (Cookie), or a webhook's signature (Signature).
CHALLENGES = {
    "admin_token_missing": 'Bearer realm="SponsorSync"',
    "bad_signature": 'Signature realm="SponsorSync"',
    "bearer_refused": 'Bearer realm="SponsorSync", error="invalid_token"',
    "not_signed_in": 'Cookie realm="SponsorSync"',
}
"""The `WWW-Authenticate` header of each code whose status is 401."""


def add_error_handlers(app: FastAPI) -> None:
    """Makes the app answer errors with problem details or the error page."""
    app.exception_handler(errors.SponsorSyncError)(_handle_ours)
    app.exception_handler(RequestValidationError)(_handle_validation)
    app.exception_handler(HTTPException)(_handle_http)


def respond_to(request: Request, error: errors.SponsorSyncError) -> Response:
    """Returns the answer to an error; logs server errors, conflicts and failed logins."""
    code, status = error.code, STATUSES[error.code]
    problem = Problem(title=error.title, status=status, code=code, detail=str(error))
    headers = _add_extras(problem, error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status is HTTPStatus.CONFLICT:
        _log.warning(
            "request_failed",
            path=request.url.path,
            code=code,
            detail=str(error),
            cause=str(error.__cause__),
        )
    elif isinstance(error, errors.LoginError):
        _log.info("login_failed", code=code, detail=str(error))
    return _render(request, problem, headers)


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI documentation of a route's error answers (see `openapi.py`)."""
    return {
        status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in statuses
    }


def respond_to_unexpected(request: Request, error: Exception) -> Response:
    """Returns the answer to an unexpected error; only the log has the traceback."""
    incident = uuid.uuid4().hex
    _log.error("unexpected_error", path=request.url.path, incident=incident, exc_info=error)
    root = errors.SponsorSyncError
    problem = Problem(
        title=root.title,
        status=STATUSES[root.code],
        code=root.code,
        detail=f"The service has failed. The operator finds the reason in the log as {incident}.",
    )
    return _render(request, problem, {})


def _add_extras(problem: Problem, error: errors.SponsorSyncError) -> dict[str, str]:
    """Adds the fields that only some errors have to `problem`; returns the answer's headers."""
    headers = {}
    if isinstance(error, errors.RetryLaterError):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, errors.NotSignedInError | errors.RefreshNeedsLoginError):
        problem.login_url = headers["X-Login-Url"] = error.login_url
    if isinstance(error, errors.NotEntitledError):
        problem.sponsor_url = headers["X-Sponsor-Url"] = error.sponsor_url
    if error.code in CHALLENGES:
        headers["WWW-Authenticate"] = CHALLENGES[error.code]
    return headers


async def _handle_ours(request: Request, error: errors.SponsorSyncError) -> Response:
    return respond_to(request, error)


async def _handle_validation(request: Request, error: RequestValidationError) -> Response:
    return respond_to(request, errors.InvalidInputError(_summarize_validation(error.errors())))


async def _handle_http(request: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    details = {
        HTTPStatus.NOT_FOUND: "There is nothing at this address.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"This address does not support {request.method}.",
    }
    problem = Problem(
        title=status.phrase,
        status=status,
        code=status.name.lower(),
        detail=details.get(status, str(error.detail)),
    )
    return _render(request, problem, dict(error.headers or {}))


def _summarize_validation(found: Sequence[Any]) -> str:
    """Returns one sentence about the first fault, without the faulty value, which may be huge."""
    first = found[0]
    if first["type"] == "json_invalid":  # its `loc` is a position in the text, not a field
        return f"the body: should be JSON ({first['ctx']['error']})."
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    return f"{where}: {first['msg']}."


def _render(request: Request, problem: Problem, headers: dict[str, str]) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        page = render_page(
            "error.html",
            status=problem.status,
            problem=problem,
            linked_sources=[
                each for each in LINKED_SOURCES if request.url.path == callback_path(each.source)
            ],
        )
        page.headers.update(headers)
        return page
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        status_code=problem.status,
        headers=headers,
        media_type="application/problem+json",
    )
