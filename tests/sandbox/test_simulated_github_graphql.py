"""The simulated GraphQL API of GitHub: pages and errors."""

import pytest

from tests.conftest import Clock
from tests.support.simulated_github import MINE, RECEIVED, URL, GitHubClient, bearer, sponsors_on


class TestPaging:
    """Connections of more than one page."""

    @pytest.fixture
    async def token(self, http: GitHubClient) -> str:
        """A token of the maintainer, whose sponsors fill two pages and a half."""
        for number in range(245):
            http.github.people.add_person(f"sponsor-{number:03}")
            http.github.people.sponsor(f"sponsor-{number:03}", "maintainer", days_ago=number + 500)
        return await http.log_in("maintainer")

    async def test_all_pages_together_hold_each_sponsor_once(
        self, http: GitHubClient, token: str
    ) -> None:
        """A page has 100 items at most; five of the usual people are sponsors, too."""
        first = await http.received(token, first=100)
        second = await http.received(token, first=100, after=first["pageInfo"]["endCursor"])
        third = await http.received(token, first=100, after=second["pageInfo"]["endCursor"])

        everyone = sponsors_on(first) + sponsors_on(second) + sponsors_on(third)
        assert [len(page["nodes"]) for page in (first, second, third)] == [100, 100, 50]
        assert len(set(everyone)) == first["totalCount"] == 250
        assert everyone[-1] == "sponsor-244"
        has_next = [page["pageInfo"]["hasNextPage"] for page in (first, second, third)]
        assert has_next == [True, True, False]
        assert not first["pageInfo"]["hasPreviousPage"]
        assert second["pageInfo"]["hasPreviousPage"]

    async def test_last_with_before_pages_backwards_over_the_same_list(
        self, http: GitHubClient, token: str
    ) -> None:
        """A client may read the list from its end."""
        last = await http.received(token, last=2)
        before = await http.received(token, last=2, before=last["pageInfo"]["startCursor"])

        assert sponsors_on(last) == ["sponsor-243", "sponsor-244"]
        assert sponsors_on(before) == ["sponsor-241", "sponsor-242"]

    async def test_sponsorships_can_be_ordered_from_the_oldest(
        self, http: GitHubClient, token: str
    ) -> None:
        """The service orders by CREATED_AT, since GitHub's default order is undefined."""
        oldest = {"field": "CREATED_AT", "direction": "ASC"}
        page = await http.received(token, first=2, order=oldest)
        end = page["pageInfo"]["endCursor"]
        after = await http.received(token, first=1, order=oldest, after=end)

        assert sponsors_on(page) == ["sponsor-244", "sponsor-243"]
        assert sponsors_on(after) == ["sponsor-242"]

    async def test_a_sponsorship_that_ends_between_two_pages_skips_nobody(
        self, http: GitHubClient, token: str
    ) -> None:
        """A cursor marks a place in the order, and not a number of items."""
        page = await http.received(token, first=8)
        http.github.people.remove(sponsors_on(page)[-1])
        after = await http.received(token, first=1, after=page["pageInfo"]["endCursor"])

        assert sponsors_on(page)[-1] == "sponsor-002"
        assert sponsors_on(after) == ["sponsor-003"]

    async def test_an_empty_page_has_no_cursors(self, http: GitHubClient, token: str) -> None:
        """A naive client would request the next page with such a cursor."""
        http.github.people.sponsorships.clear()
        page = await http.received(token, first=1)

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
    async def test_wrong_paging_arguments_are_an_error(
        self, http: GitHubClient, token: str, arguments: dict[str, object], kind: str
    ) -> None:
        """The schema allows these arguments; GitHub's server refuses them."""
        assert await http.error_type(token, RECEIVED, **arguments) == kind


async def test_an_invalid_query_is_200_with_errors(http: GitHubClient) -> None:
    """GraphQL reports an unknown field and a syntax error in the body."""
    token = await http.log_in("monthly")
    unknown = await http.post_query(token, "{ viewer { sponsorshipsAsSponsor { login } } }")
    broken = await http.post_query(token, "{")
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
async def test_an_unknown_account_is_not_found(http: GitHubClient, query: str) -> None:
    """The answer has data and an error; an organization is not found as a user."""
    response = await http.post_query(await http.log_in("monthly"), query)

    (error,) = response.json()["errors"]
    assert error["type"] == "NOT_FOUND"
    assert error["path"] == [*response.json()["data"]]
    assert list(response.json()["data"].values()) == [None]


async def test_a_query_with_a_bad_token_is_401(http: GitHubClient) -> None:
    """GraphQL's other errors have status 200."""
    response = await http.post_query("gho_wrong", MINE)

    assert response.status_code == 401
    assert response.json()["message"] == "Bad credentials"


async def test_a_query_that_is_no_json_object_is_400(http: GitHubClient) -> None:
    """GitHub answers such a body with status 400."""
    headers = bearer(await http.log_in("monthly"))

    assert (await http.post("/api/graphql", content=b"[]", headers=headers)).status_code == 400


async def test_a_field_without_its_scope_fails_the_whole_query(http: GitHubClient) -> None:
    """GitHub sends no partial answer then: `data` is absent."""
    token = http.issue_token("monthly", ["user:email"])

    response = await http.post_query(token, MINE)

    assert response.json().keys() == {"errors"}
    assert response.json()["errors"][0]["type"] == "INSUFFICIENT_SCOPES"


async def test_a_defect_of_the_simulation_is_raised(http: GitHubClient) -> None:
    """An exception in the simulation must not look like a null from GitHub."""
    http.github.people.sponsorships.append(None)  # type: ignore[arg-type]  # the defect
    token = await http.log_in("monthly")

    with pytest.raises(AttributeError):
        await http.post_query(token, MINE)


async def test_account_fields_and_rate_limit_can_be_queried(
    http: GitHubClient, clock: Clock
) -> None:
    """The used points are reset after an hour."""
    query = """{ rateLimit { limit cost remaining used resetAt }
      viewer { id login name email avatarUrl(size: 40) url resourcePath isViewer createdAt }
    }"""
    token = await http.log_in("monthly")
    await http.ask(token, query)
    clock.advance(hours=1)
    data = await http.ask(token, query)

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


async def test_a_users_organization_is_found_by_login(http: GitHubClient) -> None:
    """This is the shortest query for one membership."""
    token = http.issue_token("org-member")
    data = await http.ask(
        token,
        """{ viewer { member: organization(login: "Sponsoring-Org") { databaseId }
             other: organization(login: "elsewhere") { databaseId } } }""",
    )

    assert data["viewer"] == {"member": {"databaseId": 17_562_948}, "other": None}
