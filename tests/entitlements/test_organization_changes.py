"""Changes of a sponsoring organization, and how they reach its members."""

import asyncio
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from structlog.testing import capture_logs

from sponsorsync.domain.entitlement import EntitlementStatus
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.store.organizations import OrganizationStore
from tests.conftest import SPONSORABLE, Clock
from tests.entitlements.conftest import Replica, open_replica
from tests.support.sync import COLLECTION
from tests.support.use_cases import MEMBER, ORG
from tests.support.waiting import until

FIELD = f"{SPONSORABLE}:{ORG}"


async def test_the_end_of_an_organizations_sponsorship_reaches_members(replica: Replica) -> None:
    """Members are recomputed without a sign-in of their own."""
    await replica.entitle_member()
    replica.clock.advance(seconds=-1)  # so that the end has come
    await replica.report("cancelled")
    replica.clock.advance(seconds=1)
    noted = await replica.load_notes()
    await replica.members.recompute_changed()

    assert set(noted) == {FIELD}
    assert await replica.load_notes() == {}
    entitlement = await replica.entitlement()
    assert entitlement.status is EntitlementStatus.NOT_ENTITLED
    assert "sponsoring-org, to which you belong, ended" in entitlement.reason
    assert not await replica.local.sismember(keys.sponsors(SPONSORABLE), str(MEMBER))


async def test_a_tier_change_of_the_organization_reaches_its_members(replica: Replica) -> None:
    """The audit trail names the organization as the cause."""
    await replica.entitle_member()
    await replica.change_tier()
    await replica.members.recompute_changed()

    assert (await replica.entitlement()).tier_cents == 50_000
    [*_, last] = await replica.services.audit.load(before=None, limit=1)
    assert (last.person_id, last.what, last.by) == (MEMBER, "changed", "organization")


async def test_an_organization_that_sponsors_again_entitles_its_members(replica: Replica) -> None:
    """Members keep their seats while the organization does not sponsor."""
    await replica.entitle_member()
    await replica.report("cancelled")
    await replica.members.recompute_changed()
    replica.github.people.sponsorships.remove(replica.sponsorship)
    replica.github.people.sponsor("sponsoring-org", SPONSORABLE, cents=3000, days_ago=0)
    replica.clock.advance(minutes=1)
    ended = await replica.entitlement()
    await replica.report("created")
    await replica.members.recompute_changed()

    entitlement = await replica.entitlement()
    assert ended.status is EntitlementStatus.NOT_ENTITLED
    assert (entitlement.status, entitlement.tier_cents) == (EntitlementStatus.ENTITLED, 3000)


@pytest.mark.parametrize("every_s", [0.01])
async def test_no_error_ends_the_loop(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would notice that members are not recomputed any more."""
    await replica.report("created")
    await replica.sign_in("org-member")
    find = OrganizationStore.find_changed_organizations

    async def fail_once(_: OrganizationStore) -> Any:  # noqa: ANN401 - find's own
        monkeypatch.setattr(OrganizationStore, "find_changed_organizations", find)
        raise ZeroDivisionError

    monkeypatch.setattr(OrganizationStore, "find_changed_organizations", fail_once)
    await replica.change_tier()

    await until(partial(_is_recomputed, replica))
    assert OrganizationStore.find_changed_organizations is find


async def test_unreadable_notes_do_not_delay_the_others(replica: Replica) -> None:
    """Unreadable notes are removed and logged; the readable one is processed."""
    await replica.report("created")
    await replica.sign_in("org-member")
    unreadable = ["x", "", "maintainer:", f"{FIELD}:x", "ä:1", f"{SPONSORABLE}:{'9' * 5000}"]
    await replica.local.hset(keys.ORGANIZATIONS, mapping=dict.fromkeys(unreadable, "x"))
    await replica.local.zadd(keys.members(SPONSORABLE, ORG), {"x": 1e10})
    await replica.change_tier()
    with capture_logs() as logs:
        await replica.members.recompute_changed()

    assert (await replica.entitlement()).tier_cents == 50_000
    assert await replica.load_notes() == {}
    assert {log["field"] for log in logs if log["log_level"] == "warning"} == set(unreadable)


async def test_a_note_outlasts_a_replica(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica dies halfway; the note stays, so another replica recomputes the rest."""
    [other] = replica.add_members("member-2")
    await replica.report("created")
    await replica.sign_in("org-member")
    await replica.sign_in("member-2")
    await replica.change_tier()
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
            await replica.members.recompute_changed()
    halfway = {(await replica.entitlement(each)).tier_cents for each in (MEMBER, other)}
    noted = await replica.load_notes()
    await replica.members.recompute_changed()

    assert halfway == {10_000, 50_000}
    assert FIELD in noted
    assert {(await replica.entitlement(each)).tier_cents for each in (MEMBER, other)} == {50_000}
    assert await replica.load_notes() == {}


async def test_an_organization_that_changes_meanwhile_is_recomputed_again(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The organization's facts were read before the change, so its note has to stay."""
    await replica.entitle_member()
    await replica.report("edited")
    load_members = replica.organizations.load_members

    async def change_once_more(*arguments: Any) -> list[int]:  # noqa: ANN401 - load_members' own
        await replica.change_tier()
        return await load_members(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(replica.organizations, "load_members", change_once_more)
        await replica.members.recompute_changed()
    noted, old = await replica.load_notes(), await replica.entitlement()
    await replica.members.recompute_changed()

    assert (set(noted), old.tier_cents) == ({FIELD}, 10_000)
    assert (await replica.entitlement()).tier_cents == 50_000
    assert await replica.load_notes() == {}


async def test_a_note_of_a_later_change_is_not_removed(replica: Replica) -> None:
    """A replica removes only the notes that it has read."""
    await replica.entitle_member()
    await replica.report("edited")
    [changed] = await replica.organizations.find_changed_organizations()
    await replica.members.recompute_changed()  # as another replica does
    await replica.report("cancelled")
    await replica.organizations.settle_organizations(changed.entries)

    assert set(await replica.load_notes()) == {FIELD}


async def test_several_replicas_may_recompute_at_once(replica: Replica) -> None:
    """The versions of the parts decide, so no member keeps outdated facts."""
    others = replica.add_members("member-2", "member-3")
    await replica.report("created")
    for login in ("org-member", "member-2", "member-3"):
        await replica.sign_in(login)
    await replica.change_tier()
    await asyncio.gather(*(replica.members.recompute_changed() for _ in range(4)))

    tiers = {(await replica.entitlement(each)).tier_cents for each in (MEMBER, *others)}
    assert tiers == {50_000}
    assert await replica.load_notes() == {}


async def test_a_members_preferences_are_copied_and_pruned_like_a_sponsors(
    member_settings: Settings,
    github: SimulatedGitHub,
    local: Redis,
    clock: Clock,
    durable_url: SecretStr,
    durable: Redis,
) -> None:
    """After the end of the entitlement, durable receives removals, but no additions."""
    copy = keys.preferences(MEMBER, COLLECTION)
    settings = member_settings.model_copy(
        update={"durable_url": durable_url, "manage_notifications": True}
    )

    async def holds(*items: str) -> bool:
        return set(await durable.smembers(copy)) == set(items)

    async with open_replica(settings, github, local, clock) as replica:
        change = partial(replica.services.preferences.change, MEMBER, COLLECTION)
        await replica.report("created")
        await replica.sign_in("org-member")
        await change(add=["a", "b"], remove=[])
        await until(partial(holds, "a", "b"))
        replica.clock.advance(minutes=-1)  # so that the end has come
        await replica.report("cancelled")
        await replica.members.recompute_changed()
        await change(add=["c"], remove=["a"])
        await until(partial(holds, "b"))

    assert set(await durable.smembers(keys.sponsors(SPONSORABLE))) == set()


async def _is_recomputed(replica: Replica) -> bool:
    return (await replica.entitlement()).tier_cents == 50_000 and not await replica.load_notes()
