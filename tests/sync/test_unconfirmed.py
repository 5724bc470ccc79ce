"""What durable took and nobody confirmed: local learns of it without a further write."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sponsorsync.store import keys
from sponsorsync.store.script_limits import PEOPLE_A_SCRIPT
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
    await pair.engine._unconfirmed.check()
    await pair.engine._unconfirmed.check()


async def _stall_before_a_flush(pair: Pair) -> list[PersonRecord]:
    """A relay has read from local and is stopped; local is flushed, and filled from durable."""
    await pair.settle("a")
    await _look(pair)
    await pair.add("b")
    stalled = await pack_people(pair.local_store, [PERSON], what="entitled", catalog=CATALOG)
    await pair.local.flushall()
    assert await pair.items() == ["a"]
    return stalled


async def test_an_unconfirmed_record_from_before_a_flush_reaches_local(pair: Pair) -> None:
    """Its relay died after durable took it: durable was newer, and no person was dirty."""
    stalled = await _stall_before_a_flush(pair)
    await apply_records(pair.durable_store, stalled, catalog=CATALOG)
    await _look(pair)

    assert await pair.durable_items() == {"a", "b"}
    assert await pair.local_items() == {"a", "b"}
    assert await pair.dirty() == set()


async def test_a_record_that_arrives_after_a_later_login_reaches_local(pair: Pair) -> None:
    """The login is newer than the record, and was confirmed before it arrived."""
    stalled = await _stall_before_a_flush(pair)
    await pair.sign_in()
    await pair.relay()
    await apply_records(pair.durable_store, stalled, catalog=CATALOG)
    await _look(pair)

    assert await pair.local_items() == await pair.durable_items() == {"a", "b"}


async def test_a_record_that_arrives_within_another_pipeline_reaches_local(pair: Pair) -> None:
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

    assert await pair.local_items() == await pair.durable_items() == {"a", "b"}


async def test_records_under_way_are_left_to_their_relay(pair: Pair) -> None:
    """They will be confirmed soon; fetching them again would be wasted work."""
    await pair.sign_in()
    fetched: list[int] = []
    watch = UnconfirmedChanges(
        pair.local_store,
        pair.durable_store,
        merge_newer=_recording(fetched),
        push_again=pair.engine.incarnations.push_again,
    )
    records = await pair.engine.relay._pack_sendable([PERSON])
    answers = await apply_records(pair.durable_store, records, catalog=CATALOG)
    await watch.check()
    await confirm_taken(pair.engine.relay, records, answers)
    await watch.check()

    assert fetched == []


async def test_each_unconfirmed_record_is_checked_once(pair: Pair) -> None:
    """The next check begins where the last one ended, in any process."""
    await pair.sign_in()
    await pair.relay()
    await _look(pair)

    assert await pair.local.hget(keys.INCARNATIONS, "checked") == await pair.durable.get(
        keys.APPLIED
    )


async def test_a_durable_with_a_lower_count_is_checked_anew(pair: Pair) -> None:
    """It was restored from a backup: new records get counts of before."""
    stalled = await _stall_before_a_flush(pair)
    await pair.local.hset(keys.INCARNATIONS, "checked", "1000")
    await pair.compare()
    await apply_records(pair.durable_store, stalled, catalog=CATALOG)
    await _look(pair)

    assert await pair.local_items() == {"a", "b"}


async def test_a_durable_that_was_emptied_without_traffic_gets_everyone_again(pair: Pair) -> None:
    """By hand, under open connections: local's next loss would be answered as empty."""
    await pair.settle("a")
    await _look(pair)
    await pair.durable.flushall()
    await _look(pair)
    await pair.relay()

    assert await pair.durable_items() == {"a"}


async def test_a_person_who_cannot_be_merged_is_a_dead_letter_and_tried_again(pair: Pair) -> None:
    """Because of a wrong-type key; once it is gone, the relay sends them."""
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
    assert await pair.local_items() == {"a", "b"}


async def test_more_people_than_a_page_are_all_checked(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages end in the middle of a count: nobody is skipped."""
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
