"""Patreon as a source of entitlement: people link their account there (docs/patreon.md)."""

from functools import partial
from typing import Self

import httpx

from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.http_client import create_http_client
from sponsorsync.linked_source import LinkAttempt, LinkedAccount, LinkedSource
from sponsorsync.patreon.client import PatreonClient
from sponsorsync.patreon.oauth import PatreonOAuth
from sponsorsync.patreon.patronage import derive_grant
from sponsorsync.settings import Settings


class PatreonSource(LinkedSource):
    """Patrons of one campaign are entitled for the time that they have paid for."""

    source = EntitlementSource.PATREON
    name = "Patreon"
    client_id_variable = "SPONSORSYNC_PATREON_CLIENT_ID"

    def __init__(self, oauth: PatreonOAuth, *, campaign_id: str) -> None:
        self._oauth = oauth
        self._campaign_id = campaign_id

    @classmethod
    def create(
        cls, settings: Settings, transport: httpx.AsyncBaseTransport, *, redirect_uri: str
    ) -> Self | None:
        """Returns the source, or None if Patreon's settings are not set."""
        client_id, secret = settings.patreon_client_id, settings.patreon_secret
        campaign_id = settings.patreon_campaign
        if client_id is None or secret is None or campaign_id is None:
            return None
        oauth = PatreonOAuth(
            transport=transport,
            patreon_url=settings.patreon_url,
            client_id=client_id,
            client_secret=secret,
            redirect_uri=redirect_uri,
            timeout_s=settings.github_timeout_s,
        )
        return cls(oauth, campaign_id=campaign_id)

    def start(self) -> LinkAttempt:
        """Returns a new attempt, bound to one person in one browser by its state."""
        return self._oauth.start()

    async def fetch_account(self, code: str) -> LinkedAccount:
        """Returns the account and its grant; the token is used once and not stored."""
        token = await self._oauth.fetch_token(code=code)
        oauth = self._oauth
        async with create_http_client(oauth.transport, timeout_s=oauth.timeout_s) as http:
            client = PatreonClient(http, patreon_url=oauth.patreon_url)
            identity = await client.fetch_identity(token)
        return LinkedAccount(
            account_id=identity.account_id,
            derive_grant=partial(derive_grant, identity, self._campaign_id),
        )
