"""When a sponsorship ends to entitle somebody: every rule about that, from all GitHub tells.

GitHub's answers name no end, and only the event of a cancellation does. So the end that is known
stays where nothing later is learnt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.domain.sponsorship import EventKind

if TYPE_CHECKING:
    from datetime import datetime

    from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
    from sponsorsync.domain.sponsorship import Sponsorship, SponsorshipEvent


def end_by_answer(
    sponsorship: Sponsorship,
    *,
    previous: EntitlementFacts | None,
    policy: EntitlementPolicy,
    now: datetime,
) -> datetime | None:
    """Returns the end after GitHub listed a sponsorship; None while it has none."""
    if sponsorship.is_one_time:
        return (sponsorship.tier_selected_at or sponsorship.created_at) + policy.one_time
    known = _known_end(sponsorship, previous)
    if sponsorship.is_active:
        # A cancelled one is active until its end, which only the webhook tells. One that is active
        # after that goes on: the sponsor has changed their mind.
        return known if known is not None and known - policy.grace > now else None
    if known is not None:
        return min(known, now + policy.grace)
    return _first_end(sponsorship, previous, policy=policy, now=now)


def end_by_absence(
    previous: EntitlementFacts, *, policy: EntitlementPolicy, now: datetime
) -> datetime:
    """Returns the end after GitHub did not list a sponsorship that is known."""
    return now + policy.grace if previous.valid_until is None else previous.valid_until


def end_by_event(
    event: SponsorshipEvent,
    previous: EntitlementFacts | None,
    *,
    is_one_time: bool,
    policy: EntitlementPolicy,
    now: datetime,
) -> datetime | None:
    """Returns the end after an event; None while there is none.

    Args:
        event: The event.
        previous: What is known of the same sponsorship; None where that is nothing.
        is_one_time: Whether the sponsorship is a payment after the event.
        policy: How long a payment entitles, and the grace after an end.
        now: When the event came.
    """
    known = None if previous is None else _still_known_end(previous, is_one_time, now)
    if is_one_time:
        # Of an old sponsorship that has changed to a payment, this is the payment's moment.
        paid_at = now if event.kind is EventKind.TIER_CHANGED else event.created_at
        return known or paid_at + policy.one_time
    if event.kind is EventKind.PENDING_CANCELLATION:
        # An end that has come stays: what announces it was late.
        is_over = known is not None and known <= now
        announced = event.effective_at and event.effective_at + policy.grace
        return known if is_over else announced or known
    if event.kind is EventKind.CANCELLED:
        ended = (event.effective_at or now) + policy.grace
        return ended if event.effective_at else min(known or ended, ended)
    return known


def _known_end(sponsorship: Sponsorship, previous: EntitlementFacts | None) -> datetime | None:
    if (
        previous is None
        or previous.is_one_time
        or previous.source is not EntitlementSource.SPONSORSHIP
        or previous.since != sponsorship.created_at
    ):
        return None
    return previous.valid_until


def _first_end(
    sponsorship: Sponsorship,
    previous: EntitlementFacts | None,
    *,
    policy: EntitlementPolicy,
    now: datetime,
) -> datetime:
    """GitHub does not say when a monthly sponsorship ended: it is when we first learnt of it."""
    if previous is None or previous.source is not EntitlementSource.SPONSORSHIP:
        return now  # first seen when it had ended already
    if previous.valid_until is None:
        # Of another one than the one that was known it is not known that it was paid until now.
        return now + policy.grace if previous.since == sponsorship.created_at else now
    # Not later than now: an end that is still to come is that of another, one-time payment.
    return min(now, previous.valid_until)


def _still_known_end(
    previous: EntitlementFacts, is_one_time: bool, now: datetime
) -> datetime | None:
    """Returns the known end, unless the sponsorship has become another kind since."""
    known = previous.valid_until
    is_over = known is not None and known <= now
    if is_one_time != previous.is_one_time and not (is_one_time and is_over):
        return None
    return known
