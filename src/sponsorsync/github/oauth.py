"""GitHub's OAuth web flow, with Authlib (docs/adr/0003-login.md).

https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
"""

import secrets
from dataclasses import KW_ONLY, dataclass

import httpx
from pydantic import SecretStr

from sponsorsync.domain.account import LoginAttempt
from sponsorsync.domain.errors import (
    GitHubUnreachableError,
    LoginError,
    LoginExpiredError,
    LoginRejectedError,
)
from sponsorsync.http_client import USER_AGENT
from sponsorsync.oauth_client import UNREADABLE, AsyncOAuth2Client, OAuthError

# https://docs.github.com/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
SCOPE = "read:user user:email"
SCOPE_WITH_ORGANIZATIONS = f"{SCOPE} read:org"

# A PKCE verifier has 43 to 128 characters (RFC 7636, 4.1); 48 random bytes make 64.
_VERIFIER_BYTES = 48

# GitHub's error codes for a rejected code, sent with HTTP 200.
# https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-oauth-app-access-token-request-errors
_TOKEN_ERRORS: dict[str, tuple[type[LoginError], str]] = {
    "bad_verification_code": (
        LoginExpiredError,
        "GitHub rejected the code: it is valid for ten minutes and for one use. Sign in again.",
    ),
    "incorrect_client_credentials": (
        LoginRejectedError,
        (
            "GitHub rejected this site's client id and secret. Its operator has to check "
            "GITHUB_CLIENT_ID and GITHUB_SECRET."
        ),
    ),
    "redirect_uri_mismatch": (
        LoginRejectedError,
        (
            "GitHub rejected this site's callback address. Its operator has to enter "
            "SPONSORSYNC_PUBLIC_URL followed by /oauth2/callback in the OAuth app's settings."
        ),
    ),
    "unverified_user_email": (
        LoginError,
        (
            "GitHub requires you to verify your primary e-mail address. Do that at GitHub, then "
            "sign in again."
        ),
    ),
}
_OTHER_TOKEN_ERROR = (LoginError, "GitHub did not complete the login. Please try again.")


@dataclass(frozen=True, slots=True)
class GitHubOAuth:
    """Starts the web flow, fetches the token at its end, and revokes tokens."""

    transport: httpx.AsyncBaseTransport
    _: KW_ONLY
    github_url: str
    api_url: str
    client_id: str
    client_secret: SecretStr
    redirect_uri: str
    timeout_s: float
    scope: str

    @property
    def issuer(self) -> str:
        """The only valid value of the callback's parameter `iss`, which is optional (RFC 9207)."""
        return f"{self.github_url}/login/oauth"

    def start(self, *, login_hint: str | None) -> LoginAttempt:
        """Returns a new attempt; `login_hint` preselects an account on GitHub's page."""
        verifier = secrets.token_urlsafe(_VERIFIER_BYTES)
        more = {} if login_hint is None else {"login": login_hint}
        url, state = self._create_client().create_authorization_url(
            f"{self.github_url}/login/oauth/authorize", code_verifier=verifier, **more
        )
        return LoginAttempt(url=url, state=state, code_verifier=verifier)

    async def fetch_token(self, *, code: str, code_verifier: str) -> str:
        """Returns the access token for a code.

        Raises:
            LoginError: GitHub rejected the code, or this site's credentials or callback address.
            GitHubUnreachableError: GitHub did not answer, or sent an unreadable answer.
        """
        try:
            async with self._create_client() as client:
                token = await client.fetch_token(
                    f"{self.github_url}/login/oauth/access_token",
                    code=code,
                    code_verifier=code_verifier,
                )
        except OAuthError as error:
            kind, message = _TOKEN_ERRORS.get(str(error.error), _OTHER_TOKEN_ERROR)
            raise kind(message) from None
        except (httpx.HTTPError, *UNREADABLE) as error:
            raise GitHubUnreachableError("GitHub could not be asked for a token.") from error
        access_token = token.get("access_token")
        if not isinstance(access_token, str) or not access_token:
            raise GitHubUnreachableError("GitHub sent no token.")
        return access_token

    async def revoke_token(self, token: str) -> None:
        """Revokes a token; does nothing if it is already revoked.

        https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token

        Raises:
            GitHubUnreachableError: GitHub did not confirm the revocation.
        """
        try:
            async with self._create_client() as client:
                response = await client.request(
                    "DELETE",
                    f"{self.api_url}/applications/{self.client_id}/token",
                    auth=httpx.BasicAuth(self.client_id, self.client_secret.get_secret_value()),
                    json={"access_token": token},
                )
        except httpx.HTTPError as error:
            raise GitHubUnreachableError("GitHub could not be asked to revoke a token.") from error
        if response.status_code not in {httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND}:
            raise GitHubUnreachableError(
                f"GitHub did not revoke a token (HTTP {response.status_code})."
            )

    def _create_client(self) -> AsyncOAuth2Client:
        # A new client for each use, because it stores the fetched token. The transport is shared.
        return AsyncOAuth2Client(
            client_id=self.client_id,
            client_secret=self.client_secret.get_secret_value(),
            token_endpoint_auth_method="client_secret_post",  # noqa: S106 - a method's name
            code_challenge_method="S256",
            scope=self.scope,
            redirect_uri=self.redirect_uri,
            transport=self.transport,
            timeout=self.timeout_s,
            headers={"User-Agent": USER_AGENT},
        )
