"""Scripts disclose no secret of durable, and verify its certificate."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from sponsorsync.gears.scripts import REGISTERING
from sponsorsync.store import keys
from tests.support.gears_engine import Gears
from tests.support.outages import open_admin
from tests.support.shipped import SET, Shipped, environment_for, point_at, run_shipped
from tests.support.sync import OwnServer
from tests.support.tls import make_certificate, run_tls
from tests.support.waiting import until

PASSWORD = "correct-horse-battery-staple"
WRONG = "incorrect-horse-battery-staple"


@asynccontextmanager
async def _run_guarded(gears: Gears, own: OwnServer) -> AsyncIterator[Shipped]:
    """Yields an engine with both registering scripts, and a durable with a password."""
    async with open_admin(own) as admin:
        await admin.config_set("requirepass", PASSWORD)
        url = own.url.replace("://", f"://:{PASSWORD}@")
        async with run_shipped(gears, url) as shipped:
            await shipped.upload(*REGISTERING)
            yield shipped


async def _read_all(shipped: Shipped) -> str:
    """Returns all that the engine and the scripts show to a client."""
    shown = [
        *(await shipped.gears.run("RG.DUMPREGISTRATIONS")),
        *(await shipped.gears.run("RG.PYDUMPSESSIONS", "VERBOSE")),
        *(await shipped.gears.run("RG.DUMPEXECUTIONS")),
        await shipped.pair.local.hgetall(keys.DEAD_LETTERS),
        await shipped.pair.local.keys("*"),
    ]
    return repr(shown)


async def test_password_and_address_appear_in_no_reply(own: OwnServer, gears: Gears) -> None:
    """Neither successful scripts nor scripts with a wrong password show them."""
    async with _run_guarded(gears, own) as shipped:
        await shipped.add_person("a")
        shown = [
            await _read_all(shipped),
            repr(await shipped.run_batch("sync_profiles")),
        ]
        assert await shipped.pair.durable_items() == {"a"}

        wrong = environment_for(own.url) | {"REDISENT_PWD": WRONG}
        await point_at(gears, wrong)
        await shipped.pair.save_login()
        await until(shipped.drain_waits)
        shown.append(repr(await shipped.run_batch("sync_profiles")))
        await shipped.pair.evict()
        with pytest.raises(ResponseError, match="durable c") as refusal:
            await shipped.pair.local.smembers(SET)
        shown += [str(refusal.value), await _read_all(shipped)]
        assert await shipped.pair.local.hlen(keys.DEAD_LETTERS) == 0
        await point_at(gears, wrong | {"REDISENT_PWD": PASSWORD})
        await shipped.settle()

    for secret in (PASSWORD, WRONG, str(own.port), "127.0.0.1"):
        assert not [text for text in shown if secret in text]


async def test_durable_is_reached_by_tls(shipped: Shipped, tmp_path: Path) -> None:
    """Durable's certificate is of a private authority, which REDISENT_CA names."""
    await shipped.upload("write_behind")
    certificate = make_certificate(tmp_path)
    async with _tls_to(shipped.gears, certificate) as environment:
        await point_at(shipped.gears, environment | {"REDISENT_CA": str(certificate)})
        await shipped.add_person()

    assert await shipped.pair.durable.zcard(keys.PEOPLE) == 1


@pytest.mark.parametrize("is_named", [True, False])
async def test_an_untrusted_certificate_is_an_outage(
    shipped: Shipped, tmp_path: Path, *, is_named: bool
) -> None:
    """Durable gets no data, and no person becomes a dead letter."""
    await shipped.upload("write_behind")
    (tmp_path / "other").mkdir()
    other = make_certificate(tmp_path / "other")
    async with _tls_to(shipped.gears, make_certificate(tmp_path)) as environment:
        authority = {"REDISENT_CA": str(other)} if is_named else {"REDISENT_TLS": "true"}
        await point_at(shipped.gears, environment | authority)
        await shipped.pair.sign_in()
        await until(shipped.drain_waits)

        assert await shipped.pair.durable.zcard(keys.PEOPLE) == 0
        assert await shipped.pair.local.hlen(keys.DEAD_LETTERS) == 0
        await point_at(shipped.gears, environment_for(shipped.gears.durable_url))
        await shipped.settle()


@asynccontextmanager
async def _tls_to(gears: Gears, certificate: Path) -> AsyncIterator[dict[str, str]]:
    """Yields the environment variables for a connection to durable by TLS."""
    port = int(environment_for(gears.durable_url)["REDISENT_PORT"])
    async with run_tls(port, certificate) as tls_port:
        yield environment_for(f"redis://127.0.0.1:{tls_port}/0")
