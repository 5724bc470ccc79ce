"""The audit trail: each grant, change and loss of an entitlement, with its cause."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.app import create_app
from sponsorsync.commands.serve import bind, port_of, run_server
from sponsorsync.domain.audit import AuditEntry
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.hooks import Hook
from sponsorsync.sandbox.people import Tier
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.store.audit import AuditTrail
from sponsorsync.store.connect import RedisStore
from tests.conftest import (
    PATREON_SETTINGS,
    SPONSORABLE,
    UNREACHABLE,
    Browser,
    Clock,
    RunService,
    Service,
)
from tests.support.administration import BEARER, TOKEN, reconcile
from tests.support.use_cases import MEMBER, MONTHLY, SECRET, STRANGER, create_hook, find_sponsorship
from tests.support.waiting import until


@pytest.fixture
async def service(
    run_service: RunService, maintainer_settings: dict[str, Any]
) -> AsyncIterator[Service]:
    """A service with every cause of a change: webhook, refresh, reconcile, Patreon, overrides."""
    async with run_service(
        admin_token=SecretStr(TOKEN),
        webhook_secret=SecretStr(SECRET),
        org_entitlement="members",
        **maintainer_settings,
        **PATREON_SETTINGS,
    ) as running:
        yield running


@pytest.fixture
def hook(service: Service) -> Hook:
    """The maintainer's webhook: it signs and sends events to the service."""
    return create_hook(service)


async def _trail(admin: Browser, person_id: int = STRANGER) -> list[dict[str, Any]]:
    """Returns the audit entries of one person, the oldest first."""
    entries = (await admin.get("/admin/audit", params={"limit": 1000})).json()["entries"]
    return [entry for entry in reversed(entries) if entry["person_id"] == person_id]


def _causes(trail: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["what"], entry["by"]) for entry in trail]


async def test_a_sign_in_is_audited_where_it_changes_an_entitlement(
    service: Service, admin: Browser, github: SimulatedGitHub, clock: Clock
) -> None:
    """Of five sign-ins the three with a change leave an entry."""
    clock.advance(days=-1)  # an end by this clock has passed for the clock of Redis, too
    sponsorship = github.people.sponsor("stranger", SPONSORABLE, cents=500)
    browser = await service.sign_in("stranger")
    await browser.sign_in("stranger")
    sponsorship.tier = Tier(700)
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


async def test_an_event_is_audited_by_its_delivery(
    admin: Browser, hook: Hook, github: SimulatedGitHub, clock: Clock
) -> None:
    """The entry has the delivery id that GitHub lists; a redelivery leaves no second entry."""
    clock.advance(days=-1)  # as above
    sponsorship = github.people.sponsor("stranger", SPONSORABLE, cents=500)
    created, cancelled = hook.event("created", sponsorship), hook.event("cancelled", sponsorship)
    for delivery in (created, created, cancelled):
        await hook.send(delivery)
    trail = await _trail(admin)

    assert _causes(trail) == [("granted", "webhook"), ("lost", "webhook")]
    assert [entry["reference"] for entry in trail] == [created.number, cancelled.number]


async def test_reconcile_is_audited(admin: Browser, github: SimulatedGitHub, clock: Clock) -> None:
    """No webhook reports these changes, so the comparison with GitHub finds them."""
    clock.advance(days=-1)
    sponsorship = github.people.sponsor("stranger", SPONSORABLE, cents=500)
    await reconcile(admin)
    github.people.sponsorships.remove(sponsorship)
    clock.advance(minutes=1)
    await reconcile(admin)

    assert _causes(await _trail(admin)) == [("granted", "reconcile"), ("lost", "reconcile")]


async def test_a_refresh_is_audited(
    service: Service, admin: Browser, github: SimulatedGitHub, local: Redis, clock: Clock
) -> None:
    """The entry says that the person requested the check."""
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


async def test_an_override_is_audited_with_administrator_and_reason(admin: Browser) -> None:
    """Each creation, change and removal has one entry; saving an equal override has none."""
    path = f"/admin/overrides/{STRANGER}"
    given = {"actor": "an-operator", "reason": "Wrote the translation", "cents": 500}
    await admin.put(path, json=given)
    await admin.put(path, json=given)
    await admin.put(path, json={**given, "reason": 'Tab\t, "quotes", \\ and ünïcode', "cents": 1})
    await admin.delete(path, params={"actor": "another-operator", "reason": "It was a mistake"})
    await admin.delete(path, params={"actor": "another-operator"})
    await admin.put(path, json=given)
    await admin.delete(path, params={"actor": "another-operator"})
    granted, changed, lost, *again = await _trail(admin)

    assert [entry["what"] for entry in again] == ["granted", "lost"]
    assert again[-1]["reference"] == "another-operator"  # no reason is required
    trail = [granted, changed, lost]
    assert _causes(trail) == [(what, "override") for what in ("granted", "changed", "lost")]
    assert [entry["reference"] for entry in trail] == [
        "an-operator: Wrote the translation",
        'an-operator: Tab\t, "quotes", \\ and ünïcode',
        "another-operator: It was a mistake",
    ]
    assert (granted["before"], json.loads(granted["after"]["also"])[0]["cents"]) == ({}, 500)
    assert json.loads(changed["after"]["also"])[0]["reason"] == 'Tab\t, "quotes", \\ and ünïcode'
    assert "also" not in lost["after"]


async def test_a_change_of_an_organization_is_audited_for_its_members(
    service: Service, admin: Browser, hook: Hook, github: SimulatedGitHub, clock: Clock
) -> None:
    """The member's sign-in grants the entitlement; the organization's cancellation ends it."""
    clock.advance(days=-1)
    browser = await service.open_browser()
    sponsorship = find_sponsorship(github, "sponsoring-org")
    await hook.send(hook.event("created", sponsorship))
    await browser.sign_in("org-member")
    await browser.sign_in("org-member")
    await hook.send(hook.event("cancelled", sponsorship))

    async def has_lost() -> bool:
        return ("lost", "organization") in _causes(await _trail(admin, MEMBER))

    await until(has_lost)
    trail = await _trail(admin, MEMBER)

    assert _causes(trail) == [("granted", "login"), ("lost", "organization")]


async def test_unchanged_entitlements_are_not_audited(service: Service, admin: Browser) -> None:
    """A member with an override and a patronage signs in, refreshes and links again."""
    browser = await service.sign_in("org-member")
    await admin.put(f"/admin/overrides/{MEMBER}", json={"actor": "a", "reason": "b"})
    await browser.link_patreon("annual")
    before = await _trail(admin, MEMBER)
    await browser.sign_in("org-member")
    await browser.post("/me/refresh")
    await browser.link_patreon("annual")

    assert [entry["by"] for entry in before] == ["login", "override", "patreon"]
    assert await _trail(admin, MEMBER) == before


async def test_a_patronage_is_audited(service: Service, admin: Browser) -> None:
    """Linking, linking with an ended patronage, linking again and unlinking."""
    browser = await service.sign_in("stranger")
    await browser.link_patreon("active")
    await browser.link_patreon("declined")
    await browser.link_patreon("gifted")
    await browser.post("/patreon/unlink")
    trail = await _trail(admin)

    assert _causes(trail) == [(what, "patreon") for what in ("granted", "lost", "granted", "lost")]
    assert json.loads(trail[0]["after"]["also"])[0]["account_id"] == "90210010"


async def test_an_entitled_deleted_account_is_audited(service: Service, admin: Browser) -> None:
    """Only the sponsor of the two deleted accounts loses an entitlement."""
    for login in ("monthly", "stranger"):
        browser = await service.sign_in(login)
        await browser.delete("/me")

    assert _causes(await _trail(admin, MONTHLY)) == [("granted", "login"), ("lost", "deletion")]
    assert (await _trail(admin, MONTHLY))[-1]["after"] == {}
    assert await _trail(admin, STRANGER) == []


async def test_ends_are_audited_once(admin: Browser, local: Redis, local_store: RedisStore) -> None:
    """The sweep of ended entitlements writes the entry; a second sweep writes none."""
    await admin.put(f"/admin/overrides/{STRANGER}", json={"actor": "a", "reason": "b"})
    await local.hset(keys.sponsorship(SPONSORABLE, STRANGER), "also_until", "1000")
    await local.zadd(keys.ENTITLEMENT_ENDS, {f"{SPONSORABLE}:{STRANGER}": 1000})
    await local_store.run_script("sweep_entitlements", 10)
    await local_store.run_script("sweep_entitlements", 10)

    assert _causes(await _trail(admin)) == [("granted", "override"), ("lost", "end")]
    assert not await local.sismember(keys.sponsors(SPONSORABLE), str(STRANGER))


async def _fill(local: Redis, count: int) -> None:
    fields: dict[Any, Any] = {"sponsorable": SPONSORABLE, "what": "granted", "by": "login"}
    fields |= {"reference": "a\nb", "before": "{}", "after": "{}"}
    async with local.pipeline() as pipeline:
        for number in range(count):
            _ = pipeline.xadd(keys.AUDIT, fields | {"id": number + 1})
        await pipeline.execute()


async def test_audit_pages_lead_from_last_to_first(admin: Browser, local: Redis) -> None:
    """The pages contain each entry once, and the last page names no next one."""
    await _fill(local, 250)
    seen: list[int] = []
    params: dict[str, Any] | None = {"limit": 100}
    while params is not None:
        page = (await admin.get("/admin/audit", params=params)).json()
        seen += [entry["person_id"] for entry in page["entries"]]
        before = page["next_before"]
        params = None if before is None else {"limit": 100, "before": before}

    assert seen == list(range(250, 0, -1))


@pytest.mark.parametrize("before", ["0-0", "0000-00", "0-1", "999999999999999-999999999999999"])
async def test_audit_pages_beyond_the_trail(admin: Browser, local: Redis, before: str) -> None:
    """A page before the first entry is empty; a page before a time in the future has all."""
    await _fill(local, 3)

    answer = await admin.get("/admin/audit", params={"before": before})

    assert answer.status_code == 200
    assert len(answer.json()["entries"]) == (3 if before.startswith("9") else 0)


@pytest.mark.parametrize(
    "query",
    [
        "before=x",
        "before=1",
        "before=-1-0",
        "before=1-1%0A",
        "before=%D9%A1-%D9%A1",
        "before=%D9%A0-%D9%A0",
        "limit=0",
    ],
)
async def test_an_invalid_audit_page_is_422(admin: Browser, query: str) -> None:
    """The message names the wrong parameter, `before` or `limit`."""
    answer = await admin.get(f"/admin/audit?{query}")

    assert answer.status_code == 422
    assert query.partition("=")[0] in answer.json()["detail"]


async def test_the_export_has_one_line_for_each_entry(admin: Browser, local: Redis) -> None:
    """The export reads several pages, and an entry with a line break stays on one line."""
    await _fill(local, 2500)

    answer = await admin.get("/admin/audit/export")

    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert 'filename="audit.ndjson"' in answer.headers["content-disposition"]
    assert [line["person_id"] for line in lines] == list(range(2500, 0, -1))
    assert lines[0].keys() == (await admin.get("/admin/audit")).json()["entries"][0].keys()


async def test_an_unreadable_audit_entry_is_named(admin: Browser, local: Redis) -> None:
    """Skipping the entry would leave an invisible gap, so the answer names it for removal."""
    await _fill(local, 1)
    number = await local.xadd(keys.AUDIT, {"id": "1", "note": "by hand"})

    answers = [await admin.get(path) for path in ("/admin/audit", "/admin/audit/export")]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "store_conflict")] * 2
    assert str(number) in answers[0].json()["detail"]


async def test_the_export_of_an_empty_trail_is_an_empty_file(admin: Browser) -> None:
    """An empty audit trail is not an error."""
    answer = await admin.get("/admin/audit/export")

    assert (answer.status_code, answer.text) == (200, "")


async def test_an_export_that_cannot_begin_is_503(run_service: RunService) -> None:
    """An empty file would look like an empty audit trail."""
    async with run_service(redis_url=UNREACHABLE, admin_token=SecretStr(TOKEN)) as service:
        client = await service.open_browser()
        answer = await client.get("/admin/audit/export", headers=BEARER)

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


async def test_an_export_that_breaks_off_does_not_look_complete(
    settings: Settings, local: Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status 200 is already sent: the last line reports the error, and the connection breaks.

    Behind a proxy that speaks HTTP/1.0 to the service, that line is the only sign.
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
        "incomplete": "The local Redis did not answer in time. Older entries are missing: export "
        "again."
    }
