"""Models that several routes share; the other wire models are beside their routes."""

from datetime import datetime
from typing import Any

from pydantic import AliasPath, BaseModel, ConfigDict, Field

from sponsorsync.domain.entitlement import EntitlementStatus
from sponsorsync.domain.sources import EntitlementSource, PaymentSource
from sponsorsync.domain.sponsorship import Privacy


class Model(BaseModel):
    """The base of the models of requests and answers; it refuses unknown fields."""

    model_config = ConfigDict(extra="forbid")


class FromAttributes(Model):
    """The base of answers that are read from the attributes of another object.

    The domain does not import pydantic, so the descriptions and examples of its values are in
    these models.
    """

    model_config = ConfigDict(
        from_attributes=True, json_schema_serialization_defaults_required=True
    )


def nested_field(path: str, description: str, default: object = None) -> Any:  # noqa: ANN401 - as pydantic's Field
    """Returns a field that is read from an attribute path such as `facts.privacy`.

    It has the default if an attribute on the path is None.
    """
    return Field(
        default=default, validation_alias=AliasPath(*path.split(".")), description=description
    )


class Problem(Model):
    """An error, as RFC 9457 defines it; `code` is for programs and does not change."""

    type: str = "about:blank"
    title: str = Field(examples=["You are not signed in"])
    status: int = Field(examples=[401])
    code: str = Field(examples=["not_signed_in"])
    detail: str = Field(examples=["You are not signed in, or your session has ended."])
    login_url: str | None = Field(
        default=None,
        description="Address of the sign-in: with 401, and with 409 of a refresh that needs one.",
    )
    sponsor_url: str | None = Field(
        default=None, description="With 403 from forward auth: where to become a sponsor."
    )


class ConsideredOut(FromAttributes):
    """One possible reason for an entitlement, and whether it entitles now."""

    source: EntitlementSource
    status: EntitlementStatus
    reason: str = Field(examples=["An administrator gave you access until 2027-01-01."])
    tier_cents: int | None
    since: datetime | None
    until: datetime | None = Field(description="Its exclusive end, which may be in the past.")


class EntitlementOut(FromAttributes):
    """Whether the person is entitled by one sponsorable, by which source, and until when.

    The fields from `is_one_time` to `unknown_since` describe the person's own sponsorship, even if
    another source entitles.
    """

    sponsorable: str = Field(examples=["octo-org"])
    status: EntitlementStatus
    reason: str = Field(examples=["You sponsor octo-org with $10.00 a month."])
    source: EntitlementSource = Field(description="The source that entitles, or `none`.")
    tier_cents: int | None = Field(description="Its price in US cents; null where it is not known.")
    since: datetime | None = Field(description="Its start.")
    until: datetime | None = Field(description="Its exclusive end; null if it has none.")
    is_one_time: bool = nested_field(
        "facts.is_one_time", "Whether the person's own sponsorship is a single payment.", False
    )
    privacy: Privacy | None = nested_field(
        "facts.privacy", "Privacy of the person's own sponsorship."
    )
    payment_source: PaymentSource | None = nested_field(
        "facts.payment_source", "Payment source of the person's own sponsorship."
    )
    checked_at: datetime | None = nested_field(
        "facts.checked_at", "The time of GitHub's last answer."
    )
    unknown_since: datetime | None = nested_field(
        "facts.unknown_since",
        "The first failed check after `checked_at`; the last answer holds for a while.",
    )
    considered: list[ConsideredOut] = Field(description="Every possible reason that was examined.")
