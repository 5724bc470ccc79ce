"""The relay sends changes on local to durable."""

from sponsorsync.store import keys
from tests.support.sync import COLLECTION, PERSON, Pair


async def test_a_sponsors_changes_reach_durable(pair: Pair) -> None:
    """Profile, entitlement and preferences are sent, and durable's index gets the person."""
    await pair.settle("a", "b")

    assert await pair.durable_items() == {"a", "b"}
    assert (await pair.durable.hgetall(keys.user_details(PERSON)))["user_login"]
    assert await pair.durable.smembers(keys.sponsors("maintainer")) == {str(PERSON)}
    assert await pair.dirty() == set()


async def test_preferences_of_people_who_are_not_entitled_stay_on_local(pair: Pair) -> None:
    """Of people who are not entitled, only profile and entitlement are sent."""
    await pair.settle("a", entitled=False)

    assert await pair.durable_items() == set()
    assert await pair.durable.exists(keys.user_details(PERSON)) == 1
    assert await pair.dirty() == set()


async def test_a_set_lost_alone_is_restored_and_never_sent_as_empty(pair: Pair) -> None:
    """Redis may evict the key of a set; this does not mean that its items were removed."""
    await pair.settle("a", "b")
    await pair.local.delete(keys.preferences(PERSON, COLLECTION))
    await pair.settle()

    assert await pair.durable_items() == {"a", "b"}
    assert await pair.items() == ["a", "b"]


async def test_an_add_on_a_lost_set_makes_no_partial_set(pair: Pair) -> None:
    """The items of durable are fetched before the change is applied."""
    await pair.settle("a", "b")
    await pair.local.delete(keys.preferences(PERSON, COLLECTION))
    await pair.add("c")
    await pair.relay()

    assert await pair.local_items() == {"a", "b", "c"}
    assert await pair.durable_items() == {"a", "b", "c"}


async def test_a_login_right_after_a_flush_hides_no_set(pair: Pair) -> None:
    """The login writes the profile; the sets stay unknown, and are not sent as empty."""
    await pair.settle("a")
    await pair.local.flushall()
    await pair.settle()

    assert await pair.durable_items() == {"a"}
    assert await pair.items() == ["a"]


async def test_the_relay_prunes_the_copy_after_a_lapse_and_never_extends_it(pair: Pair) -> None:
    """Additions after the lapse stay on local; removals are applied on durable too."""
    await pair.settle("a", "b")
    await pair.lapse()
    await pair.add("c")
    await pair.remove("a")
    await pair.relay()

    assert await pair.durable_items() == {"b"}
    assert await pair.local_items() == {"b", "c"}
    assert await pair.dirty() == set()


async def test_a_rejoin_before_the_lapse_was_swept_sends_everything(pair: Pair) -> None:
    """The index still has the person from before the lapse, so it does not show the join."""
    await pair.settle("a", "b")
    await pair.local.hset(keys.sponsorship("maintainer", PERSON), "valid_until", 1)
    await pair.add("c")
    await pair.remove("a")
    await pair.relay()
    pruned = await pair.durable_items()
    await pair.settle()

    assert pruned == {"b"}
    assert await pair.durable_items() == {"b", "c"}


async def test_a_deletion_removes_both_copies(pair: Pair) -> None:
    """A later login of the person starts without data."""
    await pair.settle("a")
    await pair.people.delete_account(PERSON)
    await pair.settle()

    assert await pair.durable_items() == set()
    assert await pair.items() == []
    assert await pair.dirty() == set()


async def test_entries_of_a_killed_relay_are_trimmed(pair: Pair) -> None:
    """Such entries are never read again; their people are dirty, and the sweep sends them."""
    await pair.local.xadd(keys.OUTBOX, {"u": "1"}, id="1-1")
    await pair.sign_in()

    await pair.engine.relay.sweep()
    young = await pair.local.xlen(keys.OUTBOX)
    await pair.engine.relay.sweep()

    assert young == 1
    assert await pair.dirty() == set()
