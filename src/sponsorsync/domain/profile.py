"""People and their profiles.

GitHub's numeric id identifies a person: a login can change hands, an id cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class GitHubUser:
    """The answer of `GET /user`; the public e-mail and the name are often None."""

    id: int
    login: str
    name: str | None
    email: str | None
    avatar_url: str | None


@dataclass(frozen=True, slots=True)
class GitHubAccount:
    """The public identity of a person or an organization; `node_id` is its id in GraphQL.

    `login` is as GitHub writes it; another account may take it later.
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
    """The stored data on a person, in `user_details:{id}`."""

    id: int
    login: str
    name: str | None
    email: str | None
    avatar_url: str | None
    first_seen: datetime
    last_login: datetime


def choose_email(user: GitHubUser, emails: Sequence[EmailAddress]) -> str | None:
    """Returns the primary and verified address, else the public one, else None.

    The public address is the second choice, because GitHub verified it only once.
    """
    return next((e.email for e in emails if e.is_primary and e.is_verified), user.email)
