"""What is said to GitHub and what it answers, without any I/O.

Sources: the REST and GraphQL documentation at https://docs.github.com/, and GitHub's GraphQL schema
(npm package @octokit/graphql-schema), against which the tests validate every query.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

from sponsorsync.domain.errors import (
    GitHubError,
    GitHubLimitedError,
    GitHubRefusedError,
    GitHubTokenError,
    GitHubUnreachableError,
)
from sponsorsync.domain.profile import EmailAddress, GitHubAccount, GitHubUser
from sponsorsync.domain.sources import PaymentSource
from sponsorsync.domain.sponsorship import Membership, Privacy, Sponsorship, normalize_login

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")

API_VERSION = "2026-03-10"
"""https://docs.github.com/rest/about-the-rest-api/api-versions"""

PAGE_SIZE = 100
"""GraphQL pages hold 100 nodes at most."""

# GitHub says: without Retry-After and reset, wait for a minute at least.
# https://docs.github.com/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api
_DEFAULT_RETRY_AFTER_S = 60

# What decides about an entitlement; each query that asks for sponsorships ends with it.
_GIVEN = """
fragment Given on Sponsorship {
  createdAt
  isActive
  isOneTimePayment
  privacyLevel
  paymentSource
  tierSelectedAt
  tier { monthlyPriceInCents }
}
"""

# activeOnly is false so that one-time payments, which turn inactive after a month, and former
# sponsorships are seen. The default order depends on the viewer, so it is named.
VIEWER_SPONSORSHIPS = (
    """
query ViewerSponsorships($maintainerLogins: [String!], $first: Int!, $after: String) {
  viewer {
    sponsorshipsAsSponsor(
      activeOnly: false
      maintainerLogins: $maintainerLogins
      first: $first
      after: $after
      orderBy: { field: CREATED_AT, direction: DESC }
    ) {
      pageInfo { hasNextPage endCursor }
      nodes {
        ...Given
        sponsorable {
          ... on User { login }
          ... on Organization { login }
        }
      }
    }
  }
}
"""
    + _GIVEN
)

# Two connections in one another make 100 + 100 * 100 nodes of the 500,000 that a query may have.
# https://docs.github.com/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api#node-limit
VIEWER_ORGANIZATIONS = (
    """
query ViewerOrganizations($maintainerLogins: [String!], $first: Int!, $after: String) {
  viewer {
    organizations(
      first: $first
      after: $after
      orderBy: { field: CREATED_AT, direction: ASC }
    ) {
      pageInfo { hasNextPage endCursor }
      nodes {
        databaseId
        login
        sponsorshipsAsSponsor(
          activeOnly: false
          maintainerLogins: $maintainerLogins
          first: $first
          orderBy: { field: CREATED_AT, direction: DESC }
        ) {
          pageInfo { hasNextPage }
          nodes {
            ...Given
            sponsorable {
              ... on User { login }
              ... on Organization { login }
            }
          }
        }
      }
    }
  }
}
"""
    + _GIVEN
)

# includePrivate is passed over for whoever does not manage the account, so that is asked, too.
MAINTAINER_SPONSORSHIPS = (
    """
query MaintainerSponsorships($login: String!, $first: Int!, $after: String) {
  rateLimit { cost limit remaining resetAt }
  repositoryOwner(login: $login) {
    ... on User { isViewer }
    ... on Organization { viewerCanAdminister }
    ... on Sponsorable {
      sponsorshipsAsMaintainer(
        activeOnly: false
        includePrivate: true
        first: $first
        after: $after
        orderBy: { field: CREATED_AT, direction: DESC }
      ) {
        totalCount
        pageInfo { hasNextPage endCursor }
        nodes {
          ...Given
          sponsorEntity {
            ... on User { databaseId }
            ... on Organization { databaseId }
          }
        }
      }
    }
  }
}
"""
    + _GIVEN
)

# The viewer is who receives, so nobody else's token can ask. One sponsorship comes back; of
# several, as after one-time payments, GitHub does not say which.
MAINTAINER_SPONSOR = (
    """
query MaintainerSponsor($id: ID!) {
  viewer { login }
  node(id: $id) {
    ... on User { databaseId }
    ... on Organization { databaseId }
    ... on Sponsorable {
      sponsorshipForViewerAsSponsorable(activeOnly: false) {
        ...Given
      }
    }
  }
}
"""
    + _GIVEN
)

QUERIES = {
    "viewer_sponsorships": VIEWER_SPONSORSHIPS,
    "viewer_organizations": VIEWER_ORGANIZATIONS,
    "maintainer_sponsorships": MAINTAINER_SPONSORSHIPS,
    "maintainer_sponsor": MAINTAINER_SPONSOR,
}
"""Every query that is sent, for the test that validates them."""


@dataclass(frozen=True, slots=True)
class SponsorshipPage:
    """One page of a person's sponsorships.

    Attributes:
        next_cursor: Where the next page begins; None on the last one.
    """

    sponsorships: tuple[Sponsorship, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class OrganizationPage:
    """One page of the organizations that a person belongs to.

    Attributes:
        is_complete: False where GitHub keeps something of this page back.
        next_cursor: Where the next page begins; None on the last one.
    """

    organizations: tuple[Membership, ...]
    is_complete: bool
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Budget:
    """GitHub's rate limit of the token's owner, as of one answer."""

    cost: int
    limit: int
    remaining: int
    reset_at: datetime


@dataclass(frozen=True, slots=True)
class ReceivedPage:
    """One page of the sponsorships that an account receives.

    Attributes:
        sponsorships: Each with the numeric id of who gives.
        nodes: How many it lists, hidden ones among them.
        hidden: How many GitHub shows no more of than that they are there, and perhaps go on.
        total: How many there are on all pages.
        next_cursor: Where the next page begins; None on the last one.
    """

    sponsorships: tuple[tuple[int, Sponsorship], ...]
    nodes: int
    hidden: int
    total: int
    budget: Budget
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class SponsorAnswer:
    """What one account gives to the owner of a token.

    Attributes:
        viewer_login: The token's owner, lower-cased: the answer is about no other sponsorable.
        sponsor_id: The numeric id of the account; None where GitHub shows none.
        sponsorship: One that is, or has been; None where GitHub shows neither.
    """

    viewer_login: str
    sponsor_id: int | None
    sponsorship: Sponsorship | None


def build_headers(token: str | None) -> dict[str, str]:
    """Returns the headers of a REST or GraphQL call; what is public needs no token."""
    headers = {
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": API_VERSION,
    }
    return headers if token is None else {**headers, "Authorization": f"Bearer {token}"}


def build_account_path(login: str) -> str:
    """Returns the path at which REST tells who has a login.

    https://docs.github.com/rest/users/users#get-a-user
    """
    # A segment of dots would lead to another path.
    return "/users/" + quote(login, safe="").replace(".", "%2E")


def build_sponsorships_request(logins: Sequence[str], after: str | None) -> dict[str, object]:
    """Returns the JSON body that asks for one page of the token owner's sponsorships."""
    return {
        "query": VIEWER_SPONSORSHIPS,
        "variables": {"maintainerLogins": list(logins), "first": PAGE_SIZE, "after": after},
    }


def build_organizations_request(logins: Sequence[str], after: str | None) -> dict[str, object]:
    """Returns the JSON body that asks for one page of the token owner's organizations."""
    return {
        "query": VIEWER_ORGANIZATIONS,
        "variables": {"maintainerLogins": list(logins), "first": PAGE_SIZE, "after": after},
    }


def build_received_request(login: str, after: str | None) -> dict[str, object]:
    """Returns the JSON body that asks for one page of the sponsorships that an account receives."""
    return {
        "query": MAINTAINER_SPONSORSHIPS,
        "variables": {"login": login, "first": PAGE_SIZE, "after": after},
    }


def build_sponsor_request(node_id: str) -> dict[str, object]:
    """Returns the JSON body that asks what one account gives to the token's owner."""
    return {"query": MAINTAINER_SPONSOR, "variables": {"id": node_id}}


def check_status(status: int, headers: Mapping[str, str], *, now: datetime) -> None:
    """Raises the GitHubError that a status and its headers amount to; returns for 2xx.

    403 is a rate limit when the headers say so, else a refusal.
    https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    limited = "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0"
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.FORBIDDEN and limited):
        raise GitHubLimitedError(
            "GitHub's rate limit is reached.", retry_after_s=read_retry_after(headers, now=now)
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise GitHubUnreachableError(f"GitHub failed to answer (HTTP {status}).")
    if status == HTTPStatus.UNAUTHORIZED:
        raise GitHubTokenError(
            "GitHub does not take the token it was asked with (HTTP 401): it is wrong, revoked "
            "or over its time."
        )
    raise GitHubRefusedError(f"GitHub refused to answer (HTTP {status}).")


def parse_user(body: bytes) -> GitHubUser:
    """Returns the profile of `GET /user`.

    https://docs.github.com/rest/users/users#get-the-authenticated-user

    Raises:
        GitHubUnreachableError: The body is not what is documented.
    """
    data = _parse_json(body)
    try:
        return GitHubUser(
            id=_expect(data["id"], int),
            login=_expect(data["login"], str),
            name=_expect_or_none(data.get("name"), str),
            email=_expect_or_none(data.get("email"), str),
            avatar_url=_expect_or_none(data.get("avatar_url"), str),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise _unreadable("profile") from error


def parse_account(body: bytes) -> GitHubAccount:
    """Returns the account of `GET /user/{account_id}` or `GET /users/{login}`.

    https://docs.github.com/rest/users/users#get-a-user-using-their-id

    Raises:
        GitHubUnreachableError: The body is not what is documented.
    """
    data = _parse_json(body)
    try:
        return GitHubAccount(
            id=_expect(data["id"], int),
            login=_expect(data["login"], str),
            node_id=_expect(data["node_id"], str),
        )
    except (KeyError, TypeError) as error:
        raise _unreadable("profile") from error


def parse_emails(body: bytes) -> tuple[EmailAddress, ...]:
    """Returns the rows of `GET /user/emails`.

    https://docs.github.com/rest/users/emails#list-email-addresses-for-the-authenticated-user

    Raises:
        GitHubUnreachableError: The body is not what is documented.
    """
    data = _parse_json(body)
    try:
        return tuple(
            EmailAddress(
                email=_expect(row["email"], str),
                is_primary=row["primary"] is True,
                is_verified=row["verified"] is True,
            )
            for row in data
        )
    except (KeyError, TypeError) as error:
        raise _unreadable("list of e-mail addresses") from error


def parse_sponsorships(body: bytes) -> SponsorshipPage:
    """Returns one page of the answer to VIEWER_SPONSORSHIPS.

    Null nodes are passed over. An answer with errors is no answer, even when it has data beside
    them: what is missing from it is unknown. So is one without nodes, or without the next cursor.

    Raises:
        GitHubRefusedError, GitHubLimitedError: The answer has errors (they come with HTTP 200).
        GitHubUnreachableError: The body is not what the schema says.
    """
    data = _parse_json(body)
    try:
        _check_graphql_errors(data.get("errors") or [])
        connection = data["data"]["viewer"]["sponsorshipsAsSponsor"]
        return SponsorshipPage(
            sponsorships=_parse_given(_expect(connection["nodes"], list)),
            next_cursor=_parse_next_cursor(connection["pageInfo"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable("list of sponsorships") from error


def parse_organizations(body: bytes) -> OrganizationPage:
    """Returns one page of the answer to VIEWER_ORGANIZATIONS.

    An organization can restrict OAuth apps, or have its members sign in to it. GitHub then keeps it
    back with an error of type FORBIDDEN and leaves the others in the answer. They count here, as
    one organization must not decide what the others give; the answer is then not complete.
    https://docs.github.com/organizations/managing-oauth-access-to-your-organizations-data/about-oauth-app-access-restrictions

    Raises:
        GitHubRefusedError, GitHubLimitedError: The answer has other errors, or shows nothing.
        GitHubUnreachableError: The body is not what the schema says.
    """
    data = _parse_json(body)
    try:
        errors = data.get("errors") or []
        viewer: Any = (data.get("data") or {}).get("viewer") or {}
        connection = viewer.get("organizations")
        if connection is None or not _are_forbidden(errors):
            _check_graphql_errors(errors)
        nodes = _expect(connection["nodes"], list)
        shown = [node for node in nodes if node is not None and node["databaseId"] is not None]
        return OrganizationPage(
            organizations=tuple(_parse_membership(node) for node in shown),
            is_complete=not errors and len(shown) == len(nodes) and all(map(_is_whole, shown)),
            next_cursor=_parse_next_cursor(connection["pageInfo"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable("list of organizations") from error


def parse_received_sponsorships(body: bytes, *, login: str) -> ReceivedPage:
    """Returns one page of the answer to MAINTAINER_SPONSORSHIPS.

    As with VIEWER_SPONSORSHIPS, an answer with errors is none.

    Raises:
        GitHubRefusedError, GitHubLimitedError: The answer has errors, there is no such account, or
            the token is not that of who manages it.
        GitHubUnreachableError: The body is not what the schema says.
    """
    data = _parse_json(body)
    try:
        _check_graphql_errors(data.get("errors") or [])
        owner = data["data"]["repositoryOwner"]
        if owner is None:
            raise GitHubRefusedError(f"GitHub knows no account {login}.")
        if not (owner.get("isViewer") is True or owner.get("viewerCanAdminister") is True):
            raise GitHubRefusedError(
                f"The maintainer's token is not that of {login}: it shows public sponsorships only."
            )
        connection = owner["sponsorshipsAsMaintainer"]
        nodes = _expect(connection["nodes"], list)
        found = [
            (_expect(node["sponsorEntity"]["databaseId"], int), _parse_sponsorship(node, login))
            for node in nodes
            if node is not None and (node["sponsorEntity"] or {}).get("databaseId") is not None
        ]
        return ReceivedPage(
            sponsorships=tuple(found),
            nodes=len(nodes),
            hidden=sum(_is_hidden(node) for node in nodes),
            total=_expect(connection["totalCount"], int),
            budget=_parse_budget(data["data"]["rateLimit"]),
            next_cursor=_parse_next_cursor(connection["pageInfo"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable("list of sponsorships") from error


def parse_sponsor(body: bytes) -> SponsorAnswer:
    """Returns the answer to MAINTAINER_SPONSOR.

    As with VIEWER_SPONSORSHIPS, an answer with errors is none.

    Raises:
        GitHubRefusedError, GitHubLimitedError: The answer has errors, as for an unknown node.
        GitHubUnreachableError: The body is not what the schema says.
    """
    data = _parse_json(body)
    try:
        _check_graphql_errors(data.get("errors") or [])
        viewer_login = normalize_login(_expect(data["data"]["viewer"]["login"], str))
        node = data["data"]["node"]
        if not node:
            # Null, or empty because it is neither a User nor an Organization.
            return SponsorAnswer(viewer_login, sponsor_id=None, sponsorship=None)
        given = node["sponsorshipForViewerAsSponsorable"]
        return SponsorAnswer(
            viewer_login=viewer_login,
            sponsor_id=_expect_or_none(node["databaseId"], int),
            sponsorship=None if given is None else _parse_sponsorship(given, viewer_login),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable("sponsorship") from error


def _parse_next_cursor(page: Mapping[str, Any]) -> str | None:
    return _expect(page["endCursor"], str) if page["hasNextPage"] else None


def _is_hidden(node: Mapping[str, Any] | None) -> bool:
    """Of a deleted account there may be an ended sponsorship for ever, without who gave it."""
    if node is None:
        return True
    return node["isActive"] is not False and (node["sponsorEntity"] or {}).get("databaseId") is None


def _parse_budget(limit: Mapping[str, Any]) -> Budget:
    return Budget(
        cost=_expect(limit["cost"], int),
        limit=_expect(limit["limit"], int),
        remaining=_expect(limit["remaining"], int),
        reset_at=_parse_moment(limit["resetAt"]),
    )


def _parse_membership(node: Mapping[str, Any]) -> Membership:
    given = node["sponsorshipsAsSponsor"] or {}
    return Membership(
        id=_expect(node["databaseId"], int),
        login=normalize_login(_expect(node["login"], str)),
        sponsorships=_parse_given(_expect_or_none(given.get("nodes"), list) or []),
    )


def _is_whole(node: Mapping[str, Any]) -> bool:
    """Whether GitHub shows all that an organization gives; nulls are allowed at each step."""
    given = node["sponsorshipsAsSponsor"]
    if given is None or given["nodes"] is None or given["pageInfo"]["hasNextPage"]:
        return False
    return len(_parse_given(given["nodes"])) == len(given["nodes"])


def _parse_given(nodes: Sequence[Any]) -> tuple[Sponsorship, ...]:
    return tuple(
        _parse_sponsorship(node, node["sponsorable"]["login"])
        for node in nodes
        if node is not None and (node["sponsorable"] or {}).get("login")
    )


def _parse_sponsorship(node: Mapping[str, Any], sponsorable: str) -> Sponsorship:
    tier, selected = node["tier"], node["tierSelectedAt"]
    return Sponsorship(
        sponsorable=normalize_login(sponsorable),
        created_at=_parse_moment(node["createdAt"]),
        is_active=_expect(node["isActive"], bool),
        is_one_time=_expect(node["isOneTimePayment"], bool),
        privacy=_parse_privacy(_expect(node["privacyLevel"], str)),
        payment_source=_parse_payment_source(_expect_or_none(node["paymentSource"], str)),
        tier_cents=None if tier is None else _expect(tier["monthlyPriceInCents"], int),
        tier_selected_at=None if selected is None else _parse_moment(selected),
    )


# GitHub may add values to its enums: what is not known yet must not hide all the rest.
# https://docs.github.com/graphql/overview/breaking-changes


def _parse_privacy(level: str) -> Privacy:
    # It is only shown, and whoever did not choose PUBLIC may have wished for something else.
    return Privacy.PUBLIC if level == "PUBLIC" else Privacy.PRIVATE


def _parse_payment_source(source: str | None) -> PaymentSource | None:
    known = {each.value.upper(): each for each in PaymentSource}
    return None if source is None else known.get(source)


def _parse_moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone cannot be compared with others")
    return moment


def _expect(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
    return value


def _expect_or_none(value: object, kind: type[T]) -> T | None:
    return None if value is None else _expect(value, kind)


def _are_forbidden(errors: Sequence[Mapping[str, Any]]) -> bool:
    return all(error.get("type") == "FORBIDDEN" for error in errors)


def _check_graphql_errors(errors: Sequence[Mapping[str, Any]]) -> None:
    if not errors:
        return
    kinds = {str(error.get("type", "")) for error in errors}
    if kinds & {"RATE_LIMITED", "RATE_LIMIT"}:
        raise GitHubLimitedError(
            "GitHub's rate limit is reached.", retry_after_s=_DEFAULT_RETRY_AFTER_S
        )
    named = ", ".join(sorted(kind for kind in kinds if kind)) or "no type given"
    raise GitHubRefusedError(f"GitHub did not answer the whole query ({named}).")


def read_retry_after(headers: Mapping[str, str], *, now: datetime) -> int:
    """Returns after how many seconds an answer's headers let its receiver ask again."""
    try:
        if "retry-after" in headers:
            return max(1, int(headers["retry-after"]))
        return max(1, int(headers["x-ratelimit-reset"]) - int(now.timestamp()))
    except (KeyError, ValueError):
        return _DEFAULT_RETRY_AFTER_S


def _parse_json(body: bytes) -> Any:  # noqa: ANN401 - what it is, the callers find out
    try:
        return cast("Any", json.loads(body))
    except (ValueError, RecursionError) as error:
        raise _unreadable("answer") from error


def _unreadable(what: str) -> GitHubError:
    return GitHubUnreachableError(f"GitHub sent a {what} that could not be read.")
