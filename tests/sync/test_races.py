"""Concurrent and killed relays: the last write wins, and every change is sent.

A relay *packs* people's records on local, *applies* them on durable, and *confirms* them on local.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import cast

import pytest

from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.sync.hydrate import Hydrator
from sponsorsync.sync.relay import Relay
from tests.support.scale import scale
from tests.support.sync import CATALOG, COLLECTION, PERSON, Pair, confirm_taken

OTHER = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)
A_YEAR_US = 365 * 86400 * 10**6


# ------------------------------------------------------------------ late and early


async def test_a_late_relay_does_not_restore_an_older_state(pair: Pair) -> None:
    """The relay packed an older state, and was stalled before the apply."""
    await pair.add_person("a", "b")
    stalled = await pair.pack()
    await pair.remove("a")
    await pair.relay()
    answers = await pair.apply(stalled)

    assert [answer for _, answer in answers] == ["newer"]
    assert await pair.durable_items() == {"b"}


async def test_a_late_relay_does_not_restore_a_deleted_account(pair: Pair) -> None:
    """A deletion leaves no part with a newer version, but the version of the deletion."""
    await pair.add_person("a")
    stalled = await pair.pack()
    await pair.people.delete_account(PERSON)
    await pair.relay()
    await pair.apply(stalled)

    assert await pair.durable_items() == set()
    assert await pair.durable.exists(keys.user_details(PERSON)) == 0
    assert await pair.durable.smembers(keys.sponsors("maintainer")) == set()


async def test_a_change_during_a_relay_stays_dirty(pair: Pair) -> None:
    """Durable's answer confirms only the record from before the change."""
    await pair.add_person("a")
    relay = pair.engine.relay
    records = await relay._pack_sendable([PERSON])
    answers = await pair.apply(records)
    await pair.add("b")
    await confirm_taken(relay, records, answers)

    assert await pair.dirty() == {PERSON}
    await pair.relay()
    assert await pair.durable_items() == {"a", "b"}


async def test_a_join_sends_older_sets_beside_a_newer_profile(pair: Pair) -> None:
    """Sign-ins before the join made only the profile newer: each part has its own version."""
    await pair.add_person("a", entitled=False)
    await pair.settle(entitled=False)
    await pair.settle(entitled=True)

    assert await pair.durable_items() == {"a"}


async def test_a_rejoin_sends_additions_from_after_the_lapse(pair: Pair) -> None:
    """The pruned copy on durable has local's version, but not all of local's items."""
    await pair.settle("a", "b")
    await pair.lapse()
    await pair.add("c")
    await pair.remove("a")
    await pair.relay()
    assert await pair.durable_items() == {"b"}
    await pair.settle()

    assert await pair.durable_items() == {"b", "c"}


async def test_a_late_pruning_removes_nothing_after_a_rejoin(pair: Pair) -> None:
    """The items to prune were computed during the lapse."""
    await pair.settle("a", "b")
    await pair.lapse()
    await pair.remove("a")
    found = cast(
        "list[bytes]",
        await pair.local_store.run_script("find_removed", PERSON, COLLECTION, "a", "b"),
    )
    await pair.settle("a")

    assert await pair.durable_store.run_script("prune", PERSON, COLLECTION, *found) == 0
    assert await pair.durable_items() == {"a", "b"}


# ------------------------------------------------------------------ two relays


async def test_two_relays_at_once_lose_nothing(pair: Pair) -> None:
    """Both relays send the same people repeatedly while these change."""
    relays = [pair.create_relay(), pair.create_relay()]
    people = list(range(PERSON, PERSON + 20))
    for person in people:
        await pair.sign_in(person)

    async def change() -> None:
        for number in range(10):
            for person in people:
                await pair.add(f"item-{number}", person_id=person)
                await pair.remove(f"item-{number - 1}", person_id=person)

    async def drain(relay: Relay) -> None:
        for _ in range(30):
            await relay.drain(people)

    await asyncio.gather(change(), *map(drain, relays))
    await pair.relay()

    assert [await pair.durable_items(person) for person in people] == [{"item-9"}] * len(people)
    assert await pair.dirty() == set()


@pytest.mark.parametrize("order", sorted(set(permutations("AAABBB"))), ids="".join)
async def test_the_steps_of_two_relays_may_be_interleaved_in_any_order(
    pair: Pair, order: tuple[str, ...]
) -> None:
    """The steps are pack, apply and confirm; a change precedes each of them."""
    await pair.sign_in()
    relays = {name: _take_steps(pair, pair.create_relay()) for name in "AB"}
    for step, name in enumerate(order):
        await pair.add(f"item-{step}")
        await pair.remove(f"item-{step - 1}")
        await anext(relays[name])
    await pair.relay()

    assert await pair.durable_items() == {"item-5"}
    assert await pair.local_items() == {"item-5"}
    assert await pair.dirty() == set()


async def _take_steps(pair: Pair, relay: Relay) -> AsyncIterator[None]:
    """Performs the steps of a drain, and pauses after each."""
    records = await relay._pack_sendable([PERSON])
    yield
    answers = await pair.apply(records)
    yield
    await confirm_taken(relay, records, answers)
    yield


async def test_two_relays_share_the_outbox(pair: Pair) -> None:
    """Each entry of the outbox goes to only one relay."""
    one, other = pair.create_relay(), pair.create_relay()
    await one._create_group()
    for person in range(PERSON, PERSON + 10):
        await pair.sign_in(person)

    woken = await asyncio.gather(one._read_outbox(), other._read_outbox())

    assert sorted(person for each in woken for person in each) == list(range(PERSON, PERSON + 10))


class _Delayed:
    """A store that delays its first answer to `run_scripts` until `second_is_done` is set."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._calls = 0
        self.second_is_done = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def run_scripts(self, name: str, arguments: object) -> object:
        self._calls += 1
        is_first = self._calls == 1
        answer = await self._store.run_scripts(name, arguments)  # type: ignore[arg-type]
        if is_first:
            await self.second_is_done.wait()
        return answer


async def test_answers_out_of_order_are_no_sign_of_a_loss(pair: Pair) -> None:
    """A late answer has a lower count of applied records, as if durable had lost some."""
    for person in (PERSON, OTHER):
        await pair.sign_in(person)
    await pair.relay()
    relay = pair.create_relay()
    delayed = _Delayed(pair.durable_store)
    relay._durable = cast("RedisStore", delayed)
    for person in (PERSON, OTHER):
        await pair.add("a", person_id=person)
    first = asyncio.create_task(relay.drain([PERSON]))
    while delayed._calls == 0:  # noqa: ASYNC110 - it happens at once
        await asyncio.sleep(0)
    await relay.drain([OTHER])
    delayed.second_is_done.set()
    await first

    assert await pair.dirty() == set()


# ------------------------------------------------------------------ killed in between


class _KilledError(Exception):
    """Stands for the end of the process."""


@dataclass
class _Fuse:
    """Permits a number of calls to all stores together, then raises at every call."""

    calls_left: int

    def burn(self) -> None:
        if self.calls_left == 0:
            raise _KilledError
        self.calls_left -= 1


class _FusedStore:
    """A store whose calls raise once the fuse permits no more."""

    def __init__(self, store: RedisStore, fuse: _Fuse) -> None:
        self._store = store
        self._fuse = fuse

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)

        async def call(*arguments: object) -> object:
            self._fuse.burn()
            return await method(*arguments)

        return call


def _create_mortal_relay(pair: Pair, fuse: _Fuse) -> Relay:
    local, durable = (
        cast("RedisStore", _FusedStore(store, fuse))
        for store in (pair.local_store, pair.durable_store)
    )
    incarnations = pair.engine.incarnations
    hydrator = Hydrator(local, durable, catalog=CATALOG, incarnations=incarnations)
    return Relay(local, durable, catalog=CATALOG, hydrator=hydrator, incarnations=incarnations)


async def _change(pair: Pair, person: int) -> None:
    await pair.sign_in(person)
    await pair.add("a", "b", person_id=person)
    await pair.relay()
    await pair.remove("a", person_id=person)
    await pair.add("c", person_id=person)


async def _join(pair: Pair, person: int) -> None:
    await pair.add_person("b", "c", person_id=person, entitled=False)
    await pair.relay()
    await pair.sign_in(person)


async def _lapse(pair: Pair, person: int) -> None:
    await pair.sign_in(person)
    await pair.add("a", "b", "c", person_id=person)
    await pair.relay()
    await pair.lapse(person)
    await pair.remove("a", person_id=person)


async def _wait(pair: Pair, person: int) -> None:
    await _change(pair, person)
    pair.engine.incarnations.is_local_verified = False
    await pair.add("c", person_id=person)
    pair.engine.incarnations.is_local_verified = True


async def _come_back_older(pair: Pair, person: int) -> None:
    await _change(pair, person)
    await pair.relay()
    # Local has the state before the last change, and is dirty.
    meta = keys.meta(person)
    version = int(await pair.local.hget(meta, f"v:{COLLECTION}") or 0)
    await pair.local.sadd(keys.preferences(person, COLLECTION), "a")
    await pair.local.hset(meta, f"v:{COLLECTION}", str(version - 1))
    await pair.sign_in(person)


async def _delete_and_return(pair: Pair, person: int) -> None:
    await pair.sign_in(person)
    await pair.add("a", "b", person_id=person)
    await pair.relay()
    await pair.people.delete_account(person)
    await pair.sign_in(person)
    await pair.add("b", "c", person_id=person)


@pytest.mark.parametrize(
    "happen", [_change, _join, _lapse, _wait, _come_back_older, _delete_and_return]
)
async def test_another_relay_finishes_the_work_of_a_killed_one(
    pair: Pair, happen: Callable[[Pair, int], Awaitable[None]]
) -> None:
    """The first relay is killed before each of its steps; the sweeps of another do the rest."""
    steps = -1
    is_killed = True
    while is_killed:
        steps += 1
        person = PERSON + steps
        await happen(pair, person)
        mortal, heir = _create_mortal_relay(pair, fuse := _Fuse(steps)), pair.create_relay()
        await heir._create_group()
        try:
            await mortal.drain(await mortal._read_outbox())
        except _KilledError:
            assert fuse.calls_left == 0
        else:
            is_killed = False
        await pair.local.delete(keys.lease(person))  # as if it had expired
        await heir.sweep()  # the first sweep only lists dirty people
        for _ in range(3):
            await heir.sweep()

        assert await pair.local_items(person) == {"b", "c"}
        assert await pair.durable_items(person) == {"b", "c"}
        assert await pair.dirty() == set()

    assert steps >= 5  # read, XDEL, pack, apply, confirm


async def test_dirty_people_are_sent_after_a_loss_of_the_outbox(pair: Pair) -> None:
    """Dirty is the truth, the outbox only wakes."""
    await pair.add_person("a")
    await pair.local.delete(keys.OUTBOX)
    relay = pair.create_relay()
    assert await relay._read_outbox() == []  # creates the group again
    assert await relay.sweep() == 0  # the first sweep sends none: another relay may be sending them
    assert await relay.sweep() == 1

    assert await pair.durable_items() == {"a"}
    assert await pair.dirty() == set()


async def test_a_lost_group_is_created_again_and_reads_all_entries(pair: Pair) -> None:
    """An operator may destroy the consumer group of the outbox."""
    relay = pair.create_relay()
    await relay._create_group()
    await pair.local.xgroup_destroy(keys.OUTBOX, keys.OUTBOX_GROUP)
    await pair.sign_in()
    assert await relay._read_outbox() == []

    assert await relay._read_outbox() == [PERSON]


# ------------------------------------------------------------------ clocks


async def test_versions_grow_also_when_the_clock_goes_back(pair: Pair) -> None:
    """A clock one year behind must not make a newer state look older."""
    await pair.sign_in()
    future = int(datetime.now(UTC).timestamp() * 1e6) + A_YEAR_US
    await pair.local.zadd(keys.PEOPLE, {str(OTHER): future})
    await pair.add("a")
    await pair.relay()
    await pair.add("b")
    await pair.relay()

    assert await pair.durable_items() == {"a", "b"}
    assert int(await pair.local.hget(keys.meta(PERSON), f"v:{COLLECTION}") or 0) > future


async def test_a_fetched_set_with_a_version_from_the_future_can_be_changed(pair: Pair) -> None:
    """Local lost its last version in a flush; new versions must exceed the fetched one."""
    await pair.sign_in()
    future = int(datetime.now(UTC).timestamp() * 1e6) + A_YEAR_US
    await pair.local.zadd(keys.PEOPLE, {str(PERSON): future})
    await pair.add("a", "b")
    await pair.relay()
    await pair.local.flushall()
    await pair.remove("a")
    await pair.relay()

    assert await pair.durable_items() == {"b"}
    assert await pair.items() == ["b"]


# ------------------------------------------------------------------ size


async def test_ten_thousand_items_are_pruned(pair: Pair) -> None:
    """Lua's `unpack` returns at most some 8,000 values, so scripts have to work in chunks."""
    many = [f"item-{number}" for number in range(10_000)]
    await pair.settle(*many)
    await pair.lapse()
    await pair.remove(*many[1:])
    await pair.relay()

    assert await pair.durable_items() == {many[0]}


async def test_a_relay_takes_more_people_than_lua_unpacks(pair: Pair) -> None:
    """One script confirms all people of a drain."""
    people = range(PERSON, PERSON + 5000)
    fields = ("v:profile", "5", "p:profile", "1", "p:entitlement:maintainer", "0")
    await pair.local_store.run_together(
        [("HSET", keys.user_details(person), "id", person) for person in people]
        + [("HSET", keys.meta(person), *fields) for person in people]
        + [("SADD", keys.DIRTY, *people)]
    )
    await pair.engine.relay.drain(people)

    assert await pair.dirty() == set()
    assert await pair.durable.zcard(keys.PEOPLE) == 5000


@pytest.mark.random
async def test_an_outage_costs_one_entry_for_each_changed_person(cuttable: Pair) -> None:
    """Hundreds of changes of one person must not fill the outbox."""
    people = range(PERSON, PERSON + scale(50))
    await cuttable.settle("a", people=people)
    await cuttable.local.delete(keys.OUTBOX)  # the drains of `settle` do not read it
    cuttable.cut()

    async def change(person: int) -> None:
        for number in range(50):
            await cuttable.add(f"item-{number}", person_id=person)
            await cuttable.remove(f"item-{number}", person_id=person)

    for at in range(0, len(people), 20):
        await asyncio.gather(*map(change, people[at : at + 20]))

    assert await cuttable.local.xlen(keys.OUTBOX) <= len(people)
    assert cast("int", await cuttable.local.memory_usage(keys.OUTBOX)) < 100 * len(people)
    assert len(await cuttable.dirty()) == len(people)
    await cuttable.reconnect()
    assert [await cuttable.durable_items(person) for person in people] == [{"a"}] * len(people)


# ------------------------------------------------------------------ lapse and join by time


async def test_an_entitlement_that_ends_by_time_reaches_durables_index(pair: Pair) -> None:
    """No login happens at the end, so the periodic sweep makes it a change that is relayed."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    await pair.sign_in(until=soon)
    await pair.add("a")
    await pair.relay()
    assert await pair.durable.smembers(keys.sponsors("maintainer")) == {str(PERSON)}
    past = int((datetime.now(UTC) - timedelta(seconds=5)).timestamp())
    await _let_entitlement_end(pair, past)
    await pair.engine._sweep()
    await pair.relay()

    assert await pair.local.smembers(keys.sponsors("maintainer")) == set()
    assert await pair.durable.smembers(keys.sponsors("maintainer")) == set()
    assert await pair.durable.zscore(keys.LAPSED, str(PERSON)) == past
    assert await pair.durable_items() == {"a"}


async def test_an_entitlement_that_ended_while_local_was_flushed_reaches_durables_index(
    pair: Pair,
) -> None:
    """The flush removed local's list of ends; the fetch finds the end in the facts."""
    await pair.sign_in(until=datetime.now(UTC) + timedelta(hours=1))
    await pair.add("a")
    await pair.relay()
    past = int((datetime.now(UTC) - timedelta(seconds=5)).timestamp())
    await _let_entitlement_end(pair, past)
    await pair.local.flushall()
    await pair.compare()  # fetches the entitled people
    await pair.engine._sweep()
    await pair.relay()

    assert await pair.durable.smembers(keys.sponsors("maintainer")) == set()
    assert await pair.durable.zscore(keys.LAPSED, str(PERSON)) == past


async def _let_entitlement_end(pair: Pair, second: int) -> None:
    """Sets the end of the entitlement to this second on both servers, without a change."""
    for client in (pair.local, pair.durable):
        await client.hset(keys.sponsorship("maintainer", PERSON), "valid_until", str(second))
        await client.zadd(keys.ENTITLEMENT_ENDS, {f"maintainer:{PERSON}": second})
