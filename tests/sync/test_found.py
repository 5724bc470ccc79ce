"""Regression tests for errors that the model test found."""

import time
from collections.abc import Awaitable

from sponsorsync.store import keys
from tests.support.sync import COLLECTION, PERSON, Pair, confirm_taken


async def _relay_with(pair: Pair, meanwhile: Awaitable[object]) -> None:
    """Relays the person, and awaits `meanwhile` between durable's answer and the confirmation."""
    records = await pair.engine.relay._pack_sendable([PERSON])
    answers = await pair.apply(records)
    await meanwhile
    await confirm_taken(pair.engine.relay, records, answers)


async def test_the_listener_sets_the_flags_that_are_missing(pair: Pair) -> None:
    """The listener once failed on the bytes that CONFIG GET returns, and stopped the engine."""
    await pair.local.config_set("notify-keyspace-events", "Kx")

    assert await pair.engine.listener.load_missing_flags() == ""
    flags = await pair.local.config_get("notify-keyspace-events")
    assert set("EKsmx") <= set(str(flags["notify-keyspace-events"]))


async def test_a_waiting_change_is_not_confirmed_with_an_earlier_record(pair: Pair) -> None:
    """A waiting change raises no version: the person was no longer dirty, and it was never sent."""
    await pair.sign_in()

    async def add_while_durable_is_away() -> None:
        pair.engine.incarnations.is_local_verified = False
        await pair.add("a")
        pair.engine.incarnations.is_local_verified = True

    await _relay_with(pair, add_while_durable_is_away())
    assert await pair.dirty() == {PERSON}
    await pair.relay()

    assert await pair.durable_items() == {"a"}
    assert await pair.dirty() == set()


async def test_an_entitlement_that_ends_during_a_relay_is_sent_again(pair: Pair) -> None:
    """The index on durable still had a person who was no longer entitled."""
    await pair.sign_in()
    facts = keys.sponsorship("maintainer", PERSON)

    async def end() -> None:
        await pair.local.hset(facts, "valid_until", str(int(time.time()) - 1))
        await pair.local.zadd(keys.ENTITLEMENT_ENDS, {f"maintainer:{PERSON}": time.time() - 1})
        await pair.local_store.run_script("sweep_entitlements", 10)

    await _relay_with(pair, end())

    assert await pair.dirty() == {PERSON}


async def test_a_record_packed_before_a_flush_leaves_both_servers_equal(pair: Pair) -> None:
    """After the flush local fetched durable's older data; no dirty mark led to the newer ones."""
    await pair.settle("a")
    await pair.add("b")
    relay = pair.engine.relay
    records = await relay._pack_sendable([PERSON])
    await pair.local.flushall()
    assert await pair.items() == ["a"]
    answers = await pair.apply(records)
    await confirm_taken(relay, records, answers)
    await pair.relay()

    assert await pair.items() == ["a", "b"]
    assert await pair.durable_items() == {"a", "b"}
    assert await pair.dirty() == set()


async def test_a_part_missing_on_durable_says_nothing_of_other_parts(pair: Pair) -> None:
    """After a read of a missing set, an evicted profile was taken for missing on durable too."""
    await pair.settle()
    assert await pair.items() == []  # caches that durable has no set
    await pair.local.delete(keys.user_details(PERSON))

    account = await pair.people.load_account(PERSON)
    assert account.profile is not None
    assert account.profile.login == f"person-{PERSON}"
    assert await pair.local.exists(keys.preferences(PERSON, COLLECTION)) == 0


async def test_a_late_pruning_does_not_set_the_version_of_a_later_state(pair: Pair) -> None:
    """The late pruning gave durable the version of a set with more items, and they were refused."""
    await pair.settle("a", "b")
    await pair.lapse()
    await pair.sign_in()
    await pair.remove("a")
    await pair.add("c")
    await pair.engine.relay._prune(PERSON)  # by a relay that was stalled after the lapse
    await pair.relay()

    assert await pair.durable_items() == {"b", "c"}


async def test_a_deletion_packed_before_a_flush_leaves_both_servers_equal(pair: Pair) -> None:
    """Local fetched the account before the deletion reached durable, and still showed it later."""
    await pair.settle("a")
    await pair.people.delete_account(PERSON)
    relay = pair.engine.relay
    records = await relay._pack_sendable([PERSON])
    await pair.local.flushall()
    assert await pair.items() == ["a"]
    answers = await pair.apply(records)
    await confirm_taken(relay, records, answers)
    await pair.relay()

    assert await pair.items() == []
    assert await pair.local_items() == set()
    assert await pair.local.exists(keys.user_details(PERSON)) == 0
    assert await pair.dirty() == set()


async def test_an_unconfirmed_copy_is_pruned(pair: Pair) -> None:
    """The relay was killed after the apply; items removed after the lapse stayed on durable."""
    await pair.add_person("a", "b")
    await pair.apply(await pair.engine.relay._pack_sendable([PERSON]))
    await pair.lapse()
    await pair.remove("a")
    await pair.relay()

    assert await pair.durable_items() == {"b"}


async def test_a_lost_set_prunes_nothing_from_the_copy(pair: Pair) -> None:
    """Every item seemed to have been removed after the lapse."""
    await pair.settle("a", "b")
    await pair.lapse()
    await pair.remove("a")
    await pair.evict()
    await pair.engine.relay._prune(PERSON)

    assert "b" in await pair.durable_items()


async def test_a_fetched_deletion_removes_no_later_writes(pair: Pair) -> None:
    """A direct write after a flush has no version yet; it was removed with the old account."""
    await pair.sign_in()
    await pair.people.delete_account(PERSON)
    await pair.settle()
    await pair.local.flushall()
    await pair.local.sadd(keys.preferences(PERSON, COLLECTION), "d")
    await pair.local_store.run_script("mark_foreign", PERSON, COLLECTION, "sadd")
    await pair.relay()

    assert await pair.local_items() == {"d"}
    assert await pair.durable_items() == {"d"}
