"""A simulated GitHub: the OAuth web flow, the REST endpoints and the GraphQL API the service needs.

`sponsorsync dev` serves it on a loopback port; tests call it through httpx.ASGITransport. It
answers as GitHub does on a good day, and by its switches as GitHub does on a bad one.
"""

import json
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias, cast
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sponsorsync.sandbox.control import Control
from sponsorsync.sandbox.forms import parse_form
from sponsorsync.sandbox.graphql_api import Visit, answer
from sponsorsync.sandbox.hooks import Hook
from sponsorsync.sandbox.oauth import (
    POINTS_AN_HOUR,
    AuthorizeError,
    OAuthApp,
    OAuthError,
    Token,
    Tokens,
)
from sponsorsync.sandbox.pages import Pages
from sponsorsync.sandbox.people import Account, Person, people_by_role
from sponsorsync.sandbox.recording import RecordingMiddleware, Requests
from sponsorsync.sandbox.switches import Switches

POINTS_WITHOUT_TOKEN = 60
"""An hour, for each address that asks; shown and not counted here."""

API_VERSIONS = ("2022-11-28", "2026-03-10")
REST_DOCS = "https://docs.github.com/rest"
WRONG_ISSUER = "https://issuer.invalid/login/oauth"

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class RefusalError(Exception):
    """The API ends the request here, with GitHub's form of an error."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.response = JSONResponse(
            {"message": message, "documentation_url": REST_DOCS, "status": str(status)},
            status,
            headers,
        )


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SimulatedGitHub:
    """The simulation, whose parts may be changed while it runs.

    Args:
        client_id: Of the one registered OAuth app.
        client_secret: Of the same.
        redirect_uris: Its registered callbacks; the first is the default.
        maintainer: The login whom the people by role sponsor.
        url: Where this is served, which is GITHUB_URL; GITHUB_API_URL is `{url}/api`.
        now: The clock by which codes expire and one-time payments end.

    Attributes:
        app: The ASGI app.
        people: Accounts and sponsorships; what is changed there holds from the next request on.
        switches: The faults.
        tokens: Which access tokens are live.
        requests: What was asked, and what ran beside what.
    """

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        redirect_uris: Sequence[str],
        url: str,
        maintainer: str = "maintainer",
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.url = url.rstrip("/")
        self.people = people_by_role(maintainer, now)
        self.switches = Switches()
        self.tokens = Tokens(now)
        self.requests = Requests()
        self._now = now
        self._pages = Pages("GitHub")
        self._control = Control(
            url=self.url,
            maintainer=maintainer,
            people=self.people,
            tokens=self.tokens,
            switches=self.switches,
            pages=self._pages,
        )
        self._oauth = OAuthApp(
            client_id=client_id,
            client_secret=client_secret,
            redirect_uris=redirect_uris,
            tokens=self.tokens,
            now=now,
        )
        self.app = Starlette(
            routes=self._routes(), exception_handlers={RefusalError: _refusal_response}
        )

    def send_events_to(self, hook: Hook) -> None:
        """Have what happens on the control page told to a webhook; tests send by themselves."""
        self._control.hook = hook

    def _routes(self) -> list[Route]:
        return [
            *self._control.routes(),
            self._recorded("authorize", "GET", "/login/oauth/authorize", self._authorize),
            self._recorded("token", "POST", "/login/oauth/access_token", self._access_token),
            self._recorded("user", "GET", "/api/user", self._user),
            self._recorded("emails", "GET", "/api/user/emails", self._emails),
            self._recorded("account", "GET", "/api/user/{account_id:int}", self._account_by_id),
            self._recorded("account", "GET", "/api/users/{login}", self._account_by_login),
            self._recorded("graphql", "POST", "/api/graphql", self._graphql),
            self._recorded("revoke", "DELETE", "/api/applications/{client_id}/token", self._revoke),
        ]

    def _recorded(self, endpoint: str, method: str, path: str, handler: Handler) -> Route:
        recording = Middleware(
            RecordingMiddleware,
            endpoint=endpoint,
            requests=self.requests,
            switches=self.switches,
        )
        return Route(path, handler, methods=[method], middleware=[recording])

    # --- the OAuth web flow ----------------------------------------------------------------------

    async def _authorize(self, request: Request) -> Response:
        query = request.query_params
        if query.get("client_id") != self._oauth.client_id:
            return self._pages.render("not_found.html", 404)
        state = query.get("state")
        try:
            asked = self._oauth.parse_authorize(query)
            person = self._chosen_person(query)
            if person is None:
                return self._people_page(query, asked.redirect_uri)
            code = self._oauth.consent(person, asked)
        except AuthorizeError as error:
            return self._redirect(error.redirect_uri, error.as_fields(), state)
        return self._redirect(asked.redirect_uri, {"code": code}, state)

    def _chosen_person(self, query: QueryParams) -> Person | None:
        if query.get("prompt") == "select_account":
            return None
        return self.people.find_person(query.get("login", ""))

    def _people_page(self, query: QueryParams, redirect_uri: str) -> Response:
        """The page to choose on: each link is the same request again, with a login."""
        login = query.get("login", "")
        kept = [item for item in query.multi_items() if item[0] not in {"login", "prompt"}]
        return self._pages.render(
            "authorize.html",
            people=[
                (person, "?" + urlencode([*kept, ("login", person.login)]))
                for person in self.people
            ],
            unknown_login="" if self.people.find_person(login) else login,
            scope=query.get("scope", ""),
            redirect_uri=redirect_uri,
        )

    def _redirect(
        self, redirect_uri: str, fields: Mapping[str, str], state: str | None
    ) -> Response:
        issuers = {"right": {"iss": f"{self.url}/login/oauth"}, "wrong": {"iss": WRONG_ISSUER}}
        extra = issuers.get(self.switches.iss, {})
        kept_state = {} if state is None else {"state": state}
        glue = "&" if "?" in redirect_uri else "?"
        return RedirectResponse(
            redirect_uri + glue + urlencode({**fields, **kept_state, **extra}), 302
        )

    async def _access_token(self, request: Request) -> Response:
        form = {name: values[-1] for name, values in parse_form(await request.body()).items()}
        try:
            fields = self._oauth.exchange(form)
        except OAuthError as error:
            fields = error.as_fields()
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse(fields)
        return Response(urlencode(fields), media_type="application/x-www-form-urlencoded")

    async def _revoke(self, request: Request) -> Response:
        _check_headers(request)
        client_id, client_secret = _basic_credentials(request)
        if not self._oauth.is_secret(client_id, client_secret):
            raise RefusalError(401, "Bad credentials")
        if request.path_params["client_id"] != client_id:
            raise RefusalError(404, "Not Found")
        body = await _json_object(request)
        token = body.get("access_token")
        if not isinstance(token, str) or not token:
            raise RefusalError(422, "Validation Failed")
        if not self.tokens.revoke(token):
            raise RefusalError(404, "Not Found")
        return Response(status_code=204)

    # --- REST ------------------------------------------------------------------------------------

    async def _user(self, request: Request) -> Response:
        token = self._rest_token(request)
        return JSONResponse(
            _account_as_json(token.person, self.url), headers=self._api_headers(token, "core")
        )

    async def _emails(self, request: Request) -> Response:
        token = self._rest_token(request)
        headers = self._api_headers(token, "core")
        if "user:email" not in token.scopes:
            # GitHub does not tell a missing scope from a missing page.
            raise RefusalError(404, "Not Found", headers)
        return JSONResponse([vars(email) for email in token.person.emails], headers=headers)

    async def _account_by_id(self, request: Request) -> Response:
        account = self.people.by_id(request.path_params["account_id"])
        return self._account(request, account)

    async def _account_by_login(self, request: Request) -> Response:
        return self._account(request, self.people.find(request.path_params["login"]))

    def _account(self, request: Request, account: Account | None) -> Response:
        """What anybody may know of a person or an organization, with a token or without."""
        headers = self._public_headers(request)
        if account is None:
            raise RefusalError(404, "Not Found", headers)
        return JSONResponse(_account_as_json(account, self.url), headers=headers)

    def _public_headers(self, request: Request) -> dict[str, str]:
        if "authorization" in request.headers:
            return self._api_headers(self._rest_token(request), "core")
        _check_headers(request)
        self._check_secondary_limit()
        left = 0 if self.switches.rate_limited else POINTS_WITHOUT_TOKEN - 1
        headers = {
            "X-RateLimit-Limit": str(POINTS_WITHOUT_TOKEN),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Resource": "core",
        }
        if self.switches.rate_limited:
            raise RefusalError(
                403, "API rate limit exceeded for your address.", headers | self._retry_after()
            )
        return headers

    def _rest_token(self, request: Request) -> Token:
        token = self._live_token(request)
        if self.switches.rate_limited:
            raise RefusalError(
                403,
                f"API rate limit exceeded for user ID {token.person.database_id}.",
                {**self._api_headers(token, "core"), **self._retry_after()},
            )
        return token

    def _live_token(self, request: Request) -> Token:
        """The token of an API request that may go on.

        Raises:
            RefusalError: It may not.
        """
        _check_headers(request)
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        token = self.tokens.find(text) if scheme.lower() in {"bearer", "token"} else None
        if token is None or token.person not in self.people:
            raise RefusalError(401, "Bad credentials")
        token.spend(self._now())
        self._check_secondary_limit()
        return token

    def _check_secondary_limit(self) -> None:
        if self.switches.secondary_limit:
            raise RefusalError(
                429, "You have exceeded a secondary rate limit.", self._retry_after()
            )

    def _api_headers(self, token: Token, resource: str) -> dict[str, str]:
        left = 0 if self.switches.rate_limited else token.points_left
        return {
            "X-RateLimit-Limit": str(POINTS_AN_HOUR),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Used": str(POINTS_AN_HOUR - left),
            "X-RateLimit-Reset": str(int(token.window_ends.timestamp())),
            "X-RateLimit-Resource": resource,
            "X-OAuth-Scopes": ", ".join(token.scopes),
        }

    def _retry_after(self) -> dict[str, str]:
        return {"Retry-After": str(self.switches.retry_after_s)}

    # --- GraphQL ---------------------------------------------------------------------------------

    async def _graphql(self, request: Request) -> Response:
        token = self._live_token(request)
        headers = self._api_headers(token, "graphql")
        body = await _json_object(request)
        if self.switches.rate_limited:
            return JSONResponse(_rate_limited(token.person), headers=headers | self._retry_after())
        visit = Visit(self.people, token, self.switches, self._now(), self.url)
        return JSONResponse(_answer(body, visit), headers=headers)


def _answer(body: Mapping[str, object], visit: Visit) -> dict[str, object]:
    query, variables = body.get("query"), body.get("variables")
    operation = body.get("operationName")
    if not isinstance(query, str):
        return {
            "errors": [{"message": "A query attribute must be specified and must be a string."}]
        }
    return answer(
        query,
        variables if isinstance(variables, dict) else None,
        operation if isinstance(operation, str) else None,
        visit,
    )


def _rate_limited(person: Person) -> dict[str, object]:
    message = f"API rate limit exceeded for user ID {person.database_id}."
    return {"errors": [{"type": "RATE_LIMITED", "message": message}]}


def _account_as_json(account: Account, base_url: str) -> dict[str, object]:
    api_url = f"{base_url}/api/users/{account.login}"
    created_at = account.created_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "login": account.login,
        "id": account.database_id,
        "node_id": account.id,
        "avatar_url": account.avatar_url(base_url),
        "gravatar_id": "",
        "url": api_url,
        "html_url": account.html_url(base_url),
        "organizations_url": f"{api_url}/orgs",
        "type": account.typename,
        "site_admin": False,
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


async def _refusal_response(_: Request, error: Exception) -> Response:
    # Starlette's types do not know that a handler gets only what it was registered for.
    return cast("RefusalError", error).response


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
