"""The simulated GitHub's GraphQL API: github.graphql executed over the directory of people."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, wraps
from importlib.resources import files
from typing import TypeAlias, TypeVar, Unpack, cast

from graphql import (
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    build_schema,
    execute_sync,
    parse,
    validate,
)

from sponsorsync.sandbox.oauth import POINTS_AN_HOUR, Token
from sponsorsync.sandbox.paging import Key, Page, Slice, SliceArguments, github_error, paginate
from sponsorsync.sandbox.people import Account, Organization, People, Person, Sponsorship, Tier
from sponsorsync.sandbox.switches import Switches

Info: TypeAlias = GraphQLResolveInfo["Visit"]
Resolver: TypeAlias = Callable[..., object]
Json: TypeAlias = dict[str, object]
Order: TypeAlias = dict[str, str]
_Node: TypeAlias = Sponsorship | GraphQLError | None
_Shown: TypeAlias = Organization | GraphQLError
_Account = TypeVar("_Account", bound=Account)

INCARNATIONS = datetime(1970, 1, 1, tzinfo=UTC)
INSUFFICIENT_SCOPES = "INSUFFICIENT_SCOPES"


@dataclass(frozen=True)
class Visit:
    """Who asks, when, and what is to be seen."""

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
        """Whether the viewer acts for `account`: is it, or owns it."""
        if isinstance(account, Organization):
            return self.viewer in account.owners
        return self.viewer is account

    def sees(self, sponsorship: Sponsorship) -> bool:
        """Whether the viewer may know of this sponsorship."""
        if not sponsorship.is_private or self.manages(sponsorship.sponsorable):
            return True
        return self.manages(sponsorship.sponsor) and not self.switches.own_private_hidden

    def is_restricted(self, organization: Organization) -> bool:
        """Whether this organization keeps OAuth apps out, and with them its members' tokens."""
        return organization.login.lower() == self.switches.restricting_organization.lower()

    def require_scope(self, scope: str, field: str) -> None:
        """Refuse a field the token was not granted the scope for.

        Raises:
            GraphQLError: The scope is missing; GitHub then drops the whole answer.
        """
        granted = () if self.switches.insufficient_scopes else self.token.scopes
        if scope not in granted:
            raise github_error(
                INSUFFICIENT_SCOPES,
                "Your token has not been granted the required scopes to execute this query. "
                f"The '{field}' field requires one of the following scopes: ['{scope}'], but your "
                f"token has only been granted the: {list(granted)} scopes.",
            )


@dataclass(frozen=True)
class RateLimit:
    """What `rateLimit` shows; every query costs one point here."""

    remaining: int
    used: int
    reset_at: datetime
    limit: int = POINTS_AN_HOUR
    cost: int = 1
    node_count: int = 1


def answer(query: str, variables: Json | None, operation: str | None, visit: Visit) -> Json:
    """Execute `query` and word the result as GitHub does."""
    schema = simulated_schema(nulls_stay=visit.switches.forbidden)
    try:
        document = parse(query)
    except GraphQLError as error:
        return {"errors": [_error_as_json(error)]}
    if errors := validate(schema, document):
        return {"errors": [_error_as_json(error) for error in errors]}
    result = execute_sync(
        schema,
        document,
        context_value=visit,
        variable_values=variables,
        operation_name=operation,
        field_resolver=_attribute,
        type_resolver=_typename,
    )
    errors = result.errors or []
    _raise_our_own(errors)
    if refused := [each for each in errors if _kind(each) == INSUFFICIENT_SCOPES]:
        return {"errors": [_error_as_json(error) for error in refused]}
    answered: Json = {"data": result.data}
    if errors:
        answered["errors"] = [_error_as_json(error) for error in errors]
    return answered


@cache
def simulated_schema(*, nulls_stay: bool = False) -> GraphQLSchema:
    """The schema with its resolvers.

    Args:
        nulls_stay: Let a refused sponsorship field be null where it stands, although GraphQL's own
            rule is that the null of a non-null field swallows its parents up to `data`.
    """
    schema = build_schema(files(__package__).joinpath("github.graphql").read_text("utf-8"))
    for type_name, resolvers in _RESOLVERS.items():
        fields = _fields(schema, type_name)
        for name, resolver in resolvers.items():
            fields[name].resolve = resolver
            for argument_name, argument in fields[name].args.items():
                argument.out_name = _snake_case(argument_name)
    if nulls_stay:
        for type_name in ("Sponsorable", "User", "Organization"):
            _make_nullable(_fields(schema, type_name))
    return schema


def _fields(schema: GraphQLSchema, type_name: str) -> dict[str, GraphQLField]:
    with_fields = cast("GraphQLObjectType | GraphQLInterfaceType", schema.type_map[type_name])
    fields: dict[str, GraphQLField] = with_fields.fields
    return fields


def _make_nullable(fields: dict[str, GraphQLField]) -> None:
    for name in _SPONSORSHIP_FIELDS:
        field_type = fields[name].type
        if isinstance(field_type, GraphQLNonNull):
            fields[name].type = field_type.of_type


def _error_as_json(error: GraphQLError) -> Json:
    """GitHub's form of an error: `type` stands beside `message`."""
    as_json: Json = dict(error.formatted)
    if kind := _kind(error):
        del as_json["extensions"]
        as_json["type"] = kind
    return as_json


def _kind(error: GraphQLError) -> object:
    return (error.extensions or {}).get("type")


def _raise_our_own(errors: list[GraphQLError]) -> None:
    """A defect of the simulation must not look like an answer of GitHub's."""
    for error in errors:
        original = error.original_error
        if original is not None and not isinstance(original, GraphQLError):
            raise original


# --- what every type shares ---------------------------------------------------------------------


def _attribute(source: object, info: Info, **_arguments: object) -> object:
    """The default resolver: `endCursor` is the attribute `end_cursor`."""
    value = getattr(source, _snake_case(info.field_name))
    return _timestamp(value) if isinstance(value, datetime) else value


@cache
def _snake_case(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name)


def _timestamp(moment: datetime) -> str:
    """GitHub's DateTime: whole seconds, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _typename(value: Account, *_: object) -> str:
    return value.typename


# --- Query --------------------------------------------------------------------------------------


def _viewer(_: object, info: Info) -> Person:
    return info.context.viewer


def _user(_: object, info: Info, login: str) -> Person:
    return _found(info.context.people.find_person(login), "a User", login)


def _organization(_: object, info: Info, login: str) -> Organization:
    account = info.context.people.find(login)
    organization = account if isinstance(account, Organization) else None
    return _found(organization, "an Organization", login)


def _node(_: object, info: Info, **arguments: str) -> Account:
    """Accounts only; nobody asks for the other nodes by their id."""
    node_id = arguments["id"]
    account = info.context.people.by_node_id(node_id)
    if account is None:
        raise github_error(
            "NOT_FOUND", f"Could not resolve to a node with the global id of '{node_id}'"
        )
    return account


def _repository_owner(_: object, info: Info, login: str) -> Account | None:
    return info.context.people.find(login)


def _rate_limit(_: object, info: Info, **_arguments: object) -> RateLimit:
    token = info.context.token
    return RateLimit(token.points_left, token.points_used, token.window_ends)


def _found(account: _Account | None, what: str, login: str) -> _Account:
    if account is None:
        raise github_error("NOT_FOUND", f"Could not resolve to {what} with the login of '{login}'.")
    return account


# --- User and Organization ----------------------------------------------------------------------


def _avatar_url(account: Account, info: Info, **_arguments: object) -> str:
    return account.avatar_url(info.context.base_url)


def _url(account: Account, info: Info) -> str:
    return account.html_url(info.context.base_url)


def _resource_path(account: Account, _: Info) -> str:
    return f"/{account.login}"


def _user_email(person: Person, _: Info) -> str:
    return person.email or ""


def _is_viewer(person: Person, info: Info) -> bool:
    return person is info.context.viewer


def _viewer_is_a_member(organization: Organization, info: Info) -> bool:
    return info.context.viewer in organization.members


def _viewer_can_administer(organization: Organization, info: Info) -> bool:
    return info.context.manages(organization)


def _organization_of(person: Person, info: Info, login: str) -> Organization | None:
    info.context.require_scope("read:org", info.field_name)
    organizations = info.context.people.organizations_of(person)
    found = next((each for each in organizations if each.login.lower() == login.lower()), None)
    if found is not None and info.context.is_restricted(found):
        raise _forbidden(found.login)
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
        Slice(**slice_arguments),
        connection=info.field_name,
        key=_login_key if by_login else _account_key,
        descending=_is_descending(order_by),
    )
    # graphql-core makes an exception in a list a null node with an error beside the data.
    nodes: list[_Shown] = [
        _forbidden(each.login) if info.context.is_restricted(each) else each for each in page.nodes
    ]
    return Page(nodes, page.page_info, page.total_count)


def _members_with_role(
    organization: Organization, info: Info, **slice_arguments: Unpack[SliceArguments]
) -> Page[Person]:
    info.context.require_scope("read:org", info.field_name)
    return paginate(
        organization.members, Slice(**slice_arguments), connection=info.field_name, key=_account_key
    )


def _account_key(account: Account) -> Key:
    return _microseconds(account.created_at), account.database_id


def _login_key(account: Account) -> Key:
    return tuple(account.login.lower().encode())


# --- Sponsorable --------------------------------------------------------------------------------


def _guarded(resolve: Resolver) -> Resolver:
    """Let the switches and the token's scopes decide before `resolve` does."""

    @wraps(resolve)
    def guard(account: Account, info: Info, **arguments: object) -> object:
        visit = info.context
        if visit.switches.forbidden or visit.switches.forbidden_data:
            raise _forbidden()
        visit.require_scope("read:user", info.field_name)
        return resolve(account, info, **arguments)

    return guard


def _forbidden(login: str = "sponsoring-org") -> GraphQLError:
    return github_error(
        "FORBIDDEN",
        f"Although you appear to have the correct authorization credentials, the `{login}` "
        "organization has enabled OAuth App access restrictions, meaning that data access to "
        "third-parties is limited.",
    )


def _sponsorships_as_sponsor(
    account: Account,
    info: Info,
    *,
    active_only: bool,
    maintainer_logins: list[str] | None = None,
    order_by: Order | None = None,
    **slice_arguments: Unpack[SliceArguments],
) -> Page[_Node]:
    given = info.context.people.sponsorships_of(account)
    if maintainer_logins is not None:
        wanted = {login.lower() for login in maintainer_logins}
        given = [each for each in given if each.sponsorable.login.lower() in wanted]
    seen = [each for each in given if info.context.sees(each)]
    return _sponsorship_page(seen, info, active_only, order_by, Slice(**slice_arguments))


def _sponsorships_as_maintainer(
    account: Account,
    info: Info,
    *,
    active_only: bool,
    include_private: bool,
    order_by: Order | None = None,
    **slice_arguments: Unpack[SliceArguments],
) -> Page[_Node]:
    with_private = include_private and info.context.manages(account)
    received = [
        each
        for each in info.context.people.sponsorships_for(account)
        if with_private or not each.is_private
    ]
    return _sponsorship_page(received, info, active_only, order_by, Slice(**slice_arguments))


def _sponsorship_page(
    sponsorships: list[Sponsorship],
    info: Info,
    active_only: bool,
    order_by: Order | None,
    wanted: Slice,
) -> Page[_Node]:
    page = paginate(
        [each for each in sponsorships if not active_only or each.is_active_at(info.context.now)],
        wanted,
        connection=info.field_name,
        key=_relevance if order_by is None else _sponsorship_age,
        descending=_is_descending(order_by),
    )
    nodes: list[_Node] = [None if each.is_null else each for each in page.nodes]
    if info.context.switches.partial:
        # graphql-core makes an exception in a list a null node with an error beside the data.
        nodes[:1] = [_forbidden()]
    return Page(nodes, page.page_info, page.total_count)


def _sponsorship_for_viewer_as_sponsor(
    account: Account, info: Info, *, active_only: bool
) -> Sponsorship | None:
    return _between(info.context.viewer, account, info.context, active_only=active_only)


def _sponsorship_for_viewer_as_sponsorable(
    account: Account, info: Info, *, active_only: bool
) -> Sponsorship | None:
    return _between(account, info.context.viewer, info.context, active_only=active_only)


def _is_sponsored_by(account: Account, info: Info, *, account_login: str) -> bool:
    sponsor = info.context.people.find(account_login)
    return sponsor is not None and _between(sponsor, account, info.context) is not None


def _viewer_is_sponsoring(account: Account, info: Info) -> bool:
    return _between(info.context.viewer, account, info.context) is not None


def _is_sponsoring_viewer(account: Account, info: Info) -> bool:
    return _between(account, info.context.viewer, info.context) is not None


def _between(
    sponsor: Account, sponsorable: Account, visit: Visit, *, active_only: bool = True
) -> Sponsorship | None:
    """The latest sponsorship of one account by another that the viewer may see."""
    candidates = [
        each
        for each in visit.people.sponsorships_of(sponsor)
        if each.sponsorable is sponsorable
        and visit.sees(each)
        and (each.is_active_at(visit.now) or not active_only)
    ]
    return max(candidates, key=_sponsorship_age, default=None)


def _relevance(sponsorship: Sponsorship) -> Key:
    """GitHub's order when none is asked for is its own affair; this one is of no use by intent."""
    return sponsorship.number * 7919 % 1009, sponsorship.number


def _sponsorship_age(sponsorship: Sponsorship) -> Key:
    return _microseconds(sponsorship.created_at), sponsorship.number


def _is_descending(order_by: Order | None) -> bool:
    return order_by is not None and order_by["direction"] == "DESC"


def _microseconds(moment: datetime) -> int:
    return (moment - INCARNATIONS) // timedelta(microseconds=1)


# --- Sponsorship --------------------------------------------------------------------------------


def _is_active(sponsorship: Sponsorship, info: Info) -> bool:
    return sponsorship.is_active_at(info.context.now)


def _privacy_level(sponsorship: Sponsorship, _: Info) -> str:
    return "PRIVATE" if sponsorship.is_private else "PUBLIC"


def _sponsor_entity(sponsorship: Sponsorship, _: Info) -> Account:
    return sponsorship.sponsor


def _tier(sponsorship: Sponsorship, info: Info) -> Tier | None:
    """Null for whoever is on neither side: what others pay is their own affair."""
    visit = info.context
    is_party = visit.manages(sponsorship.sponsor) or visit.manages(sponsorship.sponsorable)
    return sponsorship.tier if is_party else None


_SPONSORSHIP_FIELDS: dict[str, Resolver] = {
    "isSponsoredBy": _is_sponsored_by,
    "isSponsoringViewer": _is_sponsoring_viewer,
    "sponsorshipForViewerAsSponsor": _sponsorship_for_viewer_as_sponsor,
    "sponsorshipForViewerAsSponsorable": _sponsorship_for_viewer_as_sponsorable,
    "sponsorshipsAsMaintainer": _sponsorships_as_maintainer,
    "sponsorshipsAsSponsor": _sponsorships_as_sponsor,
    "viewerIsSponsoring": _viewer_is_sponsoring,
}

_ACCOUNT_FIELDS: dict[str, Resolver] = {
    "avatarUrl": _avatar_url,
    "resourcePath": _resource_path,
    "url": _url,
    **{name: _guarded(resolve) for name, resolve in _SPONSORSHIP_FIELDS.items()},
}

_RESOLVERS: dict[str, dict[str, Resolver]] = {
    "Query": {
        "node": _node,
        "organization": _organization,
        "rateLimit": _rate_limit,
        "repositoryOwner": _repository_owner,
        "user": _user,
        "viewer": _viewer,
    },
    "User": {
        "email": _user_email,
        "isViewer": _is_viewer,
        "organization": _organization_of,
        "organizations": _organizations,
        **_ACCOUNT_FIELDS,
    },
    "Organization": {
        "membersWithRole": _members_with_role,
        "viewerCanAdminister": _viewer_can_administer,
        "viewerIsAMember": _viewer_is_a_member,
        **_ACCOUNT_FIELDS,
    },
    "Sponsorship": {
        "isActive": _is_active,
        "privacyLevel": _privacy_level,
        "sponsorEntity": _sponsor_entity,
        "tier": _tier,
    },
}
