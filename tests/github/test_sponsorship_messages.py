"""Parsing GitHub's answers about sponsorships and about one sponsor."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from sponsorsync.domain.errors import GitHubLimitedError, GitHubRefusedError, GitHubUnreachableError
from sponsorsync.domain.sources import PaymentSource
from sponsorsync.domain.sponsorship import Privacy, Sponsorship
from sponsorsync.github import sponsorships
from tests.support.github_answers import (
    LAST_PAGE,
    NODE,
    PARSED_NODE,
    SPONSOR,
    Json,
    answer_with,
    organizations_answer,
    parse_organizations,
    parse_sponsor,
    parse_sponsorships,
    sponsor_answer,
)

Parse: TypeAlias = Callable[[Json], sponsorships.SponsorshipPage | sponsorships.OrganizationPage]
Build: TypeAlias = Callable[..., dict[str, Json]]

# --- sponsorships ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "parsed"),
    [
        ({}, {}),
        (
            {"tier": None, "tierSelectedAt": None, "paymentSource": None},
            {"tier_cents": None, "tier_selected_at": None, "payment_source": None},
        ),
        (
            {
                "isActive": False,
                "isOneTimePayment": True,
                "privacyLevel": "PRIVATE",
                "paymentSource": "PATREON",
            },
            {
                "is_active": False,
                "is_one_time": True,
                "privacy": Privacy.PRIVATE,
                "payment_source": PaymentSource.PATREON,
            },
        ),
        (
            {"privacyLevel": "SECRET", "paymentSource": "STRIPE"},
            {"privacy": Privacy.PRIVATE, "payment_source": None},
        ),
    ],
    ids=["documented", "no tier and source", "private payment by patreon", "unknown values"],
)
def test_a_sponsorship_is_parsed(changed: dict[str, Json], parsed: dict[str, Any]) -> None:
    """GitHub sends no tier for Patreon; an unknown privacy level is treated as private."""
    page = parse_sponsorships(answer_with(NODE, {**NODE, **changed}))

    assert page == sponsorships.SponsorshipPage(
        sponsorships=(PARSED_NODE, replace(PARSED_NODE, **parsed)), next_cursor=None
    )


@pytest.mark.parametrize("nothing", [None, {**NODE, "sponsorable": {}}])
def test_a_null_node_does_not_hide_others(nothing: Json) -> None:
    """The schema allows null in the list; `{}` is neither a User nor an Organization."""
    assert parse_sponsorships(answer_with(nothing, NODE, nothing)).sponsorships == (PARSED_NODE,)


LISTS = pytest.mark.parametrize(
    ("parse", "build"),
    [(parse_sponsorships, answer_with), (parse_organizations, organizations_answer)],
    ids=["sponsorships", "organizations"],
)


@LISTS
def test_an_empty_list_is_an_answer(parse: Parse, build: Build) -> None:
    """An empty list means 'no', not 'unknown'."""
    page = parse(build())

    assert getattr(page, "sponsorships", ()) == getattr(page, "organizations", ()) == ()


@LISTS
def test_a_page_has_the_cursor_of_the_next_one(parse: Parse, build: Build) -> None:
    """A page of GitHub's lists has 100 items at most."""
    page: Json = {"hasNextPage": True, "endCursor": "Y3Vyc29y"}

    assert parse(build(page=page)).next_cursor == "Y3Vyc29y"


@LISTS
@pytest.mark.parametrize(
    "page",
    [{"hasNextPage": True, "endCursor": None}, {"hasNextPage": True}],
    ids=["null", "absent"],
)
def test_a_next_page_without_a_cursor_is_unreadable(parse: Parse, build: Build, page: Json) -> None:
    """The page that cannot be requested may have the entitling sponsorship or organization."""
    with pytest.raises(GitHubUnreachableError):
        parse(build(page=page))


def test_an_empty_list_of_errors_is_ignored() -> None:
    """GraphQL forbids an empty list of errors, but servers send it."""
    assert parse_sponsorships(answer_with(NODE, errors=[])).sponsorships == (PARSED_NODE,)


@pytest.mark.parametrize("kind", ["RATE_LIMITED", "RATE_LIMIT"])
@pytest.mark.parametrize("parse", [parse_sponsorships, parse_organizations, parse_sponsor])
def test_a_rate_limit_without_headers_waits_a_minute(
    parse: Callable[[Json], object], kind: str
) -> None:
    """GitHub sends the limit with HTTP 200, and recommends to wait a minute."""
    with pytest.raises(GitHubLimitedError) as caught:
        parse({"errors": [{"type": "SOMETHING"}, {"type": kind, "message": "…"}]})

    assert caught.value.retry_after_s == 60


@pytest.mark.parametrize(
    ("errors", "named"),
    [
        ([{"type": "FORBIDDEN", "message": "…"}], "FORBIDDEN"),
        ([{"type": "INSUFFICIENT_SCOPES", "message": "…"}], "INSUFFICIENT_SCOPES"),
        ([{"type": "NOT_FOUND"}, {"type": "FORBIDDEN"}], "FORBIDDEN, NOT_FOUND"),
        ([{"type": "WHAT_NOBODY_KNOWS"}], "WHAT_NOBODY_KNOWS"),
        ([{"message": "Field 'x' doesn't exist"}], "no type given"),
    ],
)
@pytest.mark.parametrize("data", [None, answer_with(NODE)["data"], answer_with(None)["data"]])
def test_an_answer_with_errors_is_refused(data: Json, errors: list[Json], named: str) -> None:
    """The data beside an error may be incomplete, so the sponsorships are unknown."""
    with pytest.raises(GitHubRefusedError, match=named):
        parse_sponsorships({"data": data, "errors": errors})


def test_a_null_list_is_not_an_empty_list() -> None:
    """The schema allows null in place of the list, which means 'unknown', not 'no'."""
    connection: Json = {"pageInfo": LAST_PAGE, "nodes": None}

    with pytest.raises(GitHubUnreachableError):
        parse_sponsorships({"data": {"viewer": {"sponsorshipsAsSponsor": connection}}})


@pytest.mark.parametrize("field", ["createdAt", "tierSelectedAt"])
@pytest.mark.parametrize("moment", ["2025-10-18T12:00:00", "2025-10-18", "yesterday", ""])
def test_a_time_without_a_zone_is_unreadable(field: str, moment: str) -> None:
    """Such a time cannot be compared with other times."""
    with pytest.raises(GitHubUnreachableError):
        parse_sponsorships(answer_with({**NODE, field: moment}))


# --- one sponsor ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "sponsorship"),
    [
        (NODE, PARSED_NODE),
        (
            {**NODE, "tier": None, "paymentSource": "PATREON"},
            replace(PARSED_NODE, tier_cents=None, payment_source=PaymentSource.PATREON),
        ),
        (None, None),
    ],
    ids=["tier", "patreon", "none"],
)
def test_a_sponsor_is_parsed(node: Json, sponsorship: Sponsorship | None) -> None:
    """The token's owner is the sponsorable; null means 'no', not 'unknown'."""
    answer = sponsor_answer({**SPONSOR, "sponsorshipForViewerAsSponsorable": node})

    assert parse_sponsor(answer) == sponsorships.SponsorAnswer(
        viewer_login="maintainer", sponsor_id=48_210_377, sponsorship=sponsorship
    )


@pytest.mark.parametrize("node", [None, {}], ids=["null", "neither"])
def test_a_node_that_is_not_an_account_has_no_sponsor_id(node: Json) -> None:
    """Without an id the answer can be assigned to no person."""
    assert parse_sponsor(sponsor_answer(node)) == sponsorships.SponsorAnswer(
        viewer_login="maintainer", sponsor_id=None, sponsorship=None
    )


@pytest.mark.parametrize("kind", ["NOT_FOUND", "FORBIDDEN", "INSUFFICIENT_SCOPES"])
@pytest.mark.parametrize(
    "data", [None, sponsor_answer(None)["data"], sponsor_answer(SPONSOR)["data"]]
)
def test_a_sponsor_with_an_error_is_refused(data: Json, kind: str) -> None:
    """A node that is not found may be hidden, so the sponsorship is unknown."""
    with pytest.raises(GitHubRefusedError, match=kind):
        parse_sponsor({"data": data, "errors": [{"type": kind, "message": "…"}]})


@pytest.mark.parametrize(
    "answer",
    [
        sponsor_answer(SPONSOR, viewer=None),
        sponsor_answer(SPONSOR, viewer=5),
        sponsor_answer("U_1"),
        sponsor_answer([SPONSOR]),
        sponsor_answer({"databaseId": 48_210_377}),
        sponsor_answer({**SPONSOR, "databaseId": "48210377"}),
        sponsor_answer({**SPONSOR, "sponsorshipForViewerAsSponsorable": {}}),
        sponsor_answer({**SPONSOR, "sponsorshipForViewerAsSponsorable": [NODE]}),
        {"data": {"viewer": {"login": "maintainer"}}},
        {"data": {"node": SPONSOR}},
        {"data": None},
    ],
)
def test_a_sponsor_of_wrong_types_is_unreadable(answer: Json) -> None:
    """A missing field is another thing than a field with null."""
    with pytest.raises(GitHubUnreachableError):
        parse_sponsor(answer)
