"""Organizations that sponsor, and what that makes of their members' entitlement. Pure.

An organization's sponsorship does not make its members sponsors by GitHub's word; it is the
maintainer who may decide so (`SPONSORSYNC_ORG_ENTITLEMENT`). Who belongs to it, only a member's own
login shows, so a membership holds for a bounded time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sponsorsync.domain.entitlement import cents_of
from sponsorsync.domain.sources import EntitlementSource, Grant

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy


@dataclass(frozen=True, slots=True)
class SponsoringOrganization:
    """An organization to which somebody belongs and that sponsors, or once did.

    Attributes:
        id: GitHub's number.
        facts: Of its own entitlement by the sponsorable.
        has_seat: Whether one of its seats is the member's.
    """

    id: int
    login: str
    facts: EntitlementFacts
    has_seat: bool


def compute_membership_end(policy: EntitlementPolicy, now: datetime) -> datetime:
    """Returns until when a membership that is seen now holds: the end of that day.

    Whole days, so that not each login is a change.
    """
    day = (now + policy.membership).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + timedelta(days=1)


def record_memberships(
    facts: EntitlementFacts,
    sponsoring: Sequence[SponsoringOrganization],
    *,
    hidden: Collection[int],
    is_complete: bool,
    policy: EntitlementPolicy,
    now: datetime,
) -> EntitlementFacts:
    """Returns the facts after GitHub showed to which organizations a person belongs.

    Args:
        facts: Of the person's entitlement.
        sponsoring: Those of them that sponsor.
        hidden: Numbers of organizations of former grants that GitHub may have left out now; theirs
            stay until their time is over.
        is_complete: GitHub left out none.
        policy: How long a membership holds.
        now: The moment of the answer.
    """
    member_until = compute_membership_end(policy, now)
    seen = [_grant(each, member_until, policy) for each in sponsoring]
    return replace(
        facts,
        grants=tuple(
            [g for g in facts.grants if g.source is not EntitlementSource.ORGANIZATION]
            + [g for g in facts.grants if g.organization_id in hidden]
            + sorted(seen, key=lambda grant: grant.organization_id or 0)
        ),
        memberships_checked_at=now,
        memberships_unknown_since=None if is_complete else facts.memberships_unknown_since or now,
    )


def mark_memberships_unknown(facts: EntitlementFacts, *, now: datetime) -> EntitlementFacts:
    """Returns the facts after GitHub did not show them; what was seen holds for its time."""
    return replace(facts, memberships_unknown_since=facts.memberships_unknown_since or now)


def recompute_member(
    facts: EntitlementFacts,
    organization_id: int,
    sponsor: EntitlementFacts,
    *,
    policy: EntitlementPolicy,
) -> EntitlementFacts:
    """Returns a member's facts after those of an organization have changed.

    What else entitles an organization than its sponsorship is for itself alone.
    """
    is_sponsor = sponsor.source is EntitlementSource.SPONSORSHIP
    return replace(
        facts,
        grants=tuple(
            _follow(grant, sponsor, policy) if grant.organization_id == organization_id else grant
            for grant in facts.grants
            if grant.organization_id != organization_id or is_sponsor
        ),
    )


def _grant(
    organization: SponsoringOrganization, member_until: datetime, policy: EntitlementPolicy
) -> Grant:
    known = Grant(
        source=EntitlementSource.ORGANIZATION,
        since=organization.facts.since or member_until,
        until=None,
        organization_id=organization.id,
        organization=organization.login,
        member_until=member_until,
        has_seat=organization.has_seat,
    )
    return _follow(known, organization.facts, policy)


def _follow(grant: Grant, sponsor: EntitlementFacts, policy: EntitlementPolicy) -> Grant:
    ends = [end for end in (grant.member_until, sponsor.valid_until) if end is not None]
    return replace(
        grant,
        since=sponsor.since or grant.since,
        until=min(ends) if ends else None,
        cents=cents_of(sponsor, policy),
    )
