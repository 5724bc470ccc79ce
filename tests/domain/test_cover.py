"""Who is covered, by what, until when: every decision, with the moment given."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sponsorsync.domain.assessment import assess, mark_unknown
from sponsorsync.domain.cover import (
    CoverFacts,
    CoverPolicy,
    CoverSource,
    CoverStatus,
    judge,
)
from sponsorsync.domain.sponsorship import PaymentSource, Privacy, Sponsorship

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
YESTERDAY, TOMORROW = NOW - DAY, NOW + DAY
POLICY = CoverPolicy(one_time=timedelta(days=31), stale=timedelta(hours=72))

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
    ONE_TIME,
    is_active=False,
    created_at=NOW - 40 * DAY,
    tier_selected_at=NOW - 40 * DAY,
)
ONE_TIME_AGAIN = replace(ONE_TIME, created_at=NOW - 400 * DAY)

NEVER = None
NOT_A_SPONSOR = CoverFacts(sponsorable="maintainer", checked_at=YESTERDAY)
COVERED = CoverFacts(
    sponsorable="maintainer",
    checked_at=YESTERDAY,
    source=CoverSource.SPONSORSHIP,
    tier_cents=1000,
    privacy=Privacy.PUBLIC,
    payment_source=PaymentSource.GITHUB,
    since=NOW - 400 * DAY,
)
LAPSED = replace(COVERED, valid_until=YESTERDAY)
PAID_ONCE = replace(COVERED, is_one_time=True, tier_cents=2500, valid_until=TOMORROW)
ALL_BEFORE = [NEVER, NOT_A_SPONSOR, COVERED, LAPSED, PAID_ONCE]


def _assess(*sponsorships: Sponsorship, previous: CoverFacts | None = None) -> CoverFacts:
    return assess("maintainer", sponsorships, previous=previous, policy=POLICY, now=NOW)


def _judge(facts: CoverFacts | None, now: datetime = NOW) -> tuple[CoverStatus, str]:
    cover = judge("maintainer", facts, policy=POLICY, now=now)
    return cover.status, cover.reason


# --- assess: one sponsorship ----------------------------------------------------------------------


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
def test_what_covers_covers_whatever_was_known_before(
    sponsorship: Sponsorship, valid_until: datetime | None, previous: CoverFacts | None
) -> None:
    """A complete answer of GitHub is the truth; a one-time payment has a window of our own."""
    facts = _assess(sponsorship, previous=previous)

    assert facts == CoverFacts(
        sponsorable="maintainer",
        checked_at=NOW,
        source=CoverSource.SPONSORSHIP,
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
    [
        (NEVER, NOW),
        (NOT_A_SPONSOR, NOW),
        (COVERED, NOW),
        (LAPSED, YESTERDAY),
        (PAID_ONCE, NOW),
    ],
    ids=["never", "not a sponsor", "covered", "lapsed", "paid once"],
)
def test_a_monthly_sponsorship_ended_when_we_first_learnt_of_it(
    sponsorship: Sponsorship, previous: CoverFacts | None, valid_until: datetime
) -> None:
    """GitHub does not say when, and an end that moved with each login would keep data for ever."""
    facts = _assess(sponsorship, previous=previous)

    assert facts.valid_until == valid_until
    assert not facts.is_sponsoring(NOW)


@pytest.mark.parametrize("previous", ALL_BEFORE)
def test_a_one_time_payment_of_long_ago_covers_no_more(previous: CoverFacts | None) -> None:
    """GitHub sends no event at its end, so the end is counted from the payment."""
    facts = _assess(ONE_TIME_OLD, previous=previous)

    assert facts.valid_until == NOW - 9 * DAY
    assert not facts.is_sponsoring(NOW)


@pytest.mark.parametrize(
    ("previous", "facts"),
    [
        (NEVER, CoverFacts(sponsorable="maintainer", checked_at=NOW)),
        (NOT_A_SPONSOR, CoverFacts(sponsorable="maintainer", checked_at=NOW)),
        (COVERED, replace(COVERED, checked_at=NOW, valid_until=NOW)),
        (LAPSED, replace(LAPSED, checked_at=NOW)),
        (PAID_ONCE, replace(PAID_ONCE, checked_at=NOW)),
    ],
    ids=["never", "not a sponsor", "covered", "lapsed", "paid once"],
)
def test_a_vanished_sponsorship_keeps_the_end_it_had_or_ends_now(
    previous: CoverFacts | None, facts: CoverFacts
) -> None:
    """One-time payments vanish while they still cover; what began to end does not begin again."""
    assert _assess(previous=previous) == facts


@pytest.mark.parametrize("sponsorships", [(), (MONTHLY,), (ENDED,), (ONE_TIME,)])
@pytest.mark.parametrize("previous", [NOT_A_SPONSOR, COVERED, LAPSED, PAID_ONCE])
def test_an_answer_ends_the_time_of_not_knowing(
    sponsorships: tuple[Sponsorship, ...], previous: CoverFacts
) -> None:
    """The next failure begins a time of its own."""
    facts = _assess(*sponsorships, previous=replace(previous, unknown_since=YESTERDAY))

    assert facts.unknown_since is None
    assert facts.checked_at == NOW


# --- assess: several ------------------------------------------------------------------------------


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
        "covering before ended",
        "endless before a late end",
        "covering before dear",
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
    """GitHub may list several between the same two accounts, and the order says nothing."""
    assert _assess(*sponsorships[::step]) == _assess(chosen)


def test_an_ended_sponsorship_does_not_live_on_in_the_end_of_another() -> None:
    """Else $5 once would show the $999 a month of former days as paid, from the second login on."""
    sponsorships = (replace(ENDED, tier_cents=99900), replace(ONE_TIME, tier_cents=500))
    first = _assess(*sponsorships)

    second = _assess(*sponsorships, previous=first)

    assert second == first
    assert second.tier_cents == 500


def test_the_end_does_not_move_with_later_answers() -> None:
    """What is kept after a lapse is counted from it."""
    first = _assess(ENDED, ONE_TIME_OLD, previous=COVERED)

    later = assess(
        "maintainer", [ENDED, ONE_TIME_OLD], previous=first, policy=POLICY, now=NOW + 9 * DAY
    )

    assert later.valid_until == first.valid_until == NOW


def test_somebody_who_comes_back_is_covered_without_an_end() -> None:
    """The end of the former time is over with it."""
    assert _assess(MONTHLY, previous=LAPSED).valid_until is None


@pytest.mark.parametrize("previous", ALL_BEFORE)
def test_a_sponsorship_of_somebody_else_is_none_of_ours(previous: CoverFacts | None) -> None:
    """The answer may list all that a person gives."""
    elsewhere = replace(MONTHLY, sponsorable="somebody-else")

    assert _assess(elsewhere, previous=previous) == _assess(previous=previous)


# --- mark_unknown ---------------------------------------------------------------------------------


def test_a_failed_check_changes_nothing_but_the_mark() -> None:
    """Unknown is not no."""
    assert mark_unknown(COVERED, now=NOW) == replace(COVERED, unknown_since=NOW)


def test_a_second_failed_check_does_not_move_the_mark() -> None:
    """Else a GitHub that stays away would be trusted for ever."""
    marked = replace(COVERED, unknown_since=YESTERDAY)

    assert mark_unknown(marked, now=NOW) == marked


def test_of_nothing_a_failed_check_makes_nothing() -> None:
    """There is no cover to hold on to."""
    assert mark_unknown(None, now=NOW) is None


# --- judge ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        (NEVER, CoverStatus.UNKNOWN),
        (NOT_A_SPONSOR, CoverStatus.NOT_COVERED),
        (COVERED, CoverStatus.COVERED),
        (LAPSED, CoverStatus.NOT_COVERED),
        (PAID_ONCE, CoverStatus.COVERED),
        (replace(NOT_A_SPONSOR, unknown_since=YESTERDAY), CoverStatus.UNKNOWN),
        (replace(COVERED, unknown_since=YESTERDAY), CoverStatus.COVERED),
        (replace(LAPSED, unknown_since=YESTERDAY), CoverStatus.UNKNOWN),
        (replace(PAID_ONCE, unknown_since=YESTERDAY), CoverStatus.COVERED),
        (replace(NOT_A_SPONSOR, unknown_since=NOW - 4 * DAY), CoverStatus.UNKNOWN),
        (replace(COVERED, unknown_since=NOW - 4 * DAY), CoverStatus.UNKNOWN),
        (replace(LAPSED, unknown_since=NOW - 4 * DAY), CoverStatus.UNKNOWN),
        (replace(PAID_ONCE, unknown_since=NOW - 4 * DAY), CoverStatus.UNKNOWN),
    ],
    ids=[
        *("never", "not a sponsor", "covered", "lapsed", "paid once"),
        *("no, failing", "covered, failing", "lapsed, failing", "paid once, failing"),
        *("no, stale", "covered, stale", "lapsed, stale", "paid once, stale"),
    ],
)
def test_the_answer_is_one_of_three(facts: CoverFacts | None, status: CoverStatus) -> None:
    """While GitHub is silent the last cover holds for a bounded time, and a no becomes unknown."""
    assert _judge(facts)[0] is status


@pytest.mark.parametrize(
    ("now", "status"),
    [
        (TOMORROW - SECOND, CoverStatus.COVERED),
        (TOMORROW, CoverStatus.NOT_COVERED),
        (TOMORROW + SECOND, CoverStatus.NOT_COVERED),
    ],
)
def test_the_end_of_a_cover_is_exclusive(now: datetime, status: CoverStatus) -> None:
    """The scripts in Redis decide the same second alike."""
    assert _judge(PAID_ONCE, now)[0] is status


@pytest.mark.parametrize(
    ("now", "status"),
    [
        (NOW + POLICY.stale - SECOND, CoverStatus.COVERED),
        (NOW + POLICY.stale, CoverStatus.UNKNOWN),
        (NOW + POLICY.stale + SECOND, CoverStatus.UNKNOWN),
    ],
)
def test_the_time_of_not_knowing_is_bounded(now: datetime, status: CoverStatus) -> None:
    """It is counted from the first failed check."""
    assert _judge(replace(COVERED, unknown_since=NOW), now)[0] is status


def test_a_cover_ends_on_its_day_also_while_github_is_silent() -> None:
    """A one-time payment has a known end; no GitHub is needed to see it come."""
    facts = replace(PAID_ONCE, unknown_since=NOW)

    assert _judge(facts, TOMORROW - SECOND)[0] is CoverStatus.COVERED
    assert _judge(facts, TOMORROW)[0] is CoverStatus.UNKNOWN


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            NEVER,
            "GitHub has not told us yet whether you sponsor maintainer. Sign in again to ask.",
        ),
        (NOT_A_SPONSOR, "GitHub shows no sponsorship of maintainer by your account."),
        (COVERED, "You sponsor maintainer with $10.00 a month."),
        (
            replace(COVERED, tier_cents=123456),
            "You sponsor maintainer with $1,234.56 a month.",
        ),
        (PAID_ONCE, "You sponsor maintainer with a one-time $25.00 until 2026-11-23."),
        (
            replace(COVERED, tier_cents=None, payment_source=PaymentSource.PATREON),
            "You sponsor maintainer through Patreon.",
        ),
        (replace(COVERED, tier_cents=None, payment_source=None), "You sponsor maintainer."),
        (
            LAPSED,
            "Your sponsorship of maintainer with $10.00 a month ended by 2026-11-21.",
        ),
        (
            replace(COVERED, unknown_since=YESTERDAY),
            (
                "GitHub could not be asked since 2026-11-21 12:30 UTC; what was known before, that "
                "you sponsor maintainer, holds until 2026-11-24 12:30 UTC."
            ),
        ),
        (
            replace(PAID_ONCE, unknown_since=YESTERDAY),
            (
                "GitHub could not be asked since 2026-11-21 12:30 UTC; what was known before, that "
                "you sponsor maintainer, holds until 2026-11-23 12:30 UTC."
            ),
        ),
        (
            replace(COVERED, unknown_since=NOW - 4 * DAY),
            (
                "GitHub could not be asked since 2026-11-18 12:30 UTC, so whether you sponsor "
                "maintainer is not known. Sign in again to ask."
            ),
        ),
    ],
)
def test_the_reason_is_one_sentence_for_the_person(facts: CoverFacts | None, sentence: str) -> None:
    """People see it on their account page; it promises no more than what holds."""
    assert _judge(facts)[1] == sentence


def test_the_answer_carries_what_it_rests_on() -> None:
    """The page shows the tier and the dates beside it."""
    cover = judge("maintainer", COVERED, policy=POLICY, now=NOW)

    assert (cover.sponsorable, cover.facts) == ("maintainer", COVERED)


# --- properties -----------------------------------------------------------------------------------

# Whole days, so that moments often meet.
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
    CoverFacts,
    sponsorable=st.just("maintainer"),
    checked_at=moments,
    source=st.sampled_from([CoverSource.NONE, CoverSource.SPONSORSHIP]),
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


def _still_runs(previous: CoverFacts | None, now: datetime) -> bool:
    return (
        previous is not None
        and previous.source is not CoverSource.NONE
        and previous.valid_until is not None
        and now < previous.valid_until
    )


@settings(max_examples=1000)
@given(sponsorships=given_sponsorships, previous=earlier_facts, now=moments)
def test_somebody_is_covered_exactly_when_the_rules_say_so(
    sponsorships: list[Sponsorship], previous: CoverFacts | None, now: datetime
) -> None:
    """The rules in two lines, against all that GitHub and the past can come up with."""
    ours = [each for each in sponsorships if each.sponsorable == "maintainer"]

    facts = assess("maintainer", sponsorships, previous=previous, policy=POLICY, now=now)

    expected = any(_pays(each, now) for each in ours) if ours else _still_runs(previous, now)
    assert facts.is_sponsoring(now) is expected
    assert judge("maintainer", facts, policy=POLICY, now=now).status is (
        CoverStatus.COVERED if expected else CoverStatus.NOT_COVERED
    )


@settings(max_examples=1000)
@given(sponsorships=given_sponsorships, previous=earlier_facts, now=moments)
def test_the_tier_of_a_cover_is_one_that_is_paid(
    sponsorships: list[Sponsorship], previous: CoverFacts | None, now: datetime
) -> None:
    """Features are given by price: nobody gets those of a tier that they no longer pay."""
    paid = [
        (each.created_at, each.tier_cents)
        for each in sponsorships
        if each.sponsorable == "maintainer" and _pays(each, now)
    ]

    facts = assess("maintainer", sponsorships, previous=previous, policy=POLICY, now=now)

    assert not paid or (facts.since, facts.tier_cents) in paid


@given(sponsorships=given_sponsorships, previous=earlier_facts, now=moments)
def test_the_same_answer_again_changes_nothing(
    sponsorships: list[Sponsorship], previous: CoverFacts | None, now: datetime
) -> None:
    """Two logins in the same moment agree."""
    first = assess("maintainer", sponsorships, previous=previous, policy=POLICY, now=now)

    again = assess("maintainer", sponsorships, previous=first, policy=POLICY, now=now)

    assert again.is_sponsoring(now) is first.is_sponsoring(now)
    assert again.valid_until == first.valid_until


@given(facts=earlier_facts, now=moments)
def test_while_github_is_silent_nobody_who_was_not_covered_becomes_covered(
    facts: CoverFacts | None, now: datetime
) -> None:
    """A failure never gives, and never says no."""
    cover = judge("maintainer", mark_unknown(facts, now=now), policy=POLICY, now=now)

    covered_before = facts is not None and facts.is_sponsoring(now)
    assert cover.status in {CoverStatus.COVERED, CoverStatus.UNKNOWN}
    assert covered_before or cover.status is CoverStatus.UNKNOWN
