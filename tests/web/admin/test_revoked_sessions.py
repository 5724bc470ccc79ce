"""Sessions end by an administrator, the account's deletion or a sign-out."""

import pytest
from redis.asyncio import Redis

from sponsorsync.store import keys
from tests.conftest import Browser, RunService, Service
from tests.support.administration import BEARER, MONTHLY, PRIVATE, STRANGER, run_admin
from tests.support.issued_tokens import AUDIENCE


async def test_all_sessions_of_one_person_end_at_once(service: Service, admin: Browser) -> None:
    """Other people's sessions stay valid, and the person can sign in again."""
    browsers = [await service.open_browser() for _ in range(3)]
    other = await service.open_browser()
    for browser in browsers:
        await browser.sign_in("monthly")
    await other.sign_in("private")
    await browsers[2].post("/logout")

    revoked = await admin.post(f"/admin/sponsors/{MONTHLY}/revoke-sessions")
    after = [(await browser.get("/auth/sponsor")).status_code for browser in (*browsers, other)]
    again = await admin.post(f"/admin/sponsors/{MONTHLY}/revoke-sessions")
    await browsers[0].sign_in("monthly")

    assert (revoked.status_code, revoked.json()) == (200, {"id": MONTHLY, "sessions": 2})
    assert after == [401, 401, 401, 204]
    assert again.json()["sessions"] == 0
    assert (await browsers[0].get("/me")).status_code == 200


@pytest.mark.parametrize("by", ["an administrator", "a deletion"])
async def test_no_session_is_hidden_by_an_eviction(
    service: Service, admin: Browser, local: Redis, by: str
) -> None:
    """The index of a person's sessions has no TTL: volatile-… policies evict keys with one."""
    browser, other = await service.open_browser(), await service.open_browser()
    await browser.sign_in("monthly")
    await local.expire(keys.sessions(MONTHLY), 1000)  # as an earlier release set it
    await other.sign_in("monthly")
    ttl_s = await local.ttl(keys.sessions(MONTHLY))
    ends = {
        "an administrator": lambda: admin.post(f"/admin/sponsors/{MONTHLY}/revoke-sessions"),
        "a deletion": lambda: other.delete("/me"),
    }
    await ends[by]()

    assert ttl_s == -1
    assert [(await each.get("/me")).status_code for each in (browser, other)] == [401, 401]
    assert await local.keys("sponsorsync:session*") == []


async def test_the_last_sign_out_leaves_nothing(service: Service, local: Redis) -> None:
    """The index of the person's sessions is deleted with the last session."""
    browser = await service.sign_in("monthly")
    await browser.post("/logout")

    assert await local.keys("sponsorsync:session*") == []


async def test_a_token_outlives_revoked_sessions_and_only_reads(run_service: RunService) -> None:
    """As `POST /token` documents, a token stays valid for some minutes; it cannot be renewed."""
    async with run_admin(run_service, token_audience=AUDIENCE) as (client, browser):
        await browser.sign_in("monthly")
        bearer = (await browser.post("/token")).json()["access_token"]
        await client.post(f"/admin/sponsors/{MONTHLY}/revoke-sessions", headers=BEARER)
        browser.cookies.clear()
        browser.headers["Authorization"] = f"Bearer {bearer}"
        read, renewed = await browser.get("/auth/sponsor"), await browser.post("/token")

    assert (read.status_code, renewed.status_code) == (204, 403)


async def test_a_replaced_session_is_not_counted(service: Service, admin: Browser) -> None:
    """A sign-in as another person in the same browser ends the browser's earlier session."""
    browser = await service.sign_in("monthly")
    await browser.sign_in("private")

    answers = [
        (await admin.post(f"/admin/sponsors/{number}/revoke-sessions")).json()["sessions"]
        for number in (MONTHLY, PRIVATE, STRANGER)
    ]

    assert answers == [0, 1, 0]
