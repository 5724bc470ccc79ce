"""All that is held of me, and the end of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

from sponsorsync.store import keys
from tests.support.proxy import run_proxy
from tests.support.waiting import is_clean, until

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from tests.conftest import RunService

PERSON = 48210377


async def test_an_export_shows_both_sides(
    run_service: RunService, durable: Redis, durable_server: EmbeddedValkey, local: Redis
) -> None:
    """Everything that is held, in one document."""
    async with run_service(durable_url=SecretStr(durable_server.url)) as service:
        browser = await service.sign_in("monthly")
        await browser.put("/preferences/mnodes/a")
        await until(lambda: is_clean(local))
        export = (await browser.get("/me/export")).json()

    assert await durable.exists(keys.meta(PERSON)) == 1
    for side in ("local", "durable"):
        assert export[side]["preferences"] == {"mnodes": ["a"]}
        assert export[side]["profile"]["user_login"] == "monthly"
        assert export[side]["entitlements"]["maintainer"]["tier_cents"] == "1000"


async def test_an_export_says_when_durable_is_away(run_service: RunService) -> None:
    """What can be shown is shown."""
    async with run_service(durable_url=SecretStr("redis://127.0.0.1:1/0")) as service:
        browser = await service.sign_in("monthly")
        export = (await browser.get("/me/export")).json()

    assert export["durable"] is None
    assert "cannot be reached" in export["note"]
    assert export["local"]["profile"]["user_login"] == "monthly"


async def test_a_deletion_removes_everything_on_both_sides(
    run_service: RunService, durable: Redis, durable_server: EmbeddedValkey, local: Redis
) -> None:
    """Every session ends in the same script; what stays is the number of a deleted account."""
    async with run_service(durable_url=SecretStr(durable_server.url)) as service:
        browser, other = await service.open_browser(), await service.open_browser()
        await browser.sign_in("monthly")
        await other.sign_in("monthly")
        await browser.put("/preferences/mnodes/a")
        await until(lambda: is_clean(local))
        answer = await browser.delete("/me")
        elsewhere = await other.get("/me")

    assert (answer.status_code, answer.json()["confirmed"]) == (200, True)
    assert elsewhere.status_code == 401
    for side in (local, durable):
        left = {key async for key in side.scan_iter(f"*{PERSON}*")}
        assert left == {keys.meta(PERSON)}
        assert list(await side.hgetall(keys.meta(PERSON))) == ["x"]
        assert await side.smembers(keys.sponsors("maintainer")) == set()


async def test_a_deletion_while_durable_is_away_is_accepted_and_follows(
    run_service: RunService, durable: Redis, durable_server: EmbeddedValkey, local: Redis
) -> None:
    """202 until durable confirmed it; nothing has to be done for that."""
    async with run_proxy(durable_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        async with run_service(durable_url=url) as service:
            browser = await service.sign_in("monthly")
            await browser.put("/preferences/mnodes/a")
            await until(lambda: is_clean(local))
            proxy.cut()
            answer = await browser.delete("/me")
            kept = await durable.exists(keys.user_details(PERSON))
            proxy.flow()
            await until(lambda: is_clean(local))

    assert (answer.status_code, answer.json()["confirmed"], kept) == (202, False, 1)
    assert await durable.exists(keys.user_details(PERSON), f"user:{PERSON}:mnodes") == 0
