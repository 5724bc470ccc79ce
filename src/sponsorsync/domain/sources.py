"""The sources of entitlement. Each is one value of `EntitlementSource` and one case of `explain`.

A new source is added here, and mypy shows a case that is missing. One that is unknown raises an
error when the program runs: it is never taken for another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from datetime import datetime


class EntitlementSource(StrEnum):
    """What an entitlement comes from."""

    NONE = "none"
    SPONSORSHIP = "sponsorship"
    ORGANIZATION = "organization"
    OVERRIDE = "override"
    PATREON = "patreon"


@dataclass(frozen=True, slots=True)
class Grant:
    """An entitlement by something else than the sponsorship at GitHub that is known best.

    Attributes:
        source: ORGANIZATION, OVERRIDE or PATREON; or SPONSORSHIP, of a one-time payment beside a
            monthly one. Of the first and the last there may be several.
        since: When it began; of an organization's, when its sponsorship did.
        until: Exclusive end; None while it has none.
        cents: The tier that it amounts to, in US cents; None where that is not known.
        organization_id: GitHub's number of the organization.
        organization: Its login, as it was at the last login of the member.
        member_until: When the membership has to be shown again. `until` is no later.
        has_seat: False where the organization's seats were taken by others: then it entitles
            nobody.
        reason: Of an override, why; for administrators.
        actor: Of an override, who decided.
        patron_id: Patreon's number of the patron.
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
    patron_id: str | None = None

    def is_entitling(self, now: datetime) -> bool:
        """Tells whether this entitles somebody at `now`."""
        return self.has_seat and (self.until is None or now < self.until)


def explain(grant: Grant, sponsorable: str, *, now: datetime) -> str:
    """Returns one sentence for the person: what a grant gives or gave, and until when."""
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
            f"That you belong to {grant.organization}, which sponsored {sponsorable}, has to be "
            "shown again: sign in again."
        )
    return (
        f"The sponsorship of {sponsorable} by {grant.organization}, to which you belong, ended by "
        f"{grant.until:%Y-%m-%d}."
    )


def _explain_override(grant: Grant, now: datetime) -> str:
    if grant.is_entitling(now):
        return f"You were let in by an administrator{format_until(grant.until)}."
    return f"An administrator had let you in; that ended by {grant.until:%Y-%m-%d}."


def _explain_patronage(grant: Grant, sponsorable: str, now: datetime) -> str:
    if grant.is_entitling(now):
        with_cents = format_a_month(grant.cents)
        return f"You support {sponsorable} on Patreon{with_cents}{format_until(grant.until)}."
    return (
        f"Your support of {sponsorable} on Patreon was last seen for the time before "
        f"{grant.until:%Y-%m-%d}. Link Patreon again if it goes on."
    )


def format_a_month(cents: int | None) -> str:
    """Returns ' with $10.00 a month', or '' where no amount is known."""
    return "" if cents is None else f" with {format_dollars(cents)} a month"


def format_until(end: datetime | None) -> str:
    """Returns ' until 2030-01-31', or '' where there is no end."""
    return f" until {end:%Y-%m-%d}" if end else ""


def format_dollars(cents: int) -> str:
    """Returns '$10.00'."""
    return f"${cents / 100:,.2f}"
