"""Opens all parts of the service in order, and closes them in reverse order."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx

from sponsorsync.accounts.anonymous_import import AnonymousImport
from sponsorsync.accounts.personal_data import PersonalData
from sponsorsync.accounts.sign_in import SignIn, UserFetcher
from sponsorsync.background import Supervisor, open_supervisor
from sponsorsync.entitlements.account_link import create_account_links
from sponsorsync.entitlements.expiry import start_expiry
from sponsorsync.entitlements.organization_members import OrganizationMembers
from sponsorsync.entitlements.overrides import Overrides
from sponsorsync.entitlements.refresh import Refresh
from sponsorsync.entitlements.sponsor_list import SponsorListing
from sponsorsync.entitlements.webhook import Webhooks
from sponsorsync.github.client import GitHubClient
from sponsorsync.github.oauth import SCOPE, SCOPE_WITH_ORGANIZATIONS, GitHubOAuth
from sponsorsync.http_client import create_http_client, open_transport
from sponsorsync.operations.jobs import Jobs
from sponsorsync.operations.metrics import Metrics
from sponsorsync.operations.registrations import open_registrations
from sponsorsync.reconcile.reconciler import Reconciler
from sponsorsync.reconcile.schedule import Pace, ReconcileSchedule
from sponsorsync.redis_pair import (
    check_servers,
    create_entitlements,
    create_people,
    create_preferences,
    open_redis_pair,
    run_scripts_snapshot,
)
from sponsorsync.secret_files import load_or_create_secret
from sponsorsync.settings import Settings
from sponsorsync.store.audit import AuditTrail
from sponsorsync.store.linked_accounts import LinkedAccountStore
from sponsorsync.store.organizations import OrganizationStore
from sponsorsync.store.reconciliations import ReconciliationStore
from sponsorsync.tokens.issuer import open_tokens
from sponsorsync.web import login as login_routes
from sponsorsync.web.cookies import Cookies
from sponsorsync.web.services import Services

T = TypeVar("T")


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    github_transport: httpx.AsyncBaseTransport | None,
    link_transport: httpx.AsyncBaseTransport | None,
    gears_folder: Path | None,
    clock: Callable[[], datetime],
) -> AsyncIterator[Services]:
    """Yields all services that routes use; `create_app` documents the arguments.

    If one part fails to open, the parts opened before are closed.
    """
    policy, sponsorables = settings.entitlement_policy, settings.sponsorables
    token = settings.maintainer_token
    async with AsyncExitStack() as stack:
        redis_pair = await open_redis_pair(stack, settings)
        await check_servers(redis_pair, settings)
        registrations = await stack.enter_async_context(
            open_registrations(settings, folder=gears_folder)
        )
        transport = github_transport
        if transport is None:
            transport = await stack.enter_async_context(open_transport())
        http = create_http_client(transport, timeout_s=settings.github_timeout_s)
        await stack.enter_async_context(http)
        # The supervisor is opened after the parts that its loops use, so it is closed before them.
        supervisor = await stack.enter_async_context(open_supervisor())
        registrations.start(supervisor)
        engine = redis_pair.engine
        if engine is None:
            start_expiry(supervisor, redis_pair.local)
        else:
            engine.start(supervisor)
        people = create_people(settings, redis_pair)
        entitlements = create_entitlements(settings, redis_pair, people)
        reconciliations = ReconciliationStore(redis_pair.local, sponsorables=sponsorables)
        preferences = create_preferences(settings, redis_pair)
        github = GitHubClient(http, api_url=settings.github_api_url)
        reconciler = Reconciler(
            github,
            entitlements,
            reconciliations,
            token=token,
            sponsorables=sponsorables,
            policy=policy,
            clock=clock,
        )
        schedule = _start_schedule(supervisor, settings, reconciler, reconciliations, clock)
        members = None
        if policy.entitles_members:
            members = OrganizationMembers(
                entitlements, OrganizationStore(redis_pair.local), policy=policy, clock=clock
            )
            members.start(supervisor)
        sign_in = SignIn(
            oauth=_create_oauth(settings, transport),
            fetcher=UserFetcher(
                github,
                sponsorables=sponsorables,
                wants_memberships=members is not None,
                timeout_s=settings.github_timeout_s,
                clock=clock,
            ),
            people=people,
            members=members,
            schedule=schedule,
            background=supervisor,
            policy=policy,
            clock=clock,
        )
        tokens = await open_tokens(
            supervisor, settings, life=timedelta(minutes=settings.token_minutes), clock=clock
        )
        run_scripts = partial(run_scripts_snapshot, settings, folder=gears_folder)
        jobs = await stack.enter_async_context(aclosing(Jobs(engine, run_scripts, reconciler)))
        yield Services(
            origin=settings.origin,
            allowed_origins=frozenset(settings.allowed_origins),
            sponsorables=sponsorables,
            sponsor_urls={each: f"{settings.github_url}/sponsors/{each}" for each in sponsorables},
            trusted_proxies=settings.trusted_proxies,
            cookies=_create_cookies(settings),
            sign_in=sign_in,
            people=people,
            tokens=tokens,
            preferences=preferences,
            personal_data=PersonalData(redis_pair, people, settings.catalog),
            jobs=jobs,
            reconciler=reconciler,
            registrations=registrations,
            anonymous_import=AnonymousImport(
                redis_pair.local,
                people,
                preferences,
                collections=settings.collections,
                max_batch=settings.max_batch,
            ),
            webhooks=Webhooks(
                entitlements,
                schedule,
                secret=settings.webhook_secret,
                sponsorables=sponsorables,
                policy=policy,
                clock=clock,
            ),
            refresh=Refresh(
                github,
                entitlements,
                reconciliations,
                schedule,
                token=token,
                sponsorables=sponsorables,
                policy=policy,
                clock=clock,
            ),
            overrides=Overrides(entitlements, github, token=token, policy=policy, clock=clock),
            sponsor_list=SponsorListing(entitlements, policy=policy, clock=clock),
            account_links=create_account_links(
                settings,
                link_transport or transport,
                entitlements,
                LinkedAccountStore(redis_pair.local),
                clock=clock,
            ),
            audit=AuditTrail(redis_pair.local),
            admin_token=settings.admin_token,
            metrics=Metrics(redis_pair, supervisor, sponsorables=sponsorables),
            supervisor=supervisor,
            policy=policy,
            local=redis_pair.local,
            durable=redis_pair.durable,
            clock=clock,
        )


def _start_schedule(
    supervisor: Supervisor,
    settings: Settings,
    reconciler: Reconciler,
    reconciliations: ReconciliationStore,
    clock: Callable[[], datetime],
) -> ReconcileSchedule | None:
    if settings.maintainer_token is None:
        return None
    hours = settings.reconcile_hours
    schedule = ReconcileSchedule(
        reconciler,
        reconciliations,
        sponsorables=settings.sponsorables,
        pace=Pace(every=timedelta(hours=hours) if hours else None),
        clock=clock,
    )
    schedule.start(supervisor)
    return schedule


def _create_oauth(settings: Settings, transport: httpx.AsyncBaseTransport) -> GitHubOAuth:
    return GitHubOAuth(
        transport,
        github_url=settings.github_url,
        api_url=settings.github_api_url,
        client_id=_required(settings.github_client_id),
        client_secret=_required(settings.github_secret),
        redirect_uri=settings.origin + login_routes.CALLBACK_PATH,
        timeout_s=settings.github_timeout_s,
        scope=SCOPE_WITH_ORGANIZATIONS if settings.entitlement_policy.entitles_members else SCOPE,
    )


def _create_cookies(settings: Settings) -> Cookies:
    return Cookies(
        secret=settings.session_secret
        or load_or_create_secret(settings.data_dir / "session_secret"),
        secure=settings.origin.startswith("https://"),
        samesite=settings.cookie_samesite,
        session_life=timedelta(days=settings.session_days),
    )


def _required(value: T | None) -> T:
    """Returns a setting that `Settings.require_for_service` has checked."""
    if value is None:
        raise AssertionError("unreachable: create_app checks this first")
    return value
