"""Links people to their accounts at other services at which they support the maintainer."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import httpx
import structlog

from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.errors import NotSignedInError
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.entitlements.grants import find_grant, replace_grant
from sponsorsync.entitlements.linked_sources import LINKED_SOURCES
from sponsorsync.linked_source import LinkedAccount, LinkedSource, callback_path
from sponsorsync.settings import Settings
from sponsorsync.store.entitlements import EntitlementStore
from sponsorsync.store.linked_accounts import LinkedAccountStore

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLink:
    """Links and unlinks accounts at one source; an account is linked to one person at a time."""

    linked_source: LinkedSource
    entitlements: EntitlementStore
    linked_accounts: LinkedAccountStore
    sponsorable: str
    clock: Callable[[], datetime]

    async def finish(self, person_id: int, *, code: str) -> bool:
        """Fetches the account to which an OAuth code belongs, and saves its grant for this person.

        If the account was linked to another person, that person loses the grant.

        Returns:
            Whether the account gives a grant, which may have ended.

        Raises:
            NotSignedInError: The person deleted their SponsorSync account in the meantime.
            AccountLinkError: The service gave no usable answer; nothing changes.
            StoreUnavailableError: A Redis cannot be asked; nothing changes.
        """
        account = await self.linked_source.fetch_account(code)
        async with self.linked_accounts.hold_lock(self._source, account.account_id):
            if (await self.entitlements.load_logins([person_id]))[person_id] is None:
                raise NotSignedInError
            holder = await self.linked_accounts.find_person(
                self._source, self.sponsorable, account.account_id
            )
            if holder is not None and holder != person_id:
                await self._remove_grant(holder, account.account_id)
            facts = await self._save_grant(person_id, account)
        _log.info(
            "account_linked",
            source=self._source.value,
            person=person_id,
            moved=holder not in {None, person_id},
        )
        return facts is not None and find_grant(facts, self._source) is not None

    async def unlink(self, person_id: int) -> None:
        """Removes the grant of the person's linked account, if there is one.

        Raises:
            StoreUnavailableError: A Redis cannot be asked; nothing changes.
        """
        await self._remove_grant(person_id, None)

    @property
    def _source(self) -> EntitlementSource:
        return self.linked_source.source

    async def _save_grant(self, person_id: int, account: LinkedAccount) -> EntitlementFacts | None:
        def decide(stored: EntitlementFacts | None) -> EntitlementFacts:
            facts = stored or EntitlementFacts(sponsorable=self.sponsorable, checked_at=None)
            return apply_account(facts, self._source, account, now=self.clock())

        _, facts = await self.entitlements.change(
            self.sponsorable, person_id, decide, by=self._source.value, for_certain=True
        )
        return facts

    async def _remove_grant(self, person_id: int, account_id: str | None) -> None:
        """Removes the person's grant of this account, or of any account if `account_id` is None."""

        def decide(stored: EntitlementFacts | None) -> EntitlementFacts | None:
            grant = None if stored is None else find_grant(stored, self._source)
            if stored is None or grant is None or account_id not in {None, grant.account_id}:
                return None
            return replace_grant(stored, self._source, None)

        await self.entitlements.change(
            self.sponsorable, person_id, decide, by=self._source.value, for_certain=True
        )


def apply_account(
    facts: EntitlementFacts, source: EntitlementSource, account: LinkedAccount, *, now: datetime
) -> EntitlementFacts:
    """Returns the facts with the grant that the account gives now, in place of a former one."""
    stored = find_grant(facts, source)
    if stored is not None and stored.account_id != account.account_id:
        stored = None  # dates of a former account's grant do not apply to this one
    return replace_grant(facts, source, account.derive_grant(stored, now))


def create_account_links(
    settings: Settings,
    transport: httpx.AsyncBaseTransport,
    entitlements: EntitlementStore,
    linked_accounts: LinkedAccountStore,
    *,
    clock: Callable[[], datetime],
) -> dict[EntitlementSource, AccountLink]:
    """Returns an AccountLink for each source whose settings are set."""
    links = {}
    for kind in LINKED_SOURCES:
        redirect_uri = settings.origin + callback_path(kind.source)
        if linked_source := kind.create(settings, transport, redirect_uri=redirect_uri):
            links[kind.source] = AccountLink(
                linked_source=linked_source,
                entitlements=entitlements,
                linked_accounts=linked_accounts,
                sponsorable=settings.sponsorables[0],
                clock=clock,
            )
    return links
