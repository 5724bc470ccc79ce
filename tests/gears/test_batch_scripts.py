"""The batch scripts, each of which copies one kind of data of all people and returns counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from sponsorsync.domain.catalog import Catalog
from sponsorsync.gears.scripts import BATCH, GearsConfig
from sponsorsync.store import keys
from tests.support.command import run_command
from tests.support.proxy import run_proxy
from tests.support.shipped import (
    ANOTHER_INCARNATION,
    META,
    OTHER,
    SET,
    VERSION,
    Shipped,
    environment_for,
    point_at,
)
from tests.support.sync import COLLECTION, PERSON, SPONSORABLE, dump_all

PROFILE = keys.user_details(PERSON)
FACTS = keys.sponsorship(SPONSORABLE, PERSON)
THIRD = PERSON + 2


def _counts(done: int, *, failed: int = 0, **skipped: int) -> dict[str, Any]:
    return {
        "done": done,
        "skipped": {reason.replace("_", " "): count for reason, count in skipped.items()},
        "failed": failed,
        "errors": [],
    }


@pytest.fixture
async def people(shipped: Shipped) -> Shipped:
    """Three people with {a}, who are entitled, not entitled and lapsed; durable is empty."""
    await shipped.pair.sign_in()
    await shipped.pair.sign_in(OTHER, entitled=False)
    await shipped.pair.sign_in(THIRD)
    await shipped.pair.lapse(THIRD)
    for person in (PERSON, OTHER, THIRD):
        await shipped.pair.add("a", person_id=person)
    assert await shipped.pair.durable.zcard(keys.PEOPLE) == 0
    return shipped


async def test_the_profiles_of_all_people_are_copied(people: Shipped) -> None:
    """The script `sync_profiles` copies profiles only."""
    assert await people.run_batch("sync_profiles") == _counts(3)

    for person in (PERSON, OTHER, THIRD):
        key = keys.user_details(person)
        assert await people.pair.durable.hgetall(key) == await people.pair.local.hgetall(key)
        assert await people.pair.durable_items(person) == set()


async def test_the_entitlements_of_all_people_are_copied(people: Shipped) -> None:
    """Ended entitlements are copied too; durable builds its own index of entitled people."""
    assert await people.run_batch("sync_sponsors") == _counts(3)

    assert await people.pair.durable.smembers(keys.sponsors(SPONSORABLE)) == {str(PERSON)}
    for person in (PERSON, OTHER, THIRD):
        key = keys.sponsorship(SPONSORABLE, person)
        assert await people.pair.durable.hgetall(key) == await people.pair.local.hgetall(key)
    assert await people.pair.durable.exists(PROFILE) == 0


async def test_preferences_of_the_entitled_are_copied(people: Shipped) -> None:
    """The counts show skipped people, and skipped keys of visitors or with other names."""
    await people.pair.local.hset("user:7", "name", "visitor")
    await people.pair.local.sadd(f"user:7:{COLLECTION}", "theirs")
    await people.pair.local.sadd(f"user:8:{COLLECTION}:more", "x")
    await people.pair.local.sadd("user:9:other", "x")

    counts = await people.run_batch("sync_preferences")

    assert counts == _counts(1, not_entitled=3, not_ours=2)
    assert await people.pair.durable_items() == {"a"}
    assert await people.pair.durable_items(OTHER) == await people.pair.durable_items(THIRD) == set()
    assert await people.pair.durable.exists(f"user:7:{COLLECTION}") == 0


@pytest.mark.parametrize("name", BATCH)
async def test_a_key_that_is_not_utf8_is_skipped(people: Shipped, name: str) -> None:
    """RedisGears passes such a key as bytes, which once ended the whole run."""
    for key in (b"user:\xff:mnodes", b"user_details:\xff", b"sponsorship:\xff:1"):
        await people.gears.run("HSET", key, "a", "b")
    counts = await people.run_batch(name)

    assert counts is not None
    assert (counts["failed"], counts["skipped"]["not ours"]) == (0, 1)
    assert counts["done"] > 0


async def test_versions_and_presence_are_copied(people: Shipped) -> None:
    """Later comparisons of the two servers need this metadata."""
    await people.run_batches()

    here, there = [
        await client.hgetall(META) for client in (people.pair.local, people.pair.durable)
    ]
    fields = {field for field in there if field[:2] in {"v:", "p:"}}
    assert {VERSION, "p:profile", f"v:entitlement:{SPONSORABLE}"} <= fields
    assert {field: here[field] for field in fields} == {field: there[field] for field in fields}


async def test_a_second_run_changes_nothing(people: Shipped) -> None:
    """Durable stays the same, except for its counters, and the counts of both runs are equal."""
    counted = await people.run_batches()
    before = await dump_all(people.pair.durable_store)
    again = await people.run_batches()
    after = await dump_all(people.pair.durable_store)

    assert again == counted
    counters = {keys.APPLIED.encode(), keys.PEOPLE.encode()}
    assert {k: v for k, v in after.items() if k not in counters} == {
        k: v for k, v in before.items() if k not in counters
    }


async def test_a_copy_makes_no_person_dirty(people: Shipped) -> None:
    """People who were not dirty stay so, and the outbox gets no entry."""
    await people.pair.relay()
    await people.pair.local.xtrim(keys.OUTBOX, maxlen=0)
    await people.run_batches()

    assert await people.is_settled()


async def test_a_copy_of_one_part_confirms_no_dirty_person(people: Shipped) -> None:
    """The person stays dirty, because other parts still have to be sent."""
    await people.run_batch("sync_profiles")

    assert PERSON in await people.pair.dirty()


async def test_data_without_versions_are_imported(shipped: Shipped) -> None:
    """The application wrote these data before it used SponsorSync."""
    local = shipped.pair.local
    await local.hset(PROFILE, mapping={"id": str(PERSON), "user_login": "old"})
    await local.hset(FACTS, mapping={"source": "sponsorship", "since": "1"})
    await local.sadd(SET, "a", "b")

    assert await shipped.run_batches() == [_counts(1)] * 3
    assert await shipped.pair.durable_items() == {"a", "b"}
    assert await shipped.pair.durable.hget(PROFILE, "user_login") == "old"
    assert await shipped.pair.durable.smembers(keys.sponsors(SPONSORABLE)) == {str(PERSON)}
    assert await shipped.pair.dirty() == set()


async def test_an_import_is_merged_with_durables_data(people: Shipped) -> None:
    """Local lost its data, and then the application wrote a set without a version."""
    await people.run_batches()
    await people.pair.local.flushall()
    await people.pair.local.sadd(SET, "b")
    await people.run_batch("sync_preferences")

    assert await people.pair.durable_items() == await people.pair.local_items() == {"a", "b"}


@pytest.mark.parametrize(("sponsorables", "done"), [((SPONSORABLE,), 1), ((), 1), (("other",), 0)])
async def test_people_are_entitled_by_the_named_sponsorables(
    people: Shipped, sponsorables: tuple[str, ...], done: int
) -> None:
    """If the configuration names no sponsorable, those with an index on local are used."""
    config = GearsConfig(Catalog(sponsorables, (COLLECTION,)), hook_profiles=False)
    counts = await people.run_batch("sync_preferences", config)

    assert counts == _counts(done, not_entitled=3 - done)
    assert await people.pair.durable_items() == ({"a"} if done else set())


async def test_a_batch_copy_leaves_newer_data_on_durable(people: Shipped) -> None:
    """Local merges the newer data instead."""
    await people.run_batches()
    await people.pair.durable.sadd(SET, "z")
    await people.pair.durable.hincrby(META, VERSION, 3600 * 10**6)

    assert await people.run_batch("sync_preferences") == _counts(0, newer=1, not_entitled=2)
    assert await people.pair.local_items() == {"a", "z"}


async def test_wrong_type_keys_are_counted_and_reported(people: Shipped) -> None:
    """A wrong-type key on either server fails one person; the others are copied."""
    await people.pair.durable.set(PROFILE, "foreign")
    await people.pair.local.set(keys.user_details(7), "foreign")

    counts = await people.run_batch("sync_profiles")

    assert counts is not None
    assert (counts["done"], counts["failed"], counts["skipped"]) == (2, 2, {})
    assert any(error.startswith(f"person {PERSON}: WRONGTYPE") for error in counts["errors"])
    assert any(error.startswith("person 7: ") for error in counts["errors"])


async def test_only_the_first_ten_errors_are_reported(shipped: Shipped) -> None:
    """The reply has to stay small."""
    for number in range(1, 31):
        await shipped.pair.local.set(keys.user_details(number), "foreign")

    counts = await shipped.run_batch("sync_profiles")

    assert counts is not None
    assert (counts["done"], counts["failed"], len(counts["errors"])) == (0, 30, 10)


async def test_a_batch_over_no_keys_returns_no_counts(shipped: Shipped) -> None:
    """RedisGears does not call `accumulate` without records, so there is no result."""
    assert await shipped.run_batches() == [None] * 3


async def test_all_people_are_counted_as_failed_while_durable_is_down(people: Shipped) -> None:
    """The counts include the reason; the next run copies the people."""
    port = int(environment_for(people.gears.durable_url)["REDISENT_PORT"])
    async with run_proxy(port) as proxy:
        await point_at(people.gears, environment_for(f"redis://127.0.0.1:{proxy.port}/0"))
        proxy.cut()
        counts = await people.run_batch("sync_profiles")

    assert counts is not None
    assert (counts["done"], counts["failed"]) == (0, 3)
    assert "durable cannot be asked" in counts["errors"][0]
    assert await people.pair.local.hlen(keys.DEAD_LETTERS) == 0
    await point_at(people.gears, environment_for(people.gears.durable_url))
    assert await people.run_batch("sync_profiles") == _counts(3)


async def test_a_batch_copies_nothing_before_the_servers_are_compared(people: Shipped) -> None:
    """Local may have restarted in an older state."""
    await people.pair.local.hset(keys.INCARNATIONS, "local", ANOTHER_INCARNATION)
    counts = await people.run_batch("sync_profiles")

    assert counts is not None
    assert (counts["done"], counts["failed"]) == (0, 3)
    assert "is being compared" in counts["errors"][0]
    assert await people.pair.durable.exists(PROFILE) == 0


async def _run_snapshot(shipped: Shipped, folder: Path, *options: str) -> tuple[int, str, str]:
    urls = (shipped.gears.url, shipped.gears.durable_url)
    return await run_command(folder, *urls, "snapshot", "--engine", "gears", *options)


async def test_the_snapshot_command_runs_the_batch_scripts(people: Shipped, tmp_path: Path) -> None:
    """The command runs all three scripts one after the other, and reports their counts."""
    status, out, errors = await _run_snapshot(people, tmp_path, "--json")

    assert (status, errors) == (0, "")
    summary = json.loads(out)
    assert summary["agrees"] is True
    assert [(each["script"], each["done"]) for each in summary["scripts"]] == [
        *(("sync_profiles", 3), ("sync_sponsors", 3), ("sync_preferences", 1)),
    ]
    assert await people.pair.durable_items() == {"a"}


async def test_the_snapshot_command_by_scripts_succeeds_without_people(
    shipped: Shipped, tmp_path: Path
) -> None:
    """A server without data is not an error."""
    status, out, _ = await _run_snapshot(shipped, tmp_path, "--json")

    assert status == 0
    assert [(each["done"], each["failed"]) for each in json.loads(out)["scripts"]] == [(0, 0)] * 3


async def test_the_snapshot_command_by_scripts_fails_while_durable_is_down(
    people: Shipped, tmp_path: Path
) -> None:
    """The scripts' environment names an address at which no server listens."""
    await point_at(people.gears, environment_for("redis://127.0.0.1:1/0"))
    status, out, errors = await _run_snapshot(people, tmp_path)

    assert status == 1
    assert "durable cannot be asked" in out + errors
