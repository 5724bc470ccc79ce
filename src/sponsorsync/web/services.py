"""What the application hands to the routers: the seams between HTTP and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from ipaddress import IPv4Network, IPv6Network

    from pydantic import SecretStr

    from sponsorsync.background import Supervisor
    from sponsorsync.domain.account import (
        Account,
        LoginAttempt,
        PersonalExport,
        SignedIn,
        SponsorEntry,
        SponsorPage,
    )
    from sponsorsync.domain.admission import IssuedToken, Standing
    from sponsorsync.domain.audit import AuditEntry, Decision
    from sponsorsync.domain.comparisons import LastComparison
    from sponsorsync.domain.cover import Cover, CoverPolicy
    from sponsorsync.domain.news import NewsOutcome
    from sponsorsync.domain.patronage import LinkAttempt
    from sponsorsync.domain.preferences import ChangeResult, CollectionState
    from sponsorsync.web.cookies import Cookies


class LoginFlow(Protocol):
    """See `sponsorsync.login.Login`."""

    @property
    def issuer(self) -> str:
        """What `iss` in a callback has to be when it is there."""

    def start(self, *, login_hint: str | None) -> LoginAttempt:
        """Returns a new attempt."""

    async def finish(self, *, code: str, code_verifier: str, replaces: str | None) -> SignedIn:
        """Returns who signed in."""


class People(Protocol):
    """See `sponsorsync.store.people.PeopleStore`."""

    async def load_account(self, person_id: int) -> Account:
        """Returns what is known of a person."""

    async def load_session(self, token: str) -> int | None:
        """Returns the id of the person whose session this is."""

    async def load_standing(self, caller: str | int, sponsorable: str) -> Standing | None:
        """Returns who calls, by session token or id, and their cover by one sponsorable."""

    async def end_session(self, token: str) -> None:
        """Ends a session."""

    async def revoke_sessions(self, person_id: int) -> int:
        """Ends all sessions of a person."""


class Tokens(Protocol):
    """See `sponsorsync.tokens.issuer.TokenIssuer`."""

    def issue(self, person_id: int, cover: Cover, *, now: datetime) -> IssuedToken:
        """Returns a token."""

    def read(self, token: str, *, now: datetime) -> int | None:
        """Returns whose token this is, if it counts."""

    def list_public_keys(self, *, now: datetime) -> list[dict[str, str]]:
        """Returns what others check tokens with."""


class PersonalData(Protocol):
    """See `sponsorsync.personal_data.PersonalData`."""

    async def export(self, person_id: int) -> PersonalExport:
        """Returns all that both sides hold of a person."""

    async def delete(self, person_id: int) -> bool:
        """Removes an account; returns whether durable has confirmed it."""


class Preferences(Protocol):
    """See `sponsorsync.store.preferences.PreferenceStore`."""

    async def load(self, person_id: int, collection: str) -> CollectionState:
        """Returns a collection."""

    async def change(
        self, person_id: int, collection: str, *, add: Sequence[str], remove: Sequence[str]
    ) -> ChangeResult:
        """Adds and removes items, all or nothing."""

    async def filter(self, person_id: int, collection: str, ids: Sequence[str]) -> list[str]:
        """Returns the ids that are not in the collection."""


class JobState(Protocol):
    """See `sponsorsync.jobs.Job`."""

    @property
    def status(self) -> Literal["idle", "running", "done", "failed"]:
        """Of the last job of this kind."""

    @property
    def started_at(self) -> datetime | None:
        """When it began."""

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""

    @property
    def total(self) -> int:
        """How many people there were in the index."""

    @property
    def people(self) -> int:
        """How many it has looked at."""

    @property
    def waiting_until(self) -> datetime | None:
        """When a comparison with GitHub goes on that waits for a limit to end."""

    @property
    def summary(self) -> Mapping[str, object] | None:
        """What it did."""

    @property
    def reason(self) -> str | None:
        """Why it failed."""


class Jobs(Protocol):
    """See `sponsorsync.jobs.Jobs`."""

    def find(self, kind: Literal["snapshot", "verify", "reconcile"]) -> JobState:
        """Returns the last job of a kind."""

    def start_snapshot(self, *, collection: str | None, dry_run: bool) -> JobState:
        """Starts a snapshot."""

    def start_scripts_snapshot(self) -> JobState:
        """Starts a snapshot by the scripts inside local."""

    def start_verify(self, *, fix: bool) -> JobState:
        """Starts a comparison."""

    def start_reconcile(self, *, sponsorable: str | None, dry_run: bool) -> JobState:
        """Starts a comparison with GitHub."""


class Comparisons(Protocol):
    """See `sponsorsync.reconcile.Reconciler`."""

    async def load_comparisons(self) -> Sequence[LastComparison]:
        """Returns what became of the last ones, by whichever replica."""


class Visitors(Protocol):
    """See `sponsorsync.visitors.VisitorMerge`."""

    async def merge(self, person_id: int, visitor: int) -> dict[str, int]:
        """Copies a visitor's sets into a person's collections."""


class Directory(Protocol):
    """See `sponsorsync.directory.SponsorDirectory`."""

    async def load_page(self, sponsorable: str, *, cursor: int, limit: int) -> SponsorPage:
        """Returns some of those who are covered."""

    async def load(self, sponsorable: str, person_id: int) -> SponsorEntry:
        """Returns the cover of anybody."""


class Overrides(Protocol):
    """See `sponsorsync.overrides.Overrides`."""

    async def find_person(self, who: str) -> int:
        """Returns the number of an account, by number or login."""

    async def put(
        self,
        person_id: int,
        sponsorable: str,
        decision: Decision,
        *,
        cents: int | None,
        until: datetime | None,
    ) -> Cover:
        """Covers somebody by hand."""

    async def remove(self, person_id: int, sponsorable: str, decision: Decision) -> Cover:
        """Takes that back."""


class Refresh(Protocol):
    """See `sponsorsync.refresh.Refresh`."""

    async def run(self, person_id: int) -> bool:
        """Asks GitHub about one person; returns whether the answer is complete."""


class PatreonLink(Protocol):
    """See `sponsorsync.patreon_link.PatreonLink`."""

    def start(self) -> LinkAttempt:
        """Returns a new attempt."""

    async def finish(self, person_id: int, *, code: str) -> bool:
        """Learns what somebody gives at Patreon; returns whether that is, or was, anything."""

    async def unlink(self, person_id: int) -> None:
        """Forgets that."""


class Audit(Protocol):
    """See `sponsorsync.store.audit.AuditTrail`."""

    async def load(self, *, before: str | None, limit: int) -> Sequence[AuditEntry]:
        """Returns entries, the latest first."""


class Webhooks(Protocol):
    """See `sponsorsync.webhooks.Webhooks`."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How many events there were of each outcome."""

    def require_secret(self) -> None:
        """Returns where events can be checked."""

    async def receive(
        self, body: bytes, *, event: str, delivery: str, signature: str | None
    ) -> NewsOutcome:
        """Checks an event, and applies what it tells."""


class Registrations(Protocol):
    """See `sponsorsync.registrations.Registrations`."""

    @property
    def status(self) -> Literal["not_used", "deploying", "live", "failed"]:
        """Of the scripts inside local."""

    @property
    def detail(self) -> str | None:
        """Why they are not used, or not live."""

    async def load(self) -> Mapping[str, object]:
        """Returns what there is of them."""


class Metrics(Protocol):
    """See `sponsorsync.metrics.Metrics`."""

    content_type: str

    async def render(self, events: Mapping[str, int]) -> bytes:
        """Returns all metrics; `events` are those of the webhook, by outcome."""


class Writable(Protocol):
    """A server that takes writes, or raises a StoreError."""

    async def check_writable(self) -> None:
        """Returns when it takes one."""


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
    login: LoginFlow
    people: People
    tokens: Tokens | None
    preferences: Preferences
    personal_data: PersonalData
    jobs: Jobs
    comparisons: Comparisons
    registrations: Registrations
    visitors: Visitors
    webhooks: Webhooks
    refresh: Refresh
    overrides: Overrides
    directory: Directory
    patreon: PatreonLink | None
    audit: Audit
    admin_token: SecretStr | None
    metrics: Metrics
    supervisor: Supervisor
    policy: CoverPolicy
    local: Writable
    durable: Writable | None
    clock: Callable[[], datetime]


class State(TypedDict):
    """What the lifespan yields; Starlette puts it on every request's `state`."""

    services: Services
