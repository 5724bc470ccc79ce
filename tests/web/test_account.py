"""The account as JSON (`/me`) and as a page (`/account`)."""

import re

import pytest
from redis.asyncio import Redis

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.store import keys
from tests.conftest import GITHUB_URL, Browser, RunService


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
async def test_me_has_the_entitlement_with_its_reason(
    browser: Browser, login: str, status: str, cents: int | None, reason: str
) -> None:
    """Each row is one kind of person at the simulated GitHub."""
    await browser.sign_in(login)

    [entitlement] = (await browser.get("/me")).json()["entitlements"]

    assert (entitlement["status"], entitlement["tier_cents"]) == (status, cents)
    assert entitlement["reason"].startswith(reason)


async def test_a_private_email_is_read_from_the_list(browser: Browser) -> None:
    """GitHub omits a private address from `/user`, and lists it at `/user/emails`."""
    await browser.sign_in("stranger")

    profile = (await browser.get("/me")).json()["profile"]

    assert (profile["email"], profile["name"]) == ("stranger@example.com", None)


async def test_an_unanswered_question_leaves_the_last_answer(
    browser: Browser, github: SimulatedGitHub
) -> None:
    """Unknown is not 'no': the person stays entitled, with the time of the first failure."""
    await browser.sign_in("monthly")
    github.switches.forbidden_data = True

    done = await browser.sign_in("monthly")

    [entitlement] = (await browser.get("/me")).json()["entitlements"]
    assert done.status_code == 303
    assert entitlement["status"] == "entitled"
    assert entitlement["unknown_since"] is not None
    assert "has not answered" in entitlement["reason"]


async def test_without_any_answer_the_entitlement_is_unknown(
    browser: Browser, github: SimulatedGitHub
) -> None:
    """GitHub never answered about this person, so the status is not 'not entitled'."""
    github.switches.forbidden = True

    await browser.sign_in("monthly")

    [entitlement] = (await browser.get("/me")).json()["entitlements"]
    assert (entitlement["status"], entitlement["source"]) == ("unknown", "none")


async def test_several_sponsorables_each_have_an_answer(
    run_service: RunService, github: SimulatedGitHub
) -> None:
    """One sponsorable is an organization, configured in other letter case than at GitHub."""
    github.people.add_organization("Big-Org", has_sponsors_listing=True)
    github.people.sponsor("monthly", "Big-Org", cents=2500)
    async with run_service(sponsorables=("maintainer", "big-org")) as service:
        browser = await service.sign_in("monthly")
        entitlements = (await browser.get("/me")).json()["entitlements"]

    assert [(c["sponsorable"], c["status"], c["tier_cents"]) for c in entitlements] == [
        ("maintainer", "entitled", 1000),
        ("big-org", "entitled", 2500),
    ]


async def test_a_sign_in_writes_the_documented_keys(sponsor: Browser, local: Redis) -> None:
    """Other programs read these keys, so their names and fields are part of the interface."""
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


async def test_the_account_page_shows_the_person_and_removes_exclusions(sponsor: Browser) -> None:
    """Each excluded id has a button to remove it, and is escaped in the HTML."""
    await sponsor.post("/preferences/mnodes", json={"add": ["<b>&x", "C5162902"]})

    page = (await sponsor.get("/account")).text
    [action] = [a for a in re.findall(r'action="([^"]+)"', page) if "C5162902" in a]
    removed = await sponsor.post(action)

    assert "Monthly sponsor" in page
    assert "You sponsor maintainer with $10.00 a month." in page
    assert "&lt;b&gt;&amp;x" in page
    assert (removed.status_code, removed.headers["location"]) == (303, "/account")
    assert (await sponsor.get("/preferences/mnodes")).json()["items"] == ["<b>&x"]


async def test_the_account_page_links_to_the_sponsorable(browser: Browser) -> None:
    """The link leads to the GitHub of the settings."""
    await browser.sign_in("stranger")

    page = (await browser.get("/account")).text

    assert f'href="{GITHUB_URL}/sponsors/maintainer"' in page


async def test_the_account_page_works_without_exclusions(sponsor: Browser, local: Redis) -> None:
    """The exclusions are unavailable, but a sign-in leads to this page, and it has the sign-out."""
    await local.hset("user:48210377", "name", "visitor")

    page = await sponsor.get("/account", headers={"accept": "text/html"})

    assert page.status_code == 200
    assert "in use by an anonymous visitor" in page.text
    assert "Sign out" in page.text


async def test_a_malformed_stored_field_is_unknown(browser: Browser, local: Redis) -> None:
    """The next sign-in overwrites the malformed field."""
    await browser.sign_in("monthly")
    await local.hset("sponsorship:maintainer:48210377", "tier_cents", "much")

    broken = (await browser.get("/me")).json()["entitlements"][0]
    await browser.sign_in("monthly")
    repaired = (await browser.get("/me")).json()["entitlements"][0]

    assert (broken["status"], repaired["status"]) == ("unknown", "entitled")


async def test_without_a_session_the_account_page_links_to_the_sign_in(browser: Browser) -> None:
    """A person sees a page with a link; a program sees the status 401."""
    page = await browser.get("/account", headers={"accept": "text/html,*/*"})

    assert page.status_code == 401
    assert 'href="/login"' in page.text
