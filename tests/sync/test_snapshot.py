"""The snapshot, which copies all people to durable, and the commands snapshot and relay."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from sponsorsync.domain.errors import InvalidInputError
from sponsorsync.sandbox.valkey import EmbeddedValkey, run_valkey
from sponsorsync.store import keys
from sponsorsync.sync import snapshot as snapshot_module
from sponsorsync.sync.snapshot import SnapshotSummary
from tests.support.command import LIMIT_S, run_command, start_command
from tests.support.proxy import run_proxy
from tests.support.sync import COLLECTION, PERSON, SPONSORABLE, Pair, open_pair

UNENTITLED = PERSON + 1
OLD_KEYS = (keys.meta(PERSON), keys.preferences(PERSON, COLLECTION), keys.PEOPLE)


async def test_a_snapshot_copies_and_confirms_all_people(pair: Pair) -> None:
    """A snapshot copies all profiles and entitlements, but preferences only of entitled people."""
    for person, entitled in ((PERSON, True), (UNENTITLED, False)):
        await pair.add_person("a", person_id=person, entitled=entitled)

    summary = await pair.engine.snapshot.run()

    assert (summary.records, summary.agrees) == (2, True)
    assert await pair.durable_items() == {"a"}
    assert await pair.durable_items(UNENTITLED) == set()
    assert await pair.durable.exists(keys.user_details(UNENTITLED)) == 1
    assert await pair.durable.smembers(keys.sponsors(SPONSORABLE)) == {str(PERSON)}
    assert await pair.dirty() == set()


async def test_a_second_snapshot_restores_what_durable_lost(pair: Pair) -> None:
    """No person is dirty, so the relay would send nothing."""
    await pair.settle("a", "b")
    await pair.durable.flushall()

    summaries = [await pair.engine.snapshot.run() for _ in range(2)]

    assert [summary.agrees for summary in summaries] == [True, True]
    assert await pair.durable_items() == {"a", "b"}
    assert await pair.local.zscore(keys.CONFIRMED, str(PERSON)) is not None


async def test_a_snapshot_records_the_copies_of_clean_people(pair: Pair) -> None:
    """Only a recorded copy is pruned after a lapse."""
    await pair.settle("a", "b")
    await pair.local.hdel(keys.meta(PERSON), f"d:{COLLECTION}")

    await pair.engine.snapshot.run()
    await pair.lapse()
    await pair.remove("a")
    await pair.relay()

    assert await pair.durable_items() == {"b"}


async def test_a_snapshot_merges_newer_data_of_durable(pair: Pair) -> None:
    """Local is older than durable, and a snapshot must not overwrite newer data."""
    await pair.settle("a")
    old = await pair.dump(*OLD_KEYS)
    await pair.add("b")
    await pair.relay()
    await pair.restore(old)

    summary = await pair.engine.snapshot.run()

    assert summary.skipped == {"newer": 1}
    assert await pair.durable_items() == {"a", "b"}
    assert await pair.local_items() == {"a", "b"}


async def test_a_dry_run_writes_nothing(pair: Pair) -> None:
    """A dry run only counts what it would copy."""
    await pair.sign_in()

    summary = await pair.engine.snapshot.run(dry_run=True)

    assert (summary.records, summary.is_dry_run) == (1, True)
    assert summary.bytes > 0
    assert await pair.durable.dbsize() == 0
    assert await pair.dirty() == {PERSON}


async def test_a_snapshot_of_one_collection_copies_those_of_entitled_people(pair: Pair) -> None:
    """A snapshot of a collection skips people who are not entitled, and copies no profiles."""
    for person, entitled in ((PERSON, True), (UNENTITLED, False)):
        await pair.add_person("a", person_id=person, entitled=entitled)
        await pair.relay()
    await pair.durable.flushall()

    summary = await pair.engine.snapshot.run(collection=COLLECTION)

    assert summary.people == 1
    assert await pair.durable_items() == {"a"}
    assert await pair.durable.exists(keys.user_details(PERSON)) == 0


async def test_a_snapshot_of_one_collection_confirms_no_person(pair: Pair) -> None:
    """The person stays dirty for the other parts, and the relay sends them."""
    await pair.add_person("a")

    summary = await pair.engine.snapshot.run(collection=COLLECTION)

    assert summary.agrees
    assert await pair.durable.exists(keys.user_details(PERSON)) == 1
    assert await pair.dirty() == set()


async def test_a_collection_that_does_not_exist_is_refused(pair: Pair) -> None:
    """A snapshot of an unknown collection would copy nothing and report success."""
    with pytest.raises(InvalidInputError, match="no such collection"):
        await pair.engine.snapshot.run(collection="nodes")


async def test_visitors_and_keys_of_another_type_are_left_alone(pair: Pair) -> None:
    """These keys belong to the application; all other people are copied."""
    foreign = PERSON + 2
    for person in (PERSON, UNENTITLED, foreign):
        await pair.add_person("a", person_id=person)
    await pair.local.hset(keys.visitor(UNENTITLED), "theirs", "1")
    await pair.local.set(keys.preferences(foreign, COLLECTION), "foreign")

    summary = await pair.engine.snapshot.run()

    assert summary.skipped == {"visitor": 1, "wrong type": 1}
    assert str(foreign) in summary.errors[0]
    assert not summary.agrees
    assert await pair.durable_items() == {"a"}
    assert await pair.durable_items(UNENTITLED) == set()


async def test_a_snapshot_reports_refused_people(pair: Pair) -> None:
    """The report gives the operator durable's reason."""
    await pair.add_person("a")
    await pair.durable.set(keys.preferences(PERSON, COLLECTION), "foreign")

    summary = await pair.engine.snapshot.run()

    assert "WRONGTYPE" in summary.errors[0]
    assert not summary.agrees


async def test_a_scan_imports_data_of_the_old_code(pair: Pair) -> None:
    """Sets and profiles without versions are merged with durable's."""
    await pair.settle("stored")
    await pair.local.flushall()
    await pair.compare()
    await pair.local.delete(keys.meta(PERSON), keys.preferences(PERSON, COLLECTION))
    await pair.local.sadd(keys.preferences(PERSON, COLLECTION), "found")
    await pair.local.hset(keys.user_details(UNENTITLED), "user_login", "old")
    await pair.local.set(keys.preferences(PERSON + 2, COLLECTION), "no set")
    await pair.local.sadd(keys.preferences(PERSON + 3, COLLECTION), "theirs")
    await pair.local.hset(keys.visitor(PERSON + 3), "theirs", "1")

    summary = await pair.engine.snapshot.run(scan=True)

    assert summary.imported == 2
    assert summary.skipped["visitor"] == 1
    assert summary.skipped["wrong type"] == 1
    assert await pair.durable_items() == {"stored", "found"}
    assert await pair.durable.hget(keys.user_details(UNENTITLED), "user_login") == "old"
    assert await pair.durable_items(PERSON + 3) == set()
    assert await pair.dirty() == {UNENTITLED}  # this person's entitlement is unknown


async def test_a_dry_scan_marks_no_person(pair: Pair) -> None:
    """A dry run only counts what it would import."""
    await pair.local.sadd(keys.preferences(PERSON, COLLECTION), "found")

    summary = await pair.engine.snapshot.run(scan=True, dry_run=True)

    assert summary.imported == 1
    assert await pair.local.keys("sponsorsync:*") == [keys.INCARNATIONS]


async def test_large_collections_make_smaller_batches(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each script reads a bounded size, so the size of batches adapts."""
    monkeypatch.setattr(snapshot_module, "_BATCH", 60)
    monkeypatch.setattr(snapshot_module, "_BATCH_BYTES", 200_000)
    people = range(PERSON, PERSON + 130)
    items = [f"node-{number:05}" for number in range(1000)]
    for person in people:
        await pair.add_person(*items, person_id=person)

    summary = await pair.engine.snapshot.run()

    assert (summary.people, summary.records, summary.agrees) == (130, 130, True)
    assert await pair.durable_items(people[-1]) == set(items)


async def test_an_outage_of_durable_during_a_snapshot_is_reported(
    pair: Pair,
    local_server: EmbeddedValkey,
    durable_server: EmbeddedValkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The report has the counts so far; the next snapshot copies everyone."""
    monkeypatch.setattr(snapshot_module, "_BATCH", 50)
    people = range(PERSON, PERSON + 200)
    for person in people:
        await pair.sign_in(person)
    async with (
        run_proxy(durable_server.port) as proxy,
        open_pair(local_server.url, f"redis://127.0.0.1:{proxy.port}/0") as cut,
    ):

        def cut_after_the_first(summary: SnapshotSummary) -> None:
            if summary.records:
                proxy.cut()

        broken = await cut.engine.snapshot.run(report=cut_after_the_first)
        proxy.flow()
        whole = await cut.engine.snapshot.run()

    assert broken.reason is not None
    assert 0 < broken.records < len(people)
    assert not broken.agrees
    assert whole.agrees
    assert await pair.durable.zcard(keys.PEOPLE) == len(people)


async def test_the_snapshot_command_reports_its_result(
    pair: Pair, local_server: EmbeddedValkey, durable_server: EmbeddedValkey, tmp_path: Path
) -> None:
    """The report is text; with `--json`, standard output has only JSON."""
    await pair.sign_in()

    plain = await run_command(tmp_path, local_server.url, durable_server.url, "snapshot")
    as_json = await run_command(
        tmp_path, local_server.url, durable_server.url, "snapshot", "--json"
    )

    assert (plain[0], as_json[0]) == (0, 0)
    assert "1 of 1 people are now on durable" in plain[1]
    assert json.loads(as_json[1])["agrees"] is True


@pytest.mark.parametrize(("command", "word"), [("snapshot", "copied"), ("verify", "compared")])
async def test_a_command_that_did_nothing_counts_nothing(
    command: str, word: str, pair: Pair, local_server: EmbeddedValkey, tmp_path: Path
) -> None:
    """'0 of 0 people are equal' would say something of people who were never looked at."""
    await pair.sign_in()

    status, out, _ = await run_command(tmp_path, local_server.url, "redis://127.0.0.1:1/0", command)

    reason = "The durable Redis cannot be reached: nothing listens at its address."
    assert (status, " ".join(out.split())) == (1, f"Nothing was {word}: {reason}")


async def test_the_snapshot_command_needs_a_durable_redis(
    local_server: EmbeddedValkey, tmp_path: Path
) -> None:
    """The error is one line that names the setting."""
    status, _, errors = await run_command(tmp_path, local_server.url, "", "snapshot")

    assert status == 1
    assert "SPONSORSYNC_DURABLE_URL" in errors.splitlines()[-1]


async def test_the_relay_command_drains_until_a_signal(pair: Pair, tmp_path: Path) -> None:
    """The command prints a line when it is ready; a signal ends it with exit status 0."""
    async with (
        run_valkey(tmp_path / "local", name="local") as local_server,
        run_valkey(tmp_path / "durable", name="durable") as durable_server,
        open_pair(local_server.url, durable_server.url) as own,
    ):
        assert own.local is not pair.local
        await own.sign_in()
        process = await start_command(tmp_path, local_server.url, durable_server.url, "relay")
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            ready = await process.stdout.readline()
            while await own.dirty():
                await own.local.ping()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LIMIT_S):
            status = await process.wait()

        assert ready == b"SponsorSync relay ready\n"
        assert status == 0
        assert await own.durable.exists(keys.user_details(PERSON)) == 1
