"""Fixture: a store whose round trips a test can count, and whose connections it can cut."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.store.connect import RedisStore, create_store
from tests.support.proxy import TcpProxy, run_proxy


class ProxiedStore(NamedTuple):
    """A store, and the proxy between it and the local Redis."""

    store: RedisStore
    proxy: TcpProxy


@pytest.fixture
async def proxied(local_server: EmbeddedValkey, local: Redis) -> AsyncIterator[ProxiedStore]:
    """A store with a short time-out, connected through a proxy to an empty local Redis."""
    assert await local.ping()
    async with run_proxy(local_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        store = create_store(url, name="local", pool_size=4, reply_timeout_s=0.5)
        yield ProxiedStore(store, proxy)
        await store.aclose()
