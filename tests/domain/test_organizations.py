"""What an organization's sponsorship makes of its members' entitlement."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sponsorsync.domain.organizations import (
    SponsoringOrganization,
    find_member_until,
    mark_memberships_unknown,
    recompute_member,
    record_memberships,
)
from sponsorsync.domain.sources import EntitlementSource, Grant, PaymentSource
from tests.support.entitlements import (
    DAY,
    ENTITLED,
    LAPSED,
    NOT_A_SPONSOR,
    NOW,
    POLICY,
    TOMORROW,
    YESTERDAY,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sponsorsync.domain.entitlement import EntitlementFacts

POLICY_OF_MEMBERS = replace(POLICY, entitles_members=True, membership=timedelta(days=30))
ORG, OTHER_ORG = 17_562_948, 17_562_955
END_OF_DAY = NOW.replace(hour=0, minute=0) + 31 * DAY
OVERRIDE = Grant(source=EntitlementSource.OVERRIDE, since=YESTERDAY, until=None)


def _organization(facts: EntitlementFacts = ENTITLED, number: int = ORG) -> SponsoringOrganization:
    return SponsoringOrganization(id=number, login="sponsoring-org", facts=facts, has_seat=True)


def _see(
    *organizations: SponsoringOrganization,
    facts: EntitlementFacts = NOT_A_SPONSOR,
    hidden: tuple[int, ...] = (),
    is_complete: bool = True,
) -> EntitlementFacts:
    return record_memberships(
        facts,
        organizations,
        hidden=hidden,
        is_complete=is_complete,
        policy=POLICY_OF_MEMBERS,
        now=NOW,
    )


@pytest.mark.parametrize(
    ("sponsor", "until"),
    [
        (ENTITLED, END_OF_DAY),
        (replace(ENTITLED, valid_until=TOMORROW), TOMORROW),
        (replace(ENTITLED, valid_until=NOW + 90 * DAY), END_OF_DAY),
        (LAPSED, YESTERDAY),
    ],
    ids=["it goes on", "it ends soon", "it ends late", "it has ended"],
)
def test_a_member_is_entitled_while_both_hold(sponsor: EntitlementFacts, until: datetime) -> None:
    """The organization's sponsorship and the membership, of which only a login tells."""
    [grant] = _see(_organization(sponsor)).grants

    assert (grant.source, grant.until, grant.cents) == (EntitlementSource.ORGANIZATION, until, 1000)
    assert (grant.organization_id, grant.since) == (ORG, ENTITLED.since)


def test_logins_of_one_day_are_one_change() -> None:
    """Each change is told to durable and stands in the audit trail."""
    ends = {find_member_until(POLICY_OF_MEMBERS, NOW + timedelta(hours=h)) for h in range(11)}

    assert ends == {END_OF_DAY}


def test_what_else_entitles_somebody_stays() -> None:
    """A login tells of organizations, not of what an administrator decided."""
    assert _see(_organization(), facts=replace(ENTITLED, grants=(OVERRIDE,))).grants[0] == OVERRIDE


def test_who_left_an_organization_is_no_longer_entitled_by_it() -> None:
    """The next complete answer says so."""
    member = _see(_organization(), _organization(number=OTHER_ORG))

    left = _see(_organization(), facts=member)

    assert [grant.organization_id for grant in left.grants] == [ORG]
    assert left.memberships_unknown_since is None


def test_an_organization_that_hides_is_believed_for_its_time() -> None:
    """It may keep OAuth apps out from today on: that is no answer about its members."""
    member = _see(_organization(number=OTHER_ORG))

    seen = _see(_organization(), facts=member, hidden=(OTHER_ORG,), is_complete=False)

    assert {grant.organization_id for grant in seen.grants} == {ORG, OTHER_ORG}
    assert (seen.memberships_checked_at, seen.memberships_unknown_since) == (NOW, NOW)


def test_a_failed_look_leaves_what_was_seen_and_marks_it_once() -> None:
    """Unknown is not no."""
    member = _see(_organization())

    missed = mark_memberships_unknown(member, now=TOMORROW)
    again = mark_memberships_unknown(missed, now=TOMORROW + DAY)

    assert missed.grants == member.grants
    assert missed.memberships_unknown_since == again.memberships_unknown_since == TOMORROW


@pytest.mark.parametrize(
    ("sponsor", "until", "cents"),
    [
        (LAPSED, YESTERDAY, 1000),
        (replace(ENTITLED, tier_cents=5000), END_OF_DAY, 5000),
        (replace(ENTITLED, valid_until=TOMORROW), TOMORROW, 1000),
    ],
    ids=["it ended", "it gives more", "it will end"],
)
def test_members_follow_their_organization(
    sponsor: EntitlementFacts, until: datetime, cents: int
) -> None:
    """Without signing in again; what else entitles them stays."""
    member = _see(_organization(), facts=replace(NOT_A_SPONSOR, grants=(OVERRIDE,)))

    followed = recompute_member(member, ORG, sponsor, policy=POLICY_OF_MEMBERS)

    assert followed.grants[0] == OVERRIDE
    assert (followed.grants[1].until, followed.grants[1].cents) == (until, cents)


def test_an_organization_that_comes_back_entitles_its_members_again() -> None:
    """As long as their membership holds."""
    member = _see(_organization(LAPSED))

    followed = recompute_member(member, ORG, ENTITLED, policy=POLICY_OF_MEMBERS)

    assert followed.grants[0].until == END_OF_DAY


def test_an_organization_that_never_sponsored_entitles_nobody() -> None:
    """It may have been let in by hand, for itself."""
    member = _see(_organization())
    by_hand = replace(NOT_A_SPONSOR, grants=(OVERRIDE,))

    followed = recompute_member(member, ORG, by_hand, policy=POLICY_OF_MEMBERS)

    assert followed.grants == ()


def test_other_organizations_are_left_alone() -> None:
    """A change is about one."""
    member = _see(_organization(number=OTHER_ORG))

    assert recompute_member(member, ORG, LAPSED, policy=POLICY_OF_MEMBERS) == member


def test_an_organization_on_patreon_counts_as_the_maintainer_says() -> None:
    """GitHub never tells that tier, of organizations either."""
    through_patreon = replace(ENTITLED, tier_cents=None, payment_source=PaymentSource.PATREON)
    policy = replace(POLICY_OF_MEMBERS, hidden_tier_cents=300)
    member = _see(_organization())

    followed = recompute_member(member, ORG, through_patreon, policy=policy)

    assert followed.grants[0].cents == 300
