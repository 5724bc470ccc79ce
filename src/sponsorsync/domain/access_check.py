"""The access check for resources that only sponsors may use.

An unknown entitlement is not a 'no': it raises EntitlementUnknownError.
"""

from dataclasses import dataclass

from sponsorsync.domain.entitlement import Entitlement, EntitlementFacts, EntitlementStatus
from sponsorsync.domain.errors import (
    EntitlementUnknownError,
    NotASponsorError,
    TierTooLowError,
    TierUnknownError,
)
from sponsorsync.domain.sources import format_dollars


@dataclass(frozen=True, slots=True)
class Caller:
    """The person who makes a request, with their facts on one sponsorable, if any are known.

    `login` is None if the local Redis has lost the profile.
    """

    person_id: int
    login: str | None
    facts: EntitlementFacts | None


def require_entitlement(entitlement: Entitlement, *, min_cents: int, sponsor_url: str) -> None:
    """Raises NotEntitledError unless the person is known to be entitled by a high enough tier.

    With `min_cents` 0 any entitlement is enough, also one whose tier is not known.
    """
    if entitlement.status is EntitlementStatus.NOT_ENTITLED:
        raise NotASponsorError(entitlement.reason, sponsor_url=sponsor_url)
    if entitlement.status is EntitlementStatus.UNKNOWN:
        raise EntitlementUnknownError(entitlement.reason, sponsor_url=sponsor_url)
    cents = entitlement.tier_cents
    wanted = f"This is for sponsors who give {format_dollars(min_cents)} or more."
    if cents is None and min_cents > 0:
        raise TierUnknownError(
            f"{wanted} {entitlement.reason} The amount is not known.", sponsor_url=sponsor_url
        )
    if cents is not None and cents < min_cents:
        raise TierTooLowError(f"{wanted} {entitlement.reason}", sponsor_url=sponsor_url)
