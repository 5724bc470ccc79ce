"""Grants by membership in an organization, on both servers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from sponsorsync.domain.account import StoredEntitlement
from sponsorsync.domain.entitlement import EntitlementStatus, evaluate
from sponsorsync.domain.errors import DurableUnavailableError, StoreUnavailableError
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.domain.sponsorship import Membership, Memberships, Privacy, Sponsorship
from sponsorsync.store import keys
from sponsorsync.store.entitlements import EntitlementChange, EntitlementStore, Saved
from tests.support.grants import (
    ENTITLEMENT,
    LINKED_ACCOUNTS,
    MEMBERSHIP,
    NEWCOMER_FIELD,
    NO_SPONSOR,
    ORG,
    ORG_ENTITLEMENT,
    OTHER_ORG,
    OVERRIDE,
    PATRON,
    POLICY,
    SEATS,
    SPONSOR,
    YESTERDAY,
    Desk,
    belong_to,
    load_second,
)
from tests.support.sync import COLLECTION, PERSON, SPONSORABLE


def record_loads(
    entitlements: EntitlementStore, monkeypatch: pytest.MonkeyPatch
) -> list[Sequence[int]]:
    """Returns a list to which each `load` adds the people of one call."""
    load, loads = type(entitlements).load, []

    async def record(
        entitlements: EntitlementStore, sponsorable: str, person_ids: Sequence[int]
    ) -> Mapping[int, StoredEntitlement]:
        loads.append(person_ids)
        return await load(entitlements, sponsorable, person_ids)

    monkeypatch.setattr(EntitlementStore, "load", record)
    return loads


async def test_an_end_reaches_members_that_local_had_lost(desk: Desk) -> None:
    """After a flush a member is fetched with grants from before the organization's end."""
    await desk.save_member()
    await desk.pair.relay()
    await desk.pair.local.flushall()
    await desk.save(replace(SPONSOR, valid_until=YESTERDAY), ORG)
    await desk.members.recompute_changed()
    fetched = await desk.load_facts()
    await desk.members.recompute_changed()

    assert fetched.grants == (MEMBERSHIP,)
    assert await desk.load_ends() == [YESTERDAY]
    assert await desk.load_changed_organizations() == set()


async def test_a_new_member_is_evaluated_once_more(desk: Desk) -> None:
    """The organization may change between a login's read and its write of the grant."""
    await desk.save_member()
    joined = await desk.load_changed_organizations()
    await desk.members.recompute_changed()
    await desk.save_grants(replace(MEMBERSHIP, cents=1))
    renewed = await desk.load_changed_organizations()

    assert (joined, renewed) == ({NEWCOMER_FIELD}, set())


async def test_members_keep_their_entitlement_while_their_organization_is_unknown(
    cut_desk: Desk,
) -> None:
    """Only durable has the organization, and is down: its change waits, others do not."""
    other = replace(MEMBERSHIP, organization_id=OTHER_ORG)
    await cut_desk.save(SPONSOR, ORG)
    await cut_desk.save(replace(SPONSOR, tier_cents=2500), OTHER_ORG)
    await cut_desk.save_grants(MEMBERSHIP, other)
    await cut_desk.pair.relay()
    await cut_desk.pair.evict(ORG_ENTITLEMENT)
    cut_desk.pair.cut()
    with pytest.raises(DurableUnavailableError):
        await cut_desk.members.recompute_changed()
    waiting = await cut_desk.load_changed_organizations()
    tiers = await cut_desk.load_tiers()
    await cut_desk.pair.reconnect()
    await cut_desk.members.recompute_changed()

    assert waiting == {NEWCOMER_FIELD}
    assert tiers == [10_000, 2500]
    assert await cut_desk.load_tiers() == [1000, 2500]
    assert await cut_desk.load_changed_organizations() == set()


async def test_a_wrong_type_key_of_one_member_delays_no_other(desk: Desk) -> None:
    """All other members are recomputed, and the failing one is not retried for ever."""
    other = replace(MEMBERSHIP, organization_id=OTHER_ORG)
    await desk.save(SPONSOR, ORG)
    await desk.save(SPONSOR, OTHER_ORG)
    await desk.save_grants(MEMBERSHIP)
    await desk.save_grants(MEMBERSHIP, other, person_id=PERSON + 1)
    await desk.pair.local.set(keys.preferences(PERSON, COLLECTION), "foreign")
    with capture_logs() as logs:
        await desk.members.recompute_changed()

    assert await desk.load_tiers(PERSON + 1) == [1000, 1000]
    assert await desk.load_changed_organizations() == set()
    assert [log["member"] for log in logs if log["event"] == "member_not_recomputed"] == [PERSON]


async def test_only_the_new_member_is_evaluated_when_one_joins(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An organization may have thousands of members, too many to evaluate at each sign-in."""
    await desk.save_member()
    await desk.members.recompute_changed()
    await desk.save_grants(MEMBERSHIP, person_id=PERSON + 1)
    evaluated = record_loads(desk.entitlements, monkeypatch)
    await desk.members.recompute_changed()

    assert evaluated == [[PERSON + 1]]
    assert await desk.load_tiers(PERSON + 1) == [1000]


async def test_members_are_evaluated_in_batches(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round trip for each member would take minutes; unchanged members are not written."""
    numbers = list(range(PERSON, PERSON + 3))
    await desk.save(SPONSOR, ORG)
    for number in numbers:
        await desk.save_grants(MEMBERSHIP, person_id=number)
    await desk.members.recompute_changed()
    await desk.save_grants(MEMBERSHIP, person_id=PERSON)
    await desk.save(SPONSOR, ORG)
    before = await desk.pair.local.zscore(keys.PEOPLE, str(PERSON + 1))
    monkeypatch.setattr("sponsorsync.entitlements.organization_members._CHUNK", 2)
    evaluated = record_loads(desk.entitlements, monkeypatch)
    await desk.members.recompute_changed()

    assert evaluated == [numbers[:2], numbers[2:]]
    assert (await desk.load_audit())[-1] == ("changed", "organization")
    assert await desk.pair.local.zscore(keys.PEOPLE, str(PERSON + 1)) == before


async def test_a_member_who_changes_meanwhile_is_evaluated_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sign-in may come between the read and the write of a batch."""
    await desk.save_member()
    save = EntitlementStore.save

    async def save_after_a_sign_in(
        entitlements: EntitlementStore, changes: list[EntitlementChange]
    ) -> list[Saved]:
        monkeypatch.setattr(EntitlementStore, "save", save)
        await desk.save_grants(MEMBERSHIP, OVERRIDE)
        return await save(entitlements, changes)

    monkeypatch.setattr(EntitlementStore, "save", save_after_a_sign_in)
    await desk.members.recompute_changed()

    assert await desk.load_tiers() == [1000, None]
    assert await desk.load_changed_organizations() == set()


async def test_one_replica_recomputes_members_at_a_time(desk: Desk) -> None:
    """Several replicas would do the same work."""
    await desk.save_member()
    await desk.pair.local.set(keys.RECOMPUTING, "another", px=keys.RECOMPUTING_TTL_MS)
    await desk.members.recompute_changed()
    waiting = await desk.load_changed_organizations()
    await desk.pair.local.delete(keys.RECOMPUTING)
    await desk.members.recompute_changed()

    assert waiting == {NEWCOMER_FIELD}
    assert await desk.load_changed_organizations() == set()
    assert await desk.pair.local.exists(keys.RECOMPUTING) == 0


async def test_the_lock_is_extended_while_members_are_evaluated(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large organization may take longer than the lock's time to live."""
    await desk.save(SPONSOR, ORG)
    for number in (PERSON, PERSON + 1):
        await desk.save_grants(MEMBERSHIP, person_id=number)
    monkeypatch.setattr("sponsorsync.entitlements.organization_members._CHUNK", 1)
    load, left_ms = EntitlementStore.load, []

    async def load_slowly(entitlements: EntitlementStore, *arguments: Any) -> Any:  # noqa: ANN401 - load's own
        left_ms.append(await desk.pair.local.pttl(keys.RECOMPUTING))
        await desk.pair.local.pexpire(keys.RECOMPUTING, 1000)
        return await load(entitlements, *arguments)

    monkeypatch.setattr(EntitlementStore, "load", load_slowly)
    await desk.members.recompute_changed()

    assert len(left_ms) == 2
    assert min(left_ms) > 1000


async def test_a_replica_that_lost_the_lock_leaves_the_rest_to_its_holder(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replica was stalled until its lock expired; the change stays for the new holder."""
    await desk.save_member()
    load = EntitlementStore.load

    async def lose_the_lock(entitlements: EntitlementStore, *arguments: Any) -> Any:  # noqa: ANN401 - load's own
        await desk.pair.local.set(keys.RECOMPUTING, "another")
        return await load(entitlements, *arguments)

    monkeypatch.setattr(EntitlementStore, "load", lose_the_lock)
    with pytest.raises(StoreUnavailableError, match="another replica"):
        await desk.members.recompute_changed()

    assert await desk.load_changed_organizations() == {NEWCOMER_FIELD}
    assert await desk.pair.local.get(keys.RECOMPUTING) == "another"


async def test_an_organization_that_does_not_sponsor_entitles_no_member(desk: Desk) -> None:
    """The organization never sponsored, or its account was deleted."""
    await desk.save_grants(MEMBERSHIP, OVERRIDE)
    await desk.members.recompute_changed()

    assert await desk.load_sources() == {EntitlementSource.OVERRIDE}
    assert await desk.pair.local.exists(SEATS) == 0


async def test_a_local_that_came_back_older_drops_grants_that_have_ended_since(desk: Desk) -> None:
    """The seat and the link to a patron are removed with the grants."""
    await desk.save_grants(MEMBERSHIP, PATRON)
    await desk.pair.relay()
    before = await desk.pair.dump(
        ENTITLEMENT, keys.meta(PERSON), keys.PEOPLE, SEATS, LINKED_ACCOUNTS
    )
    await desk.save(NO_SPONSOR)
    await desk.pair.relay()
    await desk.pair.restore(before)
    await desk.pair.local.sadd(keys.DIRTY, PERSON)
    await desk.pair.relay()

    assert await desk.load_sources() == set()
    assert await desk.pair.local.exists(SEATS, LINKED_ACCOUNTS) == 0


async def test_a_local_that_came_back_older_evaluates_members_by_newer_facts(desk: Desk) -> None:
    """Merging the organization's newer facts from durable marks it as changed."""
    await desk.save_member()
    await desk.members.recompute_changed()
    await desk.pair.relay()
    before = await desk.pair.dump(
        ORG_ENTITLEMENT, keys.meta(ORG), ENTITLEMENT, keys.meta(PERSON), keys.PEOPLE
    )
    await desk.save(replace(SPONSOR, valid_until=YESTERDAY), ORG)
    await desk.pair.relay()
    await desk.pair.restore(before)
    await desk.pair.local.delete(keys.ORGANIZATIONS)
    await desk.pair.local.sadd(keys.DIRTY, ORG)
    await desk.pair.relay()
    await desk.members.recompute_changed()

    assert await desk.load_ends() == [YESTERDAY]
    assert await desk.load_changed_organizations() == set()


async def test_an_organization_that_only_durable_has_entitles_at_a_sign_in(desk: Desk) -> None:
    """GitHub hides the private sponsorship from members; after a flush durable has it."""
    await desk.save(replace(SPONSOR, privacy=Privacy.PRIVATE), ORG)
    await desk.pair.relay()
    await desk.pair.local.flushall()
    seen = await desk.evaluate_memberships(NO_SPONSOR, belong_to(ORG))

    assert [grant.cents for grant in seen.grants] == [1000]
    assert seen.memberships_unknown_since is None


async def test_a_sign_in_that_fails_holds_a_seat_for_minutes(desk: Desk) -> None:
    """The seat is taken before the facts are saved; if that fails, it expires."""
    await desk.save(SPONSOR, ORG)
    local = desk.pair.local
    before = await load_second(local)
    seen = await desk.evaluate_memberships(None, belong_to(ORG))
    after = await load_second(local)
    held = await local.zscore(SEATS, str(PERSON))
    [grant] = seen.grants
    assert grant.member_until is not None
    await desk.save(seen)
    saved = await local.zscore(SEATS, str(PERSON))
    await desk.evaluate_memberships(seen, belong_to(ORG))

    assert held is not None
    assert before <= held - keys.SEAT_TTL_S <= after
    assert saved == grant.member_until.timestamp()
    assert await local.zscore(SEATS, str(PERSON)) == saved


async def test_an_organization_that_cannot_be_loaded_keeps_its_members(cut_desk: Desk) -> None:
    """Only durable has the organization, and is down: unknown does not mean 'not a sponsor'."""
    stored = replace(NO_SPONSOR, grants=(MEMBERSHIP,), memberships_checked_at=YESTERDAY)
    await cut_desk.save(replace(SPONSOR, privacy=Privacy.PRIVATE), ORG)
    await cut_desk.pair.relay()
    await cut_desk.pair.local.flushall()
    cut_desk.pair.cut()
    seen = await cut_desk.evaluate_memberships(stored, belong_to(ORG))
    unknown = await cut_desk.evaluate_memberships(NO_SPONSOR, belong_to(ORG))
    left = await cut_desk.evaluate_memberships(stored, belong_to())

    assert seen.grants == (MEMBERSHIP,)
    assert seen.memberships_unknown_since is not None
    policy = replace(POLICY, entitles_members=True)
    entitlement = evaluate(SPONSORABLE, unknown, policy=policy, now=datetime.now(UTC))
    assert entitlement.status is EntitlementStatus.UNKNOWN
    assert (left.grants, left.memberships_unknown_since) == ((), None)


async def test_an_organization_that_durable_does_not_have_entitles_no_member(desk: Desk) -> None:
    """Durable answered that it has no such organization, so this is known."""
    seen = await desk.evaluate_memberships(NO_SPONSOR, belong_to(ORG, OTHER_ORG))

    assert (seen.grants, seen.memberships_unknown_since) == ((), None)


async def test_an_organization_that_a_login_shows_during_an_outage_keeps_its_tier(
    cut_desk: Desk,
) -> None:
    """GitHub hides the tier from members; only durable has it, and is down."""
    shown = Sponsorship(
        sponsorable=SPONSORABLE,
        created_at=YESTERDAY,
        is_active=True,
        is_one_time=False,
        privacy=Privacy.PUBLIC,
        payment_source=None,
        tier_cents=None,
        tier_selected_at=None,
    )
    memberships = Memberships([Membership(ORG, "sponsoring-org", (shown,))], is_complete=True)
    await cut_desk.save(SPONSOR, ORG)
    await cut_desk.pair.relay()
    await cut_desk.pair.local.flushall()
    cut_desk.pair.cut()
    seen = await cut_desk.evaluate_memberships(NO_SPONSOR, memberships)
    await cut_desk.save(seen)
    await cut_desk.pair.reconnect()
    await cut_desk.members.recompute_changed()

    assert [grant.cents for grant in seen.grants] == [None]
    assert await cut_desk.load_tiers() == [1000]
