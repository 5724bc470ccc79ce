"""Forward auth (`/auth/sponsor`): its answers, its headers, and the trusted proxies."""

from ipaddress import ip_network
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.app import create_app
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.store.people import PeopleStore
from tests.conftest import Browser, Clock, RunBrowser, RunService, Service, hand_state
from tests.support.proxy import run_proxy
from tests.support.waiting import until_relayed

ASK = "/auth/sponsor"
MONTHLY = 48210377
LOGIN_URL = "http://sponsorsync.test/login"
SPONSOR_URL = "http://github.test/sponsors/maintainer"
APP = "https://app.example"
# The address that httpx.ASGITransport gives to its clients.
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
async def test_an_entitled_person_is_allowed(
    browser: Browser, login: str, min_cents: int | None, headers: dict[str, str]
) -> None:
    """The headers contain the known values only: a sponsor through Patreon has no amount."""
    await browser.sign_in(login)

    answer = await _ask(browser, min_cents)

    assert (answer.status_code, answer.content) == (204, b"")
    assert _headers_of(answer) == headers


async def test_the_end_of_an_entitlement_is_a_header(browser: Browser, clock: Clock) -> None:
    """GitHub sends no event at the end of a one-time payment, so the end is stored and compared."""
    await browser.sign_in("one-time")
    before, entitlement = await _ask(browser, 2500), await browser.load_entitlement()
    clock.advance(days=26)
    after, ended = await _ask(browser), await browser.load_entitlement()

    assert (entitlement["status"], entitlement["is_one_time"]) == ("entitled", True)
    assert ended["status"] == "not_entitled"
    assert (before.status_code, after.status_code) == (204, 403)
    assert _headers_of(before)["until"] == entitlement["until"]
    assert _headers_of(before)["until"] == ended["considered"][0]["until"]
    assert _headers_of(before)["until"].endswith("Z")


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
async def test_a_person_without_entitlement_is_sent_to_the_sponsorable(
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
    assert not _headers_of(answer)


async def test_without_a_session_the_answer_links_to_the_sign_in(browser: Browser) -> None:
    """The link is absolute, since the proxy shows the page under its own address."""
    answer = await _ask(browser)
    page = await browser.get(ASK, headers={"accept": "text/html"})

    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
    assert answer.headers["x-login-url"] == answer.json()["login_url"] == LOGIN_URL
    assert page.status_code == 401
    assert f'href="{LOGIN_URL}"' in page.text


async def test_an_invented_session_is_refused(browser: Browser) -> None:
    """Only sessions that the server has stored are valid."""
    browser.cookies.set("sponsorsync", "made-up", domain="sponsorsync.test")

    assert (await _ask(browser)).status_code == 401


async def test_a_lost_entitlement_closes_it(sponsor: Browser, local: Redis, clock: Clock) -> None:
    """Each request reads the stored facts; nothing is cached."""
    before = await _ask(sponsor)
    ended = int(clock().timestamp()) - 1
    await local.hset(keys.sponsorship("maintainer", MONTHLY), "valid_until", ended)
    after = await _ask(sponsor)

    assert (before.status_code, after.status_code) == (204, 403)


async def test_the_last_answer_holds_during_an_outage_of_github(
    browser: Browser, github: SimulatedGitHub, clock: Clock
) -> None:
    """STALE_HOURS after the first failure the entitlement is unknown, which is not 'no'."""
    await browser.sign_in("monthly")
    github.switches.forbidden_data = True
    done = await browser.sign_in("monthly")
    before, entitlement = await _ask(browser), await browser.load_entitlement()
    clock.advance(hours=72)
    after = await _ask(browser)

    assert (before.status_code, after.status_code) == (204, 403)
    assert "until" in _headers_of(before)
    assert (done.status_code, entitlement["status"]) == (303, "entitled")
    assert entitlement["unknown_since"] is not None
    assert "has not answered since" in entitlement["reason"]
    assert after.json()["code"] == "entitlement_unknown"
    assert "not known" in after.json()["detail"]


async def test_no_answer_of_github_is_unknown(browser: Browser, github: SimulatedGitHub) -> None:
    """GitHub refuses our request, which says nothing about the person."""
    github.switches.forbidden = True
    await browser.sign_in("monthly")

    answer = await _ask(browser)

    entitlement = await browser.load_entitlement()
    assert (answer.status_code, answer.json()["code"]) == (403, "entitlement_unknown")
    assert (entitlement["status"], entitlement["source"]) == ("unknown", "none")


async def test_sponsorables_are_distinct(run_browser: RunBrowser, github: SimulatedGitHub) -> None:
    """Without a parameter the first sponsorable applies; the letter case does not matter."""
    github.people.add_organization("Big-Org", has_sponsors_listing=True)
    github.people.sponsor("private", "Big-Org", cents=2500)
    async with run_browser("private", sponsorables=("maintainer", "big-org")) as browser:
        answers = [
            await browser.get(ASK, params={"sponsorable": name, "min_cents": 2500})
            for name in ("", "maintainer", "big-org", "Big-Org")
        ]
        entitlements = (await browser.get("/me")).json()["entitlements"]

    assert [answer.status_code for answer in answers] == [403, 403, 204, 204]
    assert [(c["sponsorable"], c["status"], c["tier_cents"]) for c in entitlements] == [
        ("maintainer", "entitled", 500),
        ("big-org", "entitled", 2500),
    ]


async def test_an_unknown_sponsorable_is_404(sponsor: Browser) -> None:
    """The message names the setting, since the proxy's configuration is wrong."""
    answer = await sponsor.get(ASK, params={"sponsorable": "somebody"})

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "SPONSORSYNC_SPONSORABLES" in answer.json()["detail"]


@pytest.mark.parametrize("min_cents", ["-1", "ten", "10.5", "", "100000001", "9" * 400])
async def test_a_malformed_amount_allows_nobody(sponsor: Browser, min_cents: str) -> None:
    """A mistake in the proxy's configuration must not open the protected pages."""
    answer = await sponsor.get(ASK, params={"min_cents": min_cents})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert "min_cents" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("changed", "next_urls"),
    [
        ({}, ["/members/?page=2&from=%2Fa"]),
        (
            {"x-forwarded-proto": "https", "x-forwarded-host": "app.example"},
            [f"{APP}/members/?page=2&from=%2Fa"],
        ),
        ({"x-forwarded-host": "evil.example"}, []),
        ({"x-forwarded-host": "sponsorsync.test@evil.example"}, []),
        ({"x-forwarded-host": "sponsorsync.test, evil.example"}, []),
        ({"x-forwarded-proto": "javascript"}, []),
        ({"x-forwarded-uri": "//evil.example"}, []),
        ({"x-forwarded-uri": "/\\evil.example"}, []),
        ({"x-forwarded-uri": "@evil.example"}, []),
        ({"x-forwarded-uri": ""}, []),
    ],
)
async def test_a_trusted_proxy_leads_back_here_or_to_an_allowed_origin(
    run_browser: RunBrowser, changed: dict[str, str], next_urls: list[str]
) -> None:
    """The sign-in leads back to the requested address with its query.

    A proxy also forwards headers that the client sent, so other origins are refused.
    """
    async with run_browser(trusted_proxies=(PEER,), allowed_origins=(APP,)) as browser:
        answer = await browser.get(ASK, headers={**FORWARDED, **changed})

    assert answer.headers["x-login-url"].partition("?")[0] == LOGIN_URL
    assert _next_of(answer) == next_urls


@pytest.mark.parametrize("trusted", [(), (ip_network("10.0.0.0/8"), ip_network("::1"))])
async def test_other_peers_are_not_trusted(run_browser: RunBrowser, trusted: object) -> None:
    """Any client can send these headers; by default the service trusts no proxy."""
    async with run_browser(trusted_proxies=trusted) as browser:
        answer = await browser.get(ASK, headers=FORWARDED)

    assert answer.status_code == 401
    assert answer.headers["x-login-url"] == LOGIN_URL


@pytest.mark.parametrize(
    ("peer", "is_trusted"),
    [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("11.1.2.3", False), ("", False)],
)
async def test_a_network_of_proxies_is_trusted_over_each_kind_of_socket(
    run_service: RunService, peer: str, is_trusted: bool
) -> None:
    """A dual-stack socket shows IPv4 peers as mapped IPv6 ones; a Unix socket shows none."""
    async with (
        run_service(trusted_proxies=(ip_network("10.0.0.0/8"),)) as service,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(service.app, client=(peer, 1)),
            base_url="http://sponsorsync.test",
        ) as client,
    ):
        answer = await client.get(ASK, headers=FORWARDED)

    assert ("next=" in answer.headers["x-login-url"]) is is_trusted


async def test_a_malformed_login_is_not_sent_as_a_header(sponsor: Browser, local: Redis) -> None:
    """Other programs can write to Redis; a line break would inject a header."""
    await local.hset(keys.user_details(MONTHLY), "user_login", "x\r\nX-Sponsor-Cents: 99")

    answer = await _ask(sponsor)

    assert _headers_of(answer) == {"id": str(MONTHLY), "cents": "1000"}


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
async def test_the_fast_path_answers_as_the_route_does(
    run_browser: RunBrowser, plain: str, other: str, origin: str | None
) -> None:
    """A plain query takes the fast path, its equivalent the route; all headers are equal."""
    headers = {"x-forwarded-for": "1"} if origin is None else {"origin": origin}
    async with run_browser(allowed_origins=(APP,)) as browser:
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
async def test_the_fast_path_handles_plain_queries_only(
    settings: Settings, query: str, is_plain: bool
) -> None:
    """All routes are removed, so only the fast path can answer; other queries are 404."""
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
async def test_an_unexpected_error_of_forward_auth_shows_no_details(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """The traceback is in the log only; the answer has the usual headers."""

    async def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(PeopleStore, "load_caller", fail)
    await browser.sign_in("monthly")

    answer = await browser.get(f"{ASK}?{query}")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_forward_auth_costs_one_round_trip(
    run_browser: RunBrowser, local_server: EmbeddedValkey
) -> None:
    """Each request to the application waits for this answer."""
    async with run_proxy(local_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        async with run_browser("monthly", redis_url=url, redis_pool_size=1) as browser:
            await _ask(browser)  # the first call also loads the script
            before = proxy.round_trips
            answer = await _ask(browser, 1000)
            cost = proxy.round_trips - before

    assert (answer.status_code, cost) == (204, 1)


async def test_lost_local_data_are_fetched_from_durable_first(
    run_browser: RunBrowser, durable_url: SecretStr, local: Redis
) -> None:
    """Local has evicted the entitlement; already the first answer is right."""
    async with run_browser(durable_url=durable_url) as browser:
        await _sign_in_and_evict(browser, local)
        answer = await _ask(browser, 1000)

    assert answer.status_code == 204
    assert _headers_of(answer) == {"id": str(MONTHLY), "login": "monthly", "cents": "1000"}


async def test_lost_local_data_are_503_while_durable_is_away(
    run_browser: RunBrowser, durable_server: EmbeddedValkey, durable: Redis, local: Redis
) -> None:
    """Neither Redis can tell whether the person is entitled."""
    assert durable is not None  # the fixture has emptied it
    async with run_proxy(durable_server.port) as proxy:
        url = SecretStr(f"redis://127.0.0.1:{proxy.port}/0")
        async with run_browser(durable_url=url) as browser:
            await _sign_in_and_evict(browser, local)
            proxy.cut()
            answer = await _ask(browser)

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert int(answer.headers["retry-after"]) >= 1


async def test_openapi_documents_the_headers_of_forward_auth(service: Service) -> None:
    """Operators configure their proxies from this document."""
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


async def _sign_in_and_evict(browser: Browser, local: Redis) -> None:
    await browser.sign_in("monthly")
    await until_relayed(local)
    await local.delete(keys.sponsorship("maintainer", MONTHLY))


def _headers_of(answer: httpx.Response) -> dict[str, str]:
    names = ("id", "login", "cents", "until")
    return {
        n: answer.headers[f"x-sponsor-{n}"] for n in names if f"x-sponsor-{n}" in answer.headers
    }


def _next_of(answer: httpx.Response) -> list[str]:
    return parse_qs(urlsplit(answer.headers["x-login-url"]).query).get("next", [])
