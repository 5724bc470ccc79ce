"""Linking an account at Patreon: the saved grant, failures, and secrets."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.sandbox.patreon import SimulatedPatreon
from sponsorsync.sandbox.patrons import Patron
from sponsorsync.store import keys
from tests.conftest import (
    ORIGIN,
    PATREON_SETTINGS,
    PATREON_URL,
    SPONSORABLE,
    UNREACHABLE,
    Browser,
    Clock,
    RunBrowser,
    Service,
)
from tests.support.contents import read_everything
from tests.support.patronages import HTML, LINKED_ACCOUNTS, STRANGER, patronage_of
from tests.support.waiting import until_relayed


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
async def test_a_link_saves_the_patronage_with_its_end(
    stranger: Browser, clock: Clock, role: str, status: str, cents: int, days: int
) -> None:
    """A patronage that has ended is saved, too; the page then says why it does not entitle."""
    done = await stranger.link_patreon(role)
    patronage = await patronage_of(stranger)
    page = await stranger.get("/account")

    assert (done.status_code, done.headers["location"]) == (303, "/account")
    assert patronage is not None
    assert (patronage["status"], patronage["tier_cents"]) == (status, cents)
    assert abs(datetime.fromisoformat(patronage["until"]) - clock.now - timedelta(days=days)) < (
        timedelta(seconds=2)
    )
    assert (await stranger.load_entitlement())["status"] == status
    assert patronage["reason"] in page.text
    assert "Unlink Patreon" in page.text


@pytest.mark.parametrize("role", ["free", "stranger"])
async def test_the_page_says_that_an_account_shows_no_support(stranger: Browser, role: str) -> None:
    """Nothing is saved, so without a message the link would seem to have failed."""
    before = await stranger.load_entitlement()
    done = await stranger.link_patreon(role)
    page = await stranger.get(done.headers["location"])

    assert done.status_code == 303
    assert await stranger.load_entitlement() == before
    assert "Patreon shows no support of maintainer by your account there." in page.text
    assert "Unlink Patreon" not in page.text


async def test_a_refused_consent_links_nothing(stranger: Browser) -> None:
    """The page offers another try; the same callback again is an expired attempt."""
    back = await stranger.go_to_patreon("denier")
    page = await stranger.get(back, headers=HTML)
    again = await stranger.get(back)

    assert (page.status_code, 'href="/patreon/link"' in page.text) == (403, True)
    assert "so nothing was linked" in page.text
    assert (again.status_code, again.json()["code"]) == (400, "link_expired")
    assert await patronage_of(stranger) is None


async def test_a_code_beside_an_error_is_no_consent(stranger: Browser) -> None:
    """Patreon reports a refusal, so the code in the same request is not used."""
    back = await stranger.go_to_patreon("active")

    answer = await stranger.get(f"{back}&error=access_denied")

    assert (answer.status_code, answer.json()["code"]) == (403, "link_denied")
    assert await patronage_of(stranger) is None


async def test_a_link_requests_one_scope_and_has_a_state(stranger: Browser) -> None:
    """The cookie of the attempt is encrypted, and scripts cannot read it."""
    to_patreon = await stranger.get("/patreon/link")
    query = parse_qs(urlsplit(to_patreon.headers["location"]).query)
    cookie = to_patreon.headers["set-cookie"]

    assert to_patreon.headers["location"].startswith(f"{PATREON_URL}/oauth2/authorize?")
    assert (query["scope"], query["redirect_uri"]) == (["identity"], [f"{ORIGIN}/patreon/callback"])
    assert len(query["state"][0]) >= 30
    assert query["state"][0] not in cookie
    assert "HttpOnly" in cookie


async def test_forward_auth_lets_a_patron_through_by_the_tier(stranger: Browser) -> None:
    """`min_cents` applies to a patron's tier as to a sponsor's."""
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


async def test_only_our_maintainer_counts(stranger: Browser, patreon: SimulatedPatreon) -> None:
    """A pledge to another campaign gives no grant, even if Patreon shows it to our client."""
    patreon.patrons["active"].memberships.pop(0)
    patreon.patrons["active"].memberships[0].campaign_id = "7777777"
    patreon.campaign_id = "7777777"  # Patreon's owner of our client; the service expects another id
    await stranger.link_patreon("active")

    assert await patronage_of(stranger) is None


async def test_the_better_of_both_sources_counts(service: Service) -> None:
    """The higher tier decides; `considered` shows both grants."""
    browser = await service.sign_in("private")
    await browser.link_patreon("active")
    entitlement = await browser.load_entitlement()

    assert (entitlement["source"], entitlement["tier_cents"]) == ("patreon", 1000)
    assert [(each["source"], each["tier_cents"]) for each in entitlement["considered"]] == [
        ("sponsorship", 500),
        ("patreon", 1000),
    ]


async def test_a_link_has_to_be_renewed_after_the_paid_month(
    stranger: Browser, patreon: SimulatedPatreon, clock: Clock
) -> None:
    """The service does not ask Patreon again, so the reason asks the person to link again."""
    await stranger.link_patreon("active")
    clock.advance(days=20, seconds=1)
    await stranger.sign_in("stranger")  # the session has expired, too
    ended, door = await stranger.load_entitlement(), await stranger.get("/auth/sponsor")
    patreon.patrons["active"].memberships[0].next_charge_date = clock.now + timedelta(days=30)
    await stranger.link_patreon("active")
    again = await stranger.load_entitlement()

    assert (ended["status"], door.status_code) == ("not_entitled", 403)
    assert ended["reason"].startswith("Your access through Patreon ended by ")
    assert ended["reason"].endswith("Link Patreon again if you still support maintainer there.")
    assert again["status"] == "entitled"


async def test_a_login_does_not_end_a_patronage(stranger: Browser) -> None:
    """A sign-in asks GitHub only, and GitHub's 'no' does not end a grant of Patreon."""
    await stranger.link_patreon("active")
    await stranger.sign_in("stranger")

    assert (await stranger.load_entitlement())["source"] == "patreon"


async def test_a_link_survives_the_loss_of_the_local_redis(
    service: Service, stranger: Browser, local: Redis, durable: Redis
) -> None:
    """Durable has the grant with the account's id, from which the index is restored."""
    await stranger.link_patreon("active")
    await until_relayed(local)
    assert "account_id" in str(await durable.hget(keys.sponsorship(SPONSORABLE, STRANGER), "also"))
    await local.delete(keys.sponsorship(SPONSORABLE, STRANGER), LINKED_ACCOUNTS)
    entitlement = await stranger.load_entitlement()
    other = await service.sign_in("former")
    await other.link_patreon("active")

    assert entitlement["source"] == "patreon"
    assert await patronage_of(stranger) is None


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
async def test_a_failed_link_changes_nothing(
    stranger: Browser,
    patreon: SimulatedPatreon,
    local: Redis,
    switches: dict[str, object],
    status: int,
    code: str,
) -> None:
    """Unknown is not 'no': the earlier grant stays, and the page offers another try."""
    await stranger.link_patreon("active")
    before = await stranger.load_entitlement(), await local.xlen(keys.AUDIT)
    backs = [await stranger.go_to_patreon("former") for _ in range(2)]
    vars(patreon.switches).update(switches)
    answer, page = (await stranger.get(backs[0]), await stranger.get(backs[1], headers=HTML))
    again = await stranger.get(backs[0])

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (answer.headers.get("retry-after") == "9") == (status == 503)
    assert (page.status_code, 'href="/patreon/link"' in page.text) == (status, True)
    assert again.status_code == 400
    assert (await stranger.load_entitlement(), await local.xlen(keys.AUDIT)) == before


async def test_a_wrong_patreon_secret_is_named(run_browser: RunBrowser, durable: Redis) -> None:
    """The answer names the setting to correct, and contains no secret."""
    assert durable is not None
    wrong = {**PATREON_SETTINGS, "patreon_secret": SecretStr("a-wrong-secret-of-the-client")}
    async with run_browser("stranger", **wrong) as browser:
        answer = await browser.link_patreon("active")

    assert (answer.status_code, answer.json()["code"]) == (502, "link_unavailable")
    assert "SPONSORSYNC_PATREON_SECRET" in answer.json()["detail"]
    assert "a-wrong-secret" not in answer.text


@pytest.mark.parametrize("lost", [True, False], ids=["unknown", "known in part"])
async def test_a_link_waits_for_durable(run_browser: RunBrowser, local: Redis, lost: bool) -> None:
    """Durable may have other grants, or another link of the account, so the answer is 503."""
    async with run_browser("stranger", durable_url=UNREACHABLE, **PATREON_SETTINGS) as browser:
        await local.delete(*[keys.sponsorship(SPONSORABLE, STRANGER)] * lost, "no such key")
        before = await local.hgetall(keys.sponsorship(SPONSORABLE, STRANGER))
        answers = [await browser.link_patreon("active"), await browser.post("/patreon/unlink")]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(503, "store_unavailable")] * 2
    assert await local.hgetall(keys.sponsorship(SPONSORABLE, STRANGER)) == before


async def test_no_token_of_patreons_is_stored_or_shown(
    stranger: Browser,
    patreon: SimulatedPatreon,
    local: Redis,
    durable: Redis,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No Redis key, cookie, log line or answer contains a token or the client's secret."""
    issued: list[str] = []
    issue = patreon._issue

    def record(patron: Patron, scopes: Iterable[str]) -> str:
        issued.append(issue(patron, scopes))
        return issued[-1]

    monkeypatch.setattr(patreon, "_issue", record)
    done = await stranger.link_patreon("active")
    await until_relayed(local)
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
