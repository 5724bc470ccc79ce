"""Overrides: an administrator entitles a person, until a given time or without an end."""

import asyncio
from datetime import timedelta

from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.store import keys
from tests.conftest import SPONSORABLE, UNREACHABLE, Browser, Clock, RunService, Service
from tests.support.administration import (
    FORMER,
    MONTHLY,
    STRANGER,
    delete_override,
    put_override,
    reconcile,
    run_admin,
)
from tests.support.issued_tokens import AUDIENCE
from tests.support.use_cases import create_hook
from tests.support.waiting import until


async def test_an_override_entitles_a_number_that_never_signed_in(
    service: Service, admin: Browser, github: SimulatedGitHub, durable: Redis
) -> None:
    """The override is pushed to durable, and entitles at the first sign-in.

    GitHub is not asked when it is saved, and reports no sponsorship at the sign-in.
    """
    granted = await put_override(admin, STRANGER, cents=1500)
    asked = github.requests.all("account")

    async def is_durable() -> bool:
        return bool(await durable.sismember(keys.sponsors(SPONSORABLE), str(STRANGER)))

    await until(is_durable)
    browser = await service.sign_in("stranger")
    mine = await browser.load_entitlement()
    door = await browser.get("/auth/sponsor", params={"min_cents": 1500})

    assert (granted.status_code, granted.json()["id"], asked) == (200, STRANGER, [])
    assert granted.json()["entitlement"]["status"] == "entitled"
    assert (mine["status"], mine["source"], mine["tier_cents"]) == ("entitled", "override", 1500)
    assert mine["reason"] == "An administrator gave you access."
    assert (door.status_code, door.headers["x-sponsor-cents"]) == (204, "1500")


async def test_a_login_override_asks_github_once(admin: Browser, github: SimulatedGitHub) -> None:
    """GitHub answers with the number of the login, in any letter case; the number is stored."""
    granted = await put_override(admin, "StrangeR")
    requests = github.requests.all()
    seen = await admin.get(f"/admin/sponsors/{STRANGER}")

    assert (granted.status_code, granted.json()["id"]) == (200, STRANGER)
    assert [request.path for request in requests] == ["/api/users/StrangeR"]
    assert seen.json()["entitlement"]["status"] == "entitled"


async def test_an_override_by_login_needs_no_maintainers_token(run_service: RunService) -> None:
    """GitHub answers which number a login has without a token."""
    async with run_admin(run_service) as (client, _):
        granted = await put_override(client, "stranger")

    assert (granted.status_code, granted.json()["id"]) == (200, STRANGER)


async def test_an_override_follows_the_number_not_the_login(
    service: Service, admin: Browser, github: SimulatedGitHub
) -> None:
    """The person renames the account, and another person registers the freed login."""
    await put_override(admin, "stranger")
    github.people.rename("stranger", "stranger-renamed")
    heir = github.people.add_person("stranger")
    renamed, other = await service.open_browser(), await service.open_browser()
    await renamed.sign_in("stranger-renamed")
    await other.sign_in("stranger")

    seen = await admin.get(f"/admin/sponsors/{heir.database_id}")

    assert (await renamed.load_entitlement())["source"] == "override"
    assert (await other.load_entitlement())["status"] == "not_entitled"
    assert seen.json()["entitlement"]["status"] == "not_entitled"


async def test_a_second_override_keeps_the_first_start(admin: Browser, clock: Clock) -> None:
    """`since` is the start of the uninterrupted entitlement; the rest of the first is replaced."""
    until_then = (clock.now + timedelta(days=9)).replace(microsecond=0)
    first = (await put_override(admin, STRANGER, cents=500)).json()["entitlement"]
    clock.advance(days=2)
    again = await put_override(admin, STRANGER, reason="For the docs", until=until_then.isoformat())
    seen = (await admin.get(f"/admin/sponsors/{STRANGER}")).json()

    assert again.json()["entitlement"] == seen["entitlement"]
    assert (seen["entitlement"]["since"], seen["entitlement"]["tier_cents"]) == (
        first["since"],
        None,
    )
    assert [each["note"] for each in seen["considered"] if each["source"] == "override"] == [
        "an-operator: For the docs"
    ]


async def test_an_override_after_a_gap_has_a_new_start(admin: Browser, clock: Clock) -> None:
    """The first override had ended, so `since` is the start of the second one."""
    ends = clock.now + timedelta(hours=1)
    first = (await put_override(admin, STRANGER, until=ends.isoformat())).json()["entitlement"]
    clock.advance(hours=2)
    second = (await put_override(admin, STRANGER)).json()["entitlement"]

    assert first["since"] < second["since"]


async def test_of_two_overrides_at_once_one_remains_complete(admin: Browser, local: Redis) -> None:
    """The stored reason and amount are of one request; the audit trail has both requests."""
    answers = await asyncio.gather(
        *(put_override(admin, STRANGER, reason=f"Reason {n}", cents=n) for n in (1, 2))
    )

    [grant] = [
        each
        for each in (await admin.get(f"/admin/sponsors/{STRANGER}")).json()["considered"]
        if each["source"] == "override"
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert grant["note"] == f"an-operator: Reason {grant['tier_cents']}"
    assert await local.xlen(keys.AUDIT) == 2


async def test_without_durable_unknown_people_wait(run_service: RunService, local: Redis) -> None:
    """Durable may have a sponsorship of this person, so the change is refused with 503."""
    async with run_admin(run_service, durable_url=UNREACHABLE) as (client, _):
        answers = [await put_override(client, STRANGER), await delete_override(client, STRANGER)]
        stored = await local.keys(keys.sponsorship("*", STRANGER))
        trail = await local.xlen(keys.AUDIT)
        unknown = (await client.get(f"/admin/sponsors/{STRANGER}")).json()["entitlement"]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(503, "store_unavailable")] * 2
    assert int(answers[0].headers["retry-after"]) > 0
    assert (stored, trail) == ([], 0)
    assert unknown["status"] == "unknown"


async def test_without_durable_partly_known_people_get_no_override(run_service: RunService) -> None:
    """The person signed in while durable was away, and durable may already have an override."""
    async with run_admin(run_service, durable_url=UNREACHABLE) as (client, browser):
        await browser.sign_in("stranger")
        answers = [await put_override(client, STRANGER), await delete_override(client, STRANGER)]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(503, "store_unavailable")] * 2


async def test_without_durable_a_known_person_gets_an_override(
    run_service: RunService, durable_url: SecretStr
) -> None:
    """Local knows the whole entitlement; the relay pushes the change when durable is back."""
    async with run_service(durable_url=durable_url) as service:
        await service.sign_in("stranger")
    async with run_admin(run_service, durable_url=UNREACHABLE) as (client, _):
        answers = [await put_override(client, STRANGER), await delete_override(client, STRANGER)]

    assert [answer.status_code for answer in answers] == [200, 200]


async def test_an_override_survives_every_answer_of_github(
    service: Service, admin: Browser, github: SimulatedGitHub
) -> None:
    """A sign-in, a webhook, a reconcile and a refresh all report that there is no sponsorship."""
    await put_override(admin, FORMER, cents=700)
    browser = await service.sign_in("former")
    after_login = await browser.load_entitlement()
    hook = create_hook(service)
    [sponsorship] = github.people.sponsorships_of(github.people.get("former"))
    await hook.send(hook.event("cancelled", sponsorship))
    after_webhook = await browser.load_entitlement()
    await reconcile(admin)
    after_reconcile = await browser.load_entitlement()
    await browser.post("/me/refresh")
    after_refresh = await browser.load_entitlement()

    entitlements = [after_login, after_webhook, after_reconcile, after_refresh]
    assert [(entitlement["source"], entitlement["tier_cents"]) for entitlement in entitlements] == [
        ("override", 700)
    ] * 4


async def test_the_end_of_an_override_closes_forward_auth_in_the_same_second(
    service: Service, admin: Browser, clock: Clock
) -> None:
    """Each request compares the end with the clock; no background work is needed."""
    clock.now = clock.now.replace(microsecond=0)
    browser = await service.sign_in("stranger")
    await put_override(admin, STRANGER, until=(clock.now + timedelta(hours=1)).isoformat())
    clock.advance(minutes=59, seconds=59)
    before = await browser.get("/auth/sponsor")
    clock.advance(seconds=1)
    after = await browser.get("/auth/sponsor")

    assert (before.status_code, after.status_code) == (204, 403)
    assert after.json()["detail"].startswith("The access that an administrator gave you ended by ")


async def test_a_removed_override_closes_forward_auth(service: Service, admin: Browser) -> None:
    """The answer has the entitlement that remains; removing the same override again is 404."""
    browser = await service.sign_in("monthly")
    await put_override(admin, STRANGER)
    await put_override(admin, MONTHLY, cents=9000)
    await browser.sign_in("stranger")
    before = await browser.get("/auth/sponsor")
    revoked = await delete_override(admin, "stranger")
    after = await browser.get("/auth/sponsor")
    again = await delete_override(admin, STRANGER)
    left = await delete_override(admin, MONTHLY)

    assert (before.status_code, after.status_code) == (204, 403)
    assert (revoked.status_code, revoked.json()["entitlement"]["status"]) == (200, "not_entitled")
    assert (again.status_code, again.json()["code"]) == (404, "not_found")
    assert str(STRANGER) in again.json()["detail"]
    assert (left.json()["entitlement"]["source"], left.json()["entitlement"]["tier_cents"]) == (
        "sponsorship",
        1000,
    )


async def test_a_token_does_not_outlive_an_override(run_service: RunService, clock: Clock) -> None:
    """A token for an entitlement that ends in 61 seconds expires at the same time."""
    async with run_admin(run_service, token_audience=AUDIENCE) as (client, browser):
        await browser.sign_in("stranger")
        await put_override(client, STRANGER, until=(clock.now + timedelta(seconds=61)).isoformat())
        token = (await browser.post("/token")).json()

    assert token["expires_in"] <= 61


async def test_deleting_an_account_deletes_its_override(service: Service, admin: Browser) -> None:
    """The next sign-in begins without an entitlement."""
    browser = await service.sign_in("stranger")
    await put_override(admin, STRANGER)
    await browser.delete("/me")
    await browser.sign_in("stranger")

    assert (await browser.load_entitlement())["status"] == "not_entitled"
    assert (await delete_override(admin, STRANGER)).status_code == 404
