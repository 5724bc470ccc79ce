"""Evaluating a person's entitlement: its status, source and end.

`EntitlementFacts` are stored; `evaluate` derives the entitlement at one moment from them.
`fact_derivation.py` derives the facts from GitHub's answers. Pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sponsorsync.domain.sources import (
    EntitlementSource,
    Grant,
    PaymentSource,
    explain,
    format_a_month,
    format_dollars,
    format_through,
    format_until,
)
from sponsorsync.domain.sponsorship import Privacy


class EntitlementStatus(StrEnum):
    """Whether a person is entitled; UNKNOWN does not mean that they are not."""

    ENTITLED = "entitled"
    NOT_ENTITLED = "not_entitled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class EntitlementPolicy:
    """The maintainer's settings for entitlements.

    Attributes:
        one_time: How long a one-time payment entitles. GitHub shows it as active for one month
            and sends no event at its end.
        stale: How long GitHub's last answer stays valid after the first failed check.
        grace: How long a monthly sponsorship still entitles after its paid end.
        hidden_tier_cents: The assumed tier of a sponsorship whose money another service collects:
            GitHub shows no tier for it.
        entitles_members: Whether an organization's sponsorship entitles its members.
        members_inherit_tier: Whether the members get the organization's tier.
        seats: Number of members that one organization entitles; None means all.
        membership: How long a membership stays valid after a login. It cannot be checked in
            between: only the member's own token shows it, and that token is not stored.
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
    """Stored facts on one person and one sponsorable, in `sponsorship:{login}:{id}`.

    All fields but the last four are about the person's own sponsorship at GitHub.

    Attributes:
        sponsorable: The receiver's login, lower-cased.
        checked_at: Time of GitHub's last answer; None before the first answer.
        source: SPONSORSHIP, or NONE if GitHub shows no sponsorship.
        valid_until: When the sponsorship stops entitling (exclusive); None if it has no known end,
            or if there is no sponsorship.
        unknown_since: Time of the first failed check after `checked_at`.
        grants: The other reasons why the person is, or once was, entitled.
        memberships_checked_at: When GitHub last showed the person's organizations.
        memberships_unknown_since: Since when GitHub has not shown all of these organizations.
        is_partial: Whether the durable Redis, which may have more facts, was not available when
            these were written.
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
        """Returns whether the person's own sponsorship entitles them at `now`."""
        return self.source is not EntitlementSource.NONE and (
            self.valid_until is None or now < self.valid_until
        )


@dataclass(frozen=True, slots=True)
class ConsideredSource:
    """One source of entitlement (never NONE), evaluated at one moment.

    `reason` is one sentence for the person, `note` has details for administrators only. `until` is
    the known end, past or future.
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
    """A person's entitlement by one sponsorable at one moment, with its stored facts, if any.

    If several sources entitle the person, `source`, tier, start and exclusive end are those of the
    source with the highest tier; after its end another source may still entitle them. If no source
    does, `source` is NONE. `reason` is one sentence for the person; `considered` are all sources,
    the person's own sponsorship first.
    """

    sponsorable: str
    status: EntitlementStatus
    source: EntitlementSource
    reason: str
    tier_cents: int | None
    since: datetime | None
    until: datetime | None
    considered: tuple[ConsideredSource, ...]
    facts: EntitlementFacts | None


def evaluate(
    sponsorable: str, facts: EntitlementFacts | None, *, policy: EntitlementPolicy, now: datetime
) -> Entitlement:
    """Returns the entitlement at `now`, with its reason and all sources that were considered."""
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


def cents_of(facts: EntitlementFacts, policy: EntitlementPolicy) -> int | None:
    """Returns the tier of the person's own sponsorship, or the policy's tier if GitHub hides it."""
    through = facts.payment_source
    if facts.tier_cents is None and through is not None and through.hides_tier:
        return policy.hidden_tier_cents
    return facts.tier_cents


def _rank(entitling: ConsideredSource) -> tuple[int, bool, float]:
    """Returns the sort key of an entitling source: first its tier, then its end."""
    cents, until = entitling.tier_cents, entitling.until
    return (-1 if cents is None else cents, until is None, until.timestamp() if until else 0)


def _explain_no(considered: Sequence[ConsideredSource]) -> str:
    """Returns the reason why the person is not entitled: that of the source that ended last.

    A grant without an end (the member has no seat) comes before ended sources. That GitHub shows
    no sponsorship is the reason only if there is neither.
    """
    informative = [
        each
        for each in considered
        if each.until is not None or each.source is not EntitlementSource.SPONSORSHIP
    ]
    return max(informative or considered, key=_end_of).reason


def _end_of(considered: ConsideredSource) -> float:
    return considered.until.timestamp() if considered.until else math.inf


def _consider(
    sponsorable: str, facts: EntitlementFacts | None, *, policy: EntitlementPolicy, now: datetime
) -> list[ConsideredSource]:
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
    are_memberships_known = (
        facts.memberships_checked_at is not None and facts.memberships_unknown_since is None
    )
    if policy.entitles_members and not are_memberships_known:
        reason = (
            "GitHub did not show all your organizations, so it is not known whether one of them "
            f"sponsors {sponsorable}. Sign in again and grant access to them."
        )
        considered.append(_unknown(reason, EntitlementSource.ORGANIZATION))
    return considered


def _unknown(
    reason: str, source: EntitlementSource = EntitlementSource.SPONSORSHIP
) -> ConsideredSource:
    return ConsideredSource(source=source, status=EntitlementStatus.UNKNOWN, reason=reason)


# ------------------------------------------------------------------ the person's own sponsorship


def _consider_nothing(sponsorable: str) -> ConsideredSource:
    return _unknown(
        f"It is not known yet whether you sponsor {sponsorable}. Sign in again to check."
    )


def _consider_sponsorship(
    facts: EntitlementFacts, *, policy: EntitlementPolicy, now: datetime
) -> ConsideredSource:
    if facts.checked_at is None:
        return _consider_nothing(facts.sponsorable)
    if facts.unknown_since is not None:
        return _consider_stale(facts, facts.unknown_since, policy=policy, now=now)
    if facts.is_partial and not facts.is_sponsoring(now):
        return _unknown(
            "The database that may know more about you is not available yet. Try again in a moment."
        )
    return _consider_known(facts, policy=policy, now=now)


def _consider_known(
    facts: EntitlementFacts, *, policy: EntitlementPolicy, now: datetime
) -> ConsideredSource:
    sponsorable = facts.sponsorable
    if facts.source is EntitlementSource.NONE:
        return ConsideredSource(
            source=EntitlementSource.SPONSORSHIP,
            status=EntitlementStatus.NOT_ENTITLED,
            reason=f"GitHub shows no sponsorship of {sponsorable} by your account.",
        )
    amount, is_entitled = _format_amount(facts), facts.is_sponsoring(now)
    if is_entitled:
        reason = f"You sponsor {sponsorable}{amount}{format_until(facts.valid_until)}."
    else:
        reason = f"Your sponsorship of {sponsorable}{amount} ended by {facts.valid_until:%Y-%m-%d}."
    return ConsideredSource(
        source=EntitlementSource.SPONSORSHIP,
        status=EntitlementStatus.ENTITLED if is_entitled else EntitlementStatus.NOT_ENTITLED,
        reason=reason,
        tier_cents=cents_of(facts, policy),
        since=facts.since,
        until=facts.valid_until,
    )


def _consider_stale(
    facts: EntitlementFacts, unknown_since: datetime, *, policy: EntitlementPolicy, now: datetime
) -> ConsideredSource:
    sponsorable, holds_until = facts.sponsorable, unknown_since + policy.stale
    failed = f"GitHub has not answered since {unknown_since:%Y-%m-%d %H:%M} UTC"
    if not facts.is_sponsoring(now) or now >= holds_until:
        return _unknown(
            f"{failed}, so it is not known whether you sponsor {sponsorable}. Sign in again to "
            "check."
        )
    holds_until = min(holds_until, facts.valid_until or holds_until)
    return ConsideredSource(
        source=EntitlementSource.SPONSORSHIP,
        status=EntitlementStatus.ENTITLED,
        reason=(
            f"{failed}; by its last answer you sponsor {sponsorable}, access until "
            f"{holds_until:%Y-%m-%d %H:%M} UTC."
        ),
        tier_cents=cents_of(facts, policy),
        since=facts.since,
        until=holds_until,
    )


def _format_amount(facts: EntitlementFacts) -> str:
    """Returns ' with $10.00 a month', ' with a one-time $25.00', ' through (a service)' or ''."""
    if facts.tier_cents is None:
        return format_through(facts.payment_source)
    if facts.is_one_time:
        return f" with a one-time {format_dollars(facts.tier_cents)}"
    return format_a_month(facts.tier_cents)


# ------------------------------------------------------------------ other sources


def _consider_grant(
    sponsorable: str, grant: Grant, policy: EntitlementPolicy, now: datetime
) -> ConsideredSource:
    is_inherited = grant.source is EntitlementSource.ORGANIZATION
    is_entitled = grant.is_entitling(now)
    return ConsideredSource(
        source=grant.source,
        status=EntitlementStatus.ENTITLED if is_entitled else EntitlementStatus.NOT_ENTITLED,
        reason=explain(grant, sponsorable, now=now),
        tier_cents=grant.cents if policy.members_inherit_tier or not is_inherited else None,
        since=grant.since,
        until=grant.until,
        note=None if grant.actor is None else f"{grant.actor}: {grant.reason}",
    )
