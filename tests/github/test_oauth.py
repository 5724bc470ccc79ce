"""GitHub's OAuth web flow: the start, the token and its revocation."""

import base64
import hashlib
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from sponsorsync.domain.account import LoginAttempt
from sponsorsync.domain.errors import (
    GitHubUnreachableError,
    LoginError,
    LoginExpiredError,
    LoginRejectedError,
)
from sponsorsync.github.oauth import SCOPE, SCOPE_WITH_ORGANIZATIONS, GitHubOAuth
from sponsorsync.sandbox.github import SimulatedGitHub
from tests.support.script import Script

SECRET = SecretStr("secret")
TOKEN = {"access_token": "gho_1", "token_type": "bearer", "scope": "read:user,user:email"}


def _create_oauth(
    transport: httpx.AsyncBaseTransport, client_secret: SecretStr = SECRET, scope: str = SCOPE
) -> GitHubOAuth:
    return GitHubOAuth(
        transport,
        github_url="http://github.test",
        api_url="http://github.test/api",
        client_id="client",
        client_secret=client_secret,
        redirect_uri="http://sponsorsync.test/oauth2/callback",
        timeout_s=1,
        scope=scope,
    )


@pytest.fixture
def oauth(way: Script) -> GitHubOAuth:
    """Our OAuth client of the simulated GitHub."""
    return _create_oauth(way)


def _query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


async def _consent(github: SimulatedGitHub, attempt: LoginAttempt) -> str:
    """Sends a browser to GitHub; returns the code of its redirect."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(github.app)) as browser:
        redirect = await browser.get(attempt.url)
    return _query(redirect.headers["location"])["code"]


# --- start ----------------------------------------------------------------------------------------


def test_the_authorization_url_has_all_parameters(oauth: GitHubOAuth) -> None:
    """The PKCE verifier is not sent; the address has its hash only."""
    attempt = oauth.start(login_hint="monthly")

    digest = hashlib.sha256(attempt.code_verifier.encode()).digest()
    assert attempt.url.startswith("http://github.test/login/oauth/authorize?")
    assert _query(attempt.url) == {
        "response_type": "code",
        "client_id": "client",
        "redirect_uri": "http://sponsorsync.test/oauth2/callback",
        "scope": "read:user user:email",
        "state": attempt.state,
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
        "code_challenge_method": "S256",
        "login": "monthly",
    }


async def test_organizations_need_an_extra_scope(way: Script, github: SimulatedGitHub) -> None:
    """The consent page lists each scope, so `read:org` is requested only where it is needed."""
    oauth = _create_oauth(way, scope=SCOPE_WITH_ORGANIZATIONS)
    attempt = oauth.start(login_hint="org-member")
    code = await _consent(github, attempt)

    await oauth.fetch_token(code=code, code_verifier=attempt.code_verifier)

    [live] = github.tokens.live()
    assert live.scopes == ("read:user", "user:email", "read:org")


def test_without_a_hint_no_login_is_sent(oauth: GitHubOAuth) -> None:
    """An empty `login` parameter would preselect no account."""
    assert "login" not in _query(oauth.start(login_hint=None).url)


def test_each_attempt_has_its_own_verifier_of_a_valid_length(oauth: GitHubOAuth) -> None:
    """The verifier binds an attempt to one browser; RFC 7636 demands 43 to 128 characters."""
    first, second = oauth.start(login_hint=None), oauth.start(login_hint=None)

    assert first.code_verifier != second.code_verifier
    assert len(first.code_verifier) == len(second.code_verifier) == 64


def test_the_issuer_is_derived_from_githubs_address(oauth: GitHubOAuth) -> None:
    """A GitHub Enterprise server has its own issuer."""
    assert oauth.issuer == "http://github.test/login/oauth"


# --- the token ------------------------------------------------------------------------------------


async def test_a_code_is_exchanged_for_a_token(oauth: GitHubOAuth, github: SimulatedGitHub) -> None:
    """The code and the verifier are of the same attempt."""
    attempt = oauth.start(login_hint="monthly")
    code = await _consent(github, attempt)

    token = await oauth.fetch_token(code=code, code_verifier=attempt.code_verifier)

    [live] = github.tokens.live()
    assert (live.token, live.person.login) == (token, "monthly")
    assert live.scopes == ("read:user", "user:email")


async def test_a_code_without_its_verifier_is_rejected(
    oauth: GitHubOAuth, github: SimulatedGitHub
) -> None:
    """A stolen code is useless without the verifier."""
    code = await _consent(github, oauth.start(login_hint="monthly"))

    with pytest.raises(LoginExpiredError):
        await oauth.fetch_token(code=code, code_verifier="x" * 64)


@pytest.mark.parametrize(
    ("error", "kind", "advice"),
    [
        ("bad_verification_code", LoginExpiredError, "valid for ten minutes"),
        ("incorrect_client_credentials", LoginRejectedError, "GITHUB_CLIENT_ID and GITHUB_SECRET"),
        ("redirect_uri_mismatch", LoginRejectedError, "SPONSORSYNC_PUBLIC_URL"),
        ("unverified_user_email", LoginError, "verify your primary e-mail address"),
        ("what_nobody_knows", LoginError, "try again"),
        (None, LoginError, "try again"),
        (["bad_verification_code"], LoginError, "try again"),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
async def test_each_token_error_gives_advice(
    oauth: GitHubOAuth, way: Script, status: int, error: object, kind: type[LoginError], advice: str
) -> None:
    """Some errors concern the person, others the operator; GitHub also sends them with HTTP 200."""
    way.answer(httpx.Response(status, json={"error": error, "error_description": "…"}))

    with pytest.raises(LoginError, match=advice) as caught:
        await oauth.fetch_token(code="code", code_verifier="verifier")

    assert type(caught.value) is kind


# --- revocation -----------------------------------------------------------------------------------


async def test_a_revoked_token_is_no_longer_valid(
    oauth: GitHubOAuth, github: SimulatedGitHub
) -> None:
    """A token that is not needed any more cannot be stolen then."""
    token = github.tokens.issue(github.people.get_person("monthly"))

    await oauth.revoke_token(token)

    assert github.tokens.live() == []


async def test_revoking_a_revoked_token_succeeds(oauth: GitHubOAuth) -> None:
    """GitHub answers 404 for a token that it does not know."""
    await oauth.revoke_token("gho_dead")


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(502), httpx.Response(422), httpx.ConnectError("refused")],
    ids=["502", "422", "connect"],
)
async def test_a_failed_revocation_is_an_error(
    oauth: GitHubOAuth, way: Script, answer: httpx.Response | Exception
) -> None:
    """The token remains valid, so the caller logs the error."""
    way.answer(answer)

    with pytest.raises(GitHubUnreachableError):
        await oauth.revoke_token("gho_1")


async def test_a_limit_at_the_token_endpoint_is_an_unreachable_github(
    oauth: GitHubOAuth, way: Script
) -> None:
    """GitHub documents no rate limit for the token endpoint."""
    way.answer(httpx.Response(429, text="slow down"))

    with pytest.raises(GitHubUnreachableError):
        await oauth.fetch_token(code="code", code_verifier="verifier")


async def test_the_error_of_a_wrong_secret_shows_no_secret(way: Script) -> None:
    """The error is logged, so it must contain neither the secret nor the token."""
    oauth = _create_oauth(way, client_secret=SecretStr("wrong-secret"))

    with pytest.raises(GitHubUnreachableError, match="HTTP 401") as caught:
        await oauth.revoke_token("gho_1")

    assert "wrong-secret" not in repr(caught.value)
    assert "gho_1" not in repr(caught.value)
