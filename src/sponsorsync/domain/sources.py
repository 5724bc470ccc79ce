"""The list of all sources of entitlement: each is an `EntitlementSource` and a case of `explain`.

Add a new source here; mypy reports a missing case. An unknown source raises an error at run time:
it is never taken for another one.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never


class EntitlementSource(StrEnum):
    """The source of an entitlement: GitHub, an administrator, or a linked account."""

    NONE = "none"
    SPONSORSHIP = "sponsorship"
    ORGANIZATION = "organization"
    OVERRIDE = "override"
    PATREON = "patreon"


class PaymentSource(StrEnum):
    """The service that takes the money of a sponsorship (GraphQL `SponsorshipPaymentSource`)."""

    GITHUB = "github"
    PATREON = "patreon"

    @property
    def hides_tier(self) -> bool:
        """Whether GitHub shows no tier, because another service takes the money."""
        return self is not PaymentSource.GITHUB


@dataclass(frozen=True, slots=True)
class Grant:
    """One reason for an entitlement, beside the person's own main sponsorship at GitHub.

    Attributes:
        source: Never NONE. SPONSORSHIP means a one-time payment beside the main sponsorship. A
            person may have several grants of SPONSORSHIP and of ORGANIZATION, and one of each
            other source.
        since: The beginning; for an organization, the beginning of its sponsorship.
        until: The exclusive end; None without an end.
        cents: The tier in US cents; None if it is not known.
        organization_id: GitHub's number of the organization.
        organization: The organization's login at the last login of the member.
        member_until: When the membership expires, unless GitHub shows it again; `until` is never
            later.
        has_seat: False if other members have taken the organization's seats: then the grant does
            not entitle.
        reason: Why the administrator `actor` made an override; only administrators see both.
        account_id: The id of the linked account at the source; None for a source without accounts.
    """

    source: EntitlementSource
    since: datetime
    until: datetime | None
    cents: int | None = None
    organization_id: int | None = None
    organization: str | None = None
    member_until: datetime | None = None
    has_seat: bool = True
    reason: str | None = None
    actor: str | None = None
    account_id: str | None = None

    def is_entitling(self, now: datetime) -> bool:
        """Returns whether this grant entitles the person at `now`."""
        return self.has_seat and (self.until is None or now < self.until)


def explain(grant: Grant, sponsorable: str, *, now: datetime) -> str:
    """Returns one sentence for the person: what the grant gives or gave, and until when."""
    match grant.source:
        case EntitlementSource.SPONSORSHIP:
            return _explain_payment(grant, sponsorable, now)
        case EntitlementSource.ORGANIZATION:
            return _explain_organization(grant, sponsorable, now)
        case EntitlementSource.OVERRIDE:
            return _explain_override(grant, now)
        case EntitlementSource.PATREON:
            return _explain_patronage(grant, sponsorable, now)
        case EntitlementSource.NONE:
            raise AssertionError("unreachable: a grant has a source")
        case _:
            assert_never(grant.source)


def _explain_payment(grant: Grant, sponsorable: str, now: datetime) -> str:
    what = "" if grant.cents is None else f" with a one-time {format_dollars(grant.cents)}"
    if grant.is_entitling(now):
        return f"You sponsor {sponsorable}{what}{format_until(grant.until)}."
    return f"Your sponsorship of {sponsorable}{what} ended by {grant.until:%Y-%m-%d}."


def _explain_organization(grant: Grant, sponsorable: str, now: datetime) -> str:
    sponsors = f"{grant.organization}, to which you belong, sponsors {sponsorable}"
    if grant.is_entitling(now):
        return f"{sponsors}{format_a_month(grant.cents)}{format_until(grant.until)}."
    if not grant.has_seat:
        return f"{sponsors}, but its seats are taken by other members."
    if grant.member_until is not None and grant.member_until <= now:
        return (
            f"GitHub has to confirm again that you belong to {grant.organization}, which sponsored "
            f"{sponsorable}: sign in again."
        )
    return (
        f"The sponsorship of {sponsorable} by {grant.organization}, to which you belong, ended by "
        f"{grant.until:%Y-%m-%d}."
    )


def _explain_override(grant: Grant, now: datetime) -> str:
    if grant.is_entitling(now):
        until = f" until {grant.until:%Y-%m-%d}" if grant.until else ""
        return f"An administrator gave you access{until}."
    return f"The access that an administrator gave you ended by {grant.until:%Y-%m-%d}."


def _explain_patronage(grant: Grant, sponsorable: str, now: datetime) -> str:
    if grant.is_entitling(now):
        with_cents = format_a_month(grant.cents)
        return f"You support {sponsorable} on Patreon{with_cents}{format_until(grant.until)}."
    return (
        f"Your access through Patreon ended by {grant.until:%Y-%m-%d}. Link Patreon again if you "
        f"still support {sponsorable} there."
    )


def format_a_month(cents: int | None) -> str:
    """Returns ' with $10.00 a month', or '' where no amount is known."""
    return "" if cents is None else f" with {format_dollars(cents)} a month"


def format_until(end: datetime | None) -> str:
    """Returns ', access until 2030-01-31', or '' where there is no end."""
    return f", access until {end:%Y-%m-%d}" if end else ""


def format_through(payment_source: PaymentSource | None) -> str:
    """Returns ' through Patreon', or '' where GitHub takes the money or does not say who does."""
    match payment_source:
        case None | PaymentSource.GITHUB:
            return ""
        case PaymentSource.PATREON:
            return " through Patreon"
        case _:
            assert_never(payment_source)


def format_dollars(cents: int) -> str:
    """Returns '$10.00'."""
    return f"${cents / 100:,.2f}"
