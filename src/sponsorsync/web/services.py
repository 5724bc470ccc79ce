"""All that a request may use, as the lifespan opens it and routes receive it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from ipaddress import IPv4Network, IPv6Network

    from pydantic import SecretStr

    from sponsorsync.background import Supervisor
    from sponsorsync.directory import SponsorDirectory
    from sponsorsync.domain.cover import CoverPolicy
    from sponsorsync.jobs import Jobs
    from sponsorsync.login import Login
    from sponsorsync.metrics import Metrics
    from sponsorsync.overrides import Overrides
    from sponsorsync.patreon_link import PatreonLink
    from sponsorsync.personal_data import PersonalData
    from sponsorsync.reconcile import Reconciler
    from sponsorsync.refresh import Refresh
    from sponsorsync.registrations import Registrations
    from sponsorsync.store.audit import AuditTrail
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.people import PeopleStore
    from sponsorsync.store.preferences import PreferenceStore
    from sponsorsync.tokens.issuer import TokenIssuer
    from sponsorsync.visitors import VisitorMerge
    from sponsorsync.web.cookies import Cookies
    from sponsorsync.webhooks import Webhooks


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
        patreon: None where it is not configured.
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
    visitors: VisitorMerge
    webhooks: Webhooks
    refresh: Refresh
    overrides: Overrides
    directory: SponsorDirectory
    patreon: PatreonLink | None
    audit: AuditTrail
    admin_token: SecretStr | None
    metrics: Metrics
    supervisor: Supervisor
    policy: CoverPolicy
    local: RedisStore
    durable: RedisStore | None
    clock: Callable[[], datetime]


class State(TypedDict):
    """What the lifespan yields; Starlette puts it on every request's `state`."""

    services: Services
