"""Jobs that administrators start: snapshot and verify."""

import asyncio

from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.store import keys
from tests.conftest import UNREACHABLE, Browser, RunService
from tests.support.administration import MONTHLY, run_admin, wait_for_job
from tests.support.waiting import until_relayed


async def test_a_snapshot_runs_in_the_background(sponsor_admin: Browser, durable: Redis) -> None:
    """POST answers 202 at once; GET shows the state of the job until it is done."""
    idle = (await sponsor_admin.get("/admin/snapshot")).json()
    started = await sponsor_admin.post("/admin/snapshot")
    done = await wait_for_job(sponsor_admin, "/admin/snapshot")

    assert idle["status"] == "idle"
    assert (started.status_code, started.json()["status"]) == (202, "running")
    assert (done["status"], done["summary"]["people"], done["people"]) == ("done", 1, 1)
    assert done["summary"]["records"] == 1
    assert await durable.exists(keys.user_details(MONTHLY)) == 1


async def test_a_snapshot_accepts_a_collection_and_a_dry_run(sponsor_admin: Browser) -> None:
    """The route accepts the same two options as the command `snapshot`."""
    unknown = await sponsor_admin.post("/admin/snapshot", params={"collection": "nodes"})
    started = await sponsor_admin.post(
        "/admin/snapshot", params={"collection": "mnodes", "dry_run": "true"}
    )
    done = await wait_for_job(sponsor_admin, "/admin/snapshot")

    assert (unknown.status_code, started.status_code) == (422, 202)
    assert done["summary"]["is_dry_run"] is True


async def test_only_one_job_of_a_kind_runs_at_a_time(sponsor_admin: Browser) -> None:
    """The second verify is refused and names the address of the first one; a snapshot may start."""
    *verifies, snapshot = await asyncio.gather(
        sponsor_admin.post("/admin/verify"),
        sponsor_admin.post("/admin/verify"),
        sponsor_admin.post("/admin/snapshot"),
    )
    first, second = sorted(verifies, key=lambda answer: answer.status_code)

    assert (first.status_code, second.status_code, snapshot.status_code) == (202, 409, 202)
    assert second.json()["code"] == "job_running"
    assert "GET /admin/verify" in second.json()["detail"]


async def test_verify_can_repair(sponsor_admin: Browser, local: Redis, durable: Redis) -> None:
    """With `fix`, verify writes the missing part to durable."""
    # Until the relay has pushed the sign-in, the two Redises differ without an error.
    await until_relayed(local)
    await durable.delete(keys.user_details(MONTHLY))
    await sponsor_admin.post("/admin/verify")
    found = (await wait_for_job(sponsor_admin, "/admin/verify"))["summary"]
    await sponsor_admin.post("/admin/verify", params={"fix": "true"})
    fixed = (await wait_for_job(sponsor_admin, "/admin/verify"))["summary"]

    assert (found["agrees"], found["counts"]) == (False, {"missing on durable": 1})
    assert found["differences"] == [
        {"person_id": MONTHLY, "kind": "missing on durable", "part": "profile"}
    ]
    assert (fixed["agrees"], fixed["repaired"]) == (True, 1)


async def test_without_a_durable_redis_no_job_starts(run_service: RunService) -> None:
    """Both jobs compare or copy to durable, so the answer names the setting that is missing."""
    async with run_admin(run_service) as (client, _):
        answers = [await client.post(path) for path in ("/admin/snapshot", "/admin/verify")]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "no_durable")] * 2
    assert "SPONSORSYNC_DURABLE_URL" in answers[0].json()["detail"]


async def test_a_job_fails_while_durable_cannot_be_reached(run_service: RunService) -> None:
    """The state of the job is `failed`, with the reason."""
    async with run_admin(run_service, durable_url=UNREACHABLE) as (client, browser):
        await browser.sign_in("monthly")
        await client.post("/admin/snapshot")
        state = await wait_for_job(client, "/admin/snapshot")

    assert state["status"] == "failed"
    assert "The durable Redis cannot be reached" in state["reason"]


async def test_a_job_does_not_delay_a_stop(run_service: RunService, durable_url: SecretStr) -> None:
    """A service that stops cancels the running job, which can safely be repeated."""
    async with run_admin(run_service, durable_url=durable_url) as (client, _):
        started = await client.post("/admin/verify")

    assert started.status_code == 202
    assert "verify" not in {task.get_name() for task in asyncio.all_tasks()}
