"""All that a request may use, as the lifespan opens it and routes receive it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from ipaddress import IPv4Network, IPv6Network

    from pydantic import SecretStr

    from sponsorsync.accounts.anonymous_import import AnonymousImport
    from sponsorsync.accounts.personal_data import PersonalData
    from sponsorsync.accounts.sign_in import Login
    from sponsorsync.background import Supervisor
    from sponsorsync.domain.entitlement import EntitlementPolicy
    from sponsorsync.domain.sources import EntitlementSource
    from sponsorsync.entitlements.account_link import AccountLink
    from sponsorsync.entitlements.overrides import Overrides
    from sponsorsync.entitlements.refresh import Refresh
    from sponsorsync.entitlements.sponsor_list import SponsorListing
    from sponsorsync.entitlements.webhook import Webhooks
    from sponsorsync.operations.jobs import Jobs
    from sponsorsync.operations.metrics import Metrics
    from sponsorsync.operations.registrations import Registrations
    from sponsorsync.reconcile.reconciler import Reconciler
    from sponsorsync.store.audit import AuditTrail
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.people import PeopleStore
    from sponsorsync.store.preferences import PreferenceStore
    from sponsorsync.tokens.issuer import TokenIssuer
    from sponsorsync.web.cookies import Cookies


@dataclass(frozen=True, slots=True)
class Services:
    """All that a request may use.

    Attributes:
        origin: Scheme, host and port by which browsers reach the service.
        allowed_origins: Other origins that may call with credentials.
        sponsorables: The logins that can be sponsored; the first is the default.
        sponsor_urls: By sponsorable, where a person becomes a sponsor.
        trusted_proxies: Whose X-Forwarded-… headers are believed.
        tokens: None where none are configured.
        account_links: A link for each source whose settings are set.
        local: The application's Redis.
        durable: The second Redis; None where none is configured.
        admin_token: Opens `/admin/…`; None closes it.
    """

    origin: str
    allowed_origins: frozenset[str]
    sponsorables: Sequence[str]
    sponsor_urls: Mapping[str, str]
    trusted_proxies: Sequence[IPv4Network | IPv6Network]
    cookies: Cookies
    login: Login
    people: PeopleStore
    tokens: TokenIssuer | None
    preferences: PreferenceStore
    personal_data: PersonalData
    jobs: Jobs
    comparisons: Reconciler
    registrations: Registrations
    visitors: AnonymousImport
    webhooks: Webhooks
    refresh: Refresh
    overrides: Overrides
    directory: SponsorListing
    account_links: Mapping[EntitlementSource, AccountLink]
    audit: AuditTrail
    admin_token: SecretStr | None
    metrics: Metrics
    supervisor: Supervisor
    policy: EntitlementPolicy
    local: RedisStore
    durable: RedisStore | None
    clock: Callable[[], datetime]


class State(TypedDict):
    """What the lifespan yields; Starlette puts it on every request's `state`."""

    services: Services
