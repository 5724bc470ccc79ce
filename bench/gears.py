"""Measures our scripts on a real RedisGears, beside a simpler script: `python -m bench.gears`.

The variable SPONSORSYNC_TEST_GEARS_COMMAND has the command that starts a Redis with RedisGears,
with `{port}` and `{folder}` in it. Meaningful figures need an append-only file that is synced each
second.
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, cast

import uvloop
from pydantic import SecretStr
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from bench.distance import at_distance
from bench.measure import console, verdict
from bench.people import COLLECTION, SPONSORABLE, Population, fill, mark_all_dirty
from bench.servers import open_engine
from sponsorsync.domain.catalog import Catalog
from sponsorsync.gears.scripts import BATCH, REGISTERING, GearsConfig, GearsScript, load_scripts
from sponsorsync.sandbox.valkey import find_free_port, run_valkey
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore, create_store
from tests.gears.real import REAL_COMMAND, RealEngine

CONFIG = GearsConfig(Catalog((SPONSORABLE,), (COLLECTION,)), hook_profiles=False)
_FIRST_PORT = 17_500
_PATIENCE_S = 120
_POLL_S = 0.005
_WRITES = 5_000
_SET_SIZE = 20
_MISSES = 100
_LAST_ID = 250_000_000
_AWAY_S = 0.01  # each way

# Targets.
_CAPTURE_RATIO = 0.55
_DRAIN_RATE = 8_000
_BATCH_RATIO = 2
_MISSES_S = 0.9

# The simpler script to compare with the batch: it writes each record alone, without versions.
_ONE_BY_ONE = f"""
import os, redis

def copy(record):
    global durable
    try:
        durable
    except NameError:
        durable = redis.Redis(host=os.environ["REDISENT_HOST"], port=os.environ["REDISENT_PORT"])
    durable.sadd(record["key"], *execute("SMEMBERS", record["key"]))

def is_entitled(record):
    return execute("SISMEMBER", "sponsors:{SPONSORABLE}", record["key"].split(":")[1]) == 1

GB("KeysReader").filter(is_entitled).foreach(copy).count().run("user:*", readValue=False)
"""


@dataclass(frozen=True, slots=True)
class _Spread(Population):
    """People with random ids from the whole range that GitHub has assigned so far."""

    @property
    def ids(self) -> list[int]:
        """The ids of all people."""
        chance = random.Random(self.count)  # noqa: S311 - no secret
        return chance.sample(range(1, _LAST_ID), self.count)

    def is_entitled(self, _: int) -> bool:
        """Returns True: everybody is entitled."""
        return True


@dataclass(frozen=True)
class Bench:
    """A local Redis with RedisGears, and its durable Redis."""

    local: BlockingRedis
    durable: BlockingRedis
    store: RedisStore
    url: str
    durable_url: str

    def clear(self) -> None:
        """Removes all registrations and all keys."""
        self.unregister()
        self.local.flushall()
        self.durable.flushall()

    async def compare(self) -> None:
        """Compares the two servers once, as the service does at its start and after restarts."""
        async with open_engine(self.url, self.durable_url):
            pass

    def unregister(self) -> None:
        """Removes all registrations."""
        for entry in cast("list[list[bytes]]", self._run("RG.DUMPREGISTRATIONS")):
            self._run("RG.UNREGISTER", entry[1])

    def upload(self, script: GearsScript, *options: str) -> Any:  # noqa: ANN401 - a reply
        """Uploads a script with its Python packages; returns the reply."""
        wanted = ("REQUIREMENTS", *script.requirements)
        return self._run("RG.PYEXECUTE", script.text, *options, *wanted)

    def register(self, name: str) -> None:
        """Uploads one of our scripts, which then is live."""
        (script,) = load_scripts([name], CONFIG)
        self.upload(script, "ID", script.session, "UPGRADE")

    def _run(self, *command: str | bytes) -> object:
        return self.local.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's


def main() -> None:
    """Runs the chosen benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m bench.gears", description=__doc__)
    parser.add_argument("--only", choices=("capture", "drain", "batch", "misses"), action="append")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not REAL_COMMAND:
        parser.error("SPONSORSYNC_TEST_GEARS_COMMAND is not set; see the top of bench/gears.py")
    wanted = set(options.only or ("capture", "drain", "batch", "misses"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(wanted, options.rounds))


async def _run(wanted: set[str], rounds: int) -> None:
    async with _open_bench(0.0) as bench:
        if "capture" in wanted:
            await _bench_capture(bench, rounds)
        if "drain" in wanted:
            await _bench_drain(bench, rounds)
        if "batch" in wanted:
            await _bench_batch(bench, rounds)
    if "misses" in wanted:
        async with _open_bench(_AWAY_S) as bench:
            await _bench_misses(bench, rounds)


@asynccontextmanager
async def _open_bench(distance_s: float) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory(prefix="sponsorsync-bench-")))
        durable = await stack.enter_async_context(run_valkey(root / "durable", name="durable"))
        port = stack.enter_context(at_distance(durable.port, distance_s))
        environment = {"REDISENT_HOST": "127.0.0.1", "REDISENT_PORT": str(port)}
        engine = RealEngine(REAL_COMMAND, root / "local", find_free_port(_FIRST_PORT), environment)
        stack.push_async_callback(engine.kill)
        await engine.start()
        url = f"redis://127.0.0.1:{engine.port}/0"
        store = create_store(SecretStr(url), name="local", pool_size=2)
        stack.push_async_callback(store.aclose)
        yield Bench(
            local=stack.enter_context(BlockingRedis.from_url(url, socket_timeout=_PATIENCE_S)),
            durable=stack.enter_context(BlockingRedis.from_url(durable.url)),
            store=store,
            url=url,
            durable_url=durable.url,
        )


async def _bench_capture(bench: Bench, rounds: int) -> None:
    """Times SADDs on a set that local knows, with the script write_behind and without it."""
    plain: list[float] = []
    captured: list[float] = []
    for _ in range(rounds):
        for rates, is_captured in ((plain, False), (captured, True)):
            bench.clear()
            await bench.compare()
            if is_captured:
                bench.register("write_behind")
            key, meta = keys.preferences(7, COLLECTION), keys.meta(7)
            bench.local.hset(meta, mapping={f"p:{COLLECTION}": "1", f"v:{COLLECTION}": "5"})
            began = time.perf_counter()
            for number in range(_WRITES):
                bench.local.sadd(key, number)
            rates.append(_WRITES / (time.perf_counter() - began))
    ratios = [after / before for before, after in zip(plain, captured, strict=True)]
    console.print(
        f"SADD one by one: {median(plain):,.0f}/s without, {median(captured):,.0f}/s with capture: "
        f"{median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f}) "
        f"{verdict(median(ratios) >= _CAPTURE_RATIO)} {_CAPTURE_RATIO}"
    )


async def _bench_drain(bench: Bench, rounds: int, count: int = 10_000) -> None:
    """Times the drain of dirty people with sets of 20 into an empty durable."""
    population = Population(count, set_size=_SET_SIZE, entitled_every=1)
    bench.clear()
    await bench.compare()
    await fill(bench.store, population)
    rates = []
    for _ in range(rounds):
        bench.unregister()
        bench.durable.flushall()
        await mark_all_dirty(bench.store, population)
        bench.register("write_behind")
        began = time.perf_counter()
        await _until_clean(bench)
        rates.append(count / (time.perf_counter() - began))
        if bench.durable.scard(keys.preferences(population.ids[-1], COLLECTION)) != _SET_SIZE:
            raise RuntimeError("the drain left somebody out")
    console.print(
        f"drain: {median(rates):,.0f} people/s ({min(rates):,.0f}..{max(rates):,.0f}) "
        f"{verdict(median(rates) >= _DRAIN_RATE)} {_DRAIN_RATE:,}"
    )


async def _until_clean(bench: Bench) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while bench.local.exists(keys.DIRTY):  # noqa: ASYNC110 - no event comes from a server
            await asyncio.sleep(_POLL_S)


async def _bench_batch(bench: Bench, rounds: int) -> None:
    """Times the batch script for 20,000 sets of 50, half of them of sponsors."""
    population = Population(20_000, set_size=50, entitled_every=2)
    bench.clear()
    await bench.compare()
    await fill(bench.store, population)
    bench.local.delete(keys.DIRTY, keys.OUTBOX)
    (ours,) = load_scripts([BATCH[-1]], CONFIG)
    one_by_one = GearsScript("one_by_one", _ONE_BY_ONE, ours.requirements)
    warm_up = "import redis\nGB('KeysReader').count().run('none:*')"
    bench.upload(GearsScript("warm_up", warm_up, ours.requirements))
    times: dict[str, list[float]] = {ours.name: [], one_by_one.name: []}
    for _ in range(rounds):
        for script in (one_by_one, ours):
            bench.durable.flushall()
            began = time.perf_counter()
            results, errors = bench.upload(script)
            times[script.name].append(time.perf_counter() - began)
            if errors or (
                script is ours and json.loads(results[0])["done"] != len(population.entitled)
            ):
                raise RuntimeError(f"{script.name}: {results} {errors}")
    ratios = [a / b for a, b in zip(times[one_by_one.name], times[ours.name], strict=True)]
    console.print(
        f"batch of 20,000 sets: {median(times[ours.name]):.2f} s, one call a record "
        f"{median(times[one_by_one.name]):.2f} s: {median(ratios):.1f} times as fast "
        f"({min(ratios):.1f}..{max(ratios):.1f}) "
        f"{verdict(median(ratios) >= _BATCH_RATIO)} {_BATCH_RATIO}"
    )


async def _bench_misses(bench: Bench, rounds: int) -> None:
    """Times a hundred concurrent reads of missing sets of different people, durable 20 ms away."""
    population = _Spread(_MISSES, set_size=_SET_SIZE, entitled_every=1)
    bench.clear()
    await bench.compare()
    bench.register("write_behind")
    await fill(bench.store, population)
    await _until_clean(bench)
    for name in REGISTERING:
        bench.register(name)
    names = [keys.preferences(each, COLLECTION) for each in population.ids]
    times = []
    async with Redis.from_url(bench.url, protocol=2, max_connections=_MISSES) as client:
        await asyncio.gather(*(client.ping() for _ in names))
        for _ in range(rounds):
            bench.local.delete(*names)
            began = time.perf_counter()
            found = await asyncio.gather(*(client.smembers(name) for name in names))
            times.append(time.perf_counter() - began)
            if not all(len(members) == _SET_SIZE for members in found):
                raise RuntimeError("a client got another answer")
    console.print(
        f"100 misses of different people, durable 20 ms away: {median(times):.2f} s "
        f"({min(times):.2f}..{max(times):.2f}) {verdict(median(times) <= _MISSES_S)} {_MISSES_S}"
    )


if __name__ == "__main__":
    main()
