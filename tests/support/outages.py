"""Outages of a server; each context manager causes an outage and ends it afterwards."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.gears.host.resp import Frames
from tests.support.sync import OwnServer
from tests.support.waiting import until

QUOTA_ERROR = b"-ERR max requests limit exceeded. Limit: 10000, Usage: 10000.\r\n"

Outage = Callable[[OwnServer, Redis], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def open_admin(own: OwnServer) -> AsyncIterator[Redis]:
    """Yields an operator's connection, which keeps all permissions."""
    async with Redis.from_url(own.url, single_connection_client=True) as client:
        await _run(client, "ACL", "SETUSER", "op", "on", ">op", "+@all", "~*", "&*")
        await _run(client, "AUTH", "op", "op")
        yield client


async def _run(client: Redis, *command: str) -> None:
    await client.execute_command(*command)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def refuse_connections(own: OwnServer, _: Redis) -> AsyncIterator[None]:
    """Kills the server, so that nothing listens on its port."""
    await own.kill()
    yield
    await own.start()


@asynccontextmanager
async def be_out_of_memory(_: OwnServer, admin: Redis) -> AsyncIterator[None]:
    """Makes the server answer OOM to writes."""
    await admin.config_set("maxmemory", 1)
    yield
    await admin.config_set("maxmemory", 0)


@asynccontextmanager
async def be_a_replica(_: OwnServer, admin: Redis) -> AsyncIterator[None]:
    """Makes the server answer READONLY to writes."""
    await _run(admin, "REPLICAOF", "127.0.0.1", "1")
    yield
    await _run(admin, "REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def want_a_password(_: OwnServer, admin: Redis) -> AsyncIterator[None]:
    """Makes the server answer NOAUTH or WRONGPASS."""
    await admin.config_set("requirepass", "secret")
    await _run(admin, "CLIENT", "KILL", "USER", "default")
    yield
    await admin.config_set("requirepass", "")


@asynccontextmanager
async def permit_nothing(_: OwnServer, admin: Redis) -> AsyncIterator[None]:
    """Makes the server answer NOPERM to nearly all commands."""
    await _run(admin, "ACL", "SETUSER", "default", "-@all", "+info", "+hello", "+client")
    yield
    await _run(admin, "ACL", "SETUSER", "default", "+@all")


@asynccontextmanager
async def permit_no_writes(_: OwnServer, admin: Redis) -> AsyncIterator[None]:
    """Makes the server answer NOPERM to writes, also within scripts."""
    await _run(admin, "ACL", "SETUSER", "default", "-@write")
    yield
    await _run(admin, "ACL", "SETUSER", "default", "+@all")


@asynccontextmanager
async def be_loading(own: OwnServer, _: Redis) -> AsyncIterator[None]:
    """Makes the server answer LOADING."""
    await own.kill()
    # The server loads about ten of the filler keys a second, and answers clients after each.
    start = asyncio.create_task(
        own.start(key_load_delay="100000", loading_process_events_interval_bytes="1024")
    )
    async with Redis.from_url(own.url) as client:

        async def is_loading() -> bool:
            with suppress(RedisError):
                return bool((await client.info("persistence"))["loading"])
            return False

        await until(is_loading)
        yield
        with suppress(RedisError):  # the loading may have ended
            await client.config_set("key-load-delay", 0)
    await start


@asynccontextmanager
async def be_unable_to_save(own: OwnServer, admin: Redis) -> AsyncIterator[None]:
    """Makes the server answer MISCONF, because a directory in place of dump.rdb stops BGSAVE."""
    await admin.config_set("save", "3600 1")
    (own.directory / "dump.rdb").mkdir()
    await admin.bgsave()

    async def has_failed() -> bool:
        return bool((await admin.info("persistence"))["rdb_last_bgsave_status"] == "err")

    await until(has_failed)
    yield
    (own.directory / "dump.rdb").rmdir()
    await admin.config_set("save", "")


@asynccontextmanager
async def stall(own: OwnServer, _: Redis) -> AsyncIterator[None]:
    """Stops the server, so that it accepts connections but does not answer."""
    own.stop()
    yield
    own.resume()


@asynccontextmanager
async def exceed_a_quota(own: OwnServer, _: Redis) -> AsyncIterator[None]:
    """A managed server refuses every command in words that no client knows."""
    await own.kill()

    connections: list[asyncio.StreamWriter] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        frames = Frames(reader)
        with suppress(EOFError, ConnectionError):
            while await frames.next():
                writer.write(QUOTA_ERROR)

    async with await asyncio.start_server(refuse, "127.0.0.1", own.port):
        yield
        for connection in connections:
            connection.close()
    await own.start()


OUTAGES = [
    refuse_connections,
    exceed_a_quota,
    be_out_of_memory,
    be_a_replica,
    want_a_password,
    permit_nothing,
    permit_no_writes,
    be_loading,
    be_unable_to_save,
]
# A stalled local may apply a write after the client's time-out, so tests of local skip `stall`.
DURABLE_OUTAGES = [*OUTAGES, stall]


async def fill_with_ballast(admin: Redis) -> None:
    """Fills a server with keys, so that it loads its data slowly."""
    await admin.mset({f"ballast:{number}": os.urandom(1024) for number in range(40)})
    await admin.bgrewriteaof()

    async def is_rewritten() -> bool:
        state = await admin.info("persistence")
        return not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]

    await until(is_rewritten)
