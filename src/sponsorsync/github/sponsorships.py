"""GitHub's GraphQL answers about sponsorships and organizations. No I/O.

Each parser raises GitHubUnreachableError if the body does not match the schema, and
GitHubRefusedError or GitHubLimitedError if it has errors, which GitHub sends with HTTP 200.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sponsorsync.domain.errors import GitHubRefusedError
from sponsorsync.domain.sources import PaymentSource
from sponsorsync.domain.sponsorship import Membership, Privacy, Sponsorship, normalize_login
from sponsorsync.github.answers import (
    check_graphql_errors,
    expect,
    expect_or_none,
    parse_json,
    parse_time,
    reading,
)


@dataclass(frozen=True, slots=True)
class SponsorshipPage:
    """One page of a person's sponsorships; `next_cursor` is None on the last one."""

    sponsorships: tuple[Sponsorship, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class OrganizationPage:
    """One page of the organizations of a person; `next_cursor` is None on the last one.

    `is_complete` is False if GitHub withholds a part of the page.
    """

    organizations: tuple[Membership, ...]
    is_complete: bool
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Budget:
    """The rate limit of the token's owner at the time of one answer."""

    cost: int
    limit: int
    remaining: int
    reset_at: datetime


@dataclass(frozen=True, slots=True)
class ReceivedPage:
    """One page of the sponsorships that an account receives, each with the sponsor's numeric id.

    `nodes` is the number of sponsorships on the page, `total` the number on all pages. `hidden` is
    the number of those on the page that may be active, but without a sponsor that GitHub shows:
    `sponsorships` lacks these. `next_cursor` is None on the last page.
    """

    sponsorships: tuple[tuple[int, Sponsorship], ...]
    nodes: int
    hidden: int
    total: int
    budget: Budget
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class SponsorAnswer:
    """One account's sponsorship of the token's owner, the login `viewer_login` in lower case.

    `sponsorship` may have ended; it is None if there never was one. `sponsor_id` is None if GitHub
    does not show it.
    """

    viewer_login: str
    sponsor_id: int | None
    sponsorship: Sponsorship | None


def parse_sponsorships(body: bytes) -> SponsorshipPage:
    """Returns one page of the answer to VIEWER_SPONSORSHIPS.

    Skips null nodes. Rejects an answer with errors even if it also has data, because the missing
    part is unknown. Rejects an answer that lacks the nodes or the cursor of a next page, too.
    """
    with reading("list of sponsorships"):
        data = parse_json(body)
        check_graphql_errors(data.get("errors") or [])
        connection = data["data"]["viewer"]["sponsorshipsAsSponsor"]
        return SponsorshipPage(
            sponsorships=_parse_nodes(expect(connection["nodes"], list)),
            next_cursor=_parse_next_cursor(connection["pageInfo"]),
        )


def parse_organizations(body: bytes) -> OrganizationPage:
    """Returns one page of the answer to VIEWER_ORGANIZATIONS.

    An organization can restrict OAuth apps or require its own sign-in. GitHub then withholds this
    organization with an error of type FORBIDDEN, and still returns the others. The page has these
    others, and `is_complete` is False.
    https://docs.github.com/organizations/managing-oauth-access-to-your-organizations-data/about-oauth-app-access-restrictions

    Raises:
        GitHubRefusedError, GitHubLimitedError: The answer has other errors, or no data.
    """
    with reading("list of organizations"):
        data = parse_json(body)
        errors = data.get("errors") or []
        viewer: Any = (data.get("data") or {}).get("viewer") or {}
        connection = viewer.get("organizations")
        is_forbidden = all(error.get("type") == "FORBIDDEN" for error in errors)
        if connection is None or not is_forbidden:
            check_graphql_errors(errors)
        nodes = expect(connection["nodes"], list)
        shown = [node for node in nodes if node is not None and node["databaseId"] is not None]
        return OrganizationPage(
            organizations=tuple(_parse_membership(node) for node in shown),
            is_complete=not errors and len(shown) == len(nodes) and all(map(_is_whole, shown)),
            next_cursor=_parse_next_cursor(connection["pageInfo"]),
        )


def parse_received_sponsorships(body: bytes, *, login: str) -> ReceivedPage:
    """Returns one page of the answer to MAINTAINER_SPONSORSHIPS.

    Raises:
        GitHubRefusedError: The account does not exist, or the token's owner does not manage it.
    """
    with reading("list of sponsorships"):
        data = parse_json(body)
        check_graphql_errors(data.get("errors") or [])
        owner = data["data"]["repositoryOwner"]
        if owner is None:
            raise GitHubRefusedError(f"GitHub knows no account {login}.")
        if not (owner.get("isViewer") is True or owner.get("viewerCanAdminister") is True):
            raise GitHubRefusedError(
                f"The maintainer's token does not belong to {login}: it shows only public "
                "sponsorships."
            )
        connection = owner["sponsorshipsAsMaintainer"]
        nodes, limit = expect(connection["nodes"], list), data["data"]["rateLimit"]
        found = [
            (expect(node["sponsorEntity"]["databaseId"], int), _parse_sponsorship(node, login))
            for node in nodes
            if node is not None and (node["sponsorEntity"] or {}).get("databaseId") is not None
        ]
        return ReceivedPage(
            sponsorships=tuple(found),
            nodes=len(nodes),
            hidden=sum(_is_hidden(node) for node in nodes),
            total=expect(connection["totalCount"], int),
            budget=Budget(
                cost=expect(limit["cost"], int),
                limit=expect(limit["limit"], int),
                remaining=expect(limit["remaining"], int),
                reset_at=parse_time(limit["resetAt"]),
            ),
            next_cursor=_parse_next_cursor(connection["pageInfo"]),
        )


def parse_sponsor(body: bytes) -> SponsorAnswer:
    """Returns the answer to MAINTAINER_SPONSOR; raises if GitHub does not know the node."""
    with reading("sponsorship"):
        data = parse_json(body)
        check_graphql_errors(data.get("errors") or [])
        viewer_login = normalize_login(expect(data["data"]["viewer"]["login"], str))
        node = data["data"]["node"]
        if not node:
            # Null, or empty because it is neither a User nor an Organization.
            return SponsorAnswer(viewer_login, sponsor_id=None, sponsorship=None)
        sponsorship = node["sponsorshipForViewerAsSponsorable"]
        return SponsorAnswer(
            viewer_login=viewer_login,
            sponsor_id=expect_or_none(node["databaseId"], int),
            sponsorship=(
                None if sponsorship is None else _parse_sponsorship(sponsorship, viewer_login)
            ),
        )


def _parse_next_cursor(page: Mapping[str, Any]) -> str | None:
    return expect(page["endCursor"], str) if page["hasNextPage"] else None


def _is_hidden(node: Mapping[str, Any] | None) -> bool:
    """Returns whether a sponsorship may be active, but GitHub does not show its sponsor.

    An ended sponsorship without a sponsor is not hidden: the sponsor's account has been deleted.
    """
    if node is None:
        return True
    return node["isActive"] is not False and (node["sponsorEntity"] or {}).get("databaseId") is None


def _parse_membership(node: Mapping[str, Any]) -> Membership:
    connection = node["sponsorshipsAsSponsor"] or {}
    return Membership(
        id=expect(node["databaseId"], int),
        login=normalize_login(expect(node["login"], str)),
        sponsorships=_parse_nodes(expect_or_none(connection.get("nodes"), list) or []),
    )


def _is_whole(node: Mapping[str, Any]) -> bool:
    """Returns whether GitHub shows all sponsorships of an organization; it may send nulls."""
    connection = node["sponsorshipsAsSponsor"]
    if connection is None or connection["nodes"] is None or connection["pageInfo"]["hasNextPage"]:
        return False
    return len(_parse_nodes(connection["nodes"])) == len(connection["nodes"])


def _parse_nodes(nodes: Sequence[Any]) -> tuple[Sponsorship, ...]:
    return tuple(
        _parse_sponsorship(node, node["sponsorable"]["login"])
        for node in nodes
        if node is not None and (node["sponsorable"] or {}).get("login")
    )


def _parse_sponsorship(node: Mapping[str, Any], sponsorable: str) -> Sponsorship:
    tier, selected = node["tier"], node["tierSelectedAt"]
    return Sponsorship(
        sponsorable=normalize_login(sponsorable),
        created_at=parse_time(node["createdAt"]),
        is_active=expect(node["isActive"], bool),
        is_one_time=expect(node["isOneTimePayment"], bool),
        privacy=_parse_privacy(expect(node["privacyLevel"], str)),
        payment_source=_parse_payment_source(expect_or_none(node["paymentSource"], str)),
        tier_cents=None if tier is None else expect(tier["monthlyPriceInCents"], int),
        tier_selected_at=None if selected is None else parse_time(selected),
    )


# GitHub may add values to its enums; an unknown one must not make the answer unreadable.
# https://docs.github.com/graphql/overview/breaking-changes


def _parse_privacy(level: str) -> Privacy:
    # Any other choice than PUBLIC may be meant to hide the sponsorship.
    return Privacy.PUBLIC if level == "PUBLIC" else Privacy.PRIVATE


def _parse_payment_source(source: str | None) -> PaymentSource | None:
    sources = {each.value.upper(): each for each in PaymentSource}
    return None if source is None else sources.get(source)
