"""What is held of one person, and how they come to be signed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sponsorsync.domain.entitlement import Entitlement, EntitlementFacts
    from sponsorsync.domain.profile import Profile


NO_VERSION = "0?"
"""The version of what was never written, and of which durable was not asked."""


@dataclass(frozen=True, slots=True)
class StoredEntitlement:
    """What is known of one person's entitlement by one sponsorable.

    Attributes:
        facts: None while nothing is known.
        version: Of what is known; whoever keeps something that is built on it names it.
    """

    facts: EntitlementFacts | None
    version: str


@dataclass(frozen=True, slots=True)
class Account:
    """A profile and what is known of the person's entitlement by each sponsorable.

    `profile` is None when the local Redis has lost it.
    """

    profile: Profile | None
    entitlements: Mapping[str, StoredEntitlement]


@dataclass(frozen=True, slots=True)
class SponsorEntry:
    """A person's entitlement for administrators; `login` is None before the first sign-in."""

    person_id: int
    login: str | None
    entitlement: Entitlement


@dataclass(frozen=True, slots=True)
class SponsorPage:
    """Some of those who are entitled; `next_cursor` is None on the last page."""

    entries: Sequence[SponsorEntry]
    next_cursor: int | None


@dataclass(frozen=True, slots=True)
class StoredPersonalData:
    """All that one Redis holds of a person, as text.

    Attributes:
        entitlements: Fields by sponsorable.
        preferences: Sorted items by collection.
        pending: Changes that wait for the durable side, '+' or '-' by collection and item.
        versions: The service's own notes on the parts above.
    """

    profile: Mapping[str, str]
    entitlements: Mapping[str, Mapping[str, str]]
    preferences: Mapping[str, Sequence[str]]
    pending: Mapping[str, str]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PersonalExport:
    """What both sides hold; `durable` is None where it could not be asked, and `note` says why."""

    local: StoredPersonalData
    durable: StoredPersonalData | None
    note: str | None


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """One journey to GitHub: where to send the browser, and what has to fit when it is back."""

    url: str
    state: str
    code_verifier: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who signed in, and the token of the new session."""

    profile: Profile
    session_token: str
