"""The audit trail: each grant, change and loss of an entitlement, with its cause."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr

from sponsorsync.app import create_app
from sponsorsync.commands.serve import bind, port_of, run_server
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.sandbox.hooks import Hook
from sponsorsync.store import keys
from sponsorsync.store.audit import AuditTrail
from tests.conftest import GITHUB_URL, ORIGIN, PATREON_SETTINGS, SPONSORABLE
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from sponsorsync.domain.audit import AuditEntry
    from sponsorsync.sandbox.github import SimulatedGitHub
    from sponsorsync.settings import Settings
    from sponsorsync.store.connect import RedisStore
    from tests.conftest import Browser, Clock, RunService, Service

TOKEN = "an-administrators-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SECRET = "a-secret-shared-with-github"
MONTHLY, STRANGER, MEMBER = 48_210_377, 112_493_071, 90_126_733


@pytest.fixture
async def service(run_service: RunService, github: SimulatedGitHub) -> AsyncIterator[Service]:
    """A service with everything by which an entitlement may change."""
    token = github.tokens.issue(github.people.get_person(SPONSORABLE))
    async with run_service(
        admin_token=SecretStr(TOKEN),
        webhook_secret=SecretStr(SECRET),
        maintainer_token=SecretStr(token),
        reconcile_hours=0,
        org_entitlement="members",
        **PATREON_SETTINGS,
    ) as running:
        yield running


@pytest.fixture
async def admin(service: Service) -> Browser:
    """A client with the administrator's token, and without a session."""
    client = await service.open_browser()
    client.headers.update(BEARER)
    return client


@pytest.fixture
def hook(service: Service) -> Hook:
    """The maintainer's webhook."""
    return Hook(
        url=f"{ORIGIN}/webhooks/github",
        secret=SECRET,
        base_url=GITHUB_URL,
        transport=httpx.ASGITransport(service.app),
    )


async def _trail(admin: Browser, person_id: int = STRANGER) -> list[dict[str, Any]]:
    """Returns what happened to one person, the first first."""
    entries = (await admin.get("/admin/audit", params={"limit": 1000})).json()["entries"]
    return [entry for entry in reversed(entries) if entry["person_id"] == person_id]


def _causes(trail: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["what"], entry["by"]) for entry in trail]


# ---------------------------------------------------------------------- each cause


async def test_a_login_grants_changes_and_loses(
    service: Service, admin: Browser, github: SimulatedGitHub, clock: Clock
) -> None:
    """And says nothing where nothing changed."""
    clock.advance(days=-1)  # what it ends is over to Redis, too, which has a clock of its own
    sponsorship = github.people.sponsor("stranger", SPONSORABLE, cents=500)
    assert sponsorship.tier is not None
    browser = await service.sign_in("stranger")
    await browser.sign_in("stranger")
    sponsorship.tier.monthly_price_in_cents = 700
    clock.advance(minutes=1)
    await browser.sign_in("stranger")
    github.people.sponsorships.remove(sponsorship)
    clock.advance(minutes=1)
    await browser.sign_in("stranger")
    await browser.sign_in("stranger")
    granted, changed, lost = trail = await _trail(admin)

    assert _causes(trail) == [("granted", "login"), ("changed", "login"), ("lost", "login")]
    assert {entry["reference"] for entry in trail} == {""}
    assert {entry["sponsorable"] for entry in trail} == {SPONSORABLE}
    assert (granted["before"], granted["after"]["tier_cents"]) == ({}, "500")
    assert (changed["before"]["tier_cents"], changed["after"]["tier_cents"]) == ("500", "700")
    assert "valid_until" not in lost["before"]
    assert int(lost["after"]["valid_until"]) > 0


async def test_a_webhook_is_named_by_its_delivery(
    admin: Browser, hook: Hook, github: SimulatedGitHub, clock: Clock
) -> None:
    """So that it is found in GitHub's own list; what is delivered again is there once."""
    clock.advance(days=-1)  # what ends now is over to Redis, too, which has a clock of its own
    sponsorship = github.people.sponsor("stranger", SPONSORABLE, cents=500)
    created, cancelled = hook.tell("created", sponsorship), hook.tell("cancelled", sponsorship)
    for delivery in (created, created, cancelled):
        await hook.send(delivery)
    trail = await _trail(admin)

    assert _causes(trail) == [("granted", "webhook"), ("lost", "webhook")]
    assert [entry["reference"] for entry in trail] == [created.number, cancelled.number]


async def test_a_comparison_with_github(
    admin: Browser, github: SimulatedGitHub, clock: Clock
) -> None:
    """What no webhook told."""
    clock.advance(days=-1)
    sponsorship = github.people.sponsor("stranger", SPONSORABLE, cents=500)
    await _reconcile(admin)
    github.people.sponsorships.remove(sponsorship)
    clock.advance(minutes=1)
    await _reconcile(admin)

    assert _causes(await _trail(admin)) == [("granted", "reconcile"), ("lost", "reconcile")]


async def _reconcile(admin: Browser) -> None:
    await admin.post("/admin/reconcile")

    async def has_ended() -> bool:
        return bool((await admin.get("/admin/reconcile")).json()["status"] == "done")

    await until(has_ended)


async def test_a_refresh(
    service: Service, admin: Browser, github: SimulatedGitHub, local: Redis, clock: Clock
) -> None:
    """That the person asked for."""
    clock.advance(days=-1)  # as above
    browser = await service.sign_in("stranger")
    sponsorship = github.people.sponsor("stranger", SPONSORABLE)
    clock.advance(minutes=1)
    await browser.post("/me/refresh")
    github.people.sponsorships.remove(sponsorship)
    clock.advance(minutes=1)
    await local.delete(f"sponsorsync:refreshed:{STRANGER}")
    await browser.post("/me/refresh")

    assert _causes(await _trail(admin)) == [("granted", "refresh"), ("lost", "refresh")]


async def test_an_override_is_named_by_who_decided_and_why(admin: Browser) -> None:
    """Also when it is taken back; the same again is no change."""
    path = f"/admin/overrides/{STRANGER}"
    given = {"actor": "an-operator", "reason": "Wrote the translation", "cents": 500}
    await admin.put(path, json=given)
    await admin.put(path, json=given)
    await admin.put(path, json={**given, "reason": 'Tab\t, "quotes", \\ and ünïcode', "cents": 1})
    await admin.delete(path, params={"actor": "another-operator", "reason": "It was a mistake"})
    await admin.delete(path, params={"actor": "another-operator"})
    granted, changed, lost = trail = await _trail(admin)

    assert _causes(trail) == [
        ("granted", "override"),
        ("changed", "override"),
        ("lost", "override"),
    ]
    assert [entry["reference"] for entry in trail] == [
        "an-operator: Wrote the translation",
        'an-operator: Tab\t, "quotes", \\ and ünïcode',
        "another-operator: It was a mistake",
    ]
    assert (granted["before"], json.loads(granted["after"]["also"])[0]["cents"]) == ({}, 500)
    assert json.loads(changed["after"]["also"])[0]["reason"] == 'Tab\t, "quotes", \\ and ünïcode'
    assert "also" not in lost["after"]


async def test_an_override_without_a_reason_to_take_it_back(admin: Browser) -> None:
    """It is not asked for; then only who decided is told."""
    path = f"/admin/overrides/{MONTHLY}"
    await admin.put(path, json={"actor": "an-operator", "reason": "Wrote the translation"})
    await admin.delete(path, params={"actor": "another-operator"})
    trail = await _trail(admin, MONTHLY)

    assert trail[-1]["reference"] == "another-operator"


async def test_an_organization_takes_its_members_along(
    service: Service, admin: Browser, hook: Hook, github: SimulatedGitHub, clock: Clock
) -> None:
    """The member's entitlement is granted by their login, and changes with the organization's."""
    clock.advance(days=-1)
    browser = await service.open_browser()
    [sponsorship] = github.people.sponsorships_of(github.people.get("sponsoring-org"))
    await hook.send(hook.tell("created", sponsorship))
    await browser.sign_in("org-member")
    await browser.sign_in("org-member")
    await hook.send(hook.tell("cancelled", sponsorship))

    async def has_lost() -> bool:
        return ("lost", "organization") in _causes(await _trail(admin, MEMBER))

    await until(has_lost)
    trail = await _trail(admin, MEMBER)

    assert _causes(trail) == [("granted", "login"), ("lost", "organization")]


async def test_several_sources_in_turn_make_no_noise(service: Service, admin: Browser) -> None:
    """A person with an organization, an override and Patreon signs in, and nothing changes."""
    browser = await service.sign_in("org-member")
    await admin.put(f"/admin/overrides/{MEMBER}", json={"actor": "a", "reason": "b"})
    await browser.link_patreon("annual")
    before = await _trail(admin, MEMBER)
    await browser.sign_in("org-member")
    await browser.post("/me/refresh")
    await browser.link_patreon("annual")

    assert [entry["by"] for entry in before] == ["login", "override", "patreon"]
    assert await _trail(admin, MEMBER) == before


async def test_patreon(service: Service, admin: Browser) -> None:
    """Linking, linking again when it has ended, and unlinking."""
    browser = await service.sign_in("stranger")
    await browser.link_patreon("active")
    await browser.link_patreon("declined")
    await browser.link_patreon("gifted")
    await browser.post("/patreon/unlink")
    trail = await _trail(admin)

    assert _causes(trail) == [
        *(("granted", "patreon"), ("lost", "patreon"), ("granted", "patreon")),
        ("lost", "patreon"),
    ]
    assert json.loads(trail[0]["after"]["also"])[0]["account_id"] == "90210010"


async def test_a_deleted_account(service: Service, admin: Browser) -> None:
    """Who is not entitled loses nothing by it."""
    for login in ("monthly", "stranger"):
        browser = await service.sign_in(login)
        await browser.delete("/me")

    assert _causes(await _trail(admin, MONTHLY)) == [("granted", "login"), ("lost", "deletion")]
    assert (await _trail(admin, MONTHLY))[-1]["after"] == {}
    assert await _trail(admin, STRANGER) == []


async def test_an_end_that_comes_by_itself(
    admin: Browser, local: Redis, local_store: RedisStore
) -> None:
    """When it is swept, once."""
    await admin.put(f"/admin/overrides/{STRANGER}", json={"actor": "a", "reason": "b"})
    await local.hset(keys.sponsorship(SPONSORABLE, STRANGER), "also_until", "1000")
    await local.zadd(keys.ENTITLEMENT_ENDS, {f"{SPONSORABLE}:{STRANGER}": 1000})
    await local_store.run_script("sweep_entitlements", 10)
    await local_store.run_script("sweep_entitlements", 10)

    assert _causes(await _trail(admin)) == [("granted", "override"), ("lost", "end")]
    assert not await local.sismember(keys.sponsors(SPONSORABLE), str(STRANGER))


# ---------------------------------------------------------------------- reading it


async def _fill(local: Redis, count: int) -> None:
    async with local.pipeline() as pipeline:
        for number in range(count):
            _ = pipeline.xadd(
                keys.AUDIT,
                {
                    "id": number + 1,
                    "sponsorable": SPONSORABLE,
                    "what": "granted",
                    "by": "login",
                    "reference": "a\nb",
                    "before": "{}",
                    "after": "{}",
                },
            )
        await pipeline.execute()


async def test_pages_lead_from_the_latest_to_the_first(admin: Browser, local: Redis) -> None:
    """Each entry once, and nothing behind the last one."""
    await _fill(local, 250)
    seen: list[int] = []
    params: dict[str, Any] | None = {"limit": 100}
    while params is not None:
        page = (await admin.get("/admin/audit", params=params)).json()
        seen += [entry["person_id"] for entry in page["entries"]]
        before = page["next_before"]
        params = None if before is None else {"limit": 100, "before": before}

    assert seen == list(range(250, 0, -1))


@pytest.mark.parametrize("before", ["0-0", "0-1", "999999999999999-999999999999999"])
async def test_the_ends_of_the_trail(admin: Browser, local: Redis, before: str) -> None:
    """There is nothing before the first entry; behind the last one there is everything."""
    await _fill(local, 3)

    answer = await admin.get("/admin/audit", params={"before": before})

    assert answer.status_code == 200
    assert len(answer.json()["entries"]) == (3 if before.startswith("9") else 0)


@pytest.mark.parametrize(
    "query",
    ["before=x", "before=1", "before=-1-0", "before=1-1%0A", "before=%D9%A1-%D9%A1", "limit=0"],
)
async def test_an_audit_page_that_cannot_be_is_422(admin: Browser, query: str) -> None:
    """In a sentence that names the parameter."""
    answer = await admin.get(f"/admin/audit?{query}")

    assert answer.status_code == 422
    assert query.partition("=")[0] in answer.json()["detail"]


async def test_the_export_has_every_entry_on_a_line_of_its_own(
    admin: Browser, local: Redis
) -> None:
    """More than one page of them; whatever is in an entry, a line stays a line."""
    await _fill(local, 2500)

    answer = await admin.get("/admin/audit/export")

    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert 'filename="audit.ndjson"' in answer.headers["content-disposition"]
    assert [line["person_id"] for line in lines] == list(range(2500, 0, -1))
    assert lines[0].keys() == (await admin.get("/admin/audit")).json()["entries"][0].keys()


async def test_an_entry_of_somebody_else_is_named(admin: Browser, local: Redis) -> None:
    """The way to the others is to remove it; a trail with a hole would look complete."""
    await _fill(local, 1)
    number = await local.xadd(keys.AUDIT, {"id": "1", "note": "by hand"})

    answers = [await admin.get(path) for path in ("/admin/audit", "/admin/audit/export")]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "store_conflict")] * 2
    assert str(number) in answers[0].json()["detail"]


async def test_an_empty_trail_is_an_empty_file(admin: Browser) -> None:
    """And no error."""
    answer = await admin.get("/admin/audit/export")

    assert (answer.status_code, answer.text) == (200, "")


async def test_an_export_that_cannot_begin_is_503(run_service: RunService) -> None:
    """Rather than an empty file."""
    async with run_service(
        redis_url=SecretStr("redis://127.0.0.1:1/0"), admin_token=SecretStr(TOKEN)
    ) as service:
        client = await service.open_browser()
        answer = await client.get("/admin/audit/export", headers=BEARER)

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


async def test_an_export_that_breaks_off_does_not_look_complete(
    settings: Settings, local: Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status was sent before; so the last line says it, and the connection breaks.

    Behind a proxy that speaks HTTP/1.0 to us the line is all there is to see.
    """
    await _fill(local, 1500)
    load = AuditTrail.load

    async def fail_later(
        trail: AuditTrail, *, before: str | None, limit: int
    ) -> Sequence[AuditEntry]:
        if before is not None:
            raise StoreUnavailableError("The local Redis did not answer in time.")
        return await load(trail, before=before, limit=limit)

    monkeypatch.setattr(AuditTrail, "load", fail_later)
    sock = bind("127.0.0.1", 0)
    app = create_app(settings.model_copy(update={"admin_token": SecretStr(TOKEN)}), clock=clock)
    url = f"http://127.0.0.1:{port_of(sock)}/admin/audit/export"
    received = b""

    async def read(answer: httpx.Response) -> None:
        nonlocal received
        async for chunk in answer.aiter_bytes():
            received += chunk

    async with (
        run_server(app, sock),
        httpx.AsyncClient(headers=BEARER) as client,
        client.stream("GET", url) as answer,
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            await read(answer)

    lines = [json.loads(line) for line in received.decode().splitlines()]
    assert (answer.status_code, len(lines)) == (200, 1001)
    assert lines[-1] == {
        "incomplete": "The local Redis did not answer in time. What is older is not here: export "
        "again."
    }
