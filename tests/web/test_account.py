"""Who am I: JSON and pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from sponsorsync.store import keys
from tests.conftest import GITHUB_URL

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from sponsorsync.sandbox.github import SimulatedGitHub
    from tests.conftest import Browser, Clock, RunService


@pytest.mark.parametrize(
    ("login", "status", "cents", "reason"),
    [
        ("monthly", "entitled", 1000, "You sponsor maintainer with $10.00 a month."),
        ("private", "entitled", 500, "You sponsor maintainer with $5.00 a month."),
        ("patreon", "entitled", None, "You sponsor maintainer through Patreon."),
        ("stranger", "not_entitled", None, "GitHub shows no sponsorship of maintainer"),
        ("org-member", "not_entitled", None, "GitHub shows no sponsorship of maintainer"),
        ("former", "not_entitled", None, "Your sponsorship of maintainer"),
    ],
)
async def test_me_tells_the_entitlement_and_why(
    browser: Browser, login: str, status: str, cents: int | None, reason: str
) -> None:
    """Each kind of person that GitHub has."""
    await browser.sign_in(login)

    [entitlement] = (await browser.get("/me")).json()["entitlements"]

    assert (entitlement["status"], entitlement["tier_cents"]) == (status, cents)
    assert entitlement["reason"].startswith(reason)


async def test_a_one_time_payment_entitles_until_its_end(browser: Browser, clock: Clock) -> None:
    """GitHub sends no event when that is."""
    await browser.sign_in("one-time")
    before = (await browser.get("/me")).json()["entitlements"][0]
    clock.advance(days=27)
    after = (await browser.get("/me")).json()["entitlements"][0]

    assert (before["status"], before["is_one_time"]) == ("entitled", True)
    assert before["until"] is not None
    assert after["status"] == "not_entitled"


async def test_a_private_email_is_taken_from_the_list(browser: Browser) -> None:
    """`/user` does not tell it; the original answered 500."""
    await browser.sign_in("stranger")

    profile = (await browser.get("/me")).json()["profile"]

    assert (profile["email"], profile["name"]) == ("stranger@example.com", None)


async def test_an_unanswered_question_leaves_the_last_answer(
    browser: Browser, github: SimulatedGitHub
) -> None:
    """Unknown is not no: the entitlement stays, and says since when it could not be confirmed."""
    await browser.sign_in("monthly")
    github.switches.forbidden_data = True

    done = await browser.sign_in("monthly")

    [entitlement] = (await browser.get("/me")).json()["entitlements"]
    assert done.status_code == 303
    assert entitlement["status"] == "entitled"
    assert entitlement["unknown_since"] is not None
    assert "could not be asked" in entitlement["reason"]


async def test_who_was_never_told_is_unknown(browser: Browser, github: SimulatedGitHub) -> None:
    """Not 'no' either."""
    github.switches.forbidden = True

    await browser.sign_in("monthly")

    [entitlement] = (await browser.get("/me")).json()["entitlements"]
    assert (entitlement["status"], entitlement["source"]) == ("unknown", "none")


async def test_several_sponsorables_each_have_an_answer(
    run_service: RunService, github: SimulatedGitHub
) -> None:
    """An organization can be sponsored too, and case does not matter."""
    github.people.add_organization("Big-Org", has_sponsors_listing=True)
    github.people.sponsor("monthly", "Big-Org", cents=2500)
    async with run_service(sponsorables=("maintainer", "big-org")) as service:
        browser = await service.sign_in("monthly")
        entitlements = (await browser.get("/me")).json()["entitlements"]

    assert [(c["sponsorable"], c["status"], c["tier_cents"]) for c in entitlements] == [
        ("maintainer", "entitled", 1000),
        ("big-org", "entitled", 2500),
    ]


async def test_a_login_writes_what_the_design_says(sponsor: Browser, local: Redis) -> None:
    """Other programs read these keys."""
    assert sponsor is not None
    profile = await local.hgetall("user_details:48210377")
    entitlement = await local.hgetall("sponsorship:maintainer:48210377")
    meta = await local.hgetall(keys.meta(48210377))

    assert profile["user_login"] == "monthly"
    assert {"id", "email", "name", "avatar_url", "first_seen", "last_login"} <= set(profile)
    assert entitlement["tier_cents"] == "1000"
    assert await local.smembers("sponsors:maintainer") == {"48210377"}
    assert (meta["p:profile"], meta["p:entitlement:maintainer"]) == ("1", "1")
    assert re.fullmatch(r"\d{16}", str(meta["v:profile"]))


async def test_the_account_page_shows_me_and_removes_what_i_excluded(sponsor: Browser) -> None:
    """Also ids that would be HTML are shown as they are."""
    await sponsor.post("/preferences/mnodes", json={"add": ["<b>&x", "C5162902"]})

    page = (await sponsor.get("/account")).text
    [action] = [a for a in re.findall(r'action="([^"]+)"', page) if "C5162902" in a]
    removed = await sponsor.post(action)

    assert "Monthly sponsor" in page
    assert "You sponsor maintainer with $10.00 a month." in page
    assert "&lt;b&gt;&amp;x" in page
    assert (removed.status_code, removed.headers["location"]) == (303, "/account")
    assert (await sponsor.get("/preferences/mnodes")).json()["items"] == ["<b>&x"]


async def test_who_is_not_entitled_is_led_to_the_sponsorables_page(browser: Browser) -> None:
    """Of the GitHub in the settings, as forward auth does."""
    await browser.sign_in("stranger")

    page = (await browser.get("/account")).text

    assert f'href="{GITHUB_URL}/sponsors/maintainer"' in page


async def test_the_account_page_shows_the_rest_when_the_set_is_a_visitors(
    sponsor: Browser, local: Redis
) -> None:
    """It is where a login lands, and where the way out is."""
    await local.hset("user:48210377", "name", "visitor")

    page = await sponsor.get("/account", headers={"accept": "text/html"})

    assert page.status_code == 200
    assert "in use by an anonymous visitor" in page.text
    assert "Sign out" in page.text


async def test_a_field_that_cannot_be_read_is_unknown(browser: Browser, local: Redis) -> None:
    """A login mends it: it is no reason to lock somebody out."""
    await browser.sign_in("monthly")
    await local.hset("sponsorship:maintainer:48210377", "tier_cents", "much")

    broken = (await browser.get("/me")).json()["entitlements"][0]
    await browser.sign_in("monthly")
    repaired = (await browser.get("/me")).json()["entitlements"][0]

    assert (broken["status"], repaired["status"]) == ("unknown", "entitled")


async def test_the_start_page_needs_no_redis(run_service: RunService) -> None:
    """It says what this is even when nothing else works."""
    async with run_service(redis_url=SecretStr("redis://127.0.0.1:1/0")) as service:
        browser = await service.open_browser()
        page = await browser.get("/", headers={"accept": "text/html"})

    assert page.status_code == 200
    assert "/login" in page.text


async def test_without_a_session_the_account_page_offers_the_way_in(browser: Browser) -> None:
    """A page for people, with 401 for programs."""
    page = await browser.get("/account", headers={"accept": "text/html,*/*"})

    assert page.status_code == 401
    assert 'href="/login"' in page.text
