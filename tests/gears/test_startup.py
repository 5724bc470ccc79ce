"""The service deploys the scripts when it starts, shows their state, and runs snapshots."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync import background
from sponsorsync.background import open_supervisor
from sponsorsync.domain.errors import GearsError, GearsUnsupportedError, NoDurableError
from sponsorsync.gears.client import GearsClient, open_gears
from sponsorsync.operations import registrations as registrations_module
from sponsorsync.operations.registrations import Registrations
from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from tests.conftest import Browser, RunService
from tests.gears.host.process import run_host
from tests.support.gears import BROKEN, failing_batch_script, registering_script, write_scripts
from tests.support.gears_engine import Gears
from tests.support.waiting import until

OpenService = Callable[..., AbstractAsyncContextManager[Browser]]

TOKEN = "an-administrators-token"
PASSWORD = "correct-horse-battery-staple"
LIMIT_S = 30
SESSIONS = ["sponsorsync-fetch-on-keymiss", "sponsorsync-write-behind"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a complete set of minimal scripts."""
    return write_scripts(tmp_path / "scripts")


@pytest.fixture
def overrides(gears: Gears, durable_server: EmbeddedValkey, folder: Path) -> dict[str, Any]:
    """Settings of a service that uses these scripts."""
    return {
        "redis_url": SecretStr(gears.url),
        "durable_url": SecretStr(durable_server.url),
        "admin_token": SecretStr(TOKEN),
        "gears_folder": folder,
    }


@pytest.fixture
def open_service(run_service: RunService, overrides: dict[str, Any]) -> OpenService:
    """Returns a function that runs a service with an engine and settings; yields a browser."""

    @asynccontextmanager
    async def open_one(engine: str, **more: object) -> AsyncIterator[Browser]:
        async with run_service(**overrides | {"engine": engine} | more) as service:
            yield await service.open_browser()

    return open_one


async def test_with_auto_the_scripts_are_deployed_in_the_background(
    open_service: OpenService, gears: Gears
) -> None:
    """/readyz and /admin/registrations show the state of the scripts."""
    async with open_service("auto") as browser:
        state = await _wait_for_status(browser, "live")
        registrations = await _load_registrations(browser)

    assert state == {"status": "live", "detail": None}
    assert sorted(await gears.sessions()) == SESSIONS
    assert (registrations["engine"], registrations["version"]) == ("auto", "1.2.9")
    assert [each["state"] for each in registrations["scripts"]] == ["same", "same"]
    assert [each["after"] for each in registrations["outcomes"]] == ["uploaded", "uploaded"]
    assert {each["session"] for each in registrations["registrations"]} == set(SESSIONS)
    assert all(each["last_error"] is None for each in registrations["registrations"])


async def test_with_auto_the_service_runs_on_after_a_failed_deploy(
    open_service: OpenService, gears: Gears, folder: Path
) -> None:
    """The service is ready and relays itself; the error names the script and the line."""
    write_scripts(folder, write_behind=BROKEN)
    async with open_service("auto") as browser:
        state = await _wait_for_status(browser, "failed")
        ready = await browser.get("/readyz")
        await browser.sign_in("monthly")
        await until(lambda: _is_clean(gears))
        registrations = await _load_registrations(browser)

    assert "write_behind.py: line 6: ValueError" in state["detail"]
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert [each["after"] for each in registrations["outcomes"]] == ["uploaded", "failed"]
    assert list(await gears.sessions()) == SESSIONS[:1]


async def test_scripts_that_would_not_see_durable_are_not_deployed(
    open_service: OpenService, tmp_path: Path
) -> None:
    """Without durable's address the scripts would only delay writes."""
    async with (
        run_host(tmp_path / "blind", {}) as host,
        open_service("auto", redis_url=SecretStr(host.url)) as browser,
    ):
        state = await _wait_for_status(browser, "failed")
        registrations = await _load_registrations(browser)

    assert "do not see REDISENT_HOST" in state["detail"]
    assert registrations["registrations"] == []


async def test_scripts_are_not_deployed_for_another_database(
    open_service: OpenService, gears: Gears
) -> None:
    """RedisGears runs each execution in database 0, so they would never see our data."""
    url = SecretStr(gears.url.removesuffix("/0") + "/1")
    async with open_service("auto", redis_url=url) as browser:
        state = await _wait_for_status(browser, "not_used")
        with pytest.raises(GearsUnsupportedError, match="database 1"):
            async with open_service("gears", redis_url=url):
                raise AssertionError("unreachable: it did not start")

    assert "database 1" in state["detail"]
    assert await gears.sessions() == {}


async def test_scripts_are_deployed_beside_other_databases_only_by_a_setting(
    open_service: OpenService, gears: Gears
) -> None:
    """Hooks would answer reads of keys there with the data of database 0."""
    async with Redis.from_url(gears.url.removesuffix("/0") + "/2") as other:
        await other.set("key", "of another program")
        async with open_service("auto") as browser:
            refused = await _wait_for_status(browser, "failed")
            before = await gears.sessions()
        async with open_service("auto", gears_allow_other_databases=True) as browser:
            await _wait_for_status(browser, "live")

    assert "keys in db2" in refused["detail"]
    assert before == {}
    assert sorted(await gears.sessions()) == SESSIONS


async def test_with_auto_a_user_without_module_list_is_no_failure(
    open_service: OpenService, local_server: EmbeddedValkey, local: Redis
) -> None:
    """Users of a Redis without RedisGears should not need this permission."""
    await local.acl_setuser(
        "prune",
        enabled=True,
        nopass=True,
        keys=["*"],
        channels=["*"],
        commands=["+@all", "-module|list"],
    )
    async with open_service(
        "auto", redis_url=SecretStr(local_server.url.replace("://", "://prune:x@"))
    ) as browser:
        await _wait_for_detail(browser, "module|list")
        state = (await browser.get("/readyz")).json()["gears"]
    await local.acl_deluser("prune")

    assert state["status"] == "not_used"


async def test_with_auto_a_redis_without_the_module_is_no_failure(
    open_service: OpenService, local_server: EmbeddedValkey
) -> None:
    """The service's own engine does all the work."""
    async with open_service("auto", redis_url=SecretStr(local_server.url)) as browser:
        await _wait_for_detail(browser, "has no RedisGears")
        state = (await browser.get("/readyz")).json()["gears"]
        registrations = await _load_registrations(browser)

    assert state["status"] == "not_used"
    assert (registrations["version"], registrations["scripts"]) == (None, [])


async def test_with_auto_a_local_that_is_down_is_waited_for(open_service: OpenService) -> None:
    """The service starts without local, and tries to deploy later."""
    async with open_service("auto", redis_url=SecretStr("redis://127.0.0.1:1/0")) as browser:
        state = await _wait_for_status(browser, "failed")
        answer = await browser.get("/admin/registrations", headers=_bearer())

    assert "cannot be reached" in state["detail"]
    assert answer.status_code == 503


async def test_with_gears_the_scripts_are_live_before_anything_is_served(
    open_service: OpenService, gears: Gears
) -> None:
    """The service itself runs no relay and no listener, only the periodic sweep."""
    async with open_service("gears") as browser:
        at_once = sorted(await gears.sessions())
        state = (await browser.get("/readyz")).json()["gears"]
        await browser.sign_in("monthly")
        await until(lambda: _is_clean(gears))  # by the sweep: the minimal script drains nothing
        groups = await gears.client.xinfo_groups(keys.OUTBOX)
        listeners = await gears.client.pubsub_numpat()

    assert (at_once, state["status"]) == (SESSIONS, "live")
    assert groups == []
    assert listeners <= 1  # the host's own


async def test_with_gears_a_failed_deploy_ends_the_start(
    open_service: OpenService, gears: Gears, folder: Path, local_server: EmbeddedValkey
) -> None:
    """The causes are a broken script, a missing module and a missing durable Redis."""
    assert gears is not None  # the fixture has emptied it
    write_scripts(folder, write_behind=BROKEN)
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (GearsError, "write_behind.py: line 6", {}),
        (GearsUnsupportedError, "no RedisGears", {"redis_url": SecretStr(local_server.url)}),
        (NoDurableError, "SPONSORSYNC_DURABLE_URL", {"durable_url": None}),
    ]
    for error, word, more in cases:
        with pytest.raises(error, match=word):
            async with open_service("gears", **more):
                pass


@pytest.mark.parametrize("more", [{"engine": "plain"}, {"engine": "auto", "durable_url": None}])
async def test_unused_scripts_are_not_uploaded(
    open_service: OpenService, gears: Gears, more: dict[str, Any]
) -> None:
    """Scripts that are still live are shown."""
    await gears.upload(registering_script("x"), "ID", "sponsorsync-write-behind")
    async with open_service(**more) as browser:
        state = (await browser.get("/readyz")).json()["gears"]
        registrations = await _load_registrations(browser)

    assert state == {"status": "not_used", "detail": None}
    assert [each["state"] for each in registrations["scripts"]] == ["absent", "older"]
    assert (registrations["outcomes"], registrations["deployed_at"]) == ([], None)


async def test_the_service_stops_while_it_deploys(open_service: OpenService, gears: Gears) -> None:
    """The service stops although its deploy waits for the lock of another replica."""
    await gears.client.set(keys.DEPLOYING, "another")
    async with open_service("auto") as browser:
        state = await _wait_for_status(browser, "deploying")

    assert state["status"] == "deploying"
    assert "gears_scripts" not in {task.get_name() for task in asyncio.all_tasks()}


# ---------------------------------------------------------------------- after the start


async def test_scripts_that_a_restart_lost_are_deployed_again(
    client: GearsClient, gears: Gears, settings: Settings, folder: Path
) -> None:
    """A server whose append-only file has no RDB preamble loses scripts at a restart."""
    registrations = Registrations(client, settings, folder)
    await registrations.deploy()
    await _unregister_all(gears)
    registrations._run_id = "of the server before"
    await registrations._check_scripts()

    assert (registrations.status, registrations.detail) == ("live", None)
    assert sorted(await gears.sessions()) == SESSIONS


async def test_scripts_that_were_removed_by_hand_stay_removed(
    client: GearsClient, gears: Gears, settings: Settings, folder: Path
) -> None:
    """The state reports their absence until the next deploy."""
    registrations = Registrations(client, settings, folder)
    await registrations.deploy()
    await _unregister_all(gears)
    await registrations._check_scripts()
    seen = registrations.status, str(registrations.detail)
    sessions = await gears.sessions()
    await registrations.deploy()
    await registrations._check_scripts()

    assert seen[0] == "failed"
    assert "sponsorsync deploy-gears" in seen[1]
    assert sessions == {}
    assert registrations.status == "live"


async def test_an_unexpected_error_does_not_end_the_deploying(
    open_service: OpenService, gears: Gears, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state reports the error until the next attempt."""
    assert gears is not None  # the fixture has emptied it
    with monkeypatch.context() as patch:
        patch.setattr(registrations_module, "load_scripts", lambda *_, **__: 1 / 0)
        async with open_service("auto") as browser:
            state = await _wait_for_status(browser, "failed")
            loops = (await browser.get("/readyz")).json()["loops"]
            patch.undo()
            await _wait_for_status(browser, "live")

    [loop] = [loop for loop in loops if loop["name"] == "gears_scripts"]
    assert state["detail"].startswith("This is our fault.")
    assert (loop["status"], loop["last_error"]) == ("failing", "ZeroDivisionError")


async def test_an_unexpected_error_deploys_no_removed_script(
    client: GearsClient,
    gears: Gears,
    settings: Settings,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the error the loop restarts, but does not deploy again."""

    async def has_status(status: str) -> bool:
        return registrations.status == status

    async def has_failed() -> bool:
        return bool(loop.failures)

    async def runs_again() -> bool:
        return loop.status == "running"

    monkeypatch.setattr(registrations_module, "_WATCH_S", 0.01)
    monkeypatch.setattr(background, "_HEALTHY_S", 0.5)
    async with open_supervisor() as supervisor:
        registrations = Registrations(client, settings, folder)
        supervisor.start("gears_scripts", registrations.run)
        [loop] = supervisor.list_loops()
        await until(lambda: has_status("live"))
        await _unregister_all(gears)
        await until(lambda: has_status("failed"))
        with monkeypatch.context() as patch:
            patch.setattr(registrations_module, "load_states", lambda *_: 1 / 0)
            await until(has_failed)
        await until(runs_again)

    assert await gears.sessions() == {}


async def test_the_service_shows_no_secret_of_the_scripts(
    open_service: OpenService,
    durable: Redis,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The password of durable is neither in replies nor in logs of the service."""
    caplog.set_level(logging.DEBUG)
    address = durable.connection_pool.connection_kwargs
    environment = {
        "REDISENT_HOST": str(address["host"]),
        "REDISENT_PORT": str(address["port"]),
        "REDISENT_PWD": PASSWORD,
    }
    sees = "import os\nassert os.environ['REDISENT_PWD']\n" + registering_script("x")
    secret = {
        "gears_folder": write_scripts(tmp_path / "secret", write_behind=sees),
        "durable_url": SecretStr(f"redis://:{PASSWORD}@127.0.0.1:1/0"),
    }
    async with (
        run_host(tmp_path / "host", environment) as host,
        open_gears(SecretStr(host.url), upload_timeout_s=60) as client,
    ):
        async with open_service("gears", redis_url=SecretStr(host.url), **secret) as browser:
            shown = [str(await _load_registrations(browser)), (await browser.get("/readyz")).text]
        shown += [
            str(await client.store.run(*command.split()))
            for command in ("RG.DUMPREGISTRATIONS", "RG.PYDUMPSESSIONS VERBOSE", "SLOWLOG GET")
        ]

    assert "sponsorsync-write-behind" in shown[0]
    assert PASSWORD not in "".join([*shown, caplog.text, *capsys.readouterr()])


# ---------------------------------------------------------------------- snapshots


async def test_a_snapshot_by_the_scripts_reports_each_script(
    open_service: OpenService, gears: Gears, folder: Path
) -> None:
    """The report includes failures; no execution is left on the server."""
    write_scripts(folder, sync_sponsors=failing_batch_script("person 1: no hash"))
    async with open_service("plain") as browser:
        browser.headers.update(_bearer())
        started = await browser.post("/admin/snapshot", json={"engine": "gears"})
        second = await browser.post("/admin/snapshot", json={"engine": "gears"})
        done = await _wait_for_snapshot(browser)

    assert (started.status_code, second.status_code) == (202, 409)
    assert (done["status"], done["summary"]["agrees"]) == ("done", False)
    names = [each["script"] for each in done["summary"]["scripts"]]
    assert names == ["sync_profiles", "sync_sponsors", "sync_preferences"]
    profiles, sponsors, _ = done["summary"]["scripts"]
    assert (profiles["done"], profiles["skipped"]) == (3, {"sync_profiles": 1})
    assert (sponsors["failed"], sponsors["errors"]) == (1, ["person 1: no hash"])
    assert await gears.run("RG.DUMPEXECUTIONS") == []


async def test_a_snapshot_by_the_scripts_goes_on_after_a_broken_one(
    open_service: OpenService, folder: Path
) -> None:
    """The report has the line of the error, and the counts of the other scripts."""
    write_scripts(folder, sync_profiles=BROKEN)
    async with open_service("plain") as browser:
        browser.headers.update(_bearer())
        await browser.post("/admin/snapshot", json={"engine": "gears"})
        done = await _wait_for_snapshot(browser)

    reasons = [each["reason"] for each in done["summary"]["scripts"]]
    assert done["summary"]["agrees"] is False
    assert reasons == ['line 6: ValueError: it\'s "broken" in two lines', None, None]


async def test_a_snapshot_by_the_scripts_has_no_collection(
    open_service: OpenService, local_server: EmbeddedValkey
) -> None:
    """Scripts copy all collections. A snapshot without RedisGears fails with a reason."""
    async with open_service("plain", redis_url=SecretStr(local_server.url)) as browser:
        browser.headers.update(_bearer())
        refused = await browser.post(
            "/admin/snapshot", params={"collection": "mnodes"}, json={"engine": "gears"}
        )
        unknown = await browser.post("/admin/snapshot", json={"engine": "jet"})
        await browser.post("/admin/snapshot", json={"engine": "gears"})
        done = await _wait_for_snapshot(browser)

    assert (refused.status_code, unknown.status_code) == (422, 422)
    assert done["status"] == "failed"
    assert "has no RedisGears" in done["reason"]


def _bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}"}


async def _unregister_all(gears: Gears) -> None:
    for registration in await gears.registrations():
        await gears.run("RG.UNREGISTER", registration["id"])


async def _is_clean(gears: Gears) -> bool:
    """Returns whether local has people, and durable has confirmed all of them."""
    people = await gears.client.zcard(keys.PEOPLE)
    return bool(people) and await gears.client.scard(keys.DIRTY) == 0


async def _load_registrations(browser: Browser) -> dict[str, Any]:
    answer = await browser.get("/admin/registrations", headers=_bearer())
    assert answer.status_code == 200
    content: dict[str, Any] = answer.json()
    return content


async def _wait_for_status(browser: Browser, status: str) -> dict[str, Any]:
    return await _ask(browser, "/readyz", lambda state: state["gears"]["status"] == status, "gears")


async def _wait_for_detail(browser: Browser, word: str) -> None:
    await _ask(browser, "/readyz", lambda state: word in str(state["gears"]["detail"]))


async def _wait_for_snapshot(browser: Browser) -> dict[str, Any]:
    return await _ask(
        browser, "/admin/snapshot", lambda state: state["status"] in {"done", "failed"}
    )


async def _ask(
    browser: Browser, path: str, condition: Callable[[dict[str, Any]], bool], *within: str
) -> dict[str, Any]:
    """Polls until the answer fulfils the condition; returns the answer."""
    state: dict[str, Any] = {}

    async def is_over() -> bool:
        nonlocal state
        state = (await browser.get(path)).json()
        return condition(state)

    await until(is_over, limit_s=LIMIT_S)
    for name in within:
        state = state[name]
    return state
