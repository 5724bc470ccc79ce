"""Applying webhook events to the stored facts: every action, in every order."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.fact_derivation import derive_facts
from sponsorsync.domain.sources import EntitlementSource, Grant
from sponsorsync.domain.sponsorship import EventKind, Privacy, Sponsorship, SponsorshipEvent
from sponsorsync.domain.sponsorship_event import apply_event, is_doubtful
from tests.support import entitlements
from tests.support.entitlements import DAY, NOT_A_SPONSOR, NOW, POLICY

BEGAN = NOW - 100 * DAY

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

MONTHLY = replace(entitlements.ENTITLED, since=BEGAN)
ENDED = replace(MONTHLY, valid_until=NOW - 3 * DAY)


def _apply(event: SponsorshipEvent, previous: EntitlementFacts | None) -> EntitlementFacts | None:
    return apply_event(event, previous, policy=POLICY, now=NOW)


def _facts_after(event: SponsorshipEvent, previous: EntitlementFacts | None) -> EntitlementFacts:
    facts = _apply(event, previous)
    assert facts is not None
    return facts


def _end(facts: EntitlementFacts | None) -> datetime | None:
    assert facts is not None
    return facts.valid_until


LATE_ANNOUNCEMENT = replace(PENDING_CANCELLATION, effective_at=NOW - 2 * DAY)
REPLAYED = replace(TIER_CHANGED, former_cents=500)
PAYMENT = replace(CREATED, is_one_time=True)
LATE_PAYMENT = replace(PAYMENT, created_at=NOW - DAY)


@pytest.mark.parametrize("previous", [None, NOT_A_SPONSOR], ids=["unknown", "no sponsorship"])
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
def test_the_first_event_of_a_person_creates_facts(
    event: SponsorshipEvent, end: datetime | None, previous: EntitlementFacts | None
) -> None:
    """Each event shows that there is a sponsorship, even if earlier events were missed."""
    facts = _facts_after(event, previous)

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
def test_an_event_changes_only_its_subject(
    event: SponsorshipEvent, expected: EntitlementFacts
) -> None:
    """All other facts of the sponsorship stay."""
    unknown = replace(MONTHLY, unknown_since=NOW - DAY)

    assert _apply(event, unknown) == replace(expected, checked_at=NOW)


@pytest.mark.parametrize("is_one_time", [False, True], ids=["monthly", "payment"])
def test_an_announced_change_of_tiers_keeps_the_current_tier(*, is_one_time: bool) -> None:
    """The event has the future tier, so the former one is stored until the change."""
    facts = _facts_after(replace(PENDING_TIER_CHANGE, is_one_time=is_one_time), None)

    assert (facts.tier_cents, facts.is_one_time, facts.valid_until) == (1000, False, None)


@pytest.mark.parametrize(
    ("event", "stored", "end"),
    [
        (CANCELLED, ENDED, ENDED.valid_until),
        (CANCELLED, replace(MONTHLY, valid_until=NOW + DAY), NOW),
        (PENDING_CANCELLATION, ENDED, ENDED.valid_until),
        (replace(PENDING_CANCELLATION, effective_at=NOW - DAY / 2), MONTHLY, NOW - DAY / 2),
        (replace(TIER_CHANGED, is_one_time=True), ENDED, ENDED.valid_until),
        (replace(CREATED, created_at=NOW), ENDED, None),
        (TIER_CHANGED, _apply(PAYMENT, None), None),
        (
            replace(LATE_PAYMENT, kind=EventKind.CANCELLED),
            _apply(LATE_PAYMENT, None),
            NOW + 30 * DAY,
        ),
    ],
    ids=[
        "a late cancellation does not extend the end",
        "a cancellation comes before the announced end",
        "a late announcement does not extend the end",
        "an announcement at its end counts without a later check",
        "a change to a payment does not undo an end",
        "a new sponsorship after an end entitles",
        "a payment that becomes monthly has no end",
        "a cancellation does not shorten a payment",
    ],
)
def test_the_end_that_an_event_leaves(
    event: SponsorshipEvent, stored: EntitlementFacts, end: datetime | None
) -> None:
    """The earliest known end of a sponsorship is stored; a repeated event does not move it."""
    assert _end(_apply(event, stored)) == end


@pytest.mark.parametrize(
    ("event", "stored"),
    [
        (CREATED, ENDED),
        (CREATED, replace(MONTHLY, valid_until=NOW + DAY)),
        (CANCELLED, replace(MONTHLY, since=NOW - 2 * DAY)),
        (replace(TIER_CHANGED, tier_cents=1), replace(MONTHLY, since=NOW - 2 * DAY)),
        (LATE_ANNOUNCEMENT, MONTHLY),
        (LATE_ANNOUNCEMENT, replace(MONTHLY, valid_until=NOW + 9 * DAY)),
        (REPLAYED, MONTHLY),
    ],
    ids=[
        "created after the end",
        "created after the announcement of the end",
        "cancellation of a former sponsorship",
        "change of a former sponsorship",
        "announcement of an end that a check has disproved",
        "announcement of an end before the announced one",
        "change from a tier that is not stored",
    ],
)
def test_an_event_older_than_the_facts_is_ignored(
    event: SponsorshipEvent, stored: EntitlementFacts
) -> None:
    """A replayed tier change could otherwise restore a better tier."""
    assert _apply(event, stored) is None


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
    """Otherwise a late or repeated event would entitle a person who no longer pays."""
    successor = replace(MONTHLY, since=NOW - 20 * DAY, valid_until=end)

    assert _apply(event, successor) is None


@pytest.mark.parametrize("cents", [500, 1000, 2500])
def test_a_new_monthly_sponsorship_replaces_the_former_one(cents: int) -> None:
    """The cancellation of the former one may arrive late, and must not end the new one."""
    again = _facts_after(replace(CREATED, created_at=NOW, tier_cents=cents), MONTHLY)

    assert (again.since, again.tier_cents) == (NOW, cents)
    assert _apply(CANCELLED, again) is None


@pytest.mark.parametrize(
    ("event", "stored", "is_it"),
    [
        (LATE_ANNOUNCEMENT, MONTHLY, True),
        (LATE_ANNOUNCEMENT, ENDED, False),
        (replace(LATE_ANNOUNCEMENT, effective_at=MONTHLY.checked_at), MONTHLY, False),
        (REPLAYED, MONTHLY, True),
        (TIER_CHANGED, MONTHLY, False),
        (REPLAYED, None, False),
        (REPLAYED, NOT_A_SPONSOR, False),
        (REPLAYED, replace(MONTHLY, since=BEGAN - DAY), False),
    ],
)
def test_only_an_event_that_contradicts_the_facts_is_doubtful(
    event: SponsorshipEvent, stored: EntitlementFacts | None, *, is_it: bool
) -> None:
    """Such an event has an end before the last check, or another former tier than stored."""
    assert is_doubtful(event, stored) is is_it


@pytest.mark.parametrize(
    ("event", "stored"),
    [
        (replace(TIER_CHANGED, former_cents=None), MONTHLY),
        (TIER_CHANGED, replace(MONTHLY, tier_cents=None)),
    ],
    ids=["not reported", "unknown"],
)
def test_a_change_is_applied_when_a_former_tier_is_not_known(
    event: SponsorshipEvent, stored: EntitlementFacts
) -> None:
    """A sponsorship through Patreon, for example, has no tier to compare."""
    facts = _facts_after(event, stored)

    assert facts.tier_cents == 2500


@pytest.mark.parametrize("stored", [None, MONTHLY, replace(MONTHLY, valid_until=NOW + DAY)])
def test_a_change_to_a_payment_counts_from_its_arrival(stored: EntitlementFacts | None) -> None:
    """Counted from the start of the sponsorship, the time of the payment might be over."""
    payment = replace(TIER_CHANGED, is_one_time=True, tier_cents=1000)
    facts = _apply(payment, stored)

    assert _end(facts) == NOW + 31 * DAY
    assert _end(apply_event(payment, facts, policy=POLICY, now=NOW + DAY)) == NOW + 31 * DAY


def test_a_payment_and_a_monthly_sponsorship_do_not_shorten_each_other() -> None:
    """Both are paid, so the payment becomes a grant beside the sponsorship."""
    payment = replace(CREATED, is_one_time=True, created_at=NOW)
    paid, both = _apply(payment, None), _apply(payment, MONTHLY)
    beside = Grant(EntitlementSource.SPONSORSHIP, since=NOW, until=NOW + 31 * DAY, cents=1000)

    assert both == replace(MONTHLY, grants=(beside,))
    assert _apply(payment, both) is None
    assert _end(paid) == NOW + 31 * DAY
    assert _apply(CANCELLED, paid) is None


@pytest.mark.parametrize("order", list(permutations([CREATED, EDITED, TIER_CHANGED, CANCELLED])))
def test_a_cancellation_holds_in_any_order_of_events(order: tuple[SponsorshipEvent, ...]) -> None:
    """Events have no time by which they could be sorted."""
    facts: EntitlementFacts | None = None
    for event in order:
        facts = _apply(event, facts) or facts

    assert _end(facts) == NOW


def test_an_announced_end_survives_a_check() -> None:
    """Until then GitHub lists the sponsorship as active; only the webhook has the end."""
    announced = replace(MONTHLY, valid_until=NOW + DAY)
    active = replace(entitlements.MONTHLY, created_at=BEGAN, tier_selected_at=BEGAN)

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
    """A monthly sponsorship as it really was, with its events and their times."""

    began: datetime
    ended: datetime | None
    events: list[tuple[datetime, SponsorshipEvent]]

    def pays(self, now: datetime) -> bool:
        """Returns whether the sponsorship is active at this time."""
        return self.began <= now and (self.ended is None or now < self.ended)


@st.composite
def lives(draw: st.DrawFn, *, number: int) -> Life:
    """Draws a sponsorship; number 1 begins after number 0 has ended."""
    began = NOW + number * 3 * MONTH_H * HOUR
    ended = began + draw(st.integers(1, 2 * MONTH_H)) * HOUR
    inside = st.integers(0, (ended - began) // HOUR - 1).map(lambda hours: began + hours * HOUR)
    event = replace(CREATED, created_at=began)
    changes = draw(st.lists(st.tuples(inside, st.sampled_from([EDITED, *TIERS])), max_size=4))
    events = [(began, event), *((at, replace(each, created_at=began)) for at, each in changes)]
    if number == 1 and draw(st.booleans()):
        return Life(began, None, events)
    date = draw(st.sampled_from([ended, None]))
    announced = replace(event, kind=EventKind.PENDING_CANCELLATION, effective_at=date)
    events += draw(st.lists(st.tuples(inside, st.just(announced)), max_size=1))
    date = draw(st.sampled_from([ended, None]))
    events.append((ended, replace(event, kind=EventKind.CANCELLED, effective_at=date)))
    return Life(began, ended, events)


TIERS = [
    replace(TIER_CHANGED, tier_cents=cents, former_cents=former)
    for cents, former in [(2500, 1000), (1000, 2500), (500, 1000)]
] + [PENDING_TIER_CHANGE]


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Life], list[tuple[datetime, SponsorshipEvent]]]:
    """Draws one or two sponsorships, and their events, each delivered once or more, maybe late."""
    truth = [draw(lives(number=number)) for number in range(draw(st.integers(1, 2)))]
    delays = st.lists(st.integers(0, 4 * MONTH_H), min_size=1, max_size=3)
    delivered = [
        (at + delay * HOUR, event)
        for life in truth
        for at, event in life.events
        for delay in draw(delays)
    ]
    return truth, draw(st.permutations(delivered).map(lambda all_of: sorted(all_of, key=_arrival)))


def _arrival(delivery: tuple[datetime, SponsorshipEvent]) -> datetime:
    return delivery[0]


def _apply_all(
    delivered: list[tuple[datetime, SponsorshipEvent]],
) -> Iterator[tuple[datetime, SponsorshipEvent, EntitlementFacts]]:
    facts: EntitlementFacts | None = None
    for now, event in delivered:
        facts = apply_event(event, facts, policy=POLICY, now=now) or facts
        assert facts is not None
        yield now, event, facts


def _find_unjust(
    truth: list[Life], delivered: list[tuple[datetime, SponsorshipEvent]]
) -> list[datetime]:
    """Returns the times at which a paying person with a delivered event is not entitled."""
    seen: set[datetime] = set()
    unjust = []
    for now, event, facts in _apply_all(delivered):
        seen.add(event.created_at)
        pays = any(life.began in seen and life.pays(now) for life in truth)
        unjust += [now] if pays and not facts.is_sponsoring(now) else []
    return unjust


@given(deliveries())
def test_any_order_of_events_entitles_exactly_the_payers(
    events: tuple[list[Life], list[tuple[datetime, SponsorshipEvent]]],
) -> None:
    """A person is entitled from the first delivered event of a sponsorship to its end."""
    truth, delivered = events
    *_, (now, _, facts) = _apply_all(delivered)

    assert _find_unjust(truth, delivered) == []
    assert facts.is_sponsoring(now) == truth[-1].pays(now)
