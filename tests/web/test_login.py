"""Signing in at the simulated GitHub, and signing out."""

from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.switches import Endpoint, Iss
from sponsorsync.store import keys
from tests.conftest import Browser, Clock, RunBrowser, RunService, Service


def _query(response: httpx.Response) -> dict[str, str]:
    query = parse_qs(urlsplit(response.headers["location"]).query)
    return {name: values[0] for name, values in query.items()}


async def test_login_asks_github_with_state_pkce_and_the_two_scopes(browser: Browser) -> None:
    """State and PKCE each prevent another attack; GitHub has no scope `read:email`."""
    query = _query(await browser.get("/login?login=monthly"))

    assert query["code_challenge_method"] == "S256"
    assert len(query["code_challenge"]) == 43
    assert len(query["state"]) >= 30
    assert query["scope"] == "read:user user:email"
    assert query["login"] == "monthly"


async def test_login_ends_on_the_account_page_with_a_session(browser: Browser) -> None:
    """After the callback `/me` answers with the person's profile."""
    done = await browser.sign_in("monthly")

    assert (done.status_code, done.headers["location"]) == (303, "/account")
    me = (await browser.get("/me")).json()
    assert me["profile"]["user_login"] == "monthly"


async def test_callback_answers_json_to_a_client_that_asks_for_it(browser: Browser) -> None:
    """The front end of the first deployment needs this answer."""
    done = await browser.sign_in("monthly", accept="application/json")

    assert done.json() == {
        "status": "success",
        "id": 48210377,
        "email": "monthly@example.com",
        "user_login": "monthly",
    }


@pytest.mark.parametrize(
    ("wanted", "led_to"),
    [
        ("/search?q=1", "/search?q=1"),
        ("//evil.example/", "/account"),
        ("/\\evil.example", "/account"),
        ("/\t/evil.example", "/account"),
        ("https://evil.example/", "/account"),
        ("javascript:alert(1)", "/account"),
        ("https://[", "/account"),
        ("/s?q=" + "汉" * 600, "/account"),
        ("", "/account"),
    ],
)
async def test_next_leads_to_paths_of_this_site(browser: Browser, wanted: str, led_to: str) -> None:
    """An open redirect after a sign-in would help phishing."""
    callback = await browser.go_to_github("monthly", next=wanted)
    done = await browser.get(callback)

    assert done.headers["location"] == led_to


async def test_next_may_lead_to_an_allowed_origin(run_browser: RunBrowser) -> None:
    """A front end often has another origin."""
    async with run_browser(allowed_origins=("https://app.example",)) as browser:
        callback = await browser.go_to_github("monthly", next="https://app.example/x")
        done = await browser.get(callback)

    assert done.headers["location"] == "https://app.example/x"


async def test_two_tabs_at_once_both_sign_in(browser: Browser) -> None:
    """Each attempt has its own cookie."""
    paths = ("/first", "/second")
    callbacks = [await browser.go_to_github("monthly", next=path) for path in paths]

    for callback, path in zip(callbacks, paths, strict=True):
        done = await browser.get(callback)
        assert (done.status_code, done.headers["location"]) == (303, path)


async def test_a_callback_of_another_browser_is_refused(service: Service) -> None:
    """An attacker could otherwise sign a victim in as the attacker (login CSRF)."""
    attacker, victim = await service.open_browser(), await service.open_browser()
    callback = await attacker.go_to_github("monthly")

    stolen = await victim.get(callback)

    assert stolen.status_code == 400
    assert stolen.json()["code"] == "login_expired"
    assert not victim.cookies


async def test_a_callback_works_once(browser: Browser) -> None:
    """A code in the browser's history must be useless."""
    callback = await browser.go_to_github("monthly")
    await browser.get(callback)

    again = await browser.get(callback)

    assert again.status_code == 400


async def test_an_attempt_ends_after_ten_minutes(browser: Browser, clock: Clock) -> None:
    """GitHub's codes expire after ten minutes, too."""
    callback = await browser.go_to_github("monthly")
    clock.advance(minutes=10)

    late = await browser.get(callback)

    assert (late.status_code, late.json()["code"]) == (400, "login_expired")


async def test_a_forged_attempt_cookie_is_refused(browser: Browser) -> None:
    """The cookie is encrypted, and only the service has the key."""
    callback = await browser.go_to_github("monthly")
    for cookie in list(browser.cookies.jar):
        browser.cookies.set(cookie.name, "forged", domain="sponsorsync.test")

    refused = await browser.get(callback)

    assert refused.status_code == 400


async def test_the_verifier_is_not_readable_in_the_cookie(browser: Browser) -> None:
    """A cookie that is only signed would disclose the PKCE verifier."""
    await browser.get("/login?login=monthly")

    [cookie] = browser.cookies.jar

    header, *_ = (cookie.value or "").split(".")
    assert header == "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0"  # {"alg":"dir","enc":"A256GCM"}


@pytest.mark.parametrize(("iss", "status"), [("right", 303), ("absent", 303), ("wrong", 400)])
async def test_iss_has_to_be_right_when_it_is_there(
    browser: Browser, github: SimulatedGitHub, iss: Iss, status: int
) -> None:
    """GitHub does not always send the issuer of RFC 9207."""
    github.switches.iss = iss

    done = await browser.sign_in("monthly")

    assert done.status_code == status


async def test_denied_consent_is_explained_on_a_page(browser: Browser) -> None:
    """A person who refuses must not see an error of the server, as in the first deployment."""
    done = await browser.sign_in("denier", accept="text/html")

    assert done.status_code == 403
    assert "did not give your consent" in done.text
    assert "/login" in done.text
    # The attempt has ended: its cookie would lengthen every request and permit a replay.
    assert not [name for name in browser.cookies if "login" in name]


async def test_open_attempts_are_limited(browser: Browser) -> None:
    """Each attempt has a cookie, and proxies refuse requests with many kilobytes of cookies."""
    for _ in range(20):
        await browser.get("/login")

    assert len(browser.cookies) <= 8


async def test_an_error_without_our_state_is_refused(browser: Browser) -> None:
    """Any web page can link to the callback with `error=`, but none knows the state."""
    done = await browser.get("/oauth2/callback?error=access_denied&state=x")

    assert (done.status_code, done.json()["code"]) == (400, "login_expired")


async def test_a_wrong_code_is_refused(browser: Browser) -> None:
    """GitHub reports the wrong code with HTTP status 200."""
    to_github = await browser.get("/login?login=monthly")
    state = _query(to_github)["state"]

    done = await browser.get("/oauth2/callback", params={"code": "bad", "state": state})

    assert (done.status_code, done.json()["code"]) == (400, "login_expired")


async def test_wrong_client_credentials_name_the_setting(run_browser: RunBrowser) -> None:
    """The operator, not the person, has to correct them."""
    async with run_browser(github_client_id="client", github_secret=SecretStr("wrong")) as browser:
        done = await browser.sign_in("monthly")

    assert (done.status_code, done.json()["code"]) == (502, "login_rejected")
    assert "GITHUB_SECRET" in done.json()["detail"]


@pytest.mark.parametrize("endpoint", ["token", "user"])
async def test_a_broken_github_is_a_502_and_no_session(
    browser: Browser, github: SimulatedGitHub, endpoint: Endpoint
) -> None:
    """A sign-in needs both the token and the profile."""
    github.switches.fail = {endpoint}

    done = await browser.sign_in("monthly", accept="text/html")

    assert done.status_code == 502
    assert "GitHub cannot be asked" in done.text
    assert "sponsorsync" not in browser.cookies


async def test_a_session_is_new_at_each_login(browser: Browser, local: Redis) -> None:
    """The browser's earlier session ends (session fixation)."""
    await browser.sign_in("monthly")
    first = browser.cookies["sponsorsync"]

    await browser.sign_in("monthly")

    assert browser.cookies["sponsorsync"] != first
    assert await local.exists(keys.session(first)) == 0


async def test_logout_ends_the_session_on_the_server(sponsor: Browser, local: Redis) -> None:
    """A copy of the cookie is useless afterwards."""
    token = sponsor.cookies["sponsorsync"]

    done = await sponsor.post("/logout")

    assert done.status_code == 204
    assert "sponsorsync" not in sponsor.cookies
    assert await local.exists(keys.session(token)) == 0
    for path in ("/me", "/auth/sponsor"):
        copied = await sponsor.get(path, headers={"cookie": f"sponsorsync={token}"})
        assert copied.status_code == 401


async def test_cookies_are_guarded(browser: Browser) -> None:
    """Scripts and other sites cannot use the session cookie."""
    callback = await browser.go_to_github("monthly")
    done = await browser.get(callback)

    [session] = [c for c in done.headers.get_list("set-cookie") if c.startswith("sponsorsync=")]
    assert "HttpOnly" in session
    assert "SameSite=lax" in session
    assert "Path=/" in session
    assert "Domain" not in session


async def test_on_https_cookies_are_bound_to_the_host(run_service: RunService) -> None:
    """A cookie whose name begins with `__Host-` cannot be set by another subdomain."""
    async with run_service(public_url="https://sponsorsync.test") as service:
        browser = await service.open_browser("https://sponsorsync.test")
        started = await browser.get("/login?login=monthly")

    [cookie] = started.headers.get_list("set-cookie")
    assert cookie.startswith("__Host-sponsorsync-login-")
    assert "Secure" in cookie


async def test_the_session_is_stored_as_a_hash(sponsor: Browser, local: Redis) -> None:
    """A dump of Redis must not open a session."""
    token = sponsor.cookies["sponsorsync"]

    everything = [key async for key in local.scan_iter("*")]

    assert not [key for key in everything if token in key]
    assert await local.get(keys.session(token)) == "48210377"


async def test_the_old_unsigned_cookie_is_not_trusted(browser: Browser) -> None:
    """The first deployment read `user_id` from the cookie."""
    browser.cookies.set("user_id", "48210377", domain="sponsorsync.test")

    assert (await browser.get("/me")).status_code == 401


async def test_login_on_another_host_moves_to_the_public_one(service: Service) -> None:
    """Cookies of `localhost` are not sent to the public host, where the callback arrives."""
    browser = await service.open_browser("http://localhost:8000")

    moved = await browser.get("/login?login=monthly&next=/x")

    assert moved.headers["location"] == (
        "http://sponsorsync.test/login?login=monthly&next=%2Fx&moved=true"
    )
    assert not browser.cookies


async def test_a_proxy_that_rewrites_the_host_causes_no_redirect_loop(service: Service) -> None:
    """`moved=true` marks a redirected request, whose host is not checked again."""
    browser = await service.open_browser("http://inner:8000")

    moved = await browser.get("/login?login=monthly&moved=true")

    assert moved.headers["location"].startswith("http://github.test/login/oauth/authorize")


@pytest.mark.parametrize("failing", [set(), {"user"}], ids=["success", "failure"])
async def test_the_token_is_revoked_after_each_sign_in(
    run_service: RunService, github: SimulatedGitHub, failing: set[Endpoint]
) -> None:
    """GitHub's token is not needed any more; a stopping service finishes its revocation first."""
    github.switches.fail = failing
    async with run_service() as service:
        await service.sign_in("monthly")

    assert github.tokens.live() == []


async def test_the_token_is_stored_and_logged_nowhere(
    run_service: RunService,
    github: SimulatedGitHub,
    local: Redis,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """GitHub fails to revoke the token, so it stays valid after the sign-in."""
    github.switches.fail = {"revoke"}
    async with run_service() as service:
        await service.sign_in("monthly")
    [live] = github.tokens.live()

    stored = str([await local.dump(key) async for key in local.scan_iter("*")])

    assert live.token not in stored
    assert live.token not in "".join(capfd.readouterr())
