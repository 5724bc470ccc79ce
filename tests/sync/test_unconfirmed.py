"""Records that durable applied but no relay confirmed are fetched to local.

Durable numbers the applied records, so a check finds those after the last one it has seen.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest

from sponsorsync.store import keys
from sponsorsync.store.connect import Argument, RedisStore, Reply
from sponsorsync.store.scripts import PEOPLE_A_SCRIPT
from sponsorsync.sync import unconfirmed
from sponsorsync.sync.person_records import PersonRecord
from sponsorsync.sync.unconfirmed import MergeNewer, UnconfirmedChanges
from tests.support.sync import PERSON, Pair, confirm_taken


async def _check(pair: Pair) -> None:
    """Checks all records that durable has applied; a first check only saves durable's count."""
    await pair.engine._unconfirmed.check()
    await pair.engine._unconfirmed.check()


async def _stall_before_a_flush(pair: Pair) -> list[PersonRecord]:
    """Returns a record packed before local was flushed and fetched durable's older state."""
    await pair.settle("a")
    await _check(pair)
    await pair.add("b")
    stalled = await pair.pack()
    await pair.local.flushall()
    assert await pair.items() == ["a"]
    return stalled


async def test_an_unconfirmed_record_from_before_a_flush_reaches_local(pair: Pair) -> None:
    """The relay died after the apply: durable was newer than local, and no person was dirty."""
    stalled = await _stall_before_a_flush(pair)
    await pair.apply(stalled)
    await _check(pair)

    assert await pair.durable_items() == {"a", "b"}
    assert await pair.local_items() == {"a", "b"}
    assert await pair.dirty() == set()


async def test_a_record_that_arrives_after_a_later_login_reaches_local(pair: Pair) -> None:
    """The login is newer than the record, and was confirmed before the record arrived."""
    stalled = await _stall_before_a_flush(pair)
    await pair.settle()
    await pair.apply(stalled)
    await _check(pair)

    assert await pair.local_items() == await pair.durable_items() == {"a", "b"}


async def test_a_record_that_arrives_within_another_pipeline_reaches_local(pair: Pair) -> None:
    """Each person is confirmed with the count of their script, not of the pipeline's last."""
    stalled = await _stall_before_a_flush(pair)
    people = range(PERSON, PERSON + PEOPLE_A_SCRIPT + 1)
    for person in people:
        await pair.sign_in(person)

    async def arrive() -> None:
        await pair.apply(stalled)

    durable = cast("RedisStore", _Interrupted(pair.durable_store, arrive))
    await pair.create_relay(durable).drain(people)
    await _check(pair)

    assert await pair.local_items() == await pair.durable_items() == {"a", "b"}


async def test_records_of_a_running_relay_are_not_fetched(pair: Pair) -> None:
    """The relay that sent these records will confirm them."""
    await pair.sign_in()
    fetched: list[int] = []
    watch = UnconfirmedChanges(
        pair.local_store,
        pair.durable_store,
        merge_newer=_recording(fetched),
        push_again=pair.engine.incarnations.push_again,
    )
    records = await pair.engine.relay._pack_sendable([PERSON])
    answers = await pair.apply(records)
    await watch.check()
    await confirm_taken(pair.engine.relay, records, answers)
    await watch.check()

    assert fetched == []


async def test_each_unconfirmed_record_is_checked_once(pair: Pair) -> None:
    """The next check, in any process, starts where the last one ended."""
    await pair.settle()
    await _check(pair)

    assert await pair.local.hget(keys.INCARNATIONS, "checked") == await pair.durable.get(
        keys.APPLIED
    )


async def test_a_durable_with_a_lower_count_is_checked_anew(pair: Pair) -> None:
    """After durable is restored from a backup, new records get counts that were used before."""
    stalled = await _stall_before_a_flush(pair)
    await pair.local.hset(keys.INCARNATIONS, "checked", "1000")
    await pair.compare()
    await pair.apply(stalled)
    await _check(pair)

    assert await pair.local_items() == {"a", "b"}


async def test_a_durable_that_was_flushed_without_traffic_gets_everything_again(pair: Pair) -> None:
    """No relay ran that could notice the flush; without the check, durable would stay empty."""
    await pair.settle("a")
    await _check(pair)
    await pair.durable.flushall()
    await _check(pair)
    await pair.relay()

    assert await pair.durable_items() == {"a"}


async def test_a_person_who_cannot_be_merged_is_a_dead_letter_and_retried(pair: Pair) -> None:
    """The relay sends the person once the wrong-type key is removed."""
    stalled = await _stall_before_a_flush(pair)
    await pair.apply(stalled)
    profile = keys.user_details(PERSON)
    await pair.local.set(profile, "foreign")
    await _check(pair)
    assert await pair.dirty() == {PERSON}
    await pair.relay()
    assert await pair.local.hlen(keys.DEAD_LETTERS) == 1

    await pair.local.delete(profile)
    await pair.relay()
    assert await pair.local_items() == {"a", "b"}


async def test_more_people_than_a_page_are_all_checked(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The people of one script have the same count, and a page may end among them."""
    people = range(PERSON, PERSON + 7)
    for person in people:
        await pair.sign_in(person)
    records = await pair.pack(*people)
    # Three calls of the script, for 3, 3 and 1 people; each call gives its people one count. The
    # first page, of four people, therefore ends among people with the same count.
    for at in range(0, len(records), 3):
        await pair.apply(records[at : at + 3])
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
    """A store for durable that calls a function between a pipeline's first two scripts."""

    def __init__(self, store: RedisStore, between: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._between = between

    async def run_scripts(
        self, name: str, argument_lists: Sequence[Sequence[Argument]]
    ) -> list[Reply]:
        """Runs the scripts, and the function after the first one."""
        first = await self._store.run_scripts(name, argument_lists[:1])
        await self._between()
        return first + await self._store.run_scripts(name, argument_lists[1:])
