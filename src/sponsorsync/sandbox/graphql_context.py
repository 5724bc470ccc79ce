"""The state that all GraphQL resolvers share, and GitHub's form of a refusal."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from graphql import GraphQLError, GraphQLResolveInfo

from sponsorsync.sandbox.oauth import Token
from sponsorsync.sandbox.people import Account, Organization, People, Person, Sponsorship
from sponsorsync.sandbox.switches import Switches

Info: TypeAlias = GraphQLResolveInfo["QueryContext"]
Resolver: TypeAlias = Callable[..., object]
Order: TypeAlias = dict[str, str]

INSUFFICIENT_SCOPES = "INSUFFICIENT_SCOPES"
_START_OF_1970 = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class QueryContext:
    """The token, the time and the data of one query."""

    people: People
    token: Token
    switches: Switches
    now: datetime
    base_url: str

    @property
    def viewer(self) -> Person:
        """The person behind the token."""
        return self.token.person

    def manages(self, account: Account) -> bool:
        """Returns whether the viewer is `account` or owns it."""
        if isinstance(account, Organization):
            return self.viewer in account.owners
        return self.viewer is account

    def sees(self, sponsorship: Sponsorship) -> bool:
        """Returns whether GitHub shows this sponsorship to the viewer."""
        if not sponsorship.is_private or self.manages(sponsorship.sponsorable):
            return True
        return self.manages(sponsorship.sponsor) and not self.switches.own_private_hidden

    def is_restricted(self, organization: Organization) -> bool:
        """Returns whether this organization hides its data from the tokens of OAuth apps."""
        return organization.login.lower() == self.switches.restricting_organization.lower()

    def require_scope(self, scope: str, field: str) -> None:
        """Raises a GraphQLError if the scope is missing; GitHub then drops the whole answer."""
        granted = () if self.switches.insufficient_scopes else self.token.scopes
        if scope not in granted:
            raise github_error(
                INSUFFICIENT_SCOPES,
                "Your token has not been granted the required scopes to execute this query. "
                f"The '{field}' field requires one of the following scopes: ['{scope}'], but your "
                f"token has only been granted the: {list(granted)} scopes.",
            )


def github_error(kind: str, message: str) -> GraphQLError:
    """Returns an error with GitHub's `type`, which the answer shows beside `message`."""
    return GraphQLError(message, extensions={"type": kind})


def forbidden(login: str = "sponsoring-org") -> GraphQLError:
    """Returns the error of an organization that restricts OAuth apps."""
    return github_error(
        "FORBIDDEN",
        f"Although you appear to have the correct authorization credentials, the `{login}` "
        "organization has enabled OAuth App access restrictions, meaning that data access to "
        "third-parties is limited.",
    )


def is_descending(order_by: Order | None) -> bool:
    """Returns whether an `orderBy` argument asks for the descending order."""
    return order_by is not None and order_by["direction"] == "DESC"


def microseconds(moment: datetime) -> int:
    """Returns a moment as a number to order by."""
    return (moment - _START_OF_1970) // timedelta(microseconds=1)
