"""All rules for the end of a sponsorship's entitlement.

GitHub's answers contain no end; only cancellation events do. So a known end stays until GitHub
sends something newer.
"""

from datetime import datetime

from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.domain.sponsorship import EventKind, Sponsorship, SponsorshipEvent


def end_by_answer(
    sponsorship: Sponsorship,
    *,
    previous: EntitlementFacts | None,
    policy: EntitlementPolicy,
    now: datetime,
) -> datetime | None:
    """Returns the end of a sponsorship that GitHub has just listed; None without an end."""
    if sponsorship.is_one_time:
        return (sponsorship.tier_selected_at or sponsorship.created_at) + policy.one_time
    stored = _find_stored_end(sponsorship, previous)
    if sponsorship.is_active:
        # A cancelled sponsorship is active until its end, which only the webhook sends. If GitHub
        # shows it as active after that end, the sponsor has withdrawn the cancellation.
        return stored if stored is not None and stored - policy.grace > now else None
    if stored is not None:
        return min(stored, now + policy.grace)
    return _first_end(sponsorship, previous, policy=policy, now=now)


def end_by_absence(
    previous: EntitlementFacts, *, policy: EntitlementPolicy, now: datetime
) -> datetime:
    """Returns the end of a known sponsorship that GitHub no longer lists."""
    return now + policy.grace if previous.valid_until is None else previous.valid_until


def end_by_event(
    event: SponsorshipEvent,
    previous: EntitlementFacts | None,
    *,
    is_one_time: bool,
    policy: EntitlementPolicy,
    now: datetime,
) -> datetime | None:
    """Returns the end of a sponsorship after a webhook event; None without an end.

    `previous` are the stored facts on the same sponsorship, if any. `is_one_time` is whether the
    sponsorship is a one-time payment after the event.
    """
    stored = None if previous is None else _find_lasting_end(previous, is_one_time, now)
    if is_one_time:
        # A monthly sponsorship that changes to a one-time payment is paid now.
        paid_at = now if event.kind is EventKind.TIER_CHANGED else event.created_at
        return stored or paid_at + policy.one_time
    if event.kind is EventKind.PENDING_CANCELLATION:
        # A past end stays: the announcement was late.
        is_over = stored is not None and stored <= now
        announced = event.effective_at and event.effective_at + policy.grace
        return stored if is_over else announced or stored
    if event.kind is EventKind.CANCELLED:
        ended = (event.effective_at or now) + policy.grace
        return ended if event.effective_at else min(stored or ended, ended)
    return stored


def _find_stored_end(
    sponsorship: Sponsorship, previous: EntitlementFacts | None
) -> datetime | None:
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
    """Returns an end for a sponsorship that GitHub shows as inactive without sending its end."""
    if previous is None or previous.source is not EntitlementSource.SPONSORSHIP:
        return now
    if previous.valid_until is None:
        # The grace is only for a sponsorship that is known to have been paid until now.
        return now + policy.grace if previous.since == sponsorship.created_at else now
    # The stored end is another payment's; if it is in the future, it cannot be this one's.
    return min(now, previous.valid_until)


def _find_lasting_end(
    previous: EntitlementFacts, is_one_time: bool, now: datetime
) -> datetime | None:
    """Returns the stored end; None if the event changed the sponsorship to monthly or one-time.

    The end of a monthly sponsorship that is already over stays in any case.
    """
    stored = previous.valid_until
    is_over = stored is not None and stored <= now
    if is_one_time != previous.is_one_time and not (is_one_time and is_over):
        return None
    return stored
