"""The service's own engine and the RedisGears scripts may sync the same people at once."""

import asyncio
import random

import pytest

from sponsorsync.store import keys
from tests.support.scale import scale
from tests.support.shipped import OTHER, Shipped
from tests.support.sync import COLLECTION, PERSON, running_engine
from tests.support.waiting import until

PEOPLE = range(PERSON, PERSON + 5)
ITEMS = [f"item-{number}" for number in range(12)]
STEPS = 60


@pytest.mark.random
@pytest.mark.parametrize("seed", range(scale(1)))
async def test_both_engines_at_once_agree_in_the_end(live: Shipped, seed: int) -> None:
    """The service and direct writes to Redis change several people at the same time."""
    for person in PEOPLE:
        await live.pair.sign_in(person)
    async with running_engine(live.pair):
        wanted = await asyncio.gather(*(_write(live, person, seed) for person in PEOPLE))
        await until(live.is_settled)
        summary = await live.pair.engine.verifier.run(fix=False)

        assert summary.agrees, summary
        for person, items in zip(PEOPLE, wanted, strict=True):
            assert await live.pair.local_items(person) == items
            assert await live.pair.durable_items(person) == items
    assert await live.no_registration_failed()
    # Only the scripts run now: they fetch a lost set for the first read.
    await live.pair.local.flushall()
    for person, items in zip(PEOPLE, wanted, strict=True):
        assert await live.pair.local_items(person) == items


async def _write(live: Shipped, person: int, seed: int) -> set[str]:
    """Changes one person's items at random; returns the items at the end."""
    chance = random.Random(f"{seed}/{person}")  # noqa: S311 - a seed makes it repeatable
    key = keys.preferences(person, COLLECTION)
    items: set[str] = set()
    for _ in range(STEPS):
        item = chance.choice(ITEMS)
        if chance.random() < 0.6:
            items.add(item)
            if chance.random() < 0.5:
                await live.pair.add(item, person_id=person)
            else:
                await live.pair.local.sadd(key, item)
        else:
            items.discard(item)
            if chance.random() < 0.5:
                await live.pair.remove(item, person_id=person)
            else:
                await live.pair.local.srem(key, item)
    return items


async def test_both_engines_at_once_delete_an_account(live: Shipped) -> None:
    """After the deletion no read restores data from durable."""
    async with running_engine(live.pair):
        for person in (PERSON, OTHER):
            await live.pair.add_person("a", person_id=person)
        await until(live.is_settled)
        await live.pair.people.delete_account(PERSON)
        await until(live.is_settled)

        assert await live.pair.local_items() == await live.pair.durable_items() == set()
        assert await live.pair.local_items(OTHER) == await live.pair.durable_items(OTHER) == {"a"}
    assert await live.pair.durable.exists(keys.user_details(PERSON)) == 0
