"""Linking an account of Patreon's, by the simulated one: the whole way, and each way to fail."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from sponsorsync.patreon.client import PatreonClient
from sponsorsync.store import keys
from sponsorsync.store.linked_accounts import LinkedAccountStore
from tests.conftest import ORIGIN, PATREON_SETTINGS, PATREON_URL, SPONSORABLE
from tests.support.contents import read_everything
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from redis.asyncio import Redis

    from sponsorsync.domain.patronage import PatreonIdentity
    from sponsorsync.domain.sources import CoverSource
    from sponsorsync.sandbox.github import SimulatedGitHub
    from sponsorsync.sandbox.patreon import SimulatedPatreon
    from sponsorsync.sandbox.patrons import Patron
    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from tests.conftest import Browser, Clock, RunService, Service

STRANGER, MONTHLY = 112_493_071, 48_210_377
HTML = {"accept": "text/html"}


@pytest.fixture
async def service(
    run_service: RunService, durable_server: EmbeddedValkey, durable: Redis
) -> AsyncIterator[Service]:
    """A service with Patreon, and with two sides."""
    assert durable is not None  # it is empty now
    async with run_service(
        durable_url=SecretStr(durable_server.url), **PATREON_SETTINGS
    ) as running:
        yield running


@pytest.fixture
async def stranger(service: Service) -> Browser:
    """A browser of somebody who sponsors nobody at GitHub."""
    browser = await service.open_browser()
    await browser.sign_in("stranger")
    return browser


async def _cover_of(browser: Browser) -> dict[str, Any]:
    [cover] = (await browser.get("/me")).json()["covers"]
    return dict(cover)


async def _patronage_of(browser: Browser) -> dict[str, Any] | None:
    cover = await _cover_of(browser)
    found = [each for each in cover["considered"] if each["source"] == "patreon"]
    return found[0] if found else None


# ---------------------------------------------------------------------- the whole way


@pytest.mark.parametrize(
    ("role", "status", "cents", "days"),
    [
        ("active", "covered", 1000, 20),
        ("annual", "covered", 1000, 65),
        ("trial", "covered", 1000, 7),
        ("gifted", "covered", 1000, 31),
        ("declined", "not_covered", 0, 0),
        ("former", "not_covered", 0, 0),
    ],
)
async def test_what_somebody_gives_is_learnt(
    stranger: Browser, clock: Clock, role: str, status: str, cents: int, days: int
) -> None:
    """Also that it is over, and since when."""
    done = await stranger.link_patreon(role)
    patronage = await _patronage_of(stranger)
    page = await stranger.get("/account")

    assert (done.status_code, done.headers["location"]) == (303, "/account")
    assert patronage is not None
    assert (patronage["status"], patronage["tier_cents"]) == (status, cents)
    assert abs(datetime.fromisoformat(patronage["until"]) - clock.now - timedelta(days=days)) < (
        timedelta(seconds=2)
    )
    assert (await _cover_of(stranger))["status"] == status
    assert patronage["reason"] in page.text
    assert "Unlink Patreon" in page.text


@pytest.mark.parametrize("role", ["free", "stranger"])
async def test_who_gives_nothing_is_told_so(stranger: Browser, role: str) -> None:
    """Nothing is stored; without a word the page would look as if nothing had happened."""
    before = await _cover_of(stranger)
    done = await stranger.link_patreon(role)
    page = await stranger.get(done.headers["location"])

    assert done.status_code == 303
    assert await _cover_of(stranger) == before
    assert "Patreon shows no support of maintainer by your account there." in page.text
    assert "Unlink Patreon" not in page.text


async def test_who_does_not_allow_it_is_told_so(stranger: Browser) -> None:
    """403, with the way to try again; the attempt is over."""
    back = await stranger.go_to_patreon("denier")
    page = await stranger.get(back, headers=HTML)
    again = await stranger.get(back)

    assert (page.status_code, 'href="/patreon/link"' in page.text) == (403, True)
    assert "so nothing was linked" in page.text
    assert (again.status_code, again.json()["code"]) == (400, "patreon_expired")
    assert await _patronage_of(stranger) is None


async def test_an_answer_that_says_both_is_no_consent(stranger: Browser) -> None:
    """A code beside an error is not used."""
    back = await stranger.go_to_patreon("active")

    answer = await stranger.get(f"{back}&error=access_denied")

    assert (answer.status_code, answer.json()["code"]) == (403, "patreon_denied")
    assert await _patronage_of(stranger) is None


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

    assert await _patronage_of(stranger) is None


async def test_the_better_of_both_sources_counts(service: Service) -> None:
    """And both are shown."""
    browser = await service.open_browser()
    await browser.sign_in("private")
    await browser.link_patreon("active")
    cover = await _cover_of(browser)

    assert (cover["source"], cover["tier_cents"]) == ("patreon", 1000)
    assert [(each["source"], each["tier_cents"]) for each in cover["considered"]] == [
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
    ended, door = await _cover_of(stranger), await stranger.get("/auth/sponsor")
    patreon.patrons["active"].memberships[0].next_charge_date = clock.now + timedelta(days=30)
    await stranger.link_patreon("active")
    again = await _cover_of(stranger)

    assert (ended["status"], door.status_code) == ("not_covered", 403)
    assert ended["reason"].startswith("Your support of maintainer on Patreon was last seen for")
    assert ended["reason"].endswith("Link Patreon again if it goes on.")
    assert again["status"] == "covered"


async def test_a_login_keeps_what_patreon_told(stranger: Browser) -> None:
    """GitHub's 'no' is about GitHub."""
    await stranger.link_patreon("active")
    await stranger.sign_in("stranger")

    assert (await _cover_of(stranger))["source"] == "patreon"


async def test_it_outlives_the_local_redis(
    service: Service, stranger: Browser, local: Redis, durable: Redis
) -> None:
    """It travels like the rest of the cover; who the patron is, too."""
    await stranger.link_patreon("active")

    async def is_durable() -> bool:
        return "patron_id" in str(
            await durable.hget(keys.sponsorship(SPONSORABLE, STRANGER), "also")
        )

    await until(is_durable)
    await local.delete(keys.sponsorship(SPONSORABLE, STRANGER), keys.patrons(SPONSORABLE))
    cover = await _cover_of(stranger)
    other = await service.open_browser()
    await other.sign_in("former")
    await other.link_patreon("active")

    assert cover["source"] == "patreon"
    assert await _patronage_of(stranger) is None


# ---------------------------------------------------------------------- whose state it is


async def test_a_callback_of_another_browser_is_refused(service: Service) -> None:
    """Else somebody could give a victim's account their own patronage, or take the victim's."""
    attacker, victim = await service.open_browser(), await service.open_browser()
    await attacker.sign_in("former")
    await victim.sign_in("stranger")

    stolen = await victim.get(await attacker.go_to_patreon("active"))

    assert (stolen.status_code, stolen.json()["code"]) == (400, "patreon_expired")
    assert await _patronage_of(victim) is None


async def test_a_callback_for_another_person_is_refused(stranger: Browser) -> None:
    """Somebody else signed in at the same browser meanwhile."""
    back = await stranger.go_to_patreon("active")
    await stranger.sign_in("former")

    refused = await stranger.get(back)

    assert (refused.status_code, refused.json()["code"]) == (400, "patreon_expired")
    assert await _patronage_of(stranger) is None


async def test_a_callback_works_once(stranger: Browser) -> None:
    """And what it did stays."""
    back = await stranger.go_to_patreon("active")
    first, second = await stranger.get(back), await stranger.get(back)

    assert (first.status_code, second.status_code) == (303, 400)
    assert (await _cover_of(stranger))["source"] == "patreon"


async def test_an_attempt_of_more_than_ten_minutes_is_over(stranger: Browser, clock: Clock) -> None:
    """The page says how to begin again."""
    back = await stranger.go_to_patreon("active")
    clock.advance(minutes=10)
    late = await stranger.get(back, headers=HTML)

    assert (late.status_code, 'href="/patreon/link"' in late.text) == (400, True)
    assert "more than ten minutes ago" in late.text


async def test_a_state_of_a_login_is_none_of_a_link(
    stranger: Browser, github: SimulatedGitHub
) -> None:
    """Nor the other way round: each journey ends where it was meant to, and nobody is asked."""
    to_github = await stranger.get("/login?login=monthly")
    login_state = parse_qs(urlsplit(to_github.headers["location"]).query)["state"][0]
    back = await stranger.go_to_patreon("active")
    link_state = parse_qs(urlsplit(back).query)["state"][0]
    github.requests.clear()

    linked = await stranger.get(f"/patreon/callback?state={login_state}&code=x")
    signed_in = await stranger.get(f"/oauth2/callback?state={link_state}&code=x")

    assert (linked.status_code, linked.json()["code"]) == (400, "patreon_expired")
    assert (signed_in.status_code, signed_in.json()["code"]) == (400, "login_expired")
    assert github.requests.all() == []


@pytest.mark.parametrize("query", ["", "?code=x", "?state=&code=x", "?error=access_denied"])
async def test_a_callback_without_a_state_is_refused(stranger: Browser, query: str) -> None:
    """Anybody can link to this address."""
    answer = await stranger.get(f"/patreon/callback{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "patreon_expired")


async def test_a_code_that_patreon_does_not_know_is_refused(stranger: Browser) -> None:
    """With the right state."""
    back = await stranger.go_to_patreon("active")
    state = parse_qs(urlsplit(back).query)["state"][0]

    answer = await stranger.get(f"/patreon/callback?state={state}&code=forged")

    assert (answer.status_code, answer.json()["code"]) == (400, "patreon_expired")
    assert "Please link your account again" in answer.json()["detail"]


# ---------------------------------------------------------------------- who may


async def test_it_needs_who_is_signed_in(service: Service) -> None:
    """Each of the three routes, by a session."""
    browser = await service.open_browser()

    answers = [
        await browser.get("/patreon/link"),
        await browser.get("/patreon/callback?state=x&code=y"),
        await browser.post("/patreon/unlink"),
    ]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(401, "not_signed_in")] * 3
    assert not browser.cookies


async def test_without_its_settings_there_is_no_patreon(
    run_service: RunService, local: Redis
) -> None:
    """409 names the setting, and the account page says nothing of it."""
    async with run_service() as service:
        browser = await service.open_browser()
        await browser.sign_in("stranger")
        answers = [
            await browser.get("/patreon/link"),
            await browser.get("/patreon/callback?state=x&code=y"),
            await browser.post("/patreon/unlink"),
        ]
        page = await browser.get("/account")

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "no_patreon")] * 3
    assert "SPONSORSYNC_PATREON_CLIENT_ID is not set" in answers[0].json()["detail"]
    assert "patreon" not in page.text.lower()
    assert await local.exists(keys.patrons(SPONSORABLE)) == 0


async def test_another_sites_page_may_not_unlink(stranger: Browser) -> None:
    """It would end a cover."""
    await stranger.link_patreon("active")

    refused = await stranger.post("/patreon/unlink", headers={"Origin": "https://evil.example"})

    assert (refused.status_code, refused.json()["code"]) == (403, "cross_site")
    assert await _patronage_of(stranger) is not None


# ---------------------------------------------------------------------- no answer


@pytest.mark.parametrize(
    ("switches", "status", "code"),
    [
        ({"down": True}, 502, "patreon_unavailable"),
        ({"malformed": True}, 502, "patreon_unavailable"),
        ({"unauthorized": True}, 502, "patreon_unavailable"),
        ({"rate_limited": True}, 503, "patreon_limited"),
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
    before = await _cover_of(stranger), await local.xlen(keys.AUDIT)
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
    assert (await _cover_of(stranger), await local.xlen(keys.AUDIT)) == before


async def test_a_wrong_secret_is_the_operators_affair(
    run_service: RunService, durable: Redis
) -> None:
    """The answer names both settings, and no secret."""
    assert durable is not None
    wrong = {**PATREON_SETTINGS, "patreon_secret": SecretStr("a-wrong-secret-of-the-client")}
    async with run_service(**wrong) as service:
        browser = await service.open_browser()
        await browser.sign_in("stranger")
        answer = await browser.link_patreon("active")

    assert (answer.status_code, answer.json()["code"]) == (502, "patreon_unavailable")
    assert "SPONSORSYNC_PATREON_SECRET" in answer.json()["detail"]
    assert "a-wrong-secret" not in answer.text


@pytest.mark.parametrize("lost", [True, False], ids=["unknown", "known in part"])
async def test_what_only_a_silent_durable_side_knows_is_not_written_over(
    run_service: RunService, local: Redis, lost: bool
) -> None:
    """It may have an organization, an override, or another account of Patreon's, linked before."""
    async with run_service(
        durable_url=SecretStr("redis://127.0.0.1:1/0"), **PATREON_SETTINGS
    ) as service:
        browser = await service.open_browser()
        await browser.sign_in("stranger")
        await local.delete(*[keys.sponsorship(SPONSORABLE, STRANGER)] * lost, "no such key")
        before = await local.hgetall(keys.sponsorship(SPONSORABLE, STRANGER))
        answers = [await browser.link_patreon("active"), await browser.post("/patreon/unlink")]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(503, "store_unavailable")] * 2
    assert await local.hgetall(keys.sponsorship(SPONSORABLE, STRANGER)) == before


# ---------------------------------------------------------------------- one account, one person


async def test_unlinking_ends_it_at_once(service: Service, stranger: Browser) -> None:
    """Twice is no error; then somebody else may link it, and keeps it."""
    await stranger.link_patreon("active")
    before = await stranger.get("/auth/sponsor")
    unlinked = await stranger.post("/patreon/unlink")
    after = await stranger.get("/auth/sponsor")
    other = await service.open_browser()
    await other.sign_in("former")
    await other.link_patreon("active")
    again = await stranger.post("/patreon/unlink")

    assert (before.status_code, after.status_code) == (204, 403)
    assert (unlinked.status_code, unlinked.headers["location"]) == (303, "/account")
    assert again.status_code == 303
    assert (await _cover_of(other))["source"] == "patreon"


async def test_who_links_it_last_has_it(service: Service, stranger: Browser) -> None:
    """The first one loses it at that moment, and may take it back."""
    other = await service.open_browser()
    await other.sign_in("former")
    holders = []
    for browser in (stranger, other, stranger, stranger):
        await browser.link_patreon("active")
        holders.append(
            [(await each.get("/auth/sponsor")).status_code for each in (stranger, other)]
        )

    assert holders == [[204, 403], [403, 204], [204, 403], [204, 403]]


async def test_who_linked_it_last_has_it_also_when_local_had_lost_everything(
    service: Service, stranger: Browser, local: Redis, durable: Redis
) -> None:
    """The first one comes back from durable, which tells of both, and is told so by the second."""
    await stranger.link_patreon("active")

    async def is_durable() -> bool:
        return not await local.scard(keys.DIRTY)

    await until(is_durable)
    await local.flushall()
    other = await service.open_browser()
    await other.sign_in("former")
    await other.link_patreon("active")
    await stranger.sign_in("stranger")
    doors = [(await each.get("/auth/sponsor")).status_code for each in (stranger, other)]
    await until(is_durable)
    kept = await durable.hget(keys.sponsorship(SPONSORABLE, STRANGER), "also")

    assert (doors, kept) == ([403, 204], None)
    assert await local.hgetall(keys.patrons(SPONSORABLE)) == {"90210010": "29871456"}


@pytest.mark.parametrize(
    ("patron_id", "version"),
    [("90210010", "1"), ("90210024", "9" * 16)],
    ids=["an older one", "another one"],
)
async def test_an_index_that_came_back_older_takes_nothing(
    stranger: Browser, local: Redis, durable: Redis, patron_id: str, version: str
) -> None:
    """It names who had linked the account before; their grant is older, or of another account."""
    await stranger.link_patreon("active")

    async def is_durable() -> bool:
        return bool(await durable.sismember(keys.sponsors(SPONSORABLE), str(STRANGER)))

    await until(is_durable)
    key, former = keys.sponsorship(SPONSORABLE, STRANGER), 29_871_456
    grant = f'[{{"source": "patreon", "since": 1, "until": 2, "patron_id": "{patron_id}"}}]'
    await local.hset(keys.sponsorship(SPONSORABLE, former), "also", grant)
    await local.hset(keys.meta(former), f"v:cover:{SPONSORABLE}", version)
    await local.hset(keys.patrons(SPONSORABLE), "90210010", str(former))
    await local.delete(key)

    assert (await _cover_of(stranger))["source"] == "patreon"
    assert await local.hgetall(keys.patrons(SPONSORABLE)) == {"90210010": str(STRANGER)}


async def test_another_account_takes_the_place_of_the_first(
    service: Service, stranger: Browser
) -> None:
    """One person has one; the first account is free for others again."""
    await stranger.link_patreon("active")
    await stranger.link_patreon("annual")
    other = await service.open_browser()
    await other.sign_in("former")
    await other.link_patreon("active")

    assert (await _cover_of(stranger))["source"] == "patreon"
    assert (await _cover_of(other))["source"] == "patreon"


async def test_a_deleted_account_frees_it(
    service: Service, stranger: Browser, local: Redis
) -> None:
    """It leaves no trace, and does not take it away from who links it then."""
    await stranger.link_patreon("active")
    before = await local.hgetall(keys.patrons(SPONSORABLE))
    await stranger.delete("/me")
    left = await local.hgetall(keys.patrons(SPONSORABLE))
    other = await service.open_browser()
    await other.sign_in("former")
    await other.link_patreon("active")
    await stranger.sign_in("stranger")

    assert (before, left) == ({"90210010": str(STRANGER)}, {})
    assert (await _cover_of(other))["source"] == "patreon"
    assert await _patronage_of(stranger) is None


async def test_who_unlinks_takes_the_index_from_nobody_else(
    stranger: Browser, local: Redis
) -> None:
    """Somebody else may stand there by now; they keep being found."""
    await stranger.link_patreon("active")
    await local.hset(keys.patrons(SPONSORABLE), "90210010", str(MONTHLY))
    await stranger.post("/patreon/unlink")

    assert await local.hgetall(keys.patrons(SPONSORABLE)) == {"90210010": str(MONTHLY)}


async def test_a_stale_index_takes_nothing_from_anybody(
    service: Service, stranger: Browser, local: Redis
) -> None:
    """It says who had linked an account; who has linked another one since keeps that."""
    await stranger.link_patreon("annual")
    await local.hset(keys.patrons(SPONSORABLE), "90210010", str(STRANGER))
    other = await service.open_browser()
    await other.sign_in("former")
    await other.link_patreon("active")

    assert (await _cover_of(stranger))["source"] == "patreon"
    assert (await _cover_of(other))["source"] == "patreon"


async def test_who_died_while_linking_keeps_nobody_waiting_for_long(
    stranger: Browser, local: Redis
) -> None:
    """The right to link ends by itself; who has it gives it back."""
    await stranger.link_patreon("active")
    after = await local.exists(keys.linking("90210010"))
    await local.set(keys.linking("90210010"), "of-who-died", px=300)
    again = await stranger.link_patreon("active")

    assert (after, again.status_code) == (0, 303)


async def test_who_does_not_come_to_an_end_is_503(
    stranger: Browser, local: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is changed, and the other's right stays theirs."""
    monkeypatch.setattr("sponsorsync.store.linked_accounts._WAIT_S", 0.15)
    await local.set(keys.linking("90210010"), "of-another", px=60_000)
    answer = await stranger.link_patreon("active")

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert "linking the same account of Patreon's" in answer.json()["detail"]
    assert await local.get(keys.linking("90210010")) == "of-another"
    assert await _patronage_of(stranger) is None


async def test_an_account_that_is_deleted_meanwhile_stays_so(
    stranger: Browser, local: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another tab, while Patreon is asked; the deletion has promised that nothing is kept."""
    back = await stranger.go_to_patreon("active")
    fetch = PatreonClient.fetch_identity

    async def fetch_while_it_is_deleted(client: PatreonClient, token: str) -> PatreonIdentity:
        await stranger.delete("/me")
        return await fetch(client, token)

    monkeypatch.setattr(PatreonClient, "fetch_identity", fetch_while_it_is_deleted)
    answer = await stranger.get(back)

    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
    assert (
        await local.exists(keys.patrons(SPONSORABLE), keys.sponsorship(SPONSORABLE, STRANGER)) == 0
    )


async def test_two_at_once_do_not_both_get_it(
    service: Service, stranger: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever shares an account with friends, and has both press the button together."""
    other = await service.open_browser()
    await other.sign_in("former")
    backs = [await each.go_to_patreon("active") for each in (stranger, other)]
    monkeypatch.setattr("sponsorsync.store.linked_accounts._WAIT_S", 0.0)
    find, answers = LinkedAccountStore.find_person, []

    async def find_while_another_links(
        accounts: LinkedAccountStore, source: CoverSource, sponsorable: str, account_id: str
    ) -> int | None:
        holder = await find(accounts, source, sponsorable, account_id)
        monkeypatch.setattr(LinkedAccountStore, "find_person", find)
        answers.append(await other.get(backs[1]))
        return holder

    monkeypatch.setattr(LinkedAccountStore, "find_person", find_while_another_links)
    answers.append(await stranger.get(backs[0]))
    doors = [(await each.get("/auth/sponsor")).status_code for each in (stranger, other)]

    assert [answer.status_code for answer in answers] == [503, 303]
    assert doors == [204, 403]


async def test_two_at_once_both_come_to_an_end(service: Service, stranger: Browser) -> None:
    """Who is second waits for the first; one of them has it then."""
    other = await service.open_browser()
    await other.sign_in("former")
    backs = [await each.go_to_patreon("active") for each in (stranger, other)]

    answers = await asyncio.gather(stranger.get(backs[0]), other.get(backs[1]))
    doors = [(await each.get("/auth/sponsor")).status_code for each in (stranger, other)]

    assert [answer.status_code for answer in answers] == [303, 303]
    assert sorted(doors) == [204, 403]


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
    assert "patreon_linked" in logged.out
    assert not [secret for secret in secrets for text in texts if secret in text]
