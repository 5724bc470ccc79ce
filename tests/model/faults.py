"""Faults: processes die or stop, connections break, and data are lost."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import cast

from sponsorsync.store import keys
from tests.model.run import Run
from tests.model.world import COLLECTIONS, SPONSORABLE, Server

# Longer than the service's time-out, and long enough for another replica to send the person: bytes
# that arrive after the stall are older than the data.
_LONG_STALL_S = 6.0
# Deletes a key unless its person is dirty; in one script, because the person may become dirty.
_EVICT = """
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return -1 end
return redis.call('DEL', KEYS[2])
"""


class Faults:
    """Causes random faults and ends them."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def break_things(self, rng: random.Random) -> None:
        """Causes faults until the run is over."""
        faults: list[tuple[Callable[[random.Random], Awaitable[None]], float]] = [
            (self._kill_replica, 2),
            (self._stop_replica, 3),
            (self._cut_way, 4),
            (self._stall_way, 4),
            (self._kill_server, 3),
            (self._stop_server, 2),
            (self._flush, 4),
            (self._flush_while_durable_is_unreachable, 3),
            (self._evict, 8),
            (self._lose_outbox, 1),
        ]
        while not self._run.is_over:
            await asyncio.sleep(rng.uniform(0, 0.3))
            fault = rng.choices([f for f, _ in faults], [weight for _, weight in faults])[0]
            await fault(rng)

    def _record(self, fault: str, *what: object) -> None:
        self._run.outcome.counts[fault] += 1
        self._run.world.record(f"FAULT {fault} {' '.join(map(str, what))}")

    async def _kill_replica(self, rng: random.Random) -> None:
        replica = rng.choice(self._run.world.replicas)
        async with self._run.locks[str(replica.number)]:
            self._record("kill service", replica.number)
            await replica.kill()
            await asyncio.sleep(rng.uniform(0, 0.3))
            await replica.start()

    async def _stop_replica(self, rng: random.Random) -> None:
        replica = rng.choice(self._run.world.replicas)
        async with self._run.locks[str(replica.number)]:
            self._record("stop service", replica.number)
            replica.stop()
            await asyncio.sleep(self._choose_duration(rng))
            if rng.random() < 0.2:
                self._record("kill service", replica.number)
                await replica.kill()
                await replica.start()
            replica.resume()
            self._run.world.record(f"service {replica.number} goes on")

    async def _cut_way(self, rng: random.Random) -> None:
        replica = rng.choice(self._run.world.replicas)
        async with self._run.locks[str(replica.number)]:
            name = rng.choice(("local", "durable"))
            way = replica.to_local if name == "local" else replica.to_durable
            self._record("cut connections", replica.number, name)
            way.cut()
            await asyncio.sleep(rng.choice((0, rng.uniform(0, 1.5))))
            way.flow()

    async def _stall_way(self, rng: random.Random) -> None:
        replica = rng.choice(self._run.world.replicas)
        async with self._run.locks[str(replica.number)]:
            name = rng.choice(("local", "durable", "durable"))
            way = replica.to_local if name == "local" else replica.to_durable
            self._record("stall connections", replica.number, name)
            way.stall()
            await asyncio.sleep(self._choose_duration(rng))
            if rng.random() < 0.2:
                self._record("kill service", replica.number)
                await replica.kill()
                way.flow()
                await replica.start()
            way.flow()
            self._run.world.record(f"connections of {replica.number} to {name} go on")

    def _choose_duration(self, rng: random.Random) -> float:
        """Returns seconds: mostly few, sometimes longer than a sweep or than any time-out."""
        long = rng.choices((rng.uniform(0, 0.8), rng.uniform(1, 3), _LONG_STALL_S), (12, 2, 1))[0]
        return min(long, max(0.1, self._run.ends - time.monotonic()))

    def _choose_server(self, rng: random.Random) -> Server:
        return rng.choice((self._run.world.local, self._run.world.durable))

    async def _kill_server(self, rng: random.Random) -> None:
        server = self._choose_server(rng)
        async with self._run.locks[server.name]:
            self._record(f"kill {server.name}")
            await server.kill()
            await asyncio.sleep(rng.choice((0, rng.uniform(0, 1.5))))
            await server.start()
            self._run.world.record(f"{server.name} runs again")

    async def _stop_server(self, rng: random.Random) -> None:
        server = self._choose_server(rng)
        async with self._run.locks[server.name]:
            self._record(f"stop {server.name}")
            server.stop()
            await asyncio.sleep(self._choose_duration(rng))
            server.resume()

    async def _lose_outbox(self, _: random.Random) -> None:
        async with self._run.locks["local"]:
            self._record("lose outbox")
            await self._run.world.look_local.delete(keys.OUTBOX)

    async def _flush(self, _: random.Random) -> None:
        """Flushes local while the replicas work."""
        async with AsyncExitStack() as stack:
            for person in self._run.people:
                await stack.enter_async_context(person.lock)
            for name in ("local", "durable"):
                await stack.enter_async_context(self._run.locks[name])
            if any(person.may_be_changed_later for person in self._run.people):
                await self._run.world.wait_until_nothing_is_held()
            self._record("flush")
            before = await self._run.load_all(self._run.world.look_durable)
            async with self._run.world.look_local.pipeline(transaction=True) as together:
                together.execute_command("SMEMBERS", keys.DIRTY)
                together.execute_command("FLUSHALL")
                dirty = {int(each) for each in (await together.execute())[0]}
            after = await self._run.load_all(self._run.world.look_durable)
            self._run.world.record(f"flushed while dirty: {sorted(dirty)}")
            for person in self._run.people:
                self._run.complain(
                    person,
                    person.truth.lose_local(
                        is_clean=person.id not in dirty,
                        seen=(before[person.id], after[person.id]),
                        now=time.time(),
                    ),
                )

    async def _flush_while_durable_is_unreachable(self, rng: random.Random) -> None:
        """Flushes local; the next operations run without the data that only durable has."""
        async with AsyncExitStack() as stack:
            for replica in self._run.world.replicas:
                await stack.enter_async_context(self._run.locks[str(replica.number)])
                replica.to_durable.cut()
            self._record("cut off durable")
            await self._flush(rng)
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            for replica in self._run.world.replicas:
                replica.to_durable.flow()
            self._run.world.record("all connections to durable flow again")

    async def _evict(self, rng: random.Random) -> None:
        """Deletes a set, a profile or an entitlement on local that durable has too."""
        person = rng.choice(self._run.people)
        async with person.lock, self._run.locks["local"], self._run.locks["durable"]:
            if person.may_be_changed_later:
                await self._run.world.wait_until_nothing_is_held()
                person.may_be_changed_later = False
            await self._run.record_if_clean(person)
            if not person.truth.is_fenced:
                return
            collection = rng.choice((*COLLECTIONS, None))
            hashes = (keys.user_details(person.id), keys.sponsorship(SPONSORABLE, person.id))
            key = (
                rng.choice(hashes)
                if collection is None
                else keys.preferences(person.id, collection)
            )
            reply = await cast(
                "Awaitable[int]",
                self._run.world.look_local.eval(_EVICT, 2, keys.DIRTY, key, str(person.id)),
            )
            if reply != 1:
                return
            self._record("evict", key)
            if collection is not None:
                held = (await self._run.load_all(self._run.world.look_durable))[person.id]
                if person.truth.is_surely_entitled(time.time()):
                    self._run.complain(
                        person,
                        person.truth.wrong_in_read(
                            collection, [item for c, item in held.items if c == collection]
                        ),
                    )
                person.truth.lose_collection(collection, held)
