"""Measures one relay that pushes dirty people to durable."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from statistics import median
from typing import cast

from bench import originals
from bench.measure import Contender, compare, console, verdict
from bench.people import COLLECTION, Population, mark_all_dirty
from bench.servers import Servers
from sponsorsync.store import keys
from sponsorsync.sync.engine import SyncEngine

_PART = 10
_POLL_S = 0.01
_PATIENCE_S = 60
_TARGET_A_SECOND = 4000
_SET_SIZE = 20


async def bench_relay(servers: Servers, rounds: int, count: int) -> None:
    """Measures the push of sponsors with sets of 20, all dirty and with an entry in the outbox."""
    population = Population(count, set_size=_SET_SIZE, entitled_every=1)
    ids = population.ids
    await servers.fill(population)
    ours = "ours, one relay"
    everything = partial(originals.copy_people_in_pipelines, sets=True)
    copying = partial(originals.contender, servers)
    times = await compare(
        f"Relay of {count:,} sponsors with sets of {_SET_SIZE}, all dirty, into an empty durable",
        servers,
        [
            copying("original, key by key", originals.copy_people_by_key, ids[::_PART], _PART),
            Contender(ours, partial(_ours, servers, population)),
            copying("limit: redis-py pipelines, all its keys", everything, ids),
        ],
        rounds,
        people=count,
        targets={},
    )
    rate = count / median(times[ours].wall)
    is_reached = rate >= _TARGET_A_SECOND
    console.print(f"relay: {rate:,.0f} people/s {verdict(is_reached)} {_TARGET_A_SECOND:,}")


@asynccontextmanager
async def _ours(
    servers: Servers, population: Population
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    await servers.clear_durable()
    await servers.local_store.run("DEL", keys.CONFIRMED)
    await mark_all_dirty(servers.local_store, population)
    async with servers.engine() as engine:

        async def work() -> None:
            relay = asyncio.create_task(engine.relay.run())
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    while await servers.local_async.exists(keys.DIRTY):  # noqa: ASYNC110 - no event
                        await asyncio.sleep(_POLL_S)
            except TimeoutError:
                raise RuntimeError(_create_error_text(servers, engine)) from None
            finally:
                while not relay.done():
                    # Repeated, since on Python 3.11 redis-py uses asyncio.wait_for, which may
                    # swallow a cancellation (python/cpython#86296).
                    relay.cancel()
                    await asyncio.wait([relay], timeout=_POLL_S)

        yield work
    last = population.ids[-1]
    if servers.durable.scard(keys.preferences(last, COLLECTION)) != population.set_size:
        raise RuntimeError("the relay left somebody out")


def _create_error_text(servers: Servers, engine: SyncEngine) -> str:
    """Returns the text of the error for people who are still dirty.

    No sweep runs here that would push them: a relay should not need it.
    """
    dirty = servers.local.smembers(keys.DIRTY)
    entries = servers.local.xlen(keys.OUTBOX)
    dead_letters = servers.local.hlen(keys.DEAD_LETTERS)
    some = sorted(map(int, cast("set[bytes]", dirty)))
    return (
        f"the relay left {len(some)} people dirty ({some[:3]}..), {entries} entries, "
        f"{dead_letters} dead letters; {engine.relay.counts}"
    )
