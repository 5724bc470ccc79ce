"""GitHub's answers about sponsorships and about one sponsor."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sponsorsync.domain.errors import (
    GitHubLimitedError,
    GitHubRefusedError,
    GitHubUnreachableError,
)
from sponsorsync.domain.sources import PaymentSource
from sponsorsync.domain.sponsorship import Privacy
from sponsorsync.github import messages
from tests.support.github_answers import (
    LAST_PAGE,
    NODE,
    PARSED_NODE,
    SPONSOR,
    Json,
    answer_with,
    parse_sponsor,
    parse_sponsorships,
    sponsor_answer,
)

# --- sponsorships ---------------------------------------------------------------------------------


def test_a_sponsorship_is_read() -> None:
    """Its login is lower-cased, as it is compared and stored."""
    assert parse_sponsorships(answer_with(NODE)) == messages.SponsorshipPage(
        sponsorships=(PARSED_NODE,), next_cursor=None
    )


def test_a_sponsorship_without_tier_and_source_is_one() -> None:
    """GitHub gives no tier for what comes through Patreon, and no source at times."""
    bare = {**NODE, "tier": None, "tierSelectedAt": None, "paymentSource": None}

    [sponsorship] = parse_sponsorships(answer_with(bare)).sponsorships

    assert sponsorship.tier_cents is None
    assert sponsorship.tier_selected_at is None
    assert sponsorship.payment_source is None
    assert sponsorship.is_active


def test_a_private_one_time_sponsorship_through_patreon_is_told_as_such() -> None:
    """Each of the three decides about something."""
    told = {
        **NODE,
        "isActive": False,
        "isOneTimePayment": True,
        "privacyLevel": "PRIVATE",
        "paymentSource": "PATREON",
    }

    [sponsorship] = parse_sponsorships(answer_with(told)).sponsorships

    assert sponsorship.privacy is Privacy.PRIVATE
    assert sponsorship.payment_source is PaymentSource.PATREON
    assert sponsorship.is_one_time
    assert not sponsorship.is_active


def test_what_github_adds_to_its_enums_hides_no_sponsorship() -> None:
    """Neither decides about entitlement; of two ways to show it the cautious one is taken."""
    told = {**NODE, "privacyLevel": "SECRET", "paymentSource": "STRIPE"}

    sponsorships = parse_sponsorships(answer_with(NODE, told)).sponsorships

    assert sponsorships == (
        PARSED_NODE,
        replace(PARSED_NODE, privacy=Privacy.PRIVATE, payment_source=None),
    )


@pytest.mark.parametrize("nothing", [None, {**NODE, "sponsorable": {}}])
def test_a_null_node_hides_no_other(nothing: Json) -> None:
    """Nodes are nullable by the schema; `{}` is neither a User nor an Organization."""
    assert parse_sponsorships(answer_with(nothing, NODE, nothing)).sponsorships == (PARSED_NODE,)


def test_no_sponsorships_are_an_answer_too() -> None:
    """This is a no, and not an unknown."""
    assert parse_sponsorships(answer_with()).sponsorships == ()


def test_a_page_says_where_the_next_begins() -> None:
    """Pages hold a hundred at most."""
    page = parse_sponsorships(
        answer_with(NODE, page={"hasNextPage": True, "endCursor": "Y3Vyc29y"})
    )

    assert page.next_cursor == "Y3Vyc29y"


def test_empty_errors_are_none() -> None:
    """The specification forbids them, and servers send them."""
    assert parse_sponsorships(answer_with(NODE, errors=[])).sponsorships == (PARSED_NODE,)


@pytest.mark.parametrize("kind", ["RATE_LIMITED", "RATE_LIMIT"])
def test_a_rate_limit_comes_with_http_200(kind: str) -> None:
    """Without any header to go by, a minute is what GitHub asks for."""
    with pytest.raises(GitHubLimitedError) as caught:
        parse_sponsorships({"errors": [{"type": "SOMETHING"}, {"type": kind, "message": "…"}]})

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
def test_an_answer_with_errors_is_no_answer(data: Json, errors: list[Json], named: str) -> None:
    """Even with data beside them: what is missing from it is unknown, not absent."""
    with pytest.raises(GitHubRefusedError, match=named):
        parse_sponsorships({"data": data, "errors": errors})


@pytest.mark.parametrize(
    "page",
    [{"hasNextPage": True, "endCursor": None}, {"hasNextPage": True}],
    ids=["null", "absent"],
)
def test_a_next_page_without_a_cursor_is_no_complete_answer(page: Json) -> None:
    """The sponsorship that entitles may stand on the page that cannot be asked for."""
    with pytest.raises(GitHubUnreachableError):
        parse_sponsorships(answer_with(NODE, page=page))


def test_a_list_that_is_null_is_no_empty_list() -> None:
    """The schema allows it, and it says nothing: unknown is not no."""
    connection: Json = {"pageInfo": LAST_PAGE, "nodes": None}

    with pytest.raises(GitHubUnreachableError):
        parse_sponsorships({"data": {"viewer": {"sponsorshipsAsSponsor": connection}}})


@pytest.mark.parametrize("field", ["createdAt", "tierSelectedAt"])
@pytest.mark.parametrize("moment", ["2025-10-18T12:00:00", "2025-10-18", "yesterday", ""])
def test_a_moment_without_a_time_zone_is_not_guessed(field: str, moment: str) -> None:
    """It could not be compared with any other moment."""
    with pytest.raises(GitHubUnreachableError):
        parse_sponsorships(answer_with({**NODE, field: moment}))


# --- one sponsor ----------------------------------------------------------------------------------


def test_a_sponsor_is_read_with_what_they_give_to_the_viewer() -> None:
    """The viewer is the sponsorable: the answer itself need not name it twice."""
    assert parse_sponsor(sponsor_answer(SPONSOR)) == messages.SponsorAnswer(
        viewer_login="maintainer", sponsor_id=48_210_377, sponsorship=PARSED_NODE
    )


def test_who_gives_nothing_is_an_answer_too() -> None:
    """This is a no, and not an unknown."""
    answer = parse_sponsor(sponsor_answer({**SPONSOR, "sponsorshipForViewerAsSponsorable": None}))

    assert (answer.sponsor_id, answer.sponsorship) == (48_210_377, None)


def test_a_sponsor_through_patreon_has_no_tier() -> None:
    """GitHub does not know it, whoever asks."""
    told = {**NODE, "tier": None, "tierSelectedAt": None, "paymentSource": "PATREON"}

    answer = parse_sponsor(sponsor_answer({**SPONSOR, "sponsorshipForViewerAsSponsorable": told}))

    assert answer.sponsorship is not None
    assert answer.sponsorship.tier_cents is None


@pytest.mark.parametrize("node", [None, {}], ids=["null", "neither"])
def test_a_node_that_is_no_account_is_nobodys_answer(node: Json) -> None:
    """Without a number it cannot be told whose no this would be."""
    assert parse_sponsor(sponsor_answer(node)) == messages.SponsorAnswer(
        viewer_login="maintainer", sponsor_id=None, sponsorship=None
    )


@pytest.mark.parametrize("kind", ["NOT_FOUND", "FORBIDDEN", "INSUFFICIENT_SCOPES"])
@pytest.mark.parametrize(
    "data", [None, sponsor_answer(None)["data"], sponsor_answer(SPONSOR)["data"]]
)
def test_a_sponsor_with_an_error_is_no_answer(data: Json, kind: str) -> None:
    """A node that is not found may be hidden: that is unknown, and not a no."""
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
def test_a_sponsor_of_the_wrong_types_is_no_answer(answer: Json) -> None:
    """A field that is missing is not the same as a field that is null."""
    with pytest.raises(GitHubUnreachableError):
        parse_sponsor(answer)


def test_a_rate_limit_is_no_answer_about_a_sponsor() -> None:
    """It comes with HTTP 200 here, too."""
    with pytest.raises(GitHubLimitedError):
        parse_sponsor({"errors": [{"type": "RATE_LIMITED", "message": "…"}]})
