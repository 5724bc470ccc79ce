"""A sponsorship as GitHub knows it, reduced to what decides about entitlement."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from sponsorsync.domain.sources import PaymentSource


class Privacy(StrEnum):
    """Whether the world may know of a sponsorship (GraphQL `SponsorshipPrivacy`)."""

    PUBLIC = "public"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class Sponsorship:
    """One sponsorship of one account.

    Attributes:
        sponsorable: The login that receives, lower-cased (GitHub compares logins without case).
        created_at: When it began.
        is_active: GitHub's own word; a one-time payment is active for one month.
        is_one_time: A single payment rather than a monthly one.
        privacy: PUBLIC or PRIVATE.
        payment_source: None where GitHub does not say.
        tier_cents: Price a month (or once), in US cents; None where GitHub gives no tier, as where
            another service takes the money.
        tier_selected_at: When the present tier was chosen; of a one-time payment, when it was made.
    """

    sponsorable: str
    created_at: datetime
    is_active: bool
    is_one_time: bool
    privacy: Privacy
    payment_source: PaymentSource | None
    tier_cents: int | None
    tier_selected_at: datetime | None


@dataclass(frozen=True, slots=True)
class Membership:
    """One organization that a person belongs to, and what it gives.

    Attributes:
        id: The organization's numeric id.
        login: Its login, lower-cased.
        sponsorships: Of the accounts that were asked about, as far as this member may see them.
    """

    id: int
    login: str
    sponsorships: tuple[Sponsorship, ...]


@dataclass(frozen=True, slots=True)
class Memberships:
    """The organizations that a person belongs to.

    Attributes:
        is_complete: False where GitHub keeps something back, as for an organization that restricts
            OAuth apps. What is shown holds all the same; what is not shown is unknown.
    """

    organizations: list[Membership]
    is_complete: bool


class EventKind(StrEnum):
    """The actions of the event `sponsorship`."""

    CREATED = "created"
    CANCELLED = "cancelled"
    EDITED = "edited"
    TIER_CHANGED = "tier_changed"
    PENDING_CANCELLATION = "pending_cancellation"
    PENDING_TIER_CHANGE = "pending_tier_change"


@dataclass(frozen=True, slots=True)
class SponsorshipEvent:
    """One event.

    Attributes:
        sponsorable: The login that receives, lower-cased.
        sponsor_id: GitHub's number of who gives.
        created_at: When the sponsorship began.
        tier_cents: Of the tier that the event calls the sponsorship's; None where there is none.
        former_cents: Of the tier that it had before, where the event is about its change.
        effective_at: When what is announced becomes true, where GitHub says it.
    """

    kind: EventKind
    sponsorable: str
    sponsor_id: int
    created_at: datetime
    privacy: Privacy | None
    tier_cents: int | None
    is_one_time: bool
    former_cents: int | None
    effective_at: datetime | None


def normalize_login(login: str) -> str:
    """Returns a login as SponsorSync compares and stores it: GitHub ignores case."""
    return login.strip().lower()
