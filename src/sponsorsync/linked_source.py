"""The interface of a source of entitlement at which people link an account (see CONTRIBUTING.md).

Each such service has a package with a subclass of LinkedSource;
`entitlements/linked_sources.py` lists these classes.
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
    """One attempt to link an account.

    Attributes:
        url: The page of the service to which the browser is sent.
        state: A random text that the service sends back, and that is compared then.
    """

    url: str
    state: str


@dataclass(frozen=True, slots=True)
class LinkedAccount:
    """An account at a source, as the source's API has just described it.

    Attributes:
        account_id: The id of the account at the source.
        derive_grant: Returns the account's grant at a moment; None if the person never paid there.
            The arguments are the stored grant of the same account, or None, and the moment.
    """

    account_id: str
    derive_grant: Callable[[Grant | None, datetime], Grant | None]


class LinkedSource(ABC):
    """A service at which people link an account that may entitle them.

    `client_id_variable` is the environment variable of the service's OAuth client id.
    """

    source: ClassVar[EntitlementSource]
    name: ClassVar[str]
    client_id_variable: ClassVar[str]

    @classmethod
    @abstractmethod
    def create(
        cls, settings: Settings, transport: httpx.AsyncBaseTransport, *, redirect_uri: str
    ) -> Self | None:
        """Returns the source, or None if its settings are not set."""

    @abstractmethod
    def start(self) -> LinkAttempt:
        """Returns a new attempt to link an account; its state binds it to one person's browser."""

    @abstractmethod
    async def fetch_account(self, code: str) -> LinkedAccount:
        """Returns the account to which an OAuth code belongs; keeps no access token.

        Raises:
            AccountLinkError: The service gave no usable answer.
        """


def callback_path(source: EntitlementSource) -> str:
    """Returns the path of ours to which a source sends the browser back."""
    return f"/{source}/callback"
