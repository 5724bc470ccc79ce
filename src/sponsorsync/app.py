"""The web application: its routes, its middleware, and the lifespan that opens the services."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from sponsorsync import __version__
from sponsorsync.container import open_services
from sponsorsync.settings import Settings
from sponsorsync.web import (
    account,
    account_links,
    admin,
    audit,
    forward_auth,
    health,
    login,
    preferences,
    sponsors,
    tokens,
    webhooks,
)
from sponsorsync.web.errors import add_error_handlers
from sponsorsync.web.middleware import (
    AnnouncedLengthLimit,
    CrossSiteGuard,
    HeadAsGet,
    SecurityHeaders,
    UnexpectedErrors,
)
from sponsorsync.web.openapi import COMMON_ERRORS, correct_openapi
from sponsorsync.web.services import State

DESCRIPTION = """\
Gives the GitHub sponsors of an application lasting preferences and their own features.

`/login` sets the session cookie. Routes that only read also accept a token of `POST /token`, as
`Authorization: Bearer …`. Routes that change something refuse (403) requests from pages of other
sites, except those of `SPONSORSYNC_ALLOWED_ORIGINS`.

Errors are RFC 9457 problem details; `code` is for programs.
"""

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Enough for 10,000 ids of the default maximum length, with room for JSON's quoting."""

_STATIC = Path(__file__).parent / "web" / "static"


def create_app(
    settings: Settings,
    *,
    github_transport: httpx.AsyncBaseTransport | None = None,
    link_transport: httpx.AsyncBaseTransport | None = None,
    gears_folder: Path | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """Returns the web application; its lifespan opens the connections and starts the loops.

    `github_transport` replaces the network to GitHub, `link_transport` that to the services at
    which people link accounts. `gears_folder` contains the RedisGears scripts; None means those of
    this installation. `clock` returns the present time with a time zone.

    Raises:
        SettingsError: A required setting is missing.
    """
    settings.require_for_service()
    allowed_origins = frozenset(settings.allowed_origins)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with open_services(
            settings,
            github_transport=github_transport,
            link_transport=link_transport,
            gears_folder=gears_folder,
            clock=clock,
        ) as services:
            yield {"services": services}

    app = FastAPI(
        title="SponsorSync",
        version=__version__,
        description=DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would lead to the Host header of the client
        responses=COMMON_ERRORS,
    )
    for router in (
        forward_auth.router,  # first, as routes are searched in order and this one is used most
        login.router,
        account.router,
        account.pages,
        preferences.router,
        tokens.router,
        admin.router,
        audit.router,
        sponsors.router,
        webhooks.router,
        account_links.router,
        health.router,
    ):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    add_error_handlers(app)
    correct_openapi(app)
    # The middleware that is added last handles a request first.
    app.add_middleware(CrossSiteGuard, origin=settings.origin, allowed_origins=allowed_origins)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY_BYTES)
    app.add_middleware(AnnouncedLengthLimit, max_bytes=MAX_BODY_BYTES)
    app.add_middleware(HeadAsGet)
    # Answers plain forward auth requests before the middleware above, which they do not need: they
    # have no body and change nothing.
    app.add_middleware(forward_auth.PlainForwardAuth)
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(SecurityHeaders, github_url=settings.github_url)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=sorted(allowed_origins),
        allow_credentials=True,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=["Retry-After"],
    )
    return app


def _operation_id(route: APIRoute) -> str:
    """Returns the function's name, so that generated clients have `get_me`, not `get_me_me_get`."""
    return route.name
