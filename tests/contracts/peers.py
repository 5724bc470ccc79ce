"""Our clients for GitHub and for Patreon behind one interface, for tests that run for both."""

from abc import ABC, abstractmethod
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import SecretStr

from sponsorsync.domain import errors
from sponsorsync.github.client import GitHubClient
from sponsorsync.github.oauth import SCOPE, GitHubOAuth
from sponsorsync.http_client import create_http_client
from sponsorsync.patreon.client import PatreonClient
from sponsorsync.patreon.oauth import PatreonOAuth
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.patreon import SimulatedPatreon
from tests.conftest import GITHUB_URL, ORIGIN, PATREON_URL


class Peer(ABC):
    """Our clients for an external service.

    Attributes:
        token_url: The address of the token endpoint.
        token_form: The form fields that we send to it in addition to the code.
        expired: Our error if the service rejects a code.
        refused: Our error if the service refuses a request.
        limited: Our error if the service limits our requests.
        unreachable: Our error if an answer is missing or unreadable.
        any_error: All errors that our clients raise.
    """

    token_url: ClassVar[str]
    token_form: ClassVar[dict[str, str]]
    expired: ClassVar[type[Exception]]
    refused: ClassVar[type[Exception]]
    limited: ClassVar[type[Exception]]
    unreachable: ClassVar[type[Exception]]
    any_error: ClassVar[tuple[type[Exception], ...]]

    def __init__(self, way: httpx.AsyncBaseTransport) -> None:
        self.way = way

    @abstractmethod
    def start(self) -> tuple[str, str]:
        """Starts an OAuth attempt; returns the address for the browser and the state."""

    @abstractmethod
    async def fetch_token(self, code: str) -> str:
        """Returns the token for a code of the latest attempt."""

    @abstractmethod
    async def ask(self, token: str) -> str:
        """Returns the login or id of the token's owner, which our API client fetches."""


class GitHubPeer(Peer):
    """Our clients for GitHub, where a person signs in."""

    token_url = f"{GITHUB_URL}/login/oauth/access_token"
    token_form: ClassVar[dict[str, str]] = {
        "grant_type": "authorization_code",
        "client_id": "client",
        "client_secret": "secret",
        "code_verifier": "verifier",
        "redirect_uri": f"{ORIGIN}/oauth2/callback",
    }
    expired = errors.LoginExpiredError
    refused = errors.GitHubRefusedError
    limited = errors.GitHubLimitedError
    unreachable = errors.GitHubUnreachableError
    any_error = (errors.GitHubError, errors.LoginError)

    def __init__(self, way: httpx.AsyncBaseTransport) -> None:
        super().__init__(way)
        self._verifier = "verifier"
        self._oauth = GitHubOAuth(
            way,
            github_url=GITHUB_URL,
            api_url=f"{GITHUB_URL}/api",
            client_id="client",
            client_secret=SecretStr("secret"),
            redirect_uri=f"{ORIGIN}/oauth2/callback",
            timeout_s=1,
            scope=SCOPE,
        )

    def start(self) -> tuple[str, str]:
        """Starts an attempt of the simulated monthly sponsor."""
        attempt = self._oauth.start(login_hint="monthly")
        self._verifier = attempt.code_verifier
        return attempt.url, attempt.state

    async def fetch_token(self, code: str) -> str:
        """Returns the token for a code."""
        return await self._oauth.fetch_token(code=code, code_verifier=self._verifier)

    async def ask(self, token: str) -> str:
        """Returns the login of the token's owner."""
        async with create_http_client(self.way, timeout_s=1) as http:
            return (await GitHubClient(http, api_url=f"{GITHUB_URL}/api").fetch_user(token)).login


class PatreonPeer(Peer):
    """Our clients for Patreon, where a person links an account."""

    token_url = f"{PATREON_URL}/api/oauth2/token"
    token_form: ClassVar[dict[str, str]] = {
        "grant_type": "authorization_code",
        "client_id": "patreon-client",
        "client_secret": "the-secret-of-the-patreon-client",
        "redirect_uri": f"{ORIGIN}/patreon/callback",
    }
    expired = errors.LinkExpiredError
    refused = errors.LinkRefusedError
    limited = errors.LinkLimitedError
    unreachable = errors.LinkUnreachableError
    any_error = (errors.AccountLinkError,)

    def __init__(self, way: httpx.AsyncBaseTransport) -> None:
        super().__init__(way)
        self._oauth = PatreonOAuth(
            transport=way,
            patreon_url=PATREON_URL,
            client_id="patreon-client",
            client_secret=SecretStr("the-secret-of-the-patreon-client"),
            redirect_uri=f"{ORIGIN}/patreon/callback",
            timeout_s=1,
        )

    def start(self) -> tuple[str, str]:
        """Starts an attempt of a simulated active patron."""
        attempt = self._oauth.start()
        return f"{attempt.url}&patron=active", attempt.state

    async def fetch_token(self, code: str) -> str:
        """Returns the token for a code."""
        return await self._oauth.fetch_token(code=code)

    async def ask(self, token: str) -> str:
        """Returns the Patreon id of the token's owner."""
        async with create_http_client(self.way, timeout_s=1) as http:
            identity = await PatreonClient(http, patreon_url=PATREON_URL).fetch_identity(token)
        return identity.account_id


async def consent(service: SimulatedGitHub | SimulatedPatreon, url: str) -> str:
    """Opens the consent page in a browser; returns the code in its redirect."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.app)) as browser:
        redirect = await browser.get(url)
    return parse_qs(urlsplit(redirect.headers["location"]).query)["code"][0]
