"""Both sides are compared, and made equal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from sponsorsync.store import keys
from sponsorsync.sync.differences import Held, Person, compare
from tests.support.command import run_command
from tests.support.proxy import run_proxy
from tests.support.sync import COLLECTION, PERSON, SPONSORABLE, open_pair

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from tests.support.sync import Pair

UNENTITLED = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)


@pytest.fixture
async def equal(pair: Pair) -> Pair:
    """Both sides equal: a sponsor with preferences, and somebody who is not entitled."""
    for person, entitled in ((PERSON, True), (UNENTITLED, False)):
        await pair.sign_in(person, entitled=entitled)
        await pair.add("a", "b", person_id=person)
    await pair.relay()
    return pair


async def test_equal_servers_agree(equal: Pair) -> None:
    """Collections of people who are not entitled are on local only, and that is right."""
    summary = await equal.engine.verifier.run()

    assert summary.agrees
    assert (summary.people, summary.equal, summary.counts) == (2, 2, {})


async def test_empty_sides_agree(pair: Pair) -> None:
    """There is nothing to differ in."""
    assert (await pair.engine.verifier.run()).agrees


async def _flush_local(pair: Pair) -> None:
    await pair.local.flushall()


async def _evict_set(pair: Pair) -> None:
    await pair.local.delete(SET)


async def _lose_set_on_durable(pair: Pair) -> None:
    await pair.durable.delete(SET)


async def _lose_everything_on_durable(pair: Pair) -> None:
    await pair.durable.flushall()


async def _write_past_the_service(pair: Pair) -> None:
    await pair.local.sadd(SET, "c")


async def _write_past_it_where_nobody_looked(pair: Pair) -> None:
    await pair.local.hdel(
        keys.meta(PERSON), f"p:{COLLECTION}", f"v:{COLLECTION}", f"n:{COLLECTION}"
    )


async def _change_the_profile_on_durable(pair: Pair) -> None:
    await pair.durable.hset(keys.user_details(PERSON), "name", "Mallory")


async def _lose_the_dirty_mark(pair: Pair) -> None:
    await pair.add("c")
    await pair.local.delete(keys.DIRTY)


async def _lose_the_deletion(pair: Pair) -> None:
    await pair.people.delete_account(UNENTITLED)
    await pair.local.delete(keys.DIRTY)


async def _write_newer_on_durable(pair: Pair) -> None:
    before = {key: await pair.local.dump(key) for key in (SET, keys.meta(PERSON))}
    await pair.add("c")
    await pair.relay()
    for key, value in before.items():
        await pair.local.restore(key, 0, value, replace=True)  # type: ignore[arg-type]


async def _spoil_the_local_index(pair: Pair) -> None:
    await pair.local.sadd(keys.sponsors(SPONSORABLE), UNENTITLED)


async def _spoil_the_durable_index(pair: Pair) -> None:
    await pair.durable.srem(keys.sponsors(SPONSORABLE), PERSON)
    await pair.durable.sadd(keys.sponsors(SPONSORABLE), PERSON + 7)


@pytest.mark.parametrize(
    ("spoil", "kinds"),
    [
        (_flush_local, {"lost or never there on local"}),
        (_evict_set, {"lost or never there on local"}),
        (_lose_set_on_durable, {"missing on durable"}),
        (_lose_everything_on_durable, {"missing on durable"}),
        (_write_past_the_service, {"content differs"}),
        (_write_past_it_where_nobody_looked, {"not versioned on local"}),
        (_change_the_profile_on_durable, {"content differs"}),
        (_lose_the_dirty_mark, {"older on durable"}),
        (
            _lose_the_deletion,
            {"deletion missing on durable", "lost or never there on local"},
        ),
        (_write_newer_on_durable, {"newer on durable"}),
        (_spoil_the_local_index, {"index of the entitled wrong on local"}),
        (_spoil_the_durable_index, {"index of the entitled wrong on durable"}),
    ],
)
async def test_each_difference_is_found_and_repaired(
    equal: Pair, spoil: Callable[[Pair], Awaitable[None]], kinds: set[str]
) -> None:
    """Each foreign write or loss is named; `--fix` makes both equal."""
    await spoil(equal)

    found = await equal.engine.verifier.run()
    fixed = await equal.engine.verifier.run(fix=True)

    assert set(found.counts) == kinds
    assert not found.agrees
    assert (fixed.agrees, fixed.counts) == (True, {})
    assert fixed.repaired == sum(found.counts.values())
    assert await equal.durable_items() >= {"a", "b"}
    assert await equal.local_items() == await equal.durable_items()


async def test_fixing_loses_nothing_of_a_set_that_was_evicted_and_written_anew(equal: Pair) -> None:
    """A loss and an unnoticed removal look the same, so nothing is dropped."""
    await equal.local.delete(SET)
    await equal.local.sadd(SET, "c")

    summary = await equal.engine.verifier.run(fix=True)

    assert summary.agrees
    assert await equal.local_items() == {"a", "b", "c"}
    assert await equal.durable_items() == {"a", "b", "c"}


async def test_the_copy_after_a_lapse_may_only_be_smaller(equal: Pair) -> None:
    """Additions since stay on local; removals must not be on durable."""
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
    """Their preferences must never leave local."""
    await equal.durable.sadd(keys.preferences(UNENTITLED, COLLECTION), "b", "x")

    found = await equal.engine.verifier.run()
    await equal.engine.verifier.run(fix=True)

    assert found.counts == {"kept though not entitled": 1}
    assert await equal.durable_items(UNENTITLED) == {"b"}  # its retention begins


async def test_a_dirty_person_is_neither_a_difference_nor_an_agreement(equal: Pair) -> None:
    """The comparison cannot decide yet."""
    await equal.add("c")

    summary = await equal.engine.verifier.run()

    assert (summary.counts, summary.on_their_way, summary.agrees) == ({}, 1, False)


async def test_people_who_wait_for_their_entitlement_are_counted_apart(pair: Pair) -> None:
    """Only GitHub can resolve that."""
    await pair.sign_in(entitled=None)
    await pair.relay()

    summary = await pair.engine.verifier.run()

    assert (summary.on_their_way, summary.waiting_for_entitlement) == (1, 1)
    assert not summary.agrees


async def test_dead_letters_are_listed_with_reason_and_next_try(equal: Pair) -> None:
    """The reason names the key."""
    await equal.durable.delete(SET)
    await equal.durable.set(SET, "foreign")
    await equal.add("c")
    await equal.relay()

    summary = await equal.engine.verifier.run()

    assert [letter.id for letter in summary.dead_letters] == [PERSON]
    assert SET in summary.dead_letters[0].reason
    assert summary.dead_letters[0].next_try > 0
    assert not summary.agrees


async def test_a_wrong_type_key_is_named_and_not_repaired(equal: Pair) -> None:
    """It belongs to another program."""
    await equal.local.delete(SET)
    await equal.local.set(SET, "foreign")

    summary = await equal.engine.verifier.run(fix=True)

    assert summary.counts == {"wrong type on local": 1}
    assert summary.repaired == 0
    assert SET in summary.differences[0].part
    assert await equal.local.get(SET) == "foreign"


async def test_a_visitors_sets_are_skipped(equal: Pair) -> None:
    """They are the application's."""
    await equal.local.hset(keys.visitor(UNENTITLED), "theirs", "1")
    await equal.durable.sadd(keys.preferences(UNENTITLED, COLLECTION), "x")

    summary = await equal.engine.verifier.run()

    assert (summary.agrees, summary.visitors) == (True, 1)


async def test_an_entitlement_that_ended_just_now_is_no_difference(equal: Pair) -> None:
    """Both indexes learn it by the sweep and the relay; until then they are on their way."""
    await equal.local.hset(keys.sponsorship(SPONSORABLE, PERSON), "valid_until", "1000")
    await equal.durable.hset(keys.sponsorship(SPONSORABLE, PERSON), "valid_until", "1000")
    await equal.local.zadd(keys.ENTITLEMENT_ENDS, {f"{SPONSORABLE}:{PERSON}": 1000})

    found = await equal.engine.verifier.run()
    fixed = await equal.engine.verifier.run(fix=True)

    assert (found.counts, found.on_their_way) == ({}, 1)
    assert fixed.agrees


async def test_large_sets_are_compared_in_several_scripts(equal: Pair) -> None:
    """A script stops when it has read much, and the rest is asked for again."""
    items = [f"node-{number:05}" for number in range(8000)]
    people = range(PERSON, PERSON + 6)
    for person in people:
        await equal.sign_in(person)
        await equal.add(*items, person_id=person)
    await equal.relay()

    summary = await equal.engine.verifier.run()

    assert (summary.people, summary.equal, summary.agrees) == (6, 6, True)


async def test_an_outage_of_durable_ends_the_comparison(
    equal: Pair, local_server: EmbeddedValkey, durable_server: EmbeddedValkey
) -> None:
    """Unknown is not equal."""
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
    """Which side is right is a matter of versions; contents are compared when they are the same."""
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
    """0 only if both are known to be equal; `--json` is for programs."""
    await equal.durable.delete(SET)
    urls = (local_server.url, durable_server.url)

    found = await run_command(tmp_path, *urls, "verify")
    fixed = await run_command(tmp_path, *urls, "verify", "--fix", "--json")

    assert (found[0], fixed[0]) == (1, 0)
    assert "missing on durable" in found[1]
    assert "The two Redises differ, or the comparison is incomplete." in found[1]
    assert json.loads(fixed[1])["repaired"] == 1


async def test_a_refused_repair_is_not_counted(equal: Pair) -> None:
    """The count would claim that it is done."""
    await equal.local.delete(SET)
    await equal.local.set(keys.pending(PERSON), "foreign")

    summary = await equal.engine.verifier.run(fix=True)

    assert (summary.agrees, summary.repaired) == (False, 0)
