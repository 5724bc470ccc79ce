"""The one place that wires the parts together."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fastapi import FastAPI
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from sponsorsync import __version__
from sponsorsync.background import open_background_work
from sponsorsync.cover_ends import keep_ending_covers
from sponsorsync.directory import SponsorDirectory
from sponsorsync.domain.preferences import PreferenceRules
from sponsorsync.github.client import GitHubClient
from sponsorsync.github.oauth import SCOPE, SCOPE_WITH_ORGANIZATIONS, GitHubOAuth
from sponsorsync.http_client import create_http_client, open_transport
from sponsorsync.jobs import open_jobs
from sponsorsync.login import Login, Questions
from sponsorsync.look_again import LookAgain, NobodyLooks
from sponsorsync.members import Members, follow_organizations
from sponsorsync.metrics import Metrics
from sponsorsync.overrides import Overrides
from sponsorsync.patreon.client import PatreonClient
from sponsorsync.patreon.oauth import PatreonOAuth
from sponsorsync.patreon_link import PatreonLink
from sponsorsync.personal_data import PersonalData
from sponsorsync.reconcile import Reconciler
from sponsorsync.reconcile_schedule import Pace, ReconcileSchedule, run_schedule
from sponsorsync.refresh import Refresh
from sponsorsync.registrations import open_registrations
from sponsorsync.secret_files import load_or_create_secret
from sponsorsync.sides import (
    create_covers,
    create_people,
    open_sides,
    refuse_clusters,
    run_scripts_snapshot,
)
from sponsorsync.store.audit import AuditTrail
from sponsorsync.store.linked_accounts import LinkedAccountStore
from sponsorsync.store.organizations import OrganizationStore
from sponsorsync.store.preferences import PreferenceStore
from sponsorsync.store.reconciliations import ReconciliationStore
from sponsorsync.sync.engine import run_engine
from sponsorsync.tokens.issuer import open_tokens
from sponsorsync.visitors import VisitorMerge
from sponsorsync.web import (
    account,
    admin,
    forward_auth,
    health,
    login,
    patreon,
    preferences,
    sponsors,
    tokens,
    webhooks,
)
from sponsorsync.web.cookies import Cookies
from sponsorsync.web.errors import add_error_handlers
from sponsorsync.web.middleware import (
    AnnouncedLengthLimit,
    CrossSiteGuard,
    HeadAsGet,
    SecurityHeaders,
    Unforeseen,
)
from sponsorsync.web.openapi import COMMON_ERRORS, correct_openapi
from sponsorsync.web.services import Services, State
from sponsorsync.webhooks import Webhooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx
    from fastapi.routing import APIRoute

    from sponsorsync.domain.cover import CoverPolicy
    from sponsorsync.settings import Settings
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.entitlements import EntitlementStore
    from sponsorsync.store.people import PeopleStore

T = TypeVar("T")

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


@dataclass(frozen=True, slots=True)
class _Transports:
    """What stands between the service and others; None is the network."""

    github: httpx.AsyncBaseTransport | None
    patreon: httpx.AsyncBaseTransport | None


def create_app(
    settings: Settings,
    *,
    github_transport: httpx.AsyncBaseTransport | None = None,
    patreon_transport: httpx.AsyncBaseTransport | None = None,
    gears_folder: Path | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """Returns the service; nothing is opened before its lifespan begins.

    Args:
        settings: All of them.
        github_transport: Stands in for the network between the service and GitHub.
        patreon_transport: Likewise for Patreon.
        gears_folder: Where the scripts for RedisGears are; None for those of this installation.
        clock: Tells the moment, with a time zone.

    Raises:
        SettingsError: A setting that the service cannot do without is missing.
    """
    settings.require_for_service()
    allowed_origins = frozenset(settings.allowed_origins)
    transports = _Transports(github=github_transport, patreon=patreon_transport)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            services = await _open_services(stack, settings, transports, gears_folder, clock)
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
        patreon.router,
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


async def _open_services(
    stack: AsyncExitStack,
    settings: Settings,
    transports: _Transports,
    gears_folder: Path | None,
    clock: Callable[[], datetime],
) -> Services:
    """Opens everything; the stack closes it in the opposite order, also when this fails midway."""
    session_life = timedelta(days=settings.session_days)
    policy = settings.cover_policy
    sides = await open_sides(stack, settings)
    await refuse_clusters(sides)
    registrations = await stack.enter_async_context(
        open_registrations(settings, folder=gears_folder)
    )
    engine = sides.engine
    await stack.enter_async_context(
        keep_ending_covers(sides.local) if engine is None else run_engine(engine)
    )
    fetcher = engine.hydrator if engine else None
    people = create_people(settings, sides)
    covers = create_covers(settings, sides, people)
    reconciliations = ReconciliationStore(sides.local, sponsorables=settings.sponsorables)
    store = PreferenceStore(
        sides.local,
        PreferenceRules(
            collections=settings.collections,
            max_items=settings.max_items,
            max_item_bytes=settings.max_item_bytes,
            max_batch=settings.max_batch,
        ),
        fetcher,
    )
    transport, client = await _open_github(stack, settings, transports.github)
    token = settings.maintainer_token
    reconciler = Reconciler(
        client,
        covers,
        reconciliations,
        token=token,
        sponsorables=settings.sponsorables,
        policy=policy,
        clock=clock,
    )
    look_again = await _open_look_again(stack, settings, reconciler, reconciliations, clock)
    return Services(
        origin=settings.origin,
        allowed_origins=frozenset(settings.allowed_origins),
        sponsorables=settings.sponsorables,
        sponsor_urls={
            login: f"{settings.github_url}/sponsors/{login}" for login in settings.sponsorables
        },
        trusted_proxies=settings.trusted_proxies,
        cookies=Cookies(
            secret=settings.session_secret
            or load_or_create_secret(settings.data_dir / "session_secret"),
            secure=settings.origin.startswith("https://"),
            samesite=settings.cookie_samesite,
            session_life=session_life,
        ),
        login=await _open_login(
            stack,
            settings,
            (transport, client),
            people,
            await _open_members(stack, sides.local, covers, policy, clock),
            look_again,
            clock,
        ),
        people=people,
        tokens=await stack.enter_async_context(
            open_tokens(
                settings,
                life=timedelta(minutes=settings.token_minutes),
                clock=clock,
            )
        ),
        preferences=store,
        personal_data=PersonalData(
            sides, people, sponsorables=settings.sponsorables, collections=settings.collections
        ),
        jobs=await stack.enter_async_context(
            open_jobs(
                engine, partial(run_scripts_snapshot, settings, folder=gears_folder), reconciler
            )
        ),
        comparisons=reconciler,
        registrations=registrations,
        visitors=VisitorMerge(
            sides.local,
            people,
            store,
            collections=settings.collections,
            max_batch=settings.max_batch,
        ),
        webhooks=Webhooks(
            covers,
            look_again,
            secret=settings.webhook_secret,
            sponsorables=settings.sponsorables,
            policy=policy,
            clock=clock,
        ),
        refresh=Refresh(
            client,
            covers,
            reconciliations,
            look_again,
            token=token,
            sponsorables=settings.sponsorables,
            policy=policy,
            clock=clock,
        ),
        overrides=Overrides(covers, client, token=token, policy=policy, clock=clock),
        directory=SponsorDirectory(covers, policy=policy, clock=clock),
        patreon=await _open_patreon(
            stack,
            settings,
            transports.patreon or transport,
            covers,
            LinkedAccountStore(sides.local),
            clock,
        ),
        audit=AuditTrail(sides.local),
        admin_token=settings.admin_token,
        metrics=Metrics(sides, sponsorables=settings.sponsorables),
        policy=policy,
        local=sides.local,
        durable=sides.durable,
        clock=clock,
    )


async def _open_github(
    stack: AsyncExitStack, settings: Settings, transport: httpx.AsyncBaseTransport | None
) -> tuple[httpx.AsyncBaseTransport, GitHubClient]:
    if transport is None:
        transport = await stack.enter_async_context(open_transport())
    client = create_http_client(transport, timeout_s=settings.github_timeout_s)
    await stack.enter_async_context(client)
    return transport, GitHubClient(client, api_url=settings.github_api_url)


async def _open_patreon(
    stack: AsyncExitStack,
    settings: Settings,
    transport: httpx.AsyncBaseTransport,
    covers: EntitlementStore,
    linked_accounts: LinkedAccountStore,
    clock: Callable[[], datetime],
) -> PatreonLink | None:
    if settings.patreon_client_id is None:
        return None
    url, timeout_s = settings.patreon_url, settings.github_timeout_s
    client = create_http_client(transport, timeout_s=timeout_s)
    await stack.enter_async_context(client)
    return PatreonLink(
        PatreonOAuth(
            transport,
            patreon_url=url,
            client_id=settings.patreon_client_id,
            client_secret=_required(settings.patreon_secret),
            redirect_uri=settings.origin + patreon.CALLBACK_PATH,
            timeout_s=timeout_s,
        ),
        PatreonClient(client, patreon_url=url),
        covers,
        linked_accounts,
        campaign_id=_required(settings.patreon_campaign),
        sponsorable=settings.sponsorables[0],
        clock=clock,
    )


async def _open_look_again(
    stack: AsyncExitStack,
    settings: Settings,
    reconciler: Reconciler,
    reconciliations: ReconciliationStore,
    clock: Callable[[], datetime],
) -> LookAgain:
    if settings.maintainer_token is None:
        return NobodyLooks()
    hours = settings.reconcile_hours
    schedule = ReconcileSchedule(
        lambda sponsorable: reconciler.run(sponsorable=sponsorable),
        reconciler.load_last,
        reconciliations,
        sponsorables=settings.sponsorables,
        pace=Pace(every=timedelta(hours=hours) if hours else None),
        clock=clock,
    )
    await stack.enter_async_context(run_schedule(schedule))
    return schedule


async def _open_members(
    stack: AsyncExitStack,
    local: RedisStore,
    covers: EntitlementStore,
    policy: CoverPolicy,
    clock: Callable[[], datetime],
) -> Members | None:
    if not policy.covers_members:
        return None
    members = Members(covers, OrganizationStore(local), policy=policy, clock=clock)
    await stack.enter_async_context(follow_organizations(members))
    return members


async def _open_login(
    stack: AsyncExitStack,
    settings: Settings,
    github: tuple[httpx.AsyncBaseTransport, GitHubClient],
    people: PeopleStore,
    members: Members | None,
    look_again: LookAgain,
    clock: Callable[[], datetime],
) -> Login:
    transport, client = github
    # Opened last, so closed first: what it still does needs the transport.
    background = await stack.enter_async_context(open_background_work())
    return Login(
        oauth=GitHubOAuth(
            transport,
            github_url=settings.github_url,
            api_url=settings.github_api_url,
            client_id=_required(settings.github_client_id),
            client_secret=_required(settings.github_secret),
            redirect_uri=settings.origin + login.CALLBACK_PATH,
            timeout_s=settings.github_timeout_s,
            scope=SCOPE if members is None else SCOPE_WITH_ORGANIZATIONS,
        ),
        questions=Questions(
            client,
            sponsorables=settings.sponsorables,
            wants_memberships=members is not None,
            timeout_s=settings.github_timeout_s,
            clock=clock,
        ),
        people=people,
        members=members,
        look_again=look_again,
        background=background,
        policy=settings.cover_policy,
        clock=clock,
    )


def _required(value: T | None) -> T:
    """Returns what `require_for_service` has seen to be there."""
    if value is None:
        raise AssertionError("unreachable: create_app checks this first")
    return value


def _operation_id(route: APIRoute) -> str:
    """The function's name: `get_me` makes a better client than `get_me_me_get`."""
    return route.name
