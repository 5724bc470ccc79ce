"""Fixtures: a RedisGears engine, which is the test host or a real one named by the environment."""

import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from sponsorsync.gears.client import GearsClient, open_gears
from sponsorsync.gears.scripts import REGISTERING
from sponsorsync.sandbox.valkey import EmbeddedValkey
from tests.gears.host.process import HostProcess, run_host
from tests.support.gears import write_scripts
from tests.support.gears_engine import Gears
from tests.support.shipped import Shipped, run_shipped
from tests.support.sync import OwnServer, own_server
from tests.support.wheel import install_wheel

REAL_URL = os.environ.get("SPONSORSYNC_TEST_GEARS_URL", "")
REAL_DURABLE_URL = os.environ.get("SPONSORSYNC_TEST_DURABLE_URL", "")


@pytest.fixture(scope="session")
def gears_environment(durable_server: EmbeddedValkey) -> Mapping[str, str]:
    """The environment variables of scripts, with durable's address."""
    durable = urlsplit(durable_server.url)
    return {"REDISENT_HOST": str(durable.hostname), "REDISENT_PORT": str(durable.port)}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gears_host(
    tmp_path_factory: pytest.TempPathFactory, gears_environment: Mapping[str, str]
) -> AsyncIterator[HostProcess | None]:
    """The host, one for each test process; None if the engine is a real one."""
    if REAL_URL:
        yield None
        return
    async with run_host(tmp_path_factory.mktemp("gears"), gears_environment) as host:
        yield host


@pytest.fixture
async def gears(
    gears_host: HostProcess | None, durable_server: EmbeddedValkey
) -> AsyncIterator[Gears]:
    """An engine without data, registrations and settings."""
    url = gears_host.url if gears_host is not None else REAL_URL
    durable_url = durable_server.url if gears_host is not None else REAL_DURABLE_URL
    async with (
        Redis.from_url(url, socket_timeout=20) as client,
        Redis.from_url(url, socket_timeout=20) as plain,
        Redis.from_url(durable_url, decode_responses=True) as durable,
    ):
        plain.response_callbacks.clear()
        engine = Gears(url, client, durable, durable_url, plain, gears_host)
        await engine.clear()
        yield engine


@pytest.fixture
async def client(gears: Gears) -> AsyncIterator[GearsClient]:
    """A client of the engine, as each replica of the service has one."""
    async with open_gears(SecretStr(gears.url), upload_timeout_s=60) as opened:
        yield opened


@pytest.fixture
async def shipped(gears: Gears) -> AsyncIterator[Shipped]:
    """An engine without scripts, and a replica of the service."""
    async with run_shipped(gears, gears.durable_url) as opened:
        yield opened


@pytest.fixture
async def live(shipped: Shipped) -> Shipped:
    """An engine with both scripts that register callbacks, and a replica of the service."""
    await shipped.upload(*REGISTERING)
    return shipped


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A durable Redis that the test may break."""
    async with own_server(tmp_path / "own") as server:
        yield server


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installation from the wheel, built once for all processes of a run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "wheel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = folder / "wheel" / "installed"
        return installed if installed.exists() else install_wheel(folder / "wheel")


@pytest.fixture
def own_installed(installed: Path, tmp_path: Path) -> Path:
    """A copy of the installation for one test, with minimal scripts in place of ours."""
    own = Path(shutil.copytree(installed, tmp_path / "installed"))
    write_scripts(own / "sponsorsync" / "gears" / "scripts")
    return own


@pytest.fixture
async def own_gears(gears: Gears) -> Gears:
    """An engine whose process the test may end; skips the test if a real engine forbids this."""
    if gears.is_real:
        try:
            await gears.run("DEBUG", "SLEEP", 0)
        except ResponseError as error:
            pytest.skip(f"the engine cannot be restarted: {error}")
        await gears.forget_history()
    return gears
