"""Who is covered, by what, until when.

`assess` turns what GitHub answered into the facts that are kept; `judge` turns the facts into the
answer for one moment. Both are pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from sponsorsync.domain.sponsorship import PaymentSource

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from sponsorsync.domain.sponsorship import Privacy, Sponsorship


class CoverSource(StrEnum):
    """What a cover comes from."""

    NONE = "none"
    SPONSORSHIP = "sponsorship"


class CoverStatus(StrEnum):
    """The three answers: unknown is not no."""

    COVERED = "covered"
    NOT_COVERED = "not_covered"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CoverPolicy:
    """How long a cover lasts where GitHub does not say.

    Attributes:
        one_time: From a one-time payment on. GitHub shows it as active for one month, and no
            event marks its end.
        stale: How long the last known answer holds, counted from the first failed check.
    """

    one_time: timedelta
    stale: timedelta


@dataclass(frozen=True, slots=True)
class CoverFacts:
    """What is kept of one person's cover by one sponsorable, in `sponsorship:{login}:{id}`.

    Attributes:
        sponsorable: The login that receives, lower-cased.
        checked_at: When GitHub last answered.
        source: NONE when GitHub answered that there is no sponsorship.
        valid_until: Exclusive end of the cover; None while it has no end (or never began).
        unknown_since: The first check after `checked_at` that failed; None while none has.
    """

    sponsorable: str
    checked_at: datetime
    source: CoverSource = CoverSource.NONE
    tier_cents: int | None = None
    is_one_time: bool = False
    privacy: Privacy | None = None
    payment_source: PaymentSource | None = None
    since: datetime | None = None
    valid_until: datetime | None = None
    unknown_since: datetime | None = None

    def is_covered(self, now: datetime) -> bool:
        """Tells whether these facts cover somebody at `now`."""
        return self.source is not CoverSource.NONE and (
            self.valid_until is None or now < self.valid_until
        )


@dataclass(frozen=True, slots=True)
class Cover:
    """The answer for one sponsorable at one moment, with one sentence of reason.

    Attributes:
        facts: What the answer rests on; None while nothing was ever learnt.
    """

    sponsorable: str
    status: CoverStatus
    reason: str
    facts: CoverFacts | None


def assess(
    sponsorable: str,
    sponsorships: Iterable[Sponsorship],
    *,
    previous: CoverFacts | None,
    policy: CoverPolicy,
    now: datetime,
) -> CoverFacts:
    """Returns the facts after a complete answer of GitHub.

    Args:
        sponsorable: The login that receives, lower-cased.
        sponsorships: All of the person's, active or not, to whomever.
        previous: What was known before; it remembers when a cover was first seen to have ended.
        policy: For how long a one-time payment covers.
        now: The moment of the answer, with a time zone.
    """
    candidates = [
        _facts_of(s, previous=previous, policy=policy, now=now)
        for s in sponsorships
        if s.sponsorable == sponsorable
    ]
    if not candidates:
        return _without_sponsorship(sponsorable, previous=previous, now=now)
    return max(candidates, key=lambda facts: _rank(facts, now))


def is_better(facts: CoverFacts, other: CoverFacts, *, now: datetime) -> bool:
    """Tells whether facts of one sponsorship count for more than those of another."""
    return _rank(facts, now) > _rank(other, now)


def tell_the_same(facts: CoverFacts, other: CoverFacts) -> bool:
    """Tells whether two facts differ in nothing but when GitHub was asked."""
    return replace(facts, checked_at=other.checked_at) == other


def mark_unknown(previous: CoverFacts | None, *, now: datetime) -> CoverFacts | None:
    """Returns what is known after a check that failed: the same as before, marked."""
    if previous is None or previous.unknown_since is not None:
        return previous
    return replace(previous, unknown_since=now)


def judge(
    sponsorable: str, facts: CoverFacts | None, *, policy: CoverPolicy, now: datetime
) -> Cover:
    """Returns the answer at `now`, and why."""
    status, reason = _decide(sponsorable, facts, policy=policy, now=now)
    return Cover(sponsorable=sponsorable, status=status, reason=reason, facts=facts)


def _facts_of(
    sponsorship: Sponsorship,
    *,
    previous: CoverFacts | None,
    policy: CoverPolicy,
    now: datetime,
) -> CoverFacts:
    return CoverFacts(
        sponsorable=sponsorship.sponsorable,
        checked_at=now,
        source=CoverSource.SPONSORSHIP,
        tier_cents=sponsorship.tier_cents,
        is_one_time=sponsorship.is_one_time,
        privacy=sponsorship.privacy,
        payment_source=sponsorship.payment_source,
        since=sponsorship.created_at,
        valid_until=_end_of(sponsorship, previous=previous, policy=policy, now=now),
    )


def _end_of(
    sponsorship: Sponsorship,
    *,
    previous: CoverFacts | None,
    policy: CoverPolicy,
    now: datetime,
) -> datetime | None:
    if sponsorship.is_one_time:
        return (sponsorship.tier_selected_at or sponsorship.created_at) + policy.one_time
    if sponsorship.is_active:
        return _announced_end(sponsorship, previous, now)
    # Not later than now: an end that is still to come is that of another, one-time payment.
    return min(now, _ended_by(previous, now))


def _announced_end(
    sponsorship: Sponsorship, previous: CoverFacts | None, now: datetime
) -> datetime | None:
    """A cancelled monthly sponsorship is active until its end, which only the webhook tells."""
    if (
        previous is None
        or previous.is_one_time
        or previous.since != sponsorship.created_at
        or previous.valid_until is None
        or previous.valid_until <= now
    ):
        return None
    return previous.valid_until


def _ended_by(previous: CoverFacts | None, now: datetime) -> datetime:
    """GitHub does not say when a monthly sponsorship ended: it is when we first learnt of it."""
    if previous is not None and previous.valid_until is not None:
        return previous.valid_until
    return now


def _without_sponsorship(
    sponsorable: str, *, previous: CoverFacts | None, now: datetime
) -> CoverFacts:
    if previous is None or previous.source is CoverSource.NONE:
        return CoverFacts(sponsorable=sponsorable, checked_at=now)
    return replace(
        previous, checked_at=now, unknown_since=None, valid_until=_ended_by(previous, now)
    )


def _rank(facts: CoverFacts, now: datetime) -> tuple[bool, bool, datetime, int]:
    """Orders candidates: covered before ended, no end before a late one, then by price."""
    end = facts.valid_until
    return (
        facts.is_covered(now),
        end is None,
        end or facts.checked_at,
        facts.tier_cents or 0,
    )


def _decide(
    sponsorable: str, facts: CoverFacts | None, *, policy: CoverPolicy, now: datetime
) -> tuple[CoverStatus, str]:
    if facts is None:
        return (
            CoverStatus.UNKNOWN,
            f"GitHub has not told us yet whether you sponsor {sponsorable}. Sign in again to ask.",
        )
    if facts.unknown_since is None:
        return _decide_known(sponsorable, facts, now)
    return _decide_stale(sponsorable, facts, facts.unknown_since + policy.stale, now)


def _decide_known(sponsorable: str, facts: CoverFacts, now: datetime) -> tuple[CoverStatus, str]:
    if facts.source is CoverSource.NONE:
        return (
            CoverStatus.NOT_COVERED,
            f"GitHub shows no sponsorship of {sponsorable} by your account.",
        )
    what = _describe(facts)
    if facts.is_covered(now):
        end = f" until {facts.valid_until:%Y-%m-%d}" if facts.valid_until else ""
        return CoverStatus.COVERED, f"You sponsor {sponsorable}{what}{end}."
    return (
        CoverStatus.NOT_COVERED,
        f"Your sponsorship of {sponsorable}{what} ended by {facts.valid_until:%Y-%m-%d}.",
    )


def _decide_stale(
    sponsorable: str, facts: CoverFacts, holds_until: datetime, now: datetime
) -> tuple[CoverStatus, str]:
    failed = f"GitHub could not be asked since {facts.unknown_since:%Y-%m-%d %H:%M} UTC"
    if facts.is_covered(now) and now < holds_until:
        holds_until = min(holds_until, facts.valid_until or holds_until)
        return (
            CoverStatus.COVERED,
            (
                f"{failed}; what was known before, that you sponsor {sponsorable}, holds until "
                f"{holds_until:%Y-%m-%d %H:%M} UTC."
            ),
        )
    return (
        CoverStatus.UNKNOWN,
        f"{failed}, so whether you sponsor {sponsorable} is not known. Sign in again to ask.",
    )


def _describe(facts: CoverFacts) -> str:
    """Returns ' with $10.00 a month', ' with a one-time $25.00', ' through Patreon' or ''."""
    if facts.tier_cents is None:
        return " through Patreon" if facts.payment_source is PaymentSource.PATREON else ""
    price = f"${facts.tier_cents / 100:,.2f}"
    return f" with a one-time {price}" if facts.is_one_time else f" with {price} a month"
