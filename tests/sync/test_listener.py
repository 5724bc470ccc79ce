"""The listener notices reads and writes on local by programs other than the service."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from sponsorsync.background import end_tasks
from sponsorsync.store import keys
from sponsorsync.sync.listener import Listener
from tests.support.sync import CATALOG, COLLECTION, PERSON, Pair, running_listener
from tests.support.waiting import until, until_equal

OTHER = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)
# Notifications are handled in order: once this key's is handled, all earlier ones are too.
LAST = keys.preferences(OTHER, COLLECTION)


@pytest.fixture
async def heard(pair: Pair) -> AsyncIterator[Pair]:
    """A pair whose listener runs."""
    async with running_listener(pair):
        await until(lambda: _has_listener(pair))
        yield pair


@asynccontextmanager
async def _listening(pair: Pair) -> AsyncIterator[Callable[[], None]]:
    """Collects notifications; yields a function that starts to handle them."""
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
    """Waits until the listener has handled all earlier notifications."""
    await pair.local.srem(keys.DIRTY, OTHER)
    await pair.local.sadd(LAST, secrets.token_hex(8))
    await until(lambda: _is_dirty(pair, OTHER))


@pytest.mark.parametrize(
    ("loss", "write", "items"),
    [
        (("PING",), ("SADD", SET, "c"), {"a", "b", "c"}),
        (("PING",), ("SREM", SET, "a"), {"b"}),
        (("DEL", SET), ("SADD", SET, "c"), {"a", "b", "c"}),
        (("FLUSHALL",), ("SADD", SET, "c"), {"a", "b", "c"}),
    ],
    ids=["addition", "removal", "addition to an evicted set", "addition after a flush"],
)
async def test_a_write_of_the_application_reaches_durable(
    heard: Pair, loss: tuple[str, ...], write: tuple[str, ...], items: set[str]
) -> None:
    """The old Flask code writes the set directly; a lost set is first merged with durable's."""
    await heard.settle("a", "b")
    await heard.local_store.run(*loss)
    await heard.local_store.run(*write)
    await until(lambda: _is_dirty(heard))
    await heard.relay()

    assert await heard.durable_items() == await heard.local_items() == items


@pytest.mark.parametrize("command", [("SREM", SET, "a"), ("SPOP", SET)])
async def test_the_last_removal_of_the_application_is_no_loss(
    heard: Pair, command: tuple[str, ...]
) -> None:
    """Redis deletes a set with its last item, so this missing key means an empty set."""
    await heard.settle("a")
    await heard.local_store.run(*command)
    await until(lambda: _is_dirty(heard))
    await heard.relay()

    assert await heard.durable_items() == set()
    await heard.local.flushall()
    assert await heard.items() == []


@pytest.mark.parametrize("command", [("DEL", SET), ("PEXPIRE", SET, "1")])
async def test_a_set_that_is_deleted_or_expires_is_a_loss(
    heard: Pair, command: tuple[str, ...]
) -> None:
    """No program empties preferences by DEL or expiry, so the set is fetched from durable."""
    await heard.settle("a")
    await heard.local_store.run(*command)
    await until_equal(lambda: heard.local.exists(SET), 0)
    await _wait_until_all_is_handled(heard)

    assert PERSON not in await heard.dirty()
    assert await heard.items() == ["a"]
    assert await heard.durable_items() == {"a"}


async def test_a_late_notification_of_a_removal_is_no_loss(pair: Pair) -> None:
    """The set is already smaller when the listener handles the earlier addition."""
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
    """The set is missing when the removal is handled, but another item had been left."""
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
    """A change of the service that is taken for a foreign write would be sent twice."""
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
    """A visitor of the application has a hash `user:{n}`, and sets named like a person's."""
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
    """The Pattern's search reads sets without the service; a first read of a lost set is empty."""
    await heard.settle("a", "b")
    await heard.local.flushall()
    assert await heard.local_items() == set()
    await until_equal(lambda: heard.local.exists(SET), 1)
    assert await heard.local_items() == {"a", "b"}


async def test_reading_a_missing_set_asks_durable_once(heard: Pair) -> None:
    """Most readers have no preferences; each of their reads, also by our scripts, is a miss."""
    await heard.settle()
    before = await heard.count_durable_scripts()
    for _ in range(50):
        assert await heard.local_items() == set()
    await until_equal(lambda: heard.local.exists(keys.NEGATIVE.format(id=PERSON)), 1)
    for _ in range(50):
        assert await heard.local_items() == set()
    await _wait_until_all_is_handled(heard)

    assert await heard.count_durable_scripts() == before + 1


async def test_reading_an_emptied_set_does_not_ask_durable(heard: Pair) -> None:
    """Local knows that the set is empty: its metadata say so."""
    await heard.add_person("a")
    await heard.remove("a")
    await heard.relay()
    before = await heard.count_durable_scripts()
    for _ in range(50):
        assert await heard.local_items() == set()
    await _wait_until_all_is_handled(heard)

    assert await heard.count_durable_scripts() == before


@pytest.mark.parametrize(("flags", "missing"), [("Kx", "Ems"), ("AE", "m")])
async def test_missing_flags_are_reported_and_not_set(pair: Pair, flags: str, missing: str) -> None:
    """Operators may forbid us to configure their Redis; the flag `A` means all flags except m."""
    await pair.local.config_set("notify-keyspace-events", flags)
    listener = Listener(
        pair.local_store, catalog=CATALOG, hydrator=pair.engine.hydrator, may_configure=False
    )

    assert await listener.load_missing_flags() == missing
    found = await pair.local.config_get("notify-keyspace-events")
    assert set(found["notify-keyspace-events"] or "") == set(flags)


async def test_the_listener_listens_again_after_its_connection_was_cut(heard: Pair) -> None:
    """Writes after the reconnection are noticed; `verify` finds those made meanwhile."""
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


async def test_an_outage_of_durable_does_not_end_the_listener(cuttable: Pair) -> None:
    """After the outage the listener restores lost sets again."""
    await cuttable.settle("a")

    async with running_listener(cuttable):
        await until(lambda: _has_listener(cuttable))
        cuttable.cut()
        await cuttable.evict()
        assert await cuttable.local_items() == set()
        await _wait_until_all_is_handled(cuttable)
        cuttable.flow()
        cuttable.engine.hydrator._down_until = 0.0  # as if the wait were over
        await until_equal(cuttable.local_items, {"a"})
