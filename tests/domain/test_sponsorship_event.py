"""Applying events to the stored facts: every action, in every order."""

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


def _apply(event: SponsorshipEvent, previous: EntitlementFacts | None) -> EntitlementFacts | None:
    return apply_event(event, previous, policy=POLICY, now=NOW)


def _end(facts: EntitlementFacts | None) -> datetime | None:
    assert facts is not None
    return facts.valid_until


@pytest.mark.parametrize("previous", [None, NONE], ids=["unknown", "no sponsorship"])
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
    """Each event proves that there is a sponsorship, even if earlier ones were missed."""
    facts = _apply(event, previous)

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
def test_an_event_changes_only_its_subject(
    event: SponsorshipEvent, expected: EntitlementFacts
) -> None:
    """All other facts stay."""
    unknown = replace(MONTHLY, unknown_since=NOW - DAY)

    assert _apply(event, unknown) == replace(expected, checked_at=NOW)


def test_an_announced_change_of_tiers_keeps_the_current_tier() -> None:
    """The event carries the coming tier; until then the former one is paid."""
    facts = _apply(PENDING_TIER_CHANGE, None)

    assert facts is not None
    assert facts.tier_cents == 1000


def test_a_late_cancellation_does_not_extend_the_end() -> None:
    """The announced end, or the time of arrival, counts."""
    assert _end(_apply(CANCELLED, ENDED)) == ENDED.valid_until
    assert _end(_apply(CANCELLED, replace(MONTHLY, valid_until=NOW + DAY))) == NOW
    assert _end(_apply(PENDING_CANCELLATION, ENDED)) == ENDED.valid_until


@pytest.mark.parametrize("stored", [ENDED, replace(MONTHLY, valid_until=NOW + DAY)])
def test_a_late_created_event_does_not_undo_an_end(stored: EntitlementFacts) -> None:
    """The stored facts on the same sponsorship are newer."""
    assert _apply(CREATED, stored) is None


def test_an_event_of_a_former_sponsorship_does_not_change_the_present_one() -> None:
    """The first one's cancellation may arrive after the second has begun."""
    present = replace(MONTHLY, since=NOW - 2 * DAY)

    assert _apply(CANCELLED, present) is None
    assert _apply(replace(TIER_CHANGED, tier_cents=1), present) is None


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
    """Else a late or repeated event would entitle a non-payer without end."""
    successor = replace(MONTHLY, since=NOW - 20 * DAY, valid_until=end)

    assert _apply(event, successor) is None


@pytest.mark.parametrize("cents", [500, 1000, 2500])
def test_a_new_monthly_sponsorship_replaces_the_former_one(cents: int) -> None:
    """The former one's cancellation may be late, and must not end the new one."""
    again = _apply(replace(CREATED, created_at=NOW, tier_cents=cents), MONTHLY)

    assert again is not None
    assert (again.since, again.tier_cents) == (NOW, cents)
    assert _apply(CANCELLED, again) is None


def test_a_late_announcement_does_not_end_an_active_sponsorship() -> None:
    """GitHub has shown it active since, so the cancellation was withdrawn."""
    late = replace(PENDING_CANCELLATION, effective_at=NOW - 2 * DAY)
    again = replace(MONTHLY, valid_until=NOW + 9 * DAY)

    assert _apply(late, MONTHLY) is None
    assert _apply(late, again) is None
    assert is_doubtful(late, MONTHLY)
    assert not is_doubtful(late, ENDED)
    assert not is_doubtful(replace(late, effective_at=MONTHLY.checked_at), MONTHLY)


def test_an_announcement_at_its_end_counts_without_a_later_check() -> None:
    """Nothing shows that the sponsorship went on."""
    late = replace(PENDING_CANCELLATION, effective_at=NOW - DAY / 2)

    assert _end(_apply(late, MONTHLY)) == NOW - DAY / 2


def test_a_change_from_a_tier_that_is_not_stored_is_not_applied() -> None:
    """It may be an old event, replayed to regain a better tier."""
    replayed = replace(TIER_CHANGED, former_cents=500)

    assert _apply(replayed, MONTHLY) is None
    assert is_doubtful(replayed, MONTHLY)
    assert not is_doubtful(TIER_CHANGED, MONTHLY)


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
    """A sponsorship through Patreon, for example, has no tier."""
    facts = _apply(event, stored)

    assert facts is not None
    assert facts.tier_cents == 2500


@pytest.mark.parametrize("stored", [None, NONE, replace(MONTHLY, since=BEGAN - DAY)])
def test_an_event_of_an_unknown_sponsorship_is_not_doubtful(
    stored: EntitlementFacts | None,
) -> None:
    """There are no facts to compare with."""
    assert not is_doubtful(replace(TIER_CHANGED, former_cents=500), stored)


@pytest.mark.parametrize("stored", [None, MONTHLY, replace(MONTHLY, valid_until=NOW + DAY)])
def test_a_change_to_a_payment_counts_from_its_arrival(stored: EntitlementFacts | None) -> None:
    """Counted from the start of the sponsorship, the window might be over."""
    payment = replace(TIER_CHANGED, is_one_time=True, tier_cents=1000)
    facts = _apply(payment, stored)

    assert _end(facts) == NOW + 31 * DAY
    assert _end(apply_event(payment, facts, policy=POLICY, now=NOW + DAY)) == NOW + 31 * DAY


def test_a_change_to_a_payment_does_not_undo_an_end() -> None:
    """Else each replay would entitle for another month."""
    assert _end(_apply(replace(TIER_CHANGED, is_one_time=True), ENDED)) == ENDED.valid_until


def test_an_announced_change_to_a_payment_ends_nothing_yet() -> None:
    """Until then it is a monthly sponsorship."""
    facts = _apply(replace(PENDING_TIER_CHANGE, is_one_time=True), None)

    assert facts is not None
    assert (facts.is_one_time, facts.valid_until) == (False, None)


def test_a_new_sponsorship_after_an_end_entitles() -> None:
    """It is a sponsorship of its own."""
    assert _end(_apply(replace(CREATED, created_at=NOW), ENDED)) is None


def test_a_payment_and_a_monthly_sponsorship_do_not_shorten_each_other() -> None:
    """Both are paid."""
    payment = replace(CREATED, is_one_time=True, created_at=NOW)
    paid, both = _apply(payment, None), _apply(payment, MONTHLY)
    beside = Grant(EntitlementSource.SPONSORSHIP, since=NOW, until=NOW + 31 * DAY, cents=1000)

    assert both == replace(MONTHLY, grants=(beside,))
    assert _apply(payment, both) is None
    assert _end(paid) == NOW + 31 * DAY
    assert _apply(CANCELLED, paid) is None


def test_a_cancellation_does_not_shorten_a_payment() -> None:
    """GitHub does not send such an event."""
    payment = replace(CREATED, is_one_time=True, created_at=NOW - DAY)
    cancelled = replace(payment, kind=EventKind.CANCELLED)

    assert _end(_apply(cancelled, _apply(payment, None))) == NOW + 30 * DAY


def test_a_payment_that_becomes_monthly_has_no_end() -> None:
    """The end belonged to the payment."""
    paid = _apply(replace(CREATED, is_one_time=True), None)

    assert _end(_apply(TIER_CHANGED, paid)) is None


@pytest.mark.parametrize("order", list(permutations([CREATED, EDITED, TIER_CHANGED, CANCELLED])))
def test_a_cancellation_holds_in_any_order_of_events(order: tuple[SponsorshipEvent, ...]) -> None:
    """Events carry no time to sort them by."""
    facts: EntitlementFacts | None = None
    for event in order:
        facts = _apply(event, facts) or facts

    assert _end(facts) == NOW


def test_an_announced_end_survives_a_check() -> None:
    """GitHub shows the sponsorship as active until then; only the webhook sends the end."""
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
    """A true monthly sponsorship, with its events and their times."""

    began: datetime
    ended: datetime | None
    events: list[tuple[datetime, SponsorshipEvent]]

    def pays(self, now: datetime) -> bool:
        """Returns whether it is active at a time."""
        return self.began <= now and (self.ended is None or now < self.ended)


@st.composite
def lives(draw: st.DrawFn, *, number: int) -> Life:
    """Draws the first or the second of two successive sponsorships."""
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
    """Draws one or two sponsorships, with each event delivered at least once, maybe late."""
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
    """Returns the times at which a known payer is not entitled."""
    seen: set[datetime] = set()
    unjust = []
    for now, event, facts in _apply_all(delivered):
        seen.add(event.created_at)
        pays = any(life.began in seen and life.pays(now) for life in truth)
        unjust += [now] if pays and not facts.is_sponsoring(now) else []
    return unjust


@given(deliveries())
def test_no_order_of_events_ends_a_paid_entitlement(
    events: tuple[list[Life], list[tuple[datetime, SponsorshipEvent]]],
) -> None:
    """From the first event of a sponsorship to its end."""
    truth, delivered = events

    assert _find_unjust(truth, delivered) == []


@given(deliveries())
def test_after_all_events_exactly_the_payers_are_entitled(
    events: tuple[list[Life], list[tuple[datetime, SponsorshipEvent]]],
) -> None:
    """However late, often and in which order they arrive."""
    truth, delivered = events
    *_, (now, _, facts) = _apply_all(delivered)

    assert facts.is_sponsoring(now) == truth[-1].pays(now)
