"""The simulated GitHub answers as GitHub does, else what is tested against it proves nothing."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.hooks import Hook
from sponsorsync.sandbox.oauth import challenge_for
from sponsorsync.sandbox.recording import Requests

URL = "http://github.test"
CALLBACK = "http://service.test/oauth2/callback"
VERIFIER = "a-verifier-of-the-forty-three-characters-of-7636"
SCOPE = "read:user user:email"

MINE = """
query ($logins: [String!], $activeOnly: Boolean = true) {
  viewer {
    databaseId
    sponsorshipsAsSponsor(first: 100, activeOnly: $activeOnly, maintainerLogins: $logins) {
      totalCount
      nodes {
        isActive isOneTimePayment privacyLevel paymentSource createdAt tierSelectedAt
        tier { monthlyPriceInCents isOneTime name }
        sponsorable { __typename ... on Actor { login } ... on User { databaseId } }
      }
    }
  }
}
"""

RECEIVED = """
query ($first: Int, $last: Int, $after: String, $before: String, $private: Boolean = true,
       $order: SponsorshipOrder = {field: CREATED_AT, direction: DESC}) {
  user(login: "Maintainer") {
    sponsorshipsAsMaintainer(first: $first, last: $last, after: $after, before: $before,
                             includePrivate: $private, orderBy: $order) {
      totalCount
      pageInfo { startCursor endCursor hasNextPage hasPreviousPage }
      nodes { tier { monthlyPriceInCents } sponsorEntity { ... on Actor { login } } }
    }
  }
}
"""


@dataclass
class Clock:
    """A time that moves only when a test says so."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 20, 12, tzinfo=UTC))

    def __call__(self) -> datetime:
        """What time it is."""
        return self.now

    def advance(self, **step: float) -> None:
        """Let time pass."""
        self.now += timedelta(**step)


@pytest.fixture
def clock() -> Clock:
    """A fixed day in November."""
    return Clock()


@pytest.fixture
def github(clock: Clock) -> SimulatedGitHub:
    """The simulation with its people by role."""
    return SimulatedGitHub(
        client_id="the-client",
        client_secret="the-secret",
        redirect_uris=[CALLBACK],
        url=URL,
        now=clock,
    )


@pytest.fixture
async def http(github: SimulatedGitHub) -> AsyncIterator[httpx.AsyncClient]:
    """Both the browser and the service; redirects are not followed."""
    transport = httpx.ASGITransport(app=github.app)
    async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
        yield client


async def authorize(http: httpx.AsyncClient, **query: str) -> httpx.Response:
    """Send a browser with the usual request, changed by `query`."""
    usual = {
        "client_id": "the-client",
        "redirect_uri": CALLBACK,
        "scope": SCOPE,
        "state": "the-state",
        "code_challenge": challenge_for(VERIFIER),
        "code_challenge_method": "S256",
    }
    return await http.get("/login/oauth/authorize", params={**usual, **query})


async def obtain_code(http: httpx.AsyncClient, login: str, **query: str) -> str:
    """The code with which the browser comes back after choosing `login`."""
    return came_back_with(await authorize(http, login=login, **query))["code"]


async def exchange(http: httpx.AsyncClient, code: str, /, **form: str) -> dict[str, str]:
    """Exchange a code with the usual form, changed by `form`."""
    usual = {
        "client_id": "the-client",
        "client_secret": "the-secret",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    response = await http.post(
        "/login/oauth/access_token",
        data={**usual, **form},
        headers={"Accept": "application/json"},
    )
    assert response.status_code == 200
    answer: dict[str, str] = response.json()
    return answer


async def log_in(http: httpx.AsyncClient, login: str) -> str:
    """An access token of `login`, through the whole web flow."""
    return (await exchange(http, await obtain_code(http, login)))["access_token"]


async def post_query(
    http: httpx.AsyncClient, token: str, query: str, **variables: object
) -> httpx.Response:
    """Send a GraphQL query."""
    return await http.post(
        "/api/graphql",
        json={"query": query, "variables": variables},
        headers={"Authorization": f"Bearer {token}"},
    )


async def ask(
    http: httpx.AsyncClient, token: str, query: str, **variables: object
) -> dict[str, Any]:
    """The data of a query that GitHub answers without any error."""
    response = await post_query(http, token, query, **variables)
    assert response.status_code == 200
    body = response.json()
    assert "errors" not in body, body["errors"]
    data: dict[str, Any] = body["data"]
    return data


async def given(http: httpx.AsyncClient, token: str, **variables: object) -> list[Any]:
    """The sponsorships the token's person gives."""
    data = await ask(http, token, MINE, **variables)
    nodes: list[Any] = data["viewer"]["sponsorshipsAsSponsor"]["nodes"]
    return nodes


async def received(http: httpx.AsyncClient, token: str, **variables: object) -> dict[str, Any]:
    """One page of what the maintainer receives."""
    data = await ask(http, token, RECEIVED, **variables)
    page: dict[str, Any] = data["user"]["sponsorshipsAsMaintainer"]
    return page


async def error_type(http: httpx.AsyncClient, token: str, query: str, **variables: object) -> str:
    """The type of the first error of a query."""
    response = await post_query(http, token, query, **variables)
    assert response.status_code == 200
    kind: str = response.json()["errors"][0]["type"]
    return kind


def sponsors_on(page: dict[str, Any]) -> list[str]:
    """The logins on a page of what the maintainer receives."""
    return [node["sponsorEntity"]["login"] for node in page["nodes"]]


def came_back_with(response: httpx.Response) -> dict[str, str]:
    """What the browser carries back to the registered callback."""
    assert response.status_code == 302
    parts = urlsplit(response.headers["location"])
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == CALLBACK
    return {name: values[0] for name, values in parse_qs(parts.query).items()}


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def basic(credentials: str = "the-client:the-secret") -> dict[str, str]:
    """The header that shows the app's own credentials."""
    return {"Authorization": "Basic " + b64encode(credentials.encode()).decode()}


class TestAuthorizePage:
    """Where the browser is sent to."""

    async def test_offers_each_person_and_says_that_it_is_a_simulation(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """Nobody may take this page for GitHub, and everybody must see whom to choose."""
        page = await authorize(http)

        assert page.status_code == 200
        assert "SIMULATION of GitHub" in page.text
        assert [person.login for person in github.people if person.about not in page.text] == []

    async def test_a_link_on_it_chooses_with_everything_carried_over(
        self, http: httpx.AsyncClient
    ) -> None:
        """A state that is hurt on the way would fail the service's own check."""
        state = "a&b=\"'<c>+ %/é"
        page = await authorize(http, state=state)
        link = page.text.split('class="person" href="')[2].split('"')[0].replace("&amp;", "&")

        back = came_back_with(await http.get("/login/oauth/authorize" + link))

        assert back["state"] == state
        assert back["code"]

    async def test_escapes_what_the_address_says(self, http: httpx.AsyncClient) -> None:
        """The page shows the address's own words, which anybody can write."""
        page = await authorize(http, login="<script>", scope="<script>", state='"><script>')

        assert "<script>" not in page.text
        assert "There is no person called <code>&lt;script&gt;</code>" in page.text

    async def test_a_known_login_is_chosen_at_once(self, http: httpx.AsyncClient) -> None:
        """So a script or a test logs in with one request; case does not matter to GitHub."""
        back = came_back_with(await authorize(http, login="Monthly"))

        assert set(back) == {"code", "state", "iss"}
        assert back["state"] == "the-state"
        assert back["iss"] == f"{URL}/login/oauth"

    async def test_select_account_shows_the_page_in_spite_of_a_login(
        self, http: httpx.AsyncClient
    ) -> None:
        """With prompt=select_account GitHub asks, whoever is logged in there."""
        page = await authorize(http, login="monthly", prompt="select_account")

        assert page.status_code == 200
        assert "There is no person called" not in page.text

    async def test_the_denier_denies(self, http: httpx.AsyncClient) -> None:
        """Refusing consent is a path of its own through the service."""
        back = came_back_with(await authorize(http, login="denier"))

        assert back["error"] == "access_denied"
        assert back["error_description"] == "The user has denied your application access."
        assert back["error_uri"].endswith("#access-denied")
        assert back["state"] == "the-state"

    async def test_an_unknown_client_gets_a_404_page(self, http: httpx.AsyncClient) -> None:
        """There is no callback to send the browser to."""
        page = await authorize(http, client_id="another")

        assert page.status_code == 404
        assert "SIMULATION of GitHub" in page.text

    async def test_a_foreign_redirect_uri_is_never_followed(self, http: httpx.AsyncClient) -> None:
        """An open redirect would leak codes; GitHub uses the registered callback."""
        back = came_back_with(await authorize(http, redirect_uri="http://evil.test/"))

        assert back["error"] == "redirect_uri_mismatch"
        assert back["state"] == "the-state"

    async def test_a_challenge_that_is_not_s256_is_refused(self, http: httpx.AsyncClient) -> None:
        """GitHub knows no plain PKCE."""
        back = came_back_with(await authorize(http, code_challenge_method="plain"))

        assert back["error"] == "invalid_request"

    @pytest.mark.parametrize(
        ("iss", "issuer"), [("absent", None), ("wrong", "https://issuer.invalid/login/oauth")]
    )
    async def test_the_issuer_can_be_absent_or_wrong(
        self, http: httpx.AsyncClient, iss: str, issuer: str | None
    ) -> None:
        """GitHub has sent it on and off, and a wrong one is an attack."""
        await http.put("/switches", json={"iss": iss})

        back = came_back_with(await authorize(http, login="monthly"))

        assert back.get("iss") == issuer


class TestTokenEndpoint:
    """Where a code becomes an access token."""

    async def test_a_code_becomes_a_token_with_the_granted_scopes(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The answer's scopes are separated by commas, the request's were by blanks."""
        answer = await exchange(http, await obtain_code(http, "monthly"))

        assert answer["token_type"] == "bearer"
        assert answer["scope"] == "read:user,user:email"
        assert [token.token for token in github.tokens.live()] == [answer["access_token"]]

    async def test_an_unknown_scope_is_not_granted(self, http: httpx.AsyncClient) -> None:
        """`read:email` does not exist, and a service that asks for it has to notice."""
        code = await obtain_code(http, "monthly", scope="read:user read:email")

        assert (await exchange(http, code))["scope"] == "read:user"

    async def test_the_answer_is_form_encoded_unless_json_is_asked_for(
        self, http: httpx.AsyncClient
    ) -> None:
        """GitHub's default; a client that forgets its Accept header must fail here too."""
        response = await http.post("/login/oauth/access_token", data={"client_id": "another"})

        assert response.headers["content-type"].startswith("application/x-www-form-urlencoded")
        assert parse_qs(response.text)["error"] == ["incorrect_client_credentials"]

    @pytest.mark.parametrize(
        ("form", "error"),
        [
            ({"client_secret": "wrong"}, "incorrect_client_credentials"),
            ({"client_id": "wrong"}, "incorrect_client_credentials"),
            ({"code": "wrong"}, "bad_verification_code"),
            ({"redirect_uri": "http://evil.test/"}, "redirect_uri_mismatch"),
            ({"code_verifier": "wrong"}, "bad_verification_code"),
            ({"code_verifier": ""}, "bad_verification_code"),
        ],
    )
    async def test_whoever_cannot_prove_it_gets_no_token(
        self,
        http: httpx.AsyncClient,
        github: SimulatedGitHub,
        form: dict[str, str],
        error: str,
    ) -> None:
        """Each proof counts by itself, and GitHub says so with HTTP 200."""
        answer = await exchange(http, await obtain_code(http, "monthly"), **form)

        assert answer["error"] == error
        assert answer.keys() == {"error", "error_description", "error_uri"}
        assert github.tokens.live() == []

    async def test_a_code_is_good_once(self, http: httpx.AsyncClient) -> None:
        """A replayed callback must not log anybody in."""
        code = await obtain_code(http, "monthly")
        await exchange(http, code)

        assert (await exchange(http, code))["error"] == "bad_verification_code"

    async def test_a_code_lives_ten_minutes(self, http: httpx.AsyncClient, clock: Clock) -> None:
        """A tab that was left open is a case the service has to word."""
        code = await obtain_code(http, "monthly")
        clock.advance(minutes=10, seconds=1)

        assert (await exchange(http, code))["error"] == "bad_verification_code"

    async def test_without_a_challenge_no_verifier_is_needed(self, http: httpx.AsyncClient) -> None:
        """PKCE is optional at GitHub."""
        code = await obtain_code(http, "monthly", code_challenge="")

        assert "access_token" in await exchange(http, code, code_verifier="")


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

    async def test_a_revoked_token_is_dead(
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


class TestPeopleByRole:
    """What GraphQL tells of each person that one can log in as."""

    async def test_monthly(self, http: httpx.AsyncClient) -> None:
        """The plain case, with every field the service reads."""
        (sponsorship,) = await given(http, await log_in(http, "monthly"))

        assert sponsorship == {
            "isActive": True,
            "isOneTimePayment": False,
            "privacyLevel": "PUBLIC",
            "paymentSource": "GITHUB",
            "createdAt": "2025-10-16T12:00:00Z",
            "tierSelectedAt": "2025-10-16T12:00:00Z",
            "tier": {"monthlyPriceInCents": 1000, "isOneTime": False, "name": "$10 a month"},
            "sponsorable": {
                "__typename": "User",
                "login": "maintainer",
                "databaseId": 36_107_525,
            },
        }

    async def test_every_field_of_a_sponsorship_can_be_read(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The schema promises them, so none may end in a defect."""
        (monthly,) = github.people.sponsorships_of(github.people.get("monthly"))
        data = await ask(
            http,
            await log_in(http, "monthly"),
            """{ repositoryOwner(login: "maintainer") { ... on Sponsorable {
                 sponsorshipForViewerAsSponsor {
                   id isSponsorOptedIntoEmail sponsorEntity { ... on Node { id } }
                   tier { id name description isCustomAmount monthlyPriceInDollars } } } } }""",
        )

        assert data["repositoryOwner"]["sponsorshipForViewerAsSponsor"] == {
            "id": monthly.id,
            "isSponsorOptedIntoEmail": None,
            "sponsorEntity": {"id": "U_sim48210377"},
            "tier": {
                "id": "ST_sim1000m",
                "name": "$10 a month",
                "description": "$10 a month",
                "isCustomAmount": False,
                "monthlyPriceInDollars": 10,
            },
        }

    async def test_one_time_is_active_for_a_month(
        self, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """Then it is gone from the default list without any event, but not from the full one."""
        token = await log_in(http, "one-time")
        before = await given(http, token)
        clock.advance(days=25)

        assert [each["isOneTimePayment"] for each in before] == [True]
        assert await given(http, token) == []
        assert [each["isActive"] for each in await given(http, token, activeOnly=False)] == [False]

    async def test_private_is_seen_by_both_sides_alone(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The maintainer has to ask for it by includePrivate, others never see it."""
        own = await given(http, await log_in(http, "private"))
        maintainer, other = await log_in(http, "maintainer"), await log_in(http, "monthly")

        assert [each["privacyLevel"] for each in own] == ["PRIVATE"]
        assert "private" in sponsors_on(await received(http, maintainer, first=100))
        assert "private" not in sponsors_on(
            await received(http, maintainer, first=100, private=False)
        )
        assert "private" not in sponsors_on(await received(http, other, first=100))
        github.switches.own_private_hidden = True
        assert await given(http, await log_in(http, "private")) == []

    async def test_former_is_listed_only_when_asked_for(self, http: httpx.AsyncClient) -> None:
        """`activeOnly` is true unless the query says otherwise."""
        token = await log_in(http, "former")

        assert await given(http, token) == []
        assert [each["isActive"] for each in await given(http, token, activeOnly=False)] == [False]

    async def test_patreon_has_no_tier(self, http: httpx.AsyncClient) -> None:
        """GitHub does not know it, so the service cannot compare a price."""
        (sponsorship,) = await given(http, await log_in(http, "patreon"))

        assert sponsorship["paymentSource"] == "PATREON"
        assert (sponsorship["tier"], sponsorship["tierSelectedAt"]) == (None, None)

    @pytest.mark.parametrize("login", ["stranger", "org-member", "maintainer"])
    async def test_the_others_give_nothing(self, http: httpx.AsyncClient, login: str) -> None:
        """An organization's sponsorship does not make its member a sponsor."""
        assert await given(http, await log_in(http, login), activeOnly=False) == []

    async def test_org_member_shows_the_organization_that_sponsors(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """With read:org the way from member to sponsorship is open; the tier stays unknown."""
        member = github.people.get_person("org-member")
        token = github.tokens.issue(member, ["read:user", "read:org"])
        data = await ask(
            http,
            token,
            """{ viewer { organizations(first: 9, orderBy: {field: LOGIN, direction: ASC}) { nodes {
                 login viewerIsAMember membersWithRole(first: 1) { nodes { login } }
                 sponsorshipsAsSponsor(first: 1) { nodes { isActive tier { id } } } } } } }""",
        )

        assert data["viewer"]["organizations"]["nodes"] == [
            {
                "login": "sponsoring-org",
                "viewerIsAMember": True,
                "membersWithRole": {"nodes": [{"login": "org-member"}]},
                "sponsorshipsAsSponsor": {"nodes": [{"isActive": True, "tier": None}]},
            }
        ]

    async def test_a_private_sponsorship_of_an_organization_is_for_its_owners(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """An ordinary member is not told of it at all."""
        owner, member = github.people.get_person("stranger"), github.people.get_person("monthly")
        github.people.add_organization("quiet-org", owners=[owner], members=[member])
        github.people.sponsor("quiet-org", "maintainer", cents=5000, private=True)
        query = """{ viewer { organizations(first: 1) { nodes {
            sponsorshipsAsSponsor(first: 1) { nodes { tier { monthlyPriceInCents } } } } } } }"""

        owners = await ask(http, github.tokens.issue(owner), query)
        members = await ask(http, github.tokens.issue(member), query)

        assert owners["viewer"]["organizations"]["nodes"] == [
            {"sponsorshipsAsSponsor": {"nodes": [{"tier": {"monthlyPriceInCents": 5000}}]}}
        ]
        assert members["viewer"]["organizations"]["nodes"] == [
            {"sponsorshipsAsSponsor": {"nodes": []}}
        ]

    async def test_the_maintainer_asks_for_one_sponsor_by_node(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """What is private shows too, with its tier; to anybody else there is nothing to see."""
        query = """query ($id: ID!) { node(id: $id) { ... on User { databaseId }
            ... on Organization { databaseId }
            ... on Sponsorable { sponsorshipForViewerAsSponsorable(activeOnly: false) {
              privacyLevel tier { monthlyPriceInCents } } } } }"""
        maintainer, other = await log_in(http, "maintainer"), await log_in(http, "monthly")
        node_id = github.people.get("private").id

        own = await ask(http, maintainer, query, id=node_id)
        organization = await ask(http, maintainer, query, id="O_sim17562948")
        others = await ask(http, other, query, id=node_id)

        assert own["node"] == {
            "databaseId": 73_355_190,
            "sponsorshipForViewerAsSponsorable": {
                "privacyLevel": "PRIVATE",
                "tier": {"monthlyPriceInCents": 500},
            },
        }
        assert organization["node"]["databaseId"] == 17_562_948
        assert others["node"] == {
            "databaseId": 73_355_190,
            "sponsorshipForViewerAsSponsorable": None,
        }

    async def test_the_direct_question_gets_the_same_answer(self, http: httpx.AsyncClient) -> None:
        """`sponsorshipForViewerAsSponsor` is the other valid way to ask."""
        query = """query ($active: Boolean!) {
          repositoryOwner(login: "MAINTAINER") { ... on Sponsorable {
            hasSponsorsListing viewerIsSponsoring isSponsoringViewer
            sponsorshipForViewerAsSponsor(activeOnly: $active) { isActive }
            sponsorshipForViewerAsSponsorable { isActive }
            byMonthly: isSponsoredBy(accountLogin: "Monthly")
            byNobody: isSponsoredBy(accountLogin: "nobody-at-all") } } }"""
        token = await log_in(http, "former")

        active = await ask(http, token, query, active=True)
        ever = await ask(http, token, query, active=False)

        assert active["repositoryOwner"] == {
            "hasSponsorsListing": True,
            "viewerIsSponsoring": False,
            "isSponsoringViewer": False,
            "sponsorshipForViewerAsSponsor": None,
            "sponsorshipForViewerAsSponsorable": None,
            "byMonthly": True,
            "byNobody": False,
        }
        assert ever["repositoryOwner"]["sponsorshipForViewerAsSponsor"] == {"isActive": False}

    async def test_others_see_no_tier(self, http: httpx.AsyncClient) -> None:
        """An ordinary token shows who sponsors publicly, not what they pay."""
        maintainer, other = await log_in(http, "maintainer"), await log_in(http, "stranger")

        seen = await received(http, maintainer, first=100)
        public = await received(http, other, first=100)

        assert {"monthlyPriceInCents": 10_000} in [node["tier"] for node in seen["nodes"]]
        assert {node["tier"] and "known" for node in public["nodes"]} == {None}


class TestPeopleApi:
    """What tests do with the directory while the simulation runs."""

    async def test_an_organization_can_be_the_maintainer(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """Its owners see what it receives, and logins are compared without case."""
        owner = github.people.get_person("stranger")
        github.people.add_organization("Maintaining-Org", owners=[owner], has_sponsors_listing=True)
        github.people.sponsor("monthly", "maintaining-org", cents=300, private=True)
        (sponsorship,) = await given(
            http, await log_in(http, "monthly"), logins=["MAINTAINING-ORG"]
        )
        owners_view = await ask(
            http,
            await log_in(http, "stranger"),
            """{ organization(login: "maintaining-org") { databaseId
                 sponsorshipsAsMaintainer(first: 5, includePrivate: true) {
                   nodes { tier { monthlyPriceInCents } } } } }""",
        )

        assert sponsorship["sponsorable"] == {
            "__typename": "Organization",
            "login": "Maintaining-Org",
        }
        assert owners_view["organization"]["sponsorshipsAsMaintainer"]["nodes"] == [
            {"tier": {"monthlyPriceInCents": 300}}
        ]

    async def test_the_filter_by_maintainer_keeps_the_others_out(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """Sponsoring somebody else is not sponsoring this maintainer."""
        github.people.sponsor("stranger", "monthly")
        token = await log_in(http, "stranger")

        assert await given(http, token, logins=["Maintainer"]) == []
        assert len(await given(http, token)) == 1

    async def test_a_rename_keeps_the_account(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The login is a label: number, token and sponsorships stay."""
        token = await log_in(http, "monthly")
        github.people.rename("monthly", "yearly")

        user = (await http.get("/api/user", headers=bearer(token))).json()

        assert (user["login"], user["id"]) == ("yearly", 48_210_377)
        assert len(await given(http, token)) == 1

    async def test_a_change_holds_from_the_next_query_on(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """So a test ends or cheapens a sponsorship between two checks."""
        token = await log_in(http, "monthly")
        (sponsorship,) = github.people.sponsorships_of(github.people.get("monthly"))
        sponsorship.is_ended = True

        assert await given(http, token) == []

    async def test_a_null_node_stands_where_a_test_put_it(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The elements of `nodes` are nullable, and GitHub makes use of it."""
        (sponsorship,) = github.people.sponsorships_of(github.people.get("monthly"))
        sponsorship.is_null = True

        assert await given(http, await log_in(http, "monthly")) == [None]

    def test_a_login_and_an_id_are_given_once(self, github: SimulatedGitHub) -> None:
        """Two accounts of one name would make every other test lie."""
        with pytest.raises(ValueError, match="taken"):
            github.people.add_person("MONTHLY")
        with pytest.raises(ValueError, match="taken"):
            github.people.add_person("another", database_id=48_210_377)
        assert github.people.get("Monthly").database_id == 48_210_377
        with pytest.raises(KeyError):
            github.people.get("another")
        with pytest.raises(KeyError):
            github.people.get_person("sponsoring-org")


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

    async def test_a_bad_token_is_401(self, http: httpx.AsyncClient) -> None:
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


class TestSwitches:
    """GitHub on a bad day."""

    @pytest.fixture
    async def token(self, http: httpx.AsyncClient) -> str:
        """Of a monthly sponsor, from before the bad day."""
        return await log_in(http, "monthly")

    @pytest.mark.parametrize(
        ("endpoint", "method", "path"),
        [
            ("token", "POST", "/login/oauth/access_token"),
            ("user", "GET", "/api/user"),
            ("emails", "GET", "/api/user/emails"),
            ("account", "GET", "/api/user/48210377"),
            ("account", "GET", "/api/users/monthly"),
            ("graphql", "POST", "/api/graphql"),
            ("revoke", "DELETE", "/api/applications/the-client/token"),
        ],
    )
    async def test_each_endpoint_can_fail_or_break_off(
        self, http: httpx.AsyncClient, endpoint: str, method: str, path: str
    ) -> None:
        """A page where JSON was expected, and JSON without its end."""
        await http.put("/switches", json={"fail": [endpoint]})
        failed = await http.request(method, path)
        await http.put("/switches", json={"fail": [], "bad_json": [endpoint]})
        broken = await http.request(method, path)

        assert failed.status_code == 502
        assert failed.headers["content-type"].startswith("text/html")
        assert broken.status_code == 200
        with pytest.raises(ValueError, match="Unterminated"):
            broken.json()

    async def test_rate_limited(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, token: str
    ) -> None:
        """REST says 403, GraphQL says 200; both say when to come back."""
        github.switches.rate_limited = True
        rest = await http.get("/api/user", headers=bearer(token))
        graphql = await post_query(http, token, MINE)

        assert (rest.status_code, graphql.status_code) == (403, 200)
        assert graphql.json()["errors"][0]["type"] == "RATE_LIMITED"
        assert "data" not in graphql.json()
        for response in (rest, graphql):
            assert response.headers["retry-after"] == "60"
            assert response.headers["x-ratelimit-remaining"] == "0"

    async def test_secondary_limit(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, token: str
    ) -> None:
        """429 for both, with the wait that was set."""
        github.switches.secondary_limit = True
        github.switches.retry_after_s = 7
        rest = await http.get("/api/user", headers=bearer(token))
        graphql = await post_query(http, token, MINE)

        for response in (rest, graphql):
            assert response.status_code == 429
            assert response.headers["retry-after"] == "7"

    async def test_forbidden_is_a_null_with_its_error(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, token: str
    ) -> None:
        """The rest of the answer stays; this null is 'unknown' and not 'no'."""
        github.switches.forbidden = True
        body = (await post_query(http, token, MINE)).json()

        assert body["data"] == {"viewer": {"databaseId": 48_210_377, "sponsorshipsAsSponsor": None}}
        assert body["errors"][0]["type"] == "FORBIDDEN"
        assert body["errors"][0]["path"] == ["viewer", "sponsorshipsAsSponsor"]

    async def test_forbidden_data_swallows_everything(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, token: str
    ) -> None:
        """What GraphQL's own rule makes of a null in a non-null field."""
        github.switches.forbidden_data = True
        body = (await post_query(http, token, MINE)).json()

        assert body["data"] is None
        assert body["errors"][0]["type"] == "FORBIDDEN"

    @pytest.mark.parametrize("login", ["monthly", "stranger"])
    async def test_partial_hides_a_node_behind_an_error(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, login: str
    ) -> None:
        """The sponsorship that would matter may be the one that is missing."""
        token = await log_in(http, login)
        github.switches.partial = True
        body = (await post_query(http, token, MINE)).json()

        assert body["data"]["viewer"]["sponsorshipsAsSponsor"]["nodes"] == [None]
        assert body["errors"][0]["type"] == "FORBIDDEN"
        assert body["errors"][0]["path"] == ["viewer", "sponsorshipsAsSponsor", "nodes", 0]

    async def test_an_organization_restricts_oauth_apps(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """It is null with an error beside the data, and the others stand there as ever."""
        member = github.people.get_person("org-member")
        github.people.add_organization("open-org", members=[member])
        github.switches.restricting_organization = "Sponsoring-Org"
        query = """{ viewer {
            organizations(first: 9, orderBy: {field: LOGIN, direction: ASC}) { totalCount
              nodes { login } }
            restricting: organization(login: "sponsoring-org") { login }
            open: organization(login: "open-org") { login } } }"""

        body = (await post_query(http, github.tokens.issue(member), query)).json()

        assert body["data"]["viewer"] == {
            "organizations": {"totalCount": 2, "nodes": [{"login": "open-org"}, None]},
            "restricting": None,
            "open": {"login": "open-org"},
        }
        assert [error["type"] for error in body["errors"]] == ["FORBIDDEN", "FORBIDDEN"]
        assert {tuple(error["path"]) for error in body["errors"]} == {
            ("viewer", "organizations", "nodes", 1),
            ("viewer", "restricting"),
        }
        assert "`sponsoring-org` organization" in body["errors"][0]["message"]

    async def test_insufficient_scopes(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, token: str
    ) -> None:
        """As if the person had unticked them."""
        github.switches.insufficient_scopes = True

        assert await error_type(http, token, MINE) == "INSUFFICIENT_SCOPES"

    async def test_over_http_they_are_read_and_set(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """For a demo script, which is another process."""
        changed = await http.put("/switches", json={"fail": ["user", "token"], "latency_ms": 3})

        assert changed.status_code == 200
        assert (await http.get("/switches")).json() == {
            "latency_ms": 3,
            "fail": ["token", "user"],
            "bad_json": [],
            "rate_limited": False,
            "secondary_limit": False,
            "retry_after_s": 60,
            "forbidden": False,
            "forbidden_data": False,
            "partial": False,
            "restricting_organization": "",
            "own_private_hidden": False,
            "insufficient_scopes": False,
            "iss": "right",
        }
        assert github.switches.fail == {"user", "token"}

    @pytest.mark.parametrize(
        ("values", "problem"),
        [
            ({"slow": True, "latency_ms": 5}, "unknown switch 'slow'"),
            ({"latency_ms": -1}, "latency_ms must be a whole number"),
            ({"latency_ms": True}, "latency_ms must be a whole number"),
            ({"partial": 1}, "partial must be true or false"),
            ({"fail": ["everything"]}, "fail must be a list of some of token, user,"),
            ({"fail": "user"}, "fail must be a list of some of token, user,"),
            ({"restricting_organization": 5}, "restricting_organization must be a text"),
            ({"iss": "maybe"}, "iss must be one of right, absent, wrong"),
            ([], "the body must be a JSON object"),
        ],
    )
    async def test_a_mistake_changes_nothing_and_is_named(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, values: object, problem: str
    ) -> None:
        """A misspelt switch that is silently ignored makes a test that tests nothing."""
        before = github.switches.as_json()
        response = await http.put("/switches", json=values)

        assert response.status_code == 422
        assert problem in response.json()["errors"][0]
        assert github.switches.as_json() == before

    async def test_a_body_that_is_no_json_is_named_too(self, http: httpx.AsyncClient) -> None:
        """And not a 500."""
        assert (await http.put("/switches", content=b"{")).status_code == 422


class TestControlPage:
    """What a developer sees at the root."""

    async def test_says_what_it_is_and_lists_the_people(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The first thing somebody opens who wonders what runs on that port."""
        page = await http.get("/")

        assert "SIMULATION of GitHub" in page.text
        assert [person.login for person in github.people if person.login not in page.text] == []

    async def test_the_form_sets_all_switches(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """A box that is not ticked is not sent, and means off."""
        github.switches.partial = True
        form = {
            "latency_ms": "20",
            "retry_after_s": "60",
            "fail": ["user", "emails"],
            "forbidden": "on",
            "restricting_organization": "sponsoring-org",
            "iss": "absent",
        }

        response = await http.post("/", data=form)

        assert (response.status_code, response.headers["location"]) == (303, "/")
        assert github.switches.latency_ms == 20
        assert github.switches.fail == {"user", "emails"}
        assert github.switches.forbidden
        assert not github.switches.partial
        assert github.switches.iss == "absent"
        assert github.switches.restricting_organization == "sponsoring-org"
        page = (await http.get("/")).text
        assert 'value="emails" checked' in page
        assert 'name="restricting_organization" value="sponsoring-org"' in page

    async def test_a_mistake_in_the_form_is_shown(self, http: httpx.AsyncClient) -> None:
        """With the page around it, so that it can be put right."""
        response = await http.post("/", data={"latency_ms": "a while", "iss": "right"})

        assert response.status_code == 422
        assert "latency_ms must be a whole number" in response.text

    async def test_an_avatar_is_a_picture(self, http: httpx.AsyncClient) -> None:
        """The service's account page shows it; a broken image would look like a defect."""
        picture = await http.get("/avatars/48210377")
        nobody = await http.get("/avatars/1")

        assert picture.headers["content-type"].startswith("image/svg+xml")
        assert ">M</text>" in picture.text
        assert nobody.status_code == 404


class TestRecord:
    """The record by which a test proves what ran beside what."""

    @staticmethod
    def calls(http: httpx.AsyncClient, token: str) -> list[Any]:
        """What the service asks after the exchange."""
        return [
            http.get("/api/user", headers=bearer(token)),
            http.get("/api/user/emails", headers=bearer(token)),
            post_query(http, token, MINE),
        ]

    async def test_calls_sent_together_overlap(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """A login is two round trips: the exchange, and then all three questions at once."""
        token = await log_in(http, "monthly")
        await asyncio.gather(*self.calls(http, token))

        user, emails, graphql = github.requests.all("user", "emails", "graphql")
        assert user.overlaps(emails)
        assert emails.overlaps(graphql)
        assert graphql.overlaps(user)
        assert github.requests.in_sequence() == 2

    async def test_calls_sent_one_by_one_do_not(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The record must be able to prove the opposite, else it proves nothing."""
        token = await log_in(http, "monthly")
        for call in self.calls(http, token):
            await call

        user, emails, graphql = github.requests.all("user", "emails", "graphql")
        assert not user.overlaps(emails)
        assert not emails.overlaps(graphql)
        assert github.requests.in_sequence() == 4
        assert github.requests.in_sequence("user", "emails") == 2

    async def test_notes_what_was_answered(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The refused and the failed ones too, but not what the control page does."""
        github.requests.clear()
        await http.get("/switches")
        await authorize(http, login="monthly")
        await http.get("/api/user")
        github.switches.fail = {"user"}
        await http.get("/api/user")

        assert [(each.endpoint, each.path, each.status) for each in github.requests.all()] == [
            ("authorize", "/login/oauth/authorize", 302),
            ("user", "/api/user", 401),
            ("user", "/api/user", 502),
        ]

    async def test_a_caller_who_leaves_is_noted_without_a_status(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The service's timeout is tested with the latency switch."""
        github.switches.latency_ms = 60_000
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await http.get("/api/user")

        assert [each.status for each in github.requests.all("user")] == [0]


class TestBounds:
    """A development server may run for weeks."""

    async def test_the_oldest_code_gives_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Codes that nobody exchanges must not pile up."""
        monkeypatch.setattr("sponsorsync.sandbox.oauth.CODES_KEPT", 2)
        small = SimulatedGitHub(
            client_id="the-client",
            client_secret="the-secret",
            redirect_uris=[CALLBACK],
            url=URL,
        )
        transport = httpx.ASGITransport(app=small.app)
        async with httpx.AsyncClient(transport=transport, base_url=URL) as http:
            codes = [await obtain_code(http, "monthly") for _ in range(3)]
            oldest = await exchange(http, codes[0])
            latest = await exchange(http, codes[2])

        assert oldest["error"] == "bad_verification_code"
        assert "access_token" in latest

    def test_an_app_without_callback_is_refused(self) -> None:
        """It could never send a browser back."""
        with pytest.raises(ValueError, match="redirect_uri"):
            SimulatedGitHub(client_id="c", client_secret="s", redirect_uris=[], url=URL)

    def test_the_empty_record_counts_nothing(self) -> None:
        """No request is no round trip."""
        assert Requests().in_sequence() == 0


class TestHook:
    """What happens on the control page is told to the webhook."""

    async def test_a_sponsorship_begins_and_ends(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """Signed, and with what the directory says afterwards."""
        received: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            received.append(request)
            return httpx.Response(202 if len(received) < 3 else 500)

        github.send_events_to(
            Hook(
                url="http://service.test/hook",
                secret="It's a Secret to Everybody",
                base_url=URL,
                transport=httpx.MockTransport(answer),
            )
        )
        began = await http.post("/sponsorships", data={"sponsor": "stranger", "action": "created"})
        ended = await http.post("/sponsorships", data={"sponsor": "stranger", "action": "ended"})
        failed = await http.post("/sponsorships", data={"sponsor": "stranger", "action": "created"})
        nobody = await http.post("/sponsorships", data={"sponsor": "nobody", "action": "created"})

        events = [json.loads(request.content) for request in received]
        assert [event["action"] for event in events] == ["created", "cancelled", "created"]
        assert {event["sponsorship"]["sponsor"]["login"] for event in events} == {"stranger"}
        assert {request.headers["x-github-event"] for request in received} == {"sponsorship"}
        assert all(request.headers["x-hub-signature-256"] for request in received)
        assert [each.status_code for each in (began, ended, failed, nobody)] == [303, 303, 422, 422]
        assert "answered 500" in failed.text

    async def test_without_a_webhook_only_the_directory_changes(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """And one that cannot be reached is told on the page."""
        answer = await http.post("/sponsorships", data={"sponsor": "monthly", "action": "ended"})
        [sponsorship] = github.people.sponsorships_of(github.people.get("monthly"))

        def refuse(_: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused")

        github.send_events_to(
            Hook(url="http://x", secret="s", base_url=URL, transport=httpx.MockTransport(refuse))
        )
        failed = await http.post("/sponsorships", data={"sponsor": "monthly", "action": "created"})

        assert (answer.status_code, sponsorship.is_ended) == (303, True)
        assert "could not be reached" in failed.text

    async def test_the_ping_comes_first(self) -> None:
        """Its form is that of a Sponsors listing."""
        ping = Hook(url="http://x", secret="s", base_url=URL).ping()

        assert ping.event == "ping"
        assert json.loads(ping.body)["hook"] == {"type": "SponsorsListing"}
