"""Two Valkeys for the benchmarks, and our engine between them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from pydantic import SecretStr
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from bench.measure import console
from bench.people import COLLECTION, SPONSORABLE, Population, fill
from sponsorsync.redis_pair import open_redis_pair
from sponsorsync.sandbox.valkey import EmbeddedValkey, run_valkey
from sponsorsync.settings import Settings
from sponsorsync.store.connect import RedisStore, create_store
from sponsorsync.sync.engine import SyncEngine

# The append-only file is rewritten between the rounds (`_empty`), never during a round.
_CONFIG = {"auto-aof-rewrite-percentage": "0"}
_POLL_S = 0.02


@dataclass(frozen=True)
class Servers:
    """Both servers, with clients for the engine and for the contenders.

    Attributes:
        local, durable: Blocking clients, like those of the original scripts.
        local_async, durable_async: Plain asyncio clients of redis-py.
        local_store: A RedisStore of local, for the service's own stores.
    """

    local_server: EmbeddedValkey
    durable_server: EmbeddedValkey
    local: BlockingRedis
    durable: BlockingRedis
    local_async: Redis
    durable_async: Redis
    local_store: RedisStore

    async def clear(self) -> None:
        """Empties both servers."""
        for client in (self.local_async, self.durable_async):
            await _empty(client)

    async def fill(self, population: Population) -> None:
        """Empties both servers, and fills local with people."""
        console.print(f"filling local with {population.count:,} people")
        await self.clear()
        async with self.engine():
            pass  # local now has an incarnation, as in production
        await fill(self.local_store, population)

    async def clear_durable(self) -> None:
        """Empties durable, and waits until it is idle."""
        await _empty(self.durable_async)

    def cpu_s(self) -> tuple[float, float]:
        """Returns the processor time that local and durable have used so far."""
        return _cpu_s(self.local), _cpu_s(self.durable)

    @asynccontextmanager
    async def engine(self, durable_url: str | None = None) -> AsyncIterator[SyncEngine]:
        """Opens a new engine; `durable_url` may lead to durable through a proxy."""
        durable_url = durable_url or self.durable_server.url
        async with open_engine(self.local_server.url, durable_url) as engine:
            yield engine


@asynccontextmanager
async def open_engine(local_url: str, durable_url: str) -> AsyncIterator[SyncEngine]:
    """Opens an engine that has compared the two servers; its loops do not run."""
    settings = Settings.model_construct(
        redis_url=SecretStr(local_url),
        durable_url=SecretStr(durable_url),
        sponsorables=(SPONSORABLE,),
        collections=(COLLECTION,),
    )
    async with AsyncExitStack() as stack:
        redis_pair = await open_redis_pair(stack, settings)
        if redis_pair.engine is None:
            raise RuntimeError("the settings have no durable")
        await redis_pair.engine.open()
        yield redis_pair.engine


@asynccontextmanager
async def run_servers() -> AsyncIterator[Servers]:
    """Starts both servers, empty, with an append-only file synced each second."""
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory(prefix="sponsorsync-bench-")))
        local, durable = [
            await stack.enter_async_context(
                run_valkey(root / name, name=name, extra_config=_CONFIG)
            )
            for name in ("local", "durable")
        ]
        store = create_store(SecretStr(local.url), name="local", pool_size=2)
        stack.push_async_callback(store.aclose)
        yield Servers(
            local_server=local,
            durable_server=durable,
            local=stack.enter_context(BlockingRedis.from_url(local.url)),
            durable=stack.enter_context(BlockingRedis.from_url(durable.url)),
            local_async=await stack.enter_async_context(Redis.from_url(local.url)),
            durable_async=await stack.enter_async_context(Redis.from_url(durable.url)),
            local_store=store,
        )


async def _empty(client: Redis) -> None:
    await client.flushall(asynchronous=False)
    await client.bgrewriteaof()
    while await _is_rewriting(client):  # noqa: ASYNC110 - no event comes from a server
        await asyncio.sleep(_POLL_S)


async def _is_rewriting(client: Redis) -> bool:
    return bool((await client.info("persistence"))["aof_rewrite_in_progress"])


def _cpu_s(client: BlockingRedis) -> float:
    used = cast("dict[str, float]", client.info("cpu"))
    return used["used_cpu_user"] + used["used_cpu_sys"]
