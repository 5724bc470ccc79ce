"""Linking an account at Patreon: the whole way, answers that fail, and secrets."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from sponsorsync.store import keys
from tests.conftest import ORIGIN, PATREON_SETTINGS, PATREON_URL, SPONSORABLE
from tests.support.contents import read_everything
from tests.support.patronages import HTML, LINKED_ACCOUNTS, STRANGER, entitlement_of, patronage_of
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

    from sponsorsync.sandbox.patreon import SimulatedPatreon
    from sponsorsync.sandbox.patrons import Patron
    from tests.conftest import Browser, Clock, RunService, Service


# ---------------------------------------------------------------------- the whole way


@pytest.mark.parametrize(
    ("role", "status", "cents", "days"),
    [
        ("active", "entitled", 1000, 20),
        ("annual", "entitled", 1000, 65),
        ("trial", "entitled", 1000, 7),
        ("gifted", "entitled", 1000, 31),
        ("declined", "not_entitled", 0, 0),
        ("former", "not_entitled", 0, 0),
    ],
)
async def test_what_somebody_gives_is_learnt(
    stranger: Browser, clock: Clock, role: str, status: str, cents: int, days: int
) -> None:
    """Also that it is over, and since when."""
    done = await stranger.link_patreon(role)
    patronage = await patronage_of(stranger)
    page = await stranger.get("/account")

    assert (done.status_code, done.headers["location"]) == (303, "/account")
    assert patronage is not None
    assert (patronage["status"], patronage["tier_cents"]) == (status, cents)
    assert abs(datetime.fromisoformat(patronage["until"]) - clock.now - timedelta(days=days)) < (
        timedelta(seconds=2)
    )
    assert (await entitlement_of(stranger))["status"] == status
    assert patronage["reason"] in page.text
    assert "Unlink Patreon" in page.text


@pytest.mark.parametrize("role", ["free", "stranger"])
async def test_who_gives_nothing_is_told_so(stranger: Browser, role: str) -> None:
    """Nothing is stored; without a word the page would look as if nothing had happened."""
    before = await entitlement_of(stranger)
    done = await stranger.link_patreon(role)
    page = await stranger.get(done.headers["location"])

    assert done.status_code == 303
    assert await entitlement_of(stranger) == before
    assert "Patreon shows no support of maintainer by your account there." in page.text
    assert "Unlink Patreon" not in page.text


async def test_who_does_not_allow_it_is_told_so(stranger: Browser) -> None:
    """403, with the way to try again; the attempt is over."""
    back = await stranger.go_to_patreon("denier")
    page = await stranger.get(back, headers=HTML)
    again = await stranger.get(back)

    assert (page.status_code, 'href="/patreon/link"' in page.text) == (403, True)
    assert "so nothing was linked" in page.text
    assert (again.status_code, again.json()["code"]) == (400, "link_expired")
    assert await patronage_of(stranger) is None


async def test_an_answer_that_says_both_is_no_consent(stranger: Browser) -> None:
    """A code beside an error is not used."""
    back = await stranger.go_to_patreon("active")

    answer = await stranger.get(f"{back}&error=access_denied")

    assert (answer.status_code, answer.json()["code"]) == (403, "link_denied")
    assert await patronage_of(stranger) is None


async def test_patreon_is_asked_for_as_little_as_possible(stranger: Browser) -> None:
    """One scope, and a state that belongs to this browser; the cookie tells nothing to scripts."""
    to_patreon = await stranger.get("/patreon/link")
    query = parse_qs(urlsplit(to_patreon.headers["location"]).query)
    cookie = to_patreon.headers["set-cookie"]

    assert to_patreon.headers["location"].startswith(f"{PATREON_URL}/oauth2/authorize?")
    assert (query["scope"], query["redirect_uri"]) == (
        ["identity"],
        [f"{ORIGIN}/patreon/callback"],
    )
    assert len(query["state"][0]) >= 30
    assert query["state"][0] not in cookie
    assert "HttpOnly" in cookie


async def test_forward_auth_lets_a_patron_through_by_the_tier(stranger: Browser) -> None:
    """Like a sponsor of the same."""
    before = await stranger.get("/auth/sponsor")
    await stranger.link_patreon("active")
    answers = [
        await stranger.get("/auth/sponsor", params={"min_cents": cents})
        for cents in (0, 1000, 1001, 2000)
    ]

    assert before.status_code == 403
    assert [answer.status_code for answer in answers] == [204, 204, 403, 403]
    assert answers[3].json()["code"] == "tier_too_low"
    assert answers[1].headers["x-sponsor-cents"] == "1000"


async def test_what_goes_to_somebody_else_does_not_count(
    stranger: Browser, patreon: SimulatedPatreon
) -> None:
    """Even if Patreon tells of it: only the campaign of the settings does."""
    patreon.patrons["active"].memberships.pop(0)
    patreon.patrons["active"].memberships[0].campaign_id = "7777777"
    patreon.campaign_id = "7777777"  # whose client it is; the service knows another number
    await stranger.link_patreon("active")

    assert await patronage_of(stranger) is None


async def test_the_better_of_both_sources_counts(service: Service) -> None:
    """And both are shown."""
    browser = await service.sign_in("private")
    await browser.link_patreon("active")
    entitlement = await entitlement_of(browser)

    assert (entitlement["source"], entitlement["tier_cents"]) == ("patreon", 1000)
    assert [(each["source"], each["tier_cents"]) for each in entitlement["considered"]] == [
        ("sponsorship", 500),
        ("patreon", 1000),
    ]


async def test_when_the_month_is_over_it_has_to_be_linked_again(
    stranger: Browser, patreon: SimulatedPatreon, clock: Clock
) -> None:
    """Patreon is not asked later; the sentence says what to do, and doing it helps."""
    await stranger.link_patreon("active")
    clock.advance(days=20, seconds=1)
    await stranger.sign_in("stranger")  # the session is over, too
    ended, door = await entitlement_of(stranger), await stranger.get("/auth/sponsor")
    patreon.patrons["active"].memberships[0].next_charge_date = clock.now + timedelta(days=30)
    await stranger.link_patreon("active")
    again = await entitlement_of(stranger)

    assert (ended["status"], door.status_code) == ("not_entitled", 403)
    assert ended["reason"].startswith("Your support of maintainer on Patreon was last seen for")
    assert ended["reason"].endswith("Link Patreon again if it goes on.")
    assert again["status"] == "entitled"


async def test_a_login_keeps_what_patreon_told(stranger: Browser) -> None:
    """GitHub's 'no' is about GitHub."""
    await stranger.link_patreon("active")
    await stranger.sign_in("stranger")

    assert (await entitlement_of(stranger))["source"] == "patreon"


async def test_it_outlives_the_local_redis(
    service: Service, stranger: Browser, local: Redis, durable: Redis
) -> None:
    """It travels like the rest of the entitlement; who the patron is, too."""
    await stranger.link_patreon("active")

    async def is_durable() -> bool:
        return "account_id" in str(
            await durable.hget(keys.sponsorship(SPONSORABLE, STRANGER), "also")
        )

    await until(is_durable)
    await local.delete(keys.sponsorship(SPONSORABLE, STRANGER), LINKED_ACCOUNTS)
    entitlement = await entitlement_of(stranger)
    other = await service.sign_in("former")
    await other.link_patreon("active")

    assert entitlement["source"] == "patreon"
    assert await patronage_of(stranger) is None


# ---------------------------------------------------------------------- no answer


@pytest.mark.parametrize(
    ("switches", "status", "code"),
    [
        ({"down": True}, 502, "link_unavailable"),
        ({"malformed": True}, 502, "link_unavailable"),
        ({"unauthorized": True}, 502, "link_unavailable"),
        ({"rate_limited": True}, 503, "link_limited"),
    ],
    ids=str,
)
async def test_without_an_answer_all_stays_as_it_was(
    stranger: Browser,
    patreon: SimulatedPatreon,
    local: Redis,
    switches: dict[str, object],
    status: int,
    code: str,
) -> None:
    """Unknown is not no: the former grant stays, and the page shows the way on."""
    await stranger.link_patreon("active")
    before = await entitlement_of(stranger), await local.xlen(keys.AUDIT)
    backs = [await stranger.go_to_patreon("former") for _ in range(2)]
    vars(patreon.switches).update(switches)
    answer, page = (
        await stranger.get(backs[0]),
        await stranger.get(backs[1], headers=HTML),
    )
    again = await stranger.get(backs[0])

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (answer.headers.get("retry-after") == "9") == (status == 503)
    assert (page.status_code, 'href="/patreon/link"' in page.text) == (status, True)
    assert again.status_code == 400
    assert (await entitlement_of(stranger), await local.xlen(keys.AUDIT)) == before


async def test_a_wrong_secret_is_the_operators_affair(
    run_service: RunService, durable: Redis
) -> None:
    """The answer names both settings, and no secret."""
    assert durable is not None
    wrong = {**PATREON_SETTINGS, "patreon_secret": SecretStr("a-wrong-secret-of-the-client")}
    async with run_service(**wrong) as service:
        browser = await service.sign_in("stranger")
        answer = await browser.link_patreon("active")

    assert (answer.status_code, answer.json()["code"]) == (502, "link_unavailable")
    assert "SPONSORSYNC_PATREON_SECRET" in answer.json()["detail"]
    assert "a-wrong-secret" not in answer.text


@pytest.mark.parametrize("lost", [True, False], ids=["unknown", "known in part"])
async def test_a_link_does_not_write_over_what_only_a_silent_durable_side_knows(
    run_service: RunService, local: Redis, lost: bool
) -> None:
    """It may have an organization, an override, or another account of Patreon's, linked before."""
    async with run_service(
        durable_url=SecretStr("redis://127.0.0.1:1/0"), **PATREON_SETTINGS
    ) as service:
        browser = await service.sign_in("stranger")
        await local.delete(*[keys.sponsorship(SPONSORABLE, STRANGER)] * lost, "no such key")
        before = await local.hgetall(keys.sponsorship(SPONSORABLE, STRANGER))
        answers = [await browser.link_patreon("active"), await browser.post("/patreon/unlink")]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(503, "store_unavailable")] * 2
    assert await local.hgetall(keys.sponsorship(SPONSORABLE, STRANGER)) == before


# ---------------------------------------------------------------------- secrets


async def test_no_token_of_patreons_is_kept_or_told(
    stranger: Browser,
    patreon: SimulatedPatreon,
    local: Redis,
    durable: Redis,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In no key of either Redis, no cookie, no line of the log and no answer."""
    issued: list[str] = []
    issue = patreon._issue

    def note(patron: Patron, scopes: Iterable[str]) -> str:
        issued.append(issue(patron, scopes))
        return issued[-1]

    monkeypatch.setattr(patreon, "_issue", note)
    done = await stranger.link_patreon("active")

    async def is_durable() -> bool:
        return bool(await durable.sismember(keys.sponsors(SPONSORABLE), str(STRANGER)))

    await until(is_durable)
    patreon.switches.unauthorized = True
    failed = await stranger.link_patreon("active")
    stored = [await read_everything(each) for each in (local, durable)]
    logged = capsys.readouterr()

    texts = [*stored, logged.out, logged.err, repr(dict(stranger.cookies))]
    texts += [answer.text + str(answer.headers) for answer in (done, failed)]
    secrets = [*issued, "the-secret-of-the-patreon-client"]
    assert len(issued) == 2
    assert all("90210010" in text for text in stored)
    assert "account_linked" in logged.out
    assert not [secret for secret in secrets for text in texts if secret in text]
