"""An event of GitHub about a sponsorship, and how it changes the stored entitlement facts.

GitHub's events carry no moment of their own and may come late, twice, or not at all. So one is
news of *one* sponsorship, which is named by the moment at which that began, and never undoes what
is known to be later (docs/adr/0012-webhook-and-reconcile.md).
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.fact_derivation import add_payment, is_better
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.domain.sponsorship import EventKind
from sponsorsync.domain.sponsorship_end import end_by_event

if TYPE_CHECKING:
    from datetime import datetime

    from sponsorsync.domain.entitlement import EntitlementPolicy
    from sponsorsync.domain.sponsorship import SponsorshipEvent


class EventOutcome(StrEnum):
    """What became of an event."""

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
    """Returns the facts after an event; None where it tells nothing that is new.

    Args:
        event: Of one sponsorship.
        previous: What is known; None where that is nothing.
        policy: For how long a payment entitles.
        now: When the event came, with a time zone.
    """
    event = _without_coming_tier(event)
    if previous is None or previous.source is not EntitlementSource.SPONSORSHIP:
        return _first_facts(event, previous, policy=policy, now=now)
    if previous.since == event.created_at:
        if is_doubtful(event, previous):
            return None
        return _changed_facts(event, previous, policy=policy, now=now)
    other = _first_facts(event, previous, policy=policy, now=now)
    if previous.since is None or previous.is_one_time or _is_payment(event):
        # A payment beside a monthly sponsorship: the better one leads, and neither is forgotten.
        is_leading = is_better(other, previous, now=now)
        first, second = (other, previous) if is_leading else (previous, other)
        both = add_payment(first, second, now=now)
        return None if both == previous else both
    # Nobody has two monthly ones at once: the later one counts, whatever it has come to.
    return other if event.created_at > previous.since else None


def is_doubtful(event: SponsorshipEvent, previous: EntitlementFacts | None) -> bool:
    """Tells whether an event does not fit what is known of the same sponsorship.

    It may be late or a replay, or an event before it is missing: only a look at GitHub can tell.
    """
    if previous is None or not _is_of(previous, event):
        return False
    if event.kind is EventKind.TIER_CHANGED:
        return _differ(event.former_cents, previous.tier_cents)
    if event.kind is EventKind.PENDING_CANCELLATION:
        # It went on after that date: the sponsor has changed their mind.
        checked_at, end = previous.checked_at, event.effective_at
        if checked_at is None or end is None:
            return False
        return end < checked_at and previous.is_sponsoring(checked_at)
    return False


def _is_of(facts: EntitlementFacts, event: SponsorshipEvent) -> bool:
    return facts.source is EntitlementSource.SPONSORSHIP and facts.since == event.created_at


def _differ(told: int | None, known: int | None) -> bool:
    return told is not None and known is not None and told != known


def _is_payment(event: SponsorshipEvent) -> bool:
    """A change of tiers is none of its own: a sponsorship was there before."""
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
        # It is known already. Whatever was learnt since, an end above all, is later than this.
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


def _without_coming_tier(event: SponsorshipEvent) -> SponsorshipEvent:
    """A change of tiers that is only announced names the coming one as the sponsorship's."""
    if event.kind is not EventKind.PENDING_TIER_CHANGE:
        return event
    cents = event.tier_cents if event.former_cents is None else event.former_cents
    return replace(event, tier_cents=cents, is_one_time=False)
