"""Sponsorships and entitlement facts of every kind, all relative to the moment NOW."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
from sponsorsync.domain.sources import EntitlementSource, PaymentSource
from sponsorsync.domain.sponsorship import Privacy, Sponsorship

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
YESTERDAY, TOMORROW = NOW - DAY, NOW + DAY
POLICY = EntitlementPolicy(one_time=timedelta(days=31), stale=timedelta(hours=72))

MONTHLY = Sponsorship(
    sponsorable="maintainer",
    created_at=NOW - 400 * DAY,
    is_active=True,
    is_one_time=False,
    privacy=Privacy.PUBLIC,
    payment_source=PaymentSource.GITHUB,
    tier_cents=1000,
    tier_selected_at=NOW - 400 * DAY,
)
ENDED = replace(MONTHLY, is_active=False)
PATREON = replace(
    MONTHLY, payment_source=PaymentSource.PATREON, tier_cents=None, tier_selected_at=None
)
PATREON_ENDED = replace(PATREON, is_active=False)
NO_TIER = replace(MONTHLY, payment_source=None, tier_cents=None, tier_selected_at=None)
ONE_TIME = replace(
    MONTHLY,
    is_one_time=True,
    tier_cents=2500,
    created_at=NOW - 5 * DAY,
    tier_selected_at=NOW - 5 * DAY,
)
ONE_TIME_INACTIVE = replace(ONE_TIME, is_active=False)
ONE_TIME_NO_TIER = replace(ONE_TIME, tier_cents=None, tier_selected_at=None)
ONE_TIME_OLD = replace(
    ONE_TIME, is_active=False, created_at=NOW - 40 * DAY, tier_selected_at=NOW - 40 * DAY
)
ONE_TIME_AGAIN = replace(ONE_TIME, created_at=NOW - 400 * DAY)

NEVER = None
NOT_A_SPONSOR = EntitlementFacts(sponsorable="maintainer", checked_at=YESTERDAY)
ENTITLED = EntitlementFacts(
    sponsorable="maintainer",
    checked_at=YESTERDAY,
    source=EntitlementSource.SPONSORSHIP,
    tier_cents=1000,
    privacy=Privacy.PUBLIC,
    payment_source=PaymentSource.GITHUB,
    since=NOW - 400 * DAY,
)
LAPSED = replace(ENTITLED, valid_until=YESTERDAY)
PAID_ONCE = replace(ENTITLED, is_one_time=True, tier_cents=2500, valid_until=TOMORROW)
ALL_BEFORE = [NEVER, NOT_A_SPONSOR, ENTITLED, LAPSED, PAID_ONCE]
