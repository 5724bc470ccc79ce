"""Calls of the administrator's routes, and the simulated people that the tests use."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from pydantic import SecretStr

from tests.conftest import Browser, RunService
from tests.support.waiting import until

TOKEN = "an-administrators-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
MONTHLY, PRIVATE, ONE_TIME, FORMER, STRANGER, MEMBER, ORGANIZATION = (
    *(48_210_377, 73_355_190, 61_904_882, 29_871_456, 112_493_071),
    *(90_126_733, 17_562_948),
)
OVERRIDE = {"reason": "Wrote the translation", "actor": "an-operator"}


@asynccontextmanager
async def run_admin(
    run_service: RunService, **overrides: object
) -> AsyncIterator[tuple[Browser, Browser]]:
    """Runs a service; yields the administrator's client, and a browser without a session."""
    async with run_service(admin_token=SecretStr(TOKEN), **overrides) as service:
        admin = await service.open_browser()
        admin.headers.update(BEARER)
        yield admin, await service.open_browser()


async def put_override(admin: Browser, who: object, **more: object) -> httpx.Response:
    """Puts an override, which entitles a person; returns the answer."""
    return await admin.put(
        f"/admin/overrides/{who}",
        content=json.dumps({**OVERRIDE, **more}),  # escaped as ASCII, so that any text can be sent
        headers={"Content-Type": "application/json"},
    )


async def delete_override(admin: Browser, who: object) -> httpx.Response:
    """Deletes an override; returns the answer."""
    return await admin.delete(f"/admin/overrides/{who}", params={"actor": "an-operator"})


async def list_sponsors(admin: Browser) -> dict[int, dict[str, Any]]:
    """Returns the entitled people by their ids."""
    answer = await admin.get("/admin/sponsors", params={"limit": 1000})
    return {each["id"]: each for each in answer.json()["sponsors"]}


async def wait_for_job(admin: Browser, path: str) -> dict[str, Any]:
    """Waits until a job has ended; returns its state."""
    state: dict[str, Any] = {}

    async def has_ended() -> bool:
        state.update((await admin.get(path)).json())
        return state["status"] in {"done", "failed"}

    await until(has_ended)
    return state


async def reconcile(admin: Browser) -> None:
    """Runs a complete reconcile, and checks that it succeeded."""
    await admin.post("/admin/reconcile")
    state = await wait_for_job(admin, "/admin/reconcile")
    assert (state["status"], state["summary"]["reason"]) == ("done", None), state
