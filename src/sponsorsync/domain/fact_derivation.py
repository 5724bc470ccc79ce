"""Deriving the stored facts from GitHub's answers about sponsorships. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
from sponsorsync.domain.sources import EntitlementSource, Grant
from sponsorsync.domain.sponsorship import Privacy, Sponsorship
from sponsorsync.domain.sponsorship_end import end_by_absence, end_by_answer


def derive_facts(
    sponsorable: str,
    sponsorships: Iterable[Sponsorship],
    *,
    previous: EntitlementFacts | None,
    policy: EntitlementPolicy,
    now: datetime,
) -> EntitlementFacts:
    """Returns the facts after a complete answer of GitHub; grants of other sources stay.

    `sponsorships` are all sponsorships by the person, active or not, of any account. `previous` are
    the stored facts; they may have the end, which GitHub's answers do not contain.
    """
    candidates = [
        _facts_of(s, previous=previous, policy=policy, now=now)
        for s in sponsorships
        if s.sponsorable == sponsorable
    ]
    if not candidates:
        return _without_sponsorship(sponsorable, previous=previous, policy=policy, now=now)
    best = max(candidates, key=lambda facts: _rank(facts, now))
    for each in candidates:
        best = add_payment(best, each, now=now)
    return _without_past_payments(best, now)


def add_payment(
    facts: EntitlementFacts, payment: EntitlementFacts, *, now: datetime
) -> EntitlementFacts:
    """Returns the facts with `payment` as a further grant if it is an entitling one-time payment.

    A person may give monthly and once at the same time; either may be larger or last longer.
    """
    if (
        not payment.is_one_time
        or not payment.is_sponsoring(now)
        or payment.since is None
        or payment.since == facts.since
    ):
        return facts
    beside = Grant(
        source=EntitlementSource.SPONSORSHIP,
        since=payment.since,
        until=payment.valid_until,
        cents=payment.tier_cents,
    )
    others = [
        grant
        for grant in facts.grants
        if grant.source is not EntitlementSource.SPONSORSHIP or grant.since != beside.since
    ]
    return replace(facts, grants=(*others, beside))


def is_better(facts: EntitlementFacts, other: EntitlementFacts, *, now: datetime) -> bool:
    """Returns whether `facts` on one sponsorship outrank `other` facts on another sponsorship."""
    return _rank(facts, now) > _rank(other, now)


def is_not_older(facts: EntitlementFacts | None, asked_at: datetime) -> bool:
    """Returns whether the facts were checked at, or after, the time of a request to GitHub.

    If an event arrives between a request and its answer, the answer is outdated.
    """
    # Stored times have whole seconds.
    checked_at = None if facts is None else facts.checked_at
    return checked_at is not None and checked_at >= asked_at.replace(microsecond=0)


def may_be_hidden(
    sponsorable: str,
    sponsorships: Iterable[Sponsorship],
    *,
    previous: EntitlementFacts | None,
    now: datetime,
) -> bool:
    """Returns whether GitHub may hide a private sponsorship from the person's own token.

    GitHub also lists ended sponsorships. If a stored private sponsorship that still entitles is
    missing from the list, GitHub may hide it; only the maintainer's token shows it then.
    """
    return (
        previous is not None
        and previous.privacy is Privacy.PRIVATE
        and previous.is_sponsoring(now)
        and all(
            each.sponsorable != sponsorable or each.created_at != previous.since
            for each in sponsorships
        )
    )


def are_equivalent(facts: EntitlementFacts, other: EntitlementFacts) -> bool:
    """Returns whether two facts are equal but for the time of the check."""
    return replace(facts, checked_at=other.checked_at) == other


def have_same_sponsorship(facts: EntitlementFacts, other: EntitlementFacts) -> bool:
    """Returns whether two facts are equal in all fields that a webhook event can change."""
    return _event_fields(facts) == _event_fields(other)


def mark_unknown(previous: EntitlementFacts | None, *, now: datetime) -> EntitlementFacts | None:
    """Returns the facts after a failed check: unchanged but for `unknown_since`."""
    if previous is None or previous.checked_at is None or previous.unknown_since is not None:
        return previous
    return replace(previous, unknown_since=now)


def _event_fields(facts: EntitlementFacts) -> tuple[object, ...]:
    return (
        facts.source,
        facts.tier_cents,
        facts.is_one_time,
        facts.privacy,
        facts.since,
        facts.valid_until,
    )


def _facts_of(
    sponsorship: Sponsorship,
    *,
    previous: EntitlementFacts | None,
    policy: EntitlementPolicy,
    now: datetime,
) -> EntitlementFacts:
    return replace(
        previous or EntitlementFacts(sponsorable=sponsorship.sponsorable, checked_at=now),
        checked_at=now,
        source=EntitlementSource.SPONSORSHIP,
        tier_cents=sponsorship.tier_cents,
        is_one_time=sponsorship.is_one_time,
        privacy=sponsorship.privacy,
        payment_source=sponsorship.payment_source,
        since=sponsorship.created_at,
        valid_until=end_by_answer(sponsorship, previous=previous, policy=policy, now=now),
        unknown_since=None,
    )


def _without_sponsorship(
    sponsorable: str, *, previous: EntitlementFacts | None, policy: EntitlementPolicy, now: datetime
) -> EntitlementFacts:
    if previous is None:
        return EntitlementFacts(sponsorable=sponsorable, checked_at=now)
    if previous.source is EntitlementSource.NONE:
        return replace(previous, checked_at=now, unknown_since=None)
    end = end_by_absence(previous, policy=policy, now=now)
    return replace(previous, checked_at=now, unknown_since=None, valid_until=end)


def _without_past_payments(facts: EntitlementFacts, now: datetime) -> EntitlementFacts:
    grants = (
        grant
        for grant in facts.grants
        if grant.source is not EntitlementSource.SPONSORSHIP
        or (grant.is_entitling(now) and grant.since != facts.since)
    )
    return replace(facts, grants=tuple(grants))


def _rank(facts: EntitlementFacts, now: datetime) -> tuple[bool, bool, datetime, int]:
    """Returns the sort key of facts: entitling ones first, then the latest end, then the price."""
    end = facts.valid_until
    return (facts.is_sponsoring(now), end is None, end or now, facts.tier_cents or 0)
