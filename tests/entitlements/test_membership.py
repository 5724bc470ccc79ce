"""Sign-ins of members of a sponsoring organization: entitlement, hidden data and seats."""

import asyncio
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from sponsorsync.domain.entitlement import EntitlementStatus, evaluate
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from tests.conftest import SPONSORABLE
from tests.entitlements.conftest import Replica
from tests.support.use_cases import MEMBER, ORG, STRANGER


async def test_a_member_is_entitled_by_the_organizations_sponsorship(replica: Replica) -> None:
    """The member's own sign-in shows the public sponsorship; no maintainer's token is needed."""
    await replica.sign_in("org-member")

    entitlement = await replica.entitlement()
    assert (entitlement.status, entitlement.source) == (
        EntitlementStatus.ENTITLED,
        EntitlementSource.ORGANIZATION,
    )
    assert "sponsoring-org, to which you belong" in entitlement.reason
    assert await replica.local.sismember(keys.sponsors(SPONSORABLE), str(MEMBER))
    assert entitlement.tier_cents is None  # GitHub shows members no tier
    assert entitlement.since == replica.clock.now - timedelta(days=200)


async def test_a_membership_counts_for_a_month(replica: Replica) -> None:
    """Only the member's next sign-in shows whether the membership still exists."""
    await replica.sign_in("org-member")
    entitlement = await replica.entitlement()
    signed_in_at = replica.clock.now
    replica.clock.advance(days=32)

    later = await replica.entitlement()
    assert entitlement.until is not None
    assert timedelta(days=30) < entitlement.until - signed_in_at <= timedelta(days=31)
    assert later.status is EntitlementStatus.NOT_ENTITLED
    assert "GitHub has to confirm again" in later.reason


@pytest.mark.parametrize(
    ("overrides", "is_asked"), [({}, True), ({"org_entitlement": "off"}, False)], ids=["on", "off"]
)
async def test_organizations_are_requested_if_needed(replica: Replica, *, is_asked: bool) -> None:
    """GitHub's consent page lists each requested scope, so an unused one is not requested."""
    attempt = replica.services.sign_in.start(login_hint=None)

    [scope] = parse_qs(urlsplit(attempt.url).query)["scope"]
    assert ("read:org" in scope.split()) is is_asked


async def test_a_private_sponsorship_of_an_organization_entitles_members(replica: Replica) -> None:
    """The webhook has reported the sponsorship; members cannot see it, which proves no end."""
    replica.sponsorship.is_private = True
    await replica.report("created")
    await replica.sign_in("org-member")

    entitlement = await replica.entitlement()
    assert (entitlement.status, entitlement.tier_cents) == (EntitlementStatus.ENTITLED, 10_000)


async def test_a_shown_former_sponsorship_ends_no_private_one_of_the_org(replica: Replica) -> None:
    """Members see a former public sponsorship; the private one that entitles them goes on."""
    replica.sponsorship.is_private = True
    began = replica.sponsorship.created_at
    await replica.report("created")
    replica.github.people.sponsor("sponsoring-org", SPONSORABLE, days_ago=300, ended=True)
    replica.clock.advance(minutes=1)
    await replica.sign_in("org-member")

    organization = await replica.load_facts(ORG)
    assert organization.since == began
    entitlement = await replica.entitlement()
    assert (entitlement.status, entitlement.tier_cents) == (EntitlementStatus.ENTITLED, 10_000)


async def test_an_end_that_members_see_ends_the_stored_sponsorship(replica: Replica) -> None:
    """The sponsorship that members see as ended is the stored one."""
    await replica.report("created")
    replica.sponsorship.is_ended = True
    replica.clock.advance(minutes=1)
    await replica.sign_in("org-member")

    assert (await replica.entitlement()).status is EntitlementStatus.NOT_ENTITLED


async def test_a_better_sponsorship_of_the_organization_replaces_another(replica: Replica) -> None:
    """The stored one has an announced end; a new one, which members see, has none."""
    await replica.report("created")
    tomorrow = replica.clock.now + timedelta(days=1)
    await replica.report("pending_cancellation", effective_date=tomorrow)
    replica.github.people.sponsorships.remove(replica.sponsorship)
    present = replica.github.people.sponsor("sponsoring-org", SPONSORABLE, days_ago=0)
    replica.clock.advance(minutes=1)
    await replica.sign_in("org-member")

    organization = await replica.load_facts(ORG)
    assert (organization.since, organization.valid_until) == (present.created_at, None)


async def test_a_stored_tier_stays_when_a_sign_in_shows_none(replica: Replica) -> None:
    """GitHub shows a tier only to the organization and the maintainer."""
    await replica.report("created")
    await replica.sign_in("org-member")
    await replica.sign_in("org-member")

    organization = await replica.load_facts(ORG)
    assert organization.tier_cents == 10_000
    assert (await replica.entitlement()).tier_cents == 10_000


async def test_a_better_own_sponsorship_counts(replica: Replica) -> None:
    """The person's own tier is higher; `considered` still lists the organization's grant."""
    await replica.report("created")
    replica.github.people.sponsor("org-member", SPONSORABLE, cents=25_000, days_ago=1)
    await replica.sign_in("org-member")

    entitlement = await replica.entitlement()
    assert (entitlement.source, entitlement.tier_cents) == (EntitlementSource.SPONSORSHIP, 25_000)
    assert [(each.source, each.status) for each in entitlement.considered] == [
        (EntitlementSource.SPONSORSHIP, EntitlementStatus.ENTITLED),
        (EntitlementSource.ORGANIZATION, EntitlementStatus.ENTITLED),
    ]


async def test_a_former_member_is_not_entitled_after_the_next_sign_in(replica: Replica) -> None:
    """The seat becomes free for another member."""
    await replica.sign_in("org-member")
    replica.organization.members.clear()
    await replica.sign_in("org-member")

    assert (await replica.entitlement()).status is EntitlementStatus.NOT_ENTITLED
    assert await replica.load_seats() == set()
    assert not await replica.local.sismember(keys.sponsors(SPONSORABLE), str(MEMBER))


async def test_a_renamed_organization_stays_the_same(replica: Replica) -> None:
    """The account number identifies the organization; the reason has the new name."""
    await replica.sign_in("org-member")
    replica.github.people.rename("sponsoring-org", "renamed-org")
    await replica.sign_in("org-member")

    entitlement = await replica.entitlement()
    assert entitlement.status is EntitlementStatus.ENTITLED
    assert "renamed-org" in entitlement.reason
    assert await replica.load_seats() == {MEMBER}


async def test_the_next_owner_of_a_login_inherits_no_membership(replica: Replica) -> None:
    """A new person and a new organization register the logins of two renamed accounts."""
    await replica.sign_in("org-member")
    people = replica.github.people
    people.rename("org-member", "renamed-member")
    people.rename("sponsoring-org", "renamed-org")
    other = people.add_person("org-member")
    people.add_organization("sponsoring-org", members=[other])
    await replica.sign_in("org-member")

    assert (await replica.entitlement(other.database_id)).status is EntitlementStatus.NOT_ENTITLED
    assert await replica.load_seats() == {MEMBER}


async def test_memberships_may_be_switched_off(replica: Replica, settings: Settings) -> None:
    """With `org_entitlement` off, a stored grant of an organization does not entitle."""
    await replica.sign_in("org-member")
    off = settings.model_copy(update={"org_entitlement": "off"}).entitlement_policy

    facts = await replica.load_facts(MEMBER)
    entitlement = evaluate(SPONSORABLE, facts, policy=off, now=replica.clock())
    assert entitlement.status is EntitlementStatus.NOT_ENTITLED
    assert [each.source for each in entitlement.considered] == [EntitlementSource.SPONSORSHIP]


async def test_an_organization_that_restricts_apps_is_unknown(replica: Replica) -> None:
    """GitHub lists null in place of an organization that restricts OAuth apps."""
    replica.github.switches.restricting_organization = "sponsoring-org"
    await replica.sign_in("org-member")

    assert (await replica.entitlement()).status is EntitlementStatus.UNKNOWN


async def test_a_membership_stays_for_its_time_while_apps_are_restricted(replica: Replica) -> None:
    """The organization begins to hide itself, so its grant stays, but is not prolonged."""
    await replica.sign_in("org-member")
    seen = await replica.entitlement()
    replica.github.switches.restricting_organization = "sponsoring-org"
    replica.clock.advance(days=3)
    await replica.sign_in("org-member")

    entitlement = await replica.entitlement()
    assert (entitlement.status, entitlement.until) == (EntitlementStatus.ENTITLED, seen.until)
    assert await replica.load_seats() == {MEMBER}


async def test_memberships_are_unknown_without_the_scope(replica: Replica) -> None:
    """A person may remove the scope on GitHub's consent page."""
    await replica.sign_in("stranger")
    replica.github.switches.insufficient_scopes = True
    await replica.sign_in("stranger")

    facts = await replica.load_facts(STRANGER)
    assert facts.memberships_unknown_since is not None
    assert (await replica.entitlement(STRANGER)).status is EntitlementStatus.UNKNOWN


@pytest.mark.parametrize("overrides", [{"org_seats": 2}])
async def test_of_three_members_two_get_the_two_seats(replica: Replica) -> None:
    """The reason of the third member says that the seats are taken."""
    numbers = [MEMBER, *replica.add_members("member-2", "member-3")]
    await asyncio.gather(*map(replica.sign_in, ("org-member", "member-2", "member-3")))

    entitlements = {number: await replica.entitlement(number) for number in numbers}
    entitled = {n for n, each in entitlements.items() if each.status is EntitlementStatus.ENTITLED}
    [left] = set(numbers) - entitled
    assert (len(entitled), await replica.load_seats()) == (2, entitled)
    assert "its seats are taken by other members" in entitlements[left].reason


@pytest.mark.parametrize("overrides", [{"org_seats": 1}])
async def test_a_member_who_signs_in_again_keeps_the_seat(replica: Replica) -> None:
    """The second sign-in prolongs the grant; the other member still gets no seat."""
    [other] = replica.add_members("member-2")
    await replica.sign_in("org-member")
    first = await replica.entitlement()
    replica.clock.advance(days=5)
    await replica.sign_in("member-2")
    await replica.sign_in("org-member")

    entitlement = await replica.entitlement()
    assert first.until is not None
    assert entitlement.until == first.until + timedelta(days=5)
    assert (await replica.entitlement(other)).status is EntitlementStatus.NOT_ENTITLED
    assert await replica.load_seats() == {MEMBER}


@pytest.mark.parametrize("overrides", [{"org_seats": 1}])
async def test_a_seat_is_free_when_its_membership_is_over(replica: Replica) -> None:
    """The clock of Redis decides, so the first sign-in was long ago."""
    [other] = replica.add_members("member-2")
    replica.clock.advance(days=-40)
    await replica.sign_in("org-member")
    replica.clock.advance(days=40)
    await replica.sign_in("member-2")

    assert (await replica.entitlement(other)).status is EntitlementStatus.ENTITLED
    assert await replica.load_seats() == {other}


@pytest.mark.parametrize("overrides", [{"org_seats": 1}])
async def test_a_former_members_seat_goes_to_another_member(replica: Replica) -> None:
    """The seat becomes free when the former member signs in again."""
    [other] = replica.add_members("member-2")
    await replica.sign_in("org-member")
    await replica.sign_in("member-2")
    refused = await replica.entitlement(other)
    replica.organization.members.remove(replica.github.people.get_person("org-member"))
    await replica.sign_in("org-member")
    await replica.sign_in("member-2")

    assert refused.status is EntitlementStatus.NOT_ENTITLED
    assert (await replica.entitlement(other)).status is EntitlementStatus.ENTITLED
    assert await replica.load_seats() == {other}


@pytest.mark.parametrize("overrides", [{"org_seats": 1}])
async def test_a_deleted_account_gives_up_its_seat(replica: Replica) -> None:
    """Data of a deleted person must not keep other members out."""
    await replica.sign_in("org-member")
    await replica.services.personal_data.delete(MEMBER)

    assert await replica.load_seats() == set()
