"""What the application hands to the routers: the seams between HTTP and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sponsorsync.domain.account import Account, LoginAttempt, SignedIn
    from sponsorsync.domain.cover import CoverPolicy
    from sponsorsync.domain.preferences import ChangeResult, CollectionState
    from sponsorsync.web.cookies import Cookies


class LoginFlow(Protocol):
    """See `sponsorsync.login.Login`."""

    @property
    def issuer(self) -> str:
        """What `iss` in a callback has to be when it is there."""

    def start(self, *, login_hint: str | None) -> LoginAttempt:
        """Returns a new attempt."""

    async def finish(self, *, code: str, code_verifier: str, replaces: str | None) -> SignedIn:
        """Returns who signed in."""


class People(Protocol):
    """See `sponsorsync.store.people.PeopleStore`."""

    async def load_account(self, person_id: int) -> Account:
        """Returns what is known of a person."""

    async def load_session(self, token: str) -> int | None:
        """Returns the id of the person whose session this is."""

    async def end_session(self, token: str) -> None:
        """Ends a session."""


class Preferences(Protocol):
    """See `sponsorsync.store.preferences.PreferenceStore`."""

    async def load(self, person_id: int, collection: str) -> CollectionState:
        """Returns a collection."""

    async def change(
        self, person_id: int, collection: str, *, add: Sequence[str], remove: Sequence[str]
    ) -> ChangeResult:
        """Adds and removes items, all or nothing."""

    async def filter(self, person_id: int, collection: str, ids: Sequence[str]) -> list[str]:
        """Returns the ids that are not in the collection."""


class Pingable(Protocol):
    """Something that answers, or raises a StoreError."""

    async def ping(self) -> None:
        """Returns when it answers."""


@dataclass(frozen=True, slots=True)
class Services:
    """All that a request may use.

    Attributes:
        origin: Scheme, host and port by which browsers reach the service.
        allowed_origins: Other origins that may call with credentials.
        local: The application's Redis.
        durable: The second Redis; None where none is configured.
    """

    origin: str
    allowed_origins: frozenset[str]
    cookies: Cookies
    login: LoginFlow
    people: People
    preferences: Preferences
    policy: CoverPolicy
    local: Pingable
    durable: Pingable | None
    clock: Callable[[], datetime]


class State(TypedDict):
    """What the lifespan yields; Starlette puts it on every request's `state`."""

    services: Services
