"""Having GitHub asked about oneself now, with the maintainer's token."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from sponsorsync.domain.profile import GitHubAccount
from sponsorsync.github.client import GitHubClient
from sponsorsync.reconcile.schedule import ReconcileSchedule
from sponsorsync.store import keys
from tests.conftest import ORIGIN, SPONSORABLE, TickingClock
from tests.support.contents import read_everything

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from sponsorsync.sandbox.github import SimulatedGitHub
    from tests.conftest import Browser, RunService, Service

MONTHLY, STRANGER = 48_210_377, 112_493_071
AUDIENCE = "https://app.example.org"


@pytest.fixture
def token(github: SimulatedGitHub) -> str:
    """The maintainer's own."""
    return github.tokens.issue(github.people.get_person(SPONSORABLE))


@pytest.fixture
async def service(run_service: RunService, token: str) -> AsyncIterator[Service]:
    """A service with the maintainer's token, which compares with GitHub only when asked to."""
    async with run_service(
        maintainer_token=SecretStr(token), reconcile_hours=0, token_audience=AUDIENCE
    ) as running:
        yield running


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of whom everything is asked for; nobody looks."""
    requested: list[str] = []

    async def request(_: ReconcileSchedule, sponsorable: str) -> bool:
        requested.append(sponsorable)
        return True

    monkeypatch.setattr(ReconcileSchedule, "request", request)
    return requested


@pytest.fixture
def clock() -> TickingClock:
    """Every question comes some time after what was known before."""
    return TickingClock()


async def _entitlement_of(browser: Browser) -> dict[str, Any]:
    [entitlement] = (await browser.get("/me")).json()["entitlements"]
    return dict(entitlement)


async def _version(local: Redis) -> object:
    """Returns the latest version of everybody: who is written again is copied again."""
    return await local.zrange(keys.PEOPLE, 0, -1, withscores=True)


async def _let_again(local: Redis) -> None:
    """As if a minute were over."""
    await local.delete(*await local.keys("sponsorsync:refreshe*"))


# ---------------------------------------------------------------------- who may


async def test_without_the_maintainers_token_it_takes_a_login(
    run_service: RunService, github: SimulatedGitHub
) -> None:
    """A user's token is not kept; 409 says where one is got, to programs and to people."""
    async with run_service() as service:
        browser = await service.sign_in("monthly")
        github.requests.clear()
        answer = await browser.post("/me/refresh")
        page = await browser.post("/me/refresh", headers={"accept": "text/html"})

    assert (answer.status_code, answer.json()["code"]) == (409, "sign_in_again")
    assert (answer.json()["login_url"], answer.headers["x-login-url"]) == ("/login", "/login")
    assert (page.status_code, 'href="/login"' in page.text) == (409, True)
    assert github.requests.all() == []


async def test_it_needs_a_session(service: Service) -> None:
    """A token of ours is for others to hold, who must not act for the person."""
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
async def test_another_sites_page_may_not_ask(
    service: Service, github: SimulatedGitHub, headers: dict[str, str]
) -> None:
    """It would spend the person's one question a minute."""
    browser = await service.sign_in("monthly")
    github.requests.clear()
    refused = await browser.post("/me/refresh", headers=headers)
    asked = github.requests.all()
    own = await browser.post("/me/refresh", headers={"Origin": ORIGIN})

    assert (refused.status_code, refused.json()["code"], asked) == (403, "cross_site", [])
    assert own.status_code == 200


# ---------------------------------------------------------------------- what is learnt


async def test_a_missed_created_is_found(service: Service, github: SimulatedGitHub) -> None:
    """In two calls; the answer tells it, and forward auth opens at once."""
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
    """GitHub shows no sponsorship any more: forward auth closes at once."""
    browser = await service.sign_in("monthly")
    [sponsorship] = github.people.sponsorships_of(github.people.get("monthly"))
    github.people.sponsorships.remove(sponsorship)

    answer = await browser.post("/me/refresh")
    door = await browser.get("/auth/sponsor")

    assert (answer.status_code, answer.json()["entitlements"][0]["status"]) == (200, "not_entitled")
    assert door.status_code == 403


async def test_another_tier_is_found(service: Service, github: SimulatedGitHub) -> None:
    """And what was known of its beginning stays."""
    browser = await service.sign_in("monthly")
    before = await _entitlement_of(browser)
    [sponsorship] = github.people.sponsorships_of(github.people.get("monthly"))
    assert sponsorship.tier is not None
    sponsorship.tier.monthly_price_in_cents = 2500

    [entitlement] = (await browser.post("/me/refresh")).json()["entitlements"]

    assert (entitlement["tier_cents"], entitlement["since"]) == (2500, before["since"])


async def test_a_renamed_account_is_asked_about_by_its_number(
    service: Service, github: SimulatedGitHub
) -> None:
    """The login in the profile is an old one."""
    browser = await service.sign_in("monthly")
    github.people.rename("monthly", "monthly-renamed")

    answer = await browser.post("/me/refresh")

    assert (answer.status_code, answer.json()["entitlements"][0]["status"]) == (200, "entitled")


async def test_who_takes_a_freed_login_gives_its_former_owner_nothing(
    service: Service, github: SimulatedGitHub
) -> None:
    """The stranger's login now belongs to a sponsor."""
    browser = await service.sign_in("stranger")
    github.people.rename("stranger", "stranger-renamed")
    github.people.add_person("stranger")
    github.people.sponsor("stranger", SPONSORABLE)

    answer = await browser.post("/me/refresh")

    assert (answer.status_code, answer.json()["entitlements"][0]["status"]) == (200, "not_entitled")


async def test_an_answer_about_another_account_decides_nothing(
    service: Service, github: SimulatedGitHub, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two questions lead to it: whose node it is is compared with whom it was asked for."""
    node_id = github.people.get("monthly").id

    async def fetch_account(_: GitHubClient, person_id: int, __: str) -> GitHubAccount:
        return GitHubAccount(id=person_id, login="stranger", node_id=node_id)

    monkeypatch.setattr(GitHubClient, "fetch_account", fetch_account)
    browser = await service.sign_in("stranger")
    answer = await browser.post("/me/refresh")

    assert (answer.status_code, looks) == (202, [SPONSORABLE])
    assert answer.json()["entitlements"][0]["status"] == "not_entitled"


async def test_an_account_that_is_gone_is_no_answer(
    service: Service, github: SimulatedGitHub
) -> None:
    """It may be suspended, or hidden: what was known holds, marked."""
    browser = await service.sign_in("monthly")
    github.people.remove("monthly")
    github.people.add_person("monthly")

    answer = await browser.post("/me/refresh")
    entitlement = await _entitlement_of(browser)

    assert answer.status_code == 502
    assert "shows no account with your number" in answer.json()["detail"]
    assert (entitlement["status"], entitlement["unknown_since"] is not None) == ("entitled", True)


async def test_a_single_answer_that_is_inactive_does_not_decide(
    service: Service, github: SimulatedGitHub, looks: list[str]
) -> None:
    """GitHub does not say which of several it shows: a look at all of them is asked for."""
    browser = await service.sign_in("monthly")
    github.people.sponsor("monthly", SPONSORABLE, days_ago=1, ended=True)

    answer = await browser.post("/me/refresh")

    assert (answer.status_code, looks) == (202, [SPONSORABLE])
    assert answer.json()["entitlements"][0]["status"] == "entitled"
    assert answer.json()["entitlements"][0]["unknown_since"] is None


async def test_what_an_organization_receives_takes_a_look_at_all(
    run_service: RunService, github: SimulatedGitHub, token: str, looks: list[str]
) -> None:
    """GitHub tells of one sponsor only to who receives; the other sponsorable is settled."""
    maintainer = github.people.get_person(SPONSORABLE)
    github.people.add_organization("big-org", owners=[maintainer], has_sponsors_listing=True)
    async with run_service(
        maintainer_token=SecretStr(token),
        reconcile_hours=0,
        sponsorables=(SPONSORABLE, "big-org"),
    ) as service:
        browser = await service.sign_in("stranger")
        github.people.sponsor("stranger", SPONSORABLE, cents=700)
        github.people.sponsor("stranger", "big-org")
        answer = await browser.post("/me/refresh")

    entitlements = {
        entitlement["sponsorable"]: entitlement["status"]
        for entitlement in answer.json()["entitlements"]
    }
    assert (answer.status_code, looks) == (202, ["big-org"])
    assert entitlements == {SPONSORABLE: "entitled", "big-org": "not_entitled"}


async def test_a_payment_beside_a_monthly_sponsorship_takes_a_look_at_all(
    service: Service, github: SimulatedGitHub, looks: list[str]
) -> None:
    """GitHub tells of one of them, and not which: the monthly one goes on."""
    browser = await service.sign_in("monthly")
    github.people.sponsor("monthly", SPONSORABLE, cents=100, days_ago=0, one_time=True)
    answer = await browser.post("/me/refresh")

    [entitlement] = answer.json()["entitlements"]
    assert (answer.status_code, looks) == (202, [SPONSORABLE])
    assert (entitlement["tier_cents"], entitlement["until"]) == (1000, None)


async def test_somebodys_first_payment_entitles_at_once(
    service: Service, github: SimulatedGitHub, looks: list[str]
) -> None:
    """Whether there is more than that, a look at all tells."""
    browser = await service.sign_in("stranger")
    github.people.sponsor("stranger", SPONSORABLE, cents=2500, days_ago=0, one_time=True)
    answer = await browser.post("/me/refresh")

    [entitlement] = answer.json()["entitlements"]
    assert (answer.status_code, looks) == (202, [SPONSORABLE])
    assert (entitlement["status"], entitlement["tier_cents"]) == ("entitled", 2500)


async def test_a_maintainers_token_that_is_over_tells_nothing_about_people(
    run_service: RunService,
) -> None:
    """Else whoever asks would be out some days later, and who does not would stay."""
    async with run_service(maintainer_token=SecretStr("over"), reconcile_hours=0) as service:
        browser = await service.sign_in("monthly")
        answer = await browser.post("/me/refresh")
        entitlement = await _entitlement_of(browser)

    assert (answer.status_code, answer.json()["code"]) == (502, "github_unavailable")
    assert "token" in answer.json()["detail"]
    assert (entitlement["status"], entitlement["unknown_since"]) == ("entitled", None)


async def test_a_token_of_somebody_else_decides_nothing(
    run_service: RunService, github: SimulatedGitHub, looks: list[str], local: Redis
) -> None:
    """To it the sponsor gives nothing, which says nothing of the maintainer, and is not kept."""
    other = github.tokens.issue(github.people.get_person("private"))
    async with run_service(maintainer_token=SecretStr(other), reconcile_hours=0) as service:
        browser = await service.sign_in("monthly")
        answer = await browser.post("/me/refresh")

    assert (answer.status_code, looks) == (202, [SPONSORABLE])
    assert answer.json()["entitlements"][0]["status"] == "entitled"
    assert await local.keys("sponsorship:private:*") == []


# ---------------------------------------------------------------------- how often


async def test_each_may_ask_once_a_minute(service: Service, github: SimulatedGitHub) -> None:
    """The second one is told when; another person may."""
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


async def test_after_the_wait_it_may_be_asked_again(service: Service, local: Redis) -> None:
    """Both limits end by themselves."""
    browser = await service.sign_in("monthly")
    await browser.post("/me/refresh")
    limits = {str(key): await local.pttl(key) for key in await local.keys("sponsorsync:refreshe*")}
    await local.delete(*limits)
    again = await browser.post("/me/refresh")

    assert set(limits) == {f"sponsorsync:refreshed:{MONTHLY}", "sponsorsync:refreshes"}
    assert all(0 < left <= 60_000 for left in limits.values())
    assert again.status_code == 200


async def test_all_together_may_ask_so_often(
    service: Service, github: SimulatedGitHub, local: Redis
) -> None:
    """The maintainer's budget pays for it; who is refused has not used up their own turn."""
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


async def test_of_many_at_once_one_is_asked(service: Service, github: SimulatedGitHub) -> None:
    """A button that is pressed ten times."""
    browser = await service.sign_in("monthly")
    github.requests.clear()

    answers = await asyncio.gather(*(browser.post("/me/refresh") for _ in range(10)))

    assert sorted(answer.status_code for answer in answers) == [200] + [429] * 9
    assert len(github.requests.all("account")) == 1


# ---------------------------------------------------------------------- no answer


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
async def test_without_an_answer_the_last_one_holds_marked(
    service: Service,
    github: SimulatedGitHub,
    local: Redis,
    switches: dict[str, object],
    status: int,
    code: str,
    login: str,
) -> None:
    """Unknown is not no: who was entitled stays so for a while; the mark stays the first one."""
    browser = await service.sign_in(login)
    trail = await local.xlen(keys.AUDIT)
    before = await _entitlement_of(browser)
    vars(github.switches).update(switches)
    answer = await browser.post("/me/refresh")
    after, version = await _entitlement_of(browser), await _version(local)
    await _let_again(local)
    await browser.post("/me/refresh")
    again = await _entitlement_of(browser)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert (before["unknown_since"], after["unknown_since"] is not None) == (None, True)
    assert after["checked_at"] == before["checked_at"]
    assert after["status"] == {"entitled": "entitled", "not_entitled": "unknown"}[before["status"]]
    assert (again, await _version(local)) == (after, version)
    assert await local.xlen(keys.AUDIT) == trail


async def test_the_next_answer_takes_the_mark_away(
    service: Service, github: SimulatedGitHub, local: Redis
) -> None:
    """It is as if nothing had been."""
    browser = await service.sign_in("monthly")
    github.switches.fail = {"graphql"}
    await browser.post("/me/refresh")
    github.switches.fail = set()
    await _let_again(local)
    answer = await browser.post("/me/refresh")

    assert answer.json()["entitlements"][0]["unknown_since"] is None


@pytest.mark.parametrize(
    "switches", [{}, {"fail": {"graphql"}}, {"forbidden": True}, {"rate_limited": True}], ids=str
)
async def test_the_maintainers_token_is_neither_told_nor_kept(
    service: Service,
    github: SimulatedGitHub,
    token: str,
    local: Redis,
    switches: dict[str, object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In no answer, no line of the log and no key."""
    browser = await service.sign_in("monthly")
    vars(github.switches).update(switches)
    answer = await browser.post("/me/refresh")
    logged = capsys.readouterr()
    stored = await read_everything(local)

    assert "person=48210377" in logged.out or "request_failed" in logged.out
    texts = [answer.text, str(answer.headers), logged.out, logged.err, stored]
    assert not any(token in text for text in texts)
    assert json.loads(answer.text)
