"""The simulated REST API of GitHub: users, accounts, addresses and the revocation."""

import pytest

from tests.support.simulated_github import URL, GitHubClient, basic, bearer


async def test_user_has_the_fields_of_the_real_one(http: GitHubClient) -> None:
    """The service identifies a person by the number `id`."""
    token = await http.log_in("monthly")

    response = await http.get("/api/user", headers=bearer(token))

    user = response.json()
    assert response.status_code == 200
    assert (user["login"], user["id"], user["type"]) == ("monthly", 48_210_377, "User")
    assert user["avatar_url"] == f"{URL}/avatars/48210377"
    assert user["created_at"] == "2018-09-03T12:00:00Z"
    assert response.headers["x-ratelimit-limit"] == "5000"
    assert response.headers["x-ratelimit-remaining"] == "4999"
    assert response.headers["x-oauth-scopes"] == "read:user, user:email"


async def test_the_stranger_hides_name_and_address(http: GitHubClient) -> None:
    """The address of this person is in /user/emails only."""
    token = await http.log_in("stranger")

    user = (await http.get("/api/user", headers=bearer(token))).json()
    emails = (await http.get("/api/user/emails", headers=bearer(token))).json()

    assert (user["name"], user["email"]) == (None, None)
    assert emails == [
        {
            "email": "stranger@example.com",
            "primary": True,
            "verified": True,
            "visibility": "private",
        }
    ]


async def test_emails_need_their_scope(http: GitHubClient) -> None:
    """A person may grant fewer scopes; GitHub then answers 404."""
    token = http.issue_token("monthly", ["read:user"])

    assert (await http.get("/api/user/emails", headers=bearer(token))).status_code == 404


async def test_an_account_is_found_by_its_number_after_a_rename(http: GitHubClient) -> None:
    """Another account has registered the freed login."""
    token = bearer(await http.log_in("monthly"))
    http.github.people.rename("one-time", "renamed")
    newcomer = http.github.people.add_person("one-time")

    by_id = (await http.get("/api/user/61904882", headers=token)).json()
    by_login = (await http.get("/api/users/one-time", headers=token)).json()

    assert (by_id["login"], by_id["node_id"]) == ("renamed", "U_sim61904882")
    assert (by_login["id"], by_login["type"]) == (newcomer.database_id, "User")


@pytest.mark.parametrize("path", ["/api/users/Sponsoring-ORG", "/api/user/17562948"])
async def test_an_account_can_be_looked_up_without_a_token(http: GitHubClient, path: str) -> None:
    """GitHub allows sixty such requests an hour; the letter case does not matter."""
    response = await http.get(path)

    account = response.json()
    assert (account["login"], account["id"]) == ("sponsoring-org", 17_562_948)
    assert (account["type"], account["node_id"]) == ("Organization", "O_sim17562948")
    assert response.headers["x-ratelimit-limit"] == "60"


@pytest.mark.parametrize(
    "path", ["/api/user/1", "/api/users/nobody-at-all", "/api/users/a%2Fb", "/api/users/%2E%2E"]
)
async def test_a_missing_account_is_404(http: GitHubClient, path: str) -> None:
    """A login with special characters must not lead to another path."""
    token = bearer(await http.log_in("monthly"))

    assert (await http.get(path)).status_code == 404
    assert (await http.get(path, headers=token)).status_code == 404


@pytest.mark.parametrize("path", ["/api/user/48210377", "/api/users/monthly"])
async def test_a_bad_token_and_the_limits_hold_also_for_public_accounts(
    http: GitHubClient, path: str
) -> None:
    """A request with a bad token is refused, although it would be allowed without a token."""
    bad = await http.get(path, headers=bearer("gho_wrong"))
    http.github.switches.rate_limited = True
    limited = await http.get(path)
    http.github.switches.secondary_limit = True
    limited_again = await http.get(path)
    del http.headers["user-agent"]
    nameless = await http.get(path)

    assert [bad.status_code, limited.status_code] == [401, 403]
    assert [limited_again.status_code, nameless.status_code] == [429, 403]
    assert limited.headers["x-ratelimit-remaining"] == "0"
    assert limited.headers["retry-after"] == "60"


@pytest.mark.parametrize("path", ["/api/user", "/api/user/emails"])
@pytest.mark.parametrize("headers", [{}, bearer("gho_wrong"), {"Authorization": "Basic x"}])
async def test_a_bad_token_is_401(http: GitHubClient, path: str, headers: dict[str, str]) -> None:
    """A token that was revoked gets the same answer."""
    response = await http.get(path, headers=headers)

    assert response.status_code == 401
    assert response.json()["message"] == "Bad credentials"


async def test_a_user_agent_is_required(http: GitHubClient) -> None:
    """GitHub refuses requests without a User-Agent."""
    token = await http.log_in("monthly")
    del http.headers["user-agent"]

    response = await http.get("/api/user", headers=bearer(token))

    assert response.status_code == 403
    assert "User-Agent" in response.json()["message"]


async def test_an_unknown_api_version_is_refused(http: GitHubClient) -> None:
    """Otherwise a mistake in the version header would be noticed only at GitHub."""
    token = await http.log_in("monthly")
    headers = {**bearer(token), "X-GitHub-Api-Version": "2026-13-01"}

    assert (await http.get("/api/user", headers=headers)).status_code == 400


async def test_the_simulation_refuses_a_revoked_token(http: GitHubClient) -> None:
    """Other tests use this to show that the service revokes tokens."""
    token = await http.log_in("monthly")
    path = "/api/applications/the-client/token"

    first = await http.request("DELETE", path, json={"access_token": token}, headers=basic())
    again = await http.request("DELETE", path, json={"access_token": token}, headers=basic())

    assert (first.status_code, again.status_code) == (204, 404)
    assert http.github.tokens.live() == []
    assert (await http.get("/api/user", headers=bearer(token))).status_code == 401


@pytest.mark.parametrize(
    ("client_id", "headers", "content", "status"),
    [
        ("the-client", {}, b"{}", 401),
        ("the-client", {"Authorization": "Basic !"}, b"{}", 401),
        ("the-client", basic("the-client:wrong"), b"{}", 401),
        ("another", basic(), b"{}", 404),
        ("the-client", basic(), b"{}", 422),
        ("the-client", basic(), b"no json", 400),
    ],
)
async def test_a_revocation_needs_the_apps_credentials_and_a_token(
    http: GitHubClient, client_id: str, headers: dict[str, str], content: bytes, status: int
) -> None:
    """Without the credentials or the token, nothing is revoked."""
    response = await http.request(
        "DELETE", f"/api/applications/{client_id}/token", content=content, headers=headers
    )

    assert response.status_code == status


async def test_the_tokens_of_a_deleted_account_are_dead(http: GitHubClient) -> None:
    """An account that registers the freed login is a new one."""
    token = await http.log_in("monthly")
    http.github.people.remove("monthly")
    newcomer = http.github.people.add_person("monthly")

    assert (await http.get("/api/user", headers=bearer(token))).status_code == 401
    assert newcomer.database_id != 48_210_377
    assert http.github.people.sponsorships_of(newcomer) == []
