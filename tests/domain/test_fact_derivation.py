"""Deriving the facts to store from GitHub's answers: every rule, with a fixed time."""

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sponsorsync.domain.entitlement import (
    EntitlementFacts,
    EntitlementPolicy,
    EntitlementStatus,
    evaluate,
)
from sponsorsync.domain.fact_derivation import derive_facts, mark_unknown
from sponsorsync.domain.sources import EntitlementSource, Grant, PaymentSource
from sponsorsync.domain.sponsorship import Privacy, Sponsorship
from tests.support.entitlements import (
    ALL_BEFORE,
    DAY,
    ENDED,
    ENTITLED,
    LAPSED,
    MONTHLY,
    NEVER,
    NO_TIER,
    NOT_A_SPONSOR,
    NOW,
    ONE_TIME,
    ONE_TIME_AGAIN,
    ONE_TIME_INACTIVE,
    ONE_TIME_NO_TIER,
    ONE_TIME_OLD,
    PAID_ONCE,
    PATREON,
    PATREON_ENDED,
    POLICY,
    YESTERDAY,
)
from tests.support.scale import scale

OVERRIDE = Grant(source=EntitlementSource.OVERRIDE, since=YESTERDAY, until=None)


def _derive_facts(
    *sponsorships: Sponsorship,
    previous: EntitlementFacts | None = None,
    policy: EntitlementPolicy = POLICY,
    now: datetime = NOW,
) -> EntitlementFacts:
    return derive_facts("maintainer", sponsorships, previous=previous, policy=policy, now=now)


# --- one sponsorship ------------------------------------------------------------------------------


@pytest.mark.parametrize("previous", ALL_BEFORE)
@pytest.mark.parametrize(
    ("sponsorship", "valid_until"),
    [
        (MONTHLY, None),
        (PATREON, None),
        (NO_TIER, None),
        (ONE_TIME, NOW + 26 * DAY),
        (ONE_TIME_INACTIVE, NOW + 26 * DAY),
        (ONE_TIME_NO_TIER, NOW + 26 * DAY),
        (ONE_TIME_AGAIN, NOW + 26 * DAY),
    ],
    ids=["monthly", "patreon", "no tier", "once", "once inactive", "once no tier", "once again"],
)
def test_an_entitling_sponsorship_replaces_any_previous_facts(
    sponsorship: Sponsorship, valid_until: datetime | None, previous: EntitlementFacts | None
) -> None:
    """GitHub's answer is complete; a one-time payment entitles for the time of our settings."""
    facts = _derive_facts(sponsorship, previous=previous)

    assert facts == EntitlementFacts(
        sponsorable="maintainer",
        checked_at=NOW,
        source=EntitlementSource.SPONSORSHIP,
        tier_cents=sponsorship.tier_cents,
        is_one_time=sponsorship.is_one_time,
        privacy=Privacy.PUBLIC,
        payment_source=sponsorship.payment_source,
        since=sponsorship.created_at,
        valid_until=valid_until,
    )
    assert facts.is_sponsoring(NOW)


@pytest.mark.parametrize("sponsorship", [ENDED, PATREON_ENDED], ids=["github", "patreon"])
@pytest.mark.parametrize(
    ("previous", "valid_until"),
    [(NEVER, NOW), (NOT_A_SPONSOR, NOW), (ENTITLED, NOW), (LAPSED, YESTERDAY), (PAID_ONCE, NOW)],
    ids=["never", "not a sponsor", "entitled", "lapsed", "paid once"],
)
def test_a_monthly_sponsorship_ends_when_its_end_is_first_seen(
    sponsorship: Sponsorship, previous: EntitlementFacts | None, valid_until: datetime
) -> None:
    """GitHub sends no end. An end that moved with each sign-in would never come."""
    facts = _derive_facts(sponsorship, previous=previous)

    assert facts.valid_until == valid_until
    assert not facts.is_sponsoring(NOW)


@pytest.mark.parametrize("previous", ALL_BEFORE)
def test_an_old_one_time_payment_no_longer_entitles(previous: EntitlementFacts | None) -> None:
    """GitHub sends no event at the end, so the end is computed from the payment."""
    facts = _derive_facts(ONE_TIME_OLD, previous=previous)

    assert facts.valid_until == NOW - 9 * DAY
    assert not facts.is_sponsoring(NOW)


@pytest.mark.parametrize(
    ("previous", "facts"),
    [
        (NEVER, EntitlementFacts(sponsorable="maintainer", checked_at=NOW)),
        (NOT_A_SPONSOR, EntitlementFacts(sponsorable="maintainer", checked_at=NOW)),
        (ENTITLED, replace(ENTITLED, checked_at=NOW, valid_until=NOW)),
        (LAPSED, replace(LAPSED, checked_at=NOW)),
        (PAID_ONCE, replace(PAID_ONCE, checked_at=NOW)),
    ],
    ids=["never", "not a sponsor", "entitled", "lapsed", "paid once"],
)
def test_a_vanished_sponsorship_keeps_the_end_it_had_or_ends_now(
    previous: EntitlementFacts | None, facts: EntitlementFacts
) -> None:
    """GitHub no longer lists a one-time payment before its end comes; a stored end stays."""
    assert _derive_facts(previous=previous) == facts


@pytest.mark.parametrize("sponsorships", [(), (MONTHLY,), (ENDED,), (ONE_TIME,)])
@pytest.mark.parametrize("previous", [NOT_A_SPONSOR, ENTITLED, LAPSED, PAID_ONCE])
def test_an_answer_clears_unknown_since_and_keeps_grants_of_other_sources(
    sponsorships: tuple[Sponsorship, ...], previous: EntitlementFacts
) -> None:
    """The next failure begins a new outage; GitHub's answer says nothing on other sources."""
    known = replace(previous, grants=(OVERRIDE,), memberships_checked_at=YESTERDAY)

    facts = _derive_facts(*sponsorships, previous=replace(known, unknown_since=YESTERDAY))

    assert (facts.unknown_since, facts.checked_at) == (None, NOW)
    assert (facts.grants, facts.memberships_checked_at) == ((OVERRIDE,), YESTERDAY)


# --- several sponsorships -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sponsorships", "chosen"),
    [
        ([ENDED, ONE_TIME], ONE_TIME),
        ([ONE_TIME, MONTHLY], MONTHLY),
        ([replace(ENDED, tier_cents=99900), MONTHLY], MONTHLY),
        ([replace(ONE_TIME, tier_cents=99900), MONTHLY], MONTHLY),
        ([MONTHLY, replace(MONTHLY, tier_cents=5000)], replace(MONTHLY, tier_cents=5000)),
        ([PATREON, MONTHLY], MONTHLY),
        ([ONE_TIME_OLD, ONE_TIME], ONE_TIME),
        ([ONE_TIME_OLD, ENDED], ENDED),
    ],
    ids=[
        "entitling before ended",
        "endless before a late end",
        "entitling before dear",
        "endless before dear",
        "dear before cheap",
        "a price before none",
        "the later payment",
        "the later end",
    ],
)
@pytest.mark.parametrize("step", [1, -1])
def test_the_best_of_several_sponsorships_counts_in_any_order(
    sponsorships: list[Sponsorship], chosen: Sponsorship, step: int
) -> None:
    """GitHub may list several sponsorships between the same two accounts, in any order."""
    assert replace(_derive_facts(*sponsorships[::step]), grants=()) == _derive_facts(chosen)


def test_an_ended_sponsorship_does_not_inherit_the_end_of_another() -> None:
    """Otherwise a $5 payment would turn a former $999 tier into a paid one at the next sign-in."""
    sponsorships = (replace(ENDED, tier_cents=99900), replace(ONE_TIME, tier_cents=500))
    first = _derive_facts(*sponsorships)

    second = _derive_facts(*sponsorships, previous=first)

    assert second == first
    assert second.tier_cents == 500


def test_the_end_does_not_move_with_later_answers() -> None:
    """The retention of data is counted from the end."""
    first = _derive_facts(ENDED, ONE_TIME_OLD, previous=ENTITLED)

    later = _derive_facts(ENDED, ONE_TIME_OLD, previous=first, now=NOW + 9 * DAY)

    assert later.valid_until == first.valid_until == NOW


@pytest.mark.parametrize("previous", ALL_BEFORE)
def test_a_sponsorship_of_another_sponsorable_is_ignored(previous: EntitlementFacts | None) -> None:
    """GitHub's answer may list all sponsorships of a person."""
    elsewhere = replace(MONTHLY, sponsorable="somebody-else")

    assert _derive_facts(elsewhere, previous=previous) == _derive_facts(previous=previous)


# --- properties -----------------------------------------------------------------------------------

# Whole days, so that equal times are often drawn.
moments = st.integers(min_value=-50, max_value=50).map(lambda days: NOW + days * DAY)
cents = st.none() | st.integers(min_value=0, max_value=1_200_000)
given_sponsorships = st.lists(
    st.builds(
        Sponsorship,
        sponsorable=st.sampled_from(["maintainer", "somebody-else"]),
        created_at=moments,
        is_active=st.booleans(),
        is_one_time=st.booleans(),
        privacy=st.sampled_from(Privacy),
        payment_source=st.none() | st.sampled_from(PaymentSource),
        tier_cents=cents,
        tier_selected_at=st.none() | moments,
    ),
    max_size=5,
)
earlier_facts = st.none() | st.builds(
    EntitlementFacts,
    sponsorable=st.just("maintainer"),
    checked_at=moments,
    source=st.sampled_from([EntitlementSource.NONE, EntitlementSource.SPONSORSHIP]),
    tier_cents=cents,
    is_one_time=st.booleans(),
    since=st.none() | moments,
    valid_until=st.none() | moments,
    unknown_since=st.none() | moments,
)


def _pays(sponsorship: Sponsorship, now: datetime) -> bool:
    if sponsorship.is_one_time:
        paid_at = sponsorship.tier_selected_at or sponsorship.created_at
        return now < paid_at + POLICY.one_time
    return sponsorship.is_active


def _still_runs(previous: EntitlementFacts | None, now: datetime) -> bool:
    return (
        previous is not None
        and previous.source is not EntitlementSource.NONE
        and previous.valid_until is not None
        and now < previous.valid_until
    )


@settings(max_examples=scale(200))
@given(sponsorships=given_sponsorships, previous=earlier_facts, now=moments)
def test_derived_facts_entitle_exactly_by_the_rules(
    sponsorships: list[Sponsorship], previous: EntitlementFacts | None, now: datetime
) -> None:
    """`paid` and `expected` state the rules in two lines; random answers are compared with them."""
    ours = [each for each in sponsorships if each.sponsorable == "maintainer"]
    paid = [(each.created_at, each.tier_cents) for each in ours if _pays(each, now)]

    facts = _derive_facts(*sponsorships, previous=previous, now=now)

    expected = bool(paid) if ours else _still_runs(previous, now)
    assert facts.is_sponsoring(now) is expected
    assert evaluate("maintainer", facts, policy=POLICY, now=now).status is (
        EntitlementStatus.ENTITLED if expected else EntitlementStatus.NOT_ENTITLED
    )
    assert not paid or (facts.since, facts.tier_cents) in paid


@given(sponsorships=given_sponsorships, previous=earlier_facts, now=moments)
def test_deriving_from_the_same_answer_again_changes_nothing(
    sponsorships: list[Sponsorship], previous: EntitlementFacts | None, now: datetime
) -> None:
    """Two sign-ins at the same time store the same end."""
    first = _derive_facts(*sponsorships, previous=previous, now=now)

    again = _derive_facts(*sponsorships, previous=first, now=now)

    assert again.is_sponsoring(now) is first.is_sponsoring(now)
    assert again.valid_until == first.valid_until


@given(facts=earlier_facts, now=moments)
def test_a_failed_check_never_entitles_and_never_denies(
    facts: EntitlementFacts | None, now: datetime
) -> None:
    """A failed check keeps an entitlement or makes it unknown."""
    entitlement = evaluate("maintainer", mark_unknown(facts, now=now), policy=POLICY, now=now)

    entitled_before = facts is not None and facts.is_sponsoring(now)
    assert entitlement.status in {EntitlementStatus.ENTITLED, EntitlementStatus.UNKNOWN}
    assert entitled_before or entitlement.status is EntitlementStatus.UNKNOWN


# --- a payment beside a monthly sponsorship -------------------------------------------------------

BESIDE = Grant(EntitlementSource.SPONSORSHIP, since=NOW - 5 * DAY, until=NOW + 26 * DAY, cents=2500)
CHEAP = replace(MONTHLY, tier_cents=100)


def _evaluate(facts: EntitlementFacts, now: datetime = NOW) -> tuple[EntitlementStatus, int | None]:
    entitlement = evaluate("maintainer", facts, policy=POLICY, now=now)
    return entitlement.status, entitlement.tier_cents


@pytest.mark.parametrize("step", [1, -1])
def test_a_payment_beside_a_monthly_sponsorship_becomes_a_grant(step: int) -> None:
    """The payment has the higher tier; after its end the monthly sponsorship still entitles."""
    facts = _derive_facts(*[CHEAP, ONE_TIME][::step])

    assert (facts.tier_cents, facts.valid_until, facts.grants) == (100, None, (BESIDE,))
    assert _evaluate(facts) == (EntitlementStatus.ENTITLED, 2500)
    assert _evaluate(facts, NOW + 26 * DAY) == (EntitlementStatus.ENTITLED, 100)


def test_the_end_of_the_monthly_sponsorship_keeps_the_payment() -> None:
    """The one-time payment entitles until its own end."""
    both = _derive_facts(CHEAP, ONE_TIME)
    ended = _derive_facts(replace(CHEAP, is_active=False), ONE_TIME, previous=both)
    gone = _derive_facts(previous=both)

    assert _evaluate(ended) == _evaluate(gone) == (EntitlementStatus.ENTITLED, 2500)
    assert ended.grants == ()


def test_an_expired_payment_is_removed() -> None:
    """The audit trail has the payment, so the facts need not."""
    both = _derive_facts(CHEAP, ONE_TIME)

    later = _derive_facts(CHEAP, previous=both, now=NOW + 40 * DAY)

    assert (both.grants, later.grants) == ((BESIDE,), ())


# --- the grace period -----------------------------------------------------------------------------

GRACE = replace(POLICY, grace=3 * DAY)


@pytest.mark.parametrize(
    ("sponsorships", "previous", "end"),
    [
        ((ENDED,), ENTITLED, NOW + 3 * DAY),
        ((), ENTITLED, NOW + 3 * DAY),
        ((ENDED,), replace(ENTITLED, valid_until=NOW + 2 * DAY), NOW + 2 * DAY),
        ((ENDED,), replace(ENTITLED, valid_until=NOW + 20 * DAY), NOW + 3 * DAY),
        ((), replace(ENTITLED, valid_until=NOW + 20 * DAY), NOW + 20 * DAY),
        ((ENDED,), LAPSED, YESTERDAY),
        ((), LAPSED, YESTERDAY),
        ((ENDED,), NEVER, NOW),
        ((ENDED,), NOT_A_SPONSOR, NOW),
        ((ENDED,), PAID_ONCE, NOW),
        ((ONE_TIME,), ENTITLED, NOW + 26 * DAY),
        ((ONE_TIME_OLD,), ENTITLED, NOW - 9 * DAY),
        ((MONTHLY,), ENTITLED, None),
    ],
    ids=[
        "first seen to have ended",
        "gone",
        "its grace runs already",
        "ended before it was to",
        "gone before it was to",
        "ended long ago",
        "gone long ago",
        "never seen to pay",
        "seen not to pay",
        "ended beside a payment",
        "a payment",
        "an old payment",
        "it goes on",
    ],
)
def test_only_the_end_of_a_monthly_sponsorship_gets_the_grace(
    sponsorships: tuple[Sponsorship, ...], previous: EntitlementFacts | None, end: datetime | None
) -> None:
    """The grace period covers the rest of a paid month, whose end GitHub does not send."""
    facts = _derive_facts(*sponsorships, previous=previous, policy=GRACE)

    assert facts.valid_until == end


def test_only_the_stored_sponsorship_gets_the_grace() -> None:
    """Otherwise a higher tier that ended years ago would entitle during the grace period."""
    old = replace(ENDED, created_at=NOW - 900 * DAY, tier_cents=99900)

    facts = _derive_facts(ENDED, old, previous=ENTITLED, policy=GRACE)

    assert (facts.tier_cents, facts.valid_until) == (1000, NOW + 3 * DAY)


def test_a_withdrawn_cancellation_is_noticed_during_the_grace() -> None:
    """A sponsorship that is active after its announced end has no end any more."""
    known = replace(
        ENTITLED, valid_until=NOW + 2 * DAY
    )  # an end announced for yesterday, with the grace

    facts = _derive_facts(MONTHLY, previous=known, policy=GRACE)

    assert facts.valid_until is None


def test_the_grace_does_not_restart_with_each_check() -> None:
    """Otherwise the grace period would never end."""
    first = _derive_facts(ENDED, previous=ENTITLED, policy=GRACE)

    later = _derive_facts(ENDED, previous=first, policy=GRACE, now=NOW + 2 * DAY)
    last = _derive_facts(previous=later, policy=GRACE, now=NOW + 9 * DAY)

    assert first.valid_until == later.valid_until == last.valid_until == NOW + 3 * DAY


# --- mark_unknown ---------------------------------------------------------------------------------

NEVER_CHECKED = EntitlementFacts("maintainer", checked_at=None, grants=(OVERRIDE,))


@pytest.mark.parametrize(
    ("facts", "marked"),
    [
        (ENTITLED, replace(ENTITLED, unknown_since=NOW)),
        (replace(ENTITLED, unknown_since=YESTERDAY), replace(ENTITLED, unknown_since=YESTERDAY)),
        (NEVER_CHECKED, NEVER_CHECKED),
        (None, None),
    ],
    ids=["first failure", "second failure", "never checked", "no facts"],
)
def test_a_failed_check_only_sets_unknown_since_once(
    facts: EntitlementFacts | None, marked: EntitlementFacts | None
) -> None:
    """A second failure must not prolong the time for which the last answer holds."""
    assert mark_unknown(facts, now=NOW) == marked
