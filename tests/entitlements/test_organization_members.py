"""Members of sponsoring organizations: how they become entitled, and what changes that."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from sponsorsync.app import create_app
from sponsorsync.domain.audit import Decision
from sponsorsync.domain.entitlement import EntitlementStatus, evaluate
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.entitlements.organization_members import Members
from sponsorsync.sandbox.hooks import Hook
from sponsorsync.sandbox.people import Organization, Tier
from sponsorsync.store import keys
from sponsorsync.store.organizations import OrganizationStore
from tests.conftest import GITHUB_URL, ORIGIN, SPONSORABLE
from tests.support.proxy import TcpProxy, run_proxy
from tests.support.sync import COLLECTION
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from sponsorsync.domain.entitlement import Entitlement, EntitlementFacts
    from sponsorsync.sandbox.github import SimulatedGitHub
    from sponsorsync.sandbox.hooks import Action
    from sponsorsync.sandbox.people import Sponsorship
    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.settings import Settings
    from sponsorsync.store.entitlements import EntitlementStore
    from sponsorsync.web.services import Services
    from tests.conftest import Clock

ORG, MEMBER, STRANGER = 17_562_948, 90_126_733, 112_493_071
FIELD = f"{SPONSORABLE}:{ORG}"
SECRET = "a-secret-shared-with-github"
ADMIN = Decision("admin", "helped with the release")
NEVER_S = 3600.0


@dataclass
class Replica:
    """The service as it is wired, whose own loop follows nothing while a test runs.

    Attributes:
        members: What follows when it is told to.
        entitlements: Where entitles are kept.
        organizations: Where their changes are noted.
    """

    services: Services
    members: Members
    entitlements: EntitlementStore
    organizations: OrganizationStore
    github: SimulatedGitHub
    local: Redis
    clock: Clock

    @property
    def organization(self) -> Organization:
        """The organization that sponsors."""
        return cast("Organization", self.github.people.by_id(ORG))

    @property
    def sponsorship(self) -> Sponsorship:
        """What the organization gives."""
        [sponsorship] = self.github.people.sponsorships_of(self.organization)
        return sponsorship

    def add_members(self, *logins: str) -> list[int]:
        """Lets more people belong to the organization; returns their numbers."""
        people = [self.github.people.add_person(login) for login in logins]
        self.organization.members += people
        return [person.database_id for person in people]

    async def sign_in(self, login: str = "org-member") -> int:
        """Goes by GitHub's page and comes back with a code; returns who that was."""
        attempt = self.services.login.start(login_hint=login)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.github.app)) as browser:
            redirect = await browser.get(attempt.url)
        [code] = parse_qs(urlsplit(redirect.headers["location"]).query)["code"]
        done = await self.services.login.finish(
            code=code, code_verifier=attempt.code_verifier, replaces=None
        )
        return done.profile.id

    async def tell(self, action: Action, **more: Any) -> None:  # noqa: ANN401 - tell's own
        """Has GitHub tell of the organization's sponsorship by its webhook."""
        hook = Hook(url=ORIGIN, secret=SECRET, base_url=GITHUB_URL)
        delivery = hook.tell(action, self.sponsorship, **more)
        headers = delivery.headers(SECRET)
        await self.services.webhooks.receive(
            delivery.body,
            event=delivery.event,
            delivery=delivery.number,
            signature=headers["X-Hub-Signature-256"],
        )

    async def facts(self, person_id: int = MEMBER) -> EntitlementFacts | None:
        """Returns what is kept of somebody."""
        return (await self.entitlements.load(SPONSORABLE, [person_id]))[person_id].facts

    async def entitlement(self, person_id: int = MEMBER) -> Entitlement:
        """Returns the answer that the service gives about somebody."""
        facts = await self.facts(person_id)
        return evaluate(SPONSORABLE, facts, policy=self.services.policy, now=self.clock())

    async def seats(self) -> set[int]:
        """Returns who has a seat."""
        found = await self.local.zrange(keys.members(SPONSORABLE, ORG), 0, -1)
        return {int(cast("str", each)) for each in found}

    async def noted(self) -> dict[str, str]:
        """Returns whose members have to be judged again, and by which note."""
        found = await self.local.hgetall(keys.ORGANIZATIONS)
        return {str(field): str(note) for field, note in found.items()}


@pytest.fixture
def look_s() -> float:
    """How long the service's own loop rests; a test may say otherwise."""
    return NEVER_S


@pytest.fixture
def org_settings() -> dict[str, Any]:
    """Settings of a test's own."""
    return {}


@pytest.fixture
def member_settings(settings: Settings, org_settings: dict[str, Any]) -> Settings:
    """Settings of a service that entitles members: with a webhook, without a maintainer's token."""
    own = {"org_entitlement": "members", "webhook_secret": SecretStr(SECRET)}
    return settings.model_copy(update=own | org_settings)


@pytest.fixture(autouse=True)
def _pace(clock: Clock, look_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis keeps whole seconds; the service's own loop rests."""
    clock.now = clock.now.replace(microsecond=0)
    monkeypatch.setattr("sponsorsync.entitlements.organization_members._LOOK_S", look_s)


@asynccontextmanager
async def open_replica(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock
) -> AsyncIterator[Replica]:
    """Runs the service, its engine included where there is a durable side."""
    app = create_app(settings, github_transport=httpx.ASGITransport(github.app), clock=clock)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        services = state["services"]
        entitlements = services.overrides._entitlements
        organizations = OrganizationStore(services.local)
        members = Members(entitlements, organizations, policy=services.policy, clock=clock)
        yield Replica(services, members, entitlements, organizations, github, local, clock)


@pytest.fixture
async def replica(
    member_settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock
) -> AsyncIterator[Replica]:
    """The service on one Redis."""
    async with open_replica(member_settings, github, local, clock) as opened:
        yield opened


# ---------------------------------------------------------------------- a sign-in


async def test_a_member_is_entitled_by_what_the_organization_gives(replica: Replica) -> None:
    """No maintainer's token is there: the member's own login shows the public sponsorship."""
    await replica.sign_in()

    entitlement = await replica.entitlement()
    assert (entitlement.status, entitlement.source) == (
        EntitlementStatus.ENTITLED,
        EntitlementSource.ORGANIZATION,
    )
    assert "sponsoring-org, to which you belong" in entitlement.reason
    assert await replica.local.sismember(keys.sponsors(SPONSORABLE), str(MEMBER))
    assert entitlement.tier_cents is None  # GitHub shows members no tier
    assert entitlement.since == replica.clock.now - timedelta(days=200)


async def test_a_membership_holds_for_its_time(replica: Replica) -> None:
    """Nobody but the member's next login shows whether it goes on."""
    await replica.sign_in()
    entitlement = await replica.entitlement()
    signed_in_at = replica.clock.now
    replica.clock.advance(days=32)

    later = await replica.entitlement()
    assert entitlement.until is not None
    assert timedelta(days=30) < entitlement.until - signed_in_at <= timedelta(days=31)
    assert later.status is EntitlementStatus.NOT_ENTITLED
    assert "GitHub has to confirm again" in later.reason


@pytest.mark.parametrize(
    ("org_settings", "is_asked"),
    [({}, True), ({"org_entitlement": "off"}, False)],
    ids=["on", "off"],
)
async def test_organizations_are_asked_for_only_where_they_entitle(
    replica: Replica, *, is_asked: bool
) -> None:
    """Who signs in reads on GitHub's page what an installation wants to know of them."""
    attempt = replica.services.login.start(login_hint=None)

    [scope] = parse_qs(urlsplit(attempt.url).query)["scope"]
    assert ("read:org" in scope.split()) is is_asked


async def test_a_private_sponsorship_that_the_webhook_told_entitles_members(
    replica: Replica,
) -> None:
    """Its members do not see it, and nothing is concluded from that."""
    replica.sponsorship.is_private = True
    await replica.tell("created")
    await replica.sign_in()

    entitlement = await replica.entitlement()
    assert (entitlement.status, entitlement.tier_cents) == (EntitlementStatus.ENTITLED, 10_000)


async def test_a_former_sponsorship_that_members_see_ends_no_private_one(replica: Replica) -> None:
    """Its members see that one alone, and it is not the one that entitles them."""
    replica.sponsorship.is_private = True
    began = replica.sponsorship.created_at
    await replica.tell("created")
    replica.github.people.sponsor("sponsoring-org", SPONSORABLE, days_ago=300, ended=True)
    replica.clock.advance(minutes=1)
    await replica.sign_in()

    organization = await replica.facts(ORG)
    assert organization is not None
    assert organization.since == began
    entitlement = await replica.entitlement()
    assert (entitlement.status, entitlement.tier_cents) == (EntitlementStatus.ENTITLED, 10_000)


async def test_an_end_that_members_see_ends_what_was_known(replica: Replica) -> None:
    """It is shown, so it is not another one that is kept back."""
    await replica.tell("created")
    replica.sponsorship.is_ended = True
    replica.clock.advance(minutes=1)
    await replica.sign_in()

    assert (await replica.entitlement()).status is EntitlementStatus.NOT_ENTITLED


async def test_another_sponsorship_that_is_better_takes_the_place_of_the_known(
    replica: Replica,
) -> None:
    """What is known may be one that ends; the present one has no end."""
    await replica.tell("created")
    tomorrow = replica.clock.now + timedelta(days=1)
    await replica.tell("pending_cancellation", effective_date=tomorrow)
    replica.github.people.sponsorships.remove(replica.sponsorship)
    present = replica.github.people.sponsor("sponsoring-org", SPONSORABLE, days_ago=0)
    replica.clock.advance(minutes=1)
    await replica.sign_in()

    organization = await replica.facts(ORG)
    assert organization is not None
    assert (organization.since, organization.valid_until) == (present.created_at, None)


async def test_a_tier_that_is_known_stays_when_a_login_shows_none(replica: Replica) -> None:
    """Only the two sides of a sponsorship see it: webhook and comparison do."""
    await replica.tell("created")
    await replica.sign_in()
    await replica.sign_in()

    organization = await replica.facts(ORG)
    assert organization is not None
    assert organization.tier_cents == 10_000
    assert (await replica.entitlement()).tier_cents == 10_000


async def test_a_better_sponsorship_of_their_own_counts(replica: Replica) -> None:
    """And the other one is still told."""
    await replica.tell("created")
    replica.github.people.sponsor("org-member", SPONSORABLE, cents=25_000, days_ago=1)
    await replica.sign_in()

    entitlement = await replica.entitlement()
    assert (entitlement.source, entitlement.tier_cents) == (EntitlementSource.SPONSORSHIP, 25_000)
    assert [(each.source, each.status) for each in entitlement.considered] == [
        (EntitlementSource.SPONSORSHIP, EntitlementStatus.ENTITLED),
        (EntitlementSource.ORGANIZATION, EntitlementStatus.ENTITLED),
    ]


async def test_who_left_is_not_entitled_from_their_next_login_on(replica: Replica) -> None:
    """Their seat is somebody else's then."""
    await replica.sign_in()
    replica.organization.members.clear()
    await replica.sign_in()

    assert (await replica.entitlement()).status is EntitlementStatus.NOT_ENTITLED
    assert await replica.seats() == set()
    assert not await replica.local.sismember(keys.sponsors(SPONSORABLE), str(MEMBER))


async def test_an_organization_that_was_renamed_is_the_same(replica: Replica) -> None:
    """Its number counts; its name is that of the last login."""
    await replica.sign_in()
    replica.github.people.rename("sponsoring-org", "renamed-org")
    await replica.sign_in()

    entitlement = await replica.entitlement()
    assert entitlement.status is EntitlementStatus.ENTITLED
    assert "renamed-org" in entitlement.reason
    assert await replica.seats() == {MEMBER}


async def test_who_takes_a_freed_login_inherits_no_membership(replica: Replica) -> None:
    """Neither another person the member's, nor another organization its members'."""
    await replica.sign_in()
    people = replica.github.people
    people.rename("org-member", "renamed-member")
    people.rename("sponsoring-org", "renamed-org")
    other = people.add_person("org-member")
    people.add_organization("sponsoring-org", members=[other])
    await replica.sign_in("org-member")

    assert (await replica.entitlement(other.database_id)).status is EntitlementStatus.NOT_ENTITLED
    assert await replica.seats() == {MEMBER}


async def test_switched_off_again_what_was_kept_entitles_nobody(
    replica: Replica, settings: Settings
) -> None:
    """It is the maintainer who decides, at any time."""
    await replica.sign_in()
    off = settings.model_copy(update={"org_entitlement": "off"}).entitlement_policy

    facts = await replica.facts()
    entitlement = evaluate(SPONSORABLE, facts, policy=off, now=replica.clock())
    assert entitlement.status is EntitlementStatus.NOT_ENTITLED
    assert [each.source for each in entitlement.considered] == [EntitlementSource.SPONSORSHIP]


# ---------------------------------------------------------------------- what GitHub keeps back


async def test_an_organization_that_keeps_apps_out_is_unknown_not_no(replica: Replica) -> None:
    """GitHub shows a hole in its place."""
    replica.github.switches.restricting_organization = "sponsoring-org"
    await replica.sign_in()

    assert (await replica.entitlement()).status is EntitlementStatus.UNKNOWN


async def test_what_was_seen_before_stays_while_it_is_kept_back(replica: Replica) -> None:
    """For its time, and not longer than that."""
    await replica.sign_in()
    seen = await replica.entitlement()
    replica.github.switches.restricting_organization = "sponsoring-org"
    replica.clock.advance(days=3)
    await replica.sign_in()

    entitlement = await replica.entitlement()
    assert (entitlement.status, entitlement.until) == (EntitlementStatus.ENTITLED, seen.until)
    assert await replica.seats() == {MEMBER}


async def test_without_the_scope_it_is_unknown(replica: Replica) -> None:
    """Somebody may have taken it off on GitHub's page."""
    await replica.sign_in("stranger")
    replica.github.switches.insufficient_scopes = True
    await replica.sign_in("stranger")

    facts = await replica.facts(STRANGER)
    assert facts is not None
    assert facts.memberships_unknown_since is not None
    assert (await replica.entitlement(STRANGER)).status is EntitlementStatus.UNKNOWN


# ---------------------------------------------------------------------- the organization changes


async def test_an_end_of_the_organizations_sponsorship_ends_its_members_entitlements(
    replica: Replica,
) -> None:
    """Nobody of them has to sign in for it."""
    await replica.tell("created")
    await replica.sign_in()
    await replica.members.follow()
    replica.clock.advance(seconds=-1)  # so that the end has come
    await replica.tell("cancelled")
    replica.clock.advance(seconds=1)
    noted = await replica.noted()
    await replica.members.follow()

    assert set(noted) == {FIELD}
    assert await replica.noted() == {}
    entitlement = await replica.entitlement()
    assert entitlement.status is EntitlementStatus.NOT_ENTITLED
    assert "sponsoring-org, to which you belong, ended" in entitlement.reason
    assert not await replica.local.sismember(keys.sponsors(SPONSORABLE), str(MEMBER))


async def test_another_tier_of_the_organization_is_its_members(replica: Replica) -> None:
    """Within a follow."""
    await replica.tell("created")
    await replica.sign_in()
    await replica.members.follow()  # who joins is noted, too
    replica.sponsorship.tier = Tier(50_000)
    await replica.tell("tier_changed", former_cents=10_000)
    await replica.members.follow()

    assert (await replica.entitlement()).tier_cents == 50_000


async def test_an_organization_that_sponsors_again_entitles_its_members_again(
    replica: Replica,
) -> None:
    """As long as their memberships hold; they keep their seats meanwhile."""
    await replica.tell("created")
    await replica.sign_in()
    await replica.members.follow()  # who joins is noted, too
    await replica.tell("cancelled")
    await replica.members.follow()
    replica.github.people.sponsorships.remove(replica.sponsorship)
    replica.github.people.sponsor("sponsoring-org", SPONSORABLE, cents=3000, days_ago=0)
    replica.clock.advance(minutes=1)
    ended = await replica.entitlement()
    await replica.tell("created")
    await replica.members.follow()

    entitlement = await replica.entitlement()
    assert ended.status is EntitlementStatus.NOT_ENTITLED
    assert (entitlement.status, entitlement.tier_cents) == (EntitlementStatus.ENTITLED, 3000)


async def test_what_follows_an_organization_is_audited_as_its_doing(replica: Replica) -> None:
    """The audit trail says that it was the organization's doing."""
    await replica.tell("created")
    await replica.sign_in()
    await replica.members.follow()  # who joins is noted, too
    replica.sponsorship.tier = Tier(50_000)
    await replica.tell("tier_changed", former_cents=10_000)
    await replica.members.follow()

    [*_, last] = await replica.services.audit.load(before=None, limit=1)
    assert (last.person_id, last.what, last.by) == (MEMBER, "changed", "organization")


@pytest.mark.parametrize("look_s", [0.01])
async def test_the_service_follows_by_itself(replica: Replica) -> None:
    """Nobody has to tell it to."""
    await replica.tell("created")
    await replica.sign_in()
    replica.sponsorship.tier = Tier(50_000)
    await replica.tell("tier_changed", former_cents=10_000)

    async def is_followed() -> bool:
        return (await replica.entitlement()).tier_cents == 50_000 and not await replica.noted()

    await until(is_followed)


@pytest.mark.parametrize("look_s", [0.01])
async def test_the_service_goes_on_after_an_error_of_any_kind(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would learn that members are followed no more."""
    await replica.tell("created")
    await replica.sign_in()
    find = OrganizationStore.find_changed_organizations

    async def fail_once(_: OrganizationStore) -> Any:  # noqa: ANN401 - find's own
        monkeypatch.setattr(OrganizationStore, "find_changed_organizations", find)
        raise ZeroDivisionError

    monkeypatch.setattr(OrganizationStore, "find_changed_organizations", fail_once)
    replica.sponsorship.tier = Tier(50_000)
    await replica.tell("tier_changed", former_cents=10_000)

    async def is_followed() -> bool:
        return (await replica.entitlement()).tier_cents == 50_000 and not await replica.noted()

    await until(is_followed)
    assert OrganizationStore.find_changed_organizations is find


async def test_what_somebody_else_wrote_among_the_notes_keeps_nobody_waiting(
    replica: Replica,
) -> None:
    """It is removed, and told of."""
    await replica.tell("created")
    await replica.sign_in()
    foreign = ["x", "", "maintainer:", f"{FIELD}:x", "ä:1", f"{SPONSORABLE}:{'9' * 5000}"]
    await replica.local.hset(keys.ORGANIZATIONS, mapping=dict.fromkeys(foreign, "x"))
    await replica.local.zadd(keys.members(SPONSORABLE, ORG), {"x": 1e10})
    replica.sponsorship.tier = Tier(50_000)
    await replica.tell("tier_changed", former_cents=10_000)
    with capture_logs() as logs:
        await replica.members.follow()

    assert (await replica.entitlement()).tier_cents == 50_000
    assert await replica.noted() == {}
    assert {log["field"] for log in logs if log["log_level"] == "warning"} == set(foreign)


async def test_whoever_dies_in_the_middle_leaves_the_note(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one does the rest."""
    [other] = replica.add_members("member-2")
    await replica.tell("created")
    await replica.sign_in()
    await replica.sign_in("member-2")
    replica.sponsorship.tier = Tier(50_000)
    await replica.tell("tier_changed", former_cents=10_000)
    save, calls = replica.entitlements.save, []

    async def die_at_the_second(*arguments: Any) -> Any:  # noqa: ANN401 - save's own
        calls.append(arguments)
        if len(calls) > 1:
            raise StoreUnavailableError("killed")
        return await save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("sponsorsync.entitlements.organization_members._CHUNK", 1)
        patch.setattr(replica.entitlements, "save", die_at_the_second)
        with pytest.raises(StoreUnavailableError):
            await replica.members.follow()
    halfway = {(await replica.entitlement(each)).tier_cents for each in (MEMBER, other)}
    noted = await replica.noted()
    await replica.members.follow()

    assert halfway == {10_000, 50_000}
    assert FIELD in noted
    assert {(await replica.entitlement(each)).tier_cents for each in (MEMBER, other)} == {50_000}
    assert await replica.noted() == {}


async def test_an_organization_that_changes_meanwhile_is_followed_again(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read at the beginning is not the last word."""
    await replica.tell("created")
    await replica.sign_in()
    await replica.members.follow()
    await replica.tell("edited")
    load_members = replica.organizations.load_members

    async def change_once_more(*arguments: Any) -> list[int]:  # noqa: ANN401 - load_members' own
        replica.sponsorship.tier = Tier(50_000)
        await replica.tell("tier_changed", former_cents=10_000)
        return await load_members(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(replica.organizations, "load_members", change_once_more)
        await replica.members.follow()
    noted, old = await replica.noted(), await replica.entitlement()
    await replica.members.follow()

    assert (set(noted), old.tier_cents) == ({FIELD}, 10_000)
    assert (await replica.entitlement()).tier_cents == 50_000
    assert await replica.noted() == {}


async def test_a_change_that_came_after_the_note_was_removed_is_kept(replica: Replica) -> None:
    """One replica removes what it read; of another one's change in between it knows nothing."""
    await replica.tell("created")
    await replica.sign_in()
    await replica.members.follow()
    await replica.tell("edited")
    [changed] = await replica.organizations.find_changed_organizations()
    await replica.members.follow()  # another replica
    await replica.tell("cancelled")
    await replica.organizations.settle_organizations(changed.entries)

    assert set(await replica.noted()) == {FIELD}


async def test_two_replicas_may_follow_at_once(replica: Replica) -> None:
    """Versions decide, and nobody is judged on what was before."""
    others = replica.add_members("member-2", "member-3")
    await replica.tell("created")
    for login in ("org-member", "member-2", "member-3"):
        await replica.sign_in(login)
    replica.sponsorship.tier = Tier(50_000)
    await replica.tell("tier_changed", former_cents=10_000)
    await asyncio.gather(*(replica.members.follow() for _ in range(4)))

    tiers = {(await replica.entitlement(each)).tier_cents for each in (MEMBER, *others)}
    assert tiers == {50_000}
    assert await replica.noted() == {}


# ---------------------------------------------------------------------- seats


@pytest.mark.parametrize("org_settings", [{"org_seats": 2}])
async def test_of_three_members_at_once_two_have_a_seat(replica: Replica) -> None:
    """The third is told why not."""
    numbers = [MEMBER, *replica.add_members("member-2", "member-3")]
    await asyncio.gather(*map(replica.sign_in, ("org-member", "member-2", "member-3")))

    entitlements = {number: await replica.entitlement(number) for number in numbers}
    entitled = {n for n, each in entitlements.items() if each.status is EntitlementStatus.ENTITLED}
    [left] = set(numbers) - entitled
    assert (len(entitled), await replica.seats()) == (2, entitled)
    assert "its seats are taken by other members" in entitlements[left].reason


@pytest.mark.parametrize("org_settings", [{"org_seats": 1}])
async def test_who_signs_in_again_keeps_their_seat(replica: Replica) -> None:
    """And for longer than before."""
    [other] = replica.add_members("member-2")
    await replica.sign_in()
    first = await replica.entitlement()
    replica.clock.advance(days=5)
    await replica.sign_in("member-2")
    await replica.sign_in()

    entitlement = await replica.entitlement()
    assert first.until is not None
    assert entitlement.until == first.until + timedelta(days=5)
    assert (await replica.entitlement(other)).status is EntitlementStatus.NOT_ENTITLED
    assert await replica.seats() == {MEMBER}


@pytest.mark.parametrize("org_settings", [{"org_seats": 1}])
async def test_a_seat_is_free_when_a_membership_was_not_shown_for_long(
    replica: Replica,
) -> None:
    """Redis' clock decides, so the first login was long ago."""
    [other] = replica.add_members("member-2")
    replica.clock.advance(days=-40)
    await replica.sign_in()
    replica.clock.advance(days=40)
    await replica.sign_in("member-2")

    assert (await replica.entitlement(other)).status is EntitlementStatus.ENTITLED
    assert await replica.seats() == {other}


@pytest.mark.parametrize("org_settings", [{"org_seats": 1}])
async def test_a_seat_that_was_given_up_is_somebody_elses(replica: Replica) -> None:
    """Whoever leaves makes room, at their next login."""
    [other] = replica.add_members("member-2")
    await replica.sign_in()
    await replica.sign_in("member-2")
    refused = await replica.entitlement(other)
    replica.organization.members.remove(replica.github.people.get_person("org-member"))
    await replica.sign_in()
    await replica.sign_in("member-2")

    assert refused.status is EntitlementStatus.NOT_ENTITLED
    assert (await replica.entitlement(other)).status is EntitlementStatus.ENTITLED
    assert await replica.seats() == {other}


@pytest.mark.parametrize("org_settings", [{"org_seats": 1}])
async def test_a_deleted_account_gives_up_its_seat(replica: Replica) -> None:
    """Nothing of somebody who is gone keeps others out."""
    await replica.sign_in()
    await replica.services.personal_data.delete(MEMBER)

    assert await replica.seats() == set()


# ---------------------------------------------------------------------- with a durable side


@pytest.fixture
async def synced(
    member_settings: Settings,
    github: SimulatedGitHub,
    local: Redis,
    clock: Clock,
    way: TcpProxy,
) -> AsyncIterator[Replica]:
    """The service between two Redises, with its engine; durable can be cut off."""
    url = SecretStr(f"redis://127.0.0.1:{way.port}/0")
    settings = member_settings.model_copy(update={"durable_url": url, "manage_notifications": True})
    async with open_replica(settings, github, local, clock) as opened:
        yield opened


@pytest.fixture
async def way(durable_server: EmbeddedValkey, durable: Redis) -> AsyncIterator[TcpProxy]:
    """The way to a durable that is empty at first."""
    assert durable is not None
    async with run_proxy(durable_server.port) as proxy:
        yield proxy


async def test_a_members_preferences_travel_and_are_narrowed_when_the_organization_ends(
    synced: Replica, durable: Redis
) -> None:
    """As a sponsor's: what they remove after it goes there too, what they add stays here."""
    copy = keys.preferences(MEMBER, COLLECTION)
    change = partial(synced.services.preferences.change, MEMBER, COLLECTION)

    async def holds(*items: str) -> bool:
        return set(await durable.smembers(copy)) == set(items)

    await synced.tell("created")
    await synced.sign_in()
    await change(add=["a", "b"], remove=[])
    await until(partial(holds, "a", "b"))
    synced.clock.advance(minutes=-1)  # so that the end has come
    await synced.tell("cancelled")
    await synced.members.follow()
    await change(add=["c"], remove=["a"])
    await until(partial(holds, "b"))

    assert set(await durable.smembers(keys.sponsors(SPONSORABLE))) == set()
