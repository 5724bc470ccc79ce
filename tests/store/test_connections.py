"""Connections to a Redis: TLS with a private authority, users and passwords, and clusters."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.domain.errors import SettingsError, StoreConflictError, StoreUnavailableError
from sponsorsync.sandbox.valkey import EmbeddedValkey, run_valkey
from sponsorsync.settings import load_settings
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore, Reply, create_store, parse_info
from tests.conftest import RunService
from tests.store.conftest import ProxiedStore
from tests.support.tls import make_certificate, run_tls


@asynccontextmanager
async def _open_durable(
    monkeypatch: pytest.MonkeyPatch, **redisent: str
) -> AsyncIterator[RedisStore]:
    """Yields a store for the durable Redis that these variables REDISENT_* name."""
    with monkeypatch.context() as patch:
        for name, value in redisent.items():
            patch.setenv(f"REDISENT_{name}", value)
        url = load_settings(env_files=()).durable_address
    assert url is not None
    store = create_store(url, name="durable", pool_size=1)
    yield store
    await store.aclose()


async def test_durable_is_reached_over_tls_with_a_private_authority(
    tmp_path: Path, durable_server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the setting names the authority, the certificate is refused."""
    certificate = make_certificate(tmp_path)
    async with run_tls(durable_server.port, certificate) as port:
        address = {"HOST": "127.0.0.1", "PORT": str(port), "TLS": "true"}
        async with _open_durable(monkeypatch, **address, CA=str(certificate)) as trusting:
            await trusting.check_writable()
        async with _open_durable(monkeypatch, **address) as distrusting:
            with pytest.raises(StoreUnavailableError):
                await distrusting.check_writable()


async def test_durable_is_reached_with_a_user_and_a_password(
    durable: Redis, durable_server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error about a wrong password does not contain it."""
    await durable.acl_setuser(
        "sync", enabled=True, passwords=["+p@ss:/word"], keys=["*"], categories=["+@all"]
    )
    address = {"HOST": "127.0.0.1", "PORT": str(durable_server.port), "USER": "sync"}
    async with _open_durable(monkeypatch, **address, PWD="p@ss:/word") as good:
        await good.check_writable()
    async with _open_durable(monkeypatch, **address, PWD="wr0ng-secret") as bad:
        with pytest.raises(StoreUnavailableError, match="refuses our user or password") as refused:
            await bad.check_writable()

    assert "wr0ng" not in str(refused.value)
    await durable.acl_deluser("sync")


@pytest.mark.parametrize(
    ("reply", "run_id"),
    [
        (b"# Server\r\nredis_version:7.4\r\nrun_id:abc\r\n", "abc"),
        (b"# Server\r\nredis_version:7.4\r\n", ""),
        ({"redis_version": "7.4"}, ""),
    ],
)
def test_a_server_without_a_run_id_can_be_used(reply: Reply, run_id: str) -> None:
    """A proxy in front of a managed database may omit the run id from INFO."""
    assert parse_info(reply, "run_id") == run_id


async def test_a_cluster_is_refused_at_startup(tmp_path: Path, run_service: RunService) -> None:
    """Our scripts use keys of several hash slots, which a cluster refuses."""
    async with run_valkey(
        tmp_path, name="cluster", extra_config={"cluster-enabled": "yes", "appendonly": "no"}
    ) as server:
        with pytest.raises(SettingsError, match="SPONSORSYNC_DURABLE_URL: the server is a cluster"):
            async with run_service(durable_url=SecretStr(server.url)):
                raise AssertionError("unreachable: it did not start")


async def test_a_full_pool_makes_callers_wait(local_server: EmbeddedValkey) -> None:
    """redis-py's default pool would raise instead."""
    store = create_store(SecretStr(local_server.url), name="local", pool_size=2)

    replies = await asyncio.gather(*(store.run("ECHO", number) for number in range(50)))

    assert replies == [str(number).encode() for number in range(50)]
    await store.aclose()


async def test_a_script_runs_while_scripts_are_flushed(local: Redis, proxied: ProxiedStore) -> None:
    """A second flush between SCRIPT LOAD and EVALSHA would answer NOSCRIPT again."""

    async def flush() -> None:
        for _ in range(200):
            await local.script_flush()

    flushing = asyncio.create_task(flush())
    letters = [(number, "a reason", 60, 60) for number in range(5)]
    while not flushing.done():
        await proxied.store.run_script("add_dead_letter", *letters[0])
        await proxied.store.run_scripts("add_dead_letter", letters)
    await flushing


async def test_an_unknown_error_of_a_script_is_one_of_data_where_the_server_is_well(
    local: Redis, proxied: ProxiedStore
) -> None:
    """One person's broken data stop neither the loops nor the requests of others."""
    await local.hset(keys.DEAD_LETTERS, "1", "no JSON")

    replies = await proxied.store.try_calls(
        [("add_dead_letter", (number, "a reason", 60, 60)) for number in (1, 2)]
    )

    assert isinstance(replies[0], StoreConflictError)
    assert "token" in str(replies[0].__cause__)
    assert isinstance(replies[1], int), "the other one went on"


async def test_a_batch_asks_once_whether_the_server_is_well(
    local: Redis, proxied: ProxiedStore
) -> None:
    """A probe for each of hundreds of errors would take minutes where a server is silent."""
    numbers = range(5)
    letters = [(number, "a reason", 60, 60) for number in numbers]
    await proxied.store.run_scripts("add_dead_letter", letters)
    await local.hset(keys.DEAD_LETTERS, mapping={str(number): "no JSON" for number in numbers})
    before = proxied.proxy.round_trips

    replies = await proxied.store.try_calls([("add_dead_letter", each) for each in letters])

    assert all(isinstance(reply, StoreConflictError) for reply in replies)
    assert proxied.proxy.round_trips - before == 2
