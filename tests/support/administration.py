"""Calls of the administration, and the people that they are about."""

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
    """Grants an entitlement."""
    return await admin.put(
        f"/admin/overrides/{who}",
        content=json.dumps({**OVERRIDE, **more}),  # as ASCII, so that anything can be sent
        headers={"Content-Type": "application/json"},
    )


async def delete_override(admin: Browser, who: object) -> httpx.Response:
    """Revokes a granted entitlement."""
    return await admin.delete(f"/admin/overrides/{who}", params={"actor": "an-operator"})


async def list_sponsors(admin: Browser) -> dict[int, dict[str, Any]]:
    """Returns the entitled people by number."""
    answer = await admin.get("/admin/sponsors", params={"limit": 1000})
    return {each["id"]: each for each in answer.json()["sponsors"]}


async def wait_for_job(admin: Browser, path: str) -> dict[str, Any]:
    """Returns the state of a job once it has ended."""
    state: dict[str, Any] = {}

    async def has_ended() -> bool:
        state.update((await admin.get(path)).json())
        return state["status"] in {"done", "failed"}

    await until(has_ended)
    return state


async def reconcile(admin: Browser) -> None:
    """Compares with GitHub, completely."""
    await admin.post("/admin/reconcile")
    state = await wait_for_job(admin, "/admin/reconcile")
    assert (state["status"], state["summary"]["reason"]) == ("done", None), state
