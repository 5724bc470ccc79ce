"""Entitlement of the members of sponsoring organizations. Pure.

GitHub does not treat the members of a sponsoring organization as sponsors; the maintainer can
entitle them (`SPONSORSYNC_ORG_ENTITLEMENT`). A membership expires, because GitHub shows it only
when the member signs in.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy, cents_of
from sponsorsync.domain.sources import EntitlementSource, Grant


@dataclass(frozen=True, slots=True)
class SponsoringOrganization:
    """A member's organization that sponsors, or once did.

    `id` is GitHub's numeric id, `facts` are about the organization's own sponsorship, and
    `has_seat` is whether the member has one of the organization's seats.
    """

    id: int
    login: str
    facts: EntitlementFacts
    has_seat: bool


def compute_membership_end(policy: EntitlementPolicy, now: datetime) -> datetime:
    """Returns when a membership that GitHub shows now expires.

    This is at the end of a day, so that not every login changes the stored facts.
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
    """Returns a person's facts after GitHub showed the person's organizations.

    `hidden` are the ids of organizations that GitHub may have withheld: their grants stay until
    they end. `is_complete` says that GitHub withheld no organization.
    """
    member_until = compute_membership_end(policy, now)
    shown = [_create_grant(each, member_until, policy) for each in sponsoring]
    return replace(
        facts,
        grants=tuple(
            [g for g in facts.grants if g.source is not EntitlementSource.ORGANIZATION]
            + [g for g in facts.grants if g.organization_id in hidden]
            + sorted(shown, key=lambda grant: grant.organization_id or 0)
        ),
        memberships_checked_at=now,
        memberships_unknown_since=None if is_complete else facts.memberships_unknown_since or now,
    )


def mark_memberships_unknown(facts: EntitlementFacts, *, now: datetime) -> EntitlementFacts:
    """Returns the facts after GitHub did not show the person's organizations.

    Known memberships stay until they end.
    """
    return replace(facts, memberships_unknown_since=facts.memberships_unknown_since or now)


def recompute_member(
    facts: EntitlementFacts,
    organization_id: int,
    sponsor: EntitlementFacts,
    *,
    policy: EntitlementPolicy,
) -> EntitlementFacts:
    """Returns a member's facts after the organization's facts, `sponsor`, have changed.

    Only the organization's sponsorship entitles its members; its other grants do not.
    """
    is_sponsor = sponsor.source is EntitlementSource.SPONSORSHIP
    return replace(
        facts,
        grants=tuple(
            _recompute(grant, sponsor, policy)
            if grant.organization_id == organization_id
            else grant
            for grant in facts.grants
            if grant.organization_id != organization_id or is_sponsor
        ),
    )


def _create_grant(
    organization: SponsoringOrganization, member_until: datetime, policy: EntitlementPolicy
) -> Grant:
    grant = Grant(
        source=EntitlementSource.ORGANIZATION,
        since=organization.facts.since or member_until,
        until=None,
        organization_id=organization.id,
        organization=organization.login,
        member_until=member_until,
        has_seat=organization.has_seat,
    )
    return _recompute(grant, organization.facts, policy)


def _recompute(grant: Grant, sponsor: EntitlementFacts, policy: EntitlementPolicy) -> Grant:
    ends = [end for end in (grant.member_until, sponsor.valid_until) if end is not None]
    return replace(
        grant,
        since=sponsor.since or grant.since,
        until=min(ends) if ends else None,
        cents=cents_of(sponsor, policy),
    )
