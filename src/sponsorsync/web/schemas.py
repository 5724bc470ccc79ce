"""The JSON that goes in and out, with examples for whoever generates a client."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from sponsorsync.background import LoopState
from sponsorsync.domain.news import NewsOutcome

Actor = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]

NodeId = Annotated[str, Field(examples=["C5162902"], description="The id of a node.")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(_Model):
    """What went wrong, as RFC 9457 has it; `code` is for programs and does not change."""

    type: str = "about:blank"
    title: str = Field(examples=["You are not signed in"])
    status: int = Field(examples=[401])
    code: str = Field(examples=["not_signed_in"])
    detail: str = Field(examples=["You are not signed in, or your session has ended."])
    login_url: str | None = Field(
        default=None, description="With 401, and where a refresh takes a sign-in (409): where."
    )
    sponsor_url: str | None = Field(
        default=None, description="With 403 from forward auth: where to become a sponsor."
    )


class Message(_Model):
    """What was done, in one sentence."""

    message: str = Field(examples=["C5162902 is excluded from your results."])


class Exclusion(BaseModel):
    """The one node that the original call excludes; it may carry more, which is not read."""

    id: NodeId


class PreferenceList(_Model):
    """A collection, sorted."""

    collection: str = Field(examples=["mnodes"])
    items: list[NodeId]


class PreferenceChange(_Model):
    """Items to add and to remove, all or nothing."""

    add: list[NodeId] = Field(default_factory=list)
    remove: list[NodeId] = Field(default_factory=list)


class PreferenceResult(_Model):
    """What a change did; repeating it adds and removes nothing more.

    A `pending` change is kept, and applied as soon as the durable side can say what else is in the
    collection; until then the numbers are null.
    """

    collection: str = Field(examples=["mnodes"])
    added: int | None = Field(examples=[1], description="Items that were not there before.")
    removed: int | None = Field(examples=[0], description="Items that were there before.")
    size: int | None = Field(examples=[3], description="Items in the collection now.")
    pending: bool = Field(examples=[False], description="Waits for the durable side.")


class FilterRequest(_Model):
    """The ids of a search result, in order; 10,000 at most."""

    ids: list[NodeId]


class FilterResult(_Model):
    """The ids that are not in the collection, in the order in which they came."""

    ids: list[NodeId]


class ProfileOut(_Model):
    """Who you are at GitHub."""

    id: int = Field(examples=[583231], description="GitHub's numeric id; logins can change hands.")
    user_login: str = Field(examples=["octocat"])
    name: str | None
    email: str | None
    avatar_url: str | None
    first_seen: datetime
    last_login: datetime


class ConsideredOut(_Model):
    """One thing by which you could be covered, and what it amounts to."""

    source: Literal["none", "sponsorship", "organization", "override", "patreon"]
    status: Literal["covered", "not_covered", "unknown"]
    reason: str = Field(examples=["You were let in by an administrator until 2027-01-01."])
    tier_cents: int | None
    since: datetime | None
    until: datetime | None = Field(description="When it ends or ended, exclusively.")


class CoverOut(_Model):
    """Whether you are covered by one sponsorable, by what, and until when."""

    sponsorable: str = Field(examples=["octo-org"])
    status: Literal["covered", "not_covered", "unknown"]
    reason: str = Field(examples=["You sponsor octo-org with $10.00 a month."])
    source: Literal["none", "sponsorship", "organization", "override", "patreon"] = Field(
        description="What covers you; `none` where nothing does."
    )
    tier_cents: int | None = Field(
        description="Its price in US cents; null where nobody told, as for Patreon."
    )
    since: datetime | None = Field(description="When it began.")
    until: datetime | None = Field(description="When it ends, exclusively; null: it has no end.")
    is_one_time: bool = Field(description="Whether your own sponsorship is a single payment.")
    privacy: Literal["public", "private"] | None = Field(description="Of your own sponsorship.")
    payment_source: Literal["github", "patreon"] | None = Field(description="Likewise.")
    checked_at: datetime | None = Field(description="When GitHub last answered.")
    unknown_since: datetime | None = Field(
        description="The first check after that which failed; the last answer holds for a while."
    )
    considered: list[ConsideredOut] = Field(description="Everything that could cover you.")


class Me(_Model):
    """Your profile, and your cover by each sponsorable."""

    profile: ProfileOut
    covers: list[CoverOut]


class HoldingsOut(_Model):
    """All that one Redis holds of you."""

    profile: dict[str, str]
    covers: dict[str, dict[str, str]] = Field(description="By sponsorable.")
    preferences: dict[str, list[str]] = Field(description="By collection.")
    pending: dict[str, str] = Field(description="Changes that wait for the durable side.")
    versions: dict[str, str] = Field(description="The service's notes on the parts above.")


class ExportOut(_Model):
    """All that is held of you, on both sides."""

    exported_at: datetime
    local: HoldingsOut
    durable: HoldingsOut | None
    note: str | None = Field(description="Why there is nothing of the durable side, if so.")


class Deletion(_Model):
    """Your account is removed; on the durable side too once `confirmed` is true."""

    confirmed: bool
    message: str = Field(examples=["Your account and all of its data are removed."])


class SignedInOut(_Model):
    """What the callback answers to a client that asks for JSON."""

    status: Literal["success"] = "success"
    id: int
    email: str | None
    user_login: str


class TokenOut(_Model):
    """A signed token, for `Authorization: Bearer …` (RFC 6750)."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a kind of token
    expires_in: int = Field(examples=[600], description="In seconds.")


class JwkOut(_Model):
    """One public key (RFC 7517)."""

    kid: str
    kty: Literal["EC"]
    crv: Literal["P-256"]
    alg: Literal["ES256"]
    use: Literal["sig"]
    x: str
    y: str


class JwksOut(_Model):
    """Every key whose tokens count."""

    keys: list[JwkOut]


class _Job(_Model):
    status: Literal["idle", "running", "done", "failed"]
    started_at: datetime | None
    ended_at: datetime | None
    total: int = Field(description="People in the index when it began; scripts do not tell.")
    people: int = Field(description="People it has looked at so far; scripts do not tell.")
    reason: str | None = Field(description="Why it failed.")


class SnapshotSummaryOut(_Model):
    """What a snapshot did."""

    agrees: bool = Field(description="Durable has all that was to be copied, and nobody waits.")
    is_dry_run: bool
    total: int
    people: int
    records: int = Field(description="People whom durable has as they are on local.")
    bytes: int
    adopted: int
    skipped: dict[str, int] = Field(examples=[{"visitor": 3}])
    errors: list[str]
    on_their_way: int = Field(description="People who wait for durable at the end.")
    seconds: float
    reason: str | None


class ScriptRunOut(_Model):
    """What one batch script did; it tells at its end."""

    script: str = Field(examples=["sync_profiles"])
    done: int = Field(description="Records that durable has now.")
    skipped: dict[str, int] = Field(examples=[{"not covered": 3}])
    failed: int
    errors: list[str] = Field(description="The first few reasons.")
    seconds: float
    reason: str | None = Field(description="Why the script itself came to no end.")


class ScriptsSummaryOut(_Model):
    """What a snapshot by the scripts inside local did."""

    agrees: bool = Field(description="Every script ran, and copied all that was to be copied.")
    scripts: list[ScriptRunOut]
    seconds: float
    reason: str | None


class SnapshotRequest(_Model):
    """Who copies: the service (`plain`), or the scripts inside local (`gears`)."""

    engine: Literal["plain", "gears"] = "plain"


class SnapshotJob(_Job):
    """The last snapshot that this process started."""

    summary: SnapshotSummaryOut | ScriptsSummaryOut | None


ScriptStateOut = Literal["absent", "same", "older", "uploaded", "removed", "failed"]


class ScriptOut(_Model):
    """A script as it is in the local Redis now."""

    session: str = Field(examples=["sponsorsync-write-behind"])
    state: ScriptStateOut
    is_shipped: bool = Field(description="This release has it; else it is left over.")


class ScriptOutcomeOut(_Model):
    """What the last deploy of this process did with a script."""

    session: str = Field(examples=["sponsorsync-write-behind"])
    is_shipped: bool
    before: ScriptStateOut
    after: ScriptStateOut
    error: str | None


class RegistrationOut(_Model):
    """What a script has registered, and how often it came to which end."""

    id: str
    session: str = Field(examples=["sponsorsync-write-behind"])
    session_description: str = Field(description="The release that uploaded it, and a hash.")
    reader: str = Field(examples=["StreamReader"])
    description: str
    source: str = Field(examples=["sponsorsync:outbox"], description="Prefix of keys, or stream.")
    mode: str = Field(examples=["async_local"])
    triggered: int
    successes: int
    failures: int
    aborted: int
    last_duration_ms: int
    status: str | None
    last_error: str | None
    commands: list[str]


class RegistrationsOut(_Model):
    """The scripts inside the local Redis."""

    engine: Literal["auto", "plain", "gears"] = Field(description="SPONSORSYNC_ENGINE")
    status: Literal["not_used", "deploying", "live", "failed"]
    detail: str | None = Field(description="Why they are not used, or not live.")
    version: str | None = Field(examples=["1.2.9"], description="Of RedisGears.")
    scripts: list[ScriptOut]
    registrations: list[RegistrationOut]
    deployed_at: datetime | None = Field(description="When this process last deployed.")
    outcomes: list[ScriptOutcomeOut] = Field(description="What that did.")


class DifferenceOut(_Model):
    """One thing in which the two sides differ."""

    person_id: int
    kind: str = Field(examples=["missing on durable"])
    part: str = Field(examples=["mnodes"])


class DeadOut(_Model):
    """Somebody whose data durable refuses."""

    id: int
    reason: str
    next_try: int = Field(description="Seconds since 1970.")


class VerifySummaryOut(_Model):
    """What a comparison found."""

    agrees: bool = Field(description="Both sides are known to be equal.")
    total: int
    people: int
    equal: int
    visitors: int
    on_their_way: int
    waiting_for_cover: int
    dead: list[DeadOut]
    counts: dict[str, int] = Field(examples=[{"missing on durable": 2}])
    differences: list[DifferenceOut] = Field(description="The first 100.")
    mended: int
    seconds: float
    reason: str | None


class VerifyJob(_Job):
    """The last comparison that this process started."""

    summary: VerifySummaryOut | None


class DriftOut(_Model):
    """Something that no event and no login had told."""

    sponsorable: str
    person_id: int
    kind: Literal["created", "changed", "ended"]


class BudgetOut(_Model):
    """What is left of GitHub's rate limit of the maintainer."""

    limit: int
    remaining: int
    reset_at: datetime


class ReconcileSummaryOut(_Model):
    """What a comparison with GitHub found."""

    is_dry_run: bool
    total: int
    people: int
    pages: int
    counts: dict[str, int] = Field(examples=[{"created": 1, "ended": 2}])
    drifts: list[DriftOut] = Field(description="The first 100.")
    newer: int = Field(description="Covers that changed while GitHub was asked; left as they are.")
    hidden: int = Field(description="Sponsorships of which GitHub does not show whose they are.")
    unknown: int = Field(description="Covered here and not listed, while some were hidden.")
    conflicts: int = Field(
        description="People with a foreign key in the place of one of theirs; the log names them."
    )
    points: int = Field(description="What it has cost of GitHub's rate limit.")
    budget: BudgetOut | None
    seconds: float
    reason: str | None = Field(description="Why it is not complete; then nobody's cover was ended.")
    retry_after_s: int | None


class LastComparisonOut(_Model):
    """What became of the last comparisons of a sponsorable, by whichever replica."""

    sponsorable: str
    reconciled_at: datetime | None = Field(description="When the last complete one began.")
    failed_at: datetime | None = Field(description="When one has failed since.")
    reason: str | None = Field(description="Why.")


class ReconcileJob(_Job):
    """The last comparison with GitHub that was started here, and all others."""

    last: list[LastComparisonOut] | None = Field(
        description="Of each sponsorable, the schedule's too; null while Redis cannot be asked."
    )

    waiting_until: datetime | None = Field(
        description="When it goes on, while it waits for a limit of GitHub's to end."
    )
    summary: ReconcileSummaryOut | None


class AuditEntryOut(_Model):
    """Who gained, changed or lost a cover, by what."""

    number: str = Field(examples=["1795420800000-0"])
    at: datetime
    person_id: int
    sponsorable: str
    what: str = Field(examples=["granted"], description="`granted`, `changed` or `lost`.")
    by: str = Field(examples=["webhook"], description="Such as `login`, `webhook`, `reconcile`.")
    reference: str = Field(
        description="Of a webhook, the delivery; of an override, who decided, and why."
    )
    before: dict[str, str]
    after: dict[str, str]


class AuditPage(_Model):
    """Entries, the latest first."""

    entries: list[AuditEntryOut]
    next_before: str | None = Field(description="`before` of the next page; null on the last one.")


class AdminConsideredOut(ConsideredOut):
    """One thing by which somebody could be covered, with what only administrators see."""

    note: str | None = Field(description="Of an override, who decided, and why.")


class SponsorOut(_Model):
    """Somebody's cover, as administrators see it."""

    id: int
    user_login: str | None = Field(description="As of their last sign-in; null: they never did.")
    cover: CoverOut = Field(description="As the person sees it.")
    considered: list[AdminConsideredOut]


class SponsorList(_Model):
    """Some of those who are covered."""

    sponsors: list[SponsorOut]
    next_cursor: int | None = Field(description="`cursor` of the next page; null on the last one.")


class OverrideRequest(_Model):
    """A cover that is given by hand."""

    reason: Reason = Field(examples=["Wrote the translation"])
    actor: Actor = Field(description="Who decides.")
    until: AwareDatetime | None = Field(
        default=None, description="Exclusive end, with a time zone; null: it has none."
    )
    cents: int | None = Field(
        default=None,
        strict=True,  # to pydantic, true is 1
        ge=0,
        le=100_000_000,
        description="The tier that it amounts to, in US cents a month; null: none.",
    )


class OverrideOut(_Model):
    """Whose cover it is, and what there is of it now."""

    id: int
    cover: CoverOut


class RevokedSessions(_Model):
    """How many sessions of a person were ended."""

    id: int
    sessions: int


class MergeRequest(_Model):
    """Whose preferences to take."""

    visitor: int = Field(alias="from", ge=1, description="The visitor's n in `user:{n}`.")


class MergeResult(_Model):
    """What was given to a person, by collection; items that were there already count, too."""

    id: int
    collections: dict[str, int] = Field(examples=[{"mnodes": 12}])


class EventAnswer(_Model):
    """What became of an event of GitHub's."""

    outcome: NewsOutcome = Field(
        description="`looking`: it tells nothing for certain, so GitHub is asked."
    )


class Health(_Model):
    """The process runs."""

    status: Literal["ok"] = "ok"
    version: str


class StoreHealth(_Model):
    """One Redis."""

    status: Literal["ok", "unavailable", "not_configured"]
    detail: str | None = None


class GearsHealth(_Model):
    """The scripts inside the local Redis; without them the service does their work."""

    status: Literal["not_used", "deploying", "live", "failed"]
    detail: str | None = None


class Readiness(_Model):
    """Whether requests can be served: that needs the local Redis, and nothing else."""

    status: Literal["ready", "not_ready"]
    local: StoreHealth
    durable: StoreHealth
    gears: GearsHealth
    loops: list[LoopState] = Field(
        description="The background loops; a failing one runs again by itself."
    )
