"""Measures hydrates: reads of sets that are missing on local and are fetched from durable."""

import time
from typing import cast

from redis.asyncio import Redis

from bench.distance import at_distance
from bench.measure import console, create_table, percentile, settle, verdict
from bench.people import COLLECTION, RULES, Population, fill
from bench.servers import Servers
from sponsorsync.store import keys
from sponsorsync.store.preferences import PreferenceStore
from sponsorsync.sync.engine import SyncEngine

_PEOPLE = 20
_LEASE = "bench"
_TARGET = 1.5


async def bench_hydrate(
    servers: Servers, samples: int, set_size: int, *, distance_s: float = 0.0
) -> None:
    """Times reads of sets that are missing on local; profiles and entitlements are there.

    `distance_s` is the delay to durable, one way.
    """
    with at_distance(servers.durable_server.port, distance_s) as port:
        url = f"redis://127.0.0.1:{port}/0"
        async with Redis.from_url(url) as durable:
            await _bench(servers, durable, url, samples, set_size, distance_s)


async def _bench(
    servers: Servers, durable: Redis, url: str, samples: int, set_size: int, distance_s: float
) -> None:
    population = Population(_PEOPLE, set_size=set_size, entitled_every=1)
    console.print(f"filling local with {_PEOPLE} people with sets of {set_size:,}")
    await servers.clear()
    async with servers.engine(url) as engine:
        await fill(servers.local_store, population)
        await engine.relay.drain(population.ids)
        preferences = PreferenceStore(servers.local_store, RULES, engine.hydrator)
        settle()
        ours, fetches, plain = list[float](), list[float](), list[float]()
        for number in range(samples):
            person_id = population.ids[number % _PEOPLE]
            ours.append(await _time_ours(servers, engine, preferences, person_id, set_size))
            fetches.append(await _time_fetch(servers, engine, person_id, set_size))
            plain.append(await _time_plain(servers, durable, person_id))
        title = f"Hydrate of a missing set of {set_size:,}, durable {distance_s * 1000:g} ms away"
        _show(title, fetches, ours, plain)


async def _time_ours(
    servers: Servers, engine: SyncEngine, store: PreferenceStore, person_id: int, set_size: int
) -> float:
    await servers.local_async.delete(keys.preferences(person_id, COLLECTION))
    began = time.perf_counter()
    state = await store.load(person_id, COLLECTION)
    took = time.perf_counter() - began
    if len(state.items) != set_size or engine.relay.counts.dead_lettered:
        raise RuntimeError(f"{len(state.items)} items came back instead of {set_size}")
    return took


async def _time_fetch(servers: Servers, engine: SyncEngine, person_id: int, set_size: int) -> float:
    """Times the second part of such a read: the fetch from durable, the merge and the answer."""
    await servers.local_async.delete(keys.preferences(person_id, COLLECTION))
    arguments = (person_id, COLLECTION, _LEASE, "list")
    await servers.local_store.run_script("read_preferences", *arguments)  # takes the lease
    began = time.perf_counter()
    read = ("read_preferences", arguments)
    answer = cast("list[list[bytes]]", await engine.hydrator.fetch(person_id, _LEASE, read))
    took = time.perf_counter() - began
    if len(answer[1]) != set_size:
        raise RuntimeError(f"{len(answer[1])} items came back instead of {set_size}")
    return took


async def _time_plain(servers: Servers, durable: Redis, person_id: int) -> float:
    """Times the limit: an SMEMBERS on durable and an SADD on local, without version and lease."""
    key = keys.preferences(person_id, COLLECTION)
    await servers.local_async.delete(key)
    began = time.perf_counter()
    members = await durable.smembers(key)
    await servers.local_async.sadd(key, *members)
    return time.perf_counter() - began


def _show(title: str, fetches: list[float], reads: list[float], plain: list[float]) -> None:
    table = create_table(title, "p50 ms", "p99 ms", "min..max", "x the limit")
    limit = percentile(plain, 0.5)
    for name, times in (
        ("ours, fetch and fill, and the answer", fetches),
        ("ours, PreferenceStore.load: the whole read", reads),
        ("limit: SMEMBERS there, one SADD here", plain),
    ):
        ratio = percentile(times, 0.5) / limit
        table.add_row(
            name,
            f"{percentile(times, 0.5) * 1000:.2f}",
            f"{percentile(times, 0.99) * 1000:.2f}",
            f"{min(times) * 1000:.2f}..{max(times) * 1000:.2f}",
            "1" if times is plain else f"{ratio:.2f} {verdict(ratio <= _TARGET)} {_TARGET}",
        )
    console.print(table)
