"""Resolvers of GraphQL's Query, User and Organization."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, Unpack

from graphql import GraphQLError

from sponsorsync.sandbox.graphql_context import (
    Info,
    Order,
    Resolver,
    forbidden,
    github_error,
    is_descending,
    microseconds,
)
from sponsorsync.sandbox.oauth import POINTS_AN_HOUR
from sponsorsync.sandbox.paging import Key, Page, SliceArguments, paginate
from sponsorsync.sandbox.people import Account, Organization, Person

_Shown: TypeAlias = Organization | GraphQLError


@dataclass(frozen=True)
class RateLimit:
    """GitHub's type `RateLimit`; here every query costs one point."""

    remaining: int
    used: int
    reset_at: datetime
    limit: int = POINTS_AN_HOUR
    cost: int = 1
    node_count: int = 1


def _find_account(kind: type[Account], info: Info, login: str) -> Account:
    account = info.context.people.find(login)
    if isinstance(account, kind):
        return account
    article = "an" if kind is Organization else "a"
    raise github_error(
        "NOT_FOUND", f"Could not resolve to {article} {kind.typename} with the login of '{login}'."
    )


def _node(_: object, info: Info, **arguments: str) -> Account:
    """Returns the account with a node id; the service queries no other node by its id."""
    node_id = arguments["id"]
    account = info.context.people.by_node_id(node_id)
    if account is None:
        raise github_error(
            "NOT_FOUND", f"Could not resolve to a node with the global id of '{node_id}'"
        )
    return account


def _rate_limit(_: object, info: Info, **_arguments: object) -> RateLimit:
    token = info.context.token
    return RateLimit(token.points_left, token.points_used, token.window_ends)


def _organization_of(person: Person, info: Info, login: str) -> Organization | None:
    info.context.require_scope("read:org", info.field_name)
    organizations = info.context.people.organizations_of(person)
    found = next((each for each in organizations if each.login.lower() == login.lower()), None)
    if found is not None and info.context.is_restricted(found):
        raise forbidden(found.login)
    return found


def _organizations(
    person: Person,
    info: Info,
    order_by: Order | None = None,
    **slice_arguments: Unpack[SliceArguments],
) -> Page[_Shown]:
    info.context.require_scope("read:org", info.field_name)
    by_login = order_by is not None and order_by["field"] == "LOGIN"
    page = paginate(
        info.context.people.organizations_of(person),
        slice_arguments,
        connection=info.field_name,
        key=_login_key if by_login else _account_key,
        descending=is_descending(order_by),
    )
    # graphql-core turns an exception in a list into a null node and an error beside the data.
    nodes: list[_Shown] = [
        forbidden(each.login) if info.context.is_restricted(each) else each for each in page.nodes
    ]
    return Page(nodes, page.page_info, page.total_count)


def _members_with_role(
    organization: Organization, info: Info, **slice_arguments: Unpack[SliceArguments]
) -> Page[Person]:
    info.context.require_scope("read:org", info.field_name)
    return paginate(
        organization.members, slice_arguments, connection=info.field_name, key=_account_key
    )


def _account_key(account: Account) -> Key:
    return microseconds(account.created_at), account.database_id


def _login_key(account: Account) -> Key:
    return tuple(account.login.lower().encode())


QUERY: dict[str, Resolver] = {
    "node": _node,
    "organization": lambda _, info, login: _find_account(Organization, info, login),
    "rateLimit": _rate_limit,
    "repositoryOwner": lambda _, info, login: info.context.people.find(login),
    "user": lambda _, info, login: _find_account(Person, info, login),
    "viewer": lambda _, info: info.context.viewer,
}
_ACCOUNT: dict[str, Resolver] = {
    "avatarUrl": lambda account, info, **_: account.avatar_url(info.context.base_url),
    "resourcePath": lambda account, _: f"/{account.login}",
    "url": lambda account, info: account.html_url(info.context.base_url),
}
USER: dict[str, Resolver] = {
    **_ACCOUNT,
    "email": lambda person, _: person.email or "",
    "isViewer": lambda person, info: person is info.context.viewer,
    "organization": _organization_of,
    "organizations": _organizations,
}
ORGANIZATION: dict[str, Resolver] = {
    **_ACCOUNT,
    "membersWithRole": _members_with_role,
    "viewerCanAdminister": lambda organization, info: info.context.manages(organization),
    "viewerIsAMember": lambda organization, info: info.context.viewer in organization.members,
}
