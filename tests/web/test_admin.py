"""Administration over HTTP: who may, what it starts, and what it says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from sponsorsync.store import keys
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx
    from redis.asyncio import Redis

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from tests.conftest import Browser, RunService

TOKEN = "an-administrators-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PERSON = 48210377
VISITOR = 10**12 + 5
LIMIT_S = 30


@pytest.fixture
async def admin(
    run_service: RunService, durable_server: EmbeddedValkey, durable: Redis
) -> AsyncIterator[Browser]:
    """A client of a service with two sides in which the monthly sponsor has signed in."""
    assert durable is not None  # it is empty now
    async with run_service(
        durable_url=SecretStr(durable_server.url), admin_token=SecretStr(TOKEN)
    ) as service:
        browser = await service.sign_in("monthly")
        browser.headers.update(BEARER)
        yield browser


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/admin/snapshot"),
        ("GET", "/admin/snapshot"),
        ("POST", "/admin/verify"),
        ("GET", "/admin/verify"),
        ("POST", "/admin/reconcile"),
        ("GET", "/admin/reconcile"),
        ("GET", "/admin/audit"),
        ("GET", "/admin/registrations"),
        ("POST", f"/admin/people/{PERSON}/merge"),
    ],
)
async def test_only_the_bearer_of_the_token_may(
    run_service: RunService, method: str, path: str
) -> None:
    """And a service without a token has no administration at all."""
    async with run_service(admin_token=SecretStr(TOKEN)) as service, run_service() as closed:
        browser, other = await service.open_browser(), await closed.open_browser()
        missing = await browser.request(method, path)
        basic = await browser.request(method, path, headers={"Authorization": "Basic eDp5"})
        wrong = await browser.request(
            method, path, headers=[(b"Authorization", "Bearer wörng".encode())]
        )
        none = await other.request(method, path, headers=BEARER)

    answers = [missing, basic, wrong, none]
    assert [answer.status_code for answer in answers] == [401, 401, 403, 403]
    assert missing.headers["www-authenticate"].startswith("Bearer")
    assert "login_url" not in missing.json()
    assert "SPONSORSYNC_ADMIN_TOKEN is not set" in none.json()["detail"]


@pytest.mark.parametrize(
    ("before", "status"), [("0-0", 200), ("0000-00", 200), ("0-1", 200), ("\u0660-\u0660", 422)]
)
async def test_nothing_is_before_the_first_entry(admin: Browser, before: str, status: int) -> None:
    """Redis takes no such end of a range, nor another script's digits."""
    answer = await admin.get("/admin/audit", params={"before": before})

    assert answer.status_code == status
    assert answer.json().get("entries", []) == []


async def test_a_snapshot_runs_in_the_background(admin: Browser, durable: Redis) -> None:
    """202 at once, and the state until it is done."""
    idle = (await admin.get("/admin/snapshot")).json()
    started = await admin.post("/admin/snapshot")
    done = await _wait_for(admin, "/admin/snapshot")

    assert idle["status"] == "idle"
    assert (started.status_code, started.json()["status"]) == (202, "running")
    assert (done["status"], done["summary"]["people"], done["people"]) == ("done", 1, 1)
    assert done["summary"]["records"] == 1
    assert await durable.exists(keys.user_details(PERSON)) == 1


async def test_a_snapshot_takes_a_collection_and_may_only_count(admin: Browser) -> None:
    """As the command does."""
    unknown = await admin.post("/admin/snapshot", params={"collection": "nodes"})
    started = await admin.post(
        "/admin/snapshot", params={"collection": "mnodes", "dry_run": "true"}
    )
    done = await _wait_for(admin, "/admin/snapshot")

    assert (unknown.status_code, started.status_code) == (422, 202)
    assert done["summary"]["is_dry_run"] is True


async def test_one_of_a_kind_runs_at_a_time(admin: Browser) -> None:
    """The second one is told how far the first is; the other kind is free."""
    *verifies, snapshot = await asyncio.gather(
        admin.post("/admin/verify"), admin.post("/admin/verify"), admin.post("/admin/snapshot")
    )
    first, second = sorted(verifies, key=lambda answer: answer.status_code)

    assert (first.status_code, second.status_code, snapshot.status_code) == (202, 409, 202)
    assert second.json()["code"] == "job_running"
    assert "GET /admin/verify" in second.json()["detail"]


async def test_a_comparison_finds_and_mends(admin: Browser, local: Redis, durable: Redis) -> None:
    """With `fix` it makes both sides equal."""
    # Somebody who is on the way to durable differs from it for no reason to look into.
    await until(lambda: _is_clean(local))
    await durable.delete(keys.user_details(PERSON))
    await admin.post("/admin/verify")
    found = (await _wait_for(admin, "/admin/verify"))["summary"]
    await admin.post("/admin/verify", params={"fix": "true"})
    fixed = (await _wait_for(admin, "/admin/verify"))["summary"]

    assert (found["agrees"], found["counts"]) == (False, {"missing on durable": 1})
    assert found["differences"] == [
        {"person_id": PERSON, "kind": "missing on durable", "part": "profile"}
    ]
    assert (fixed["agrees"], fixed["repaired"]) == (True, 1)


async def test_without_a_durable_side_there_is_nothing_to_copy_to(
    run_service: RunService,
) -> None:
    """The answer names the setting."""
    async with run_service(admin_token=SecretStr(TOKEN)) as service:
        browser = await service.open_browser()
        answers = [
            await browser.post(path, headers=BEARER)
            for path in ("/admin/snapshot", "/admin/verify")
        ]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "no_durable")] * 2
    assert "SPONSORSYNC_DURABLE_URL" in answers[0].json()["detail"]


async def test_a_job_that_durable_leaves_alone_has_failed(run_service: RunService) -> None:
    """With the reason."""
    async with run_service(
        durable_url=SecretStr("redis://127.0.0.1:1/0"), admin_token=SecretStr(TOKEN)
    ) as service:
        browser = await service.sign_in("monthly")
        browser.headers.update(BEARER)
        await browser.post("/admin/snapshot")
        state = await _wait_for(browser, "/admin/snapshot")

    assert state["status"] == "failed"
    assert "The durable Redis cannot be reached" in state["reason"]


async def test_the_service_stops_while_a_job_runs(
    run_service: RunService, durable_server: EmbeddedValkey
) -> None:
    """It is cancelled: doing it again is safe."""
    async with run_service(
        durable_url=SecretStr(durable_server.url), admin_token=SecretStr(TOKEN)
    ) as service:
        browser = await service.open_browser()
        started = await browser.post("/admin/verify", headers=BEARER)

    assert started.status_code == 202
    assert "verify" not in {task.get_name() for task in asyncio.all_tasks()}


# ---------------------------------------------------------------------- merging


async def test_a_visitors_preferences_follow_into_the_account(admin: Browser, local: Redis) -> None:
    """More than one change may carry, twice to the same effect; the visitor's data stay."""
    items = [f"node-{number:04}" for number in range(1500)]
    await local.hset(keys.visitor(VISITOR), "theirs", "1")
    await local.sadd(keys.preferences(VISITOR, "mnodes"), *items)
    await admin.put("/preferences/mnodes/own")

    answers = [await _merge(admin) for _ in range(2)]
    kept = (await admin.get("/preferences/mnodes")).json()["items"]

    assert [answer.json() for answer in answers] == [
        {"id": PERSON, "collections": {"mnodes": 1500}}
    ] * 2
    assert kept == [*items, "own"]
    assert await local.scard(keys.preferences(VISITOR, "mnodes")) == 1500


async def test_a_visitor_without_preferences_gives_none(admin: Browser, local: Redis) -> None:
    """That is no error."""
    await local.hset(keys.visitor(VISITOR), "theirs", "1")

    answer = await _merge(admin)

    assert answer.json() == {"id": PERSON, "collections": {"mnodes": 0}}


async def test_merging_refuses_who_is_no_visitor_or_no_person(admin: Browser, local: Redis) -> None:
    """A sponsor's own set is never copied into somebody else's account."""
    await local.hset(keys.visitor(VISITOR), "theirs", "1")

    answers = [
        await _merge(admin, visitor=PERSON),
        await _merge(admin, person=1),
        await _merge(admin, visitor=-1),
        await admin.post(f"/admin/people/{PERSON}/merge", json={}),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 422, 422]
    assert "no visitor" in answers[0].json()["detail"]
    assert "has signed in" in answers[1].json()["detail"]


async def test_merging_refuses_what_no_collection_may_hold(admin: Browser, local: Redis) -> None:
    """The visitor's set is the application's, and may hold anything."""
    key = keys.preferences(VISITOR, "mnodes")
    await local.hset(keys.visitor(VISITOR), "theirs", "1")
    await local.eval("redis.call('SADD', KEYS[1], '\\255')", 1, key)
    not_text = await _merge(admin)
    await local.delete(key)
    await local.set(key, "no set")
    not_a_set = await _merge(admin)

    assert (not_text.status_code, not_a_set.status_code) == (422, 409)
    assert await local.exists(keys.preferences(PERSON, "mnodes")) == 0


async def _merge(admin: Browser, *, person: int = PERSON, visitor: int = VISITOR) -> httpx.Response:
    return await admin.post(f"/admin/people/{person}/merge", json={"from": visitor})


async def _is_clean(local: Redis) -> bool:
    return await local.scard(keys.DIRTY) == 0


async def _wait_for(browser: Browser, path: str) -> dict[str, Any]:
    """Returns the state of a job once it has ended."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            state: dict[str, Any] = (await browser.get(path)).json()
            if state["status"] in {"done", "failed"}:
                return state
            await asyncio.sleep(0.01)  # the question itself waits for nothing
