"""A person's account: stored data, export and sign-in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sponsorsync.domain.entitlement import Entitlement, EntitlementFacts
from sponsorsync.domain.profile import Profile

NO_VERSION = "0?"
"""Version of a part that local never stored; '?' says that durable may have it."""


@dataclass(frozen=True, slots=True)
class StoredEntitlement:
    """The stored facts on one person and one sponsorable; `facts` is None if nothing is known.

    A write that is based on the facts passes their `version`, so that it fails if they changed.
    """

    facts: EntitlementFacts | None
    version: str


@dataclass(frozen=True, slots=True)
class Account:
    """A profile and the stored entitlements by sponsorable.

    `profile` is None if the local Redis has lost it.
    """

    profile: Profile | None
    entitlements: Mapping[str, StoredEntitlement]


@dataclass(frozen=True, slots=True)
class SponsorEntry:
    """A row of the sponsor list; `login` is None before the first sign-in."""

    person_id: int
    login: str | None
    entitlement: Entitlement


@dataclass(frozen=True, slots=True)
class SponsorPage:
    """A page of the sponsor list; `next_cursor` is None on the last page."""

    entries: Sequence[SponsorEntry]
    next_cursor: int | None


@dataclass(frozen=True, slots=True)
class StoredPersonalData:
    """All data that one Redis holds on a person, as text.

    `entitlements` has the stored fields of each sponsorable, `preferences` the sorted items of each
    collection. `pending` has the changes that wait for the durable Redis: '+' or '-' for each
    collection and item. `versions` is the service's metadata on all these parts.
    """

    profile: Mapping[str, str]
    entitlements: Mapping[str, Mapping[str, str]]
    preferences: Mapping[str, Sequence[str]]
    pending: Mapping[str, str]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PersonalExport:
    """A person's data on both Redises; `note` says why `durable` is None."""

    local: StoredPersonalData
    durable: StoredPersonalData | None
    note: str | None


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """A started sign-in at GitHub: the browser's destination and the secrets to check on return."""

    url: str
    state: str
    code_verifier: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The signed-in person's profile and the token of the new session."""

    profile: Profile
    session_token: str
