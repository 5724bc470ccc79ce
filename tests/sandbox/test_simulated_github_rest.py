"""The simulated REST API: users, accounts, addresses and the revocation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.simulated_github import (
    URL,
    basic,
    bearer,
    log_in,
)

if TYPE_CHECKING:
    import httpx

    from sponsorsync.sandbox.github import SimulatedGitHub


class TestRest:
    """`/user`, `/user/emails` and the revocation."""

    async def test_user_has_the_fields_of_the_real_one(self, http: httpx.AsyncClient) -> None:
        """Names, types and the number the service keys on."""
        token = await log_in(http, "monthly")

        response = await http.get("/api/user", headers=bearer(token))

        user = response.json()
        assert response.status_code == 200
        assert (user["login"], user["id"], user["type"]) == ("monthly", 48_210_377, "User")
        assert user["avatar_url"] == f"{URL}/avatars/48210377"
        assert user["created_at"] == "2018-09-03T12:00:00Z"
        assert response.headers["x-ratelimit-limit"] == "5000"
        assert response.headers["x-ratelimit-remaining"] == "4999"
        assert response.headers["x-oauth-scopes"] == "read:user, user:email"

    async def test_the_stranger_hides_name_and_address(self, http: httpx.AsyncClient) -> None:
        """Both are nullable at GitHub; the address is then in /user/emails alone."""
        token = await log_in(http, "stranger")

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

    async def test_emails_need_their_scope(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The person may have granted less than was asked for; GitHub says 404 then."""
        token = github.tokens.issue(github.people.get_person("monthly"), ["read:user"])

        response = await http.get("/api/user/emails", headers=bearer(token))

        assert response.status_code == 404

    async def test_an_account_is_found_by_its_number_under_whatever_login(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The number survives a rename, and the freed login can be somebody else's."""
        token = bearer(await log_in(http, "monthly"))
        github.people.rename("one-time", "renamed")
        newcomer = github.people.add_person("one-time")

        by_id = (await http.get("/api/user/61904882", headers=token)).json()
        by_login = (await http.get("/api/users/one-time", headers=token)).json()

        assert (by_id["login"], by_id["node_id"]) == ("renamed", "U_sim61904882")
        assert (by_login["id"], by_login["type"]) == (newcomer.database_id, "User")

    @pytest.mark.parametrize("path", ["/api/users/Sponsoring-ORG", "/api/user/17562948"])
    async def test_anybody_may_look_up_an_account_without_a_token(
        self, http: httpx.AsyncClient, path: str
    ) -> None:
        """Organizations alike, and a login has no case; sixty times an hour at GitHub."""
        response = await http.get(path)

        account = response.json()
        assert (account["login"], account["id"]) == ("sponsoring-org", 17_562_948)
        assert (account["type"], account["node_id"]) == ("Organization", "O_sim17562948")
        assert response.headers["x-ratelimit-limit"] == "60"

    @pytest.mark.parametrize(
        "path",
        ["/api/user/1", "/api/users/nobody-at-all", "/api/users/a%2Fb", "/api/users/%2E%2E"],
    )
    async def test_an_account_that_is_not_there_is_404(
        self, http: httpx.AsyncClient, path: str
    ) -> None:
        """With a token and without; a login that cannot be one leads nowhere else."""
        token = bearer(await log_in(http, "monthly"))

        assert (await http.get(path)).status_code == 404
        assert (await http.get(path, headers=token)).status_code == 404

    @pytest.mark.parametrize("path", ["/api/user/48210377", "/api/users/monthly"])
    async def test_a_bad_token_is_worse_than_none(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, path: str
    ) -> None:
        """Whoever shows one is judged by it; the limits hold for all."""
        bad = await http.get(path, headers=bearer("gho_wrong"))
        github.switches.rate_limited = True
        limited = await http.get(path)
        github.switches.secondary_limit = True
        limited_again = await http.get(path)
        del http.headers["user-agent"]
        nameless = await http.get(path)

        assert [bad.status_code, limited.status_code] == [401, 403]
        assert [limited_again.status_code, nameless.status_code] == [429, 403]
        assert limited.headers["x-ratelimit-remaining"] == "0"
        assert limited.headers["retry-after"] == "60"

    @pytest.mark.parametrize("path", ["/api/user", "/api/user/emails"])
    @pytest.mark.parametrize("headers", [{}, bearer("gho_wrong"), {"Authorization": "Basic x"}])
    async def test_a_bad_token_is_401(
        self, http: httpx.AsyncClient, path: str, headers: dict[str, str]
    ) -> None:
        """A revoked token is an everyday case."""
        response = await http.get(path, headers=headers)

        assert response.status_code == 401
        assert response.json()["message"] == "Bad credentials"

    async def test_a_user_agent_is_required(self, http: httpx.AsyncClient) -> None:
        """GitHub refuses a request without one, so the service must not get used to it."""
        token = await log_in(http, "monthly")
        del http.headers["user-agent"]

        response = await http.get("/api/user", headers=bearer(token))

        assert response.status_code == 403
        assert "User-Agent" in response.json()["message"]

    async def test_an_unknown_api_version_is_refused(self, http: httpx.AsyncClient) -> None:
        """A typing error in the version header would otherwise show only at GitHub."""
        token = await log_in(http, "monthly")
        headers = {**bearer(token), "X-GitHub-Api-Version": "2026-13-01"}

        assert (await http.get("/api/user", headers=headers)).status_code == 400

    async def test_the_simulation_refuses_a_token_that_was_revoked(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The service promises to revoke what it needs no more; this is how it is proven."""
        token = await log_in(http, "monthly")
        path = "/api/applications/the-client/token"

        first = await http.request("DELETE", path, json={"access_token": token}, headers=basic())
        again = await http.request("DELETE", path, json={"access_token": token}, headers=basic())

        assert (first.status_code, again.status_code) == (204, 404)
        assert github.tokens.live() == []
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
        self,
        http: httpx.AsyncClient,
        client_id: str,
        headers: dict[str, str],
        content: bytes,
        status: int,
    ) -> None:
        """Anything less leaves every token alive."""
        response = await http.request(
            "DELETE", f"/api/applications/{client_id}/token", content=content, headers=headers
        )

        assert response.status_code == status

    async def test_the_tokens_of_a_deleted_account_are_dead(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """And whoever takes the freed login is somebody else."""
        token = await log_in(http, "monthly")
        github.people.remove("monthly")
        newcomer = github.people.add_person("monthly")

        assert (await http.get("/api/user", headers=bearer(token))).status_code == 401
        assert newcomer.database_id != 48_210_377
        assert github.people.sponsorships_of(newcomer) == []
