"""Partial facts: saved while durable, which may have more, is down; completed afterwards."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest

from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementStatus
from sponsorsync.domain.errors import DurableUnavailableError, NotFoundError
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.domain.sponsorship import Privacy
from sponsorsync.store import keys
from sponsorsync.store.entitlements import EntitlementChange, Saved
from tests.support.grants import (
    ADMIN,
    DAY,
    ENTITLEMENT,
    MEMBERSHIP,
    NEXT_WEEK,
    NO_SPONSOR,
    NOW,
    OTHER_ORG,
    OVERRIDE,
    PATRON,
    SPONSOR,
    TOMORROW,
    YESTERDAY,
    Desk,
    is_reachable,
    load_facts_on,
)
from tests.support.sync import PERSON, SPONSORABLE
from tests.support.waiting import until


async def test_facts_that_were_fetched_after_the_load_are_not_overwritten(cut_desk: Desk) -> None:
    """Facts that are lost and fetched again may keep their version, so it shows no change."""
    await cut_desk.save_grants(OVERRIDE)
    await cut_desk.pair.relay()
    await cut_desk.pair.local.delete(ENTITLEMENT)
    cut_desk.pair.cut()
    unknown = (await cut_desk.entitlements.load(SPONSORABLE, [PERSON]))[PERSON]
    cut_desk.pair.flow()
    fetched = await cut_desk.load_when_back()
    change = EntitlementChange(PERSON, SPONSOR, unknown.version, by="webhook", reference="")
    [saved] = await cut_desk.entitlements.save([change])

    assert unknown.facts is None
    assert saved is Saved.CHANGED
    assert await cut_desk.load() == fetched
    assert fetched.grants == (OVERRIDE,)


async def test_facts_of_a_login_during_an_outage_are_completed_later(cut_desk: Desk) -> None:
    """Durable's facts are merged into the partial ones before these are sent."""
    grants = (MEMBERSHIP, OVERRIDE, PATRON)
    await cut_desk.lose_local(replace(SPONSOR, grants=grants))
    await cut_desk.pair.sign_in()
    meanwhile = await cut_desk.load_facts()
    there = await load_facts_on(cut_desk.pair.durable)
    await cut_desk.pair.reconnect()

    assert (meanwhile.source, meanwhile.is_partial) == (EntitlementSource.SPONSORSHIP, True)
    assert there.grants == grants
    facts = await cut_desk.load_facts()
    assert (facts.grants, facts.is_partial) == (grants, False)
    assert await cut_desk.pair.local.hget(ENTITLEMENT, "also_until") == "never"
    assert await cut_desk.find_patron("4711") == PERSON
    assert await cut_desk.are_equal()


@pytest.mark.parametrize("source", ["login", "webhook"])
async def test_a_person_without_a_sponsorship_is_unknown_during_the_outage(
    cut_desk: Desk, source: str
) -> None:
    """Durable may have an administrator's override, so 'not entitled' is not known."""
    await cut_desk.lose_local(replace(SPONSOR, grants=(OVERRIDE,)))
    save: dict[str, Callable[[], Awaitable[None]]] = {
        "login": lambda: cut_desk.pair.sign_in(entitled=False),
        "webhook": lambda: cut_desk.apply_webhook(replace(SPONSOR, valid_until=YESTERDAY)),
    }
    await save[source]()
    meanwhile = await cut_desk.load_status()
    await cut_desk.pair.reconnect()

    assert meanwhile is EntitlementStatus.UNKNOWN
    assert await cut_desk.load_status() is EntitlementStatus.ENTITLED
    assert await cut_desk.load_sources() == {EntitlementSource.OVERRIDE}
    assert await cut_desk.are_equal()


async def test_a_second_webhook_during_the_outage_leaves_facts_partial(cut_desk: Desk) -> None:
    """Only an answer of durable completes the facts."""
    await cut_desk.lose_local(replace(SPONSOR, grants=(OVERRIDE,)))
    await cut_desk.apply_webhook(SPONSOR)
    await cut_desk.apply_webhook(replace(SPONSOR, valid_until=YESTERDAY))
    meanwhile = await cut_desk.load_facts()
    await cut_desk.pair.reconnect()

    assert meanwhile.is_partial
    assert await cut_desk.load_sources() == {EntitlementSource.OVERRIDE}
    assert await cut_desk.are_equal()


async def test_partial_facts_are_not_sent_while_another_fetch_runs(cut_desk: Desk) -> None:
    """The relay and a snapshot skip partial facts; the person stays dirty."""
    await cut_desk.lose_local(replace(SPONSOR, grants=(OVERRIDE,)))
    await cut_desk.pair.sign_in(entitled=False)
    cut_desk.pair.flow()
    await cut_desk.pair.local.set(keys.lease(PERSON), "foreign")
    await until(partial(is_reachable, cut_desk.pair.durable_store))
    await cut_desk.pair.engine.relay.drain([PERSON])
    await cut_desk.pair.engine.snapshot.run()
    there, dirty = await load_facts_on(cut_desk.pair.durable), await cut_desk.pair.dirty()
    await cut_desk.pair.local.delete(keys.lease(PERSON))
    await cut_desk.pair.relay_when_back()

    assert (there.source, there.grants) == (EntitlementSource.SPONSORSHIP, (OVERRIDE,))
    assert dirty == {PERSON}
    assert await cut_desk.load_sources() == {EntitlementSource.OVERRIDE}
    assert await cut_desk.are_equal()


async def test_partial_facts_are_complete_if_durable_has_none(cut_desk: Desk) -> None:
    """Durable answers that it has no facts, so the partial ones are marked complete and sent."""
    cut_desk.pair.cut()
    await cut_desk.pair.sign_in(entitled=False)
    meanwhile = await cut_desk.load_status()
    await cut_desk.pair.reconnect()

    assert meanwhile is EntitlementStatus.UNKNOWN
    assert await cut_desk.load_status() is EntitlementStatus.NOT_ENTITLED
    assert await cut_desk.are_equal()


async def test_facts_are_complete_at_once_if_durable_answers(desk: Desk) -> None:
    """Facts are partial only if durable could not be asked; here it answered that it has none."""
    await desk.pair.sign_in(entitled=False)

    assert await desk.load_status() is EntitlementStatus.NOT_ENTITLED


async def test_an_administrator_waits_for_facts_that_only_durable_has(cut_desk: Desk) -> None:
    """An override that is unknown during an outage can be neither removed nor replaced."""
    override = replace(OVERRIDE, until=TOMORROW)
    await cut_desk.lose_local(replace(SPONSOR, grants=(override,)))
    await cut_desk.pair.sign_in()
    with pytest.raises(DurableUnavailableError):
        await cut_desk.overrides.remove(PERSON, SPONSORABLE, ADMIN)
    with pytest.raises(DurableUnavailableError):
        await cut_desk.overrides.put(PERSON, SPONSORABLE, ADMIN, cents=1, until=None)
    await cut_desk.pair.reconnect()
    await cut_desk.overrides.remove(PERSON, SPONSORABLE, ADMIN)
    await cut_desk.pair.relay()

    assert await cut_desk.load_sources() == set()
    with pytest.raises(NotFoundError):
        await cut_desk.overrides.remove(PERSON, SPONSORABLE, ADMIN)
    assert await cut_desk.are_equal()


async def test_an_older_local_with_partial_facts_merges_newer_facts_of_durable(
    cut_desk: Desk,
) -> None:
    """Another replica completed and changed the facts before local restarted in an older state."""
    await cut_desk.lose_local(replace(SPONSOR, grants=(OVERRIDE,)))
    await cut_desk.pair.sign_in(entitled=False)
    before = await cut_desk.pair.dump(ENTITLEMENT, keys.meta(PERSON), keys.PEOPLE)
    await cut_desk.pair.reconnect()
    await cut_desk.save(replace(SPONSOR, tier_cents=2500, grants=(OVERRIDE, PATRON)))
    await cut_desk.pair.relay()
    await cut_desk.pair.restore(before)
    was_partial = await cut_desk.pair.local.hexists(ENTITLEMENT, "partial")
    await cut_desk.pair.local.sadd(keys.DIRTY, PERSON)
    await cut_desk.pair.relay()

    assert was_partial
    facts = await cut_desk.load()
    assert facts == replace(SPONSOR, tier_cents=2500, grants=(OVERRIDE, PATRON))
    assert await cut_desk.are_equal()


HIDDEN = replace(MEMBERSHIP, organization_id=OTHER_ORG, organization="hidden-org")
RENEWED = replace(MEMBERSHIP, until=NEXT_WEEK + DAY, member_until=NEXT_WEEK + DAY)
SPONSOR_UNTIL_TOMORROW = replace(SPONSOR, valid_until=TOMORROW)
OTHER_TIER = replace(SPONSOR, tier_cents=2500, valid_until=NEXT_WEEK)
OTHER_SPONSORSHIP = replace(SPONSOR, since=NOW, tier_cents=None)
LATER_NO_SPONSOR = replace(NO_SPONSOR, checked_at=NOW + DAY)
ENDED = replace(SPONSOR, valid_until=YESTERDAY)
CHECKED = replace(NO_SPONSOR, memberships_checked_at=YESTERDAY)
PRIVATE = replace(SPONSOR, privacy=Privacy.PRIVATE, grants=(OVERRIDE,))
ONE_SHOWN = replace(
    NO_SPONSOR, grants=(RENEWED,), memberships_checked_at=NOW, memberships_unknown_since=NOW
)


@pytest.mark.parametrize(
    ("stored", "meanwhile", "afterwards"),
    [
        pytest.param(
            PRIVATE,
            replace(NO_SPONSOR, checked_at=None, memberships_checked_at=NOW),
            replace(PRIVATE, memberships_checked_at=NOW),
            id="a sponsorship comes back after a login that showed organizations alone",
        ),
        pytest.param(
            SPONSOR_UNTIL_TOMORROW,
            replace(SPONSOR, tier_cents=None),
            SPONSOR_UNTIL_TOMORROW,
            id="a tier and an announced end of the same sponsorship come back",
        ),
        pytest.param(
            SPONSOR_UNTIL_TOMORROW, OTHER_TIER, OTHER_TIER, id="a later tier and end stay"
        ),
        pytest.param(
            SPONSOR_UNTIL_TOMORROW,
            OTHER_SPONSORSHIP,
            OTHER_SPONSORSHIP,
            id="another sponsorship takes nothing of the former",
        ),
        pytest.param(
            SPONSOR_UNTIL_TOMORROW,
            LATER_NO_SPONSOR,
            LATER_NO_SPONSOR,
            id="no sponsorship stays none",
        ),
        pytest.param(ENDED, SPONSOR, SPONSOR, id="an announced end that has passed is dropped"),
        pytest.param(
            replace(CHECKED, grants=(MEMBERSHIP, OVERRIDE)),
            replace(NO_SPONSOR, memberships_checked_at=NOW),
            replace(NO_SPONSOR, grants=(OVERRIDE,), memberships_checked_at=NOW),
            id="an organization that was left does not come back",
        ),
        pytest.param(
            replace(CHECKED, grants=(MEMBERSHIP, HIDDEN)),
            ONE_SHOWN,
            replace(ONE_SHOWN, grants=(RENEWED, HIDDEN)),
            id="organizations that were not shown come back beside those that were",
        ),
    ],
)
async def test_facts_saved_during_the_outage_are_completed_by_durables(
    cut_desk: Desk,
    stored: EntitlementFacts,
    meanwhile: EntitlementFacts,
    afterwards: EntitlementFacts,
) -> None:
    """GitHub's later facts win; facts that it did not report are taken from durable."""
    await cut_desk.lose_local(stored)
    await cut_desk.save(meanwhile)
    await cut_desk.pair.reconnect()

    assert await cut_desk.load() == afterwards
    assert await cut_desk.are_equal()


async def test_the_check_of_memberships_comes_back_after_a_webhook(cut_desk: Desk) -> None:
    """A webhook reports no memberships, so the time of their earlier check stays valid."""
    await cut_desk.lose_local(CHECKED)
    await cut_desk.save(ENDED)
    await cut_desk.pair.reconnect()

    assert await cut_desk.load() == replace(ENDED, memberships_checked_at=YESTERDAY)
