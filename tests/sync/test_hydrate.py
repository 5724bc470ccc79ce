"""Hydrate: data missing on local are fetched from durable once, and never in an older state.

A fetch takes a lease on local, reads durable, and then *fills* local by one script.
"""

import asyncio
import contextlib
from typing import cast

import pytest

from sponsorsync.domain.errors import (
    DurableUnavailableError,
    StoreConflictError,
    StoreUnavailableError,
)
from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.store import keys
from tests.support.sync import COLLECTION, PERSON, Pair, open_pair

OTHER = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)


async def test_a_login_after_a_flush_while_durable_is_down_hides_no_set(cuttable: Pair) -> None:
    """The set is missing on local, so it is unknown and must not be sent as empty."""
    await cuttable.settle("a")
    await cuttable.local.flushall()
    cuttable.cut()
    await cuttable.sign_in()
    await cuttable.reconnect()

    assert await cuttable.durable_items() == {"a"}
    assert await cuttable.items() == ["a"]


async def test_an_unknown_set_is_not_answered_as_empty_while_durable_is_down(
    cuttable: Pair,
) -> None:
    """The reader gets an error that says when to retry, and no key changes."""
    await cuttable.settle("a")
    await cuttable.local.flushall()
    cuttable.cut()

    with pytest.raises(DurableUnavailableError) as refusal:
        await cuttable.items()

    assert refusal.value.retry_after_s > 0
    assert await cuttable.local.keys("*") == []


async def test_a_change_of_an_unknown_set_waits_for_durable_and_is_merged(cuttable: Pair) -> None:
    """The last change of an item decides; durable's other items stay."""
    await cuttable.settle("a", "b")
    await cuttable.evict()
    cuttable.cut()
    await cuttable.add("c", "d")
    await cuttable.remove("c", "a")
    await cuttable.add("e")

    assert await cuttable.local.exists(SET) == 0
    with pytest.raises(DurableUnavailableError):
        await cuttable.items()
    await cuttable.reconnect()

    assert await cuttable.items() == ["b", "d", "e"]
    assert await cuttable.durable_items() == {"b", "d", "e"}
    assert await cuttable.local.exists(keys.pending(PERSON)) == 0


async def test_changes_that_wait_make_a_set_of_the_application_unknown(cuttable: Pair) -> None:
    """The application wrote to the lost set directly: it exists, but lacks what waits."""
    await cuttable.settle("a", "b")
    await cuttable.evict()
    cuttable.cut()
    await cuttable.add("c")
    await cuttable.local.sadd(SET, "d")

    with pytest.raises(DurableUnavailableError):
        await cuttable.items()


async def test_an_item_removed_and_added_while_waiting_is_kept(cuttable: Pair) -> None:
    """The last change of the item, the addition, decides."""
    await cuttable.settle("a")
    await cuttable.evict()
    cuttable.cut()
    await cuttable.remove("a")
    await cuttable.add("a")
    await cuttable.reconnect()

    assert await cuttable.durable_items() == {"a"}


async def test_a_deletion_removes_waiting_changes(cuttable: Pair) -> None:
    """Changes that waited before the deletion must not restore the account."""
    await cuttable.settle("a")
    await cuttable.evict()
    cuttable.cut()
    await cuttable.add("b")
    await cuttable.people.delete_account(PERSON)
    await cuttable.reconnect()

    assert await cuttable.items() == []
    assert await cuttable.durable_items() == set()


async def test_ten_thousand_changes_wait_for_durable(cuttable: Pair) -> None:
    """These are more values than Lua's `unpack` can return."""
    many = [f"item-{number}" for number in range(10_000)]
    await cuttable.settle("a")
    await cuttable.evict()
    cuttable.cut()
    await cuttable.add(*many)
    await cuttable.reconnect()

    assert await cuttable.durable_items() == {"a", *many}
    assert await cuttable.local_items() == {"a", *many}


async def test_a_relay_that_finds_durable_down_releases_its_lease(cuttable: Pair) -> None:
    """A lease that is not released would make writers wait until it expires."""
    await cuttable.sign_in(entitled=None)  # the relay has to fetch the entitlement
    cuttable.cut()
    with pytest.raises(StoreUnavailableError):
        await cuttable.relay()

    assert await cuttable.local.exists(keys.lease(PERSON)) == 0
    await cuttable.add("a")


async def test_only_its_holder_releases_a_lease(pair: Pair) -> None:
    """A fetch whose lease has expired must not release the lease of the next fetch."""
    lease = keys.lease(PERSON)
    await pair.local.set(lease, "later")

    assert await pair.local_store.run_script("release_lease", PERSON, "earlier") == 0
    assert await pair.local.get(lease) == "later"
    assert await pair.local_store.run_script("release_lease", PERSON, "later") == 1
    assert await pair.local.exists(lease) == 0


async def test_a_fill_that_crossed_a_newer_write_is_refused(pair: Pair) -> None:
    """The fetch read durable before the write, and its lease expired before the fill."""
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
    """The lease of the fetch has not expired, but what it read is outdated."""
    await pair.settle("a")
    await pair.evict()
    old = await pair.read_for_fetch("slow")
    await pair.save_login()

    assert await pair.fill("slow", old) == "lost"


async def test_a_fill_that_crossed_a_flush_is_refused(pair: Pair) -> None:
    """The fetch read items whose removal was relayed before the flush; they must not come back."""
    await pair.settle("a", "b")
    old = await pair.read_for_fetch("slow")
    await pair.remove("a")
    await pair.relay()
    await pair.local.flushall()

    assert await pair.fill("slow", old) == "lost"
    assert await pair.items() == ["b"]


async def test_a_fill_that_crossed_a_deletion_is_refused(pair: Pair) -> None:
    """The account is deleted on local only; the fetch read all of it from durable."""
    await pair.settle("a")
    await pair.evict()
    old = await pair.read_for_fetch("slow")
    await pair.people.delete_account(PERSON)

    assert await pair.fill("slow", old) == "lost"
    assert await pair.local.exists(keys.user_details(PERSON)) == 0


async def test_a_fetch_after_a_deletion_restores_nothing(pair: Pair) -> None:
    """Durable does not have the deletion yet, but local's version of the deletion is newer."""
    await pair.settle("a")
    await pair.people.delete_account(PERSON)
    content = await pair.read_for_fetch("fresh")

    assert await pair.fill("fresh", content) == "ok"
    assert await pair.items() == []
    assert (await pair.people.load_account(PERSON)).profile is None


async def test_a_negative_that_crossed_a_newer_write_is_refused(pair: Pair) -> None:
    """Durable had no set when the fetch read it, and has one now."""
    await pair.settle()
    nothing = await pair.read_for_fetch("slow")
    await pair.local.delete(keys.lease(PERSON))
    await pair.add("a")
    await pair.relay()
    await pair.evict()

    assert await pair.fill("slow", nothing) == "lost"
    assert await pair.items() == ["a"]


async def test_a_negative_that_crossed_a_flush_is_refused(pair: Pair) -> None:
    """A cached answer 'durable has nothing' would hide the preferences for thirty seconds."""
    await pair.settle()
    await pair.add("a")
    nothing = await pair.read_for_fetch("slow")
    await pair.relay()
    await pair.local.flushall()

    assert await pair.fill("slow", nothing) == "lost"
    assert await pair.items() == ["a"]


async def test_an_empty_answer_of_durable_is_remembered(pair: Pair) -> None:
    """Most readers have no preferences, so each of their reads would ask durable."""
    await pair.settle()
    before = await pair.count_durable_scripts()

    assert await pair.items() == []
    assert await pair.count_durable_scripts() == before + 1
    assert await pair.items() == []
    assert await pair.count_durable_scripts() == before + 1
    assert 0 < await pair.local.ttl(keys.NEGATIVE.format(id=PERSON)) <= keys.NEGATIVE_TTL_S


async def test_a_write_ends_a_remembered_empty_answer(pair: Pair) -> None:
    """A set that is written, relayed and lost within thirty seconds must not be read as empty."""
    await pair.settle()
    assert await pair.items() == []
    await pair.add("a")
    await pair.relay()
    await pair.evict()

    assert await pair.items() == ["a"]


async def test_a_hundred_misses_at_once_cost_one_fetch(pair: Pair) -> None:
    """After a flush, no reader finds its data on local."""
    await pair.settle("a")
    await pair.local.flushall()
    before = await pair.count_durable_scripts()

    answers = await asyncio.gather(*(pair.items() for _ in range(100)))

    assert answers == [["a"]] * 100
    assert await pair.count_durable_scripts() == before + 1


async def test_misses_in_two_replicas_at_once_cost_one_fetch(
    pair: Pair, local_server: EmbeddedValkey, durable_server: EmbeddedValkey
) -> None:
    """The lease is a key on local, so all replicas share it."""
    await pair.settle("a")
    async with open_pair(local_server.url, durable_server.url) as other:
        await pair.local.flushall()
        before = await pair.count_durable_scripts()

        answers = await asyncio.gather(*(each.items() for each in (pair, other) * 50))

        assert answers == [["a"]] * 100
        assert await pair.count_durable_scripts() == before + 1


async def test_nothing_old_returns_after_a_deletion_and_a_rejoin_during_an_outage(
    cuttable: Pair,
) -> None:
    """Durable gets the deletion and the new account in one record."""
    await cuttable.settle("old")
    cuttable.cut()
    await cuttable.people.delete_account(PERSON)
    await cuttable.add_person("new")
    await cuttable.reconnect()

    assert await cuttable.durable_items() == {"new"}
    assert await cuttable.items() == ["new"]
    await cuttable.local.flushall()
    assert await cuttable.items() == ["new"]


async def test_a_deletion_is_dirty_until_durable_has_confirmed_it(cuttable: Pair) -> None:
    """The service answers 202 as long as the deleted person is dirty."""
    await cuttable.settle("a")
    cuttable.cut()
    await cuttable.people.delete_account(PERSON)

    with pytest.raises(StoreUnavailableError):
        await cuttable.engine.push_now(PERSON)
    assert await cuttable.dirty() == {PERSON}
    assert await cuttable.durable.exists(keys.user_details(PERSON)) == 1
    await cuttable.reconnect()

    assert await cuttable.durable.exists(keys.user_details(PERSON), SET) == 0
    assert await cuttable.durable.smembers(keys.sponsors("maintainer")) == set()


async def test_a_wrong_type_key_of_one_person_does_not_stop_the_fetch_of_others(pair: Pair) -> None:
    """Both people are fetched in one batch."""
    await pair.settle("a", people=(PERSON, OTHER))
    await pair.local.flushall()
    await pair.durable.set(SET, "foreign")

    with contextlib.suppress(StoreConflictError):
        await pair.engine.hydrator.hydrate([PERSON, OTHER])

    assert await pair.local_items(OTHER) == {"a"}
    assert await pair.local.exists(keys.lease(PERSON), keys.lease(OTHER)) == 0


async def test_a_visitors_set_is_left_alone(pair: Pair) -> None:
    """The application stores its anonymous visitors under the same pattern of keys."""
    await pair.local.hset(f"user:{PERSON}", "name", "visitor")
    await pair.local.sadd(SET, "theirs")
    await pair.settle()
    with pytest.raises(StoreConflictError):
        await pair.add("a")
    with pytest.raises(StoreConflictError):
        await pair.items()
    await pair.people.delete_account(PERSON)
    await pair.relay()

    assert await pair.local_items() == {"theirs"}
    assert await pair.durable_items() == set()


async def test_a_visitors_set_is_not_filled_from_durable(pair: Pair) -> None:
    """The visitors' counter reached a number that is a sponsor's GitHub id on durable."""
    await pair.settle("a")
    await pair.local.flushall()
    await pair.local.hset(f"user:{PERSON}", "name", "visitor")
    await pair.local.sadd(SET, "theirs")
    await pair.engine.hydrator.hydrate([PERSON])

    assert await pair.local_items() == {"theirs"}
    assert (await pair.people.load_account(PERSON)).profile is not None


async def test_a_set_that_is_lost_twice_in_a_row_comes_back_twice(pair: Pair) -> None:
    """The first fill must not leave a cached answer that durable has no set."""
    await pair.settle("a")
    for _ in range(2):
        await pair.evict()
        assert await pair.items() == ["a"]


async def test_a_set_of_waiting_changes_is_not_cached_as_absent(pair: Pair) -> None:
    """Durable had no set at the fetch, but gets the waiting changes with the next relay."""
    await pair.sign_in()
    await pair.local.delete(keys.NEGATIVE.format(id=PERSON))
    await pair.local.hset(keys.pending(PERSON), f"{COLLECTION}\na", "+")
    await pair.engine.hydrator.hydrate([PERSON])
    await pair.relay()
    await pair.evict()

    assert await pair.items() == ["a"]


async def test_a_fetched_deletion_makes_no_person_dirty(pair: Pair) -> None:
    """The removal comes from durable, so it is not a change that has to be sent there."""
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
