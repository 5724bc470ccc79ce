"""What somebody gives at Patreon, as an entitlement: every answer, with the moment given."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest

from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementStatus, evaluate
from sponsorsync.domain.patronage import (
    PatreonIdentity,
    Patronage,
    PatronStatus,
    find_patronage,
    record_patronage,
    remove_patronage,
)
from sponsorsync.domain.sources import EntitlementSource, Grant
from tests.support.entitlements import DAY, ENTITLED, NOT_A_SPONSOR, NOW, POLICY, SECOND

if TYPE_CHECKING:
    from datetime import datetime

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
NOBODY = EntitlementFacts(sponsorable="maintainer", checked_at=None)
PATRON = "90210010"
ENDED = Grant(EntitlementSource.PATREON, NOW - 300 * DAY, NOW - DAY, cents=500, patron_id=PATRON)
LASTING = replace(ENDED, until=NOW + 100 * DAY)
OVERRIDE = Grant(EntitlementSource.OVERRIDE, NOW, None, reason="Why", actor="an-operator")
ORGANIZATION = Grant(
    EntitlementSource.ORGANIZATION, NOW, None, organization_id=17, organization="org"
)

PAID_UNTIL = {"unsaid": None, "past": NOW - DAY, "soon": NOW + DAY, "far": NOW + 300 * DAY}
BEFORE = {"nothing": None, "an ended one": ENDED, "a lasting one": LASTING}
NO_GRANT = None
OVER = dict.fromkeys(PAID_UNTIL, 0)
AS_PAID = {"unsaid": 31, "past": 7, "soon": 7, "far": 300}
"""In days from now: at least a week, since Patreon tries a charge again for so long."""


def _see(
    patronage: Patronage, *, facts: EntitlementFacts = NOBODY, now: datetime = NOW
) -> EntitlementFacts:
    identity = PatreonIdentity(PATRON, (patronage,))
    return record_patronage(facts, identity, campaign_id=CAMPAIGN, now=now)


def _days(facts: EntitlementFacts) -> float | None:
    """Returns how many days from now on the patronage entitles; None where there is none."""
    grant = find_patronage(facts)
    if grant is None:
        return NO_GRANT
    assert grant.until is not None
    return (grant.until - NOW) / DAY


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
def test_until_when_it_entitlements(
    paid_until: str,
    status: PatronStatus,
    is_gift: bool,
    by_date: dict[str, int],
    is_trial: bool,
    before: str,
) -> None:
    """Who pays, or is given it, is entitled; a trial counts like what it is a trial of.

    What was known before has no say.
    """
    former = BEFORE[before]
    facts = replace(NOBODY, grants=() if former is None else (former,))
    patronage = replace(
        PATRONAGE,
        status=status,
        is_gift=is_gift,
        is_trial=is_trial,
        paid_until=PAID_UNTIL[paid_until],
    )

    assert _days(_see(patronage, facts=facts)) == by_date[paid_until]


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
def test_who_has_stopped_keeps_what_is_paid_for(
    cents: int | None, before: str, days: int, paid_until: str
) -> None:
    """Patreon shows an amount that long, and no end: then the one that was known counts."""
    former = BEFORE[before]
    facts = replace(NOBODY, grants=() if former is None else (former,))
    patronage = replace(PATRONAGE, status=FORMER, cents=cents, paid_until=PAID_UNTIL[paid_until])

    assert _days(_see(patronage, facts=facts)) == days


def test_the_end_of_another_account_is_not_inherited() -> None:
    """Whoever links a second one would keep the year that the first one has paid for."""
    facts = replace(NOBODY, grants=(replace(LASTING, patron_id="another"),))
    patronage = replace(PATRONAGE, status=FORMER, cents=1000, paid_until=None)

    assert _days(_see(patronage, facts=facts)) == 7


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("cents", [None, 0, 1000])
@pytest.mark.parametrize("is_trial", [False, True])
def test_who_never_pledged_has_no_grant(before: str, cents: int | None, is_trial: bool) -> None:
    """Not even an ended one: there is nothing to tell."""
    former = BEFORE[before]
    facts = replace(NOBODY, grants=() if former is None else (former,))
    patronage = replace(PATRONAGE, status=NONE, cents=cents, is_trial=is_trial, paid_until=None)

    assert _days(_see(patronage, facts=facts)) is NO_GRANT


def test_it_is_one_grant_with_what_patreon_told() -> None:
    """In place of the former one, whatever account that was of; all else stays."""
    known = replace(ENTITLED, grants=(ORGANIZATION, LASTING, OVERRIDE))

    seen = _see(PATRONAGE, facts=known)

    assert replace(seen, grants=()) == ENTITLED
    assert set(seen.grants) == {
        ORGANIZATION,
        OVERRIDE,
        Grant(
            source=EntitlementSource.PATREON,
            since=NOW - 300 * DAY,
            until=NOW + 20 * DAY,
            cents=1000,
            patron_id=PATRON,
        ),
    }


def test_without_a_beginning_it_begins_now() -> None:
    """A gift has none."""
    grant = find_patronage(_see(replace(PATRONAGE, since=None)))

    assert grant is not None
    assert grant.since == NOW


@pytest.mark.parametrize("patronages", [(), (replace(PATRONAGE, campaign_id=OTHER_CAMPAIGN),)])
def test_what_goes_to_others_does_not_count(patronages: tuple[Patronage, ...]) -> None:
    """It ends what was known, and nothing else."""
    known = replace(NOT_A_SPONSOR, grants=(LASTING, OVERRIDE))

    seen = record_patronage(
        known, PatreonIdentity(PATRON, patronages), campaign_id=CAMPAIGN, now=NOW
    )

    assert seen == replace(NOT_A_SPONSOR, grants=(OVERRIDE,))


def test_of_several_campaigns_the_right_one_counts() -> None:
    """Wherever it stands."""
    other = replace(PATRONAGE, campaign_id=OTHER_CAMPAIGN, cents=5000)
    identity = PatreonIdentity(PATRON, (other, PATRONAGE, other))

    grant = find_patronage(record_patronage(NOBODY, identity, campaign_id=CAMPAIGN, now=NOW))

    assert grant is not None
    assert grant.cents == 1000


def test_forgetting_leaves_all_else() -> None:
    """Also where there is nothing to forget."""
    known = replace(ENTITLED, grants=(ORGANIZATION, LASTING, OVERRIDE))

    assert remove_patronage(known) == replace(ENTITLED, grants=(ORGANIZATION, OVERRIDE))
    assert remove_patronage(ENTITLED) == ENTITLED
    assert find_patronage(ENTITLED) is None


@pytest.mark.parametrize(
    ("now", "status", "reason"),
    [
        (
            NOW + 20 * DAY - SECOND,
            EntitlementStatus.ENTITLED,
            "You support maintainer on Patreon with $10.00 a month until 2026-12-12.",
        ),
        (
            NOW + 20 * DAY,
            EntitlementStatus.NOT_ENTITLED,
            (
                "Your support of maintainer on Patreon was last seen for the time before "
                "2026-12-12. Link Patreon again if it goes on."
            ),
        ),
    ],
)
def test_the_paid_time_ends_in_a_certain_second(
    now: datetime, status: EntitlementStatus, reason: str
) -> None:
    """Nobody asks Patreon then: the sentence says what to do."""
    facts = _see(PATRONAGE, facts=NOT_A_SPONSOR)

    entitlement = evaluate("maintainer", facts, policy=POLICY, now=now)

    assert (entitlement.status, entitlement.reason) == (status, reason)
