"""What somebody gives at Patreon, reduced to what decides about cover."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class PatronStatus(StrEnum):
    """How a member stands to a campaign (`patron_status` of Patreon's API)."""

    ACTIVE = "active"
    DECLINED = "declined"
    """The last charge failed; Patreon tries again for a while."""
    FORMER = "former"
    NONE = "none"
    """Never pledged: a free member, or one whose membership is a gift."""


@dataclass(frozen=True, slots=True)
class Patronage:
    """One person's membership of one campaign, which is a creator's page.

    Attributes:
        campaign_id: Whose it is.
        status: Patreon's own word. It says nothing about a gift.
        cents: What the person is entitled to now, as a price a month: of the highest tier, in the
            campaign's currency; without a tier, of the pledge, in the currency that Patreon counts
            it in. Not 0 for who has cancelled what is still paid for. None where Patreon does not
            say.
        since: When the present chain of payments began; a change of the tier does not break it.
        paid_until: When an active patron is charged next, be it in a month or in a year. None for
            all others, and where Patreon does not say; then the end is unknown.
        is_gift: Somebody else pays, or nobody does.
        is_trial: Nothing is paid yet.
    """

    campaign_id: str
    status: PatronStatus
    cents: int | None
    since: datetime | None
    paid_until: datetime | None
    is_gift: bool
    is_trial: bool


@dataclass(frozen=True, slots=True)
class PatreonIdentity:
    """Who somebody is at Patreon, and what they give there, other people's campaigns included."""

    patron_id: str
    patronages: tuple[Patronage, ...]


@dataclass(frozen=True, slots=True)
class LinkAttempt:
    """One journey to Patreon: where to send the browser, and what has to fit when it is back."""

    url: str
    state: str
