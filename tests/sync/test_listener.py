"""What is written to, or read from, local past the service."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from sponsorsync.background import end_tasks
from sponsorsync.store import keys
from sponsorsync.sync.listener import Listener
from tests.support.sync import CATALOG, COLLECTION, PERSON, running_listener
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.proxy import TcpProxy
    from tests.support.sync import Pair

OTHER = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)
# Handled in order: when the last one was, all before it were.
LAST = keys.preferences(OTHER, COLLECTION)


@pytest.fixture
async def heard(pair: Pair) -> AsyncIterator[Pair]:
    """A pair whose listener runs."""
    async with running_listener(pair):
        await until(lambda: _has_listener(pair))
        yield pair


@asynccontextmanager
async def _listening(pair: Pair) -> AsyncIterator[Callable[[], None]]:
    """Collects notifications; yields what starts to handle them."""
    listener = pair.engine.listener
    tasks = [asyncio.create_task(listener.listen())]
    try:
        await until(lambda: _has_listener(pair))
        yield lambda: tasks.append(asyncio.create_task(listener.handle()))
    finally:
        await end_tasks(*tasks)


async def _has_listener(pair: Pair) -> bool:
    return await pair.local.pubsub_numpat() > 0


async def _is_dirty(pair: Pair, person_id: int = PERSON) -> bool:
    return person_id in await pair.dirty()


async def _wait_until_all_is_handled(pair: Pair) -> None:
    """Returns when the listener has handled every notification of before."""
    await pair.local.srem(keys.DIRTY, OTHER)
    await pair.local.sadd(LAST, secrets.token_hex(8))
    await until(lambda: _is_dirty(pair, OTHER))


async def test_an_item_that_the_application_adds_travels(heard: Pair) -> None:
    """The old Flask code writes the set directly."""
    await heard.settle("a")
    await heard.local.sadd(SET, "b")
    await until(lambda: _is_dirty(heard))
    await heard.relay()

    assert await heard.durable_items() == {"a", "b"}


async def test_an_item_that_the_application_removes_travels(heard: Pair) -> None:
    """Likewise."""
    await heard.settle("a", "b")
    await heard.local.srem(SET, "a")
    await until(lambda: _is_dirty(heard))
    await heard.relay()

    assert await heard.durable_items() == {"b"}


@pytest.mark.parametrize("command", [("SREM", SET, "a"), ("SPOP", SET)])
async def test_the_last_removal_of_the_application_is_no_loss(
    heard: Pair, command: tuple[str, ...]
) -> None:
    """The set is gone because it was emptied."""
    await heard.settle("a")
    await heard.local_store.run(*command)
    await until(lambda: _is_dirty(heard))
    await heard.relay()

    assert await heard.durable_items() == set()
    await heard.local.flushall()
    assert await heard.items() == []


async def test_a_set_that_is_deleted_by_hand_is_a_loss(heard: Pair) -> None:
    """Nobody removes preferences with DEL."""
    await heard.settle("a")
    await heard.local.delete(SET)
    await _wait_until_all_is_handled(heard)

    assert PERSON not in await heard.dirty()
    assert await heard.items() == ["a"]
    assert await heard.durable_items() == {"a"}


async def test_a_set_that_expires_is_a_loss(heard: Pair) -> None:
    """Nor with a time to live."""
    await heard.settle("a")
    await heard.local.pexpire(SET, 1)

    async def is_gone() -> bool:
        return await heard.local.exists(SET) == 0

    await until(is_gone)
    await _wait_until_all_is_handled(heard)

    assert await heard.items() == ["a"]
    assert await heard.durable_items() == {"a"}


async def test_an_addition_to_an_evicted_set_is_merged_with_the_lost_set(heard: Pair) -> None:
    """The set is smaller than before after an addition: it is incomplete."""
    await heard.settle("a", "b")
    await heard.evict()
    await heard.local.sadd(SET, "c")
    await until(lambda: _is_dirty(heard))
    await heard.relay()

    assert await heard.durable_items() == {"a", "b", "c"}
    assert await heard.local_items() == {"a", "b", "c"}


async def test_a_notified_addition_to_an_unknown_set_is_merged(heard: Pair) -> None:
    """Local was flushed, and the application was faster than every reader."""
    await heard.settle("a", "b")
    await heard.local.flushall()
    await heard.local.sadd(SET, "c")
    await until(lambda: _is_dirty(heard))
    await heard.relay()

    assert await heard.durable_items() == {"a", "b", "c"}
    assert await heard.local_items() == {"a", "b", "c"}


async def test_a_late_notification_of_a_removal_is_no_loss(pair: Pair) -> None:
    """When the earlier addition is handled, the set is smaller already."""
    await pair.sign_in()
    async with _listening(pair) as handle:
        await pair.add("a", "b")
        await pair.relay()
        await pair.local.srem(SET, "a")
        handle()
        await until(lambda: _is_dirty(pair))
        await pair.relay()

    assert await pair.durable_items() == {"b"}
    assert await pair.local_items() == {"b"}


async def test_a_set_that_is_lost_right_after_a_removal_is_a_loss(pair: Pair) -> None:
    """It is gone when the removal is looked at, and more was in it than that removed."""
    await pair.settle("a", "b")
    async with _listening(pair) as handle:
        await pair.local.srem(SET, "a")
        await pair.local.delete(SET)
        handle()
        await _wait_until_all_is_handled(pair)
        await pair.relay()

    assert "b" in await pair.durable_items()
    assert "b" in await pair.items()


async def test_our_own_changes_are_no_foreign_writes(pair: Pair) -> None:
    """Each would be sent twice."""
    await pair.sign_in()
    async with _listening(pair) as handle:
        await pair.add("a", "b")
        await pair.remove("b")
        await pair.relay()
        before = await pair.local.hgetall(keys.meta(PERSON))
        handle()
        await _wait_until_all_is_handled(pair)

    assert await pair.local.hgetall(keys.meta(PERSON)) == before
    assert PERSON not in await pair.dirty()


async def test_the_listener_ignores_sets_of_visitors(heard: Pair) -> None:
    """They are hashes `user:{n}`, with sets of their own."""
    await heard.local.hset(f"user:{PERSON}", "name", "visitor")
    await heard.local.sadd(SET, "theirs")
    await heard.local.smembers(keys.preferences(PERSON, "mnodes"))
    await _wait_until_all_is_handled(heard)
    await heard.relay()

    assert PERSON not in await heard.dirty()
    assert await heard.local.exists(keys.meta(PERSON)) == 0
    assert await heard.local_items() == {"theirs"}
    assert await heard.durable_items() == set()


async def test_a_direct_reader_finds_a_lost_set_at_the_second_read(heard: Pair) -> None:
    """The Pattern's search reads the set itself, without the service."""
    await heard.settle("a", "b")
    await heard.local.flushall()
    assert await heard.local_items() == set()

    async def is_back() -> bool:
        return await heard.local.exists(SET) == 1

    await until(is_back)
    assert await heard.local_items() == {"a", "b"}


async def test_reading_a_set_that_exists_nowhere_asks_durable_once(heard: Pair) -> None:
    """Most readers have no preferences, and our own scripts miss as well."""
    await heard.sign_in()
    await heard.relay()
    before = await heard.count_durable_scripts()
    for _ in range(50):
        assert await heard.local_items() == set()

    async def is_remembered() -> bool:
        return await heard.local.exists(keys.negative(PERSON)) == 1

    await until(is_remembered)
    for _ in range(50):
        assert await heard.local_items() == set()
    await _wait_until_all_is_handled(heard)

    assert await heard.count_durable_scripts() == before + 1


async def test_reading_an_emptied_set_does_not_ask_durable(heard: Pair) -> None:
    """It is known to be empty, and stays known."""
    await heard.sign_in()
    await heard.add("a")
    await heard.remove("a")
    await heard.relay()
    before = await heard.count_durable_scripts()
    for _ in range(50):
        assert await heard.local_items() == set()
    await _wait_until_all_is_handled(heard)

    assert await heard.count_durable_scripts() == before


async def test_missing_flags_are_named_where_we_may_not_set_them(pair: Pair) -> None:
    """The operator decides over their Redis."""
    await pair.local.config_set("notify-keyspace-events", "Kx")
    listener = Listener(
        pair.local_store, catalog=CATALOG, hydrator=pair.engine.hydrator, may_configure=False
    )

    assert await listener.load_missing_flags() == "Ems"
    flags = await pair.local.config_get("notify-keyspace-events")
    assert set(flags["notify-keyspace-events"] or "") == set("Kx")


async def test_all_flags_do_not_hold_key_misses(pair: Pair) -> None:
    """`A` stands for all but m."""
    await pair.local.config_set("notify-keyspace-events", "AE")
    listener = Listener(
        pair.local_store, catalog=CATALOG, hydrator=pair.engine.hydrator, may_configure=False
    )

    assert await listener.load_missing_flags() == "m"


async def test_the_listener_listens_again_after_its_connection_was_cut(heard: Pair) -> None:
    """`verify` finds earlier writes; later ones are notified."""
    await heard.settle("a")
    await heard.local.client_kill_filter(_type="pubsub")

    async def is_heard() -> bool:
        await heard.local.sadd(SET, "b")
        await heard.local.srem(SET, "b")
        await heard.local.sadd(SET, "c")
        return PERSON in await heard.dirty()

    await until(is_heard)
    await heard.relay()
    assert await heard.durable_items() >= {"a", "c"}


async def test_durable_away_does_not_end_the_listener(cuttable: Pair, way: TcpProxy) -> None:
    """It cannot restore at the moment, and goes on with what it can do."""
    await cuttable.settle("a")

    async def is_back() -> bool:
        return await cuttable.local_items() == {"a"}

    async with running_listener(cuttable):
        await until(lambda: _has_listener(cuttable))
        way.cut()
        await cuttable.evict()
        assert await cuttable.local_items() == set()
        await _wait_until_all_is_handled(cuttable)
        way.flow()
        cuttable.engine.hydrator._down_until = 0.0  # as if the second were over
        await until(is_back)
