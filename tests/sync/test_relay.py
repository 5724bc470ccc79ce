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

    assert await pair.durable_items() == {"a", "b"}
    assert (await pair.durable.hgetall(keys.user_details(PERSON)))["user_login"]
    assert await pair.durable.smembers(keys.sponsors("maintainer")) == {str(PERSON)}
    assert await pair.dirty() == set()


async def test_preferences_of_people_who_are_not_entitled_stay_on_local(pair: Pair) -> None:
    """Profile and entitlement are sent, preferences are not."""
    await pair.sign_in(entitled=False)
    await pair.add("a")
    await pair.relay()

    assert await pair.durable_items() == set()
    assert await pair.durable.exists(keys.user_details(PERSON)) == 1
    assert await pair.dirty() == set()


async def test_a_join_sends_all_collections(pair: Pair) -> None:
    """Becoming entitled is a change of every collection."""
    await pair.sign_in(entitled=False)
    await pair.add("a")
    await pair.relay()
    await pair.sign_in(entitled=True)
    await pair.relay()

    assert await pair.durable_items() == {"a"}


async def test_a_removal_travels(pair: Pair) -> None:
    """The original's removals never did."""
    await pair.settle("a", "b")
    await pair.remove("a", "b")
    await pair.relay()

    assert await pair.durable_items() == set()
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

    assert await pair.durable_items() == {"a", "b"}
    assert await pair.items() == ["a", "b"]


async def test_an_add_on_a_lost_set_makes_no_partial_set(pair: Pair) -> None:
    """What durable has is fetched before the change is applied."""
    await pair.settle("a", "b")
    await pair.local.delete(keys.preferences(PERSON, COLLECTION))
    await pair.add("c")
    await pair.relay()

    assert await pair.local_items() == {"a", "b", "c"}
    assert await pair.durable_items() == {"a", "b", "c"}


async def test_a_login_right_after_a_flush_hides_nothing(pair: Pair) -> None:
    """It writes the profile, and says nothing about the sets."""
    await pair.settle("a")
    await pair.local.flushall()
    await pair.sign_in()
    await pair.relay()

    assert await pair.durable_items() == {"a"}
    assert await pair.items() == ["a"]


async def test_the_relay_prunes_the_copy_after_a_lapse_and_never_extends_it(pair: Pair) -> None:
    """Additions after the lapse stay local; removals are applied there too."""
    await pair.settle("a", "b")
    await pair.lapse()
    await pair.add("c")
    await pair.remove("a")
    await pair.relay()

    assert await pair.durable_items() == {"b"}
    assert await pair.local_items() == {"b", "c"}
    assert await pair.dirty() == set()


async def test_a_rejoin_before_the_lapse_was_swept_sends_everything(pair: Pair) -> None:
    """The index still has the person, so it alone does not show the join."""
    await pair.settle("a", "b")
    await pair.local.hset(keys.sponsorship("maintainer", PERSON), "valid_until", 1)
    await pair.add("c")
    await pair.remove("a")
    await pair.relay()
    narrowed = await pair.durable_items()
    await pair.sign_in()
    await pair.relay()

    assert narrowed == {"b"}
    assert await pair.durable_items() == {"b", "c"}


async def test_a_deletion_removes_both_copies(pair: Pair) -> None:
    """And a later login begins anew."""
    await pair.settle("a")
    await pair.people.delete_account(PERSON)
    await pair.sign_in()
    await pair.relay()

    assert await pair.durable_items() == set()
    assert await pair.items() == []
    assert await pair.dirty() == set()


async def test_a_wrong_type_key_makes_one_dead_letter(pair: Pair) -> None:
    """The person stays dirty, with the reason and the next try."""
    other = PERSON + 1
    await pair.durable.set(keys.preferences(PERSON, COLLECTION), "foreign")
    for person in (PERSON, other):
        await pair.sign_in(person)
    await pair.preferences._local.run_script("sweep_entitlements", 1)
    await pair.local.sadd(keys.preferences(PERSON, COLLECTION), "a")
    await pair.local.hset(keys.meta(PERSON), mapping={"p:mnodes": "1", "v:mnodes": "5"})
    await pair.add("b", person_id=other)
    await pair.engine.relay.drain([PERSON, other])

    assert await pair.durable_items(other) == {"b"}
    assert await pair.dirty() == {PERSON}
    assert "WRONGTYPE" in str(await pair.local.hget(keys.DEAD_LETTERS, str(PERSON)))
    assert await pair.durable.get(keys.preferences(PERSON, COLLECTION)) == "foreign"


async def test_entries_of_a_killed_relay_are_trimmed(pair: Pair) -> None:
    """They are never read again; dirty people are swept."""
    await pair.local.xadd(keys.OUTBOX, {"u": "1"}, id="1-1")
    await pair.sign_in()

    await pair.engine.relay.sweep()
    young = await pair.local.xlen(keys.OUTBOX)
    await pair.engine.relay.sweep()

    assert young == 1
    assert await pair.dirty() == set()
