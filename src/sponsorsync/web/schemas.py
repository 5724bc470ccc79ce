"""The JSON that goes in and out, with examples for whoever generates a client."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    AliasPath,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)

from sponsorsync.domain.entitlement import EntitlementStatus
from sponsorsync.domain.sources import EntitlementSource, PaymentSource
from sponsorsync.domain.sponsorship import Privacy
from sponsorsync.domain.sponsorship_event import EventOutcome
from sponsorsync.gears.batch import BatchSummary
from sponsorsync.reconcile.reconciler import ReconcileSummary
from sponsorsync.sync.snapshot import SnapshotSummary
from sponsorsync.sync.verify import VerifySummary

Actor = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]

NodeId = Annotated[str, Field(examples=["C5162902"], description="The id of a node.")]


class Model(BaseModel):
    """The base of everything that goes in or out: unknown members are refused."""

    model_config = ConfigDict(extra="forbid")


class _FromAttributes(Model):
    """An answer that is read from the attributes of another value, not copied field by field.

    The domain needs nothing but the standard library, so the API's names, descriptions and examples
    of its values stand here.
    """

    model_config = ConfigDict(
        from_attributes=True, json_schema_serialization_defaults_required=True
    )


class Problem(Model):
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


class Message(Model):
    """What was done, in one sentence."""

    message: str = Field(examples=["C5162902 is excluded from your results."])


class Exclusion(BaseModel):
    """The one node that the original call excludes; it may carry more, which is not read."""

    id: NodeId


class PreferenceList(Model):
    """A collection, sorted."""

    collection: str = Field(examples=["mnodes"])
    items: list[NodeId]


class PreferenceChange(Model):
    """Items to add and to remove, all or nothing."""

    add: list[NodeId] = Field(default_factory=list)
    remove: list[NodeId] = Field(default_factory=list)


class PreferenceResult(Model):
    """What a change did; repeating it adds and removes nothing more.

    A `pending` change is kept, and applied as soon as the durable side can say what else is in the
    collection; until then the numbers are null.
    """

    collection: str = Field(examples=["mnodes"])
    added: int | None = Field(examples=[1], description="Items that were not there before.")
    removed: int | None = Field(examples=[0], description="Items that were there before.")
    size: int | None = Field(examples=[3], description="Items in the collection now.")
    pending: bool = Field(examples=[False], description="Waits for the durable side.")


class FilterRequest(Model):
    """The ids of a search result, in order; 10,000 at most."""

    ids: list[NodeId]


class FilterResult(Model):
    """The ids that are not in the collection, in the order in which they came."""

    ids: list[NodeId]


class ProfileOut(_FromAttributes):
    """Who you are at GitHub; the login has the name that old clients know."""

    id: int = Field(examples=[583231], description="GitHub's numeric id; logins can change hands.")
    user_login: str = Field(validation_alias="login", examples=["octocat"])
    name: str | None
    email: str | None
    avatar_url: str | None
    first_seen: datetime
    last_login: datetime


class ConsideredOut(_FromAttributes):
    """One thing by which you could be entitled, and what it amounts to; without the note."""

    source: EntitlementSource
    status: EntitlementStatus
    reason: str = Field(examples=["An administrator gave you access until 2027-01-01."])
    tier_cents: int | None
    since: datetime | None
    until: datetime | None = Field(description="When it ends or ended, exclusively.")


class EntitlementOut(_FromAttributes):
    """Whether you are entitled by one sponsorable, by what, and until when.

    It is flat: some of the facts about your own sponsorship stand beside the answer.
    """

    sponsorable: str = Field(examples=["octo-org"])
    status: EntitlementStatus
    reason: str = Field(examples=["You sponsor octo-org with $10.00 a month."])
    source: EntitlementSource = Field(description="What entitles you; `none` where nothing does.")
    tier_cents: int | None = Field(description="Its price in US cents; null where it is not known.")
    since: datetime | None = Field(description="When it began.")
    until: datetime | None = Field(description="When it ends, exclusively; null: it has no end.")
    is_one_time: bool = Field(
        default=False,
        validation_alias=AliasPath("facts", "is_one_time"),
        description="Whether your own sponsorship is a single payment.",
    )
    privacy: Privacy | None = Field(
        default=None,
        validation_alias=AliasPath("facts", "privacy"),
        description="Of your own sponsorship.",
    )
    payment_source: PaymentSource | None = Field(
        default=None,
        validation_alias=AliasPath("facts", "payment_source"),
        description="Likewise.",
    )
    checked_at: datetime | None = Field(
        default=None,
        validation_alias=AliasPath("facts", "checked_at"),
        description="When GitHub last answered.",
    )
    unknown_since: datetime | None = Field(
        default=None,
        validation_alias=AliasPath("facts", "unknown_since"),
        description="The first check after that which failed; the last answer holds for a while.",
    )
    considered: list[ConsideredOut] = Field(description="Everything that could entitle you.")


class Me(Model):
    """Your profile, and your entitlement by each sponsorable."""

    profile: ProfileOut
    entitlements: list[EntitlementOut]


class StoredPersonalDataOut(_FromAttributes):
    """All that one Redis holds of you."""

    profile: dict[str, str]
    entitlements: dict[str, dict[str, str]] = Field(description="By sponsorable.")
    preferences: dict[str, list[str]] = Field(description="By collection.")
    pending: dict[str, str] = Field(description="Changes that wait for the durable side.")
    versions: dict[str, str] = Field(description="The service's notes on the parts above.")


class ExportOut(_FromAttributes):
    """All that is held of you, on both sides, and when that was."""

    exported_at: datetime
    local: StoredPersonalDataOut
    durable: StoredPersonalDataOut | None
    note: str | None = Field(description="Why there is nothing of the durable side, if so.")


class Deletion(Model):
    """Your account is removed; on the durable side too once `confirmed` is true."""

    confirmed: bool
    message: str = Field(examples=["Your account and all of its data are removed."])


class SignedInOut(Model, from_attributes=True):
    """A part of the profile: the answer of the callback to a client that asks for JSON."""

    status: Literal["success"] = "success"
    id: int
    email: str | None
    user_login: str = Field(validation_alias="login")


class _Job(_FromAttributes):
    status: Literal["idle", "running", "done", "failed"]
    started_at: datetime | None
    ended_at: datetime | None
    total: int = Field(description="People in the index when it began; scripts do not tell.")
    people: int = Field(description="People it has looked at so far; scripts do not tell.")
    reason: str | None = Field(description="Why it failed.")


class SnapshotRequest(Model):
    """Who copies: the service (`plain`), or the scripts inside local (`gears`)."""

    engine: Literal["plain", "gears"] = "plain"


class SnapshotJob(_Job):
    """The last snapshot that this process started."""

    summary: SnapshotSummary | BatchSummary | None


class VerifyJob(_Job):
    """The last comparison that this process started."""

    summary: VerifySummary | None


class LastComparisonOut(_FromAttributes):
    """The last comparisons of a sponsorable, by any replica; a failure is not nested."""

    sponsorable: str
    reconciled_at: datetime | None = Field(description="When the last complete one began.")
    failed_at: datetime | None = Field(
        default=None,
        validation_alias=AliasPath("failed", "at"),
        description="When one has failed since.",
    )
    reason: str | None = Field(
        default=None, validation_alias=AliasPath("failed", "reason"), description="Why."
    )


class ReconcileJob(_Job):
    """The last comparison with GitHub that was started here, and all others."""

    last: list[LastComparisonOut] | None = Field(
        default=None,
        description="Of each sponsorable, the schedule's too; null while Redis cannot be asked.",
    )
    waiting_until: datetime | None = Field(
        description="When it goes on, while it waits for a limit of GitHub's to end."
    )
    summary: ReconcileSummary | None


class AuditEntryOut(_FromAttributes):
    """Who gained, changed or lost an entitlement, by what."""

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


class AuditPage(_FromAttributes):
    """Entries, the latest first."""

    entries: list[AuditEntryOut]
    next_before: str | None = Field(description="`before` of the next page; null on the last one.")


class AdminConsideredOut(ConsideredOut):
    """One thing by which somebody could be entitled, with what only administrators see."""

    note: str | None = Field(description="Of an override, who decided, and why.")


class SponsorOut(_FromAttributes):
    """Somebody's entitlement as they see it, and beside it what administrators see."""

    id: int = Field(validation_alias="person_id")
    user_login: str | None = Field(
        validation_alias="login", description="As of their last sign-in; null: they never did."
    )
    entitlement: EntitlementOut = Field(description="As the person sees it.")
    considered: list[AdminConsideredOut] = Field(
        validation_alias=AliasPath("entitlement", "considered")
    )


class SponsorList(_FromAttributes):
    """Some of those who are entitled."""

    sponsors: list[SponsorOut] = Field(validation_alias="entries")
    next_cursor: int | None = Field(description="`cursor` of the next page; null on the last one.")


class OverrideRequest(Model):
    """An entitlement that is given by hand."""

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


class OverrideOut(Model):
    """Whose entitlement it is, and what there is of it now."""

    id: int
    entitlement: EntitlementOut


class RevokedSessions(Model):
    """How many sessions of a person were ended."""

    id: int
    sessions: int


class AnonymousImportRequest(Model):
    """Whose preferences to take."""

    visitor: int = Field(alias="from", ge=1, description="The visitor's n in `user:{n}`.")


class AnonymousImportResult(Model):
    """What was given to a person, by collection; items that were there already count, too."""

    id: int
    collections: dict[str, int] = Field(examples=[{"mnodes": 12}])


class EventAnswer(Model):
    """What became of an event of GitHub's."""

    outcome: EventOutcome = Field(
        description="`reconcile_requested`: it tells nothing for certain, so GitHub is asked."
    )
