"""Answers of GitHub from its documentation, and functions that vary and parse them."""

import json
from datetime import UTC, datetime
from typing import TypeAlias

from sponsorsync.domain.sources import PaymentSource
from sponsorsync.domain.sponsorship import Membership, Privacy, Sponsorship
from sponsorsync.github import sponsorships

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())

# From GitHub's documentation; only the fields that we read, and a few others.
USER: dict[str, Json] = {
    "login": "octocat",
    "id": 1,
    "node_id": "MDQ6VXNlcjE=",
    "avatar_url": "https://github.com/images/error/octocat_happy.gif",
    "type": "User",
    "site_admin": False,
    "name": "monalisa octocat",
    "email": "octocat@github.com",
    "public_repos": 2,
    "plan": {"name": "Medium", "space": 400},
}
EMAILS: list[Json] = [
    {"email": "octocat@github.com", "verified": True, "primary": True, "visibility": "public"},
    {
        "email": "octocat@users.noreply.github.com",
        "verified": True,
        "primary": False,
        "visibility": None,
    },
]
NODE: dict[str, Json] = {
    "createdAt": "2025-10-18T12:00:00Z",
    "isActive": True,
    "isOneTimePayment": False,
    "privacyLevel": "PUBLIC",
    "paymentSource": "GITHUB",
    "tierSelectedAt": "2025-11-01T08:30:00Z",
    "tier": {"monthlyPriceInCents": 1000},
    "sponsorable": {"login": "Maintainer"},
}
PARSED_NODE = Sponsorship(
    sponsorable="maintainer",
    created_at=datetime(2025, 10, 18, 12, tzinfo=UTC),
    is_active=True,
    is_one_time=False,
    privacy=Privacy.PUBLIC,
    payment_source=PaymentSource.GITHUB,
    tier_cents=1000,
    tier_selected_at=datetime(2025, 11, 1, 8, 30, tzinfo=UTC),
)
LAST_PAGE: dict[str, Json] = {"hasNextPage": False, "endCursor": "Y3Vyc29y"}

ORGANIZATION: dict[str, Json] = {
    "databaseId": 17_562_948,
    "login": "Sponsoring-Org",
    "sponsorshipsAsSponsor": {"pageInfo": {"hasNextPage": False}, "nodes": [NODE]},
}
PARSED_ORGANIZATION = Membership(id=17_562_948, login="sponsoring-org", sponsorships=(PARSED_NODE,))
SPONSOR: dict[str, Json] = {"databaseId": 48_210_377, "sponsorshipForViewerAsSponsorable": NODE}
FORBIDDEN: dict[str, Json] = {
    "type": "FORBIDDEN",
    "path": ["viewer", "organizations", "nodes", 0],
    "message": "… the `restricting-org` organization has enabled OAuth App access restrictions …",
}
SAML: dict[str, Json] = {**FORBIDDEN, "extensions": {"saml_failure": True}}


def answer_with(*nodes: Json, page: Json = LAST_PAGE, **more: Json) -> dict[str, Json]:
    """Returns an answer with these sponsorships, which the viewer gives."""
    connection: Json = {"pageInfo": page, "nodes": list(nodes)}
    return {"data": {"viewer": {"sponsorshipsAsSponsor": connection}}, **more}


def sponsor_answer(node: Json, viewer: Json = "Maintainer", **more: Json) -> dict[str, Json]:
    """Returns an answer about one sponsor."""
    return {"data": {"viewer": {"login": viewer}, "node": node}, **more}


def organizations_answer(*nodes: Json, page: Json = LAST_PAGE, **more: Json) -> dict[str, Json]:
    """Returns an answer with these organizations of the viewer."""
    connection: Json = {"pageInfo": page, "nodes": list(nodes)}
    return {"data": {"viewer": {"organizations": connection}}, **more}


def organization_giving(*nodes: Json, more_pages: bool = False) -> dict[str, Json]:
    """Returns an organization with these sponsorships."""
    connection: Json = {"pageInfo": {"hasNextPage": more_pages}, "nodes": list(nodes)}
    return {**ORGANIZATION, "sponsorshipsAsSponsor": connection}


def dump(document: Json) -> bytes:
    """Returns the bytes of an answer."""
    return json.dumps(document).encode()


def parse_sponsorships(answer: Json) -> sponsorships.SponsorshipPage:
    """Parses an answer about sponsorships."""
    return sponsorships.parse_sponsorships(dump(answer))


def parse_sponsor(answer: Json) -> sponsorships.SponsorAnswer:
    """Parses an answer about one sponsor."""
    return sponsorships.parse_sponsor(dump(answer))


def parse_organizations(answer: Json) -> sponsorships.OrganizationPage:
    """Parses an answer about organizations."""
    return sponsorships.parse_organizations(dump(answer))
