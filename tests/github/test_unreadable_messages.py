"""Answers of a wrong shape: each is parsed or raises a GitHubError."""

import itertools
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sponsorsync.domain.errors import GitHubError, GitHubUnreachableError
from sponsorsync.github import people, sponsorships
from tests.support.github_answers import (
    EMAILS,
    FORBIDDEN,
    NODE,
    ORGANIZATION,
    SPONSOR,
    USER,
    Json,
    answer_with,
    dump,
    organizations_answer,
    parse_sponsorships,
    sponsor_answer,
)

# --- arbitrary answers ----------------------------------------------------------------------------

PARSERS: list[Callable[[bytes], object]] = [
    people.parse_user,
    people.parse_emails,
    sponsorships.parse_sponsorships,
    sponsorships.parse_organizations,
    people.parse_account,
    sponsorships.parse_sponsor,
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
def test_an_unreadable_body_is_an_unreachable_github(
    parse: Callable[[bytes], object], body: bytes
) -> None:
    """An unreadable answer is treated like none: the request may be repeated."""
    with pytest.raises(GitHubUnreachableError):
        parse(body)


@pytest.mark.parametrize(
    ("parse", "field", "value"),
    [
        *itertools.product([people.parse_user, people.parse_account], ["id"], ["one", None, 1.5]),
        *itertools.product([people.parse_user, people.parse_account], ["login"], [None, 5]),
        (people.parse_user, "name", ["monalisa"]),
        (people.parse_user, "email", {"a": 1}),
        (people.parse_user, "avatar_url", 0),
        (people.parse_account, "node_id", None),
        (people.parse_account, "node_id", 1),
    ],
)
def test_a_profile_of_wrong_types_is_unreadable(
    parse: Callable[[bytes], object], field: str, value: Json
) -> None:
    """Otherwise the value would fail later, inside a Redis script, or look like a deletion."""
    with pytest.raises(GitHubUnreachableError):
        parse(dump({**USER, field: value}))


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
def test_a_sponsorship_of_wrong_types_makes_the_answer_unreadable(field: str, value: Json) -> None:
    """Skipping the sponsorship would mean that there is none."""
    with pytest.raises(GitHubUnreachableError):
        parse_sponsorships(answer_with({**NODE, field: value}))


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
    """Draws the document with arbitrary values in random places."""
    same: SearchStrategy[Json] = st.just(document)
    if isinstance(document, dict):
        same = st.fixed_dictionaries({key: _almost(each) for key, each in document.items()})
    if isinstance(document, list):
        same = st.tuples(*map(_almost, document)).map(list)
    return st.integers(1, 20).flatmap(lambda roll: any_json if roll == 20 else same)


@given(body=any_json.map(dump))
def test_any_json_is_parsed_or_is_a_github_error(body: bytes) -> None:
    """External services sometimes send nonsense, which must cause no other error."""
    for parse in PARSERS:
        with suppress(GitHubError):
            parse(body)


@given(body=_almost(USER).map(dump))
def test_a_damaged_profile_is_parsed_or_is_a_github_error(body: bytes) -> None:
    """After a change of GitHub's API some values may have other types."""
    with suppress(GitHubError):
        user = people.parse_user(body)
        assert isinstance(user.id, int)
        assert isinstance(user.login, str)
        assert all(
            value is None or isinstance(value, str)
            for value in (user.name, user.email, user.avatar_url)
        )


@given(body=_almost(EMAILS).map(dump))
def test_a_damaged_list_of_addresses_is_parsed_or_is_a_github_error(body: bytes) -> None:
    """After a change of GitHub's API some values may have other types."""
    with suppress(GitHubError):
        assert all(isinstance(each.email, str) for each in people.parse_emails(body))


@given(body=_almost(answer_with(NODE, None, NODE)).map(dump))
def test_a_damaged_list_of_sponsorships_is_parsed_or_is_a_github_error(body: bytes) -> None:
    """All parsed values can be compared and stored; for example, each time has a zone."""
    with suppress(GitHubError):
        for each in sponsorships.parse_sponsorships(body).sponsorships:
            assert each.created_at.utcoffset() is not None
            assert each.tier_selected_at is None or each.tier_selected_at.utcoffset() is not None
            assert isinstance(each.is_active, bool)
            assert each.tier_cents is None or isinstance(each.tier_cents, int)


@given(body=_almost(organizations_answer(ORGANIZATION, None, errors=[FORBIDDEN])).map(dump))
def test_a_damaged_list_of_organizations_is_parsed_or_is_a_github_error(body: bytes) -> None:
    """All parsed values can be compared and stored."""
    with suppress(GitHubError):
        page = sponsorships.parse_organizations(body)
        assert all(isinstance(each.id, int) for each in page.organizations)
        assert all(each.login == each.login.lower() for each in page.organizations)


@given(body=_almost(sponsor_answer(SPONSOR)).map(dump))
def test_a_damaged_sponsor_is_parsed_or_is_a_github_error(body: bytes) -> None:
    """After a change of GitHub's API some values may have other types."""
    with suppress(GitHubError):
        answer = sponsorships.parse_sponsor(body)
        assert answer.viewer_login == answer.viewer_login.lower()
        assert answer.sponsor_id is None or isinstance(answer.sponsor_id, int)
        assert answer.sponsorship is None or answer.sponsorship.created_at.utcoffset() is not None
