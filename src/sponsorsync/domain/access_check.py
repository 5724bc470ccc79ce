"""Whether somebody is let through to what is for sponsors.

Unknown is not no: who is not let through because nobody could be asked is told so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sponsorsync.domain.entitlement import EntitlementStatus
from sponsorsync.domain.errors import (
    EntitlementUnknownError,
    NotASponsorError,
    TierTooLowError,
    TierUnknownError,
)

if TYPE_CHECKING:
    from sponsorsync.domain.entitlement import Entitlement, EntitlementFacts


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what is known of their entitlement by one sponsorable.

    Attributes:
        login: None where the local Redis has lost the profile.
        facts: None while the entitlement is unknown.
    """

    person_id: int
    login: str | None
    facts: EntitlementFacts | None


def require_entitlement(entitlement: Entitlement, *, min_cents: int, sponsor_url: str) -> None:
    """Returns for who is entitled, with a tier of at least so many cents.

    Args:
        entitlement: The answer for this moment.
        min_cents: 0 asks for any entitlement, one without a known tier included.
        sponsor_url: Where a person becomes a sponsor, or changes the tier.

    Raises:
        NotEntitledError: It is not so, or not known to be so; the message says what is.
    """
    if entitlement.status is EntitlementStatus.NOT_ENTITLED:
        raise NotASponsorError(entitlement.reason, sponsor_url=sponsor_url)
    if entitlement.status is EntitlementStatus.UNKNOWN:
        raise EntitlementUnknownError(entitlement.reason, sponsor_url=sponsor_url)
    cents = entitlement.tier_cents
    wanted = f"This is for those who give ${min_cents / 100:,.2f} or more."
    if cents is None and min_cents > 0:
        raise TierUnknownError(
            f"{wanted} {entitlement.reason} With how much is not known here.",
            sponsor_url=sponsor_url,
        )
    if cents is not None and cents < min_cents:
        raise TierTooLowError(f"{wanted} {entitlement.reason}", sponsor_url=sponsor_url)
