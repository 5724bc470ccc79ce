"""For whoever runs the service: entitles given by hand, who is entitled, and sessions."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from sponsorsync.sandbox.hooks import Hook
from sponsorsync.store import keys
from tests.conftest import GITHUB_URL, ORIGIN, SPONSORABLE
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from sponsorsync.sandbox.github import SimulatedGitHub
    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from tests.conftest import Browser, Clock, RunService, Service

TOKEN = "an-administrators-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SECRET = "a-secret-shared-with-github"
MONTHLY, PRIVATE, ONE_TIME, FORMER, STRANGER, MEMBER, ORGANIZATION = (
    *(48_210_377, 73_355_190, 61_904_882, 29_871_456, 112_493_071),
    *(90_126_733, 17_562_948),
)
GIVEN = {"reason": "Wrote the translation", "actor": "an-operator"}
UNREACHABLE = SecretStr("redis://127.0.0.1:1/0")


@pytest.fixture
async def service(
    run_service: RunService, durable_server: EmbeddedValkey, durable: Redis, github: SimulatedGitHub
) -> AsyncIterator[Service]:
    """A service with two sides, a maintainer's token, a webhook, and organizations that entitle."""
    assert durable is not None  # it is empty now
    token = github.tokens.issue(github.people.get_person(SPONSORABLE))
    async with run_service(
        durable_url=SecretStr(durable_server.url),
        admin_token=SecretStr(TOKEN),
        webhook_secret=SecretStr(SECRET),
        maintainer_token=SecretStr(token),
        reconcile_hours=0,
        org_entitlement="members",
    ) as running:
        yield running


@pytest.fixture
async def admin(service: Service) -> Browser:
    """A client with the administrator's token, and without a session."""
    client = await service.open_browser()
    client.headers.update(BEARER)
    return client


async def _put(admin: Browser, who: object, **more: object) -> httpx.Response:
    return await admin.put(
        f"/admin/overrides/{who}",
        content=json.dumps({**GIVEN, **more}),  # as ASCII, so that anything can be sent
        headers={"Content-Type": "application/json"},
    )


async def _delete(admin: Browser, who: object) -> httpx.Response:
    return await admin.delete(f"/admin/overrides/{who}", params={"actor": "an-operator"})


async def _list(admin: Browser) -> dict[int, dict[str, Any]]:
    answer = await admin.get("/admin/sponsors", params={"limit": 1000})
    return {each["id"]: each for each in answer.json()["sponsors"]}


async def _reconcile(admin: Browser) -> dict[str, Any]:
    """Compares with GitHub; returns what was found."""
    await admin.post("/admin/reconcile")
    state: dict[str, Any] = {}

    async def has_ended() -> bool:
        state.update((await admin.get("/admin/reconcile")).json())
        return state["status"] in {"done", "failed"}

    await until(has_ended)
    summary: dict[str, Any] = state["summary"]
    return summary


async def _entitlement_of(browser: Browser) -> dict[str, Any]:
    [entitlement] = (await browser.get("/me")).json()["entitlements"]
    return dict(entitlement)


# ---------------------------------------------------------------------- who may


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/sponsors"),
        ("GET", f"/admin/sponsors/{STRANGER}"),
        ("POST", f"/admin/sponsors/{MONTHLY}/revoke-sessions"),
        ("PUT", f"/admin/overrides/{STRANGER}"),
        ("DELETE", f"/admin/overrides/{STRANGER}"),
        ("GET", "/admin/audit"),
        ("GET", "/admin/audit/export"),
    ],
)
async def test_each_route_needs_the_administrators_token(
    service: Service, local: Redis, method: str, path: str
) -> None:
    """A sponsor's session opens none of them, and nothing happens."""
    browser = await service.open_browser()
    await browser.sign_in("monthly")
    before = await local.xlen(keys.AUDIT)

    answers = [
        await browser.request(method, path, json=GIVEN, headers=headers)
        for headers in ({}, {"Authorization": "Bearer another-administrators-token"})
    ]

    assert [answer.status_code for answer in answers] == [401, 403]
    assert await local.xlen(keys.AUDIT) == before
    assert (await browser.get("/me")).status_code == 200


# ---------------------------------------------------------------------- giving


async def test_by_number_somebody_is_entitled_who_never_signed_in(
    service: Service, admin: Browser, github: SimulatedGitHub, durable: Redis
) -> None:
    """At their first login they find it, whatever GitHub says; durable has it, too."""
    given = await _put(admin, STRANGER, cents=1500)
    asked = github.requests.all("account")

    async def is_durable() -> bool:
        return bool(await durable.sismember(keys.sponsors(SPONSORABLE), str(STRANGER)))

    await until(is_durable)
    browser = await service.open_browser()
    await browser.sign_in("stranger")
    mine = await _entitlement_of(browser)
    door = await browser.get("/auth/sponsor", params={"min_cents": 1500})

    assert (given.status_code, given.json()["id"], asked) == (200, STRANGER, [])
    assert given.json()["entitlement"]["status"] == "entitled"
    assert (mine["status"], mine["source"], mine["tier_cents"]) == ("entitled", "override", 1500)
    assert mine["reason"] == "An administrator gave you access."
    assert (door.status_code, door.headers["x-sponsor-cents"]) == (204, "1500")


async def test_by_login_github_is_asked_once(admin: Browser, github: SimulatedGitHub) -> None:
    """For the number, which is kept; case does not matter."""
    given = await _put(admin, "StrangeR")
    requests = github.requests.all()
    seen = await admin.get(f"/admin/sponsors/{STRANGER}")

    assert (given.status_code, given.json()["id"]) == (200, STRANGER)
    assert [request.path for request in requests] == ["/api/users/StrangeR"]
    assert seen.json()["entitlement"]["status"] == "entitled"


async def test_without_a_maintainers_token_github_is_asked_by_nobody(
    run_service: RunService,
) -> None:
    """Logins are public."""
    async with run_service(admin_token=SecretStr(TOKEN)) as service:
        client = await service.open_browser()
        client.headers.update(BEARER)
        given = await _put(client, "stranger")

    assert (given.status_code, given.json()["id"]) == (200, STRANGER)


@pytest.mark.parametrize(
    ("switches", "login", "status", "code"),
    [
        ({}, "nobody-has-this", 404, "not_found"),
        ({"fail": {"account"}}, "stranger", 502, "github_unavailable"),
        ({"bad_json": {"account"}}, "stranger", 502, "github_unavailable"),
        ({"rate_limited": True}, "stranger", 503, "github_limited"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_login_of_which_github_tells_nothing_stores_nothing(
    admin: Browser,
    github: SimulatedGitHub,
    switches: dict[str, object],
    login: str,
    status: int,
    code: str,
    method: str,
) -> None:
    """Who it is is unknown then; 404 names the login."""
    vars(github.switches).update(switches)

    answer = await admin.request(
        method, f"/admin/overrides/{login}", json=GIVEN, params={"actor": "an-operator"}
    )
    trail = (await admin.get("/admin/audit")).json()["entries"]

    assert (answer.status_code, answer.json()["code"], trail) == (status, code, [])
    assert (await _list(admin)) == {}


async def test_a_renamed_account_keeps_it_and_nobody_inherits_it(
    service: Service, admin: Browser, github: SimulatedGitHub
) -> None:
    """It is the number's: who takes the freed login is somebody else."""
    await _put(admin, "stranger")
    github.people.rename("stranger", "stranger-renamed")
    heir = github.people.add_person("stranger")
    renamed, other = await service.open_browser(), await service.open_browser()
    await renamed.sign_in("stranger-renamed")
    await other.sign_in("stranger")

    seen = await admin.get(f"/admin/sponsors/{heir.database_id}")

    assert (await _entitlement_of(renamed))["source"] == "override"
    assert (await _entitlement_of(other))["status"] == "not_entitled"
    assert seen.json()["entitlement"]["status"] == "not_entitled"


@pytest.mark.parametrize("who", ["0", "007", "1234567890123456", "9" * 30])
async def test_digits_that_are_no_number_of_githubs_are_a_login(admin: Browser, who: str) -> None:
    """The override must not go to whoever has the number that Python makes of it."""
    answer = await _put(admin, who)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["detail"] == f"GitHub knows no account {who}."
    assert (await _list(admin)) == {}


@pytest.mark.parametrize(
    "who", ["-1", "a b", "a.b", "-ab", "ab%2Fcd", "ab%0A", "%D9%A1", "1%D9%A2", "x" * 101]
)
async def test_what_is_neither_a_number_nor_a_login_is_refused(
    admin: Browser, github: SimulatedGitHub, who: str
) -> None:
    """In a sentence, and without asking GitHub, which would be asked for another address."""
    answers = [await _put(admin, who), await _delete(admin, who)]

    assert {answer.status_code for answer in answers} <= {404, 422}
    assert github.requests.all() == []
    assert all("^" not in answer.json()["detail"] for answer in answers)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"until": "2001-01-01T00:00:00Z"}, "until: should be a moment that is still to come"),
        ({"until": "2999-01-01T00:00:00"}, "until: "),
        ({"until": "2999-01-01"}, "until: "),
        ({"until": "tomorrow"}, "until: "),
        ({"until": "9999-12-31T23:59:59-14:00"}, "until: "),
        ({"until": "0001-01-01T00:00:00+14:00"}, "until: "),
        ({"until": True}, "until: "),
        ({"reason": ""}, "reason: "),
        ({"reason": " \t"}, "reason: "),
        ({"reason": None}, "reason: "),
        ({"reason": "x" * 501}, "reason: "),
        ({"reason": "\ud800"}, "reason: "),
        ({"actor": ""}, "actor: "),
        ({"actor": "  "}, "actor: "),
        ({"actor": None}, "actor: "),
        ({"actor": "x" * 101}, "actor: "),
        ({"cents": -1}, "cents: "),
        ({"cents": 100_000_001}, "cents: "),
        ({"cents": 10.5}, "cents: "),
        ({"cents": "much"}, "cents: "),
        ({"cents": True}, "cents: "),
        ({"expires": "2999-01-01T00:00:00Z"}, "expires: "),
    ],
)
async def test_what_cannot_be_used_is_named_and_nothing_is_stored(
    admin: Browser, local: Redis, wrong: dict[str, object], said: str
) -> None:
    """One sentence, which begins with the field."""
    answer = await _put(admin, STRANGER, **wrong)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["detail"].startswith(said)
    assert await local.keys(keys.sponsorship("*", STRANGER)) == []
    assert await local.xlen(keys.AUDIT) == 0


@pytest.mark.parametrize("body", ["", "nonsense", "[]", '"text"', "null", '{"reason": "x"'])
async def test_what_is_no_object_of_json_is_named_too(admin: Browser, body: str) -> None:
    """Quotes that a shell took away are a common mistake."""
    answer = await admin.put(
        f"/admin/overrides/{STRANGER}", content=body, headers={"Content-Type": "application/json"}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert answer.json()["detail"].startswith("the body: ")


@pytest.mark.parametrize("missing", ["reason", "actor"])
async def test_a_decision_has_somebody_who_decides_and_a_reason(
    admin: Browser, missing: str
) -> None:
    """Both are what the audit trail is for."""
    body = {name: value for name, value in GIVEN.items() if name != missing}

    answer = await admin.put(f"/admin/overrides/{STRANGER}", json=body)

    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"{missing}: ")


@pytest.mark.parametrize("params", [{}, {"actor": ""}, {"actor": " "}])
async def test_to_take_back_is_a_decision_too(admin: Browser, params: dict[str, str]) -> None:
    """Nobody is not somebody."""
    await _put(admin, STRANGER)

    answer = await admin.delete(f"/admin/overrides/{STRANGER}", params=params)

    assert answer.status_code == 422
    assert "actor: " in answer.json()["detail"]
    assert STRANGER in await _list(admin)


async def test_another_sponsorable_than_those_configured_is_404(
    admin: Browser, local: Redis
) -> None:
    """On every route that takes one."""
    wrong = {"sponsorable": "somebody-else", "actor": "an-operator"}

    answers = [
        await admin.put(f"/admin/overrides/{STRANGER}", json=GIVEN, params=wrong),
        await admin.delete(f"/admin/overrides/{STRANGER}", params=wrong),
        await admin.get("/admin/sponsors", params=wrong),
        await admin.get(f"/admin/sponsors/{STRANGER}", params=wrong),
    ]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert {answer.json()["detail"] for answer in answers} == {
        "That sponsorable is not one of SPONSORSYNC_SPONSORABLES."
    }
    assert await local.keys(keys.sponsorship("*", STRANGER)) == []


async def test_giving_again_replaces_and_keeps_its_beginning(admin: Browser, clock: Clock) -> None:
    """There is one at a time; `since` is when it began to entitle without a break."""
    until_then = (clock.now + timedelta(days=9)).replace(microsecond=0)
    first = (await _put(admin, STRANGER, cents=500)).json()["entitlement"]
    clock.advance(days=2)
    again = await _put(admin, STRANGER, reason="For the docs", until=until_then.isoformat())
    seen = (await admin.get(f"/admin/sponsors/{STRANGER}")).json()

    assert again.json()["entitlement"] == seen["entitlement"]
    assert (seen["entitlement"]["since"], seen["entitlement"]["tier_cents"]) == (
        first["since"],
        None,
    )
    assert [each["note"] for each in seen["considered"] if each["source"] == "override"] == [
        "an-operator: For the docs"
    ]


async def test_after_a_break_it_begins_anew(admin: Browser, clock: Clock) -> None:
    """What had ended is not what is given now."""
    ends = clock.now + timedelta(hours=1)
    first = (await _put(admin, STRANGER, until=ends.isoformat())).json()["entitlement"]
    clock.advance(hours=2)
    second = (await _put(admin, STRANGER)).json()["entitlement"]

    assert first["since"] < second["since"]


async def test_two_at_once_leave_one_of_the_two_whole(admin: Browser, local: Redis) -> None:
    """And both are in the audit trail."""
    answers = await asyncio.gather(
        *(_put(admin, STRANGER, reason=f"Reason {n}", cents=n) for n in (1, 2))
    )

    [grant] = [
        each
        for each in (await admin.get(f"/admin/sponsors/{STRANGER}")).json()["considered"]
        if each["source"] == "override"
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert grant["note"] == f"an-operator: Reason {grant['tier_cents']}"
    assert await local.xlen(keys.AUDIT) == 2


async def test_what_only_a_silent_durable_side_knows_is_not_written_over(
    run_service: RunService, local: Redis
) -> None:
    """503: the person may have a sponsorship there."""
    async with run_service(durable_url=UNREACHABLE, admin_token=SecretStr(TOKEN)) as service:
        client = await service.open_browser()
        client.headers.update(BEARER)
        given, taken = await _put(client, STRANGER), await _delete(client, STRANGER)
        stored = await local.keys(keys.sponsorship("*", STRANGER))
        trail = await local.xlen(keys.AUDIT)
        unknown = (await client.get(f"/admin/sponsors/{STRANGER}")).json()["entitlement"]

    assert [(a.status_code, a.json()["code"]) for a in (given, taken)] == [
        (503, "store_unavailable")
    ] * 2
    assert int(given.headers["retry-after"]) > 0
    assert (stored, trail) == ([], 0)
    assert unknown["status"] == "unknown"


async def test_what_is_known_in_part_is_not_taken_for_all(run_service: RunService) -> None:
    """Somebody signed in while durable was away: it may have an override, so there is no 404."""
    async with run_service(durable_url=UNREACHABLE, admin_token=SecretStr(TOKEN)) as service:
        client, browser = await service.open_browser(), await service.open_browser()
        client.headers.update(BEARER)
        await browser.sign_in("stranger")
        answers = [await _put(client, STRANGER), await _delete(client, STRANGER)]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(503, "store_unavailable")] * 2


async def test_who_is_known_here_is_entitled_while_durable_is_away(
    run_service: RunService, durable_server: EmbeddedValkey, durable: Redis
) -> None:
    """It travels when durable is back."""
    assert durable is not None
    async with run_service(durable_url=SecretStr(durable_server.url)) as service:
        browser = await service.open_browser()
        await browser.sign_in("stranger")
    async with run_service(durable_url=UNREACHABLE, admin_token=SecretStr(TOKEN)) as service:
        client = await service.open_browser()
        client.headers.update(BEARER)
        given, taken = await _put(client, STRANGER), await _delete(client, STRANGER)

    assert [answer.status_code for answer in (given, taken)] == [200, 200]


# ---------------------------------------------------------------------- lasting, and ending


async def test_it_outlasts_whatever_github_says(
    service: Service, admin: Browser, github: SimulatedGitHub
) -> None:
    """A login, a webhook and a comparison that all say 'no sponsorship'."""
    await _put(admin, FORMER, cents=700)
    browser = await service.open_browser()
    await browser.sign_in("former")
    after_login = await _entitlement_of(browser)
    hook = Hook(
        url=f"{ORIGIN}/webhooks/github",
        secret=SECRET,
        base_url=GITHUB_URL,
        transport=httpx.ASGITransport(service.app),
    )
    [sponsorship] = github.people.sponsorships_of(github.people.get("former"))
    await hook.send(hook.tell("cancelled", sponsorship))
    after_webhook = await _entitlement_of(browser)
    await _reconcile(admin)
    after_reconcile = await _entitlement_of(browser)
    await browser.post("/me/refresh")
    after_refresh = await _entitlement_of(browser)

    seen = [after_login, after_webhook, after_reconcile, after_refresh]
    assert [(entitlement["source"], entitlement["tier_cents"]) for entitlement in seen] == [
        ("override", 700)
    ] * 4


async def test_its_end_closes_forward_auth_in_that_second(
    service: Service, admin: Browser, clock: Clock
) -> None:
    """Nothing has to run for that; why not is said."""
    clock.now = clock.now.replace(microsecond=0)
    browser = await service.open_browser()
    await browser.sign_in("stranger")
    await _put(admin, STRANGER, until=(clock.now + timedelta(hours=1)).isoformat())
    clock.advance(minutes=59, seconds=59)
    before = await browser.get("/auth/sponsor")
    clock.advance(seconds=1)
    after = await browser.get("/auth/sponsor")

    assert (before.status_code, after.status_code) == (204, 403)
    assert after.json()["detail"].startswith("The access that an administrator gave you ended by ")


async def test_taking_it_back_closes_forward_auth_at_once(service: Service, admin: Browser) -> None:
    """What is left is told; a second time there is nothing to take."""
    browser = await service.open_browser()
    await browser.sign_in("monthly")
    await _put(admin, STRANGER)
    await _put(admin, MONTHLY, cents=9000)
    await browser.sign_in("stranger")
    before = await browser.get("/auth/sponsor")
    taken = await _delete(admin, "stranger")
    after = await browser.get("/auth/sponsor")
    again = await _delete(admin, STRANGER)
    left = await _delete(admin, MONTHLY)

    assert (before.status_code, after.status_code) == (204, 403)
    assert (taken.status_code, taken.json()["entitlement"]["status"]) == (200, "not_entitled")
    assert (again.status_code, again.json()["code"]) == (404, "not_found")
    assert str(STRANGER) in again.json()["detail"]
    assert (left.json()["entitlement"]["source"], left.json()["entitlement"]["tier_cents"]) == (
        "sponsorship",
        1000,
    )


async def test_a_token_does_not_outlive_it(run_service: RunService, clock: Clock) -> None:
    """The token of an override that ends in a minute ends in a minute."""
    async with run_service(
        admin_token=SecretStr(TOKEN), token_audience="https://app.example.org"
    ) as service:
        client, browser = await service.open_browser(), await service.open_browser()
        client.headers.update(BEARER)
        await browser.sign_in("stranger")
        await _put(client, STRANGER, until=(clock.now + timedelta(seconds=61)).isoformat())
        token = (await browser.post("/token")).json()

    assert token["expires_in"] <= 61


async def test_a_deleted_account_takes_it_along(service: Service, admin: Browser) -> None:
    """And nobody finds it at the next login."""
    browser = await service.open_browser()
    await browser.sign_in("stranger")
    await _put(admin, STRANGER)
    await browser.delete("/me")
    await browser.sign_in("stranger")

    assert (await _entitlement_of(browser))["status"] == "not_entitled"
    assert (await _delete(admin, STRANGER)).status_code == 404


# ---------------------------------------------------------------------- the list


async def test_the_list_tells_by_what_each_is_entitled(service: Service, admin: Browser) -> None:
    """Publicly, privately, once, through an organization, by hand; also who never signed in."""
    browser = await service.open_browser()
    await browser.sign_in("monthly")
    await _reconcile(admin)
    await browser.sign_in("org-member")
    await _put(admin, STRANGER)
    await _put(admin, MONTHLY, cents=100)
    listed = await _list(admin)

    told = {
        number: (
            each["user_login"],
            each["entitlement"]["source"],
            each["entitlement"]["tier_cents"],
        )
        for number, each in listed.items()
    }
    assert {number: told[number] for number in told if number != 55_618_204} == {
        MONTHLY: ("monthly", "sponsorship", 1000),
        PRIVATE: (None, "sponsorship", 500),
        ONE_TIME: (None, "sponsorship", 2500),
        ORGANIZATION: (None, "sponsorship", 10_000),
        MEMBER: ("org-member", "organization", 10_000),
        STRANGER: (None, "override", None),
    }
    assert listed[ONE_TIME]["entitlement"]["until"] is not None
    assert listed[PRIVATE]["entitlement"]["privacy"] == "private"
    assert [(each["source"], each["note"]) for each in listed[MONTHLY]["considered"]][:2] == [
        ("sponsorship", None),
        ("override", "an-operator: Wrote the translation"),
    ]


async def test_a_foreign_key_of_one_person_hides_nobody_else_from_the_list(
    service: Service, admin: Browser, local: Redis
) -> None:
    """Theirs is not known; a login that cannot be read is none."""
    browser = await service.open_browser()
    await browser.sign_in("monthly")
    await _put(admin, STRANGER)
    await _put(admin, MEMBER)
    for key in (keys.sponsorship(SPONSORABLE, STRANGER), keys.user_details(MEMBER)):
        await local.delete(key)
        await local.set(key, "somebody else's")
    listed = await _list(admin)

    assert (listed[MONTHLY]["user_login"], listed[MEMBER]["user_login"]) == ("monthly", None)
    assert {number: entry["entitlement"]["status"] for number, entry in listed.items()} == {
        MONTHLY: "entitled",
        MEMBER: "entitled",
        STRANGER: "unknown",
    }


@pytest.mark.parametrize("part", ["entitlement", "profile", "meta"])
async def test_the_log_names_the_foreign_key_that_an_answer_met(
    service: Service, local: Redis, part: str
) -> None:
    """As the answer promises."""
    browser = await service.open_browser()
    await browser.sign_in("monthly")
    key = {
        "entitlement": keys.sponsorship(SPONSORABLE, MONTHLY),
        "profile": keys.user_details(MONTHLY),
        "meta": keys.meta(MONTHLY),
    }[part]
    await local.delete(key)
    await local.set(key, "somebody else's")
    with capture_logs() as logs:
        answers = [await browser.get(path) for path in ("/me", "/auth/sponsor")]
    causes = [log["cause"] for log in logs if log["event"] == "request_failed"]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert [f" {key} " in cause for cause in causes] == [True, True]


async def test_who_decided_and_why_is_for_administrators_alone(
    service: Service, admin: Browser
) -> None:
    """The person learns that they were let in, and until when."""
    browser = await service.open_browser()
    await browser.sign_in("stranger")
    await _put(admin, STRANGER, reason="A very private reason", actor="a-private-actor")

    seen = [
        (await browser.get("/me")).text,
        (await browser.get("/account")).text,
        (await browser.post("/me/refresh")).text,
        str((await browser.get("/auth/sponsor")).headers),
    ]
    shown = (await admin.get(f"/admin/sponsors/{STRANGER}")).text

    assert all("administrator gave you" in text for text in seen[:3])
    assert not any("private reason" in text or "private-actor" in text for text in seen)
    assert "a-private-actor: A very private reason" in shown


async def test_over_all_pages_everybody_comes_at_least_once(admin: Browser, local: Redis) -> None:
    """More than a thousand, while others come and go."""
    people = range(1_000_000, 1_001_500)
    async with local.pipeline() as pipeline:
        for person_id in people:
            _ = pipeline.sadd(keys.sponsors(SPONSORABLE), person_id)
            _ = pipeline.hset(
                keys.sponsorship(SPONSORABLE, person_id),
                mapping={"source": "sponsorship", "checked_at": "1", "tier_cents": "100"},
            )
            _ = pipeline.hset(
                keys.meta(person_id),
                mapping={f"v:entitlement:{SPONSORABLE}": "1", f"p:entitlement:{SPONSORABLE}": "1"},
            )
        await pipeline.execute()
    seen: dict[int, str] = {}
    cursor, pages = 0, 0
    while cursor is not None:
        page = (await admin.get("/admin/sponsors", params={"cursor": cursor, "limit": 100})).json()
        seen |= {each["id"]: each["entitlement"]["status"] for each in page["sponsors"]}
        cursor, pages = page["next_cursor"], pages + 1

    assert seen == dict.fromkeys(people, "entitled")
    assert pages > 5


@pytest.mark.parametrize(
    "query", ["cursor=-1", "cursor=x", f"cursor={10**30}", "limit=0", "limit=1001"]
)
async def test_a_page_that_cannot_be_is_422(admin: Browser, query: str) -> None:
    """In a sentence that names the parameter."""
    answer = await admin.get(f"/admin/sponsors?{query}")

    assert answer.status_code == 422
    assert query.partition("=")[0] in answer.json()["detail"]


async def test_somebody_whose_entitlement_has_just_ended_is_told_so(
    service: Service, admin: Browser, clock: Clock, local: Redis
) -> None:
    """They stand in the index until it is swept: `status` is what counts."""
    browser = await service.open_browser()
    await browser.sign_in("stranger")
    await _put(admin, STRANGER, until=(clock.now + timedelta(hours=1)).isoformat())
    clock.advance(hours=2)
    listed = await _list(admin)

    assert await local.sismember(keys.sponsors(SPONSORABLE), str(STRANGER))
    assert listed[STRANGER]["entitlement"]["status"] == "not_entitled"
    assert listed[STRANGER]["entitlement"]["source"] == "none"


async def test_of_anybody_it_is_told_why_not(service: Service, admin: Browser) -> None:
    """Who stopped, who was never asked about, and a number that nobody has."""
    browser = await service.open_browser()
    await browser.sign_in("former")

    former, nobody = [
        (await admin.get(f"/admin/sponsors/{number}")).json() for number in (FORMER, 1)
    ]
    refused = await admin.get("/admin/sponsors/nobody")

    assert (former["user_login"], former["entitlement"]["status"]) == ("former", "not_entitled")
    assert former["entitlement"]["reason"].startswith("Your sponsorship of maintainer with $10.00")
    assert (nobody["user_login"], nobody["entitlement"]["status"]) == (None, "unknown")
    assert refused.status_code == 422


# ---------------------------------------------------------------------- sessions


async def test_all_sessions_of_one_person_end_at_once(service: Service, admin: Browser) -> None:
    """Nobody else's; the number of them is told; signing in again is possible."""
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
    """A server that is short of memory may evict whatever has a TTL: the doctor permits that."""
    browser, other = await service.open_browser(), await service.open_browser()
    await browser.sign_in("monthly")
    await local.expire(keys.sessions(MONTHLY), 1000)  # as an earlier release has left it
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


async def test_signing_out_of_the_last_session_leaves_nothing(
    service: Service, local: Redis
) -> None:
    """Not even an index of none."""
    browser = await service.open_browser()
    await browser.sign_in("monthly")
    await browser.post("/logout")

    assert await local.keys("sponsorsync:session*") == []


async def test_a_token_outlives_the_sessions_and_can_do_no_more(run_service: RunService) -> None:
    """For its minutes, as `POST /token` says; what changes something takes a session."""
    async with run_service(
        admin_token=SecretStr(TOKEN), token_audience="https://app.example.org"
    ) as service:
        client, browser = await service.open_browser(), await service.open_browser()
        await browser.sign_in("monthly")
        bearer = (await browser.post("/token")).json()["access_token"]
        await client.post(f"/admin/sponsors/{MONTHLY}/revoke-sessions", headers=BEARER)
        browser.cookies.clear()
        browser.headers["Authorization"] = f"Bearer {bearer}"
        read, renewed = await browser.get("/auth/sponsor"), await browser.post("/token")

    assert (read.status_code, renewed.status_code) == (204, 403)


async def test_a_session_that_another_login_replaced_is_not_counted(
    service: Service, admin: Browser
) -> None:
    """The same browser signs in as one person and then as another: the first session is over."""
    browser = await service.open_browser()
    await browser.sign_in("monthly")
    await browser.sign_in("private")

    answers = [
        (await admin.post(f"/admin/sponsors/{number}/revoke-sessions")).json()["sessions"]
        for number in (MONTHLY, PRIVATE, STRANGER)
    ]

    assert answers == [0, 1, 0]
