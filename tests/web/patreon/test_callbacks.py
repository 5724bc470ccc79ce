"""Callbacks from Patreon are valid for one person in one browser, and all routes need a session."""

from datetime import timedelta
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from starlette.responses import Response

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.web.cookies import Cookies, OpenAttempt
from tests.conftest import ORIGIN, PATREON_SETTINGS, Browser, Clock, RunBrowser, RunService, Service
from tests.support.patronages import HTML, LINKED_ACCOUNTS, STRANGER, patronage_of


async def test_a_patreon_callback_of_another_browser_is_refused(service: Service) -> None:
    """Otherwise an attacker could link an account at Patreon to a victim, or take the victim's."""
    attacker, victim = await service.open_browser(), await service.open_browser()
    await attacker.sign_in("former")
    await victim.sign_in("stranger")

    stolen = await victim.get(await attacker.go_to_patreon("active"))

    assert (stolen.status_code, stolen.json()["code"]) == (400, "link_expired")
    assert await patronage_of(victim) is None


async def test_a_callback_for_another_person_is_refused(stranger: Browser) -> None:
    """Between start and callback another person has signed in with the same browser."""
    back = await stranger.go_to_patreon("active")
    await stranger.sign_in("former")

    refused = await stranger.get(back)

    assert (refused.status_code, refused.json()["code"]) == (400, "link_expired")
    assert await patronage_of(stranger) is None


async def test_a_patreon_callback_works_once(stranger: Browser) -> None:
    """The second request with the same code and state is refused and changes nothing."""
    back = await stranger.go_to_patreon("active")
    first, second = await stranger.get(back), await stranger.get(back)

    assert (first.status_code, second.status_code) == (303, 400)
    assert (await stranger.load_entitlement())["source"] == "patreon"


async def test_an_attempt_of_more_than_ten_minutes_is_over(stranger: Browser, clock: Clock) -> None:
    """The page says that the attempt is too old, and links to a new one."""
    back = await stranger.go_to_patreon("active")
    clock.advance(minutes=10)
    late = await stranger.get(back, headers=HTML)

    assert (late.status_code, 'href="/patreon/link"' in late.text) == (400, True)
    assert "more than ten minutes ago" in late.text


async def test_logins_and_links_do_not_mix(stranger: Browser, github: SimulatedGitHub) -> None:
    """The state of a sign-in is refused by Patreon's callback and vice versa; nobody is asked."""
    to_github = await stranger.get("/login?login=monthly")
    login_state = parse_qs(urlsplit(to_github.headers["location"]).query)["state"][0]
    back = await stranger.go_to_patreon("active")
    link_state = parse_qs(urlsplit(back).query)["state"][0]
    github.requests.clear()

    linked = await stranger.get(f"/patreon/callback?state={login_state}&code=x")
    signed_in = await stranger.get(f"/oauth2/callback?state={link_state}&code=x")

    assert (linked.status_code, linked.json()["code"]) == (400, "link_expired")
    assert (signed_in.status_code, signed_in.json()["code"]) == (400, "login_expired")
    assert github.requests.all() == []


async def test_another_sources_attempt_is_refused(run_service: RunService, clock: Clock) -> None:
    """Otherwise the code of one service would be sent to another one (mix-up, RFC 9700, 4.4)."""
    secret, response = SecretStr("s" * 32), Response()
    async with run_service(session_secret=secret, **PATREON_SETTINGS) as service:
        stranger = await service.sign_in("stranger")
        back = await stranger.go_to_patreon("active")
        state = parse_qs(urlsplit(back).query)["state"][0]
        attempt = OpenAttempt(state, "", "/account", person_id=STRANGER, source="another")
        Cookies(
            secret=secret, secure=False, samesite="lax", session_life=timedelta(days=1)
        ).set_attempt(response, attempt, now=clock.now)
        [(name, morsel)] = SimpleCookie(response.headers["set-cookie"]).items()
        assert name in stranger.cookies
        stranger.cookies.set(name, morsel.value, domain=urlsplit(ORIGIN).hostname or "", path="/")
        refused = await stranger.get(back)

        assert (refused.status_code, refused.json()["code"]) == (400, "link_expired")
        assert await patronage_of(stranger) is None


@pytest.mark.parametrize("query", ["", "?code=x", "?state=&code=x", "?error=access_denied"])
async def test_a_callback_without_a_state_is_refused(stranger: Browser, query: str) -> None:
    """Any web page can link to the callback, but none knows the state."""
    answer = await stranger.get(f"/patreon/callback{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "link_expired")


async def test_a_code_that_patreon_does_not_know_is_refused(stranger: Browser) -> None:
    """The state is right, but the code is forged."""
    back = await stranger.go_to_patreon("active")
    state = parse_qs(urlsplit(back).query)["state"][0]

    answer = await stranger.get(f"/patreon/callback?state={state}&code=forged")

    assert (answer.status_code, answer.json()["code"]) == (400, "link_expired")
    assert "Please link your account again" in answer.json()["detail"]


async def test_linking_and_unlinking_need_a_session(service: Service) -> None:
    """Without a session each of the three routes is 401."""
    browser = await service.open_browser()

    answers = [
        await browser.get("/patreon/link"),
        await browser.get("/patreon/callback?state=x&code=y"),
        await browser.post("/patreon/unlink"),
    ]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(401, "not_signed_in")] * 3
    assert not browser.cookies


async def test_without_settings_there_is_no_patreon(run_browser: RunBrowser, local: Redis) -> None:
    """409 names the missing setting, and the account page does not mention Patreon."""
    async with run_browser("stranger") as browser:
        answers = [
            await browser.get("/patreon/link"),
            await browser.get("/patreon/callback?state=x&code=y"),
            await browser.post("/patreon/unlink"),
        ]
        page = await browser.get("/account")

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "no_link_source")] * 3
    assert "SPONSORSYNC_PATREON_CLIENT_ID is not set" in answers[0].json()["detail"]
    assert "patreon" not in page.text.lower()
    assert await local.exists(LINKED_ACCOUNTS) == 0


async def test_another_sites_page_may_not_unlink(stranger: Browser) -> None:
    """A forged request would otherwise end the person's entitlement."""
    await stranger.link_patreon("active")

    refused = await stranger.post("/patreon/unlink", headers={"Origin": "https://evil.example"})

    assert (refused.status_code, refused.json()["code"]) == (403, "cross_site")
    assert await patronage_of(stranger) is not None
