"""The grant that a patronage gives: every answer of Patreon, with a fixed time."""

from dataclasses import replace
from datetime import datetime
from itertools import product

import pytest

from sponsorsync.domain.entitlement import EntitlementStatus, evaluate
from sponsorsync.domain.sources import EntitlementSource, Grant
from sponsorsync.patreon.patronage import PatreonIdentity, Patronage, PatronStatus, derive_grant
from tests.support.entitlements import DAY, NOT_A_SPONSOR, NOW, POLICY, SECOND

CAMPAIGN, OTHER_CAMPAIGN = "1234567", "7650021"
ACTIVE, DECLINED, FORMER, NONE = (
    *(PatronStatus.ACTIVE, PatronStatus.DECLINED),
    *(PatronStatus.FORMER, PatronStatus.NONE),
)
PATRONAGE = Patronage(
    campaign_id=CAMPAIGN,
    status=ACTIVE,
    cents=1000,
    since=NOW - 300 * DAY,
    paid_until=NOW + 20 * DAY,
    is_gift=False,
    is_trial=False,
)
PATRON = "90210010"
ENDED = Grant(EntitlementSource.PATREON, NOW - 300 * DAY, NOW - DAY, cents=500, account_id=PATRON)
LASTING = replace(ENDED, until=NOW + 100 * DAY)

PAID_UNTIL = {"unsaid": None, "past": NOW - DAY, "soon": NOW + DAY, "far": NOW + 300 * DAY}
BEFORE = {"nothing": None, "an ended one": ENDED, "a lasting one": LASTING}
OVER = dict.fromkeys(PAID_UNTIL, 0)
AS_PAID = {"unsaid": 31, "past": 7, "soon": 7, "far": 300}
"""Days from now to the end: at least a week, for Patreon repeats a failed charge that long."""


def _derive(*patronages: Patronage, stored: Grant | None = None) -> Grant | None:
    return derive_grant(PatreonIdentity(PATRON, patronages), CAMPAIGN, stored, NOW)


def _days(grant: Grant | None) -> float | None:
    """Returns the days from now to a grant's end; None without a grant or an end."""
    return None if grant is None or grant.until is None else (grant.until - NOW) / DAY


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("is_trial", [False, True])
@pytest.mark.parametrize(
    ("status", "is_gift", "by_date"),
    [
        (ACTIVE, False, AS_PAID),
        *((status, True, AS_PAID) for status in PatronStatus),
        (DECLINED, False, OVER),
    ],
)
@pytest.mark.parametrize("paid_until", PAID_UNTIL)
def test_a_patronage_has_an_end(
    paid_until: str,
    status: PatronStatus,
    is_gift: bool,
    by_date: dict[str, int],
    is_trial: bool,
    before: str,
) -> None:
    """An active or gifted patronage ends by date, as a trial or not; a declined one ends now.

    A grant that was stored before makes no difference.
    """
    patronage = replace(
        PATRONAGE,
        status=status,
        is_gift=is_gift,
        is_trial=is_trial,
        paid_until=PAID_UNTIL[paid_until],
    )

    assert _days(_derive(patronage, stored=BEFORE[before])) == by_date[paid_until]


@pytest.mark.parametrize("paid_until", PAID_UNTIL)
@pytest.mark.parametrize(
    ("cents", "before", "days"),
    [
        (1000, "nothing", 7),
        (1000, "an ended one", 7),
        (1000, "a lasting one", 100),
        *((cents, before, 0) for cents, before in product((0, None), BEFORE)),
    ],
)
def test_a_cancelled_patronage_lasts_for_the_paid_period(
    cents: int | None, before: str, days: int, paid_until: str
) -> None:
    """During that period Patreon shows an amount, but no end, so the stored end is used."""
    patronage = replace(PATRONAGE, status=FORMER, cents=cents, paid_until=PAID_UNTIL[paid_until])

    assert _days(_derive(patronage, stored=BEFORE[before])) == days


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("cents", [None, 0, 1000])
@pytest.mark.parametrize("is_trial", [False, True])
def test_without_a_pledge_there_is_no_grant(before: str, cents: int | None, is_trial: bool) -> None:
    """No support has ever begun, so there is no ended grant, either."""
    patronage = replace(PATRONAGE, status=NONE, cents=cents, is_trial=is_trial, paid_until=None)

    assert _derive(patronage, stored=BEFORE[before]) is None


def test_a_grant_has_the_facts_of_the_patronage() -> None:
    """The grant has the account's id, so that an account entitles one person only."""
    assert _derive(PATRONAGE, stored=ENDED) == Grant(
        source=EntitlementSource.PATREON,
        since=NOW - 300 * DAY,
        until=NOW + 20 * DAY,
        cents=1000,
        account_id=PATRON,
    )


def test_without_a_beginning_it_begins_now() -> None:
    """A gift has no start of a pledge."""
    grant = _derive(replace(PATRONAGE, since=None))

    assert grant is not None
    assert grant.since == NOW


@pytest.mark.parametrize("patronages", [(), (replace(PATRONAGE, campaign_id=OTHER_CAMPAIGN),)])
def test_support_of_another_campaign_gives_no_grant(patronages: tuple[Patronage, ...]) -> None:
    """A stored grant is dropped, since the support of our campaign has ended."""
    assert _derive(*patronages, stored=LASTING) is None


def test_the_right_one_of_several_campaigns_counts() -> None:
    """Our campaign may be at any place in the answer."""
    other = replace(PATRONAGE, campaign_id=OTHER_CAMPAIGN, cents=5000)

    grant = _derive(other, PATRONAGE, other)

    assert grant is not None
    assert grant.cents == 1000


@pytest.mark.parametrize(
    ("now", "status", "reason"),
    [
        (
            NOW + 20 * DAY - SECOND,
            EntitlementStatus.ENTITLED,
            "You support maintainer on Patreon with $10.00 a month, access until 2026-12-12.",
        ),
        (
            NOW + 20 * DAY,
            EntitlementStatus.NOT_ENTITLED,
            (
                "Your access through Patreon ended by 2026-12-12. Link Patreon again if you still "
                "support maintainer there."
            ),
        ),
    ],
)
def test_the_paid_time_ends_exactly(now: datetime, status: EntitlementStatus, reason: str) -> None:
    """The service does not ask Patreon again, so the reason asks the person to link again."""
    grant = _derive(PATRONAGE)
    assert grant is not None
    facts = replace(NOT_A_SPONSOR, grants=(grant,))

    entitlement = evaluate("maintainer", facts, policy=POLICY, now=now)

    assert (entitlement.status, entitlement.reason) == (status, reason)
