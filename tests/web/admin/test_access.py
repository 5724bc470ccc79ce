"""Every route under /admin needs the administrator's token."""

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.store import keys
from tests.conftest import RunService
from tests.support.administration import BEARER, MONTHLY, OVERRIDE, STRANGER, TOKEN

ROUTES = [
    ("POST", "/admin/snapshot"),
    ("GET", "/admin/snapshot"),
    ("POST", "/admin/verify"),
    ("GET", "/admin/verify"),
    ("POST", "/admin/reconcile"),
    ("GET", "/admin/reconcile"),
    ("GET", "/admin/registrations"),
    ("POST", f"/admin/people/{MONTHLY}/import-anonymous"),
    ("GET", "/admin/sponsors"),
    ("GET", f"/admin/sponsors/{STRANGER}"),
    ("POST", f"/admin/sponsors/{MONTHLY}/revoke-sessions"),
    ("PUT", f"/admin/overrides/{STRANGER}"),
    ("DELETE", f"/admin/overrides/{STRANGER}"),
    ("GET", "/admin/audit"),
    ("GET", "/admin/audit/export"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_each_route_needs_the_administrators_token(
    run_service: RunService, local: Redis, method: str, path: str
) -> None:
    """No session, no other token and no other scheme opens a route.

    Where no administrator's token is set, every token is refused.
    """
    async with run_service(admin_token=SecretStr(TOKEN)) as service, run_service() as closed:
        browser, other = await service.sign_in("monthly"), await closed.open_browser()
        before = await local.xlen(keys.AUDIT)
        missing, basic, wrong, not_ascii = [
            await browser.request(method, path, json=OVERRIDE, headers=headers)
            for headers in (
                {},
                {"Authorization": "Basic eDp5"},
                {"Authorization": "Bearer another-administrators-token"},
                [(b"Authorization", "Bearer wörng".encode())],
            )
        ]
        none = await other.request(method, path, headers=BEARER)
        me = await browser.get("/me")

    answers = [missing, basic, wrong, not_ascii, none]
    assert [answer.status_code for answer in answers] == [401, 401, 403, 403, 403]
    assert missing.headers["www-authenticate"].startswith("Bearer")
    assert "login_url" not in missing.json()
    assert "SPONSORSYNC_ADMIN_TOKEN is not set" in none.json()["detail"]
    assert (await local.xlen(keys.AUDIT), me.status_code) == (before, 200)


async def test_every_route_of_the_administration_is_in_the_table(run_service: RunService) -> None:
    """ROUTES has every documented route under /admin, so a new route is tested like the others."""
    async with run_service() as service:
        document = (await (await service.open_browser()).get("/openapi.json")).json()

    documented = {
        (method.upper(), path.format(person_id="n", who="n"))
        for path, operations in document["paths"].items()
        for method in operations
        if path.startswith("/admin/")
    }
    numbers = (f"/{MONTHLY}", f"/{STRANGER}")
    table = {
        (method, path.replace(numbers[0], "/n").replace(numbers[1], "/n"))
        for method, path in ROUTES
    }
    assert table == documented
