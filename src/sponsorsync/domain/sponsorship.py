"""Sponsorships and their events at GitHub, reduced to the fields that decide on entitlement."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sponsorsync.domain.sources import PaymentSource


class Privacy(StrEnum):
    """Whether a sponsorship is public (GraphQL `SponsorshipPrivacy`)."""

    PUBLIC = "public"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class Sponsorship:
    """One sponsorship of one account.

    Attributes:
        sponsorable: The receiver's login, lower-cased (GitHub compares logins without case).
        is_active: GitHub's value; a one-time payment is active for one month.
        payment_source: None if GitHub does not say.
        tier_cents: Price in US cents, once or a month; None if GitHub gives no tier, as for all
            sponsorships that another service collects.
        tier_selected_at: When the present tier was chosen; for a one-time payment, when it was
            made.
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
    """One organization (numeric id, lower-cased login) of a person.

    `sponsorships` are the organization's, of the requested accounts, as far as this member may see
    them.
    """

    id: int
    login: str
    sponsorships: tuple[Sponsorship, ...]


@dataclass(frozen=True, slots=True)
class Memberships:
    """The organizations that a person belongs to.

    `is_complete` is False if GitHub withholds some organizations, for example those that restrict
    OAuth apps. Nothing is known about the withheld ones; the others are valid.
    """

    organizations: list[Membership]
    is_complete: bool


class EventKind(StrEnum):
    """The actions of the webhook event `sponsorship`."""

    CREATED = "created"
    CANCELLED = "cancelled"
    EDITED = "edited"
    TIER_CHANGED = "tier_changed"
    PENDING_CANCELLATION = "pending_cancellation"
    PENDING_TIER_CHANGE = "pending_tier_change"


@dataclass(frozen=True, slots=True)
class SponsorshipEvent:
    """One webhook event about the sponsorship that began at `created_at`.

    The sponsorable is a lower-cased login. `tier_cents` is the tier in the event, if it has one,
    and `former_cents` the tier before a change of tiers. `effective_at` is when an announced change
    takes effect, if GitHub says it.
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
    """Returns a login in lower case, as it is stored: GitHub ignores case."""
    return login.strip().lower()
