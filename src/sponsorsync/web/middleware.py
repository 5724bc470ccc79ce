"""Middleware as plain ASGI: it copies no request and starts no task."""

from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sponsorsync.domain.errors import CrossSiteError, SponsorSyncError, TooLargeError
from sponsorsync.web.errors import respond_to, respond_to_unexpected
from sponsorsync.web.origins import CHANGING_GETS, is_trusted_request, needs_guard

# For FastAPI's page /docs, which loads Swagger UI from a CDN and starts it with an inline script.
_DOCS_POLICY = (
    b"default-src 'none'; script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    b"style-src 'unsafe-inline' https://cdn.jsdelivr.net; img-src https: data:; "
    b"connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_OURS = frozenset(
    {b"cache-control", b"x-content-type-options", b"referrer-policy", b"content-security-policy"}
)


class CrossSiteGuard:
    """Refuses changes that a page of another site requests (OWASP: CSRF)."""

    def __init__(self, app: ASGIApp, *, origin: str, allowed_origins: Collection[str]) -> None:
        self._app = app
        self._origin = origin
        self._allowed_origins = allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI request."""
        if (
            scope["type"] == "http"
            and needs_guard(scope["method"], scope["path"])
            and not is_trusted_request(
                scope["method"],
                Headers(scope=scope),
                origin=self._origin,
                allowed_origins=self._allowed_origins,
            )
        ):
            error = CrossSiteError(
                "A page of another site asked for this, so it was not done. If that site is yours, "
                "add its origin to SPONSORSYNC_ALLOWED_ORIGINS."
            )
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)


class AnnouncedLengthLimit:
    """Refuses a request if its Content-Length is too large, with problem details (RFC 9457).

    Starlette's own limit also refuses too large bodies without this header, but in plain text.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI request."""
        announced = Headers(scope=scope).get("content-length", "") if "headers" in scope else ""
        if announced.isdecimal() and int(announced) > self._max_bytes:
            error = TooLargeError(
                f"The body of a request may have {self._max_bytes} bytes at most."
            )
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)


class UnexpectedErrors:
    """Answers unexpected errors with a 500.

    Starlette's own handler would do so outside `SecurityHeaders`, hence without these headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI request."""
        has_begun = False

        async def watch(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            if scope["type"] != "http" or has_begun:
                raise
            response = respond_to_unexpected(Request(scope, receive), error)
            await response(scope, receive, send)


class HeadAsGet:
    """Handles HEAD as GET, for monitoring tools; uvicorn leaves out the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI request."""
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        if is_head and scope["path"] not in CHANGING_GETS:
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


class SecurityHeaders:
    """Adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, *, github_url: str) -> None:
        self._app = app
        # The icons in Pico's CSS are `data:` URLs. Avatars come from several hosts of GitHub, or
        # from `github_url`.
        self._policy = (
            f"default-src 'none'; style-src 'self'; img-src 'self' https: data: {github_url}; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = scope["path"]
                # As bytes, without decoding, because this runs for every answer.
                message["headers"] = [
                    *(pair for pair in message.get("headers", ()) if pair[0] not in _OURS),
                    (b"cache-control", _cache_control(path, message["status"])),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"same-origin"),
                    (b"content-security-policy", _DOCS_POLICY if path == "/docs" else self._policy),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _cache_control(path: str, status: int) -> bytes:
    if path == "/.well-known/jwks.json" and status == HTTPStatus.OK:
        return b"public, max-age=300"
    return b"public, max-age=3600" if path.startswith("/static/") else b"no-store"


async def _refuse(error: SponsorSyncError, scope: Scope, receive: Receive, send: Send) -> None:
    await respond_to(Request(scope, receive), error)(scope, receive, send)
