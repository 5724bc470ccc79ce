"""Linking an account of Patreon's: patrons are entitled like sponsors, as long as Patreon tells."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.errors import NotSignedInError
from sponsorsync.domain.patronage import find_patronage, record_patronage, remove_patronage
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.http_client import create_http_client
from sponsorsync.patreon.client import PatreonClient
from sponsorsync.patreon.oauth import PatreonOAuth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    import httpx

    from sponsorsync.domain.patronage import LinkAttempt, PatreonIdentity
    from sponsorsync.settings import Settings
    from sponsorsync.store.entitlements import EntitlementStore
    from sponsorsync.store.linked_accounts import LinkedAccountStore

_log = structlog.get_logger(__name__)


class PatreonLink:
    """Takes who is signed in to Patreon and back; no token of theirs is kept."""

    def __init__(
        self,
        oauth: PatreonOAuth,
        client: PatreonClient,
        entitlements: EntitlementStore,
        linked_accounts: LinkedAccountStore,
        *,
        campaign_id: str,
        sponsorable: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._oauth = oauth
        self._client = client
        self._entitlements = entitlements
        self._linked_accounts = linked_accounts
        self._campaign_id = campaign_id
        self._sponsorable = sponsorable
        self._clock = clock

    def start(self) -> LinkAttempt:
        """Returns a new attempt; its state belongs to one person in one browser."""
        return self._oauth.start()

    async def finish(self, person_id: int, *, code: str) -> bool:
        """Learns what somebody gives at Patreon, and keeps it.

        An account of Patreon's counts for one person: for who linked it last.

        Returns:
            Whether they give anything, or did.

        Raises:
            NotSignedInError: The account was deleted while Patreon was asked.
            PatreonError: Patreon gave no usable answer; all stays as it was.
            StoreUnavailableError: A Redis cannot be asked; likewise.
        """
        token = await self._oauth.fetch_token(code=code)
        identity = await self._client.fetch_identity(token)
        async with self._linked_accounts.hold_lock(EntitlementSource.PATREON, identity.patron_id):
            if (await self._entitlements.load_logins([person_id]))[person_id] is None:
                raise NotSignedInError  # the account was deleted meanwhile
            holder = await self._linked_accounts.find_person(
                EntitlementSource.PATREON, self._sponsorable, identity.patron_id
            )
            if holder is not None and holder != person_id:
                await self._forget(holder, identity.patron_id)
            _, facts = await self._entitlements.change(
                self._sponsorable,
                person_id,
                lambda known: self._see(known, identity),
                by="patreon",
                for_certain=True,
            )
        _log.info("patreon_linked", person=person_id, moved=holder not in {None, person_id})
        return facts is not None and find_patronage(facts) is not None

    async def unlink(self, person_id: int) -> None:
        """Forgets what Patreon told of somebody; it is no error if that was nothing.

        Raises:
            StoreUnavailableError: A Redis cannot be asked; all stays as it was.
        """
        await self._forget(person_id, None)

    async def _forget(self, person_id: int, patron_id: str | None) -> None:
        """Forgets one account of Patreon's, or any."""

        def decide(known: EntitlementFacts | None) -> EntitlementFacts | None:
            linked = None if known is None else find_patronage(known)
            if known is None or linked is None or patron_id not in {None, linked.patron_id}:
                return None
            return remove_patronage(known)

        await self._entitlements.change(
            self._sponsorable, person_id, decide, by="patreon", for_certain=True
        )

    def _see(self, known: EntitlementFacts | None, identity: PatreonIdentity) -> EntitlementFacts:
        facts = known or EntitlementFacts(sponsorable=self._sponsorable, checked_at=None)
        return record_patronage(facts, identity, campaign_id=self._campaign_id, now=self._clock())


@asynccontextmanager
async def open_patreon_link(
    settings: Settings,
    transport: httpx.AsyncBaseTransport,
    entitlements: EntitlementStore,
    linked_accounts: LinkedAccountStore,
    *,
    redirect_uri: str,
    clock: Callable[[], datetime],
) -> AsyncIterator[PatreonLink | None]:
    """Yields the link to Patreon, or None where Patreon is not configured."""
    client_id, secret = settings.patreon_client_id, settings.patreon_secret
    campaign_id = settings.patreon_campaign
    if client_id is None or secret is None or campaign_id is None:
        yield None
        return
    url, timeout_s = settings.patreon_url, settings.github_timeout_s
    async with create_http_client(transport, timeout_s=timeout_s) as client:
        yield PatreonLink(
            PatreonOAuth(
                transport,
                patreon_url=url,
                client_id=client_id,
                client_secret=secret,
                redirect_uri=redirect_uri,
                timeout_s=timeout_s,
            ),
            PatreonClient(client, patreon_url=url),
            entitlements,
            linked_accounts,
            campaign_id=campaign_id,
            sponsorable=settings.sponsorables[0],
            clock=clock,
        )
