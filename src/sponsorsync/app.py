"""The web application: its routes and its middleware, around the parts that the lifespan opens."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from sponsorsync import __version__
from sponsorsync.container import open_services
from sponsorsync.web import (
    account,
    account_links,
    admin,
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
    Unforeseen,
)
from sponsorsync.web.openapi import COMMON_ERRORS, correct_openapi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx
    from fastapi.routing import APIRoute

    from sponsorsync.settings import Settings
    from sponsorsync.web.services import State

DESCRIPTION = """\
Lets an open-source maintainer give sponsors something back: people sign in with GitHub, and what
they prefer lasts.

Calls that need somebody signed in carry the session cookie, which `/login` sets. Reads take a token
of `POST /token` as well, as `Authorization: Bearer …`. Whatever changes
something is refused (403) when a page of another site made the browser ask for it;
`SPONSORSYNC_ALLOWED_ORIGINS` names the sites that may.

Errors are RFC 9457 problem details; `code` is for programs.
"""

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Ten thousand ids of the greatest length, with room for JSON's quoting."""

_STATIC = Path(__file__).parent / "web" / "static"


def create_app(
    settings: Settings,
    *,
    github_transport: httpx.AsyncBaseTransport | None = None,
    link_transport: httpx.AsyncBaseTransport | None = None,
    gears_folder: Path | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """Returns the service; nothing is opened before its lifespan begins.

    Args:
        settings: All of them.
        github_transport: Stands in for the network between the service and GitHub.
        link_transport: The same for the services at which people link accounts.
        gears_folder: Where the scripts for RedisGears are; None for those of this installation.
        clock: Tells the moment, with a time zone.

    Raises:
        SettingsError: A setting that the service cannot do without is missing.
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
        redirect_slashes=False,  # the redirect would go to whatever Host the client named
        responses=COMMON_ERRORS,
    )
    for router in (
        forward_auth.router,  # the first is found first, and this one is asked most often
        login.router,
        account.router,
        preferences.router,
        tokens.router,
        admin.router,
        sponsors.router,
        webhooks.router,
        account_links.router,
        health.router,
    ):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    add_error_handlers(app)
    correct_openapi(app)
    # The last one added is the first to see a request.
    app.add_middleware(CrossSiteGuard, origin=settings.origin, allowed_origins=allowed_origins)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY_BYTES)
    app.add_middleware(AnnouncedLengthLimit, max_bytes=MAX_BODY_BYTES)
    app.add_middleware(HeadAsGet)
    # What is above guards changes, and bodies, of which a plain question has neither.
    app.add_middleware(forward_auth.PlainQuestions)
    app.add_middleware(Unforeseen)
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
    """The function's name: `get_me` makes a better client than `get_me_me_get`."""
    return route.name
