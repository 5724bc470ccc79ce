"""Building requests to GitHub, checking statuses, and parsing profiles and addresses."""

import json

import httpx
import pytest

from sponsorsync.domain.errors import (
    GitHubError,
    GitHubLimitedError,
    GitHubRefusedError,
    GitHubTokenError,
    GitHubUnreachableError,
)
from sponsorsync.domain.profile import EmailAddress, GitHubAccount, GitHubUser
from sponsorsync.github import answers, people, requests
from tests.support.github_answers import EMAILS, NOW, NOW_S, USER, Json, dump

# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "more"), [("gho_1", {"Authorization": "Bearer gho_1"}), (None, {})]
)
def test_headers_have_the_version_and_the_token(token: str | None, more: dict[str, str]) -> None:
    """GitHub's answers differ between API versions, and it refuses an empty token."""
    assert requests.build_headers(token) == {
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2026-03-10",
        **more,
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
    """Arbitrary input must not change the requested path."""
    assert requests.build_account_path(login) == path


def test_one_sponsor_is_requested_by_node_id() -> None:
    """The login of the person may belong to another account by now."""
    assert requests.build_sponsor_request("U_1") == {
        "query": requests.MAINTAINER_SPONSOR,
        "variables": {"id": "U_1"},
    }


def test_a_page_is_requested_with_its_size_and_logins() -> None:
    """GitHub refuses a connection without `first`, though its schema does not say so."""
    query, variables = requests.VIEWER_SPONSORSHIPS, {"maintainerLogins": ["maintainer", "other"]}
    assert requests.build_page_request(query, variables, "Y3Vyc29y") == {
        "query": query,
        "variables": {
            "maintainerLogins": ["maintainer", "other"],
            "first": 100,
            "after": "Y3Vyc29y",
        },
    }


# --- statuses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_a_success_status_raises_nothing(status: int) -> None:
    """The caller parses the body after this check."""
    answers.check_status(status, {}, now=NOW)


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
    """A failure may be retried at once, a limit later, a refusal not at all."""
    with pytest.raises(GitHubError) as caught:
        answers.check_status(status, httpx.Headers(headers), now=NOW)

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
def test_a_limit_has_the_wait_of_its_headers(headers: dict[str, str], retry_after_s: int) -> None:
    """Retry-After is used first, then X-RateLimit-Reset, else a minute."""
    with pytest.raises(GitHubLimitedError) as caught:
        answers.check_status(429, httpx.Headers(headers), now=NOW)

    assert caught.value.retry_after_s == retry_after_s


# --- /user and /user/emails -----------------------------------------------------------------------


def test_a_profile_is_parsed() -> None:
    """The profile is the sample of GitHub's documentation."""
    assert people.parse_user(dump(USER)) == GitHubUser(
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
    """Both fields are nullable, and many people hide their address."""
    assert people.parse_user(dump(profile)) == GitHubUser(
        id=1, login="octocat", name=None, email=None, avatar_url=None
    )


@pytest.mark.parametrize("kind", ["User", "Organization"])
def test_an_account_is_parsed(kind: str) -> None:
    """The account is the sample of GitHub's documentation, as a person and an organization."""
    account = people.parse_account(dump({**USER, "type": kind}))

    assert account == GitHubAccount(id=1, login="octocat", node_id="MDQ6VXNlcjE=")


def test_addresses_are_parsed() -> None:
    """The addresses are the sample of GitHub's documentation, and a generated one."""
    assert people.parse_emails(dump(EMAILS)) == (
        EmailAddress("octocat@github.com", is_primary=True, is_verified=True),
        EmailAddress("octocat@users.noreply.github.com", is_primary=False, is_verified=True),
    )


@pytest.mark.parametrize("truthy", ["true", 1, {}, [0]])
def test_only_true_makes_an_address_verified(truthy: Json) -> None:
    """Another truthy value is no promise of GitHub that the address is verified."""
    body = json.dumps([{"email": "a@example.com", "primary": truthy, "verified": truthy}])

    [address] = people.parse_emails(body.encode())

    assert not address.is_primary
    assert not address.is_verified
