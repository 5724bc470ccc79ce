"""What an event makes of the entitlement that is known: every action, in every order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
from sponsorsync.domain.fact_derivation import derive_facts
from sponsorsync.domain.sources import EntitlementSource, Grant, PaymentSource
from sponsorsync.domain.sponsorship import EventKind, Privacy, Sponsorship, SponsorshipEvent
from sponsorsync.domain.sponsorship_event import apply_event, is_doubtful

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
DAY = timedelta(days=1)
BEGAN = NOW - 100 * DAY
POLICY = EntitlementPolicy(one_time=timedelta(days=31), stale=timedelta(hours=72))

CREATED = SponsorshipEvent(
    kind=EventKind.CREATED,
    sponsorable="maintainer",
    sponsor_id=1,
    created_at=BEGAN,
    privacy=Privacy.PUBLIC,
    tier_cents=1000,
    is_one_time=False,
    former_cents=None,
    effective_at=None,
)
CANCELLED = replace(CREATED, kind=EventKind.CANCELLED)
EDITED = replace(CREATED, kind=EventKind.EDITED, privacy=Privacy.PRIVATE)
TIER_CHANGED = replace(CREATED, kind=EventKind.TIER_CHANGED, tier_cents=2500, former_cents=1000)
PENDING_CANCELLATION = replace(
    CREATED, kind=EventKind.PENDING_CANCELLATION, effective_at=NOW + 9 * DAY
)
PENDING_TIER_CHANGE = replace(
    CREATED,
    kind=EventKind.PENDING_TIER_CHANGE,
    tier_cents=500,
    former_cents=1000,
    effective_at=NOW + 9 * DAY,
)

MONTHLY = EntitlementFacts(
    sponsorable="maintainer",
    checked_at=NOW - DAY,
    source=EntitlementSource.SPONSORSHIP,
    tier_cents=1000,
    privacy=Privacy.PUBLIC,
    payment_source=PaymentSource.GITHUB,
    since=BEGAN,
)
ENDED = replace(MONTHLY, valid_until=NOW - 3 * DAY)
NONE = EntitlementFacts(sponsorable="maintainer", checked_at=NOW - DAY)


def _hear(event: SponsorshipEvent, previous: EntitlementFacts | None) -> EntitlementFacts | None:
    return apply_event(event, previous, policy=POLICY, now=NOW)


def _end(facts: EntitlementFacts | None) -> datetime | None:
    assert facts is not None
    return facts.valid_until


@pytest.mark.parametrize("previous", [None, NONE], ids=["unknown", "known not to"])
@pytest.mark.parametrize(
    ("event", "end"),
    [
        (CREATED, None),
        (EDITED, None),
        (TIER_CHANGED, None),
        (PENDING_TIER_CHANGE, None),
        (PENDING_CANCELLATION, NOW + 9 * DAY),
        (replace(PENDING_CANCELLATION, effective_at=None), None),
        (CANCELLED, NOW),
        (replace(CANCELLED, effective_at=NOW - DAY), NOW - DAY),
        (replace(CREATED, is_one_time=True), BEGAN + 31 * DAY),
    ],
)
def test_the_first_that_is_heard_of_somebody(
    event: SponsorshipEvent, end: datetime | None, previous: EntitlementFacts | None
) -> None:
    """Whatever was missed before, each event tells that there is a sponsorship."""
    facts = _hear(event, previous)

    assert facts is not None
    assert (facts.source, facts.since, facts.valid_until) == (
        EntitlementSource.SPONSORSHIP,
        BEGAN,
        end,
    )


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (EDITED, replace(MONTHLY, privacy=Privacy.PRIVATE)),
        (TIER_CHANGED, replace(MONTHLY, tier_cents=2500)),
        (PENDING_TIER_CHANGE, MONTHLY),
        (PENDING_CANCELLATION, replace(MONTHLY, valid_until=NOW + 9 * DAY)),
        (CANCELLED, replace(MONTHLY, valid_until=NOW)),
    ],
)
def test_an_event_changes_what_it_is_about(
    event: SponsorshipEvent, expected: EntitlementFacts
) -> None:
    """And leaves the rest."""
    unknown = replace(MONTHLY, unknown_since=NOW - DAY)

    assert _hear(event, unknown) == replace(expected, checked_at=NOW)


def test_an_announced_change_of_tiers_names_the_coming_one() -> None:
    """Until then the former price is paid."""
    facts = _hear(PENDING_TIER_CHANGE, None)

    assert facts is not None
    assert facts.tier_cents == 1000


def test_a_cancellation_ends_when_it_was_announced_for() -> None:
    """Whoever hears of it late does not give more."""
    assert _end(_hear(CANCELLED, ENDED)) == ENDED.valid_until
    assert _end(_hear(CANCELLED, replace(MONTHLY, valid_until=NOW + DAY))) == NOW
    assert _end(_hear(PENDING_CANCELLATION, ENDED)) == ENDED.valid_until


@pytest.mark.parametrize("known", [ENDED, replace(MONTHLY, valid_until=NOW + DAY)])
def test_a_late_created_does_not_undo_an_end(known: EntitlementFacts) -> None:
    """It is the same sponsorship, and what is known of it is later."""
    assert _hear(CREATED, known) is None


def test_an_event_of_a_former_sponsorship_does_not_touch_the_present_one() -> None:
    """The cancellation of the first may come after the second has begun."""
    present = replace(MONTHLY, since=NOW - 2 * DAY)

    assert _hear(CANCELLED, present) is None
    assert _hear(replace(TIER_CHANGED, tier_cents=1), present) is None


@pytest.mark.parametrize("end", [NOW - DAY, NOW + DAY], ids=["past", "announced"])
@pytest.mark.parametrize(
    "event",
    [
        CREATED,
        EDITED,
        TIER_CHANGED,
        replace(TIER_CHANGED, is_one_time=True),
        PENDING_TIER_CHANGE,
        PENDING_CANCELLATION,
        replace(PENDING_CANCELLATION, effective_at=None),
    ],
    ids=lambda event: event.kind.value,
)
def test_an_event_of_a_former_sponsorship_does_not_undo_the_end_of_its_successor(
    event: SponsorshipEvent, end: datetime
) -> None:
    """A late or repeated one would entitle somebody without end who pays for nothing."""
    successor = replace(MONTHLY, since=NOW - 20 * DAY, valid_until=end)

    assert _hear(event, successor) is None


@pytest.mark.parametrize("cents", [500, 1000, 2500])
def test_a_sponsorship_takes_the_place_of_the_one_before_it(cents: int) -> None:
    """Whose cancellation is late, or never comes: at any price, it would end the present one."""
    again = _hear(replace(CREATED, created_at=NOW, tier_cents=cents), MONTHLY)

    assert again is not None
    assert (again.since, again.tier_cents) == (NOW, cents)
    assert _hear(CANCELLED, again) is None


def test_a_late_announcement_does_not_end_what_went_on() -> None:
    """The sponsor had changed their mind by then: GitHub has shown it active since."""
    late = replace(PENDING_CANCELLATION, effective_at=NOW - 2 * DAY)
    again = replace(MONTHLY, valid_until=NOW + 9 * DAY)

    assert _hear(late, MONTHLY) is None
    assert _hear(late, again) is None
    assert is_doubtful(late, MONTHLY)
    assert not is_doubtful(late, ENDED)
    assert not is_doubtful(replace(late, effective_at=MONTHLY.checked_at), MONTHLY)


def test_an_announcement_that_comes_at_its_end_ends_what_was_not_seen_since() -> None:
    """Nothing says that it went on."""
    late = replace(PENDING_CANCELLATION, effective_at=NOW - DAY / 2)

    assert _end(_hear(late, MONTHLY)) == NOW - DAY / 2


def test_a_change_from_another_tier_than_the_known_one_is_not_believed() -> None:
    """It may be one of long ago, sent once more to get a better tier again."""
    replayed = replace(TIER_CHANGED, former_cents=500)

    assert _hear(replayed, MONTHLY) is None
    assert is_doubtful(replayed, MONTHLY)
    assert not is_doubtful(TIER_CHANGED, MONTHLY)


@pytest.mark.parametrize(
    ("event", "known"),
    [
        (replace(TIER_CHANGED, former_cents=None), MONTHLY),
        (TIER_CHANGED, replace(MONTHLY, tier_cents=None)),
    ],
    ids=["untold", "unknown"],
)
def test_a_change_is_believed_where_there_is_nothing_to_compare(
    event: SponsorshipEvent, known: EntitlementFacts
) -> None:
    """Of a sponsorship through Patreon, say, no tier is known."""
    facts = _hear(event, known)

    assert facts is not None
    assert facts.tier_cents == 2500


@pytest.mark.parametrize("known", [None, NONE, replace(MONTHLY, since=BEGAN - DAY)])
def test_nothing_is_doubtful_of_a_sponsorship_that_is_not_known(
    known: EntitlementFacts | None,
) -> None:
    """There is nothing to compare with."""
    assert not is_doubtful(replace(TIER_CHANGED, former_cents=500), known)


@pytest.mark.parametrize("known", [None, MONTHLY, replace(MONTHLY, valid_until=NOW + DAY)])
def test_a_change_to_a_payment_is_paid_when_it_is_told(known: EntitlementFacts | None) -> None:
    """The sponsorship may have begun long ago, and its window would be over."""
    payment = replace(TIER_CHANGED, is_one_time=True, tier_cents=1000)
    facts = _hear(payment, known)

    assert _end(facts) == NOW + 31 * DAY
    assert _end(apply_event(payment, facts, policy=POLICY, now=NOW + DAY)) == NOW + 31 * DAY


def test_a_change_to_a_payment_does_not_undo_an_end() -> None:
    """Sent once more it would entitle for another month each time."""
    assert _end(_hear(replace(TIER_CHANGED, is_one_time=True), ENDED)) == ENDED.valid_until


def test_an_announced_change_to_a_payment_ends_nothing_yet() -> None:
    """Until then it is a monthly sponsorship."""
    facts = _hear(replace(PENDING_TIER_CHANGE, is_one_time=True), None)

    assert facts is not None
    assert (facts.is_one_time, facts.valid_until) == (False, None)


def test_who_comes_back_is_entitled() -> None:
    """With a sponsorship of its own."""
    assert _end(_hear(replace(CREATED, created_at=NOW), ENDED)) is None


def test_a_payment_beside_a_monthly_sponsorship_shortens_nothing() -> None:
    """Nor does the end of the monthly one take away what was paid once."""
    payment = replace(CREATED, is_one_time=True, created_at=NOW)
    paid, both = _hear(payment, None), _hear(payment, MONTHLY)
    beside = Grant(EntitlementSource.SPONSORSHIP, since=NOW, until=NOW + 31 * DAY, cents=1000)

    assert both == replace(MONTHLY, grants=(beside,))
    assert _hear(payment, both) is None
    assert _end(paid) == NOW + 31 * DAY
    assert _hear(CANCELLED, paid) is None


def test_a_payment_is_never_cancelled() -> None:
    """GitHub sends no such event; one that comes does not shorten it."""
    payment = replace(CREATED, is_one_time=True, created_at=NOW - DAY)
    cancelled = replace(payment, kind=EventKind.CANCELLED)

    assert _end(_hear(cancelled, _hear(payment, None))) == NOW + 30 * DAY


def test_a_payment_may_become_monthly() -> None:
    """Its end is none of the monthly sponsorship's."""
    paid = _hear(replace(CREATED, is_one_time=True), None)

    assert _end(_hear(TIER_CHANGED, paid)) is None


@pytest.mark.parametrize("order", list(permutations([CREATED, EDITED, TIER_CHANGED, CANCELLED])))
def test_a_cancellation_holds_in_whichever_order_events_come(
    order: tuple[SponsorshipEvent, ...],
) -> None:
    """They carry no moment by which to sort them."""
    facts: EntitlementFacts | None = None
    for event in order:
        facts = _hear(event, facts) or facts

    assert _end(facts) == NOW


def test_an_announced_end_outlasts_a_check() -> None:
    """GitHub calls the sponsorship active until then, and tells the end to the webhook alone."""
    announced = replace(MONTHLY, valid_until=NOW + DAY)
    active = Sponsorship(
        sponsorable="maintainer",
        created_at=BEGAN,
        is_active=True,
        is_one_time=False,
        privacy=Privacy.PUBLIC,
        payment_source=PaymentSource.GITHUB,
        tier_cents=1000,
        tier_selected_at=BEGAN,
    )

    def check(sponsorship: Sponsorship, now: datetime) -> datetime | None:
        return derive_facts(
            "maintainer", [sponsorship], previous=announced, policy=POLICY, now=now
        ).valid_until

    assert check(active, NOW) == NOW + DAY
    assert check(active, NOW + 2 * DAY) is None
    assert check(replace(active, created_at=NOW), NOW) is None


# --- any events, in any order ---------------------------------------------------------------------

HOUR = timedelta(hours=1)
MONTH_H = 24 * 30


@dataclass(frozen=True)
class Life:
    """A monthly sponsorship as it truly was, and what GitHub tells of it: each event, and when."""

    began: datetime
    ended: datetime | None
    told: list[tuple[datetime, SponsorshipEvent]]

    def pays(self, now: datetime) -> bool:
        """Whether it goes on at a moment."""
        return self.began <= now and (self.ended is None or now < self.ended)


@st.composite
def lives(draw: st.DrawFn, *, number: int) -> Life:
    """The first of two sponsorships has ended, and the second has begun some time after it."""
    began = NOW + number * 3 * MONTH_H * HOUR
    ended = began + draw(st.integers(1, 2 * MONTH_H)) * HOUR
    inside = st.integers(0, (ended - began) // HOUR - 1).map(lambda hours: began + hours * HOUR)
    event = replace(CREATED, created_at=began)
    changes = draw(st.lists(st.tuples(inside, st.sampled_from([EDITED, *TIERS])), max_size=4))
    told = [(began, event), *((at, replace(each, created_at=began)) for at, each in changes)]
    if number == 1 and draw(st.booleans()):
        return Life(began, None, told)
    date = draw(st.sampled_from([ended, None]))
    announced = replace(event, kind=EventKind.PENDING_CANCELLATION, effective_at=date)
    told += draw(st.lists(st.tuples(inside, st.just(announced)), max_size=1))
    date = draw(st.sampled_from([ended, None]))
    told.append((ended, replace(event, kind=EventKind.CANCELLED, effective_at=date)))
    return Life(began, ended, told)


TIERS = [
    replace(TIER_CHANGED, tier_cents=cents, former_cents=former)
    for cents, former in [(2500, 1000), (1000, 2500), (500, 1000)]
] + [PENDING_TIER_CHANGE]


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Life], list[tuple[datetime, SponsorshipEvent]]]:
    """One sponsorship or two, and every event of theirs once at least, each late as may be."""
    truth = [draw(lives(number=number)) for number in range(draw(st.integers(1, 2)))]
    delays = st.lists(st.integers(0, 4 * MONTH_H), min_size=1, max_size=3)
    unconfirmed = [
        (at + delay * HOUR, event)
        for life in truth
        for at, event in life.told
        for delay in draw(delays)
    ]
    return truth, draw(
        st.permutations(unconfirmed).map(lambda all_of: sorted(all_of, key=_arrival))
    )


def _arrival(delivery: tuple[datetime, SponsorshipEvent]) -> datetime:
    return delivery[0]


def _hear_all(
    unconfirmed: list[tuple[datetime, SponsorshipEvent]],
) -> Iterator[tuple[datetime, SponsorshipEvent, EntitlementFacts]]:
    facts: EntitlementFacts | None = None
    for now, event in unconfirmed:
        facts = apply_event(event, facts, policy=POLICY, now=now) or facts
        assert facts is not None
        yield now, event, facts


def _find_unjust(
    truth: list[Life], unconfirmed: list[tuple[datetime, SponsorshipEvent]]
) -> list[datetime]:
    """Returns when somebody pays of whom something was heard, and is not entitled."""
    heard: set[datetime] = set()
    unjust = []
    for now, event, facts in _hear_all(unconfirmed):
        heard.add(event.created_at)
        pays = any(life.began in heard and life.pays(now) for life in truth)
        unjust += [now] if pays and not facts.is_sponsoring(now) else []
    return unjust


@given(deliveries())
def test_no_order_of_events_takes_entitlement_from_who_pays(
    told: tuple[list[Life], list[tuple[datetime, SponsorshipEvent]]],
) -> None:
    """From the first event that tells of a sponsorship to its end."""
    truth, unconfirmed = told

    assert _find_unjust(truth, unconfirmed) == []


@given(deliveries())
def test_once_everything_was_told_only_who_pays_is_entitled(
    told: tuple[list[Life], list[tuple[datetime, SponsorshipEvent]]],
) -> None:
    """However late, often, and in whichever order it was."""
    truth, unconfirmed = told
    *_, (now, _, facts) = _hear_all(unconfirmed)

    assert facts.is_sponsoring(now) == truth[-1].pays(now)
