"""Export and deletion of personal data."""

from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.store import keys
from tests.conftest import UNREACHABLE, RunBrowser, RunService
from tests.support.proxy import run_proxy
from tests.support.waiting import until_relayed

PERSON = 48210377


async def test_an_export_has_the_data_of_both_redises(
    run_browser: RunBrowser, durable: Redis, durable_url: SecretStr, local: Redis
) -> None:
    """One document contains the personal data on local and those on durable."""
    async with run_browser("monthly", durable_url=durable_url) as browser:
        await browser.put("/preferences/mnodes/a")
        await until_relayed(local)
        export = (await browser.get("/me/export")).json()

    assert await durable.exists(keys.meta(PERSON)) == 1
    for side in ("local", "durable"):
        assert export[side]["preferences"] == {"mnodes": ["a"]}
        assert export[side]["profile"]["user_login"] == "monthly"
        assert export[side]["entitlements"]["maintainer"]["tier_cents"] == "1000"


async def test_an_export_notes_that_durable_is_away(run_browser: RunBrowser) -> None:
    """The data on local are exported; a note says that those on durable are missing."""
    async with run_browser("monthly", durable_url=UNREACHABLE) as browser:
        export = (await browser.get("/me/export")).json()

    assert export["durable"] is None
    assert "cannot be reached" in export["note"]
    assert export["local"]["profile"]["user_login"] == "monthly"


async def test_a_deletion_removes_everything_on_both_redises(
    run_service: RunService, durable: Redis, durable_url: SecretStr, local: Redis
) -> None:
    """Every session ends; only the mark that the account was deleted stays on both Redises."""
    async with run_service(durable_url=durable_url) as service:
        browser, other = await service.open_browser(), await service.open_browser()
        await browser.sign_in("monthly")
        await other.sign_in("monthly")
        await browser.put("/preferences/mnodes/a")
        await until_relayed(local)
        answer = await browser.delete("/me")
        elsewhere = await other.get("/me")

    assert (answer.status_code, answer.json()["confirmed"]) == (200, True)
    assert elsewhere.status_code == 401
    for redis in (local, durable):
        left = {key async for key in redis.scan_iter(f"*{PERSON}*")}
        assert left == {keys.meta(PERSON)}
        assert list(await redis.hgetall(keys.meta(PERSON))) == ["x"]
        assert await redis.smembers(keys.sponsors("maintainer")) == set()


async def test_a_deletion_is_completed_after_an_outage_of_durable(
    run_browser: RunBrowser, durable: Redis, durable_server: EmbeddedValkey, local: Redis
) -> None:
    """The answer is 202 during the outage; the relay deletes on durable afterwards."""
    async with run_proxy(durable_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        async with run_browser("monthly", durable_url=url) as browser:
            await browser.put("/preferences/mnodes/a")
            await until_relayed(local)
            proxy.cut()
            answer = await browser.delete("/me")
            remaining = await durable.exists(keys.user_details(PERSON))
            proxy.flow()
            await until_relayed(local)

    assert (answer.status_code, answer.json()["confirmed"], remaining) == (202, False, 1)
    assert await durable.exists(keys.user_details(PERSON), f"user:{PERSON}:mnodes") == 0
