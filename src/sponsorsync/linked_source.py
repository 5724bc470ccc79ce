"""The interface of a source of entitlement at which people link an account (see CONTRIBUTING.md).

Each service has a package that implements it, and `entitlements/linked_sources.py` lists it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Self

import httpx

from sponsorsync.domain.sources import EntitlementSource, Grant
from sponsorsync.settings import Settings


@dataclass(frozen=True, slots=True)
class LinkAttempt:
    """One attempt to link an account: the browser's next address, and the state to check later."""

    url: str
    state: str


@dataclass(frozen=True, slots=True)
class LinkedAccount:
    """An account at a source, as the source has just described it.

    Attributes:
        account_id: The source's own id of the account.
        derive_grant: Returns the grant at a moment, None where the account never gave anything.
            The first argument is the stored grant by the same account, or None.
    """

    account_id: str
    derive_grant: Callable[[Grant | None, datetime], Grant | None]


class LinkedSource(ABC):
    """A service at which people link an account that entitles them.

    `client_id_variable` names the setting that configures the service.
    """

    source: ClassVar[EntitlementSource]
    name: ClassVar[str]
    client_id_variable: ClassVar[str]

    @classmethod
    @abstractmethod
    def create(
        cls, settings: Settings, transport: httpx.AsyncBaseTransport, *, redirect_uri: str
    ) -> Self | None:
        """Returns the source, or None where its settings are not set."""

    @abstractmethod
    def start(self) -> LinkAttempt:
        """Returns a new attempt, bound to one person in one browser by its state."""

    @abstractmethod
    async def fetch_account(self, code: str) -> LinkedAccount:
        """Returns the account to which a code belongs; forgets every token.

        Raises:
            AccountLinkError: The service gave no usable answer.
        """


def callback_path(source: EntitlementSource) -> str:
    """Returns the path to which a source sends the browser back."""
    return f"/{source}/callback"
