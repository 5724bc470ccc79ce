"""What durable took and nobody confirmed: local learns of it without a further write."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sponsorsync.store import keys
from sponsorsync.store.scripts import PEOPLE_A_SCRIPT
from sponsorsync.sync import unconfirmed
from sponsorsync.sync.person_records import apply_records, pack_people
from sponsorsync.sync.relay import Relay
from sponsorsync.sync.unconfirmed import UnconfirmedChanges
from tests.support.sync import CATALOG, PERSON, confirm_taken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import pytest

    from sponsorsync.store.connect import Argument, RedisStore, Reply
    from sponsorsync.sync.person_records import PersonRecord
    from sponsorsync.sync.unconfirmed import MergeNewer
    from tests.support.sync import Pair


async def _look(pair: Pair) -> None:
    """Looks at all that durable has taken by now: the first call only notes how far that is."""
    await pair.engine._arrivals.check()
    await pair.engine._arrivals.check()


async def _stall_before_a_flush(pair: Pair) -> list[PersonRecord]:
    """A relay has read from local and is stopped; local is flushed, and filled from durable."""
    await pair.settle("a")
    await _look(pair)
    await pair.add("b")
    stalled = await pack_people(pair.local_store, [PERSON], what="entitled", catalog=CATALOG)
    await pair.local.flushall()
    assert await pair.items() == ["a"]
    return stalled


async def test_a_package_of_before_a_flush_that_nobody_confirmed_reaches_local(pair: Pair) -> None:
    """Its relay died after durable took it: durable was newer, and nobody was dirty."""
    stalled = await _stall_before_a_flush(pair)
    await apply_records(pair.durable_store, stalled, catalog=CATALOG)
    await _look(pair)

    assert await pair.kept() == {"a", "b"}
    assert await pair.here() == {"a", "b"}
    assert await pair.dirty() == set()


async def test_a_package_that_arrives_after_a_later_login_reaches_local(pair: Pair) -> None:
    """The login is later than all that is in the package, and was confirmed before it arrived."""
    stalled = await _stall_before_a_flush(pair)
    await pair.sign_in()
    await pair.relay()
    await apply_records(pair.durable_store, stalled, catalog=CATALOG)
    await _look(pair)

    assert await pair.here() == await pair.kept() == {"a", "b"}


async def test_a_package_that_arrives_within_another_ones_pipeline_reaches_local(
    pair: Pair,
) -> None:
    """Each person is confirmed with their own script's count, not with the pipeline's last one."""
    stalled = await _stall_before_a_flush(pair)
    people = range(PERSON, PERSON + PEOPLE_A_SCRIPT + 1)
    for person in people:
        await pair.sign_in(person)

    async def arrive() -> None:
        await apply_records(pair.durable_store, stalled, catalog=CATALOG)

    durable = cast("RedisStore", _Interrupted(pair.durable_store, arrive))
    engine = pair.engine
    relay = Relay(
        pair.local_store,
        durable,
        catalog=CATALOG,
        hydrator=engine.hydrator,
        incarnations=engine.incarnations,
    )
    await relay.drain(people)
    await _look(pair)

    assert await pair.here() == await pair.kept() == {"a", "b"}


async def test_what_is_under_way_is_left_to_its_relay(pair: Pair) -> None:
    """It will be confirmed in a moment; fetching it all again would be work for nothing."""
    await pair.sign_in()
    fetched: list[int] = []
    watch = UnconfirmedChanges(
        pair.local_store,
        pair.durable_store,
        merge_newer=_recording(fetched),
        push_again=pair.engine.incarnations.push_again,
    )
    records = await pair.engine.relay._export([PERSON])
    answers = await apply_records(pair.durable_store, records, catalog=CATALOG)
    await watch.check()
    await confirm_taken(pair.engine.relay, records, answers)
    await watch.check()

    assert fetched == []


async def test_each_arrival_is_looked_at_once(pair: Pair) -> None:
    """The next look begins where this one ended, in whichever process it is."""
    await pair.sign_in()
    await pair.relay()
    await _look(pair)

    assert await pair.local.hget(keys.INCARNATIONS, "checked") == await pair.durable.get(
        keys.APPLIED
    )


async def test_a_durable_that_counts_anew_is_looked_at_anew(pair: Pair) -> None:
    """It was restored from a backup: what it takes from then on has counts of before."""
    stalled = await _stall_before_a_flush(pair)
    await pair.local.hset(keys.INCARNATIONS, "checked", "1000")
    await pair.compare()
    await apply_records(pair.durable_store, stalled, catalog=CATALOG)
    await _look(pair)

    assert await pair.here() == {"a", "b"}


async def test_a_durable_that_was_emptied_while_nobody_sends_gets_everybody_again(
    pair: Pair,
) -> None:
    """By hand, under open connections: what local lost next would be answered as empty."""
    await pair.settle("a")
    await _look(pair)
    await pair.durable.flushall()
    await _look(pair)
    await pair.relay()

    assert await pair.kept() == {"a"}


async def test_whom_local_cannot_take_over_is_set_aside_and_tried_again(pair: Pair) -> None:
    """A wrong-type key lies in the way; once it is gone, nobody has to remember them."""
    stalled = await _stall_before_a_flush(pair)
    await apply_records(pair.durable_store, stalled, catalog=CATALOG)
    profile = keys.user_details(PERSON)
    await pair.local.set(profile, "foreign")
    await _look(pair)
    assert await pair.dirty() == {PERSON}
    await pair.relay()
    assert await pair.local.hlen(keys.DEAD_LETTERS) == 1

    await pair.local.delete(profile)
    await pair.relay()
    assert await pair.here() == {"a", "b"}


async def test_more_people_than_a_page_are_all_looked_at(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages end in the middle of a count: nobody is passed over."""
    people = range(PERSON, PERSON + 7)
    for person in people:
        await pair.sign_in(person)
    records = await pack_people(pair.local_store, people, what="entitled", catalog=CATALOG)
    # Three scripts, of three, three and one: pages of four end within a count.
    for at in range(0, len(records), 3):
        await apply_records(pair.durable_store, records[at : at + 3], catalog=CATALOG)
    monkeypatch.setattr(unconfirmed, "_PAGE", 4)
    fetched: list[int] = []
    await unconfirmed.merge_unconfirmed(
        pair.local_store, pair.durable_store, _recording(fetched), after=0
    )

    assert set(fetched) == set(people)


def _recording(fetched: list[int]) -> MergeNewer:
    async def merge_newer(ids: Sequence[int]) -> dict[int, str]:
        fetched.extend(ids)
        return {}

    return merge_newer


class _Interrupted:
    """Durable, where something happens between the first and the second script of a pipeline."""

    def __init__(self, store: RedisStore, between: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._between = between

    async def run_scripts(
        self, name: str, argument_lists: Sequence[Sequence[Argument]]
    ) -> list[Reply]:
        """Runs the scripts."""
        first = await self._store.run_scripts(name, argument_lists[:1])
        await self._between()
        return first + await self._store.run_scripts(name, argument_lists[1:])
