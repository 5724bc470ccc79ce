"""What is said to GitHub and what its answers amount to, bytes by bytes."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sponsorsync.domain.errors import (
    GitHubError,
    GitHubLimitedError,
    GitHubRefusedError,
    GitHubTokenError,
    GitHubUnreachableError,
)
from sponsorsync.domain.profile import EmailAddress, GitHubAccount, GitHubUser
from sponsorsync.domain.sponsorship import Membership, PaymentSource, Privacy, Sponsorship
from sponsorsync.github import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())

# As GitHub's documentation prints them, shortened to what is read and a little more.
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
    {
        "email": "octocat@github.com",
        "verified": True,
        "primary": True,
        "visibility": "public",
    },
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
SPONSOR: dict[str, Json] = {
    "databaseId": 48_210_377,
    "sponsorshipForViewerAsSponsorable": NODE,
}
FORBIDDEN: dict[str, Json] = {
    "type": "FORBIDDEN",
    "path": ["viewer", "organizations", "nodes", 0],
    "message": "… the `restricting-org` organization has enabled OAuth App access restrictions …",
}
SAML: dict[str, Json] = {**FORBIDDEN, "extensions": {"saml_failure": True}}


def _answer(*nodes: Json, page: Json = LAST_PAGE, **more: Json) -> dict[str, Json]:
    connection: Json = {"pageInfo": page, "nodes": list(nodes)}
    return {"data": {"viewer": {"sponsorshipsAsSponsor": connection}}, **more}


def _sponsor(node: Json, viewer: Json = "Maintainer", **more: Json) -> dict[str, Json]:
    return {"data": {"viewer": {"login": viewer}, "node": node}, **more}


def _organizations(*nodes: Json, page: Json = LAST_PAGE, **more: Json) -> dict[str, Json]:
    connection: Json = {"pageInfo": page, "nodes": list(nodes)}
    return {"data": {"viewer": {"organizations": connection}}, **more}


def _giving(*nodes: Json, more_pages: bool = False) -> dict[str, Json]:
    connection: Json = {"pageInfo": {"hasNextPage": more_pages}, "nodes": list(nodes)}
    return {**ORGANIZATION, "sponsorshipsAsSponsor": connection}


def _dump(document: Json) -> bytes:
    return json.dumps(document).encode()


def _parse_answer(answer: Json) -> messages.SponsorshipPage:
    return messages.parse_sponsorships(_dump(answer))


def _parse_sponsor(answer: Json) -> messages.SponsorAnswer:
    return messages.parse_sponsor(_dump(answer))


def _parse_organizations(answer: Json) -> messages.OrganizationPage:
    return messages.parse_organizations(_dump(answer))


# --- what is sent ---------------------------------------------------------------------------------


def test_headers_name_the_version_of_the_api() -> None:
    """GitHub changes what it answers from version to version."""
    assert messages.build_headers("gho_1") == {
        "Accept": "application/vnd.github+json",
        "Authorization": "Bearer gho_1",
        "X-GitHub-Api-Version": "2026-03-10",
    }


def test_what_is_public_is_asked_for_without_a_token() -> None:
    """An empty token would be a bad one."""
    assert messages.build_headers(None) == {
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2026-03-10",
    }


@pytest.mark.parametrize(
    ("login", "path"),
    [
        ("Sponsoring-Org", "/users/Sponsoring-Org"),
        ("a_b", "/users/a_b"),
        ("a/b", "/users/a%2Fb"),
        ("a?b#c", "/users/a%3Fb%23c"),
        ("%2F", "/users/%252F"),
        ("..", "/users/%2E%2E"),
        ("é", "/users/%C3%A9"),
    ],
)
def test_a_login_is_one_segment_of_a_path(login: str, path: str) -> None:
    """Whatever somebody typed must not ask GitHub about something else."""
    assert messages.build_account_path(login) == path


def test_one_sponsor_is_asked_for_by_node() -> None:
    """A login may be somebody else's by now."""
    assert messages.build_sponsor_request("U_1") == {
        "query": messages.MAINTAINER_SPONSOR,
        "variables": {"id": "U_1"},
    }


def test_a_page_is_asked_for_with_its_size_and_logins() -> None:
    """GitHub refuses a connection without `first`, though its schema does not say so."""
    body = messages.build_sponsorships_request(("maintainer", "other"), "Y3Vyc29y")

    assert body == {
        "query": messages.VIEWER_SPONSORSHIPS,
        "variables": {
            "maintainerLogins": ["maintainer", "other"],
            "first": 100,
            "after": "Y3Vyc29y",
        },
    }


def test_organizations_are_asked_for_with_what_they_give_to_these_accounts() -> None:
    """What they give to others is none of our affair."""
    body = messages.build_organizations_request(("maintainer", "other"), "Y3Vyc29y")

    assert body == {
        "query": messages.VIEWER_ORGANIZATIONS,
        "variables": {
            "maintainerLogins": ["maintainer", "other"],
            "first": 100,
            "after": "Y3Vyc29y",
        },
    }


# --- statuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_success_passes(status: int) -> None:
    """The body is looked at by who knows what it should be."""
    messages.check_status(status, {}, now=NOW)


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (301, {}, GitHubRefusedError),
        (400, {}, GitHubRefusedError),
        (401, {}, GitHubTokenError),
        (403, {}, GitHubRefusedError),
        (403, {"X-RateLimit-Remaining": "4999"}, GitHubRefusedError),
        (403, {"X-RateLimit-Remaining": "0"}, GitHubLimitedError),
        (403, {"Retry-After": "5"}, GitHubLimitedError),
        (404, {}, GitHubRefusedError),
        (404, {"X-RateLimit-Remaining": "0"}, GitHubRefusedError),
        (422, {}, GitHubRefusedError),
        (429, {}, GitHubLimitedError),
        (429, {"X-RateLimit-Remaining": "12"}, GitHubLimitedError),
        (500, {}, GitHubUnreachableError),
        (502, {}, GitHubUnreachableError),
        (503, {"Retry-After": "5"}, GitHubUnreachableError),
        (504, {}, GitHubUnreachableError),
    ],
)
def test_a_status_is_a_refusal_a_limit_or_a_failure(
    status: int, headers: dict[str, str], error: type[GitHubError]
) -> None:
    """A failure may be tried again at once, a limit later, a refusal not at all."""
    with pytest.raises(GitHubError) as caught:
        messages.check_status(status, httpx.Headers(headers), now=NOW)

    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("headers", "retry_after_s"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "7", "X-RateLimit-Reset": str(NOW_S + 99)}, 7),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": "-3"}, 1),
        ({"Retry-After": "Sun, 22 Nov 2026 12:00:07 GMT"}, 60),
        ({"Retry-After": ""}, 60),
        ({"X-RateLimit-Reset": str(NOW_S + 99)}, 99),
        ({"X-RateLimit-Reset": str(NOW_S)}, 1),
        ({"X-RateLimit-Reset": str(NOW_S - 99)}, 1),
        ({"X-RateLimit-Reset": "soon"}, 60),
        ({}, 60),
    ],
)
def test_a_limit_says_when_to_come_back(headers: dict[str, str], retry_after_s: int) -> None:
    """Retry-After first, then the reset, and a minute where GitHub gives neither."""
    with pytest.raises(GitHubLimitedError) as caught:
        messages.check_status(429, httpx.Headers(headers), now=NOW)

    assert caught.value.retry_after_s == retry_after_s


# --- /user and /user/emails -----------------------------------------------------------------------


def test_a_profile_is_read() -> None:
    """The sample of GitHub's own documentation."""
    assert messages.parse_user(_dump(USER)) == GitHubUser(
        id=1,
        login="octocat",
        name="monalisa octocat",
        email="octocat@github.com",
        avatar_url="https://github.com/images/error/octocat_happy.gif",
    )


@pytest.mark.parametrize(
    "profile",
    [
        {"id": 1, "login": "octocat"},
        {"id": 1, "login": "octocat", "name": None, "email": None, "avatar_url": None},
    ],
    ids=["absent", "null"],
)
def test_a_profile_may_have_no_name_and_no_address(profile: Json) -> None:
    """Both are nullable, and many people hide their address."""
    assert messages.parse_user(_dump(profile)) == GitHubUser(
        id=1, login="octocat", name=None, email=None, avatar_url=None
    )


@pytest.mark.parametrize("kind", ["User", "Organization"])
def test_an_account_is_read(kind: str) -> None:
    """The sample of GitHub's own documentation; both kinds have the same three."""
    account = messages.parse_account(_dump({**USER, "type": kind}))

    assert account == GitHubAccount(id=1, login="octocat", node_id="MDQ6VXNlcjE=")


def test_addresses_are_read() -> None:
    """The sample of GitHub's own documentation, and the kind that GitHub makes itself."""
    assert messages.parse_emails(_dump(EMAILS)) == (
        EmailAddress("octocat@github.com", is_primary=True, is_verified=True),
        EmailAddress("octocat@users.noreply.github.com", is_primary=False, is_verified=True),
    )


@pytest.mark.parametrize("truthy", ["true", 1, {}, [0]])
def test_an_address_is_verified_by_true_alone(truthy: Json) -> None:
    """What merely looks true proves nothing."""
    body = json.dumps([{"email": "a@example.com", "primary": truthy, "verified": truthy}])

    [address] = messages.parse_emails(body.encode())

    assert not address.is_primary
    assert not address.is_verified


# --- sponsorships ---------------------------------------------------------------------------------


def test_a_sponsorship_is_read() -> None:
    """Its login is lower-cased, as it is compared and stored."""
    assert _parse_answer(_answer(NODE)) == messages.SponsorshipPage(
        sponsorships=(PARSED_NODE,), next_cursor=None
    )


def test_a_sponsorship_without_tier_and_source_is_one() -> None:
    """GitHub gives no tier for what comes through Patreon, and no source at times."""
    bare = {**NODE, "tier": None, "tierSelectedAt": None, "paymentSource": None}

    [sponsorship] = _parse_answer(_answer(bare)).sponsorships

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

    [sponsorship] = _parse_answer(_answer(told)).sponsorships

    assert sponsorship.privacy is Privacy.PRIVATE
    assert sponsorship.payment_source is PaymentSource.PATREON
    assert sponsorship.is_one_time
    assert not sponsorship.is_active


def test_what_github_adds_to_its_enums_hides_no_sponsorship() -> None:
    """Neither decides about cover; of two ways to show it the cautious one is taken."""
    told = {**NODE, "privacyLevel": "SECRET", "paymentSource": "STRIPE"}

    sponsorships = _parse_answer(_answer(NODE, told)).sponsorships

    assert sponsorships == (
        PARSED_NODE,
        replace(PARSED_NODE, privacy=Privacy.PRIVATE, payment_source=None),
    )


@pytest.mark.parametrize("nothing", [None, {**NODE, "sponsorable": {}}])
def test_a_null_node_hides_no_other(nothing: Json) -> None:
    """Nodes are nullable by the schema; `{}` is neither a User nor an Organization."""
    assert _parse_answer(_answer(nothing, NODE, nothing)).sponsorships == (PARSED_NODE,)


def test_no_sponsorships_are_an_answer_too() -> None:
    """This is a no, and not an unknown."""
    assert _parse_answer(_answer()).sponsorships == ()


def test_a_page_says_where_the_next_begins() -> None:
    """Pages hold a hundred at most."""
    page = _parse_answer(_answer(NODE, page={"hasNextPage": True, "endCursor": "Y3Vyc29y"}))

    assert page.next_cursor == "Y3Vyc29y"


def test_empty_errors_are_none() -> None:
    """The specification forbids them, and servers send them."""
    assert _parse_answer(_answer(NODE, errors=[])).sponsorships == (PARSED_NODE,)


@pytest.mark.parametrize("kind", ["RATE_LIMITED", "RATE_LIMIT"])
def test_a_rate_limit_comes_with_http_200(kind: str) -> None:
    """Without any header to go by, a minute is what GitHub asks for."""
    with pytest.raises(GitHubLimitedError) as caught:
        _parse_answer({"errors": [{"type": "SOMETHING"}, {"type": kind, "message": "…"}]})

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
@pytest.mark.parametrize("data", [None, _answer(NODE)["data"], _answer(None)["data"]])
def test_an_answer_with_errors_is_no_answer(data: Json, errors: list[Json], named: str) -> None:
    """Even with data beside them: what is missing from it is unknown, not absent."""
    with pytest.raises(GitHubRefusedError, match=named):
        _parse_answer({"data": data, "errors": errors})


@pytest.mark.parametrize(
    "page",
    [{"hasNextPage": True, "endCursor": None}, {"hasNextPage": True}],
    ids=["null", "absent"],
)
def test_a_next_page_without_a_cursor_is_no_complete_answer(page: Json) -> None:
    """The sponsorship that covers may stand on the page that cannot be asked for."""
    with pytest.raises(GitHubUnreachableError):
        _parse_answer(_answer(NODE, page=page))


def test_a_list_that_is_null_is_no_empty_list() -> None:
    """The schema allows it, and it says nothing: unknown is not no."""
    connection: Json = {"pageInfo": LAST_PAGE, "nodes": None}

    with pytest.raises(GitHubUnreachableError):
        _parse_answer({"data": {"viewer": {"sponsorshipsAsSponsor": connection}}})


@pytest.mark.parametrize("field", ["createdAt", "tierSelectedAt"])
@pytest.mark.parametrize("moment", ["2025-10-18T12:00:00", "2025-10-18", "yesterday", ""])
def test_a_moment_without_a_time_zone_is_not_guessed(field: str, moment: str) -> None:
    """It could not be compared with any other moment."""
    with pytest.raises(GitHubUnreachableError):
        _parse_answer(_answer({**NODE, field: moment}))


# --- organizations --------------------------------------------------------------------------------


def test_an_organization_is_read_with_what_it_gives() -> None:
    """Its login is lower-cased, as it is compared and stored; its number is what it is known by."""
    assert _parse_organizations(_organizations(ORGANIZATION)) == messages.OrganizationPage(
        organizations=(PARSED_ORGANIZATION,), is_complete=True, next_cursor=None
    )


def test_no_organizations_are_an_answer_too() -> None:
    """This is a no, and not an unknown."""
    assert _parse_organizations(_organizations()) == messages.OrganizationPage(
        organizations=(), is_complete=True, next_cursor=None
    )


def test_a_member_is_not_told_the_tier() -> None:
    """GitHub shows it to those who manage the organization; the sponsorship counts without it."""
    page = _parse_organizations(_organizations(_giving({**NODE, "tier": None})))

    [sponsorship] = page.organizations[0].sponsorships
    assert sponsorship.tier_cents is None
    assert page.is_complete


def test_a_page_of_organizations_says_where_the_next_begins() -> None:
    """Some people belong to hundreds."""
    page: Json = {"hasNextPage": True, "endCursor": "Y3Vyc29y"}

    assert _parse_organizations(_organizations(page=page)).next_cursor == "Y3Vyc29y"


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
    """A person who belongs to one that restricts OAuth apps is still covered by another."""
    page = _parse_organizations(_organizations(*hidden, errors=[error]))

    assert page.organizations == shown
    assert not page.is_complete


@pytest.mark.parametrize(
    ("organization", "sponsorships"),
    [
        (_giving(NODE, None), (PARSED_NODE,)),
        (_giving({**NODE, "sponsorable": {}}), ()),
        (_giving(NODE, more_pages=True), (PARSED_NODE,)),
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
    page = _parse_organizations(_organizations(organization, errors=errors))

    assert [each.sponsorships for each in page.organizations] == [sponsorships]
    assert not page.is_complete


@pytest.mark.parametrize("nothing", [None, {**ORGANIZATION, "databaseId": None}])
def test_an_organization_without_a_number_is_unknown(nothing: Json) -> None:
    """Both are nullable by the schema, without any error; a login alone can change hands."""
    page = _parse_organizations(_organizations(nothing, ORGANIZATION))

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
@pytest.mark.parametrize("data", [None, _organizations(ORGANIZATION)["data"]])
def test_only_what_is_forbidden_may_be_missing(data: Json, errors: list[Json], named: str) -> None:
    """Without read:org nothing is shown, and how far another error reaches, nobody knows."""
    with pytest.raises(GitHubRefusedError, match=named):
        _parse_organizations({"data": data, "errors": errors})


@pytest.mark.parametrize("data", [None, {}, {"viewer": None}, {"viewer": {"organizations": None}}])
def test_forbidden_without_any_organization_beside_it_is_a_refusal(data: Json) -> None:
    """Nothing is shown, so there is nothing that could count."""
    with pytest.raises(GitHubRefusedError, match="FORBIDDEN"):
        _parse_organizations({"data": data, "errors": [FORBIDDEN]})


@pytest.mark.parametrize(
    "data", [None, {}, {"viewer": None}, {"viewer": {}}, {"viewer": {"organizations": None}}]
)
def test_nothing_without_an_error_is_no_empty_list(data: Json) -> None:
    """The schema does not allow it, so whatever sent it is not to be believed."""
    with pytest.raises(GitHubUnreachableError):
        _parse_organizations({"data": data})


@pytest.mark.parametrize("kind", ["RATE_LIMITED", "RATE_LIMIT"])
@pytest.mark.parametrize("data", [None, _organizations(ORGANIZATION)["data"]])
def test_a_rate_limit_is_told_from_what_is_forbidden(data: Json, kind: str) -> None:
    """It passes, and then the whole list can be had."""
    with pytest.raises(GitHubLimitedError):
        _parse_organizations({"data": data, "errors": [FORBIDDEN, {"type": kind}]})


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
        _giving("NODE"),
        _giving({**NODE, "privacyLevel": None}),
    ],
)
def test_an_organization_of_the_wrong_types_makes_the_answer_unreadable(
    organization: Json,
) -> None:
    """It is no null that GitHub may send, so the rest is not to be believed either."""
    with pytest.raises(GitHubUnreachableError):
        _parse_organizations(_organizations(ORGANIZATION, organization))


@pytest.mark.parametrize(
    "page",
    [{"hasNextPage": True, "endCursor": None}, {"hasNextPage": True}],
    ids=["null", "absent"],
)
def test_a_next_page_of_organizations_needs_a_cursor(page: Json) -> None:
    """The organization that covers may stand on the page that cannot be asked for."""
    with pytest.raises(GitHubUnreachableError):
        _parse_organizations(_organizations(ORGANIZATION, page=page))


# --- one sponsor ----------------------------------------------------------------------------------


def test_a_sponsor_is_read_with_what_they_give_to_the_viewer() -> None:
    """The viewer is the sponsorable: the answer itself need not name it twice."""
    assert _parse_sponsor(_sponsor(SPONSOR)) == messages.SponsorAnswer(
        viewer_login="maintainer", sponsor_id=48_210_377, sponsorship=PARSED_NODE
    )


def test_who_gives_nothing_is_an_answer_too() -> None:
    """This is a no, and not an unknown."""
    answer = _parse_sponsor(_sponsor({**SPONSOR, "sponsorshipForViewerAsSponsorable": None}))

    assert (answer.sponsor_id, answer.sponsorship) == (48_210_377, None)


def test_a_sponsor_through_patreon_has_no_tier() -> None:
    """GitHub does not know it, whoever asks."""
    told = {**NODE, "tier": None, "tierSelectedAt": None, "paymentSource": "PATREON"}

    answer = _parse_sponsor(_sponsor({**SPONSOR, "sponsorshipForViewerAsSponsorable": told}))

    assert answer.sponsorship is not None
    assert answer.sponsorship.tier_cents is None


@pytest.mark.parametrize("node", [None, {}], ids=["null", "neither"])
def test_a_node_that_is_no_account_is_nobodys_answer(node: Json) -> None:
    """Without a number it cannot be told whose no this would be."""
    assert _parse_sponsor(_sponsor(node)) == messages.SponsorAnswer(
        viewer_login="maintainer", sponsor_id=None, sponsorship=None
    )


@pytest.mark.parametrize("kind", ["NOT_FOUND", "FORBIDDEN", "INSUFFICIENT_SCOPES"])
@pytest.mark.parametrize("data", [None, _sponsor(None)["data"], _sponsor(SPONSOR)["data"]])
def test_a_sponsor_with_an_error_is_no_answer(data: Json, kind: str) -> None:
    """A node that is not found may be hidden: that is unknown, and not a no."""
    with pytest.raises(GitHubRefusedError, match=kind):
        _parse_sponsor({"data": data, "errors": [{"type": kind, "message": "…"}]})


@pytest.mark.parametrize(
    "answer",
    [
        _sponsor(SPONSOR, viewer=None),
        _sponsor(SPONSOR, viewer=5),
        _sponsor("U_1"),
        _sponsor([SPONSOR]),
        _sponsor({"databaseId": 48_210_377}),
        _sponsor({**SPONSOR, "databaseId": "48210377"}),
        _sponsor({**SPONSOR, "sponsorshipForViewerAsSponsorable": {}}),
        _sponsor({**SPONSOR, "sponsorshipForViewerAsSponsorable": [NODE]}),
        {"data": {"viewer": {"login": "maintainer"}}},
        {"data": {"node": SPONSOR}},
        {"data": None},
    ],
)
def test_a_sponsor_of_the_wrong_types_is_no_answer(answer: Json) -> None:
    """A field that is missing is not the same as a field that is null."""
    with pytest.raises(GitHubUnreachableError):
        _parse_sponsor(answer)


def test_a_rate_limit_is_no_answer_about_a_sponsor() -> None:
    """It comes with HTTP 200 here, too."""
    with pytest.raises(GitHubLimitedError):
        _parse_sponsor({"errors": [{"type": "RATE_LIMITED", "message": "…"}]})


# --- whatever else may come -----------------------------------------------------------------------

PARSERS: list[Callable[[bytes], object]] = [
    messages.parse_user,
    messages.parse_emails,
    messages.parse_sponsorships,
    messages.parse_organizations,
    messages.parse_account,
    messages.parse_sponsor,
]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"<html>502</html>",
        b'{"data": {"viewer": {"login": "mont',
        b"\xff\xfe",
        b"[" * 200_000,
        b"9" * 10_000,
        b'{"id": 1e999, "login": "octocat"}',
        b'[{"email": "a@example.com"}]',
    ],
    ids=["empty", "null", "html", "half", "no utf-8", "deep", "long", "infinite", "short row"],
)
def test_what_cannot_be_read_is_a_github_that_failed(
    parse: Callable[[bytes], object], body: bytes
) -> None:
    """It is tried again and then unknown, and never a fault of ours."""
    with pytest.raises(GitHubUnreachableError):
        parse(body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "one"),
        ("id", None),
        ("id", 1.5),
        ("login", None),
        ("login", 5),
        ("name", ["monalisa"]),
        ("email", {"a": 1}),
        ("avatar_url", 0),
    ],
)
def test_a_profile_of_the_wrong_types_is_no_profile(field: str, value: Json) -> None:
    """Else it would fail later, inside a script in Redis."""
    with pytest.raises(GitHubUnreachableError):
        messages.parse_user(_dump({**USER, field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "one"),
        ("id", None),
        ("login", None),
        ("login", 5),
        ("node_id", None),
        ("node_id", 1),
    ],
)
def test_an_account_of_the_wrong_types_is_no_account(field: str, value: Json) -> None:
    """And none is not the same as gone."""
    with pytest.raises(GitHubUnreachableError):
        messages.parse_account(_dump({**USER, field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("isActive", "false"),
        ("isActive", None),
        ("isOneTimePayment", 0),
        ("isOneTimePayment", None),
        ("privacyLevel", None),
        ("privacyLevel", 1),
        ("paymentSource", 1),
        ("tier", {}),
        ("tier", {"monthlyPriceInCents": "ten"}),
        ("tier", {"monthlyPriceInCents": float("inf")}),
        ("sponsorable", {"login": 5}),
    ],
)
def test_a_sponsorship_of_the_wrong_types_makes_the_answer_unreadable(
    field: str, value: Json
) -> None:
    """A sponsorship that is passed over would be a no."""
    with pytest.raises(GitHubUnreachableError):
        _parse_answer(_answer({**NODE, field: value}))


any_json: SearchStrategy[Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["2025-10-18", "PUBLIC", "GITHUB"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def _almost(document: Json) -> SearchStrategy[Json]:
    """The document, with any other value in a place here and there."""
    same: SearchStrategy[Json] = st.just(document)
    if isinstance(document, dict):
        same = st.fixed_dictionaries({key: _almost(each) for key, each in document.items()})
    if isinstance(document, list):
        same = st.tuples(*map(_almost, document)).map(list)
    return st.integers(1, 20).flatmap(lambda roll: any_json if roll == 20 else same)


@given(body=any_json.map(_dump))
def test_any_json_is_read_or_is_a_github_error(body: bytes) -> None:
    """A service that others depend on answers nonsense now and then."""
    for parse in PARSERS:
        with suppress(GitHubError):
            parse(body)


@settings(max_examples=300)
@given(body=_almost(USER).map(_dump))
def test_almost_a_profile_is_read_or_is_a_github_error(body: bytes) -> None:
    """One wrong value is what a change of the API looks like."""
    with suppress(GitHubError):
        user = messages.parse_user(body)
        assert isinstance(user.id, int)
        assert isinstance(user.login, str)
        assert all(
            value is None or isinstance(value, str)
            for value in (user.name, user.email, user.avatar_url)
        )


@settings(max_examples=300)
@given(body=_almost(EMAILS).map(_dump))
def test_almost_a_list_of_addresses_is_read_or_is_a_github_error(body: bytes) -> None:
    """One wrong value is what a change of the API looks like."""
    with suppress(GitHubError):
        assert all(isinstance(each.email, str) for each in messages.parse_emails(body))


@settings(max_examples=500)
@given(body=_almost(_answer(NODE, None, NODE)).map(_dump))
def test_almost_an_answer_is_read_or_is_a_github_error(body: bytes) -> None:
    """What is read can be compared and stored; moments without a zone could not."""
    with suppress(GitHubError):
        for each in messages.parse_sponsorships(body).sponsorships:
            assert each.created_at.utcoffset() is not None
            assert each.tier_selected_at is None or each.tier_selected_at.utcoffset() is not None
            assert isinstance(each.is_active, bool)
            assert each.tier_cents is None or isinstance(each.tier_cents, int)


@settings(max_examples=500)
@given(body=_almost(_organizations(ORGANIZATION, None, errors=[FORBIDDEN])).map(_dump))
def test_almost_an_answer_with_organizations_is_read_or_is_a_github_error(body: bytes) -> None:
    """What is read can be compared and stored."""
    with suppress(GitHubError):
        page = messages.parse_organizations(body)
        assert all(isinstance(each.id, int) for each in page.organizations)
        assert all(each.login == each.login.lower() for each in page.organizations)


@settings(max_examples=300)
@given(body=_almost(_sponsor(SPONSOR)).map(_dump))
def test_almost_a_sponsor_is_read_or_is_a_github_error(body: bytes) -> None:
    """One wrong value is what a change of the API looks like."""
    with suppress(GitHubError):
        answer = messages.parse_sponsor(body)
        assert answer.viewer_login == answer.viewer_login.lower()
        assert answer.sponsor_id is None or isinstance(answer.sponsor_id, int)
        assert answer.sponsorship is None or answer.sponsorship.created_at.utcoffset() is not None
