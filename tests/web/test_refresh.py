"""POST /me/refresh asks GitHub about one person, with the maintainer's token."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.domain.profile import GitHubAccount
from sponsorsync.github.client import GitHubClient
from sponsorsync.reconcile.schedule import ReconcileSchedule
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.store import keys
from tests.conftest import ORIGIN, SPONSORABLE, RunBrowser, RunService, Service, TickingClock
from tests.support.contents import read_everything

MONTHLY, STRANGER = 48_210_377, 112_493_071
AUDIENCE = "https://app.example.org"


@pytest.fixture
async def service(
    run_service: RunService, maintainer_settings: dict[str, Any]
) -> AsyncIterator[Service]:
    """A service with the maintainer's token, without a reconcile schedule."""
    async with run_service(token_audience=AUDIENCE, **maintainer_settings) as running:
        yield running


@pytest.fixture
def reconcile_requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sponsorables for which a reconcile was requested; none is run."""
    requested: list[str] = []

    async def request(_: ReconcileSchedule, sponsorable: str) -> bool:
        requested.append(sponsorable)
        return True

    monkeypatch.setattr(ReconcileSchedule, "request", request)
    return requested


@pytest.fixture
def clock() -> TickingClock:
    """A clock that moves at each reading, so that answers are newer than the stored facts."""
    return TickingClock()


async def _version(local: Redis) -> object:
    """Returns the version of each person; every write changes one."""
    return await local.zrange(keys.PEOPLE, 0, -1, withscores=True)


async def _reset_limits(local: Redis) -> None:
    """Deletes the rate limits, which would otherwise expire after a minute."""
    await local.delete(*await local.keys("sponsorsync:refreshe*"))


async def test_without_the_maintainers_token_a_refresh_needs_a_sign_in(
    run_browser: RunBrowser, github: SimulatedGitHub
) -> None:
    """Users' tokens are not stored, so GitHub cannot be asked; 409 links to the sign-in."""
    async with run_browser("monthly") as browser:
        github.requests.clear()
        answer = await browser.post("/me/refresh")
        page = await browser.post("/me/refresh", headers={"accept": "text/html"})

    assert (answer.status_code, answer.json()["code"]) == (409, "sign_in_again")
    assert (answer.json()["login_url"], answer.headers["x-login-url"]) == ("/login", "/login")
    assert (page.status_code, 'href="/login"' in page.text) == (409, True)
    assert github.requests.all() == []


async def test_a_refresh_needs_a_session(service: Service) -> None:
    """Other services receive our tokens, and must not act for the person."""
    browser, program = await service.open_browser(), await service.open_browser()
    await browser.sign_in("monthly")
    bearer = (await browser.post("/token")).json()["access_token"]

    nobody = await program.post("/me/refresh")
    other = await program.post("/me/refresh", headers={"Authorization": f"Bearer {bearer}"})

    assert (nobody.status_code, nobody.json()["code"]) == (401, "not_signed_in")
    assert (other.status_code, other.json()["code"]) == (403, "token_reads_only")


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_another_site_cannot_refresh(service: Service, headers: dict[str, str]) -> None:
    """A forged request would use up the person's limit."""
    browser = await service.sign_in("monthly")
    service.github.requests.clear()
    refused = await browser.post("/me/refresh", headers=headers)
    asked = service.github.requests.all()
    own = await browser.post("/me/refresh", headers={"Origin": ORIGIN})

    assert (refused.status_code, refused.json()["code"], asked) == (403, "cross_site", [])
    assert own.status_code == 200


async def test_a_missed_created_is_found(service: Service, github: SimulatedGitHub) -> None:
    """No webhook reported the new sponsorship; two requests to GitHub find it."""
    browser = await service.sign_in("stranger")
    github.people.sponsor("stranger", SPONSORABLE, cents=700, private=True)
    github.requests.clear()

    answer = await browser.post("/me/refresh")
    asked = github.requests.all()
    door = await browser.get("/auth/sponsor")

    [entitlement] = answer.json()["entitlements"]
    assert (answer.status_code, answer.json()["profile"]["id"]) == (200, STRANGER)
    assert (entitlement["status"], entitlement["tier_cents"], entitlement["privacy"]) == (
        "entitled",
        700,
        "private",
    )
    assert [request.endpoint for request in asked] == ["account", "graphql"]
    assert door.status_code == 204


async def test_a_missed_end_is_found(service: Service, github: SimulatedGitHub) -> None:
    """No webhook reported the end; forward auth closes with the answer."""
    browser = await service.sign_in("monthly")
    [sponsorship] = github.people.sponsorships_of(github.people.get("monthly"))
    github.people.sponsorships.remove(sponsorship)

    answer = await browser.post("/me/refresh")
    door = await browser.get("/auth/sponsor")

    assert (answer.status_code, answer.json()["entitlements"][0]["status"]) == (200, "not_entitled")
    assert door.status_code == 403


async def test_another_tier_is_found(service: Service, github: SimulatedGitHub) -> None:
    """The tier is new, and the stored start of the sponsorship stays."""
    browser = await service.sign_in("monthly")
    before = await browser.load_entitlement()
    [sponsorship] = github.people.sponsorships_of(github.people.get("monthly"))
    assert sponsorship.tier is not None
    sponsorship.tier.monthly_price_in_cents = 2500

    [entitlement] = (await browser.post("/me/refresh")).json()["entitlements"]

    assert (entitlement["tier_cents"], entitlement["since"]) == (2500, before["since"])


async def test_a_renamed_account_is_asked_about_by_its_number(service: Service) -> None:
    """The login in the stored profile is outdated."""
    browser = await service.sign_in("monthly")
    service.github.people.rename("monthly", "monthly-renamed")

    answer = await browser.post("/me/refresh")

    assert (answer.status_code, answer.json()["entitlements"][0]["status"]) == (200, "entitled")


async def test_the_sponsorship_of_a_freed_logins_next_owner_does_not_count(
    service: Service, github: SimulatedGitHub
) -> None:
    """The person was renamed, and a sponsor now has the former login."""
    browser = await service.sign_in("stranger")
    github.people.rename("stranger", "stranger-renamed")
    github.people.add_person("stranger")
    github.people.sponsor("stranger", SPONSORABLE)

    answer = await browser.post("/me/refresh")

    assert (answer.status_code, answer.json()["entitlements"][0]["status"]) == (200, "not_entitled")


async def test_an_answer_about_another_account_decides_nothing(
    service: Service, reconcile_requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two answers of GitHub are about different accounts, so a reconcile is requested."""
    node_id = service.github.people.get("monthly").id

    async def fetch_account(_: GitHubClient, person_id: int, __: str) -> GitHubAccount:
        return GitHubAccount(id=person_id, login="stranger", node_id=node_id)

    monkeypatch.setattr(GitHubClient, "fetch_account", fetch_account)
    browser = await service.sign_in("stranger")
    answer = await browser.post("/me/refresh")

    assert (answer.status_code, reconcile_requests) == (202, [SPONSORABLE])
    assert answer.json()["entitlements"][0]["status"] == "not_entitled"


async def test_a_missing_account_is_no_answer(service: Service, github: SimulatedGitHub) -> None:
    """The account may be suspended or hidden, so the person stays entitled, as unconfirmed."""
    browser = await service.sign_in("monthly")
    github.people.remove("monthly")
    github.people.add_person("monthly")

    answer = await browser.post("/me/refresh")
    entitlement = await browser.load_entitlement()

    assert answer.status_code == 502
    assert "shows no account with your number" in answer.json()["detail"]
    assert (entitlement["status"], entitlement["unknown_since"] is not None) == ("entitled", True)


async def test_one_inactive_sponsorship_does_not_decide(
    service: Service, github: SimulatedGitHub, reconcile_requests: list[str]
) -> None:
    """The person has an active and an ended sponsorship.

    GitHub's answer has one of several sponsorships. An ended one therefore changes nothing; it
    requests a reconcile, which reads the whole list.
    """
    browser = await service.sign_in("monthly")
    github.people.sponsor("monthly", SPONSORABLE, days_ago=1, ended=True)

    answer = await browser.post("/me/refresh")

    assert (answer.status_code, reconcile_requests) == (202, [SPONSORABLE])
    assert answer.json()["entitlements"][0]["status"] == "entitled"
    assert answer.json()["entitlements"][0]["unknown_since"] is None


async def test_the_sponsorship_of_an_organization_needs_a_comparison(
    run_browser: RunBrowser,
    github: SimulatedGitHub,
    maintainer_settings: dict[str, Any],
    reconcile_requests: list[str],
) -> None:
    """The token of an owner cannot ask for one sponsor of an organization.

    A reconcile is requested for the organization; the answer for the maintainer is final.
    """
    maintainer = github.people.get_person(SPONSORABLE)
    github.people.add_organization("big-org", owners=[maintainer], has_sponsors_listing=True)
    async with run_browser(
        "stranger", sponsorables=(SPONSORABLE, "big-org"), **maintainer_settings
    ) as browser:
        github.people.sponsor("stranger", SPONSORABLE, cents=700)
        github.people.sponsor("stranger", "big-org")
        answer = await browser.post("/me/refresh")

    entitlements = {
        entitlement["sponsorable"]: entitlement["status"]
        for entitlement in answer.json()["entitlements"]
    }
    assert (answer.status_code, reconcile_requests) == (202, ["big-org"])
    assert entitlements == {SPONSORABLE: "entitled", "big-org": "not_entitled"}


@pytest.mark.parametrize(
    ("login", "cents", "tier_cents", "has_end"),
    [("monthly", 100, 1000, False), ("stranger", 2500, 2500, True)],
)
async def test_a_payment_entitles_at_once_and_needs_a_comparison(
    service: Service,
    github: SimulatedGitHub,
    reconcile_requests: list[str],
    login: str,
    cents: int,
    tier_cents: int,
    has_end: bool,
) -> None:
    """GitHub's answer has one of several sponsorships, here the one-time payment.

    A monthly sponsorship may exist beside it, so a stored one stays until the reconcile.
    """
    browser = await service.sign_in(login)
    github.people.sponsor(login, SPONSORABLE, cents=cents, days_ago=0, one_time=True)
    answer = await browser.post("/me/refresh")

    [entitlement] = answer.json()["entitlements"]
    assert (answer.status_code, reconcile_requests) == (202, [SPONSORABLE])
    assert (entitlement["status"], entitlement["tier_cents"]) == ("entitled", tier_cents)
    assert (entitlement["until"] is not None) is has_end


async def test_an_expired_maintainers_token_changes_no_entitlement(run_browser: RunBrowser) -> None:
    """GitHub refuses our token, which says nothing about the person."""
    async with run_browser(
        "monthly", maintainer_token=SecretStr("over"), reconcile_hours=0
    ) as browser:
        answer = await browser.post("/me/refresh")
        entitlement = await browser.load_entitlement()

    assert (answer.status_code, answer.json()["code"]) == (502, "github_unavailable")
    assert "token" in answer.json()["detail"]
    assert (entitlement["status"], entitlement["unknown_since"]) == ("entitled", None)


async def test_another_accounts_token_decides_nothing(
    run_browser: RunBrowser, github: SimulatedGitHub, reconcile_requests: list[str], local: Redis
) -> None:
    """GitHub answers about sponsorships of the token's owner, not of the maintainer."""
    other = github.tokens.issue(github.people.get_person("private"))
    async with run_browser(
        "monthly", maintainer_token=SecretStr(other), reconcile_hours=0
    ) as browser:
        answer = await browser.post("/me/refresh")

    assert (answer.status_code, reconcile_requests) == (202, [SPONSORABLE])
    assert answer.json()["entitlements"][0]["status"] == "entitled"
    assert await local.keys("sponsorship:private:*") == []


async def test_people_may_refresh_once_a_minute(service: Service, github: SimulatedGitHub) -> None:
    """The second answer says how long to wait; another person's limit is separate."""
    browser, other = await service.open_browser(), await service.open_browser()
    await browser.sign_in("monthly")
    await other.sign_in("private")
    await browser.post("/me/refresh")
    github.requests.clear()
    refused = await browser.post("/me/refresh")
    asked = github.requests.all()
    allowed = await other.post("/me/refresh")

    assert (refused.status_code, refused.json()["code"], asked) == (429, "refresh_limited", [])
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert refused.headers["retry-after"] in refused.json()["detail"]
    assert allowed.status_code == 200


async def test_a_refresh_is_possible_after_the_wait(service: Service, local: Redis) -> None:
    """Both limits, the person's and that of all people, are keys with a TTL of a minute."""
    browser = await service.sign_in("monthly")
    await browser.post("/me/refresh")
    limits = {str(key): await local.pttl(key) for key in await local.keys("sponsorsync:refreshe*")}
    await local.delete(*limits)
    again = await browser.post("/me/refresh")

    assert set(limits) == {f"sponsorsync:refreshed:{MONTHLY}", "sponsorsync:refreshes"}
    assert all(0 < left <= 60_000 for left in limits.values())
    assert again.status_code == 200


async def test_one_limit_is_shared(service: Service, github: SimulatedGitHub, local: Redis) -> None:
    """All people share the maintainer's requests to GitHub, so there is a common limit.

    A refusal by the common limit does not use up the person's own one.
    """
    browser = await service.sign_in("monthly")
    await local.set("sponsorsync:refreshes", keys.REFRESHES_A_MINUTE, ex=60)
    github.requests.clear()
    refused = await browser.post("/me/refresh")
    asked = github.requests.all()
    await local.set("sponsorsync:refreshes", keys.REFRESHES_A_MINUTE - 1, ex=60)
    allowed = await browser.post("/me/refresh")

    assert (refused.status_code, asked) == (429, [])
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert allowed.status_code == 200


async def test_one_of_many_refreshes_asks_github(service: Service, github: SimulatedGitHub) -> None:
    """A person presses the button ten times at once."""
    browser = await service.sign_in("monthly")
    github.requests.clear()

    answers = await asyncio.gather(*(browser.post("/me/refresh") for _ in range(10)))

    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 9
    assert len(github.requests.all("account")) == 1


@pytest.mark.parametrize(
    ("switches", "status", "code"),
    [
        ({"fail": {"graphql"}}, 502, "github_unavailable"),
        ({"fail": {"account"}}, 502, "github_unavailable"),
        ({"bad_json": {"graphql"}}, 502, "github_unavailable"),
        ({"rate_limited": True}, 503, "github_limited"),
        ({"secondary_limit": True}, 503, "github_limited"),
        ({"forbidden": True}, 502, "github_unavailable"),
        ({"forbidden_data": True}, 502, "github_unavailable"),
        ({"insufficient_scopes": True}, 502, "github_unavailable"),
    ],
    ids=str,
)
@pytest.mark.parametrize("login", ["monthly", "stranger"])
async def test_without_an_answer_the_last_one_holds_and_is_marked(
    service: Service, local: Redis, switches: dict[str, object], status: int, code: str, login: str
) -> None:
    """Unknown is not 'no': the stored answer stays, with the time of the first failure.

    A second failure changes nothing.
    """
    browser = await service.sign_in(login)
    trail = await local.xlen(keys.AUDIT)
    before = await browser.load_entitlement()
    vars(service.github.switches).update(switches)
    answer = await browser.post("/me/refresh")
    after, version = await browser.load_entitlement(), await _version(local)
    await _reset_limits(local)
    await browser.post("/me/refresh")
    again = await browser.load_entitlement()

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert (before["unknown_since"], after["unknown_since"] is not None) == (None, True)
    assert after["checked_at"] == before["checked_at"]
    assert after["status"] == {"entitled": "entitled", "not_entitled": "unknown"}[before["status"]]
    assert (again, await _version(local)) == (after, version)
    assert await local.xlen(keys.AUDIT) == trail


async def test_the_next_answer_removes_the_mark(service: Service, local: Redis) -> None:
    """The time of the first failure is removed when GitHub answers again."""
    browser = await service.sign_in("monthly")
    service.github.switches.fail = {"graphql"}
    await browser.post("/me/refresh")
    service.github.switches.fail = set()
    await _reset_limits(local)
    answer = await browser.post("/me/refresh")

    assert answer.json()["entitlements"][0]["unknown_since"] is None


@pytest.mark.parametrize(
    "switches", [{}, {"fail": {"graphql"}}, {"forbidden": True}, {"rate_limited": True}], ids=str
)
async def test_the_maintainers_token_is_neither_shown_nor_stored(
    service: Service,
    github: SimulatedGitHub,
    maintainer_settings: dict[str, Any],
    local: Redis,
    switches: dict[str, object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No answer, log line or Redis key contains the token."""
    browser = await service.sign_in("monthly")
    vars(github.switches).update(switches)
    answer = await browser.post("/me/refresh")
    logged = capsys.readouterr()
    stored = await read_everything(local)

    assert "person=48210377" in logged.out or "request_failed" in logged.out
    texts = [answer.text, str(answer.headers), logged.out, logged.err, stored]
    token = maintainer_settings["maintainer_token"].get_secret_value()
    assert not any(token in text for text in texts)
    assert json.loads(answer.text)
