"""Patreon's OAuth flow, with Authlib: a signed-in person links their Patreon account.

https://docs.patreon.com/#oauth

Patreon documents no PKCE: only the state and the client secret protect a code. Patreon documents
no way to revoke a token either: the caller reads the identity once and drops the token, and people
can withdraw the access in their settings:
https://support.patreon.com/hc/en-gb/articles/115004061726
"""

from dataclasses import dataclass

import httpx
from pydantic import SecretStr

from sponsorsync.domain.errors import (
    AccountLinkError,
    LinkExpiredError,
    LinkRefusedError,
    LinkUnreachableError,
)
from sponsorsync.http_client import USER_AGENT
from sponsorsync.linked_source import LinkAttempt
from sponsorsync.oauth_client import UNREADABLE, AsyncOAuth2Client, OAuthError
from sponsorsync.patreon import messages

# With this scope Patreon shows the membership of one campaign: that of the account that registered
# the client. With identity.memberships it would show all campaigns that a person supports, which
# we do not need. https://docs.patreon.com/#get-api-oauth2-v2-identity
SCOPE = "identity"

# Patreon's error codes if it does not accept a code or the client (RFC 6749, 5.2).
_TOKEN_ERRORS: dict[str, tuple[type[AccountLinkError], str]] = {
    "invalid_grant": (
        LinkExpiredError,
        "Patreon no longer accepts the code it gave. Please link your account again.",
    ),
    "invalid_client": (
        LinkRefusedError,
        (
            "Patreon does not accept this site's client id and secret. Its operator has to check "
            "SPONSORSYNC_PATREON_CLIENT_ID and SPONSORSYNC_PATREON_SECRET."
        ),
    ),
}
_OTHER_TOKEN_ERROR = (LinkRefusedError, "Patreon did not link the account. Please try again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PatreonOAuth:
    """Starts and finishes the web flow."""

    transport: httpx.AsyncBaseTransport
    patreon_url: str
    client_id: str
    client_secret: SecretStr
    redirect_uri: str
    timeout_s: float

    def start(self) -> LinkAttempt:
        """Returns a new attempt, bound to one browser by its state."""
        url, state = self._create_client().create_authorization_url(
            f"{self.patreon_url}/oauth2/authorize"
        )
        return LinkAttempt(url=url, state=state)

    async def fetch_token(self, *, code: str) -> str:
        """Returns the access token for a code; drops the refresh token.

        Raises:
            LinkExpiredError: Patreon does not accept the code.
            LinkRefusedError: Patreon does not accept the client id and secret, or gives no reason.
            LinkLimitedError: Patreon's rate limit is reached.
            LinkUnreachableError: Patreon gave no readable answer.
        """
        try:
            async with self._create_client() as client:
                client.register_compliance_hook("access_token_response", _check_response)
                token = await client.fetch_token(f"{self.patreon_url}/api/oauth2/token", code=code)
        except OAuthError as error:
            kind, message = _TOKEN_ERRORS.get(str(error.error), _OTHER_TOKEN_ERROR)
            raise kind(message) from None
        except (httpx.HTTPError, *UNREADABLE) as error:
            raise LinkUnreachableError("Patreon could not be asked for a token.") from error
        access_token = token.get("access_token")
        if not isinstance(access_token, str) or not access_token:
            raise LinkUnreachableError("Patreon sent no token.")
        return access_token

    def _create_client(self) -> AsyncOAuth2Client:
        # A new client for each use, because it stores the fetched token. The transport is shared.
        return AsyncOAuth2Client(
            client_id=self.client_id,
            client_secret=self.client_secret.get_secret_value(),
            token_endpoint_auth_method="client_secret_post",  # noqa: S106 - a method's name
            scope=SCOPE,
            redirect_uri=self.redirect_uri,
            transport=self.transport,
            timeout=self.timeout_s,
            headers={"User-Agent": USER_AGENT},  # https://docs.patreon.com/#introduction
        )


def _check_response(response: httpx.Response) -> httpx.Response:
    messages.check_token_status(response.status_code, response.headers, response.content)
    return response
