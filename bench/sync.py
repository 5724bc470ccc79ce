"""The benchmarks of the sync engine: `python -m bench.sync [--only …] [--rounds N]`."""

import argparse
import asyncio
import os
import platform
import time
from importlib.metadata import version
from typing import cast

import hiredis
import redis
import uvloop

from bench.hydrates import bench_hydrate
from bench.measure import console
from bench.relays import bench_relay
from bench.servers import Servers, run_servers
from bench.snapshots import bench_profiles, bench_sets

_ALL = ("profiles", "sets", "relay", "hydrate")
_SNAPSHOT = ("profiles", "sets")
_SAMPLES_OF_50 = 200
_SAMPLES_OF_5000 = 40
# The delay to durable, one way; the timers of the event loop have no finer resolution.
_DISTANCE_S = 0.001


def main() -> None:
    """Runs the chosen benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m bench.sync", description=__doc__)
    parser.add_argument("--only", choices=("snapshot", *_ALL), action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--shrink", type=int, default=1, help="divide the numbers of people, for a quick look"
    )
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(_choose(options.only), options.rounds, options.shrink))


def _choose(only: list[str] | None) -> set[str]:
    names = set(only or _ALL)
    return names | set(_SNAPSHOT) if "snapshot" in names else names


async def _run(names: set[str], rounds: int, shrink: int) -> None:
    async with run_servers() as servers:
        began = time.perf_counter()
        _print_machine(servers)
        if "profiles" in names:
            await bench_profiles(servers, rounds, 100_000 // shrink)
        if "sets" in names:
            await bench_sets(servers, rounds, 20_000 // shrink)
        if "relay" in names:
            await bench_relay(servers, rounds, 10_000 // shrink)
        if "hydrate" in names:
            await bench_hydrate(servers, rounds * _SAMPLES_OF_50, 50)
            await bench_hydrate(servers, rounds * _SAMPLES_OF_5000, 5000)
            await bench_hydrate(servers, rounds * _SAMPLES_OF_50, 50, distance_s=_DISTANCE_S)
        console.print(f"{time.perf_counter() - began:.0f} s in all; {_load()}")


def _print_machine(servers: Servers) -> None:
    server = cast("dict[str, object]", servers.local.info("server"))
    of_server = server.get("valkey_version", server["redis_version"])
    console.print(
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}, uvloop "
        f"{version('uvloop')}, redis-py {redis.__version__} with hiredis {hiredis.__version__}, "
        f"Valkey {of_server} (AOF everysec, loopback); {_load()}"
    )


def _load() -> str:
    return "load average " + " ".join(f"{each:.1f}" for each in os.getloadavg())


if __name__ == "__main__":
    main()
