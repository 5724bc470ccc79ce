"""A managed failover: the name of the server leads to another one, and connections stay open."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.store.connect import Gate, RedisStore, create_store
from tests.store.conftest import ProxiedStore
from tests.support.sync import OwnServer, own_server


@pytest.fixture
async def promoted(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """The server that takes over."""
    async with own_server(tmp_path / "promoted") as server:
        yield server


@pytest.fixture
async def demoted(local: Redis) -> AsyncIterator[Redis]:
    """Makes local a replica until the end of the test."""
    yield local
    await local.replicaof("NO", "ONE")


async def _demote(client: Redis) -> None:
    await client.replicaof("127.0.0.1", "1")


async def _write_all(store: RedisStore) -> None:
    await store.run_together([("SET", "a", 1), ("SET", "b", 1)])


async def _write_by_script(store: RedisStore) -> None:
    await store.run_script("add_dead_letter", 1, "a reason", 60, 60)


@pytest.mark.parametrize("write", [RedisStore.check_writable, _write_all, _write_by_script])
async def test_the_first_refused_write_leads_to_the_new_primary(
    write: object, proxied: ProxiedStore, demoted: Redis, promoted: OwnServer
) -> None:
    """The connection to the demoted server is still open, and would be used for ever."""
    assert callable(write)
    await write(proxied.store)
    await _demote(demoted)
    proxied.proxy.target_port = promoted.port

    with pytest.raises(StoreUnavailableError, match="read-only"):
        await write(proxied.store)
    await write(proxied.store)

    async with Redis.from_url(promoted.url) as client:
        assert (await client.info("stats"))["total_commands_processed"] > 0


async def test_a_gate_refuses_a_new_connection_to_a_replica(
    demoted: Redis, proxied: ProxiedStore
) -> None:
    """A replica answers reads with data that may be old."""
    run_id = await proxied.store.load_run_id()
    gate = Gate()
    gate.open_for(run_id)
    url = SecretStr(f"redis://127.0.0.1:{proxied.proxy.port}/0")
    gated = create_store(url, name="local", pool_size=1, gate=gate)
    await _demote(demoted)

    with pytest.raises(StoreUnavailableError, match="The local Redis is read-only"):
        await gated.run("GET", "key")
    await demoted.replicaof("NO", "ONE")
    assert await gated.run("GET", "key") is None
    await gated.aclose()
