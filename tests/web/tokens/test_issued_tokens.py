"""Tokens over HTTP: their claims, and the routes that accept them."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from redis.asyncio import Redis

from sponsorsync.domain.entitlement import EntitlementPolicy
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.store import keys
from tests.conftest import Browser, Clock, RunBrowser
from tests.support.issued_tokens import AUDIENCE, ISSUER, MONTHLY, fetch_bearer

JWKS = "/.well-known/jwks.json"
POLICY = EntitlementPolicy(one_time=timedelta(days=31), stale=timedelta(hours=72))
READS = [
    ("GET", "/me", None),
    ("GET", "/preferences/mnodes", None),
    ("POST", "/preferences/mnodes/filter", {"ids": ["a"]}),
    ("GET", "/auth/sponsor", None),
]
SESSION_ONLY = [
    ("PUT", "/preferences/mnodes/a", None),
    ("DELETE", "/preferences/mnodes/a", None),
    ("POST", "/preferences/mnodes", {"add": ["a"]}),
    ("POST", "/exclude", {"id": "a"}),
    ("GET", "/exclude?id=a", None),
    ("GET", "/me/export", None),
    ("DELETE", "/me", None),
    ("GET", "/account", None),
    ("POST", "/token", None),
]


async def test_a_token_has_the_number_and_the_entitlement(sponsor: Browser, clock: Clock) -> None:
    """The subject is the account number, since logins change hands (RFC 7519, RFC 6750)."""
    answer = await sponsor.post("/token")
    header, claims = await _check_offline(sponsor, answer)

    now = int(clock().timestamp())
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("Bearer", 600)
    assert (header["alg"], set(header)) == ("ES256", {"alg", "kid", "typ"})
    assert claims == {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(MONTHLY),
        "iat": now,
        "exp": now + 600,
        "sponsorable": "maintainer",
        "entitled": True,
        "cents": 1000,
    }


@pytest.mark.parametrize(
    ("login", "entitlement"),
    [
        ("private", {"entitled": True, "cents": 500}),
        ("patreon", {"entitled": True}),
        ("stranger", {"entitled": False}),
        ("former", {"entitled": False}),
    ],
)
async def test_each_kind_of_person_gets_a_token(
    program: Browser, login: str, entitlement: dict[str, object]
) -> None:
    """A claim whose value is unknown is absent."""
    await program.sign_in(login)

    _, claims = await _check_offline(program, await program.post("/token"))

    assert {n: claims[n] for n in ("entitled", "cents", "until") if n in claims} == entitlement


async def test_no_unknown_entitlement_is_claimed(program: Browser, github: SimulatedGitHub) -> None:
    """GitHub did not answer, so `entitled` would be neither true nor false."""
    github.switches.forbidden = True
    await program.sign_in("monthly")

    _, claims = await _check_offline(program, await program.post("/token"))

    assert "entitled" not in claims


async def test_tokens_end_with_entitlements(sponsor: Browser, local: Redis, clock: Clock) -> None:
    """The entitlement ends in a minute, so the token is valid for a minute."""
    until = int(clock().timestamp()) + 60
    await local.hset(keys.sponsorship("maintainer", MONTHLY), "valid_until", until)

    answer = await sponsor.post("/token")
    _, claims = await _check_offline(sponsor, answer)

    assert (claims["until"], claims["exp"], answer.json()["expires_in"]) == (until, until, 60)


async def test_tokens_end_with_stale_facts(sponsor: Browser, local: Redis, clock: Clock) -> None:
    """The entitlement becomes unknown STALE_HOURS after the first failed check."""
    failed = int(clock().timestamp()) - 72 * 3600 + 30
    await local.hset(keys.sponsorship("maintainer", MONTHLY), "unknown_since", failed)

    _, claims = await _check_offline(sponsor, await sponsor.post("/token"))

    assert claims["exp"] == claims["until"] == failed + 72 * 3600


async def test_tokens_are_per_sponsorable(run_browser: RunBrowser, github: SimulatedGitHub) -> None:
    """Without a parameter the first sponsorable applies; an unknown one is 404."""
    github.people.add_organization("Big-Org", has_sponsors_listing=True)
    async with run_browser(
        "monthly", token_audience=AUDIENCE, token_minutes=1, sponsorables=("maintainer", "big-org")
    ) as browser:
        answer = await browser.post("/token", params={"sponsorable": "Big-Org"})
        _, claims = await _check_offline(browser, answer)
        unknown = await browser.post("/token", params={"sponsorable": "somebody"})

    assert (claims["sponsorable"], claims["entitled"]) == ("big-org", False)
    assert (answer.json()["expires_in"], unknown.status_code) == (60, 404)


async def test_without_a_session_there_is_no_token(program: Browser) -> None:
    """An invented session cookie is not accepted, either."""
    without = await program.post("/token")
    program.cookies.set("sponsorsync", "made-up", domain="sponsorsync.test")
    made_up = await program.post("/token")

    assert [without.status_code, made_up.status_code] == [401, 401]


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}]
)
async def test_another_sites_page_gets_no_token(sponsor: Browser, headers: dict[str, str]) -> None:
    """The cross-site guard refuses the request."""
    answer = await sponsor.post("/token", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")


async def test_without_an_audience_there_are_no_tokens(run_browser: RunBrowser) -> None:
    """A token without an audience would be valid everywhere; 409 names the missing setting."""
    async with run_browser("monthly") as browser:
        answers = [await browser.post("/token"), await browser.get(JWKS)]
        bearer = {"authorization": "Bearer x"}
        reading = await browser.get("/me", headers=bearer)
        browser.cookies.clear()
        refused = await browser.get("/me", headers=bearer)

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "no_tokens")] * 2
    assert all("SPONSORSYNC_TOKEN_AUDIENCE" in answer.json()["detail"] for answer in answers)
    assert (
        answers[1].headers["cache-control"] == "no-store"
    )  # an operator may set the audience at any time
    assert [reading.status_code, refused.status_code] == [200, 401]


async def test_the_public_keys_may_be_cached(program: Browser) -> None:
    """Other services fetch them regularly; the private parts of the keys are omitted."""
    answer = await program.get(JWKS)

    [key] = answer.json()["keys"]
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert set(key) == {"kid", "kty", "crv", "x", "y", "use", "alg"}


@pytest.mark.parametrize(("method", "path", "body"), READS)
async def test_a_token_reads(
    sponsor: Browser, program: Browser, method: str, path: str, body: object
) -> None:
    """The answer is the same as with the session."""
    bearer = await fetch_bearer(sponsor)

    answers = [
        await program.request(method, path, json=body, headers=bearer),
        await sponsor.request(method, path, json=body),
    ]

    assert answers[0].status_code == answers[1].status_code < 300
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize(("method", "path", "body"), SESSION_ONLY)
async def test_a_token_neither_changes_nor_exports(
    sponsor: Browser, program: Browser, method: str, path: str, body: object
) -> None:
    """Another service holds the token, and must not act for the person or renew the token."""
    bearer = await fetch_bearer(sponsor)

    answer = await program.request(method, path, json=body, headers=bearer)

    assert (answer.status_code, answer.json()["code"]) == (403, "token_reads_only")
    assert (await sponsor.get("/preferences/mnodes")).json()["items"] == []


async def test_a_session_is_valid_beside_any_authorization(sponsor: Browser) -> None:
    """A proxy may forward an Authorization header that is meant for the application."""
    own, foreign = await fetch_bearer(sponsor), {"authorization": "Bearer of-the-application"}

    answers = [
        await sponsor.put("/preferences/mnodes/a", headers=own),
        await sponsor.put("/preferences/mnodes/a", headers=foreign),
        await sponsor.get("/auth/sponsor", headers=foreign),
        await sponsor.get("/me", headers=foreign),
        await sponsor.get("/auth/sponsor", headers={"authorization": "Basic eDp5"}),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 204, 200, 204]


async def test_losing_the_entitlement_closes_forward_auth_to_a_token_at_once(
    sponsor: Browser, program: Browser, local: Redis, clock: Clock
) -> None:
    """Forward auth reads the stored entitlement, not the token's claim."""
    bearer = await fetch_bearer(sponsor)
    before = await program.get("/auth/sponsor?min_cents=1000", headers=bearer)
    ended = int(clock().timestamp()) - 1
    await local.hset(keys.sponsorship("maintainer", MONTHLY), "valid_until", ended)
    after = await program.get("/auth/sponsor", headers=bearer)

    assert (before.status_code, before.headers["x-sponsor-id"]) == (204, str(MONTHLY))
    assert (after.status_code, after.json()["code"]) == (403, "not_a_sponsor")


async def test_a_deleted_accounts_token_is_useless(sponsor: Browser, program: Browser) -> None:
    """The token has not expired yet, but the person does not exist any more."""
    bearer = await fetch_bearer(sponsor)
    await sponsor.delete("/me")

    answers = [await program.get(path, headers=bearer) for path in ("/me", "/auth/sponsor")]

    assert [answer.status_code for answer in answers] == [401, 403]


async def test_forward_auth_answers_a_refused_token_with_the_sign_in(program: Browser) -> None:
    """The client can get another token, or the person can sign in."""
    answer = await program.get("/auth/sponsor", headers={"authorization": "Bearer x"})

    assert (answer.status_code, answer.json()["code"]) == (401, "bearer_refused")
    assert answer.headers["x-login-url"] == f"{ISSUER}/login"
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def _check_offline(
    browser: Browser, answer: httpx.Response
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Verifies a token with the public keys alone; returns its header and claims."""
    public = KeySet.import_key_set((await browser.get(JWKS)).json())
    token = jwt.decode(answer.json()["access_token"], public, algorithms=["ES256"])
    return token.header, token.claims
