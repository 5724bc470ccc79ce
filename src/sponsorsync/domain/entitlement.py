"""Who is entitled, by what, until when.

What is known stands in `EntitlementFacts`; `evaluate` turns it into the answer for one moment, and
tells all that was considered. It is pure. `fact_derivation.py` has how the facts come about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from sponsorsync.domain.sources import (
    EntitlementSource,
    Grant,
    explain,
    format_a_month,
    format_dollars,
    format_through,
    format_until,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sponsorsync.domain.sources import PaymentSource
    from sponsorsync.domain.sponsorship import Privacy


class EntitlementStatus(StrEnum):
    """The three answers: unknown is not no."""

    ENTITLED = "entitled"
    NOT_ENTITLED = "not_entitled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class EntitlementPolicy:
    """What the maintainer decides about entitles, beyond what GitHub says.

    Attributes:
        one_time: From a one-time payment on. GitHub shows it as active for one month, and no
            event marks its end.
        stale: How long the last known answer holds, counted from the first failed check.
        grace: How much longer than paid for a monthly sponsorship entitles.
        hidden_tier_cents: The tier that a sponsorship counts as where another service takes the
            money, so that GitHub never shows the tier.
        entitles_members: Whether an organization's sponsorship entitles its members.
        members_inherit_tier: Whether they count as giving what the organization gives.
        seats: How many members one organization entitles; None is all.
        membership: How long a membership holds that GitHub showed at a login. Nobody but the
            member's own token shows it, and that is not kept.
    """

    one_time: timedelta
    stale: timedelta
    grace: timedelta = timedelta(0)
    hidden_tier_cents: int | None = None
    entitles_members: bool = False
    members_inherit_tier: bool = True
    seats: int | None = None
    membership: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class EntitlementFacts:
    """What is kept of one person's entitlement by one sponsorable, in `sponsorship:{login}:{id}`.

    All but the last four tell of the person's own sponsorship at GitHub.

    Attributes:
        sponsorable: The login that receives, lower-cased.
        checked_at: When GitHub last answered; None while it was never asked.
        source: SPONSORSHIP, or NONE where GitHub answered that there is none.
        valid_until: Exclusive end of that sponsorship's entitlement; None while it has no end (or
            never began).
        unknown_since: The first check after `checked_at` that failed; None while none has.
        grants: By what else the person is, or was, entitled.
        memberships_checked_at: When GitHub last showed the person's organizations.
        memberships_unknown_since: Since when it does not show all of them.
        is_partial: They were written while durable, which may know more, could not be asked.
    """

    sponsorable: str
    checked_at: datetime | None
    source: EntitlementSource = EntitlementSource.NONE
    tier_cents: int | None = None
    is_one_time: bool = False
    privacy: Privacy | None = None
    payment_source: PaymentSource | None = None
    since: datetime | None = None
    valid_until: datetime | None = None
    unknown_since: datetime | None = None
    grants: tuple[Grant, ...] = ()
    memberships_checked_at: datetime | None = None
    memberships_unknown_since: datetime | None = None
    is_partial: bool = False

    def is_sponsoring(self, now: datetime) -> bool:
        """Tells whether the person's own sponsorship entitles them at `now`."""
        return self.source is not EntitlementSource.NONE and (
            self.valid_until is None or now < self.valid_until
        )


@dataclass(frozen=True, slots=True)
class Considered:
    """One source of entitlement, and what it amounts to at one moment.

    Attributes:
        source: Never NONE.
        until: When it ends, or ended, if nothing more is learnt.
        reason: One sentence, for the person.
        note: More, for administrators alone.
    """

    source: EntitlementSource
    status: EntitlementStatus
    reason: str
    tier_cents: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Entitlement:
    """The answer for one sponsorable at one moment, with one sentence of reason.

    Of several sources that entitle, the one with the highest tier tells tier, start and end; when
    it ends, the person may stay entitled by another.

    Attributes:
        source: What entitles; NONE where nothing does.
        until: When that ends if nothing more is learnt, exclusively; None while it has no end.
        considered: All sources, the person's own sponsorship first.
        facts: What the answer rests on; None while nothing was ever learnt.
    """

    sponsorable: str
    status: EntitlementStatus
    source: EntitlementSource
    reason: str
    tier_cents: int | None
    since: datetime | None
    until: datetime | None
    considered: tuple[Considered, ...]
    facts: EntitlementFacts | None


def evaluate(
    sponsorable: str, facts: EntitlementFacts | None, *, policy: EntitlementPolicy, now: datetime
) -> Entitlement:
    """Returns the answer at `now`, why, and all that was considered."""
    considered = _consider(sponsorable, facts, policy=policy, now=now)
    entitling = [each for each in considered if each.status is EntitlementStatus.ENTITLED]
    unknown = [each for each in considered if each.status is EntitlementStatus.UNKNOWN]
    decisive = max(entitling, key=_rank) if entitling else (unknown or considered)[0]
    is_entitled = bool(entitling)
    return Entitlement(
        sponsorable=sponsorable,
        status=decisive.status,
        source=decisive.source if is_entitled else EntitlementSource.NONE,
        reason=decisive.reason if is_entitled or unknown else _explain_no(considered),
        tier_cents=decisive.tier_cents if is_entitled else None,
        since=decisive.since if is_entitled else None,
        until=decisive.until if is_entitled else None,
        considered=tuple(considered),
        facts=facts,
    )


def _rank(entitling: Considered) -> tuple[int, bool, float]:
    """Orders sources that entitle: by tier, then by how long."""
    cents, until = entitling.tier_cents, entitling.until
    return (-1 if cents is None else cents, until is None, until.timestamp() if until else 0)


def _explain_no(considered: Sequence[Considered]) -> str:
    """Whoever was entitled, or nearly is, wants to know why not; else GitHub's answer will do."""
    told = [
        each
        for each in considered
        if each.until is not None or each.source is not EntitlementSource.SPONSORSHIP
    ]
    return max(told or considered, key=_end_of).reason


def _end_of(considered: Considered) -> float:
    return considered.until.timestamp() if considered.until else math.inf


def _consider(
    sponsorable: str, facts: EntitlementFacts | None, *, policy: EntitlementPolicy, now: datetime
) -> list[Considered]:
    if facts is None:
        return [_consider_nothing(sponsorable)]
    considered = [
        _consider_sponsorship(facts, policy=policy, now=now),
        *(
            _consider_grant(sponsorable, grant, policy, now)
            for grant in facts.grants
            if policy.entitles_members or grant.source is not EntitlementSource.ORGANIZATION
        ),
    ]
    if policy.entitles_members and not _knows_memberships(facts):
        considered.append(_consider_hidden_memberships(sponsorable))
    return considered


# ------------------------------------------------------------------ the person's own sponsorship


def _consider_nothing(sponsorable: str) -> Considered:
    return Considered(
        source=EntitlementSource.SPONSORSHIP,
        status=EntitlementStatus.UNKNOWN,
        reason=(
            f"GitHub has not told us yet whether you sponsor {sponsorable}. Sign in again to ask."
        ),
    )


def _consider_sponsorship(
    facts: EntitlementFacts, *, policy: EntitlementPolicy, now: datetime
) -> Considered:
    if facts.checked_at is None:
        return _consider_nothing(facts.sponsorable)
    if facts.unknown_since is not None:
        return _consider_stale(facts, facts.unknown_since, policy=policy, now=now)
    if facts.is_partial and not facts.is_sponsoring(now):
        return Considered(
            source=EntitlementSource.SPONSORSHIP,
            status=EntitlementStatus.UNKNOWN,
            reason=(
                "Durable storage, which may know more of you, could not be asked yet. Try again in "
                "a moment."
            ),
        )
    return _consider_known(facts, policy=policy, now=now)


def _consider_known(
    facts: EntitlementFacts, *, policy: EntitlementPolicy, now: datetime
) -> Considered:
    sponsorable = facts.sponsorable
    if facts.source is EntitlementSource.NONE:
        return Considered(
            source=EntitlementSource.SPONSORSHIP,
            status=EntitlementStatus.NOT_ENTITLED,
            reason=f"GitHub shows no sponsorship of {sponsorable} by your account.",
        )
    what, is_entitled = _describe(facts), facts.is_sponsoring(now)
    if is_entitled:
        reason = f"You sponsor {sponsorable}{what}{format_until(facts.valid_until)}."
    else:
        reason = f"Your sponsorship of {sponsorable}{what} ended by {facts.valid_until:%Y-%m-%d}."
    return Considered(
        source=EntitlementSource.SPONSORSHIP,
        status=EntitlementStatus.ENTITLED if is_entitled else EntitlementStatus.NOT_ENTITLED,
        reason=reason,
        tier_cents=cents_of(facts, policy),
        since=facts.since,
        until=facts.valid_until,
    )


def _consider_stale(
    facts: EntitlementFacts, unknown_since: datetime, *, policy: EntitlementPolicy, now: datetime
) -> Considered:
    sponsorable, holds_until = facts.sponsorable, unknown_since + policy.stale
    failed = f"GitHub could not be asked since {unknown_since:%Y-%m-%d %H:%M} UTC"
    if not facts.is_sponsoring(now) or now >= holds_until:
        return Considered(
            source=EntitlementSource.SPONSORSHIP,
            status=EntitlementStatus.UNKNOWN,
            reason=(
                f"{failed}, so whether you sponsor {sponsorable} is not known. Sign in again to "
                "ask."
            ),
        )
    holds_until = min(holds_until, facts.valid_until or holds_until)
    return Considered(
        source=EntitlementSource.SPONSORSHIP,
        status=EntitlementStatus.ENTITLED,
        reason=(
            f"{failed}; what was known before, that you sponsor {sponsorable}, holds until "
            f"{holds_until:%Y-%m-%d %H:%M} UTC."
        ),
        tier_cents=cents_of(facts, policy),
        since=facts.since,
        until=holds_until,
    )


def cents_of(facts: EntitlementFacts, policy: EntitlementPolicy) -> int | None:
    """Returns the tier that somebody's own sponsorship counts as; None where nobody knows."""
    through = facts.payment_source
    if facts.tier_cents is None and through is not None and through.hides_tier:
        return policy.hidden_tier_cents
    return facts.tier_cents


def _describe(facts: EntitlementFacts) -> str:
    """Returns ' with $10.00 a month', ' with a one-time $25.00', ' through (a service)' or ''."""
    if facts.tier_cents is None:
        return format_through(facts.payment_source)
    if facts.is_one_time:
        return f" with a one-time {format_dollars(facts.tier_cents)}"
    return format_a_month(facts.tier_cents)


# ------------------------------------------------------------------ everything else


def _consider_grant(
    sponsorable: str, grant: Grant, policy: EntitlementPolicy, now: datetime
) -> Considered:
    is_inherited = grant.source is EntitlementSource.ORGANIZATION
    return Considered(
        source=grant.source,
        status=EntitlementStatus.ENTITLED
        if grant.is_entitling(now)
        else EntitlementStatus.NOT_ENTITLED,
        reason=explain(grant, sponsorable, now=now),
        tier_cents=grant.cents if policy.members_inherit_tier or not is_inherited else None,
        since=grant.since,
        until=grant.until,
        note=None if grant.actor is None else f"{grant.actor}: {grant.reason}",
    )


def _knows_memberships(facts: EntitlementFacts) -> bool:
    return facts.memberships_checked_at is not None and facts.memberships_unknown_since is None


def _consider_hidden_memberships(sponsorable: str) -> Considered:
    return Considered(
        source=EntitlementSource.ORGANIZATION,
        status=EntitlementStatus.UNKNOWN,
        reason=(
            "GitHub did not show all organizations to which you belong, so whether one of them "
            f"sponsors {sponsorable} is not known. Sign in again, and let it show them."
        ),
    )
