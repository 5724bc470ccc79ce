"""Ways to reach a Redis: TLS with an authority of one's own, users and passwords, and clusters."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from sponsorsync.domain.errors import SettingsError, StoreUnavailableError
from sponsorsync.sandbox.valkey import run_valkey
from sponsorsync.settings import load_settings
from sponsorsync.store.connect import create_store, parse_run_id
from tests.support.tls import make_certificate, run_tls

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.store.connect import Reply
    from tests.conftest import RunService


async def test_durable_is_reached_by_tls_with_an_authority_of_ones_own(
    tmp_path: Path, durable_server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As REDISENT_* name it, with a user and a password; and not without the authority."""
    certificate = make_certificate(tmp_path)
    async with run_tls(durable_server.port, certificate) as port:
        monkeypatch.setenv("REDISENT_HOST", "127.0.0.1")
        monkeypatch.setenv("REDISENT_PORT", str(port))
        monkeypatch.setenv("REDISENT_TLS", "true")
        stranger = load_settings(env_files=()).durable_address
        monkeypatch.setenv("REDISENT_CA", str(certificate))
        trusted = load_settings(env_files=()).durable_address
        assert trusted is not None
        assert stranger is not None
        good = create_store(trusted, name="durable", pool_size=1)
        bad = create_store(stranger, name="durable", pool_size=1)
        await good.check_writable()
        with pytest.raises(StoreUnavailableError):
            await bad.check_writable()
        await good.aclose()
        await bad.aclose()


async def test_a_user_with_a_password_is_used(
    durable: Redis, durable_server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a wrong one is said to be one, without being repeated."""
    await durable.acl_setuser(
        "sync", enabled=True, passwords=["+p@ss:/word"], keys=["*"], categories=["+@all"]
    )
    monkeypatch.setenv("REDISENT_HOST", "127.0.0.1")
    monkeypatch.setenv("REDISENT_PORT", str(durable_server.port))
    monkeypatch.setenv("REDISENT_USER", "sync")
    monkeypatch.setenv("REDISENT_PWD", "p@ss:/word")
    good_url = load_settings(env_files=()).durable_address
    monkeypatch.setenv("REDISENT_PWD", "wr0ng-secret")
    bad_url = load_settings(env_files=()).durable_address
    assert good_url is not None
    assert bad_url is not None
    good = create_store(good_url, name="durable", pool_size=1)
    bad = create_store(bad_url, name="durable", pool_size=1)

    await good.check_writable()
    with pytest.raises(StoreUnavailableError, match="refuses our user or password") as refused:
        await bad.check_writable()

    assert "wr0ng" not in str(refused.value)
    await good.aclose()
    await bad.aclose()
    await durable.acl_deluser("sync")


@pytest.mark.parametrize(
    ("reply", "run_id"),
    [
        (b"# Server\r\nredis_version:7.4\r\nrun_id:abc\r\n", "abc"),
        (b"# Server\r\nredis_version:7.4\r\n", ""),
        ({"redis_version": "7.4"}, ""),
    ],
)
def test_a_server_that_shows_no_run_id_can_be_used(reply: Reply, run_id: str) -> None:
    """A proxy before a managed database may leave it out."""
    assert parse_run_id(reply) == run_id


async def test_a_cluster_is_refused_at_the_start(tmp_path: Path, run_service: RunService) -> None:
    """Its keys are of many slots, and scripts here work on keys of any."""
    async with run_valkey(
        tmp_path, name="cluster", extra_config={"cluster-enabled": "yes", "appendonly": "no"}
    ) as server:
        with pytest.raises(SettingsError, match="SPONSORSYNC_DURABLE_URL: the server is a cluster"):
            async with run_service(durable_url=SecretStr(server.url)):
                raise AssertionError("unreachable: it did not start")


async def test_the_pool_waits_when_it_is_full(local: Redis, local_server: EmbeddedValkey) -> None:
    """redis-py's own pool would raise at once."""
    assert await local.ping()
    store = create_store(SecretStr(local_server.url), name="local", pool_size=2)

    replies = await asyncio.gather(*(store.run("ECHO", number) for number in range(50)))

    assert replies == [str(number).encode() for number in range(50)]
    await store.aclose()
