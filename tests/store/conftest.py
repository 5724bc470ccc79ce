"""A local store whose connections a test can count, cut and stall."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from pydantic import SecretStr

from sponsorsync.store.connect import create_store
from tests.support.proxy import run_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.store.connect import RedisStore
    from tests.support.proxy import TcpProxy


class ProxiedStore(NamedTuple):
    """A store and the proxy between it and local."""

    store: RedisStore
    proxy: TcpProxy


@pytest.fixture
async def proxied(local_server: EmbeddedValkey, local: Redis) -> AsyncIterator[ProxiedStore]:
    """A store behind a proxy, on an empty local, that waits only shortly for a reply."""
    assert await local.ping()
    async with run_proxy(local_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        store = create_store(url, name="local", pool_size=4, reply_timeout_s=0.5)
        yield ProxiedStore(store, proxy)
        await store.aclose()
