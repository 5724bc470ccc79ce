"""What is unknown on local comes back from durable, once, and never older than it was."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, cast

import pytest

from sponsorsync.domain.errors import (
    DurableUnavailableError,
    StoreConflictError,
    StoreUnavailableError,
)
from sponsorsync.store import keys
from tests.support.sync import COLLECTION, PERSON, Pair, open_pair

if TYPE_CHECKING:
    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from tests.support.proxy import TcpProxy

OTHER = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)


async def test_a_login_after_a_flush_hides_nothing_also_while_durable_is_away(
    cuttable: Pair, way: TcpProxy
) -> None:
    """It knows that they are entitled, and must not take the missing set for an empty one."""
    await cuttable.settle("a")
    await cuttable.local.flushall()
    way.cut()
    await cuttable.sign_in()
    way.flow()
    await cuttable.relay_when_back()

    assert await cuttable.durable_items() == {"a"}
    assert await cuttable.items() == ["a"]


async def test_an_unknown_set_is_no_empty_answer_while_durable_is_away(
    cuttable: Pair, way: TcpProxy
) -> None:
    """The reader has to come back, and no state changes."""
    await cuttable.settle("a")
    await cuttable.local.flushall()
    way.cut()

    with pytest.raises(DurableUnavailableError) as refusal:
        await cuttable.items()

    assert refusal.value.retry_after_s > 0
    assert await cuttable.local.keys("*") == []


async def test_a_change_of_an_unknown_set_waits_for_durable_and_is_merged(
    cuttable: Pair, way: TcpProxy
) -> None:
    """Of each item the last word counts; what durable has and nobody spoke of stays."""
    await cuttable.settle("a", "b")
    await cuttable.evict()
    way.cut()
    await cuttable.add("c", "d")
    await cuttable.remove("c", "a")
    await cuttable.add("e")

    assert await cuttable.local.exists(SET) == 0
    with pytest.raises(DurableUnavailableError):
        await cuttable.items()
    way.flow()
    await cuttable.relay_when_back()

    assert await cuttable.items() == ["b", "d", "e"]
    assert await cuttable.durable_items() == {"b", "d", "e"}
    assert await cuttable.local.exists(keys.pending(PERSON)) == 0


async def test_an_item_that_was_removed_and_added_again_while_waiting_is_there(
    cuttable: Pair, way: TcpProxy
) -> None:
    """The other order of the same rule."""
    await cuttable.settle("a")
    await cuttable.evict()
    way.cut()
    await cuttable.remove("a")
    await cuttable.add("a")
    way.flow()
    await cuttable.relay_when_back()

    assert await cuttable.durable_items() == {"a"}


async def test_a_deletion_removes_waiting_changes(cuttable: Pair, way: TcpProxy) -> None:
    """Otherwise the account would come back with earlier changes."""
    await cuttable.settle("a")
    await cuttable.evict()
    way.cut()
    await cuttable.add("b")
    await cuttable.people.delete_account(PERSON)
    way.flow()
    await cuttable.relay_when_back()

    assert await cuttable.items() == []
    assert await cuttable.durable_items() == set()


async def test_ten_thousand_changes_wait_for_durable(cuttable: Pair, way: TcpProxy) -> None:
    """More than Lua can unpack at once."""
    many = [f"item-{number}" for number in range(10_000)]
    await cuttable.settle("a")
    await cuttable.evict()
    way.cut()
    await cuttable.add(*many)
    way.flow()
    await cuttable.relay_when_back()

    assert await cuttable.durable_items() == {"a", *many}
    assert await cuttable.local_items() == {"a", *many}


async def test_a_relay_that_finds_durable_away_does_not_make_writers_wait(
    cuttable: Pair, way: TcpProxy
) -> None:
    """It had taken the lease, and kept it."""
    await cuttable.sign_in(entitled=None)  # unknown entitlement: to be fetched by the relay
    way.cut()
    with pytest.raises(StoreUnavailableError):
        await cuttable.relay()

    assert await cuttable.local.exists(keys.lease(PERSON)) == 0
    await cuttable.add("a")


async def test_a_fill_that_crossed_a_newer_write_is_refused(pair: Pair) -> None:
    """It had read durable before, and its lease had run out meanwhile."""
    await pair.settle("a", "b")
    await pair.evict()
    old = await pair.read_for_fetch("slow")
    await pair.local.delete(keys.lease(PERSON))
    await pair.add("c")
    await pair.remove("a")
    await pair.relay()
    await pair.evict()

    assert await pair.fill("slow", old) == "lost"
    assert await pair.items() == ["b", "c"]


async def test_a_write_ends_a_running_fetch(pair: Pair) -> None:
    """Also one whose lease has not expired: its data are outdated."""
    await pair.settle("a")
    await pair.evict()
    old = await pair.read_for_fetch("slow")
    await pair.save_login()

    assert await pair.fill("slow", old) == "lost"


async def test_a_fill_that_crossed_a_flush_is_refused(pair: Pair) -> None:
    """What was removed and relayed before the flush would come back."""
    await pair.settle("a", "b")
    old = await pair.read_for_fetch("slow")
    await pair.remove("a")
    await pair.relay()
    await pair.local.flushall()

    assert await pair.fill("slow", old) == "lost"
    assert await pair.items() == ["b"]


async def test_a_fill_that_crossed_a_deletion_is_refused(pair: Pair) -> None:
    """The account is deleted on local only, and durable still has all of it."""
    await pair.settle("a")
    await pair.evict()
    old = await pair.read_for_fetch("slow")
    await pair.people.delete_account(PERSON)

    assert await pair.fill("slow", old) == "lost"
    assert await pair.local.exists(keys.user_details(PERSON)) == 0


async def test_a_fetch_after_a_deletion_restores_nothing(pair: Pair) -> None:
    """Durable does not have it yet; the deletion's version decides."""
    await pair.settle("a")
    await pair.people.delete_account(PERSON)
    content = await pair.read_for_fetch("fresh")

    assert await pair.fill("fresh", content) == "ok"
    assert await pair.items() == []
    assert (await pair.people.load_account(PERSON)).profile is None


async def test_a_negative_that_crossed_a_newer_write_is_refused(pair: Pair) -> None:
    """Durable had nothing when it was asked, and has by now."""
    await pair.sign_in()
    await pair.relay()
    nothing = await pair.read_for_fetch("slow")
    await pair.local.delete(keys.lease(PERSON))
    await pair.add("a")
    await pair.relay()
    await pair.evict()

    assert await pair.fill("slow", nothing) == "lost"
    assert await pair.items() == ["a"]


async def test_a_negative_that_crossed_a_flush_is_refused(pair: Pair) -> None:
    """Otherwise a person with preferences gets an empty answer for thirty seconds."""
    await pair.sign_in()
    await pair.relay()
    await pair.add("a")
    nothing = await pair.read_for_fetch("slow")
    await pair.relay()
    await pair.local.flushall()

    assert await pair.fill("slow", nothing) == "lost"
    assert await pair.items() == ["a"]


async def test_an_empty_answer_of_durable_is_remembered(pair: Pair) -> None:
    """Most readers have no preferences at all."""
    await pair.sign_in()
    await pair.relay()
    before = await pair.count_durable_scripts()

    assert await pair.items() == []
    assert await pair.count_durable_scripts() == before + 1
    assert await pair.items() == []
    assert await pair.count_durable_scripts() == before + 1
    assert 0 < await pair.local.ttl(keys.negative(PERSON)) <= keys.NEGATIVE_TTL_S


async def test_a_write_ends_a_remembered_empty_answer(pair: Pair) -> None:
    """A set that is written, copied and lost within the thirty seconds is not empty."""
    await pair.sign_in()
    await pair.relay()
    assert await pair.items() == []
    await pair.add("a")
    await pair.relay()
    await pair.evict()

    assert await pair.items() == ["a"]


async def test_a_hundred_misses_at_once_cost_one_fetch(pair: Pair) -> None:
    """After a flush everybody comes at once."""
    await pair.settle("a")
    await pair.local.flushall()
    before = await pair.count_durable_scripts()

    answers = await asyncio.gather(*(pair.items() for _ in range(100)))

    assert answers == [["a"]] * 100
    assert await pair.count_durable_scripts() == before + 1


async def test_misses_in_two_replicas_at_once_cost_one_fetch(
    pair: Pair, local_server: EmbeddedValkey, durable_server: EmbeddedValkey
) -> None:
    """The lease is on local, not in a process."""
    await pair.settle("a")
    async with open_pair(local_server.url, durable_server.url) as other:
        await pair.local.flushall()
        before = await pair.count_durable_scripts()

        answers = await asyncio.gather(*(each.items() for each in (pair, other) * 50))

        assert answers == [["a"]] * 100
        assert await pair.count_durable_scripts() == before + 1


async def test_nothing_old_returns_after_a_deletion_and_a_rejoin_during_an_outage(
    cuttable: Pair, way: TcpProxy
) -> None:
    """Durable gets the deletion and the new account at once."""
    await cuttable.settle("old")
    way.cut()
    await cuttable.people.delete_account(PERSON)
    await cuttable.sign_in()
    await cuttable.add("new")
    way.flow()
    await cuttable.relay_when_back()

    assert await cuttable.durable_items() == {"new"}
    assert await cuttable.items() == ["new"]
    await cuttable.local.flushall()
    assert await cuttable.items() == ["new"]


async def test_a_deletion_is_dirty_until_durable_has_confirmed_it(
    cuttable: Pair, way: TcpProxy
) -> None:
    """It is what the answer 202 goes by."""
    await cuttable.settle("a")
    way.cut()
    await cuttable.people.delete_account(PERSON)

    with pytest.raises(StoreUnavailableError):
        await cuttable.engine.push_now(PERSON)
    assert await cuttable.dirty() == {PERSON}
    assert await cuttable.durable.exists(keys.user_details(PERSON)) == 1
    way.flow()
    await cuttable.relay_when_back()

    assert await cuttable.durable.exists(keys.user_details(PERSON), SET) == 0
    assert await cuttable.durable.smembers(keys.sponsors("maintainer")) == set()


async def test_a_wrong_type_key_of_one_person_does_not_stop_the_fetch_of_others(pair: Pair) -> None:
    """They are fetched in one batch."""
    await pair.settle("a", people=(PERSON, OTHER))
    await pair.local.flushall()
    await pair.durable.delete(SET)
    await pair.durable.set(SET, "foreign")

    with contextlib.suppress(StoreConflictError):
        await pair.engine.hydrator.hydrate([PERSON, OTHER])

    assert await pair.local_items(OTHER) == {"a"}
    assert await pair.local.exists(keys.lease(PERSON), keys.lease(OTHER)) == 0


async def test_a_visitors_set_is_left_alone(pair: Pair) -> None:
    """The application counts its anonymous visitors in the same key space."""
    await pair.local.hset(f"user:{PERSON}", "name", "visitor")
    await pair.local.sadd(SET, "theirs")
    await pair.sign_in()
    await pair.relay()
    with pytest.raises(StoreConflictError):
        await pair.add("a")
    with pytest.raises(StoreConflictError):
        await pair.items()
    await pair.people.delete_account(PERSON)
    await pair.relay()

    assert await pair.local_items() == {"theirs"}
    assert await pair.durable_items() == set()


async def test_a_visitors_set_is_not_filled_from_durable(pair: Pair) -> None:
    """The number was a sponsor's before the visitors' counter reached it."""
    await pair.settle("a")
    await pair.local.flushall()
    await pair.local.hset(f"user:{PERSON}", "name", "visitor")
    await pair.local.sadd(SET, "theirs")
    await pair.engine.hydrator.hydrate([PERSON])

    assert await pair.local_items() == {"theirs"}
    assert (await pair.people.load_account(PERSON)).profile is not None


async def test_a_set_that_is_lost_twice_in_a_row_comes_back_twice(pair: Pair) -> None:
    """What the first fill brought must not be remembered as absent from durable."""
    await pair.settle("a")
    for _ in range(2):
        await pair.evict()
        assert await pair.items() == ["a"]


async def test_a_set_of_changes_that_waited_is_not_remembered_as_absent(pair: Pair) -> None:
    """Durable had nothing of it when it was asked; a moment later it has."""
    await pair.sign_in()
    await pair.local.delete(keys.negative(PERSON))
    await pair.local.hset(keys.pending(PERSON), f"{COLLECTION}\na", "+")
    await pair.engine.hydrator.hydrate([PERSON])
    await pair.relay()
    await pair.evict()

    assert await pair.items() == ["a"]


async def test_a_deletion_that_a_fetch_brings_makes_no_new_versions(pair: Pair) -> None:
    """Local came back from before it: what it takes away was not changed by anybody here."""
    await pair.settle("a")
    older = {
        key: cast("bytes", await pair.local_store.run("DUMP", key))
        for key in (keys.meta(PERSON), SET)
    }
    await pair.people.delete_account(PERSON)
    await pair.relay()
    for key, dump in older.items():
        await pair.local_store.run("RESTORE", key, 0, dump, "REPLACE")
    await pair.engine.hydrator.hydrate([PERSON])

    assert await pair.local_items() == set()
    assert PERSON not in await pair.dirty()
