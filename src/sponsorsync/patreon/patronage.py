"""Patronages: the data of a Patreon membership that decide about its grant, and that grant."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sponsorsync.domain.sources import EntitlementSource, Grant

UNDATED = timedelta(days=31)
"""The length of a grant by an active patronage or a gift if Patreon names no end."""

UNSETTLED = timedelta(days=7)
"""The shortest grant by an active patronage, or by one that was cancelled in a paid period.

Patreon's date of the next charge may have passed, and Patreon names no end of a cancelled period.
Patreon's staff called a week long enough to repeat a failed charge
(https://github.com/discourse/discourse-patreon/pull/14)."""


class PatronStatus(StrEnum):
    """The relation of a member to a campaign (`patron_status` of Patreon's API)."""

    ACTIVE = "active"
    DECLINED = "declined"
    """The last charge failed; Patreon tries again for a while."""
    FORMER = "former"
    NONE = "none"
    """Never pledged: a free member, or a member by a gift."""


@dataclass(frozen=True, slots=True)
class Patronage:
    """One person's membership of one campaign, which is a creator's page.

    Attributes:
        status: Patreon's own status; it does not depend on a gift.
        cents: The price a month of the highest tier, in the campaign's currency; without a tier,
            of the pledge, in the currency in which Patreon reports it. After a cancellation, it
            is above 0 until the paid period ends. None if Patreon reports no price.
        since: The start of the uninterrupted payments, over changes of the tier.
        paid_until: The date of an active patron's next charge, monthly or yearly. None for others,
            and if Patreon reports no date.
        is_gift: The person received the membership as a gift, and pays nothing.
        is_trial: The membership is a free trial.
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
    """An account at Patreon with all of its patronages, those of other campaigns included."""

    account_id: str
    patronages: tuple[Patronage, ...]


def derive_grant(
    identity: PatreonIdentity, campaign_id: str, stored: Grant | None, now: datetime
) -> Grant | None:
    """Returns the grant by the patronage of a campaign; None if there never was a pledge.

    Patronages of other campaigns are ignored. The service does not ask Patreon again, so the grant
    has an end; linking the account again extends it. `stored` is the grant that the same account
    had before.
    """
    patronage = next((p for p in identity.patronages if p.campaign_id == campaign_id), None)
    until = None if patronage is None else _find_end(patronage, stored, now)
    if patronage is None or until is None:
        return None
    return Grant(
        source=EntitlementSource.PATREON,
        since=patronage.since or now,
        until=until,
        cents=patronage.cents,
        account_id=identity.account_id,
    )


def _find_end(patronage: Patronage, stored: Grant | None, now: datetime) -> datetime | None:
    """Returns the end of the grant: `now` if it is over, None if there never was a pledge."""
    if patronage.status is PatronStatus.ACTIVE or patronage.is_gift:
        if patronage.paid_until is None:
            return now + UNDATED
        return max(patronage.paid_until, now + UNSETTLED)
    if patronage.status is PatronStatus.FORMER and patronage.cents:
        former_end = stored.until if stored is not None else None
        return max(former_end or now, now + UNSETTLED)
    return None if patronage.status is PatronStatus.NONE else now
