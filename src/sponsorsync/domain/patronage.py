"""What somebody gives at Patreon, reduced to what decides about entitlement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from sponsorsync.domain.sources import EntitlementSource, Grant

if TYPE_CHECKING:
    from datetime import datetime

    from sponsorsync.domain.entitlement import EntitlementFacts

UNDATED = timedelta(days=31)
"""How long an active patron, or a gift, is entitled where Patreon does not say until when."""

UNSETTLED = timedelta(days=7)
"""How long it goes on where Patreon's own date has come, and of a patron who has cancelled what is
still paid for: Patreon names no end of that. Its staff called a week enough for a charge to be
tried again (https://github.com/discourse/discourse-patreon/pull/14)."""


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


def record_patronage(
    facts: EntitlementFacts, identity: PatreonIdentity, *, campaign_id: str, now: datetime
) -> EntitlementFacts:
    """Returns somebody's facts after Patreon told what they give.

    Nothing is asked of Patreon later, so an entitlement by it has an end: linking again moves that
    on.

    Args:
        facts: Of the person's entitlement.
        identity: Who they are at Patreon, and what they give to whomever.
        campaign_id: Whose money counts.
        now: The moment of the answer.
    """
    known = find_patronage(facts)
    former = known if known and known.patron_id == identity.patron_id else None
    patronage = next((p for p in identity.patronages if p.campaign_id == campaign_id), None)
    given = None if patronage is None else _find_end(patronage, former, now)
    others = remove_patronage(facts).grants
    if patronage is None or given is None:
        return replace(facts, grants=others)
    grant = Grant(
        source=EntitlementSource.PATREON,
        since=patronage.since or now,
        until=given,
        cents=patronage.cents,
        patron_id=identity.patron_id,
    )
    return replace(facts, grants=(*others, grant))


def find_patronage(facts: EntitlementFacts) -> Grant | None:
    """Returns by which account of Patreon's somebody is entitled, or was."""
    return next((g for g in facts.grants if g.source is EntitlementSource.PATREON), None)


def remove_patronage(facts: EntitlementFacts) -> EntitlementFacts:
    """Returns the facts without what Patreon told."""
    return replace(
        facts, grants=tuple(g for g in facts.grants if g.source is not EntitlementSource.PATREON)
    )


def _find_end(patronage: Patronage, former: Grant | None, now: datetime) -> datetime | None:
    """Returns until when it entitles; `now` where it entitles no more, None where it never did."""
    if patronage.status is PatronStatus.ACTIVE or patronage.is_gift:
        if patronage.paid_until is None:
            return now + UNDATED
        return max(patronage.paid_until, now + UNSETTLED)
    if patronage.status is PatronStatus.FORMER and patronage.cents:
        known = former.until if former is not None else None
        return max(known or now, now + UNSETTLED)
    return None if patronage.status is PatronStatus.NONE else now
