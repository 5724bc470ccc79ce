"""Two things at once, or one of them killed: the last write wins, and nobody is forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import TYPE_CHECKING, cast

import pytest

from sponsorsync.store import keys
from sponsorsync.sync.hydrate import Hydrator
from sponsorsync.sync.person_records import apply_records, pack_people
from sponsorsync.sync.relay import Relay
from tests.support.scale import scale
from tests.support.sync import CATALOG, COLLECTION, PERSON, Pair, confirm_taken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sponsorsync.store.connect import RedisStore
    from sponsorsync.sync.person_records import PersonRecord
    from tests.support.proxy import TcpProxy

OTHER = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)
A_YEAR_US = 365 * 86400 * 10**6


async def _export(pair: Pair, person_id: int = PERSON) -> list[PersonRecord]:
    return await pack_people(pair.local_store, [person_id], what="entitled", catalog=CATALOG)


def _create_relay(pair: Pair) -> Relay:
    engine = pair.engine
    return Relay(
        pair.local_store,
        pair.durable_store,
        catalog=CATALOG,
        hydrator=engine.hydrator,
        incarnations=engine.incarnations,
    )


# ------------------------------------------------------------------ late and early


async def test_a_late_relay_does_not_put_an_older_state_back(pair: Pair) -> None:
    """It had exported before, and was stalled on its way to durable."""
    await pair.sign_in()
    await pair.add("a", "b")
    stalled = await _export(pair)
    await pair.remove("a")
    await pair.relay()
    answers = await apply_records(pair.durable_store, stalled, catalog=CATALOG)

    assert [answer for _, answer in answers] == ["newer"]
    assert await pair.durable_items() == {"b"}


async def test_a_late_relay_does_not_bring_a_deleted_account_back(pair: Pair) -> None:
    """The deletion left no part that could be newer, only its own version."""
    await pair.sign_in()
    await pair.add("a")
    stalled = await _export(pair)
    await pair.people.delete_account(PERSON)
    await pair.relay()
    await apply_records(pair.durable_store, stalled, catalog=CATALOG)

    assert await pair.durable_items() == set()
    assert await pair.durable.exists(keys.user_details(PERSON)) == 0
    assert await pair.durable.smembers(keys.sponsors("maintainer")) == set()


async def test_a_change_under_way_stays_dirty(pair: Pair) -> None:
    """Durable's answer is for the older record."""
    await pair.sign_in()
    await pair.add("a")
    relay = pair.engine.relay
    records = await relay._pack_sendable([PERSON])
    answers = await apply_records(pair.durable_store, records, catalog=CATALOG)
    await pair.add("b")
    await confirm_taken(relay, records, answers)

    assert await pair.dirty() == {PERSON}
    await pair.relay()
    assert await pair.durable_items() == {"a", "b"}


async def test_a_newer_profile_on_durable_does_not_stop_a_set(pair: Pair) -> None:
    """A person who signs in every day and joins at last: each part has its own version."""
    await pair.sign_in(entitled=False)
    await pair.add("a")
    await pair.sign_in(entitled=False)
    await pair.relay()
    await pair.sign_in(entitled=True)
    await pair.relay()

    assert await pair.durable_items() == {"a"}


async def test_a_rejoin_sends_additions_from_after_the_lapse(pair: Pair) -> None:
    """The pruned copy has local's version, though not all of its members."""
    await pair.settle("a", "b")
    await pair.lapse()
    await pair.add("c")
    await pair.remove("a")
    await pair.relay()
    assert await pair.durable_items() == {"b"}
    await pair.sign_in()
    await pair.relay()

    assert await pair.durable_items() == {"b", "c"}


async def test_a_late_pruning_removes_nothing_after_a_rejoin(pair: Pair) -> None:
    """It was computed from the set during the lapse."""
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
    """Each takes the same people, again and again, while they change."""
    relays = [_create_relay(pair), _create_relay(pair)]
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
    """Pack, apply, confirm of each, and a change before every one of them."""
    await pair.sign_in()
    relays = {name: _take_steps(pair, _create_relay(pair)) for name in "AB"}
    for step, name in enumerate(order):
        await pair.add(f"item-{step}")
        await pair.remove(f"item-{step - 1}")
        await anext(relays[name])
    await pair.relay()

    assert await pair.durable_items() == {"item-5"}
    assert await pair.local_items() == {"item-5"}
    assert await pair.dirty() == set()


async def _take_steps(pair: Pair, relay: Relay) -> AsyncIterator[None]:
    """Does what a drain does, and stops after each step."""
    records = await relay._pack_sendable([PERSON])
    yield
    answers = await apply_records(pair.durable_store, records, catalog=CATALOG)
    yield
    await confirm_taken(relay, records, answers)
    yield


async def test_two_relays_share_the_outbox(pair: Pair) -> None:
    """An entry wakes one of them."""
    one, other = _create_relay(pair), _create_relay(pair)
    await one._create_group()
    for person in range(PERSON, PERSON + 10):
        await pair.sign_in(person)

    woken = await asyncio.gather(one._read_outbox(), other._read_outbox())

    assert sorted(person for each in woken for person in each) == list(range(PERSON, PERSON + 10))


class _Delayed:
    """A store whose first answer to `run_scripts` comes after that to the second call."""

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


async def test_answers_that_overtake_each_other_are_no_sign_of_a_loss(pair: Pair) -> None:
    """Durable's counter seems to go back if the order of requests is ignored."""
    for person in (PERSON, OTHER):
        await pair.sign_in(person)
    await pair.relay()
    relay = _create_relay(pair)
    delayed = _Delayed(pair.durable_store)
    relay._durable = cast("RedisStore", delayed)
    for person in (PERSON, OTHER):
        await pair.add("a", person_id=person)
    first = asyncio.create_task(relay.drain([PERSON]))
    while delayed._calls == 0:  # noqa: ASYNC110 - it is about to
        await asyncio.sleep(0)
    await relay.drain([OTHER])
    delayed.second_is_done.set()
    await first

    assert await pair.dirty() == set()


# ------------------------------------------------------------------ killed in between


class _KilledError(Exception):
    """As if the process had ended here."""


@dataclass
class _Fuse:
    """Lets so many calls through, over all stores, and none after that."""

    calls_left: int

    def burn(self) -> None:
        if self.calls_left == 0:
            raise _KilledError
        self.calls_left -= 1


class _FusedStore:
    """A store that ends the process before a call."""

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
    await pair.sign_in(person, entitled=False)
    await pair.add("b", "c", person_id=person)
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


async def _be_older(pair: Pair, person: int) -> None:
    await _change(pair, person)
    await pair.relay()
    # Local as it was before the last change, and dirty.
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


@pytest.mark.parametrize("happen", [_change, _join, _lapse, _wait, _be_older, _delete_and_return])
async def test_a_relay_that_is_killed_between_any_two_steps_leaves_it_to_another(
    pair: Pair, happen: Callable[[Pair, int], Awaitable[None]]
) -> None:
    """For every step there is: killed there, then a sweep of another relay finishes the work."""
    steps = -1
    is_killed = True
    while is_killed:
        steps += 1
        person = PERSON + steps
        await happen(pair, person)
        mortal, heir = _create_mortal_relay(pair, fuse := _Fuse(steps)), _create_relay(pair)
        await heir._create_group()
        try:
            await mortal.drain(await mortal._read_outbox())
        except _KilledError:
            assert fuse.calls_left == 0
        else:
            is_killed = False
        await pair.local.delete(keys.lease(person))  # as if its time were over
        await heir.sweep()  # sees who is dirty
        for _ in range(3):
            await heir.sweep()

        assert await pair.local_items(person) == {"b", "c"}
        assert await pair.durable_items(person) == {"b", "c"}
        assert await pair.dirty() == set()

    assert steps >= 5  # read, XDEL, export, apply, confirm


async def test_a_lost_outbox_is_made_up_for(pair: Pair) -> None:
    """Dirty is the truth; stream and group are gone together."""
    await pair.sign_in()
    await pair.add("a")
    await pair.local.delete(keys.OUTBOX)
    relay = _create_relay(pair)
    assert await relay._read_outbox() == []  # makes the group anew
    assert await relay.sweep() == 0  # they may be on their way: not the first time
    assert await relay.sweep() == 1

    assert await pair.durable_items() == {"a"}
    assert await pair.dirty() == set()


async def test_a_lost_group_is_created_again_and_reads_all_entries(pair: Pair) -> None:
    """XGROUP DESTROY by hand."""
    relay = _create_relay(pair)
    await relay._create_group()
    await pair.local.xgroup_destroy(keys.OUTBOX, keys.OUTBOX_GROUP)
    await pair.sign_in()
    assert await relay._read_outbox() == []

    assert await relay._read_outbox() == [PERSON]


# ------------------------------------------------------------------ clocks


async def test_versions_grow_also_when_the_clock_goes_back(pair: Pair) -> None:
    """What a year-old clock calls older is not."""
    await pair.sign_in()
    future = int(datetime.now(UTC).timestamp() * 1e6) + A_YEAR_US
    await pair.local.zadd(keys.PEOPLE, {str(OTHER): future})
    await pair.add("a")
    await pair.relay()
    await pair.add("b")
    await pair.relay()

    assert await pair.durable_items() == {"a", "b"}
    assert int(await pair.local.hget(keys.meta(PERSON), f"v:{COLLECTION}") or 0) > future


async def test_a_set_that_came_back_from_the_future_can_be_changed(pair: Pair) -> None:
    """A flush removed the index of people; fetched versions show how far they had come."""
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


async def test_ten_thousand_items_travel_and_come_back(pair: Pair) -> None:
    """Lua can unpack some 8,000 values at once."""
    many = [f"item-{number}" for number in range(10_000)]
    await pair.settle(*many)
    assert await pair.durable_items() == set(many)
    await pair.local.flushall()
    assert len(await pair.items()) == 10_000
    await pair.remove(*many[1:])
    await pair.relay()

    assert await pair.durable_items() == {many[0]}


async def test_ten_thousand_items_are_pruned(pair: Pair) -> None:
    """The same for members removed after a lapse."""
    many = [f"item-{number}" for number in range(10_000)]
    await pair.settle(*many)
    await pair.lapse()
    await pair.remove(*many[1:])
    await pair.relay()

    assert await pair.durable_items() == {many[0]}


async def test_a_relay_takes_more_people_than_lua_unpacks(pair: Pair) -> None:
    """A confirm of all of them is one script."""
    people = range(PERSON, PERSON + 5000)
    notes = ("v:profile", "5", "p:profile", "1", "p:entitlement:maintainer", "0")
    await pair.local_store.run_together(
        [("HSET", keys.user_details(person), "id", person) for person in people]
        + [("HSET", keys.meta(person), *notes) for person in people]
        + [("SADD", keys.DIRTY, *people)]
    )
    await pair.engine.relay.drain(people)

    assert await pair.dirty() == set()
    assert await pair.durable.zcard(keys.PEOPLE) == 5000


@pytest.mark.random
async def test_an_outage_costs_one_entry_for_each_changed_person(
    cuttable: Pair, way: TcpProxy
) -> None:
    """Hundreds of changes of each person, and a small outbox."""
    people = range(PERSON, PERSON + scale(50))
    for person in people:
        await cuttable.sign_in(person)
        await cuttable.add("a", person_id=person)
    await cuttable.relay()
    await cuttable.local.delete(keys.OUTBOX)  # these relays went without it
    way.cut()

    async def change(person: int) -> None:
        for number in range(50):
            await cuttable.add(f"item-{number}", person_id=person)
            await cuttable.remove(f"item-{number}", person_id=person)

    for at in range(0, len(people), 20):
        await asyncio.gather(*map(change, people[at : at + 20]))

    assert await cuttable.local.xlen(keys.OUTBOX) <= len(people)
    assert cast("int", await cuttable.local.memory_usage(keys.OUTBOX)) < 100 * len(people)
    assert len(await cuttable.dirty()) == len(people)
    way.flow()
    await cuttable.relay_when_back()
    assert [await cuttable.durable_items(person) for person in people] == [{"a"}] * len(people)


# ------------------------------------------------------------------ lapse and join by time


async def test_an_entitlement_that_ends_by_time_reaches_durables_index(pair: Pair) -> None:
    """Nobody signs in at that moment; the sweep makes it an event."""
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
    """The flush removed the calendar; the fetch finds the end."""
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
    """Sets the end of the entitlement on both sides, as if it had been this from the start."""
    for side in (pair.local, pair.durable):
        await side.hset(keys.sponsorship("maintainer", PERSON), "valid_until", str(second))
        await side.zadd(keys.ENTITLEMENT_ENDS, {f"maintainer:{PERSON}": second})
