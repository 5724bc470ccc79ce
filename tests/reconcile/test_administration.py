"""Reconcile for administrators: the API, the metrics, recorded failures and the command."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from redis.asyncio import Redis

from sponsorsync.commands.doctor import examine
from sponsorsync.commands.serve import bind_next_free, port_of, run_server
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from tests.conftest import SPONSORABLE, UNREACHABLE, Browser, Clock, RunService
from tests.reconcile.conftest import ACTIVE, Replica
from tests.support.administration import run_admin, wait_for_job
from tests.support.command import run_command
from tests.support.waiting import until


async def test_a_waiting_job_shows_its_end_and_does_not_delay_a_stop(
    run_service: RunService,
    maintainer_settings: dict[str, Any],
    github: SimulatedGitHub,
    local: Redis,
    clock: Clock,
) -> None:
    """While it waits for GitHub, the service stops, and releases the lock for other replicas."""
    github.switches.rate_limited = True
    github.switches.retry_after_s = 600
    async with run_admin(run_service, **maintainer_settings) as (browser, _):
        await browser.post("/admin/reconcile")

        async def is_waiting() -> bool:
            return (await browser.get("/admin/reconcile")).json()["waiting_until"] is not None

        await until(is_waiting)
        state = (await browser.get("/admin/reconcile")).json()
        held = await local.exists(keys.RECONCILING)

    assert (state["status"], held) == ("running", 1)
    assert datetime.fromisoformat(state["waiting_until"]) == clock.now + timedelta(seconds=600)
    assert await local.exists(keys.RECONCILING) == 0


async def test_a_reconcile_without_token_or_of_an_unknown_login_is_refused(
    run_service: RunService, maintainer_settings: dict[str, Any]
) -> None:
    """Without a token, the answer names the setting."""
    async with (
        run_admin(run_service) as (browser, _),
        run_admin(run_service, **maintainer_settings) as (other, _),
    ):
        missing = await browser.post("/admin/reconcile")
        unknown = await other.post("/admin/reconcile?sponsorable=nobody")

    assert (missing.status_code, missing.json()["code"]) == (409, "no_maintainer_token")
    assert "SPONSORSYNC_MAINTAINER_TOKEN" in missing.json()["detail"]
    assert unknown.status_code == 422


async def test_an_administrator_starts_a_reconcile_and_reads_its_changes(
    run_service: RunService, maintainer_settings: dict[str, Any]
) -> None:
    """POST answers 202 at once; GET shows the state; the audit trail has each grant."""
    async with run_admin(run_service, **maintainer_settings) as (browser, _):
        started = await browser.post("/admin/reconcile?sponsorable=Maintainer")
        state = await wait_for_job(browser, "/admin/reconcile")
        first = (await browser.get("/admin/audit?limit=3")).json()
        second = (await browser.get(f"/admin/audit?limit=3&before={first['next_before']}")).json()
        wrong = await browser.get("/admin/audit?before=yesterday")

    entries = first["entries"] + second["entries"]
    assert (started.status_code, state["status"], wrong.status_code) == (202, "done", 422)
    assert (state["people"], state["summary"]["counts"]) == (ACTIVE + 1, {"created": ACTIVE})
    assert {(entry["what"], entry["by"]) for entry in entries} == {("granted", "reconcile")}
    assert len({entry["person_id"] for entry in entries}) == ACTIVE
    assert state["summary"]["budget"]["remaining"] == state["summary"]["budget"]["limit"] - 1
    assert (entries[0]["before"], entries[0]["after"]["source"]) == ({}, "sponsorship")
    assert second["next_before"] is None


async def test_a_failure_is_shown_until_a_complete_reconcile(
    replica: Replica, run_service: RunService, settings: Settings
) -> None:
    """The API, the metrics and the doctor show it; a failed dry run is not recorded."""
    shown: list[tuple[object, object, str, list[str]]] = []

    async def record(browser: Browser) -> None:
        [last] = (await browser.get("/admin/reconcile")).json()["last"]
        metrics = (await browser.get("/metrics")).text
        [failing] = re.findall(r"^sponsorsync_reconcile_failing.*$", metrics, re.MULTILINE)
        diagnostics = [f.seen for f in await examine(settings) if "comparison" in f.subject]
        shown.append((last["failed_at"], last["reason"], failing, diagnostics))

    async with run_admin(run_service) as (browser, _):
        await record(browser)
        replica.github.switches.forbidden = True
        await replica.compare(dry_run=True)
        await record(browser)
        failed = await replica.compare()
        await record(browser)
        replica.github.switches.forbidden = False
        await replica.compare()
        await record(browser)
        [last] = (await browser.get("/admin/reconcile")).json()["last"]

    metric = f'sponsorsync_reconcile_failing{{sponsorable="{SPONSORABLE}"}}'
    fine: tuple[object, ...] = (None, None, f"{metric} 0.0", [])
    failed_at, reason, failing, [seen] = shown[2]
    assert [shown[0], shown[1], shown[3]] == [fine, fine, fine]
    assert failing == f"{metric} 1.0"
    assert failed.reason == f"{SPONSORABLE}: {reason}"
    assert seen.endswith(f"UTC for {SPONSORABLE}: {reason}")
    assert datetime.fromisoformat(str(failed_at)) < replica.clock.now
    assert last["sponsorable"] == SPONSORABLE
    assert datetime.fromisoformat(last["reconciled_at"]) == replica.clock.now.replace(microsecond=0)


async def test_any_error_is_recorded(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise only the log would contain an unexpected error."""
    monkeypatch.setattr(replica.entitlements, "load", AsyncMock(side_effect=RuntimeError))
    with pytest.raises(RuntimeError):
        await replica.compare()
    [last] = await replica.reconciler.load_last_reconciles()

    assert last.failed is not None
    assert "our fault" in last.failed.reason


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"at": "x", "reason": 1}', '{"at": 1e30}'])
async def test_an_unreadable_failure_record_is_ignored(replica: Replica, text: str) -> None:
    """The doctor reads the record, and has to run its other checks."""
    await replica.local.hset(keys.RECONCILE_FAILED, SPONSORABLE, text)
    [last] = await replica.reconciler.load_last_reconciles()

    assert last.failed is None


async def test_the_state_of_a_job_is_shown_without_redis(run_service: RunService) -> None:
    """`last` is null, since the results of other replicas are unknown."""
    async with run_admin(run_service, redis_url=UNREACHABLE) as (browser, _):
        answer = await browser.get("/admin/reconcile")

    assert (answer.status_code, answer.json()["last"]) == (200, None)


async def test_metrics_show_the_last_reconcile(replica: Replica, run_service: RunService) -> None:
    """Operators set an alarm on its age, so an incomplete reconcile must not renew it."""
    await replica.compare()
    began_at = int(replica.clock.now.timestamp())
    replica.github.switches.forbidden = True
    await replica.compare()
    async with run_admin(run_service) as (browser, _):
        text = (await browser.get("/metrics")).text
    [line] = re.findall(
        r"^sponsorsync_reconciled_timestamp_seconds(\{.*) (.*)$", text, re.MULTILINE
    )

    assert line[0] == f'{{sponsorable="{SPONSORABLE}"}}'
    assert int(float(line[1])) == began_at


async def test_the_command_repairs_and_reports(
    github: SimulatedGitHub,
    local_server: EmbeddedValkey,
    durable_server: EmbeddedValkey,
    local: Redis,
    durable: Redis,
    tmp_path: Path,
) -> None:
    """The output is JSON or text; the exit status is 1 if GitHub's answer was incomplete."""
    assert durable is not None  # the fixture has emptied it
    token = github.tokens.issue(github.people.get_person("maintainer"))
    sock = bind_next_free("127.0.0.1", 0)  # any free port
    environment = {
        "SPONSORSYNC_GITHUB_API_URL": f"http://127.0.0.1:{port_of(sock)}/api",
        "SPONSORSYNC_MAINTAINER_TOKEN": token,
        "NO_PROXY": "127.0.0.1",
    }

    async def reconcile(*options: str) -> tuple[int, str, str]:
        return await run_command(
            tmp_path,
            local_server.url,
            durable_server.url,
            "reconcile",
            *options,
            environment=environment,
        )

    async with run_server(github.app, sock):
        status, out, _ = await reconcile("--dry-run", "--json")
        dry, keys_after_dry = json.loads(out), await local.keys("sponsorship:*")
        complete, text, _ = await reconcile("--sponsorable", "maintainer")
        github.switches.rate_limited = True
        github.switches.retry_after_s = 3600
        limited, limits, errors = await reconcile()

    assert (status, dry["counts"], keys_after_dry) == (0, {"created": ACTIVE}, [])
    assert (complete, limited) == (0, 1)
    assert f"{ACTIVE} entitlements were created" in text
    assert "points of GitHub's rate limit; 4,998 of 5,000 are left until" in text
    assert "it ended no entitlement: GitHub's rate limit is reached" in limits
    assert token not in out + text + limits + errors
