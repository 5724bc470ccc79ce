"""A client that sends the requests of a browser and of the service to the simulated GitHub."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.oauth import KNOWN_SCOPES, challenge_for

URL = "http://github.test"
CALLBACK = "http://service.test/oauth2/callback"
VERIFIER = "a-verifier-of-the-forty-three-characters-of-7636"

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


class GitHubClient(httpx.AsyncClient):
    """A client of one simulated GitHub; it does not follow redirects.

    Attributes:
        github: The simulation.
    """

    def __init__(self, github: SimulatedGitHub) -> None:
        super().__init__(transport=httpx.ASGITransport(app=github.app), base_url=URL)
        self.github = github

    async def authorize(self, **query: str) -> httpx.Response:
        """Opens the authorize page with the usual parameters, changed by `query`."""
        usual = {
            "client_id": "the-client",
            "redirect_uri": CALLBACK,
            "scope": "read:user user:email",
            "state": "the-state",
            "code_challenge": challenge_for(VERIFIER),
            "code_challenge_method": "S256",
        }
        return await self.get("/login/oauth/authorize", params={**usual, **query})

    async def obtain_code(self, login: str, **query: str) -> str:
        """Opens the authorize page as `login`; returns the code in the redirect."""
        return parse_callback(await self.authorize(login=login, **query))["code"]

    async def exchange(self, code: str, /, **form: str) -> dict[str, str]:
        """Exchanges a code for a token by the usual form, changed by `form`; returns the answer."""
        usual = {
            "client_id": "the-client",
            "client_secret": "the-secret",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }
        response = await self.post(
            "/login/oauth/access_token",
            data={**usual, **form},
            headers={"Accept": "application/json"},
        )
        assert response.status_code == 200
        answer: dict[str, str] = response.json()
        return answer

    async def log_in(self, login: str) -> str:
        """Performs the whole web flow; returns an access token of `login`."""
        return (await self.exchange(await self.obtain_code(login)))["access_token"]

    def issue_token(self, login: str, scopes: Sequence[str] = KNOWN_SCOPES) -> str:
        """Returns an access token of `login` without performing the web flow."""
        return self.github.tokens.issue(self.github.people.get_person(login), scopes)

    async def post_query(self, token: str, query: str, **variables: object) -> httpx.Response:
        """Sends a GraphQL query."""
        return await self.post(
            "/api/graphql", json={"query": query, "variables": variables}, headers=bearer(token)
        )

    async def ask(self, token: str, query: str, **variables: object) -> dict[str, Any]:
        """Sends a GraphQL query; returns its data, and fails if there are errors."""
        response = await self.post_query(token, query, **variables)
        assert response.status_code == 200
        body = response.json()
        assert "errors" not in body, body["errors"]
        data: dict[str, Any] = body["data"]
        return data

    async def sponsorships_of(self, token: str, **variables: object) -> list[Any]:
        """Returns the sponsorships that the token's person gives."""
        data = await self.ask(token, MINE, **variables)
        nodes: list[Any] = data["viewer"]["sponsorshipsAsSponsor"]["nodes"]
        return nodes

    async def received(self, token: str, **variables: object) -> dict[str, Any]:
        """Returns one page of the sponsorships that the maintainer receives."""
        data = await self.ask(token, RECEIVED, **variables)
        page: dict[str, Any] = data["user"]["sponsorshipsAsMaintainer"]
        return page

    async def error_type(self, token: str, query: str, **variables: object) -> str:
        """Sends a GraphQL query; returns the type of its first error."""
        response = await self.post_query(token, query, **variables)
        assert response.status_code == 200
        kind: str = response.json()["errors"][0]["type"]
        return kind


def sponsors_on(page: dict[str, Any]) -> list[str]:
    """Returns the sponsors' logins on a page of `GitHubClient.received`."""
    return [node["sponsorEntity"]["login"] for node in page["nodes"]]


def parse_callback(response: httpx.Response) -> dict[str, str]:
    """Returns the parameters of a redirect to the callback."""
    assert response.status_code == 302
    parts = urlsplit(response.headers["location"])
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == CALLBACK
    return {name: values[0] for name, values in parse_qs(parts.query).items()}


def bearer(token: str) -> dict[str, str]:
    """Returns the header with a token."""
    return {"Authorization": f"Bearer {token}"}


def basic(credentials: str = "the-client:the-secret") -> dict[str, str]:
    """Returns the header with the app's own credentials."""
    return {"Authorization": "Basic " + b64encode(credentials.encode()).decode()}
