"""GitHub's answers about a person's organizations and what these give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sponsorsync.domain.errors import (
    GitHubLimitedError,
    GitHubRefusedError,
    GitHubUnreachableError,
)
from sponsorsync.github import sponsorships
from tests.support.github_answers import (
    FORBIDDEN,
    NODE,
    ORGANIZATION,
    PARSED_NODE,
    PARSED_ORGANIZATION,
    SAML,
    Json,
    organization_giving,
    organizations_answer,
    parse_organizations,
)

if TYPE_CHECKING:
    from sponsorsync.domain.sponsorship import Membership, Sponsorship


# --- organizations --------------------------------------------------------------------------------


def test_an_organization_is_read_with_what_it_gives() -> None:
    """Its login is lower-cased, as it is compared and stored; its number is what it is known by."""
    assert parse_organizations(organizations_answer(ORGANIZATION)) == sponsorships.OrganizationPage(
        organizations=(PARSED_ORGANIZATION,), is_complete=True, next_cursor=None
    )


def test_no_organizations_are_an_answer_too() -> None:
    """This is a no, and not an unknown."""
    assert parse_organizations(organizations_answer()) == sponsorships.OrganizationPage(
        organizations=(), is_complete=True, next_cursor=None
    )


def test_a_member_is_not_told_the_tier() -> None:
    """GitHub shows it to those who manage the organization; the sponsorship counts without it."""
    page = parse_organizations(organizations_answer(organization_giving({**NODE, "tier": None})))

    [sponsorship] = page.organizations[0].sponsorships
    assert sponsorship.tier_cents is None
    assert page.is_complete


def test_a_page_of_organizations_says_where_the_next_begins() -> None:
    """Some people belong to hundreds."""
    page: Json = {"hasNextPage": True, "endCursor": "Y3Vyc29y"}

    assert parse_organizations(organizations_answer(page=page)).next_cursor == "Y3Vyc29y"


@pytest.mark.parametrize("error", [FORBIDDEN, SAML], ids=["oauth apps", "saml"])
@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ([None], ()),
        ([None, ORGANIZATION], (PARSED_ORGANIZATION,)),
        ([ORGANIZATION, None, None], (PARSED_ORGANIZATION,)),
        ([ORGANIZATION], (PARSED_ORGANIZATION,)),
    ],
    ids=["alone", "first", "twice", "left out"],
)
def test_an_organization_that_is_kept_back_hides_no_other(
    hidden: list[Json], shown: tuple[Membership, ...], error: Json
) -> None:
    """A person who belongs to one that restricts OAuth apps is still entitled by another."""
    page = parse_organizations(organizations_answer(*hidden, errors=[error]))

    assert page.organizations == shown
    assert not page.is_complete


@pytest.mark.parametrize(
    ("organization", "sponsorships"),
    [
        (organization_giving(NODE, None), (PARSED_NODE,)),
        (organization_giving({**NODE, "sponsorable": {}}), ()),
        (organization_giving(NODE, more_pages=True), (PARSED_NODE,)),
        ({**ORGANIZATION, "sponsorshipsAsSponsor": None}, ()),
        (
            {
                **ORGANIZATION,
                "sponsorshipsAsSponsor": {"pageInfo": {"hasNextPage": False}, "nodes": None},
            },
            (),
        ),
    ],
    ids=["null node", "neither", "more pages", "null", "null list"],
)
@pytest.mark.parametrize("errors", [[], [FORBIDDEN]], ids=["silent", "forbidden"])
def test_a_sponsorship_that_is_kept_back_is_unknown(
    organization: Json, sponsorships: tuple[Sponsorship, ...], errors: list[Json]
) -> None:
    """Membership stands, and what is seen holds; that there is no more is not known."""
    page = parse_organizations(organizations_answer(organization, errors=errors))

    assert [each.sponsorships for each in page.organizations] == [sponsorships]
    assert not page.is_complete


@pytest.mark.parametrize("nothing", [None, {**ORGANIZATION, "databaseId": None}])
def test_an_organization_without_a_number_is_unknown(nothing: Json) -> None:
    """Both are nullable by the schema, without any error; a login alone can change hands."""
    page = parse_organizations(organizations_answer(nothing, ORGANIZATION))

    assert page.organizations == (PARSED_ORGANIZATION,)
    assert not page.is_complete


@pytest.mark.parametrize(
    ("errors", "named"),
    [
        ([{"type": "INSUFFICIENT_SCOPES", "message": "…"}], "INSUFFICIENT_SCOPES"),
        ([{"type": "NOT_FOUND", "message": "…"}], "NOT_FOUND"),
        ([FORBIDDEN, {"type": "NOT_FOUND"}], "FORBIDDEN, NOT_FOUND"),
        ([{"message": "Something went wrong while executing your query."}], "no type given"),
    ],
)
@pytest.mark.parametrize("data", [None, organizations_answer(ORGANIZATION)["data"]])
def test_only_what_is_forbidden_may_be_missing(data: Json, errors: list[Json], named: str) -> None:
    """Without read:org nothing is shown, and how far another error reaches, nobody knows."""
    with pytest.raises(GitHubRefusedError, match=named):
        parse_organizations({"data": data, "errors": errors})


@pytest.mark.parametrize("data", [None, {}, {"viewer": None}, {"viewer": {"organizations": None}}])
def test_forbidden_without_any_organization_beside_it_is_a_refusal(data: Json) -> None:
    """Nothing is shown, so there is nothing that could count."""
    with pytest.raises(GitHubRefusedError, match="FORBIDDEN"):
        parse_organizations({"data": data, "errors": [FORBIDDEN]})


@pytest.mark.parametrize(
    "data", [None, {}, {"viewer": None}, {"viewer": {}}, {"viewer": {"organizations": None}}]
)
def test_nothing_without_an_error_is_no_empty_list(data: Json) -> None:
    """The schema does not allow it, so whatever sent it is not to be believed."""
    with pytest.raises(GitHubUnreachableError):
        parse_organizations({"data": data})


@pytest.mark.parametrize("kind", ["RATE_LIMITED", "RATE_LIMIT"])
@pytest.mark.parametrize("data", [None, organizations_answer(ORGANIZATION)["data"]])
def test_a_rate_limit_is_told_from_what_is_forbidden(data: Json, kind: str) -> None:
    """It passes, and then the whole list can be had."""
    with pytest.raises(GitHubLimitedError):
        parse_organizations({"data": data, "errors": [FORBIDDEN, {"type": kind}]})


@pytest.mark.parametrize(
    "organization",
    [
        "sponsoring-org",
        {},
        {**ORGANIZATION, "databaseId": "17562948"},
        {**ORGANIZATION, "login": None},
        {**ORGANIZATION, "login": 5},
        {**ORGANIZATION, "sponsorshipsAsSponsor": []},
        {**ORGANIZATION, "sponsorshipsAsSponsor": {"nodes": []}},
        organization_giving("NODE"),
        organization_giving({**NODE, "privacyLevel": None}),
    ],
)
def test_an_organization_of_the_wrong_types_makes_the_answer_unreadable(
    organization: Json,
) -> None:
    """It is no null that GitHub may send, so the rest is not to be believed either."""
    with pytest.raises(GitHubUnreachableError):
        parse_organizations(organizations_answer(ORGANIZATION, organization))


@pytest.mark.parametrize(
    "page",
    [{"hasNextPage": True, "endCursor": None}, {"hasNextPage": True}],
    ids=["null", "absent"],
)
def test_a_next_page_of_organizations_needs_a_cursor(page: Json) -> None:
    """The organization that entitles may stand on the page that cannot be asked for."""
    with pytest.raises(GitHubUnreachableError):
        parse_organizations(organizations_answer(ORGANIZATION, page=page))
