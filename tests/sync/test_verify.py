"""`verify` compares the two servers, and repairs differences with `--fix`."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.sync.differences import Held, Person, compare
from tests.support.command import run_command
from tests.support.proxy import run_proxy
from tests.support.sync import COLLECTION, PERSON, SPONSORABLE, Pair, open_pair

UNENTITLED = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)
META = keys.meta(PERSON)
PROFILE = keys.user_details(PERSON)
INDEX = keys.sponsors(SPONSORABLE)
UNVERSIONED = [f"{field}:{COLLECTION}" for field in ("p", "v", "n")]


@pytest.fixture
async def equal(pair: Pair) -> Pair:
    """Equal servers with an entitled person and one who is not; both have preferences."""
    for person, entitled in ((PERSON, True), (UNENTITLED, False)):
        await pair.add_person("a", "b", person_id=person, entitled=entitled)
    await pair.relay()
    return pair


async def test_equal_servers_agree(equal: Pair) -> None:
    """A collection that only local has is no difference if the person is not entitled."""
    summary = await equal.engine.verifier.run()

    assert summary.agrees
    assert (summary.people, summary.equal, summary.counts) == (2, 2, {})


async def test_empty_servers_agree(pair: Pair) -> None:
    """No people means no difference."""
    assert (await pair.engine.verifier.run()).agrees


def _run(server: str, *command: str | int) -> Callable[[Pair], Awaitable[None]]:
    """Returns a function that runs a command on one of the servers."""

    async def run(pair: Pair) -> None:
        store: RedisStore = getattr(pair, f"{server}_store")
        await store.run(*command)

    return run


async def _lose_the_dirty_mark(pair: Pair) -> None:
    await pair.add("c")
    await pair.local.delete(keys.DIRTY)


async def _lose_the_deletion(pair: Pair) -> None:
    await pair.people.delete_account(UNENTITLED)
    await pair.local.delete(keys.DIRTY)


async def _write_newer_on_durable(pair: Pair) -> None:
    before = await pair.dump(SET, META)
    await pair.add("c")
    await pair.relay()
    await pair.restore(before)


async def _spoil_the_durable_index(pair: Pair) -> None:
    await pair.durable.srem(INDEX, PERSON)
    await pair.durable.sadd(INDEX, PERSON + 7)


@pytest.mark.parametrize(
    ("spoil", "kinds"),
    [
        (_run("local", "FLUSHALL"), {"lost or never there on local"}),
        (_run("local", "DEL", SET), {"lost or never there on local"}),
        (_run("durable", "DEL", SET), {"missing on durable"}),
        (_run("durable", "FLUSHALL"), {"missing on durable"}),
        (_run("local", "SADD", SET, "c"), {"content differs"}),
        (_run("local", "HDEL", META, *UNVERSIONED), {"not versioned on local"}),
        (_run("durable", "HSET", PROFILE, "name", "Mallory"), {"content differs"}),
        (_lose_the_dirty_mark, {"older on durable"}),
        (
            _lose_the_deletion,
            {"deletion missing on durable", "lost or never there on local"},
        ),
        (_write_newer_on_durable, {"newer on durable"}),
        (_run("local", "SADD", INDEX, UNENTITLED), {"index of the entitled wrong on local"}),
        (_spoil_the_durable_index, {"index of the entitled wrong on durable"}),
    ],
)
async def test_each_difference_is_found_and_repaired(
    equal: Pair, spoil: Callable[[Pair], Awaitable[None]], kinds: set[str]
) -> None:
    """Each loss or write by another program is reported; `--fix` makes both servers equal."""
    await spoil(equal)

    found = await equal.engine.verifier.run()
    fixed = await equal.engine.verifier.run(fix=True)

    assert set(found.counts) == kinds
    assert not found.agrees
    assert (fixed.agrees, fixed.counts) == (True, {})
    assert fixed.repaired == sum(found.counts.values())
    assert await equal.durable_items() >= {"a", "b"}
    assert await equal.local_items() == await equal.durable_items()


async def test_a_fix_merges_a_set_that_was_evicted_and_written_again(equal: Pair) -> None:
    """Missing items may have been lost or removed; this looks the same, so all are kept."""
    await equal.local.delete(SET)
    await equal.local.sadd(SET, "c")

    summary = await equal.engine.verifier.run(fix=True)

    assert summary.agrees
    assert await equal.local_items() == {"a", "b", "c"}
    assert await equal.durable_items() == {"a", "b", "c"}


async def test_the_copy_after_a_lapse_may_only_be_smaller(equal: Pair) -> None:
    """Items added after the lapse stay on local; removed items must not stay on durable."""
    await equal.lapse()
    await equal.add("c")
    await equal.remove("a")
    await equal.relay()
    right = await equal.engine.verifier.run()
    await equal.durable.sadd(SET, "a")
    wrong = await equal.engine.verifier.run()
    fixed = await equal.engine.verifier.run(fix=True)

    assert right.agrees
    assert wrong.counts == {"copy not pruned": 1}
    assert fixed.agrees
    assert await equal.durable_items() == {"b"}


async def test_a_copy_of_a_person_who_was_never_entitled_is_found(equal: Pair) -> None:
    """Preferences of people who were never entitled must not be on durable."""
    await equal.durable.sadd(keys.preferences(UNENTITLED, COLLECTION), "b", "x")

    found = await equal.engine.verifier.run()
    await equal.engine.verifier.run(fix=True)

    assert found.counts == {"kept though not entitled": 1}
    assert await equal.durable_items(UNENTITLED) == {"b"}  # the retention removes it later


async def test_a_dirty_person_is_neither_a_difference_nor_an_agreement(equal: Pair) -> None:
    """The relay has still to send the person's changes."""
    await equal.add("c")

    summary = await equal.engine.verifier.run()

    assert (summary.counts, summary.on_their_way, summary.agrees) == ({}, 1, False)


async def test_people_with_an_unknown_entitlement_are_counted_apart(pair: Pair) -> None:
    """These people stay dirty until GitHub has told whether they are entitled."""
    await pair.sign_in(entitled=None)
    await pair.relay()

    summary = await pair.engine.verifier.run()

    assert (summary.on_their_way, summary.waiting_for_entitlement) == (1, 1)
    assert not summary.agrees


async def test_dead_letters_are_listed_with_reason_and_next_try(equal: Pair) -> None:
    """The reason of a dead letter names the wrong-type key."""
    await equal.durable.set(SET, "foreign")
    await equal.add("c")
    await equal.relay()

    summary = await equal.engine.verifier.run()

    assert [letter.id for letter in summary.dead_letters] == [PERSON]
    assert SET in summary.dead_letters[0].reason
    assert summary.dead_letters[0].next_try > 0
    assert not summary.agrees


async def test_a_wrong_type_key_is_named_and_not_repaired(equal: Pair) -> None:
    """A key of another type belongs to another program."""
    await equal.local.set(SET, "foreign")

    summary = await equal.engine.verifier.run(fix=True)

    assert summary.counts == {"wrong type on local": 1}
    assert summary.repaired == 0
    assert SET in summary.differences[0].part
    assert await equal.local.get(SET) == "foreign"


async def test_a_visitors_sets_are_skipped(equal: Pair) -> None:
    """A visitor's sets belong to the application."""
    await equal.local.hset(keys.visitor(UNENTITLED), "theirs", "1")
    await equal.durable.sadd(keys.preferences(UNENTITLED, COLLECTION), "x")

    summary = await equal.engine.verifier.run()

    assert (summary.agrees, summary.visitors) == (True, 1)


async def test_an_entitlement_that_ended_just_now_is_no_difference(equal: Pair) -> None:
    """The sweep and the relay will update both indexes."""
    await equal.local.hset(keys.sponsorship(SPONSORABLE, PERSON), "valid_until", "1000")
    await equal.durable.hset(keys.sponsorship(SPONSORABLE, PERSON), "valid_until", "1000")
    await equal.local.zadd(keys.ENTITLEMENT_ENDS, {f"{SPONSORABLE}:{PERSON}": 1000})

    found = await equal.engine.verifier.run()
    fixed = await equal.engine.verifier.run(fix=True)

    assert (found.counts, found.on_their_way) == ({}, 1)
    assert fixed.agrees


async def test_large_sets_are_compared_in_several_scripts(equal: Pair) -> None:
    """Each script reads a bounded size, and the next one reads the rest."""
    items = [f"node-{number:05}" for number in range(8000)]
    people = range(PERSON, PERSON + 6)
    await equal.settle(*items, people=people)

    summary = await equal.engine.verifier.run()

    assert (summary.people, summary.equal, summary.agrees) == (6, 6, True)


async def test_an_outage_of_durable_ends_the_comparison(
    equal: Pair, local_server: EmbeddedValkey, durable_server: EmbeddedValkey
) -> None:
    """The report gives the reason, and does not claim that the servers are equal."""
    assert await equal.durable_items()
    async with (
        run_proxy(durable_server.port) as proxy,
        open_pair(local_server.url, f"redis://127.0.0.1:{proxy.port}/0") as cut,
    ):
        proxy.cut()
        summary = await cut.engine.verifier.run()

    assert summary.reason is not None
    assert not summary.agrees


def test_versions_decide_before_contents() -> None:
    """Contents are compared only if the versions are equal."""
    here = Person(flags="c", parts={COLLECTION: Held(2, "there", "x")})
    there = Person(flags="c", parts={COLLECTION: Held(3, "there", "y")})

    found = [compare(1, here, there), compare(1, there, here)]

    assert [(each.kind, each.repair) for (each,) in found] == [
        ("newer on durable", "merge"),
        ("older on durable", "mark"),
    ]


async def test_the_verify_command_fails_unless_both_servers_are_equal(
    equal: Pair, local_server: EmbeddedValkey, durable_server: EmbeddedValkey, tmp_path: Path
) -> None:
    """Exit status 0 means that the servers are equal; `--json` is for programs."""
    await equal.durable.delete(SET)
    urls = (local_server.url, durable_server.url)

    found = await run_command(tmp_path, *urls, "verify")
    fixed = await run_command(tmp_path, *urls, "verify", "--fix", "--json")

    assert (found[0], fixed[0]) == (1, 0)
    assert "missing on durable" in found[1]
    assert "The two Redises differ, or the comparison is incomplete." in found[1]
    assert json.loads(fixed[1])["repaired"] == 1


async def test_a_refused_repair_is_not_counted(equal: Pair) -> None:
    """The server refuses the repair, so the report must not count it."""
    await equal.local.delete(SET)
    await equal.local.set(keys.pending(PERSON), "foreign")

    summary = await equal.engine.verifier.run(fix=True)

    assert (summary.agrees, summary.repaired) == (False, 0)
