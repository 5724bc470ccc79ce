"""Measures snapshots: copies of all people from local to an empty durable."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from bench import originals
from bench.measure import Contender, compare
from bench.people import COLLECTION, SPONSORABLE, Population, mark_all_dirty, mark_none_dirty
from bench.servers import Servers
from sponsorsync.store import keys

_PART = 10


async def bench_profiles(servers: Servers, rounds: int, count: int) -> None:
    """Measures snapshots of people who have a profile and are not entitled."""
    population = Population(count)
    ids = population.ids
    await servers.fill(population)
    ours, dirty = "ours", "ours, everybody dirty (confirms them too)"
    everything = partial(originals.copy_people_in_pipelines, sets=False)
    copying = partial(originals.contender, servers)
    await compare(
        f"Snapshot of {count:,} profiles into an empty durable",
        servers,
        [
            copying("original, key by key", originals.copy_profiles_by_key, ids[::_PART], _PART),
            Contender(ours, partial(_ours, servers, population)),
            Contender(dirty, partial(_ours, servers, population, dirty=True)),
            copying(
                "limit: redis-py pipelines, profiles only",
                originals.copy_profiles_in_pipelines,
                ids,
            ),
            copying("limit: the same, profile + entitlement + meta", everything, ids),
            copying("limit: raw RESP, profiles only", originals.copy_profiles_raw, ids),
        ],
        rounds,
        people=count,
        targets={ours: 9, dirty: 9},
    )


async def bench_sets(servers: Servers, rounds: int, count: int) -> None:
    """Measures snapshots of people with sets of 50; only those of entitled people are copied."""
    population = Population(count, set_size=50, entitled_every=10)
    ids = population.ids
    await servers.fill(population)
    # A tenth of the people, which contains a tenth of the sponsors.
    part = [each for number, each in enumerate(ids) if number // 10 % _PART == 0]
    copying = partial(originals.contender, servers)
    ours = f"ours, --collection {COLLECTION}"
    await compare(
        f"Snapshot of {count:,} people with sets of 50, a tenth of them sponsors",
        servers,
        [
            copying("original, member by member", originals.copy_sets_by_key, part, _PART),
            Contender(ours, partial(_ours, servers, population, collection=COLLECTION)),
            Contender("ours, everybody's everything", partial(_ours, servers, population)),
            copying("limit: redis-py pipelines, sets only", originals.copy_sets_in_pipelines, ids),
        ],
        rounds,
        people=count,
        targets={ours: 39},
    )


@asynccontextmanager
async def _ours(
    servers: Servers, population: Population, *, dirty: bool = False, collection: str | None = None
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    await servers.clear_durable()
    await mark_none_dirty(servers.local_store)
    if dirty:
        await mark_all_dirty(servers.local_store, population)
    async with servers.engine() as engine:

        async def work() -> None:
            summary = await engine.snapshot.run(collection=collection)
            if not summary.agrees:
                raise RuntimeError(f"the snapshot failed: {summary}")

        yield work
    _check_arrived(servers, population, collection)


def _check_arrived(servers: Servers, population: Population, collection: str | None) -> None:
    """Checks that everything was copied, since a contender that copies nothing would be fast."""
    wanted = len(population.entitled) if collection else population.count
    found = servers.durable.zcard(keys.PEOPLE)
    entitled = servers.durable.scard(keys.sponsors(SPONSORABLE))
    if (found, entitled) != (wanted, len(population.entitled)):
        raise RuntimeError(f"{found} people arrived instead of {wanted}, {entitled} entitled")
    for each in population.entitled[:1] if population.set_size else ():
        size = servers.durable.scard(keys.preferences(each, COLLECTION))
        if size != population.set_size:
            raise RuntimeError(f"a set of {size} arrived instead of {population.set_size}")
