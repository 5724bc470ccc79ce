"""What the service does about its scripts when it starts, and what it shows of them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from sponsorsync import background
from sponsorsync.background import open_supervisor
from sponsorsync.domain.errors import GearsError, GearsUnsupportedError, NoDurableError
from sponsorsync.gears.client import open_gears
from sponsorsync.operations import registrations as registrations_module
from sponsorsync.operations.registrations import Registrations
from sponsorsync.store import keys
from tests.gears.host.process import run_host
from tests.support.gears import BROKEN, failing_batch_script, registering_script, write_scripts
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.settings import Settings
    from tests.conftest import Browser, RunService
    from tests.gears.conftest import Gears

TOKEN = "an-administrators-token"
PASSWORD = "correct-horse-battery-staple"
LIMIT_S = 30
SESSIONS = ["sponsorsync-fetch-on-keymiss", "sponsorsync-write-behind"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole set of scripts."""
    return write_scripts(tmp_path / "scripts")


@pytest.fixture
def overrides(gears: Gears, durable_server: EmbeddedValkey, folder: Path) -> dict[str, Any]:
    """What makes a service use them."""
    return {
        "redis_url": SecretStr(gears.url),
        "durable_url": SecretStr(durable_server.url),
        "admin_token": SecretStr(TOKEN),
        "gears_folder": folder,
    }


async def test_with_auto_the_scripts_are_deployed_in_the_background(
    run_service: RunService, gears: Gears, overrides: dict[str, Any]
) -> None:
    """/readyz and the administrator see when they are live."""
    async with run_service(engine="auto", **overrides) as service:
        browser = await service.open_browser()
        state = await _wait_for_status(browser, "live")
        registrations = await _load_registrations(browser)

    assert state == {"status": "live", "detail": None}
    assert sorted(await gears.sessions()) == SESSIONS
    assert (registrations["engine"], registrations["version"]) == ("auto", "1.2.9")
    assert [each["state"] for each in registrations["scripts"]] == ["same", "same"]
    assert [each["after"] for each in registrations["outcomes"]] == ["uploaded", "uploaded"]
    assert {each["session"] for each in registrations["registrations"]} == set(SESSIONS)
    assert all(each["last_error"] is None for each in registrations["registrations"])


async def test_with_auto_a_failure_is_shown_and_the_service_goes_on(
    run_service: RunService, gears: Gears, overrides: dict[str, Any], folder: Path
) -> None:
    """It is ready, and drains by itself; the script is named with its line."""
    write_scripts(folder, write_behind=BROKEN)
    async with run_service(engine="auto", **overrides) as service:
        browser = await service.open_browser()
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
    run_service: RunService, overrides: dict[str, Any], tmp_path: Path
) -> None:
    """Live, they would only delay writes."""
    async with run_host(tmp_path / "blind", {}) as host:
        overrides["redis_url"] = SecretStr(host.url)
        async with run_service(engine="auto", **overrides) as service:
            browser = await service.open_browser()
            state = await _wait_for_status(browser, "failed")
            registrations = await _load_registrations(browser)

    assert "do not see REDISENT_HOST" in state["detail"]
    assert registrations["registrations"] == []


async def test_with_auto_a_user_without_module_list_is_no_failure(
    run_service: RunService, overrides: dict[str, Any], local_server: EmbeddedValkey, local: Redis
) -> None:
    """A plain Redis should not need that permission."""
    await local.acl_setuser(
        "prune",
        enabled=True,
        nopass=True,
        keys=["*"],
        channels=["*"],
        commands=["+@all", "-module|list"],
    )
    overrides["redis_url"] = SecretStr(local_server.url.replace("://", "://prune:x@"))
    async with run_service(engine="auto", **overrides) as service:
        browser = await service.open_browser()
        await _wait_for_detail(browser, "module|list")
        state = (await browser.get("/readyz")).json()["gears"]
    await local.acl_deluser("prune")

    assert state["status"] == "not_used"


async def test_with_auto_a_redis_without_the_module_is_no_failure(
    run_service: RunService, overrides: dict[str, Any], local_server: EmbeddedValkey
) -> None:
    """The plain engine does everything."""
    overrides["redis_url"] = SecretStr(local_server.url)
    async with run_service(engine="auto", **overrides) as service:
        browser = await service.open_browser()
        await _wait_for_detail(browser, "has no RedisGears")
        state = (await browser.get("/readyz")).json()["gears"]
        registrations = await _load_registrations(browser)

    assert state["status"] == "not_used"
    assert (registrations["version"], registrations["scripts"]) == (None, [])


async def test_with_auto_a_local_that_is_down_is_waited_for(
    run_service: RunService, overrides: dict[str, Any]
) -> None:
    """The start does not depend on it."""
    overrides["redis_url"] = SecretStr("redis://127.0.0.1:1/0")
    async with run_service(engine="auto", **overrides) as service:
        browser = await service.open_browser()
        state = await _wait_for_status(browser, "failed")
        answer = await browser.get("/admin/registrations", headers=_bearer())

    assert "cannot be reached" in state["detail"]
    assert answer.status_code == 503


async def test_with_gears_the_scripts_are_live_before_anything_is_served(
    run_service: RunService, gears: Gears, overrides: dict[str, Any]
) -> None:
    """And the service leaves the draining to them, the sweep apart."""
    async with run_service(engine="gears", **overrides) as service:
        at_once = sorted(await gears.sessions())
        browser = await service.open_browser()
        state = (await browser.get("/readyz")).json()["gears"]
        await browser.sign_in("monthly")
        await until(lambda: _is_clean(gears))  # by the sweep: the stand-in drains nothing
        groups = await gears.client.xinfo_groups(keys.OUTBOX)
        listeners = await gears.client.pubsub_numpat()

    assert (at_once, state["status"]) == (SESSIONS, "live")
    assert groups == []
    assert listeners <= 1  # the host's own


async def test_with_gears_a_failure_is_the_end_of_the_start(
    run_service: RunService,
    gears: Gears,
    overrides: dict[str, Any],
    folder: Path,
    local_server: EmbeddedValkey,
) -> None:
    """One sentence each: a broken script, no module, no durable side."""
    assert gears is not None  # it is empty
    write_scripts(folder, write_behind=BROKEN)
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (GearsError, "write_behind.py: line 6", {}),
        (GearsUnsupportedError, "no RedisGears", {"redis_url": SecretStr(local_server.url)}),
        (NoDurableError, "SPONSORSYNC_DURABLE_URL", {"durable_url": None}),
    ]
    for error, word, more in cases:
        with pytest.raises(error, match=word):
            async with run_service(engine="gears", **overrides | more):
                pass


@pytest.mark.parametrize("more", [{"engine": "plain"}, {"engine": "auto", "durable_url": None}])
async def test_where_they_have_nothing_to_do_nothing_is_uploaded(
    run_service: RunService, gears: Gears, overrides: dict[str, Any], more: dict[str, Any]
) -> None:
    """What is left of them is shown all the same."""
    await gears.upload(registering_script("x"), "ID", "sponsorsync-write-behind")
    async with run_service(**overrides | more) as service:
        browser = await service.open_browser()
        state = (await browser.get("/readyz")).json()["gears"]
        registrations = await _load_registrations(browser)

    assert state == {"status": "not_used", "detail": None}
    assert [each["state"] for each in registrations["scripts"]] == ["absent", "older"]
    assert (registrations["outcomes"], registrations["deployed_at"]) == ([], None)


async def test_the_service_stops_while_it_deploys(
    run_service: RunService, gears: Gears, overrides: dict[str, Any]
) -> None:
    """Another replica holds the right to upload, and dies."""
    await gears.client.set(keys.DEPLOYING, "somebody")
    async with run_service(engine="auto", **overrides) as service:
        browser = await service.open_browser()
        state = await _wait_for_status(browser, "deploying")

    assert state["status"] == "deploying"
    assert "gears_scripts" not in {task.get_name() for task in asyncio.all_tasks()}


# ---------------------------------------------------------------------- afterwards


async def test_scripts_that_a_restart_lost_are_deployed_again(
    gears: Gears, settings: Settings, folder: Path
) -> None:
    """An append-only file without an RDB preamble can lose them."""
    async with open_gears(SecretStr(gears.url), upload_timeout_s=60) as client:
        registrations = Registrations(client, settings, folder)
        await registrations.deploy()
        await _unregister_all(gears)
        registrations._run_id = "of the server before"
        await registrations._check_scripts()

    assert (registrations.status, registrations.detail) == ("live", None)
    assert sorted(await gears.sessions()) == SESSIONS


async def test_scripts_that_were_removed_by_hand_stay_removed(
    gears: Gears, settings: Settings, folder: Path
) -> None:
    """That is shown until the next deploy."""
    async with open_gears(SecretStr(gears.url), upload_timeout_s=60) as client:
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
    run_service: RunService,
    gears: Gears,
    overrides: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is shown until the next attempt."""
    assert gears is not None  # it is empty
    with monkeypatch.context() as patch:
        patch.setattr(registrations_module, "load_scripts", lambda *_, **__: 1 / 0)
        async with run_service(engine="auto", **overrides) as service:
            browser = await service.open_browser()
            state = await _wait_for_status(browser, "failed")
            loops = (await browser.get("/readyz")).json()["loops"]
            patch.undo()
            await _wait_for_status(browser, "live")

    [loop] = [loop for loop in loops if loop["name"] == "gears_scripts"]
    assert state["detail"].startswith("This is our fault.")
    assert (loop["status"], loop["last_error"]) == ("failing", "ZeroDivisionError")


async def test_an_unexpected_error_deploys_no_removed_script(
    gears: Gears, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop starts again, and goes on watching."""

    async def has_status(status: str) -> bool:
        return registrations.status == status

    async def has_failed() -> bool:
        return bool(loop.failures)

    async def runs_again() -> bool:
        return loop.status == "running"

    monkeypatch.setattr(registrations_module, "_WATCH_S", 0.01)
    monkeypatch.setattr(background, "_HEALTHY_S", 0.5)
    async with (
        open_gears(SecretStr(gears.url), upload_timeout_s=60) as client,
        open_supervisor() as supervisor,
    ):
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


async def test_no_secret_shows_anywhere(
    run_service: RunService,
    overrides: dict[str, Any],
    durable: Redis,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Scripts find the password in the server's environment, and nowhere else."""
    caplog.set_level(logging.DEBUG)
    address = durable.connection_pool.connection_kwargs
    environment = {
        "REDISENT_HOST": str(address["host"]),
        "REDISENT_PORT": str(address["port"]),
        "REDISENT_PWD": PASSWORD,
    }
    sees = "import os\nassert os.environ['REDISENT_PWD']\n" + registering_script("x")
    overrides["gears_folder"] = write_scripts(tmp_path / "secret", write_behind=sees)
    overrides["durable_url"] = SecretStr(f"redis://:{PASSWORD}@127.0.0.1:1/0")
    async with (
        run_host(tmp_path / "host", environment) as host,
        open_gears(SecretStr(host.url), upload_timeout_s=60) as client,
    ):
        overrides["redis_url"] = SecretStr(host.url)
        async with run_service(engine="gears", **overrides) as service:
            browser = await service.open_browser()
            shown = [str(await _load_registrations(browser)), (await browser.get("/readyz")).text]
        shown += [
            str(await client.store.run(*command.split()))
            for command in ("RG.DUMPREGISTRATIONS", "RG.PYDUMPSESSIONS VERBOSE", "SLOWLOG GET")
        ]

    assert "sponsorsync-write-behind" in shown[0]
    assert PASSWORD not in "".join([*shown, caplog.text, *capsys.readouterr()])


# ---------------------------------------------------------------------- snapshots


async def test_a_snapshot_by_the_scripts_reports_each_script(
    run_service: RunService, gears: Gears, overrides: dict[str, Any], folder: Path
) -> None:
    """Also failures; nothing of it is left in the server."""
    write_scripts(folder, sync_sponsors=failing_batch_script("person 1: no hash"))
    async with run_service(engine="plain", **overrides) as service:
        browser = await service.open_browser()
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
    run_service: RunService, overrides: dict[str, Any], folder: Path
) -> None:
    """Its line is reported."""
    write_scripts(folder, sync_profiles=BROKEN)
    async with run_service(engine="plain", **overrides) as service:
        browser = await service.open_browser()
        browser.headers.update(_bearer())
        await browser.post("/admin/snapshot", json={"engine": "gears"})
        done = await _wait_for_snapshot(browser)

    reasons = [each["reason"] for each in done["summary"]["scripts"]]
    assert done["summary"]["agrees"] is False
    assert reasons == ['line 6: ValueError: it\'s "broken" in two lines', None, None]


async def test_scripts_take_no_part_of_a_snapshot(
    run_service: RunService, overrides: dict[str, Any], local_server: EmbeddedValkey
) -> None:
    """And where there is no RedisGears the job has failed, with the reason."""
    overrides["redis_url"] = SecretStr(local_server.url)
    async with run_service(engine="plain", **overrides) as service:
        browser = await service.open_browser()
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
    """Returns whether durable has confirmed everybody, of whom there is at least one."""
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
    browser: Browser, path: str, is_told: Callable[[dict[str, Any]], bool], *within: str
) -> dict[str, Any]:
    """Asks until the answer is the one; a question alone may wait for nothing."""
    state: dict[str, Any] = {}

    async def is_over() -> bool:
        nonlocal state
        state = (await browser.get(path)).json()
        return is_told(state)

    await until(is_over, limit_s=LIMIT_S)
    for name in within:
        state = state[name]
    return state
