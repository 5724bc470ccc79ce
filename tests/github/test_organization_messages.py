"""Parsing GitHub's answers about a person's organizations and their sponsorships."""

import pytest

from sponsorsync.domain.errors import GitHubLimitedError, GitHubRefusedError, GitHubUnreachableError
from sponsorsync.domain.sponsorship import Membership, Sponsorship
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

# --- organizations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "organizations"), [([ORGANIZATION], (PARSED_ORGANIZATION,)), ([], ())]
)
def test_an_organization_is_parsed_with_its_sponsorships(
    nodes: list[Json], organizations: tuple[Membership, ...]
) -> None:
    """The login is stored in lower case; an empty list means 'no', not 'unknown'."""
    assert parse_organizations(organizations_answer(*nodes)) == sponsorships.OrganizationPage(
        organizations, is_complete=True, next_cursor=None
    )


def test_an_organizations_sponsorship_counts_without_a_tier() -> None:
    """GitHub shows the tier only to managers of the organization."""
    page = parse_organizations(organizations_answer(organization_giving({**NODE, "tier": None})))

    [sponsorship] = page.organizations[0].sponsorships
    assert sponsorship.tier_cents is None
    assert page.is_complete


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
def test_a_withheld_organization_does_not_hide_others(
    hidden: list[Json], shown: tuple[Membership, ...], error: Json
) -> None:
    """GitHub lists null for, or omits, an organization that restricts apps or requires SAML."""
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
def test_a_withheld_sponsorship_is_unknown(
    organization: Json, sponsorships: tuple[Sponsorship, ...], errors: list[Json]
) -> None:
    """The visible sponsorships are used, but the answer is marked as incomplete."""
    page = parse_organizations(organizations_answer(organization, errors=errors))

    assert [each.sponsorships for each in page.organizations] == [sponsorships]
    assert not page.is_complete


@pytest.mark.parametrize("nothing", [None, {**ORGANIZATION, "databaseId": None}])
def test_an_organization_without_an_id_is_unknown(nothing: Json) -> None:
    """The schema allows null without an error; the login is no identity, as it changes hands."""
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
def test_only_forbidden_organizations_may_be_missing(
    data: Json, errors: list[Json], named: str
) -> None:
    """Without read:org GitHub shows nothing; other errors may concern any part of the answer."""
    with pytest.raises(GitHubRefusedError, match=named):
        parse_organizations({"data": data, "errors": errors})


@pytest.mark.parametrize("data", [None, {}, {"viewer": None}, {"viewer": {"organizations": None}}])
def test_forbidden_without_any_data_is_a_refusal(data: Json) -> None:
    """GitHub shows no part of the answer, so nothing is known."""
    with pytest.raises(GitHubRefusedError, match="FORBIDDEN"):
        parse_organizations({"data": data, "errors": [FORBIDDEN]})


@pytest.mark.parametrize(
    "data", [None, {}, {"viewer": None}, {"viewer": {}}, {"viewer": {"organizations": None}}]
)
def test_missing_data_without_an_error_are_unreadable(data: Json) -> None:
    """GitHub's schema does not allow such an answer."""
    with pytest.raises(GitHubUnreachableError):
        parse_organizations({"data": data})


@pytest.mark.parametrize("kind", ["RATE_LIMITED", "RATE_LIMIT"])
@pytest.mark.parametrize("data", [None, organizations_answer(ORGANIZATION)["data"]])
def test_a_rate_limit_beside_forbidden_is_a_limit(data: Json, kind: str) -> None:
    """After the wait GitHub sends the whole list, so the data beside the error are not used."""
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
def test_an_organization_of_wrong_types_makes_the_answer_unreadable(organization: Json) -> None:
    """GitHub's schema does not allow such types, so the rest is not reliable, either."""
    with pytest.raises(GitHubUnreachableError):
        parse_organizations(organizations_answer(ORGANIZATION, organization))
