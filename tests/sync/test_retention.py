"""Retention: removal of durable's copies some time after an entitlement has ended."""

from datetime import UTC, datetime, timedelta
from typing import cast

from sponsorsync.store import keys
from sponsorsync.sync.retention import Removal, remove_lapsed
from tests.support.sync import CATALOG, COLLECTION, PERSON, Pair

OTHER = PERSON + 1
RETENTION = timedelta(days=90)


async def _lapse_days_ago(pair: Pair, days: float, person_id: int = PERSON) -> int:
    """Makes a person's entitlement end so many days ago; returns the end in Unix seconds."""
    end = datetime.now(UTC) - timedelta(days=days)
    await pair.sign_in(person_id)
    await pair.add("a", "b", person_id=person_id)
    await pair.relay()
    await pair.sign_in(person_id, until=end)
    await pair.relay()
    return int(end.timestamp())


async def _remove_lapsed(pair: Pair) -> list[Removal]:
    return await remove_lapsed(pair.durable_store, catalog=CATALOG, retention=RETENTION)


async def _remove_listed(pair: Pair, lapse: int) -> list[object]:
    """Performs the last step of the job for a person listed with this lapse."""
    reply = await pair.durable_store.run_script(
        "forget_lapsed", PERSON, lapse, CATALOG.sponsorables_json
    )
    return cast("list[object]", reply)


async def test_preferences_are_kept_until_the_retention_ends(pair: Pair) -> None:
    """A person who rejoins within the retention finds their preferences."""
    await _lapse_days_ago(pair, 89.9)

    assert await _remove_lapsed(pair) == []
    assert await pair.durable_items() == {"a", "b"}


async def test_the_end_of_the_retention_removes_the_sets_and_reports_them(pair: Pair) -> None:
    """Profile and entitlement stay: durable has these for everyone who signed in."""
    await _lapse_days_ago(pair, 90.1)
    await _lapse_days_ago(pair, 89.9, OTHER)

    assert await _remove_lapsed(pair) == [Removal(person_id=PERSON, collections={COLLECTION: 2})]
    assert await pair.durable_items() == set()
    assert await pair.durable_items(OTHER) == {"a", "b"}
    assert await pair.durable.exists(keys.user_details(PERSON)) == 1
    assert await _remove_lapsed(pair) == []


async def test_sets_removed_by_the_retention_stay_on_local(pair: Pair) -> None:
    """Retention applies to durable's copy; local's sets belong to the application."""
    await _lapse_days_ago(pair, 90.1)
    await _remove_lapsed(pair)

    assert await pair.items() == ["a", "b"]


async def test_a_rejoin_after_the_retention_is_copied_again(pair: Pair) -> None:
    """The version of the join is newer than durable's."""
    await _lapse_days_ago(pair, 90.1)
    await _remove_lapsed(pair)
    await pair.settle()

    assert await pair.durable_items() == {"a", "b"}
    assert await pair.durable.zscore(keys.LAPSED, str(PERSON)) is None


async def test_the_retention_leaves_the_version_of_the_sets(pair: Pair) -> None:
    """By this version durable refuses older records, whose sets would stay for ever."""
    await _lapse_days_ago(pair, 90.1)
    version = await pair.durable.hget(keys.meta(PERSON), f"v:{COLLECTION}")
    await _remove_lapsed(pair)

    assert await pair.durable.hget(keys.meta(PERSON), f"v:{COLLECTION}") == version


async def test_a_rejoin_between_the_listing_and_the_removal_keeps_everything(pair: Pair) -> None:
    """The job first lists many people, and removes the sets of each one later."""
    lapse = await _lapse_days_ago(pair, 90.1)
    await pair.settle()

    assert await _remove_listed(pair, lapse) == []
    assert await pair.durable_items() == {"a", "b"}


async def test_an_entitled_person_on_the_list_of_lapses_keeps_everything(pair: Pair) -> None:
    """The stored facts decide whether a person lapsed, not the list."""
    await pair.settle("a")
    await pair.durable.zadd(keys.LAPSED, {str(PERSON): 1000})

    assert await _remove_lapsed(pair) == []
    assert await pair.durable_items() == {"a"}
    assert await pair.durable.zscore(keys.LAPSED, str(PERSON)) is None


async def test_a_lapse_other_than_the_one_that_was_listed_begins_anew(pair: Pair) -> None:
    """The person rejoined and lapsed again between the listing and the removal."""
    listed = await _lapse_days_ago(pair, 90.1)
    await pair.settle()
    await pair.lapse()
    await pair.relay()

    assert await _remove_listed(pair, listed) == []
    assert await pair.durable_items() == {"a", "b"}


async def test_a_later_login_does_not_prolong_the_retention(pair: Pair) -> None:
    """The retention counts from the lapse, not from the last login."""
    lapse = await _lapse_days_ago(pair, 90.1)
    await pair.settle(entitled=False)

    assert await pair.durable.zscore(keys.LAPSED, str(PERSON)) == lapse


async def test_the_retention_leaves_a_wrong_type_key(pair: Pair) -> None:
    """A key of another type belongs to another program."""
    await _lapse_days_ago(pair, 90.1)
    set_key = keys.preferences(PERSON, COLLECTION)
    await pair.durable.set(set_key, "foreign")

    assert await _remove_lapsed(pair) == []
    assert await pair.durable.get(set_key) == "foreign"


async def test_a_pruned_copy_ends_with_the_retention(pair: Pair) -> None:
    """Pruning the copy does not change the time of the lapse."""
    await _lapse_days_ago(pair, 90.1)
    await pair.remove("a")
    await pair.relay()
    assert await pair.durable_items() == {"b"}

    assert await _remove_lapsed(pair) == [Removal(person_id=PERSON, collections={COLLECTION: 1})]
