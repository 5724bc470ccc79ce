"""Tokens over HTTP: what stands in them, where they count, and all for which they are refused."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from structlog.testing import capture_logs

from sponsorsync.background import open_supervisor
from sponsorsync.domain.cover import CoverPolicy
from sponsorsync.store import keys
from sponsorsync.tokens import issuer as issuer_module
from sponsorsync.tokens.issuer import TokenIssuer, open_tokens, reload_keys
from sponsorsync.tokens.keyring import create_keyring, load_keyring, rotate_keys
from tests.support.forged_tokens import HOSTILE_HEADERS, encode, encode_part, forge, forged_tokens
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping, Sequence

    import httpx
    from redis.asyncio import Redis

    from sponsorsync.sandbox.github import SimulatedGitHub
    from sponsorsync.settings import Settings
    from tests.conftest import Browser, Clock, RunService, Service

AUDIENCE = "https://pattern.example"
ISSUER = "http://sponsorsync.test"
MONTHLY = 48210377
JWKS = "/.well-known/jwks.json"
POLICY = CoverPolicy(one_time=timedelta(days=31), stale=timedelta(hours=72))
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


@pytest.fixture
async def service(run_service: RunService) -> AsyncIterator[Service]:
    """A service with tokens."""
    async with run_service(token_audience=AUDIENCE) as running:
        yield running


@pytest.fixture
async def program(service: Service) -> Browser:
    """A client without any session."""
    return await service.open_browser()


# --- what stands in them --------------------------------------------------------------------------


async def test_a_token_says_who_and_what_of_the_cover(sponsor: Browser, clock: Clock) -> None:
    """As RFC 7519 and RFC 6750 have it; the account's number, since logins change hands."""
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
        "covered": True,
        "cents": 1000,
    }


@pytest.mark.parametrize(
    ("login", "cover"),
    [
        ("private", {"covered": True, "cents": 500}),
        ("patreon", {"covered": True}),
        ("stranger", {"covered": False}),
        ("former", {"covered": False}),
    ],
)
async def test_each_kind_of_person_gets_a_token(
    program: Browser, login: str, cover: dict[str, object]
) -> None:
    """Whoever is signed in; what is not known is absent."""
    await program.sign_in(login)

    _, claims = await _check_offline(program, await program.post("/token"))

    assert {n: claims[n] for n in ("covered", "cents", "until") if n in claims} == cover


async def test_an_unknown_cover_is_not_claimed(program: Browser, github: SimulatedGitHub) -> None:
    """Neither true nor false."""
    github.switches.forbidden = True
    await program.sign_in("monthly")

    _, claims = await _check_offline(program, await program.post("/token"))

    assert "covered" not in claims


async def test_a_token_never_outlives_the_cover(
    sponsor: Browser, local: Redis, clock: Clock
) -> None:
    """A minute before the end it lives for a minute."""
    until = int(clock().timestamp()) + 60
    await local.hset(keys.sponsorship("maintainer", MONTHLY), "valid_until", until)

    answer = await sponsor.post("/token")
    _, claims = await _check_offline(sponsor, answer)

    assert (claims["until"], claims["exp"], answer.json()["expires_in"]) == (until, until, 60)


async def test_a_stale_cover_ends_the_token_when_it_holds_no_longer(
    sponsor: Browser, local: Redis, clock: Clock
) -> None:
    """STALE_HOURS after the first check that failed."""
    failed = int(clock().timestamp()) - 72 * 3600 + 30
    await local.hset(keys.sponsorship("maintainer", MONTHLY), "unknown_since", failed)

    _, claims = await _check_offline(sponsor, await sponsor.post("/token"))

    assert claims["exp"] == claims["until"] == failed + 72 * 3600


async def test_a_token_is_about_the_sponsorable_that_is_named(
    run_service: RunService, github: SimulatedGitHub
) -> None:
    """Else about the first; any other is 404."""
    github.people.add_organization("Big-Org", has_sponsors_listing=True)
    async with run_service(
        token_audience=AUDIENCE, token_minutes=1, sponsorables=("maintainer", "big-org")
    ) as service:
        browser = await service.open_browser()
        await browser.sign_in("monthly")
        answer = await browser.post("/token", params={"sponsorable": "Big-Org"})
        _, claims = await _check_offline(browser, answer)
        unknown = await browser.post("/token", params={"sponsorable": "somebody"})

    assert (claims["sponsorable"], claims["covered"]) == ("big-org", False)
    assert (answer.json()["expires_in"], unknown.status_code) == (60, 404)


# --- who gets one ---------------------------------------------------------------------------------


async def test_without_a_session_there_is_no_token(program: Browser) -> None:
    """Nor with one that is made up."""
    without = await program.post("/token")
    program.cookies.set("sponsorsync", "made-up", domain="sponsorsync.test")
    made_up = await program.post("/token")

    assert [without.status_code, made_up.status_code] == [401, 401]


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}]
)
async def test_a_page_of_another_site_gets_no_token(
    sponsor: Browser, headers: dict[str, str]
) -> None:
    """It could not read the answer either."""
    answer = await sponsor.post("/token", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")


async def test_without_an_audience_there_are_no_tokens(run_service: RunService) -> None:
    """A token for nobody in particular would count everywhere; the answer names the setting."""
    async with run_service() as service:
        browser = await service.open_browser()
        await browser.sign_in("monthly")
        answers = [await browser.post("/token"), await browser.get(JWKS)]
        bearer = {"authorization": "Bearer x"}
        reading = await browser.get("/me", headers=bearer)
        browser.cookies.clear()
        refused = await browser.get("/me", headers=bearer)

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(409, "no_tokens")] * 2
    assert all("SPONSORSYNC_TOKEN_AUDIENCE" in answer.json()["detail"] for answer in answers)
    assert [reading.status_code, refused.status_code] == [200, 401]


# --- the public keys ------------------------------------------------------------------------------


async def test_the_public_keys_may_be_kept_for_a_while(program: Browser) -> None:
    """Whoever checks tokens asks now and then; nothing private is shown."""
    answer = await program.get(JWKS)

    [key] = answer.json()["keys"]
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert set(key) == {"kid", "kty", "crv", "x", "y", "use", "alg"}


async def test_an_error_in_place_of_the_keys_is_not_kept(run_service: RunService) -> None:
    """The setting may be there the next moment."""
    async with run_service() as service:
        answer = await (await service.open_browser()).get(JWKS)

    assert (answer.status_code, answer.headers["cache-control"]) == (409, "no-store")


# --- where they count -----------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path", "body"), READS)
async def test_a_token_reads(
    sponsor: Browser, program: Browser, method: str, path: str, body: object
) -> None:
    """As the session does, and no less."""
    bearer = await _bearer_of(sponsor)

    answers = [
        await program.request(method, path, json=body, headers=bearer),
        await sponsor.request(method, path, json=body),
    ]

    assert answers[0].status_code == answers[1].status_code < 300
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize(("method", "path", "body"), SESSION_ONLY)
async def test_a_token_changes_nothing_and_shows_not_everything(
    sponsor: Browser, program: Browser, method: str, path: str, body: object
) -> None:
    """Another service holds it: it must not act for the person, nor renew it."""
    bearer = await _bearer_of(sponsor)

    answer = await program.request(method, path, json=body, headers=bearer)

    assert (answer.status_code, answer.json()["code"]) == (403, "token_reads_only")
    assert (await sponsor.get("/preferences/mnodes")).json()["items"] == []


async def test_a_session_acts_whatever_token_comes_with_it(sponsor: Browser) -> None:
    """A proxy passes on what is meant for the application behind it."""
    own, foreign = await _bearer_of(sponsor), {"authorization": "Bearer of-the-application"}

    answers = [
        await sponsor.put("/preferences/mnodes/a", headers=own),
        await sponsor.put("/preferences/mnodes/a", headers=foreign),
        await sponsor.get("/auth/sponsor", headers=foreign),
        await sponsor.get("/me", headers=foreign),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 204, 200]


async def test_losing_the_cover_closes_forward_auth_to_a_token_at_once(
    sponsor: Browser, program: Browser, local: Redis, clock: Clock
) -> None:
    """There the cover is read, not believed."""
    bearer = await _bearer_of(sponsor)
    before = await program.get("/auth/sponsor?min_cents=1000", headers=bearer)
    ended = int(clock().timestamp()) - 1
    await local.hset(keys.sponsorship("maintainer", MONTHLY), "valid_until", ended)
    after = await program.get("/auth/sponsor", headers=bearer)

    assert (before.status_code, before.headers["x-sponsor-id"]) == (204, str(MONTHLY))
    assert (after.status_code, after.json()["code"]) == (403, "not_a_sponsor")


async def test_the_token_of_a_deleted_account_opens_nothing(
    sponsor: Browser, program: Browser
) -> None:
    """It lives for some minutes more."""
    bearer = await _bearer_of(sponsor)
    await sponsor.delete("/me")

    answers = [await program.get(path, headers=bearer) for path in ("/me", "/auth/sponsor")]

    assert [answer.status_code for answer in answers] == [401, 403]


async def test_forward_auth_tells_a_refused_token_the_whole_way_in(program: Browser) -> None:
    """Both say what to do: get another token, or sign in."""
    answer = await program.get("/auth/sponsor", headers={"authorization": "Bearer x"})

    assert (answer.status_code, answer.json()["code"]) == (401, "bearer_refused")
    assert answer.headers["x-login-url"] == f"{ISSUER}/login"
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_a_basic_password_is_none_of_ours(sponsor: Browser) -> None:
    """The application behind the proxy may ask for one."""
    answer = await sponsor.get("/auth/sponsor", headers={"authorization": "Basic eDp5"})

    assert answer.status_code == 204


# --- what they are refused for --------------------------------------------------------------------


async def test_a_token_is_refused_from_its_last_second_on(
    sponsor: Browser, program: Browser, clock: Clock
) -> None:
    """`exp` is exclusive."""
    clock.now = clock.now.replace(microsecond=0)
    bearer = await _bearer_of(sponsor)
    clock.advance(minutes=9, seconds=59)
    before = await program.get("/me", headers=bearer)
    clock.advance(seconds=1)
    after = await program.get("/me", headers=bearer)

    assert (before.status_code, after.status_code) == (200, 401)
    assert after.json()["code"] == "bearer_refused"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://other.example"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"sub": None},
        {"sub": "octocat"},
        {"sub": 48210377},
        {"exp": None},
        {"exp": "later"},
        {"exp": 1},
    ],
    ids=str,
)
def test_a_token_of_our_key_with_other_claims_is_refused(
    clock: Clock, changed: dict[str, Any]
) -> None:
    """The same key may sign for another installation, or another audience before it was changed."""
    tokens = _issuer(clock)
    claims = {**_claims(clock), **changed}
    signed = _sign({n: v for n, v in claims.items() if v is not None}, tokens)

    assert tokens.read(_sign(_claims(clock), tokens), now=clock()) == MONTHLY
    assert tokens.read(signed, now=clock()) is None


def test_a_token_that_is_not_signed_is_refused(clock: Clock) -> None:
    """`alg: none` (RFC 8725, 2.1)."""
    tokens = _issuer(clock)
    kid = tokens.keyring.keys[0].kid
    for name in ("none", "None", "NONE"):
        header = encode_part({"alg": name, "kid": kid})
        assert tokens.read(f"{header}.{encode_part(_claims(clock))}.", now=clock()) is None


def test_the_public_key_is_no_secret_to_sign_with(clock: Clock) -> None:
    """HS256 with the public key, in each way to write it, as its secret (RFC 8725, 2.1)."""
    tokens = _issuer(clock)
    key = tokens.keyring.keys[0]
    body = f"{encode_part({'alg': 'HS256', 'kid': key.kid})}.{encode_part(_claims(clock))}"
    secrets = [
        key.key.as_pem(private=False),
        key.key.as_der(private=False),
        json.dumps(key.show()).encode(),
        b"",
    ]
    for secret in secrets:
        signature = encode(hmac.digest(secret, body.encode(), hashlib.sha256))
        assert tokens.read(f"{body}.{signature}", now=clock()) is None


@pytest.mark.parametrize("header", [{"kid": "unknown"}, {"kid": None}, {"kid": 1}, {"kid": [1]}])
def test_a_token_of_no_key_of_ours_is_refused(clock: Clock, header: dict[str, Any]) -> None:
    """Signed with another key, or with ours under another name."""
    tokens = _issuer(clock)
    own = tokens.keyring.keys[0].key
    for key in (own, ECKey.generate_key("P-256")):
        body = f"{encode_part({'alg': 'ES256', **header})}.{encode_part(_claims(clock))}"
        named = jwt.encode({"alg": "ES256"}, _claims(clock), key, algorithms=["ES256"])
        assert tokens.read(named, now=clock()) is None
        assert tokens.read(f"{body}.{named.rpartition('.')[2]}", now=clock()) is None


def test_a_foreign_key_under_the_name_of_ours_is_refused(clock: Clock) -> None:
    """The name is public; so is every header with which a key could be smuggled in."""
    tokens = _issuer(clock)
    foreign = ECKey.generate_key("P-256")
    kid = tokens.keyring.keys[0].kid
    for more in ({}, {"jwk": foreign.as_dict(private=False)}, {"jku": "https://evil.example"}):
        header = {"alg": "ES256", "kid": kid, **more}
        token = jwt.encode(header, _claims(clock), foreign, algorithms=["ES256"])
        assert tokens.read(token, now=clock()) is None


@given(text=st.one_of(st.text(), st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_anything_else_is_refused_without_an_error(clock: Clock, text: str) -> None:
    """It comes from outside."""
    assert _issuer(clock).read(text, now=clock()) is None


@given(at=st.integers(0, 10_000), to=st.characters(codec="ascii"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_a_changed_token_is_refused_without_an_error(clock: Clock, at: int, to: str) -> None:
    """Wherever it is changed; the last character of a signature has bits that say nothing."""
    tokens = _issuer(clock)
    token = _sign(_claims(clock), tokens)
    at %= len(token) - 1
    changed = f"{token[:at]}{to}{token[at + 1 :]}"

    assert changed == token or tokens.read(changed, now=clock()) is None


@given(token=forged_tokens())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=500)
def test_whatever_a_header_or_claims_hold_is_refused_without_an_error(
    clock: Clock, token: tuple[str, str, bool]
) -> None:
    """Even where the signature is ours: anybody writes the header, which is read before it."""
    tokens = _issuer(clock)

    assert tokens.read(forge(tokens.keyring.keys[0].key, *token), now=clock()) is None


def test_claims_too_deep_to_read_are_refused_without_an_error(clock: Clock) -> None:
    """Python's reader of JSON goes no deeper than its stack."""
    tokens = _issuer(clock)
    token = forge(tokens.keyring.keys[0].key, '{"alg": "ES256"}', "[" * 1200, True)

    assert tokens.read(token, now=clock()) is None


@pytest.mark.parametrize("header", HOSTILE_HEADERS, ids=str)
async def test_a_header_that_joserfc_stumbles_over_is_401(program: Browser, header: object) -> None:
    """Not an error of ours, which anybody could bring about."""
    token = f"{encode_part(header)}.e30.AA"

    answer = await program.get("/me", headers={"authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.json()["code"]) == (401, "bearer_refused")


def test_a_huge_token_is_not_looked_at(clock: Clock) -> None:
    """Reading costs time before the signature is known to be good."""
    tokens = _issuer(clock)

    assert tokens.read(_sign(_claims(clock) | {"x": "x" * 2048}, tokens), now=clock()) is None


# --- after the keys were rotated ------------------------------------------------------------------


async def test_a_token_outlives_the_rotation_of_its_key_but_not_its_retirement(
    settings: Settings, clock: Clock
) -> None:
    """The public keys show both meanwhile."""
    of_tokens = settings.model_copy(update={"token_audience": AUDIENCE})
    async with open_supervisor() as supervisor:
        tokens = await open_tokens(supervisor, of_tokens, life=timedelta(hours=1), clock=clock)
        assert tokens is not None
        claims = _claims(clock) | {"exp": int(clock().timestamp()) + 10**6}
        old = _sign(claims, tokens)
        rotate_keys(of_tokens, now=clock(), retire_old=False)
        await reload_keys(tokens, of_tokens)
        shown = len(tokens.list_public_keys(now=clock()))
        rotated = tokens.read(old, now=clock())
        clock.advance(minutes=71)
        retired = tokens.read(old, now=clock())
        still_shown = len(tokens.list_public_keys(now=clock()))
        new = tokens.read(_sign(claims, tokens, key=1), now=clock())

    assert (shown, rotated) == (2, MONTHLY)
    assert (still_shown, retired, new) == (1, None, MONTHLY)


async def test_a_key_that_leaked_ends_its_tokens_at_once(settings: Settings, clock: Clock) -> None:
    """As soon as the file is read again."""
    of_tokens = settings.model_copy(update={"token_audience": AUDIENCE})
    async with open_supervisor() as supervisor:
        tokens = await open_tokens(supervisor, of_tokens, life=timedelta(hours=1), clock=clock)
        assert tokens is not None
        old = _sign(_claims(clock), tokens)
        rotate_keys(of_tokens, now=clock(), retire_old=True)
        await reload_keys(tokens, of_tokens)
        read = tokens.read(old, now=clock())

    assert read is None


async def test_a_rotation_is_taken_up_while_the_service_runs(
    settings: Settings, clock: Clock
) -> None:
    """The command runs beside it, and nobody restarts anything."""
    of_tokens = settings.model_copy(update={"token_audience": AUDIENCE})
    async with open_supervisor() as supervisor:
        tokens = await open_tokens(
            supervisor, of_tokens, life=timedelta(hours=1), clock=clock, reload_s=0.01
        )
        assert tokens is not None
        rotate_keys(of_tokens, now=clock(), retire_old=False)
        await until(lambda: _shows(tokens, 2, clock))


async def test_an_unforeseen_error_does_not_end_the_following(
    settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else no rotation would be taken up until the next start, and nobody would know."""
    of_tokens = settings.model_copy(update={"token_audience": AUDIENCE})
    with capture_logs() as logs:
        async with open_supervisor() as supervisor:
            tokens = await open_tokens(
                supervisor, of_tokens, life=timedelta(hours=1), clock=clock, reload_s=0.01
            )
            assert tokens is not None
            with monkeypatch.context() as patch:
                patch.setattr(issuer_module, "load_keyring", lambda _: 1 / 0)
                await until(lambda: _logs(logs, "loop_failed"))
            rotate_keys(of_tokens, now=clock(), retire_old=False)
            await until(lambda: _shows(tokens, 2, clock))


async def test_a_file_that_cannot_be_read_again_changes_nothing(
    settings: Settings, clock: Clock
) -> None:
    """The service goes on with the keys it has, and says so in the log."""
    of_tokens = settings.model_copy(update={"token_audience": AUDIENCE})
    async with open_supervisor() as supervisor:
        tokens = await open_tokens(supervisor, of_tokens, life=timedelta(hours=1), clock=clock)
        assert tokens is not None
        token = _sign(_claims(clock), tokens)
        (settings.data_dir / "token_keys.json").write_text("")
        await reload_keys(tokens, of_tokens)
        read = tokens.read(token, now=clock())

    assert read == MONTHLY


async def test_replicas_with_the_same_file_take_each_others_tokens(
    run_service: RunService, settings: Settings, clock: Clock
) -> None:
    """So they need the same one."""
    path = settings.data_dir / "shared" / "keys.json"
    shared = settings.model_copy(update={"token_keys_file": path})
    rotate_keys(shared, now=clock(), retire_old=False)
    options = {"token_audience": AUDIENCE, "token_keys_file": path}
    async with run_service(**options) as one, run_service(**options) as other:
        browser, program = await one.open_browser(), await other.open_browser()
        await browser.sign_in("monthly")
        answer = await program.get("/me", headers=await _bearer_of(browser))

    assert answer.status_code == 200
    assert len(load_keyring(shared).keys) == 1


async def _logs(logs: Sequence[MutableMapping[str, Any]], event: str) -> bool:
    return event in [entry["event"] for entry in logs]


async def _shows(tokens: TokenIssuer, count: int, clock: Clock) -> bool:
    return len(tokens.list_public_keys(now=clock())) == count


def _issuer(clock: Clock) -> TokenIssuer:
    return TokenIssuer(
        create_keyring(clock()),
        issuer=ISSUER,
        audience=AUDIENCE,
        life=timedelta(minutes=10),
    )


def _claims(clock: Clock) -> dict[str, Any]:
    now = int(clock().timestamp())
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": str(MONTHLY), "iat": now, "exp": now + 600}


def _sign(claims: dict[str, Any], tokens: TokenIssuer, *, key: int = 0) -> str:
    signing = tokens.keyring.keys[key]
    header = {"alg": "ES256", "kid": signing.kid}
    return jwt.encode(header, claims, signing.key, algorithms=["ES256"])


async def _bearer_of(browser: Browser) -> dict[str, str]:
    token = (await browser.post("/token")).json()["access_token"]
    return {"authorization": f"Bearer {token}"}


async def _check_offline(
    browser: Browser, answer: httpx.Response
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a token with nothing but the public keys."""
    public = KeySet.import_key_set((await browser.get(JWKS)).json())
    token = jwt.decode(answer.json()["access_token"], public, algorithms=["ES256"])
    return token.header, token.claims
