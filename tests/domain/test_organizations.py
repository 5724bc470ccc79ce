"""Grants of the members of sponsoring organizations."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.organizations import (
    SponsoringOrganization,
    compute_membership_end,
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

POLICY_OF_MEMBERS = replace(POLICY, entitles_members=True, membership=timedelta(days=30))
ORG, OTHER_ORG = 17_562_948, 17_562_955
END_OF_DAY = NOW.replace(hour=0, minute=0) + 31 * DAY
OVERRIDE = Grant(source=EntitlementSource.OVERRIDE, since=YESTERDAY, until=None)


def _organization(facts: EntitlementFacts = ENTITLED, number: int = ORG) -> SponsoringOrganization:
    return SponsoringOrganization(id=number, login="sponsoring-org", facts=facts, has_seat=True)


def _record(
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
def test_a_member_is_entitled_until_sponsorship_or_membership_ends(
    sponsor: EntitlementFacts, until: datetime
) -> None:
    """A grant needs both the sponsorship and the membership."""
    [grant] = _record(_organization(sponsor)).grants

    assert (grant.source, grant.until, grant.cents) == (EntitlementSource.ORGANIZATION, until, 1000)
    assert (grant.organization_id, grant.since) == (ORG, ENTITLED.since)


def test_logins_of_one_day_give_the_same_membership_end() -> None:
    """Each changed end would be copied to durable and written to the audit trail."""
    ends = {compute_membership_end(POLICY_OF_MEMBERS, NOW + timedelta(hours=h)) for h in range(11)}

    assert ends == {END_OF_DAY}


def test_recording_memberships_keeps_other_grants() -> None:
    """A sign-in shows organizations, but no overrides of administrators."""
    member = _record(_organization(), facts=replace(ENTITLED, grants=(OVERRIDE,)))

    assert member.grants[0] == OVERRIDE


def test_leaving_an_organization_removes_its_grant() -> None:
    """GitHub's answer is complete and no longer lists the organization."""
    member = _record(_organization(), _organization(number=OTHER_ORG))

    left = _record(_organization(), facts=member)

    assert [grant.organization_id for grant in left.grants] == [ORG]
    assert left.memberships_unknown_since is None


def test_the_grant_of_a_hidden_organization_stays_until_its_end() -> None:
    """The organization may have begun to restrict OAuth apps, so the membership is unknown."""
    member = _record(_organization(number=OTHER_ORG))

    seen = _record(_organization(), facts=member, hidden=(OTHER_ORG,), is_complete=False)

    assert {grant.organization_id for grant in seen.grants} == {ORG, OTHER_ORG}
    assert (seen.memberships_checked_at, seen.memberships_unknown_since) == (NOW, NOW)


def test_a_failed_check_keeps_memberships_and_marks_them_once() -> None:
    """Unknown is not 'no'; the mark has the time of the first failure."""
    member = _record(_organization())

    missed = mark_memberships_unknown(member, now=TOMORROW)
    again = mark_memberships_unknown(missed, now=TOMORROW + DAY)

    assert missed.grants == member.grants
    assert missed.memberships_unknown_since == again.memberships_unknown_since == TOMORROW


@pytest.mark.parametrize(
    ("before", "after", "until", "cents"),
    [
        (ENTITLED, LAPSED, YESTERDAY, 1000),
        (ENTITLED, replace(ENTITLED, tier_cents=5000), END_OF_DAY, 5000),
        (ENTITLED, replace(ENTITLED, valid_until=TOMORROW), TOMORROW, 1000),
        (LAPSED, ENTITLED, END_OF_DAY, 1000),
    ],
    ids=["it ended", "it gives more", "it will end", "it came back"],
)
def test_a_change_of_the_organization_changes_its_members_grants(
    before: EntitlementFacts, after: EntitlementFacts, until: datetime, cents: int
) -> None:
    """Members need not sign in again; their other grants stay."""
    member = _record(_organization(before), facts=replace(NOT_A_SPONSOR, grants=(OVERRIDE,)))

    changed = recompute_member(member, ORG, after, policy=POLICY_OF_MEMBERS)

    assert changed.grants[0] == OVERRIDE
    assert (changed.grants[1].until, changed.grants[1].cents) == (until, cents)


def test_an_override_of_an_organization_does_not_entitle_its_members() -> None:
    """An administrator's override entitles the organization's own account only."""
    member = _record(_organization())
    by_hand = replace(NOT_A_SPONSOR, grants=(OVERRIDE,))

    changed = recompute_member(member, ORG, by_hand, policy=POLICY_OF_MEMBERS)

    assert changed.grants == ()


def test_a_change_of_one_organization_keeps_the_grants_of_others() -> None:
    """The member's grant comes from another organization than the changed one."""
    member = _record(_organization(number=OTHER_ORG))

    assert recompute_member(member, ORG, LAPSED, policy=POLICY_OF_MEMBERS) == member


def test_an_organization_on_patreon_has_the_configured_tier() -> None:
    """GitHub sends no tier for a sponsorship through Patreon."""
    through_patreon = replace(ENTITLED, tier_cents=None, payment_source=PaymentSource.PATREON)
    policy = replace(POLICY_OF_MEMBERS, hidden_tier_cents=300)
    member = _record(_organization())

    changed = recompute_member(member, ORG, through_patreon, policy=policy)

    assert changed.grants[0].cents == 300
