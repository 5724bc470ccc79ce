"""A person, by GitHub's numeric id: a freed login can be taken by somebody else, an id cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class GitHubUser:
    """What `GET /user` tells: the public e-mail and the name are often None."""

    id: int
    login: str
    name: str | None
    email: str | None
    avatar_url: str | None


@dataclass(frozen=True, slots=True)
class GitHubAccount:
    """What anybody may know of a person or an organization.

    Attributes:
        login: As GitHub writes it; another account may have it tomorrow.
        node_id: What GraphQL knows the account by.
    """

    id: int
    login: str
    node_id: str


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """One row of `GET /user/emails`."""

    email: str
    is_primary: bool
    is_verified: bool


@dataclass(frozen=True, slots=True)
class Profile:
    """What is kept of a person in `user_details:{id}`."""

    id: int
    login: str
    name: str | None
    email: str | None
    avatar_url: str | None
    first_seen: datetime
    last_login: datetime


def choose_email(user: GitHubUser, emails: Sequence[EmailAddress]) -> str | None:
    """Returns the address to keep: the primary and verified one, else the public one, else None.

    The public address of a profile is free text that GitHub has verified once, so it only stands
    in where the list could not be read or has no primary and verified row.
    """
    return next((e.email for e in emails if e.is_primary and e.is_verified), user.email)
