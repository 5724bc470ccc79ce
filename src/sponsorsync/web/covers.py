"""How an answer about a cover is said as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sponsorsync.web.schemas import ConsideredOut, CoverOut

if TYPE_CHECKING:
    from sponsorsync.domain.cover import Considered, Cover


def describe_cover(cover: Cover) -> CoverOut:
    """Returns an answer as JSON has it."""
    facts = cover.facts
    return CoverOut(
        sponsorable=cover.sponsorable,
        status=cover.status.value,
        reason=cover.reason,
        source=cover.source.value,
        tier_cents=cover.tier_cents,
        since=cover.since,
        until=cover.until,
        is_one_time=facts.is_one_time if facts else False,
        privacy=facts.privacy.value if facts and facts.privacy else None,
        payment_source=facts.payment_source.value if facts and facts.payment_source else None,
        checked_at=facts.checked_at if facts else None,
        unknown_since=facts.unknown_since if facts else None,
        considered=[describe_considered(each) for each in cover.considered],
    )


def describe_considered(considered: Considered) -> ConsideredOut:
    """Returns one thing that could cover somebody, as JSON has it."""
    return ConsideredOut(
        source=considered.source.value,
        status=considered.status.value,
        reason=considered.reason,
        tier_cents=considered.tier_cents,
        since=considered.since,
        until=considered.until,
    )
