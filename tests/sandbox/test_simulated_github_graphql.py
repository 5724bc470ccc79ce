"""The simulated GraphQL API: pages and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.simulated_github import (
    MINE,
    RECEIVED,
    URL,
    ask,
    bearer,
    error_type,
    log_in,
    post_query,
    received,
    sponsors_on,
)

if TYPE_CHECKING:
    import httpx

    from sponsorsync.sandbox.github import SimulatedGitHub
    from tests.conftest import Clock


class TestPaging:
    """Connections of more than one page."""

    @pytest.fixture(autouse=True)
    def many_sponsors(self, github: SimulatedGitHub) -> None:
        """Two pages and a half."""
        for number in range(245):
            github.people.add_person(f"sponsor-{number:03}")
            github.people.sponsor(f"sponsor-{number:03}", "maintainer", days_ago=number + 500)

    async def test_all_pages_together_hold_each_sponsor_once(self, http: httpx.AsyncClient) -> None:
        """100 on a page at most, from one cursor to the next; 5 people by role sponsor too."""
        token = await log_in(http, "maintainer")
        first = await received(http, token, first=100)
        second = await received(http, token, first=100, after=first["pageInfo"]["endCursor"])
        third = await received(http, token, first=100, after=second["pageInfo"]["endCursor"])

        everyone = sponsors_on(first) + sponsors_on(second) + sponsors_on(third)
        assert [len(page["nodes"]) for page in (first, second, third)] == [100, 100, 50]
        assert len(set(everyone)) == first["totalCount"] == 250
        assert everyone[-1] == "sponsor-244"
        assert [page["pageInfo"]["hasNextPage"] for page in (first, second, third)] == [
            True,
            True,
            False,
        ]
        assert not first["pageInfo"]["hasPreviousPage"]
        assert second["pageInfo"]["hasPreviousPage"]

    async def test_backwards_it_is_the_same_list(self, http: httpx.AsyncClient) -> None:
        """`last` with `before` is the mirror image."""
        token = await log_in(http, "maintainer")
        last = await received(http, token, last=2)
        before = await received(http, token, last=2, before=last["pageInfo"]["startCursor"])

        assert sponsors_on(last) == ["sponsor-243", "sponsor-244"]
        assert sponsors_on(before) == ["sponsor-241", "sponsor-242"]

    async def test_the_order_can_be_turned(self, http: httpx.AsyncClient) -> None:
        """The service asks for CREATED_AT, as the default order means nothing."""
        token = await log_in(http, "maintainer")
        oldest = {"field": "CREATED_AT", "direction": "ASC"}
        page = await received(http, token, first=2, order=oldest)
        after = await received(
            http, token, first=1, order=oldest, after=page["pageInfo"]["endCursor"]
        )

        assert sponsors_on(page) + sponsors_on(after) == [
            "sponsor-244",
            "sponsor-243",
            "sponsor-242",
        ]

    async def test_a_sponsorship_that_ends_between_two_pages_skips_nobody(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """A cursor is a place in the order, not a count."""
        token = await log_in(http, "maintainer")
        page = await received(http, token, first=8)
        github.people.remove(sponsors_on(page)[-1])
        after = await received(http, token, first=1, after=page["pageInfo"]["endCursor"])

        assert sponsors_on(page)[-1] == "sponsor-002"
        assert sponsors_on(after) == ["sponsor-003"]

    async def test_an_empty_page_has_no_cursors(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """Null, where a naive client would go on from."""
        github.people.sponsorships.clear()
        page = await received(http, await log_in(http, "maintainer"), first=1)

        assert page == {
            "totalCount": 0,
            "nodes": [],
            "pageInfo": {
                "startCursor": None,
                "endCursor": None,
                "hasNextPage": False,
                "hasPreviousPage": False,
            },
        }

    @pytest.mark.parametrize(
        ("arguments", "kind"),
        [
            ({}, "MISSING_PAGINATION_BOUNDARIES"),
            ({"first": 101}, "EXCESSIVE_PAGINATION"),
            ({"last": 101}, "EXCESSIVE_PAGINATION"),
            ({"first": -1}, "INVALID_PAGINATION"),
            ({"first": 1, "last": 1}, "INVALID_PAGINATION"),
            ({"first": 1, "after": "abc"}, "INVALID_CURSOR_ARGUMENTS"),
            ({"first": 1, "after": "NTozCg=="}, "INVALID_CURSOR_ARGUMENTS"),
        ],
    )
    async def test_what_is_no_page_is_an_error(
        self, http: httpx.AsyncClient, arguments: dict[str, object], kind: str
    ) -> None:
        """The schema does not catch these: only the server does."""
        token = await log_in(http, "maintainer")

        assert await error_type(http, token, RECEIVED, **arguments) == kind


class TestGraphQLErrors:
    """Mistakes in the question."""

    async def test_an_invalid_query_is_200_with_errors(self, http: httpx.AsyncClient) -> None:
        """A field that does not exist, and a text that is no query."""
        token = await log_in(http, "monthly")
        unknown = await post_query(http, token, "{ viewer { sponsorshipsAsSponsor { login } } }")
        broken = await post_query(http, token, "{")
        missing = await http.post("/api/graphql", json={}, headers=bearer(token))

        assert [each.status_code for each in (unknown, broken, missing)] == [200, 200, 200]
        assert "Cannot query field 'login'" in unknown.json()["errors"][0]["message"]
        assert {"data"}.isdisjoint(unknown.json() | broken.json() | missing.json())

    @pytest.mark.parametrize(
        "query",
        [
            '{ user(login: "nobody-at-all") { id } }',
            '{ user(login: "sponsoring-org") { id } }',
            '{ organization(login: "monthly") { id } }',
            '{ node(id: "U_sim1") { id } }',
        ],
    )
    async def test_an_unknown_account_is_not_found(
        self, http: httpx.AsyncClient, query: str
    ) -> None:
        """Data and error come together, and an organization is no user."""
        response = await post_query(http, await log_in(http, "monthly"), query)

        (error,) = response.json()["errors"]
        assert error["type"] == "NOT_FOUND"
        assert error["path"] == [*response.json()["data"]]
        assert list(response.json()["data"].values()) == [None]

    async def test_a_query_with_a_bad_token_is_401(self, http: httpx.AsyncClient) -> None:
        """Unlike all other errors of GraphQL."""
        response = await post_query(http, "gho_wrong", MINE)

        assert response.status_code == 401
        assert response.json()["message"] == "Bad credentials"

    async def test_what_is_no_json_is_400(self, http: httpx.AsyncClient) -> None:
        """As GitHub says it."""
        response = await http.post(
            "/api/graphql", content=b"[]", headers=bearer(await log_in(http, "monthly"))
        )

        assert response.status_code == 400

    async def test_a_field_without_its_scope_fails_the_whole_query(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """No half answers: `data` is absent."""
        token = github.tokens.issue(github.people.get_person("monthly"), ["user:email"])

        response = await post_query(http, token, MINE)

        assert response.json().keys() == {"errors"}
        assert response.json()["errors"][0]["type"] == "INSUFFICIENT_SCOPES"

    async def test_a_defect_of_the_simulation_is_raised(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """It must not look like a null that GitHub sent."""
        github.people.sponsorships.append(None)  # type: ignore[arg-type]  # the defect
        token = await log_in(http, "monthly")

        with pytest.raises(AttributeError):
            await post_query(http, token, MINE)

    async def test_the_account_fields_and_the_rate_limit_are_there(
        self, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """All that is neither a sponsorship nor a page; an hour gives the points back."""
        query = """{ rateLimit { limit cost remaining used resetAt }
          viewer { id login name email avatarUrl(size: 40) url resourcePath isViewer createdAt }
        }"""
        token = await log_in(http, "monthly")
        await ask(http, token, query)
        clock.advance(hours=1)
        data = await ask(http, token, query)

        assert data == {
            "rateLimit": {
                "limit": 5000,
                "cost": 1,
                "remaining": 4999,
                "used": 1,
                "resetAt": "2026-11-20T14:00:00Z",
            },
            "viewer": {
                "id": "U_sim48210377",
                "login": "monthly",
                "name": "Monthly sponsor",
                "email": "monthly@example.com",
                "avatarUrl": f"{URL}/avatars/48210377",
                "url": f"{URL}/monthly",
                "resourcePath": "/monthly",
                "isViewer": True,
                "createdAt": "2018-09-03T12:00:00Z",
            },
        }

    async def test_a_users_organization_is_found_by_login(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The short way to ask for membership."""
        token = github.tokens.issue(github.people.get_person("org-member"))
        data = await ask(
            http,
            token,
            """{ viewer { member: organization(login: "Sponsoring-Org") { databaseId }
                 other: organization(login: "elsewhere") { databaseId } } }""",
        )

        assert data["viewer"] == {"member": {"databaseId": 17_562_948}, "other": None}
