"""What GitHub tells by itself of a sponsorship, and what that makes of the cover that is known.

GitHub's events carry no moment of their own and may come late, twice, or not at all. So one is
news of *one* sponsorship, which is named by the moment at which that began, and never undoes what
is known to be later (docs/adr/0012-webhook-and-reconcile.md).
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from sponsorsync.domain.assessment import is_better, keep_payment
from sponsorsync.domain.cover import CoverFacts
from sponsorsync.domain.sources import CoverSource
from sponsorsync.domain.sponsorship import NewsKind
from sponsorsync.domain.sponsorship_end import end_by_event

if TYPE_CHECKING:
    from datetime import datetime

    from sponsorsync.domain.cover import CoverPolicy
    from sponsorsync.domain.sponsorship import SponsorshipNews


class NewsOutcome(StrEnum):
    """What became of an event."""

    PONG = "pong"
    APPLIED = "applied"
    NOTHING_NEW = "nothing_new"
    SEEN_BEFORE = "seen_before"
    IGNORED = "ignored"
    LOOKING = "looking"


def hear(
    news: SponsorshipNews, previous: CoverFacts | None, *, policy: CoverPolicy, now: datetime
) -> CoverFacts | None:
    """Returns the facts after an event; None where it tells nothing that is new.

    Args:
        news: Of one sponsorship.
        previous: What is known; None where that is nothing.
        policy: For how long a payment covers.
        now: When the event came, with a time zone.
    """
    news = _without_coming_tier(news)
    if previous is None or previous.source is not CoverSource.SPONSORSHIP:
        return _first_facts(news, previous, policy=policy, now=now)
    if previous.since == news.created_at:
        if is_doubtful(news, previous):
            return None
        return _changed_facts(news, previous, policy=policy, now=now)
    other = _first_facts(news, previous, policy=policy, now=now)
    if previous.since is None or previous.is_one_time or _is_payment(news):
        # A payment beside a monthly sponsorship: the better one leads, and neither is forgotten.
        is_leading = is_better(other, previous, now=now)
        first, second = (other, previous) if is_leading else (previous, other)
        both = keep_payment(first, second, now=now)
        return None if both == previous else both
    # Nobody has two monthly ones at once: the later one counts, whatever it has come to.
    return other if news.created_at > previous.since else None


def is_doubtful(news: SponsorshipNews, previous: CoverFacts | None) -> bool:
    """Tells whether an event does not fit what is known of the same sponsorship.

    It may be late or a replay, or an event before it is missing: only a look at GitHub can tell.
    """
    if previous is None or not _is_of(previous, news):
        return False
    if news.kind is NewsKind.TIER_CHANGED:
        return _differ(news.former_cents, previous.tier_cents)
    if news.kind is NewsKind.PENDING_CANCELLATION:
        # It went on after that date: the sponsor has changed their mind.
        checked_at, end = previous.checked_at, news.effective_at
        if checked_at is None or end is None:
            return False
        return end < checked_at and previous.is_sponsoring(checked_at)
    return False


def _is_of(facts: CoverFacts, news: SponsorshipNews) -> bool:
    return facts.source is CoverSource.SPONSORSHIP and facts.since == news.created_at


def _differ(told: int | None, known: int | None) -> bool:
    return told is not None and known is not None and told != known


def _is_payment(news: SponsorshipNews) -> bool:
    """A change of tiers is none of its own: a sponsorship was there before."""
    return news.is_one_time and news.kind is not NewsKind.TIER_CHANGED


def _first_facts(
    news: SponsorshipNews, previous: CoverFacts | None, *, policy: CoverPolicy, now: datetime
) -> CoverFacts:
    return replace(
        previous or CoverFacts(sponsorable=news.sponsorable, checked_at=now),
        checked_at=now,
        source=CoverSource.SPONSORSHIP,
        tier_cents=news.tier_cents,
        is_one_time=news.is_one_time,
        privacy=news.privacy,
        payment_source=None,
        since=news.created_at,
        valid_until=end_by_event(news, None, is_one_time=news.is_one_time, policy=policy, now=now),
        unknown_since=None,
    )


def _changed_facts(
    news: SponsorshipNews, previous: CoverFacts, *, policy: CoverPolicy, now: datetime
) -> CoverFacts | None:
    if news.kind is NewsKind.CREATED:
        # It is known already. Whatever was learnt since, an end above all, is later than this.
        return None
    cents, is_one_time = previous.tier_cents, previous.is_one_time
    if news.kind is NewsKind.TIER_CHANGED and news.tier_cents is not None:
        cents, is_one_time = news.tier_cents, news.is_one_time
    return replace(
        previous,
        checked_at=now,
        unknown_since=None,
        tier_cents=cents,
        is_one_time=is_one_time,
        privacy=news.privacy or previous.privacy,
        valid_until=end_by_event(news, previous, is_one_time=is_one_time, policy=policy, now=now),
    )


def _without_coming_tier(news: SponsorshipNews) -> SponsorshipNews:
    """A change of tiers that is only announced names the coming one as the sponsorship's."""
    if news.kind is not NewsKind.PENDING_TIER_CHANGE:
        return news
    cents = news.tier_cents if news.former_cents is None else news.former_cents
    return replace(news, tier_cents=cents, is_one_time=False)
