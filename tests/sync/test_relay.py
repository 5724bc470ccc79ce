"""What is changed on local reaches durable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sponsorsync.store import keys
from tests.support.sync import COLLECTION, PERSON

if TYPE_CHECKING:
    from tests.support.sync import Pair


async def test_a_sponsors_changes_reach_durable(pair: Pair) -> None:
    """The main path: profile, entitlement, preferences, and the index there."""
    await pair.settle("a", "b")

    assert await pair.kept() == {"a", "b"}
    assert (await pair.durable.hgetall(keys.user_details(PERSON)))["user_login"]
    assert await pair.durable.smembers(keys.sponsors("maintainer")) == {str(PERSON)}
    assert await pair.dirty() == set()


async def test_who_is_not_entitled_keeps_their_preferences_to_local(pair: Pair) -> None:
    """Profile and entitlement travel, preferences do not."""
    await pair.sign_in(entitled=False)
    await pair.add("a")
    await pair.relay()

    assert await pair.kept() == set()
    assert await pair.durable.exists(keys.user_details(PERSON)) == 1
    assert await pair.dirty() == set()


async def test_who_joins_brings_along_what_is_there(pair: Pair) -> None:
    """Becoming entitled is a change of every collection."""
    await pair.sign_in(entitled=False)
    await pair.add("a")
    await pair.relay()
    await pair.sign_in(entitled=True)
    await pair.relay()

    assert await pair.kept() == {"a"}


async def test_a_removal_travels(pair: Pair) -> None:
    """The original's removals never did."""
    await pair.settle("a", "b")
    await pair.remove("a", "b")
    await pair.relay()

    assert await pair.kept() == set()
    assert await pair.durable.hget(keys.meta(PERSON), f"p:{COLLECTION}") == "0"


async def test_an_emptied_set_stays_empty_after_a_flush(pair: Pair) -> None:
    """Empty is known, and known on durable too."""
    await pair.settle("a")
    await pair.remove("a")
    await pair.relay()
    await pair.local.flushall()

    assert await pair.items() == []
    assert await pair.local.hget(keys.meta(PERSON), f"p:{COLLECTION}") == "0"


async def test_after_a_flush_the_first_read_is_right(pair: Pair) -> None:
    """And entitlement and profile come back with it."""
    await pair.settle("a", "b")
    await pair.local.flushall()

    assert await pair.items() == ["a", "b"]
    assert await pair.local.smembers(keys.sponsors("maintainer")) == {str(PERSON)}
    assert await pair.dirty() == set()


async def test_a_set_lost_alone_is_restored_and_never_sent_as_empty(pair: Pair) -> None:
    """An eviction is no removal."""
    await pair.settle("a", "b")
    await pair.local.delete(keys.preferences(PERSON, COLLECTION))
    await pair.sign_in()
    await pair.relay()

    assert await pair.kept() == {"a", "b"}
    assert await pair.items() == ["a", "b"]


async def test_an_add_on_a_lost_set_makes_no_partial_set(pair: Pair) -> None:
    """What durable has is fetched before the change is applied."""
    await pair.settle("a", "b")
    await pair.local.delete(keys.preferences(PERSON, COLLECTION))
    await pair.add("c")
    await pair.relay()

    assert await pair.here() == {"a", "b", "c"}
    assert await pair.kept() == {"a", "b", "c"}


async def test_a_login_right_after_a_flush_hides_nothing(pair: Pair) -> None:
    """It writes the profile, and says nothing about the sets."""
    await pair.settle("a")
    await pair.local.flushall()
    await pair.sign_in()
    await pair.relay()

    assert await pair.kept() == {"a"}
    assert await pair.items() == ["a"]


async def test_on_lapse_the_copy_is_narrowed_and_never_extended(pair: Pair) -> None:
    """What is added after the lapse stays local; what is removed is removed there too."""
    await pair.settle("a", "b")
    await pair.lapse()
    await pair.add("c")
    await pair.remove("a")
    await pair.relay()

    assert await pair.kept() == {"b"}
    assert await pair.here() == {"b", "c"}
    assert await pair.dirty() == set()


async def test_who_joins_again_before_the_lapse_was_noticed_brings_everything(pair: Pair) -> None:
    """The index still has them, so it alone cannot tell that they join."""
    await pair.settle("a", "b")
    await pair.local.hset(keys.sponsorship("maintainer", PERSON), "valid_until", 1)
    await pair.add("c")
    await pair.remove("a")
    await pair.relay()
    narrowed = await pair.kept()
    await pair.sign_in()
    await pair.relay()

    assert narrowed == {"b"}
    assert await pair.kept() == {"b", "c"}


async def test_a_deletion_removes_both_sides(pair: Pair) -> None:
    """And a later login begins anew."""
    await pair.settle("a")
    await pair.people.delete_account(PERSON)
    await pair.sign_in()
    await pair.relay()

    assert await pair.kept() == set()
    assert await pair.items() == []
    assert await pair.dirty() == set()


async def test_data_of_another_kind_set_one_person_aside_and_nobody_else(pair: Pair) -> None:
    """They stay dirty, with the reason and the next try."""
    other = PERSON + 1
    await pair.durable.set(keys.preferences(PERSON, COLLECTION), "foreign")
    for person in (PERSON, other):
        await pair.sign_in(person)
    await pair.preferences.local.run_script("sweep_entitlements", 1)
    await pair.local.sadd(keys.preferences(PERSON, COLLECTION), "a")
    await pair.local.hset(keys.meta(PERSON), mapping={"p:mnodes": "1", "v:mnodes": "5"})
    await pair.add("b", person_id=other)
    await pair.engine.relay.drain([PERSON, other])

    assert await pair.kept(other) == {"b"}
    assert await pair.dirty() == {PERSON}
    assert "WRONGTYPE" in str(await pair.local.hget(keys.DEAD_LETTERS, str(PERSON)))
    assert await pair.durable.get(keys.preferences(PERSON, COLLECTION)) == "foreign"


async def test_entries_that_a_killed_relay_left_behind_go_with_time(pair: Pair) -> None:
    """They were read and are read by nobody again; who is dirty is swept all the same."""
    await pair.local.xadd(keys.OUTBOX, {"u": "1"}, id="1-1")
    await pair.sign_in()

    await pair.engine.relay.sweep()
    young = await pair.local.xlen(keys.OUTBOX)
    await pair.engine.relay.sweep()

    assert young == 1
    assert await pair.dirty() == set()
