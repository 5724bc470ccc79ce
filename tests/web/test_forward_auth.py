"""Forward auth: who is let through, what a proxy is told, and whom it is believed."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from sponsorsync.app import create_app
from sponsorsync.store import keys
from sponsorsync.store.people import PeopleStore
from tests.conftest import hand_state
from tests.support.proxy import run_proxy
from tests.support.waiting import until

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from sponsorsync.sandbox.github import SimulatedGitHub
    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.settings import Settings
    from tests.conftest import Browser, Clock, RunService, Service

ASK = "/auth/sponsor"
MONTHLY = 48210377
LOGIN_URL = "http://sponsorsync.test/login"
SPONSOR_URL = "http://github.test/sponsors/maintainer"
APP = "https://app.example"
# ASGITransport says so of its clients.
PEER = ip_network("127.0.0.1")
FORWARDED = {
    "x-forwarded-proto": "http",
    "x-forwarded-host": "sponsorsync.test",
    "x-forwarded-uri": "/members/?page=2&from=%2Fa",
}


@pytest.mark.parametrize(
    ("login", "min_cents", "headers"),
    [
        ("monthly", None, {"id": "48210377", "login": "monthly", "cents": "1000"}),
        ("monthly", 1000, {"id": "48210377", "login": "monthly", "cents": "1000"}),
        ("private", 500, {"id": "73355190", "login": "private", "cents": "500"}),
        ("patreon", None, {"id": "55618204", "login": "patreon"}),
        ("patreon", 0, {"id": "55618204", "login": "patreon"}),
    ],
)
async def test_who_is_entitled_is_let_through(
    browser: Browser, login: str, min_cents: int | None, headers: dict[str, str]
) -> None:
    """With what is known of them, and nothing where it is not."""
    await browser.sign_in(login)

    answer = await _ask(browser, min_cents)

    assert (answer.status_code, answer.content) == (204, b"")
    assert _told(answer) == headers


async def test_a_entitlement_that_ends_tells_when(browser: Browser, clock: Clock) -> None:
    """A whole second, in UTC, and then it is over."""
    await browser.sign_in("one-time")
    before = await _ask(browser, 2500)
    clock.advance(days=26)
    after = await _ask(browser)

    entitlements = (await browser.get("/me")).json()["entitlements"]
    assert (before.status_code, after.status_code) == (204, 403)
    assert _told(before)["until"] == entitlements[0]["considered"][0]["until"]
    assert _told(before)["until"].endswith("Z")


@pytest.mark.parametrize(
    ("login", "min_cents", "code", "word"),
    [
        ("stranger", None, "not_a_sponsor", "GitHub shows no sponsorship"),
        ("former", None, "not_a_sponsor", "ended by"),
        ("monthly", 1001, "tier_too_low", "$10.01 or more. You sponsor maintainer with $10.00"),
        ("private", 1000, "tier_too_low", "$10.00 or more"),
        ("patreon", 1, "tier_unknown", "$0.01 or more"),
    ],
)
async def test_who_is_not_entitled_is_shown_where_to_become_so(
    browser: Browser, login: str, min_cents: int | None, code: str, word: str
) -> None:
    """A program reads the code, a person the sentence."""
    await browser.sign_in(login)

    answer = await _ask(browser, min_cents)
    page = await browser.get(
        ASK, params={"min_cents": min_cents or 0}, headers={"accept": "text/html"}
    )

    assert (answer.status_code, answer.json()["code"]) == (403, code)
    assert word in answer.json()["detail"]
    assert answer.headers["x-sponsor-url"] == answer.json()["sponsor_url"] == SPONSOR_URL
    assert page.status_code == 403
    assert page.headers["x-sponsor-url"] == SPONSOR_URL
    assert f'href="{SPONSOR_URL}"' in page.text
    assert not _told(answer)


async def test_a_stranger_without_a_session_is_shown_the_way_in(browser: Browser) -> None:
    """By its whole address: the page is shown under another one."""
    answer = await _ask(browser)
    page = await browser.get(ASK, headers={"accept": "text/html"})

    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
    assert answer.headers["x-login-url"] == answer.json()["login_url"] == LOGIN_URL
    assert page.status_code == 401
    assert f'href="{LOGIN_URL}"' in page.text


async def test_a_session_that_is_not_known_is_none(browser: Browser) -> None:
    """Nobody can make one up."""
    browser.cookies.set("sponsorsync", "made-up", domain="sponsorsync.test")

    assert (await _ask(browser)).status_code == 401


async def test_signing_out_closes_it_at_once(sponsor: Browser) -> None:
    """Also for who kept the cookie."""
    token = sponsor.cookies["sponsorsync"]
    await sponsor.post("/logout")
    sponsor.cookies.set("sponsorsync", token, domain="sponsorsync.test")

    assert (await _ask(sponsor)).status_code == 401


async def test_losing_the_entitlement_closes_it_at_once(
    sponsor: Browser, local: Redis, clock: Clock
) -> None:
    """The facts are read each time; nothing is remembered."""
    before = await _ask(sponsor)
    ended = int(clock().timestamp()) - 1
    await local.hset(keys.sponsorship("maintainer", MONTHLY), "valid_until", ended)
    after = await _ask(sponsor)

    assert (before.status_code, after.status_code) == (204, 403)


async def test_the_last_answer_holds_while_github_cannot_be_asked(
    browser: Browser, github: SimulatedGitHub, clock: Clock
) -> None:
    """For STALE_HOURS from the first failure, and then it is unknown, which is not 'no'."""
    await browser.sign_in("monthly")
    github.switches.forbidden_data = True
    await browser.sign_in("monthly")
    before = await _ask(browser)
    clock.advance(hours=72)
    after = await _ask(browser)

    assert (before.status_code, after.status_code) == (204, 403)
    assert "until" in _told(before)
    assert after.json()["code"] == "entitlement_unknown"
    assert "not known" in after.json()["detail"]


async def test_who_was_never_told_is_not_called_a_stranger(
    browser: Browser, github: SimulatedGitHub
) -> None:
    """GitHub refused to say it, and not to them."""
    github.switches.forbidden = True
    await browser.sign_in("monthly")

    answer = await _ask(browser)

    assert (answer.status_code, answer.json()["code"]) == (403, "entitlement_unknown")


async def test_each_sponsorable_has_its_own_answer(
    run_service: RunService, github: SimulatedGitHub
) -> None:
    """The first one is meant where none is named; logins have no case."""
    github.people.add_organization("Big-Org", has_sponsors_listing=True)
    github.people.sponsor("private", "Big-Org", cents=2500)
    async with run_service(sponsorables=("maintainer", "big-org")) as service:
        browser = await service.sign_in("private")
        answers = [
            await browser.get(ASK, params={"sponsorable": name, "min_cents": 2500})
            for name in ("", "maintainer", "big-org", "Big-Org")
        ]

    assert [answer.status_code for answer in answers] == [403, 403, 204, 204]


async def test_an_unknown_sponsorable_is_404(sponsor: Browser) -> None:
    """Whoever wrote the proxy's configuration finds out why it lets nobody in."""
    answer = await sponsor.get(ASK, params={"sponsorable": "somebody"})

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "SPONSORSYNC_SPONSORABLES" in answer.json()["detail"]


@pytest.mark.parametrize("min_cents", ["-1", "ten", "10.5", "", "100000001", "9" * 400])
async def test_what_is_no_amount_lets_nobody_in(sponsor: Browser, min_cents: str) -> None:
    """A mistake in a proxy's configuration must not open what it guards."""
    answer = await sponsor.get(ASK, params={"min_cents": min_cents})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert "min_cents" in answer.json()["detail"]


async def test_the_way_back_comes_from_a_trusted_proxy(run_service: RunService) -> None:
    """Its `next` leads where the person wanted to go, with the whole query."""
    async with run_service(trusted_proxies=(PEER,)) as service:
        browser = await service.open_browser()
        answer = await browser.get(ASK, headers=FORWARDED)

    assert _next_of(answer) == ["/members/?page=2&from=%2Fa"]


async def test_the_way_back_may_lead_to_an_allowed_origin(run_service: RunService) -> None:
    """Where a front end lives elsewhere; the sign-in takes the same ones."""
    theirs = {**FORWARDED, "x-forwarded-proto": "https", "x-forwarded-host": "app.example"}
    async with run_service(trusted_proxies=(PEER,), allowed_origins=(APP,)) as service:
        browser = await service.open_browser()
        answer = await browser.get(ASK, headers=theirs)

    assert _next_of(answer) == [f"{APP}/members/?page=2&from=%2Fa"]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-host": "evil.example"},
        {"x-forwarded-host": "sponsorsync.test@evil.example"},
        {"x-forwarded-host": "sponsorsync.test, evil.example"},
        {"x-forwarded-proto": "javascript"},
        {"x-forwarded-uri": "//evil.example"},
        {"x-forwarded-uri": "/\\evil.example"},
        {"x-forwarded-uri": "@evil.example"},
        {"x-forwarded-uri": ""},
    ],
)
async def test_a_trusted_proxy_leads_nobody_astray(
    run_service: RunService, headers: dict[str, str]
) -> None:
    """Proxies pass on what a client said; the sign-in's address then has no way back."""
    async with run_service(trusted_proxies=(PEER,)) as service:
        browser = await service.open_browser()
        answer = await browser.get(ASK, headers={**FORWARDED, **headers})

    assert answer.headers["x-login-url"] == LOGIN_URL


@pytest.mark.parametrize("trusted", [(), (ip_network("10.0.0.0/8"), ip_network("::1"))])
async def test_other_peers_are_not_believed(run_service: RunService, trusted: object) -> None:
    """Anybody can send the headers; by default nobody is believed."""
    async with run_service(trusted_proxies=trusted) as service:
        browser = await service.open_browser()
        answer = await browser.get(ASK, headers=FORWARDED)

    assert answer.status_code == 401
    assert answer.headers["x-login-url"] == LOGIN_URL


@pytest.mark.parametrize(
    ("peer", "is_believed"),
    [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("11.1.2.3", False), ("", False)],
)
async def test_a_network_of_proxies_is_trusted_whatever_the_socket_is(
    run_service: RunService, peer: str, is_believed: bool
) -> None:
    """A socket for both families shows IPv4 addresses as mapped ones; a Unix socket shows none."""
    async with (
        run_service(trusted_proxies=(ip_network("10.0.0.0/8"),)) as service,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(service.app, client=(peer, 1)),
            base_url="http://sponsorsync.test",
        ) as client,
    ):
        answer = await client.get(ASK, headers=FORWARDED)

    assert ("next=" in answer.headers["x-login-url"]) is is_believed


async def test_a_login_that_is_none_stays_out_of_the_headers(
    sponsor: Browser, local: Redis
) -> None:
    """Redis is shared with others, who could otherwise write headers of an answer."""
    await local.hset(keys.user_details(MONTHLY), "user_login", "x\r\nX-Sponsor-Cents: 99")

    answer = await _ask(sponsor)

    assert _told(answer) == {"id": str(MONTHLY), "cents": "1000"}


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        ("", "somebody=else"),
        ("min_cents=1000", "min%5Fcents=1000"),
        ("min_cents=01001", "min_cents=5&min_cents=01001"),
        ("sponsorable=Maintainer", "sponsorable=M%61intainer"),
        ("sponsorable=maintainer&min_cents=7", "min_cents=7&sponsorable=maintainer"),
        ("sponsorable=maintainer&", "&sponsorable=maintainer"),
        ("sponsorable=&min_cents=7", "min_cents=7&sponsorable="),
        ("sponsorable=somebody", "sponsorable=%73omebody"),
    ],
)
@pytest.mark.parametrize("origin", [APP, "https://evil.example", None])
async def test_a_plain_question_is_answered_as_any_other(
    run_service: RunService, plain: str, other: str, origin: str | None
) -> None:
    """With the same headers, those of the middlewares included."""
    headers = {"x-forwarded-for": "1"} if origin is None else {"origin": origin}
    async with run_service(allowed_origins=(APP,)) as service:
        browser = await service.open_browser()
        pairs = []
        for login in (None, "monthly", "stranger"):
            if login is not None:
                await browser.sign_in(login)
            pairs.append(
                [await browser.get(f"{ASK}?{query}", headers=headers) for query in (plain, other)]
            )

    for one, another in pairs:
        assert (one.status_code, one.content) == (another.status_code, another.content)
        assert one.headers == another.headers
        assert one.headers["x-content-type-options"] == "nosniff"
        assert ("access-control-allow-origin" in one.headers) is (origin == APP)


@pytest.mark.parametrize(
    ("query", "is_plain"),
    [
        ("", True),
        ("min_cents=1000", True),
        ("min_cents=99999999", True),
        ("sponsorable=maintainer", True),
        ("sponsorable=maintainer&min_cents=1000", True),
        ("min_cents=100000000", False),
        ("min_cents=", False),
        ("min_cents=-1", False),
        ("min_cents=+1", False),
        ("min_cents=1&min_cents=0", False),
        ("sponsorable=&min_cents=1000", True),
        ("sponsorable=" + "a" * 101, False),
        ("sponsorable=maintainermin_cents=1", False),
        ("sponsorable=a%0D%0Ab", False),
        ("unknown=1", False),
    ],
)
async def test_a_plain_question_needs_no_route(
    settings: Settings, query: str, is_plain: bool
) -> None:
    """It is asked most often; what leaves anything to check is FastAPI's."""
    app = create_app(settings)
    app.router.routes.clear()
    async with (
        app.router.lifespan_context(app) as state,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(hand_state(app, state or {})),
            base_url="http://sponsorsync.test",
        ) as client,
    ):
        answer = await client.get(f"{ASK}?{query}")
        others = [
            await client.head(f"{ASK}?{query}"),
            await client.post(f"{ASK}?{query}"),
            await client.get(f"{ASK}/?{query}"),
        ]

    assert answer.json()["code"] == ("not_signed_in" if is_plain else "not_found")
    assert is_plain or answer.json()["detail"] == "There is nothing at this address."
    assert [other.status_code for other in others] == [404] * 3


@pytest.mark.parametrize("query", ["min_cents=1000", "min%5Fcents=1000"])
async def test_what_nobody_foresaw_is_not_told(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """The trace is for the log; browsers are told what they always are."""

    async def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(PeopleStore, "load_caller", fail)
    await browser.sign_in("monthly")

    answer = await browser.get(f"{ASK}?{query}")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_it_costs_one_round_trip(
    run_service: RunService, local_server: EmbeddedValkey
) -> None:
    """It stands before each request to something else."""
    async with run_proxy(local_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        async with run_service(redis_url=url, redis_pool_size=1) as service:
            browser = await service.sign_in("monthly")
            await _ask(browser)  # loads the script
            before = proxy.round_trips
            answer = await _ask(browser, 1000)
            cost = proxy.round_trips - before

    assert (answer.status_code, cost) == (204, 1)


async def test_what_local_lost_is_fetched_from_durable_first(
    run_service: RunService, durable_server: EmbeddedValkey, durable: Redis, local: Redis
) -> None:
    """After an eviction the first answer is right."""
    assert durable is not None  # it is empty now
    async with run_service(durable_url=SecretStr(durable_server.url)) as service:
        browser = await service.open_browser()
        await _sign_in_and_lose(browser, local)
        answer = await _ask(browser, 1000)

    assert answer.status_code == 204
    assert _told(answer) == {"id": str(MONTHLY), "login": "monthly", "cents": "1000"}


async def test_what_only_durable_knows_is_503_while_it_is_away(
    run_service: RunService, durable_server: EmbeddedValkey, durable: Redis, local: Redis
) -> None:
    """Neither yes nor no."""
    assert durable is not None  # it is empty now
    async with run_proxy(durable_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        async with run_service(durable_url=url) as service:
            browser = await service.open_browser()
            await _sign_in_and_lose(browser, local)
            proxy.cut()
            answer = await _ask(browser)

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_page_of_another_site_learns_nothing(sponsor: Browser) -> None:
    """It is a read, and CORS keeps its answer from who is not named."""
    answer = await sponsor.get(ASK, headers={"origin": "https://evil.example"})

    assert answer.status_code == 204
    assert "access-control-allow-origin" not in answer.headers


async def test_its_headers_are_described(service: Service) -> None:
    """Whoever writes a proxy's configuration looks there."""
    browser = await service.open_browser()

    document = (await browser.get("/openapi.json")).json()

    answers = document["paths"][ASK]["get"]["responses"]
    assert set(answers["204"]["headers"]) == {
        "X-Sponsor-Id",
        "X-Sponsor-Login",
        "X-Sponsor-Cents",
        "X-Sponsor-Until",
    }
    assert {"401", "403", "404", "503"} <= set(answers)


async def _ask(browser: Browser, min_cents: int | None = None) -> httpx.Response:
    params = {} if min_cents is None else {"min_cents": min_cents}
    return await browser.get(ASK, params=params)


async def _sign_in_and_lose(browser: Browser, local: Redis) -> None:
    await browser.sign_in("monthly")
    await until(lambda: _is_clean(local))
    await local.delete(keys.sponsorship("maintainer", MONTHLY))


async def _is_clean(local: Redis) -> bool:
    return bool(await local.scard(keys.DIRTY) == 0)


def _told(answer: httpx.Response) -> dict[str, str]:
    names = ("id", "login", "cents", "until")
    return {
        n: answer.headers[f"x-sponsor-{n}"] for n in names if f"x-sponsor-{n}" in answer.headers
    }


def _next_of(answer: httpx.Response) -> list[str]:
    return parse_qs(urlsplit(answer.headers["x-login-url"]).query)["next"]
