"""The services that the lifespan opens and that routes use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import TypedDict

from pydantic import SecretStr

from sponsorsync.accounts.anonymous_import import AnonymousImport
from sponsorsync.accounts.personal_data import PersonalData
from sponsorsync.accounts.sign_in import SignIn
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
    """Everything that a route may use.

    Attributes:
        origin: Scheme, host and port by which browsers reach the service.
        allowed_origins: Other origins that may call with credentials.
        sponsorables: The logins that can be sponsored; the first is the default.
        sponsor_urls: By sponsorable, the page where a person becomes a sponsor.
        trusted_proxies: Networks whose X-Forwarded-… headers are used.
        tokens: Issues and checks tokens; None if they are not configured.
        account_links: Links accounts at other services; only sources that are configured.
        local: The application's Redis.
        durable: The second Redis; None if it is not configured.
        admin_token: Grants access to `/admin/…`; None denies all access.
    """

    origin: str
    allowed_origins: frozenset[str]
    sponsorables: Sequence[str]
    sponsor_urls: Mapping[str, str]
    trusted_proxies: Sequence[IPv4Network | IPv6Network]
    cookies: Cookies
    sign_in: SignIn
    people: PeopleStore
    tokens: TokenIssuer | None
    preferences: PreferenceStore
    personal_data: PersonalData
    jobs: Jobs
    reconciler: Reconciler
    registrations: Registrations
    anonymous_import: AnonymousImport
    webhooks: Webhooks
    refresh: Refresh
    overrides: Overrides
    sponsor_list: SponsorListing
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
    """The lifespan's result, which Starlette adds to every request's `state`."""

    services: Services
