"""Whether somebody is let through to what is for sponsors.

Unknown is not no: who is not let through because nobody could be asked is told so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sponsorsync.domain.cover import CoverStatus
from sponsorsync.domain.errors import (
    CoverUnknownError,
    NotASponsorError,
    TierTooLowError,
    TierUnknownError,
)

if TYPE_CHECKING:
    from sponsorsync.domain.cover import Cover, CoverFacts


@dataclass(frozen=True, slots=True)
class Standing:
    """Who calls, and what is known of their cover by one sponsorable.

    Attributes:
        login: None where the local Redis has lost the profile.
        facts: None while the cover is unknown.
    """

    person_id: int
    login: str | None
    facts: CoverFacts | None


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A signed token, and for how many seconds it counts."""

    token: str
    expires_in_s: int


def require_cover(cover: Cover, *, min_cents: int, sponsor_url: str) -> None:
    """Returns for who is covered, with a tier of at least so many cents.

    Args:
        cover: The answer for this moment.
        min_cents: 0 asks for any cover, one without a known tier included.
        sponsor_url: Where a person becomes a sponsor, or changes the tier.

    Raises:
        NotEntitledError: It is not so, or not known to be so; the message says what is.
    """
    if cover.status is CoverStatus.NOT_COVERED:
        raise NotASponsorError(cover.reason, sponsor_url=sponsor_url)
    if cover.status is CoverStatus.UNKNOWN:
        raise CoverUnknownError(cover.reason, sponsor_url=sponsor_url)
    cents = cover.tier_cents
    wanted = f"This is for those who give ${min_cents / 100:,.2f} or more."
    if cents is None and min_cents > 0:
        raise TierUnknownError(
            f"{wanted} {cover.reason} With how much is not known here.", sponsor_url=sponsor_url
        )
    if cents is not None and cents < min_cents:
        raise TierTooLowError(f"{wanted} {cover.reason}", sponsor_url=sponsor_url)
