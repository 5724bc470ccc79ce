"""Applying GitHub's sponsorship events to the stored facts. Pure.

GitHub's events have no timestamp and may arrive late, twice, or never. So an event applies to one
sponsorship, identified by its start, and never undoes newer facts
(docs/adr/0012-webhook-and-reconcile.md).
"""

from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
from sponsorsync.domain.fact_derivation import add_payment, is_better
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.domain.sponsorship import EventKind, SponsorshipEvent
from sponsorsync.domain.sponsorship_end import end_by_event


class EventOutcome(StrEnum):
    """The result of a webhook event."""

    PONG = "pong"
    APPLIED = "applied"
    NOTHING_NEW = "nothing_new"
    SEEN_BEFORE = "seen_before"
    IGNORED = "ignored"
    RECONCILE_REQUESTED = "reconcile_requested"


def apply_event(
    event: SponsorshipEvent,
    previous: EntitlementFacts | None,
    *,
    policy: EntitlementPolicy,
    now: datetime,
) -> EntitlementFacts | None:
    """Returns the facts after an event arrived; None if it changes nothing."""
    event = _with_current_tier(event)
    if previous is None or previous.source is not EntitlementSource.SPONSORSHIP:
        return _first_facts(event, previous, policy=policy, now=now)
    if previous.since == event.created_at:
        if is_doubtful(event, previous):
            return None
        return _changed_facts(event, previous, policy=policy, now=now)
    other = _first_facts(event, previous, policy=policy, now=now)
    if previous.since is None or previous.is_one_time or _is_payment(event):
        # A one-time payment beside another sponsorship: the better one becomes the main facts, and
        # a one-time payment beside it becomes a grant.
        is_first = is_better(other, previous, now=now)
        first, second = (other, previous) if is_first else (previous, other)
        both = add_payment(first, second, now=now)
        return None if both == previous else both
    # A person cannot have two monthly sponsorships at once: the later one replaces the other.
    return other if event.created_at > previous.since else None


def is_doubtful(event: SponsorshipEvent, previous: EntitlementFacts | None) -> bool:
    """Returns whether an event contradicts the stored facts on the same sponsorship.

    The event may be late or replayed, or an earlier event may be missing. Only a request to GitHub
    shows which.
    """
    if (
        previous is None
        or previous.source is not EntitlementSource.SPONSORSHIP
        or previous.since != event.created_at
    ):
        return False
    if event.kind is EventKind.TIER_CHANGED:
        return _differ(event.former_cents, previous.tier_cents)
    if event.kind is EventKind.PENDING_CANCELLATION:
        # GitHub showed the sponsorship as active after the announced end: the sponsor had
        # withdrawn the cancellation.
        checked_at, end = previous.checked_at, event.effective_at
        if checked_at is None or end is None:
            return False
        return end < checked_at and previous.is_sponsoring(checked_at)
    return False


def _differ(reported: int | None, stored: int | None) -> bool:
    return reported is not None and stored is not None and reported != stored


def _is_payment(event: SponsorshipEvent) -> bool:
    """Returns whether an event is a new one-time payment, not a change of an older sponsorship."""
    return event.is_one_time and event.kind is not EventKind.TIER_CHANGED


def _first_facts(
    event: SponsorshipEvent,
    previous: EntitlementFacts | None,
    *,
    policy: EntitlementPolicy,
    now: datetime,
) -> EntitlementFacts:
    return replace(
        previous or EntitlementFacts(sponsorable=event.sponsorable, checked_at=now),
        checked_at=now,
        source=EntitlementSource.SPONSORSHIP,
        tier_cents=event.tier_cents,
        is_one_time=event.is_one_time,
        privacy=event.privacy,
        payment_source=None,
        since=event.created_at,
        valid_until=end_by_event(
            event, None, is_one_time=event.is_one_time, policy=policy, now=now
        ),
        unknown_since=None,
    )


def _changed_facts(
    event: SponsorshipEvent, previous: EntitlementFacts, *, policy: EntitlementPolicy, now: datetime
) -> EntitlementFacts | None:
    if event.kind is EventKind.CREATED:
        # The sponsorship is already stored, and its facts (such as an end) are newer than this.
        return None
    cents, is_one_time = previous.tier_cents, previous.is_one_time
    if event.kind is EventKind.TIER_CHANGED and event.tier_cents is not None:
        cents, is_one_time = event.tier_cents, event.is_one_time
    return replace(
        previous,
        checked_at=now,
        unknown_since=None,
        tier_cents=cents,
        is_one_time=is_one_time,
        privacy=event.privacy or previous.privacy,
        valid_until=end_by_event(event, previous, is_one_time=is_one_time, policy=policy, now=now),
    )


def _with_current_tier(event: SponsorshipEvent) -> SponsorshipEvent:
    """Returns the event with the tier that applies now; an announced change has the future tier."""
    if event.kind is not EventKind.PENDING_TIER_CHANGE:
        return event
    cents = event.tier_cents if event.former_cents is None else event.former_cents
    return replace(event, tier_cents=cents, is_one_time=False)
