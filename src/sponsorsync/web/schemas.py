"""The JSON that goes in and out, with examples for whoever generates a client."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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
    login_url: str | None = Field(default=None, description="With 401: where to sign in.")


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
    """What a change did; repeating it adds and removes nothing more."""

    collection: str = Field(examples=["mnodes"])
    added: int = Field(examples=[1], description="Items that were not there before.")
    removed: int = Field(examples=[0], description="Items that were there before.")
    size: int = Field(examples=[3], description="Items in the collection now.")


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


class CoverOut(_Model):
    """Whether you are covered by one sponsorable, by what, and until when."""

    sponsorable: str = Field(examples=["octo-org"])
    status: Literal["covered", "not_covered", "unknown"]
    reason: str = Field(examples=["You sponsor octo-org with $10.00 a month."])
    source: Literal["none", "sponsorship"] | None = Field(
        description="What the cover comes from; null while nothing is known."
    )
    tier_cents: int | None = Field(
        description="Price in US cents; null where GitHub gives no tier, as for Patreon."
    )
    is_one_time: bool
    privacy: Literal["public", "private"] | None
    payment_source: Literal["github", "patreon"] | None
    since: datetime | None
    valid_until: datetime | None = Field(description="Exclusive; null while it has no end.")
    checked_at: datetime | None = Field(description="When GitHub last answered.")
    unknown_since: datetime | None = Field(
        description="The first check after that which failed; the last answer holds for a while."
    )


class Me(_Model):
    """Your profile, and your cover by each sponsorable."""

    profile: ProfileOut
    covers: list[CoverOut]


class SignedInOut(_Model):
    """What the callback answers to a client that asks for JSON."""

    status: Literal["success"] = "success"
    id: int
    email: str | None
    user_login: str


class Health(_Model):
    """The process runs."""

    status: Literal["ok"] = "ok"
    version: str


class StoreHealth(_Model):
    """One Redis."""

    status: Literal["ok", "unavailable", "not_configured"]
    detail: str | None = None


class Readiness(_Model):
    """Whether requests can be served: that needs the local Redis, not the durable one."""

    status: Literal["ready", "not_ready"]
    local: StoreHealth
    durable: StoreHealth
