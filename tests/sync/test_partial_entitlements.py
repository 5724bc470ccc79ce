"""Facts that are incomplete because durable could not be asked, until it can."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from sponsorsync.domain.entitlement import EntitlementStatus
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

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sponsorsync.domain.entitlement import EntitlementFacts
    from tests.support.proxy import TcpProxy


async def test_facts_that_were_fetched_meanwhile_are_not_overwritten_unread(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """They may come back under the same version as before the loss."""
    await cut_desk.save_grants(OVERRIDE)
    await cut_desk.pair.relay()
    await cut_desk.pair.local.delete(ENTITLEMENT)
    way.cut()
    unknown = (await cut_desk.entitlements.load(SPONSORABLE, [PERSON]))[PERSON]
    way.flow()
    fetched = await cut_desk.load_when_back()
    change = EntitlementChange(PERSON, SPONSOR, unknown.version, by="webhook", reference="")
    [saved] = await cut_desk.entitlements.save([change])

    assert unknown.facts is None
    assert saved is Saved.CHANGED
    assert await cut_desk.load() == fetched
    assert fetched is not None
    assert fetched.grants == (OVERRIDE,)


async def test_a_login_during_the_outage_is_answered_and_completed_later(cut_desk: Desk) -> None:
    """It does not overwrite what durable has: that is merged first."""
    grants = (MEMBERSHIP, OVERRIDE, PATRON)
    await cut_desk.lose_local(replace(SPONSOR, grants=grants))
    await cut_desk.pair.sign_in()
    meanwhile = await cut_desk.load()
    kept = await load_facts_on(cut_desk.pair.durable)
    await cut_desk.reconnect()

    assert meanwhile is not None
    assert (meanwhile.source, meanwhile.is_partial) == (EntitlementSource.SPONSORSHIP, True)
    assert kept is not None
    assert kept.grants == grants
    facts = await cut_desk.load()
    assert facts is not None
    assert (facts.grants, facts.is_partial) == (grants, False)
    assert await cut_desk.pair.local.hget(ENTITLEMENT, "also_until") == "never"
    assert await cut_desk.find_patron("4711") == PERSON
    assert await cut_desk.are_equal()


@pytest.mark.parametrize("source", ["login", "webhook"])
async def test_a_person_without_a_sponsorship_is_unknown_during_the_outage(
    cut_desk: Desk, source: str
) -> None:
    """Durable may have an override of an administrator, and it does."""
    await cut_desk.lose_local(replace(SPONSOR, grants=(OVERRIDE,)))
    tell: dict[str, Callable[[], Awaitable[None]]] = {
        "login": lambda: cut_desk.pair.sign_in(entitled=False),
        "webhook": lambda: cut_desk.apply_webhook(replace(SPONSOR, valid_until=YESTERDAY)),
    }
    await tell[source]()
    meanwhile = await cut_desk.load_status()
    await cut_desk.reconnect()

    assert meanwhile is EntitlementStatus.UNKNOWN
    assert await cut_desk.load_status() is EntitlementStatus.ENTITLED
    assert await cut_desk.load_sources() == {EntitlementSource.OVERRIDE}
    assert await cut_desk.are_equal()


async def test_a_second_webhook_during_the_outage_leaves_facts_partial(cut_desk: Desk) -> None:
    """Durable has still not been asked."""
    await cut_desk.lose_local(replace(SPONSOR, grants=(OVERRIDE,)))
    await cut_desk.apply_webhook(SPONSOR)
    await cut_desk.apply_webhook(replace(SPONSOR, valid_until=YESTERDAY))
    meanwhile = await cut_desk.load()
    await cut_desk.reconnect()

    assert meanwhile is not None
    assert meanwhile.is_partial
    assert await cut_desk.load_sources() == {EntitlementSource.OVERRIDE}
    assert await cut_desk.are_equal()


async def test_partial_facts_are_not_sent_while_another_fetch_runs(
    cut_desk: Desk, way: TcpProxy
) -> None:
    """Nor in a snapshot; the person stays dirty."""
    await cut_desk.lose_local(replace(SPONSOR, grants=(OVERRIDE,)))
    await cut_desk.pair.sign_in(entitled=False)
    way.flow()
    await cut_desk.pair.local.set(keys.lease(PERSON), "somebody else's")
    await until(partial(is_reachable, cut_desk.pair.durable_store))
    await cut_desk.pair.engine.relay.drain([PERSON])
    await cut_desk.pair.engine.snapshot.run()
    kept, dirty = await load_facts_on(cut_desk.pair.durable), await cut_desk.pair.dirty()
    await cut_desk.pair.local.delete(keys.lease(PERSON))
    await cut_desk.pair.relay_when_back()

    assert kept is not None
    assert (kept.source, kept.grants) == (EntitlementSource.SPONSORSHIP, (OVERRIDE,))
    assert dirty == {PERSON}
    assert await cut_desk.load_sources() == {EntitlementSource.OVERRIDE}
    assert await cut_desk.are_equal()


async def test_partial_facts_are_whole_if_durable_has_none(cut_desk: Desk, way: TcpProxy) -> None:
    """They are completed, and sent."""
    way.cut()
    await cut_desk.pair.sign_in(entitled=False)
    meanwhile = await cut_desk.load_status()
    await cut_desk.reconnect()

    assert meanwhile is EntitlementStatus.UNKNOWN
    assert await cut_desk.load_status() is EntitlementStatus.NOT_ENTITLED
    assert await cut_desk.are_equal()


async def test_facts_are_whole_at_once_if_durable_answers(desk: Desk) -> None:
    """Durable has just answered that it has nothing."""
    await desk.pair.sign_in(entitled=False)

    assert await desk.load_status() is EntitlementStatus.NOT_ENTITLED


async def test_an_administrator_waits_for_facts_that_only_durable_has(cut_desk: Desk) -> None:
    """An override can be neither removed nor replaced while it is unknown."""
    ended = replace(OVERRIDE, until=TOMORROW)
    await cut_desk.lose_local(replace(SPONSOR, grants=(ended,)))
    await cut_desk.pair.sign_in()
    with pytest.raises(DurableUnavailableError):
        await cut_desk.overrides.remove(PERSON, SPONSORABLE, ADMIN)
    with pytest.raises(DurableUnavailableError):
        await cut_desk.overrides.put(PERSON, SPONSORABLE, ADMIN, cents=1, until=None)
    await cut_desk.reconnect()
    await cut_desk.overrides.remove(PERSON, SPONSORABLE, ADMIN)
    await cut_desk.pair.relay()

    assert await cut_desk.load_sources() == set()
    with pytest.raises(NotFoundError):
        await cut_desk.overrides.remove(PERSON, SPONSORABLE, ADMIN)
    assert await cut_desk.are_equal()


async def test_a_local_that_came_back_partial_takes_newer_facts_of_durable(cut_desk: Desk) -> None:
    """Another replica had completed and changed them before local fell back."""
    await cut_desk.lose_local(replace(SPONSOR, grants=(OVERRIDE,)))
    await cut_desk.pair.sign_in(entitled=False)
    before = await cut_desk.dump(ENTITLEMENT, keys.meta(PERSON), keys.PEOPLE)
    await cut_desk.reconnect()
    await cut_desk.save(replace(SPONSOR, tier_cents=2500, grants=(OVERRIDE, PATRON)))
    await cut_desk.pair.relay()
    await cut_desk.restore(before)
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
    """GitHub's later facts win; what they do not mention is as durable has it."""
    await cut_desk.lose_local(stored)
    await cut_desk.save(meanwhile)
    await cut_desk.reconnect()

    assert await cut_desk.load() == afterwards
    assert await cut_desk.are_equal()


async def test_the_check_of_memberships_comes_back_after_a_webhook(cut_desk: Desk) -> None:
    """A webhook has no memberships: they are as known as before."""
    await cut_desk.lose_local(CHECKED)
    await cut_desk.save(ENDED)
    await cut_desk.reconnect()

    assert await cut_desk.load() == replace(ENDED, memberships_checked_at=YESTERDAY)
