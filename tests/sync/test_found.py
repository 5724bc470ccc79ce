"""What the model test found, each as small and as certain as it can be made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sponsorsync.store import keys
from sponsorsync.sync.person_records import apply_records
from tests.support.sync import COLLECTION, PERSON, confirm_taken

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.support.sync import Pair


async def _relay_with(pair: Pair, meanwhile: Awaitable[object]) -> None:
    """Takes the person to durable; something happens between durable's answer and the confirm."""
    relay = pair.engine.relay
    records = await relay._pack_sendable([PERSON])
    answers = await apply_records(pair.durable_store, records, catalog=relay._catalog)
    await meanwhile
    await confirm_taken(relay, records, answers)


async def test_the_listener_sets_the_flags_that_are_missing(pair: Pair) -> None:
    """It once failed on the bytes of CONFIG GET, and stopped the whole engine again and again."""
    await pair.local.config_set("notify-keyspace-events", "Kx")

    assert await pair.engine.listener.load_missing_flags() == ""
    flags = await pair.local.config_get("notify-keyspace-events")
    assert set("EKsmx") <= set(str(flags["notify-keyspace-events"]))


async def test_a_waiting_change_is_not_confirmed_with_an_earlier_record(pair: Pair) -> None:
    """It raises no version: the person became clean, and the change waited for ever."""
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


async def test_an_entitlement_that_ends_under_way_is_sent_again(pair: Pair) -> None:
    """Durable's index went on to name a person whose entitlement had ended."""
    await pair.sign_in()
    facts = keys.sponsorship("maintainer", PERSON)

    async def end() -> None:
        await pair.local.hset(facts, "valid_until", str(int(time.time()) - 1))
        await pair.local.zadd(keys.ENTITLEMENT_ENDS, {f"maintainer:{PERSON}": time.time() - 1})
        await pair.local_store.run_script("sweep_entitlements", 10)

    await _relay_with(pair, end())

    assert await pair.dirty() == {PERSON}


async def test_a_record_from_before_a_flush_leaves_both_servers_equal(pair: Pair) -> None:
    """Local had been filled with durable's older data; no person was dirty any more."""
    await pair.settle("a")
    await pair.add("b")
    relay = pair.engine.relay
    records = await relay._pack_sendable([PERSON])
    await pair.local.flushall()
    assert await pair.items() == ["a"]
    answers = await apply_records(pair.durable_store, records, catalog=relay._catalog)
    await confirm_taken(relay, records, answers)
    await pair.relay()

    assert await pair.items() == ["a", "b"]
    assert await pair.durable_items() == {"a", "b"}
    assert await pair.dirty() == set()


async def test_a_part_that_durable_lacks_is_no_sign_for_other_parts(pair: Pair) -> None:
    """A profile that was evicted right after a read of a set seemed not to exist."""
    await pair.sign_in()
    await pair.relay()
    assert await pair.items() == []  # durable has none, and that is remembered
    await pair.local.delete(keys.user_details(PERSON))

    account = await pair.people.load_account(PERSON)
    assert account.profile is not None
    assert account.profile.login == f"person-{PERSON}"
    assert await pair.local.exists(keys.preferences(PERSON, COLLECTION)) == 0


async def test_a_late_pruning_does_not_take_the_version_of_a_later_state(pair: Pair) -> None:
    """It left the version of a state with additions, which durable then refused as known."""
    await pair.settle("a", "b")
    await pair.lapse()
    await pair.sign_in()
    await pair.remove("a")
    await pair.add("c")
    await pair.engine.relay._prune(PERSON)  # of a relay that saw the lapse, and was stopped
    await pair.relay()

    assert await pair.durable_items() == {"b", "c"}


async def test_a_deletion_from_before_a_flush_leaves_both_servers_equal(pair: Pair) -> None:
    """Durable had deleted the account; local, filled before that arrived, still showed it."""
    await pair.settle("a")
    await pair.people.delete_account(PERSON)
    relay = pair.engine.relay
    records = await relay._pack_sendable([PERSON])
    await pair.local.flushall()
    assert await pair.items() == ["a"]
    answers = await apply_records(pair.durable_store, records, catalog=relay._catalog)
    await confirm_taken(relay, records, answers)
    await pair.relay()

    assert await pair.items() == []
    assert await pair.local_items() == set()
    assert await pair.local.exists(keys.user_details(PERSON)) == 0
    assert await pair.dirty() == set()


async def test_an_unconfirmed_copy_is_pruned(pair: Pair) -> None:
    """The relay was killed after durable took it; members removed after the lapse stayed there."""
    await pair.sign_in()
    await pair.add("a", "b")
    relay = pair.engine.relay
    records = await relay._pack_sendable([PERSON])
    await apply_records(pair.durable_store, records, catalog=relay._catalog)
    await pair.lapse()
    await pair.remove("a")
    await pair.relay()

    assert await pair.durable_items() == {"b"}


async def test_a_deletion_that_comes_back_takes_nothing_that_was_written_since(pair: Pair) -> None:
    """Local had forgotten it; what was added directly meanwhile has no version yet, and went."""
    await pair.sign_in()
    await pair.people.delete_account(PERSON)
    await pair.sign_in()
    await pair.relay()
    await pair.local.flushall()
    await pair.local.sadd(keys.preferences(PERSON, COLLECTION), "d")
    await pair.local_store.run_script("mark_foreign", PERSON, COLLECTION, "sadd")
    await pair.relay()

    assert await pair.local_items() == {"d"}
    assert await pair.durable_items() == {"d"}
