"""One database, or one server, behind both addresses."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.commands.doctor import examine
from sponsorsync.domain.errors import SettingsError
from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.settings import Settings
from tests.conftest import RunService
from tests.support.sync import open_pair, own_server

ONE = "lead to the same database"
TWO = "two databases of one server"


def _address(server: EmbeddedValkey, *, database: int = 0) -> SecretStr:
    """Another name of the server."""
    return SecretStr(f"redis://localhost:{server.port}/{database}")


@pytest.mark.parametrize(("database", "message"), [(0, ONE), (1, TWO)])
async def test_the_service_does_not_start_on_one_server_for_both(
    database: int, message: str, run_service: RunService, local_server: EmbeddedValkey, local: Redis
) -> None:
    """Nothing is written: retention would remove the application's own data."""
    with pytest.raises(SettingsError, match=message):
        async with run_service(durable_url=_address(local_server, database=database)):
            raise AssertionError("unreachable: it did not start")

    assert await local.keys("*") == []


@pytest.mark.parametrize(("database", "errors"), [(0, 1), (1, 0)])
async def test_two_databases_of_one_server_are_allowed_by_a_setting(
    database: int, errors: int, settings: Settings, local_server: EmbeddedValkey, local: Redis
) -> None:
    """One database for both is not."""
    assert await local.ping()
    changed: dict[str, Any] = {
        "durable_url": _address(local_server, database=database),
        "allow_shared_server": True,
    }
    diagnostics = await examine(settings.model_copy(update=changed))

    found = [each for each in diagnostics if each.subject == "local and durable"]
    assert [each.level.value for each in found] == ["error" if errors else "ok"]


async def test_a_server_that_becomes_reachable_later_is_checked_too(tmp_path: Path) -> None:
    """The engine compares both servers before it writes to durable."""
    async with own_server(tmp_path / "own") as server:
        with pytest.raises(SettingsError, match=ONE):
            async with open_pair(server.url, server.url.replace("127.0.0.1", "localhost")):
                raise AssertionError("unreachable: it was not compared")
        async with Redis.from_url(server.url) as client:
            assert await client.keys("*") == []
