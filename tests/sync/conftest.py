"""Fixtures: a pair of empty servers, and access to the entitlements stored on them."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from sponsorsync.sandbox.valkey import EmbeddedValkey
from tests.support.grants import Desk
from tests.support.proxy import TcpProxy, run_proxy
from tests.support.sync import Pair, open_pair


@pytest.fixture
async def pair(
    local_server: EmbeddedValkey, durable_server: EmbeddedValkey, local: Redis, durable: Redis
) -> AsyncIterator[Pair]:
    """One replica of the service between two empty servers; its engine runs only on request."""
    assert local is not durable  # both are empty now
    async with open_pair(local_server.url, durable_server.url) as opened:
        yield opened


@pytest.fixture
async def proxy(durable_server: EmbeddedValkey) -> AsyncIterator[TcpProxy]:
    """A proxy before durable, whose connections the test may cut."""
    async with run_proxy(durable_server.port) as proxy:
        yield proxy


@pytest.fixture
async def cuttable(
    local_server: EmbeddedValkey, local: Redis, durable: Redis, proxy: TcpProxy
) -> AsyncIterator[Pair]:
    """A pair whose engine connects to durable through the proxy; the test connects directly."""
    assert local is not durable  # both are empty now
    async with open_pair(local_server.url, f"redis://127.0.0.1:{proxy.port}/0") as opened:
        opened.durable, opened.proxy = durable, proxy
        yield opened


@pytest.fixture
def desk(pair: Pair) -> Desk:
    """Access to the entitlements of the pair."""
    return Desk(pair)


@pytest.fixture
def cut_desk(cuttable: Pair) -> Desk:
    """Access to the entitlements of a pair whose connection to durable can be cut."""
    return Desk(cuttable)
