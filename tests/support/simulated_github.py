"""Requests to the simulated GitHub, as a browser and the service send them."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from sponsorsync.sandbox.oauth import challenge_for

if TYPE_CHECKING:
    import httpx

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
