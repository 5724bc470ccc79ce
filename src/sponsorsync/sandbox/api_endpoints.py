"""The simulated GitHub's API over HTTP: REST, the revocation of tokens, and GraphQL."""

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sponsorsync.sandbox.github_state import GitHubState
from sponsorsync.sandbox.graphql_api import answer
from sponsorsync.sandbox.graphql_context import QueryContext
from sponsorsync.sandbox.oauth import POINTS_AN_HOUR, OAuthApp, Token
from sponsorsync.sandbox.people import Account

POINTS_WITHOUT_TOKEN = 60
"""GitHub's limit of requests an hour from one address; shown in headers, but not enforced."""

API_VERSIONS = ("2022-11-28", "2026-03-10")
REST_DOCS = "https://docs.github.com/rest"


class RefusalError(Exception):
    """Ends an API request with an error in GitHub's form."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = JSONResponse(
            {"message": message, "documentation_url": REST_DOCS, "status": str(status)},
            status,
            headers,
        )


async def refusal_response(_: Request, error: Exception) -> Response:
    """Handles a RefusalError."""
    # Starlette's types do not know that a handler gets only what it was registered for.
    return cast("RefusalError", error).response


class ApiEndpoints:
    """The endpoints under /api."""

    def __init__(self, state: GitHubState, oauth: OAuthApp) -> None:
        self._state = state
        self._switches = state.switches
        self._oauth = oauth

    async def user(self, request: Request) -> Response:
        """Returns the account of the person whose token it is."""
        token = self._rest_token(request)
        return JSONResponse(
            _to_rest_account(token.person, self._state.url),
            headers=self._limit_headers(token, "core"),
        )

    async def emails(self, request: Request) -> Response:
        """Returns the e-mail addresses of the person whose token it is."""
        token = self._rest_token(request)
        headers = self._limit_headers(token, "core")
        if "user:email" not in token.scopes:
            # GitHub answers 404 if the token lacks the scope.
            raise RefusalError(404, "Not Found", headers)
        return JSONResponse([vars(email) for email in token.person.emails], headers=headers)

    async def account_by_id(self, request: Request) -> Response:
        """Returns the account with this numeric id."""
        return self._account(request, self._state.people.by_id(request.path_params["account_id"]))

    async def account_by_login(self, request: Request) -> Response:
        """Returns the account with this login."""
        return self._account(request, self._state.people.find(request.path_params["login"]))

    def _account(self, request: Request, account: Account | None) -> Response:
        """Answers with the public part of an account, with a token or without."""
        headers = self._public_headers(request)
        if account is None:
            raise RefusalError(404, "Not Found", headers)
        return JSONResponse(_to_rest_account(account, self._state.url), headers=headers)

    async def revoke(self, request: Request) -> Response:
        """Revokes an access token of the OAuth app."""
        _check_headers(request)
        client_id, client_secret = _basic_credentials(request)
        if not self._oauth.is_secret(client_id, client_secret):
            raise RefusalError(401, "Bad credentials")
        if request.path_params["client_id"] != client_id:
            raise RefusalError(404, "Not Found")
        token = (await _json_object(request)).get("access_token")
        if not isinstance(token, str) or not token:
            raise RefusalError(422, "Validation Failed")
        if self._state.tokens.pop(token, None) is None:
            raise RefusalError(404, "Not Found")
        return Response(status_code=204)

    async def graphql(self, request: Request) -> Response:
        """Answers a GraphQL query."""
        token = self._live_token(request)
        headers = self._limit_headers(token, "graphql")
        body = await _json_object(request)
        if self._switches.rate_limited:
            error = {"type": "RATE_LIMITED", "message": _rate_limit_message(token)}
            return JSONResponse({"errors": [error]}, headers=headers | self._retry_after())
        state = self._state
        context = QueryContext(state.people, token, state.switches, state.now(), state.url)
        return JSONResponse(_answer_graphql(body, context), headers=headers)

    def _rest_token(self, request: Request) -> Token:
        token = self._live_token(request)
        if self._switches.rate_limited:
            headers = self._limit_headers(token, "core") | self._retry_after()
            raise RefusalError(403, _rate_limit_message(token), headers)
        return token

    def _live_token(self, request: Request) -> Token:
        """Returns the token of an API request, and counts the request.

        Raises RefusalError if the headers are wrong, the token is not valid, or a limit is reached.
        """
        _check_headers(request)
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        token = self._state.tokens.get(text) if scheme.lower() in {"bearer", "token"} else None
        if token is None or token.person not in self._state.people:
            raise RefusalError(401, "Bad credentials")
        token.spend(self._state.now())
        self._check_secondary_limit()
        return token

    def _public_headers(self, request: Request) -> dict[str, str]:
        if "authorization" in request.headers:
            return self._limit_headers(self._rest_token(request), "core")
        _check_headers(request)
        self._check_secondary_limit()
        left = 0 if self._switches.rate_limited else POINTS_WITHOUT_TOKEN - 1
        headers = {
            "X-RateLimit-Limit": str(POINTS_WITHOUT_TOKEN),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Resource": "core",
        }
        if self._switches.rate_limited:
            raise RefusalError(
                403, "API rate limit exceeded for your address.", headers | self._retry_after()
            )
        return headers

    def _check_secondary_limit(self) -> None:
        if self._switches.secondary_limit:
            raise RefusalError(
                429, "You have exceeded a secondary rate limit.", self._retry_after()
            )

    def _limit_headers(self, token: Token, resource: str) -> dict[str, str]:
        left = 0 if self._switches.rate_limited else token.points_left
        return {
            "X-RateLimit-Limit": str(POINTS_AN_HOUR),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Used": str(POINTS_AN_HOUR - left),
            "X-RateLimit-Reset": str(int(token.window_ends.timestamp())),
            "X-RateLimit-Resource": resource,
            "X-OAuth-Scopes": ", ".join(token.scopes),
        }

    def _retry_after(self) -> dict[str, str]:
        return {"Retry-After": str(self._switches.retry_after_s)}


def _rate_limit_message(token: Token) -> str:
    return f"API rate limit exceeded for user ID {token.person.database_id}."


def _answer_graphql(body: Mapping[str, object], context: QueryContext) -> dict[str, object]:
    query, variables = body.get("query"), body.get("variables")
    operation = body.get("operationName")
    if not isinstance(query, str):
        message = "A query attribute must be specified and must be a string."
        return {"errors": [{"message": message}]}
    return answer(
        query,
        variables if isinstance(variables, dict) else None,
        operation if isinstance(operation, str) else None,
        context,
    )


def _to_rest_account(account: Account, base_url: str) -> dict[str, object]:
    api_url = f"{base_url}/api/users/{account.login}"
    created_at = account.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        **account.as_json(base_url),
        "gravatar_id": "",
        "url": api_url,
        "organizations_url": f"{api_url}/orgs",
        "name": account.name,
        "company": None,
        "blog": "",
        "location": None,
        "email": account.email,
        "hireable": None,
        "bio": None,
        "public_repos": 0,
        "followers": 0,
        "following": 0,
        "created_at": created_at,
        "updated_at": created_at,
    }


def _check_headers(request: Request) -> None:
    if not request.headers.get("user-agent"):
        raise RefusalError(
            403,
            "Request forbidden by administrative rules. Please make sure your request has a "
            "User-Agent header.",
        )
    version = request.headers.get("x-github-api-version", API_VERSIONS[0])
    if version not in API_VERSIONS:
        raise RefusalError(400, f"{version} is not a supported version of the API.")


def _basic_credentials(request: Request) -> tuple[str, str]:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise RefusalError(401, "Requires authentication")
    try:
        client_id, _, client_secret = b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        raise RefusalError(401, "Bad credentials") from None
    return client_id, client_secret


async def _json_object(request: Request) -> dict[str, object]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RefusalError(400, "Problems parsing JSON")
    return body
