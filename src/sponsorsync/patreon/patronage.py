"""The part of a Patreon membership that decides about entitlement, and the grant it results in."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sponsorsync.domain.sources import EntitlementSource, Grant

UNDATED = timedelta(days=31)
"""The length of an entitlement by an active patron, or by a gift, without an end from Patreon."""

UNSETTLED = timedelta(days=7)
"""The least time that is left to an active patron, and to one who has cancelled a paid period.

Patreon's date may have passed, and Patreon names no end of a cancelled period. Patreon's staff
called a week enough for a charge to be tried again
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
        status: Patreon's own status. It says nothing about a gift.
        cents: The present entitlement as a price a month: that of the highest tier, in the
            campaign's currency; without a tier, that of the pledge, in the currency in which
            Patreon counts it. Not 0 during a paid period that was cancelled. None where Patreon
            does not say.
        since: The beginning of the present chain of payments; a change of the tier does not break
            it.
        paid_until: The next charge of an active patron, in a month or in a year. None for all
            others, and where Patreon does not say; then the end is unknown.
        is_gift: Another person pays, or nobody does.
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
    """An account at Patreon with all of its patronages, those of other campaigns included."""

    account_id: str
    patronages: tuple[Patronage, ...]


def derive_grant(
    identity: PatreonIdentity, campaign_id: str, stored: Grant | None, now: datetime
) -> Grant | None:
    """Returns the grant that a patronage results in, None where there never was a pledge.

    Only the maintainer's campaign counts. The service does not ask Patreon again, so the grant has
    an end; the person moves it by linking the account again. `stored` is the grant that the same
    account had before.
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
    """Returns the end of the entitlement: `now` where it is over, None where it never began."""
    if patronage.status is PatronStatus.ACTIVE or patronage.is_gift:
        if patronage.paid_until is None:
            return now + UNDATED
        return max(patronage.paid_until, now + UNSETTLED)
    if patronage.status is PatronStatus.FORMER and patronage.cents:
        former_end = stored.until if stored is not None else None
        return max(former_end or now, now + UNSETTLED)
    return None if patronage.status is PatronStatus.NONE else now
