"""The simulated GitHub's OAuth web flow over HTTP: the authorize page and the token endpoint."""

from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from sponsorsync.sandbox.github_state import GitHubState
from sponsorsync.sandbox.oauth import AuthorizeError, OAuthApp, OAuthError
from sponsorsync.sandbox.pages import Pages, parse_form

WRONG_ISSUER = "https://issuer.invalid/login/oauth"


class OAuthEndpoints:
    """The endpoints under /login/oauth."""

    def __init__(self, state: GitHubState, oauth: OAuthApp, pages: Pages) -> None:
        self._state = state
        self._oauth = oauth
        self._pages = pages

    async def authorize(self, request: Request) -> Response:
        """Sends the browser back with a code or an error, or shows a page to choose a person."""
        query = request.query_params
        if query.get("client_id") != self._oauth.client_id:
            return self._pages.render("not_found.html", 404)
        state = query.get("state")
        try:
            authorize_request = self._oauth.parse_authorize(query)
            redirect_uri = authorize_request.redirect_uri
            person = self._state.people.find_person(query.get("login", ""))
            if person is None or query.get("prompt") == "select_account":
                return self._people_page(query, redirect_uri)
            code = self._oauth.consent(person, authorize_request)
        except AuthorizeError as error:
            return self._redirect(error.redirect_uri, error.as_fields(), state)
        return self._redirect(redirect_uri, {"code": code}, state)

    def _people_page(self, query: QueryParams, redirect_uri: str) -> Response:
        """Renders the page to choose a person; each link repeats the request with a login."""
        login = query.get("login", "")
        kept = [item for item in query.multi_items() if item[0] not in {"login", "prompt"}]
        return self._pages.render(
            "authorize.html",
            people=[
                (person, "?" + urlencode([*kept, ("login", person.login)]))
                for person in self._state.people
            ],
            unknown_login="" if self._state.people.find_person(login) else login,
            scope=query.get("scope", ""),
            redirect_uri=redirect_uri,
        )

    def _redirect(
        self, redirect_uri: str, fields: Mapping[str, str], state: str | None
    ) -> Response:
        issuers = {
            "right": {"iss": f"{self._state.url}/login/oauth"},
            "wrong": {"iss": WRONG_ISSUER},
        }
        extra = issuers.get(self._state.switches.iss, {})
        kept_state = {} if state is None else {"state": state}
        glue = "&" if "?" in redirect_uri else "?"
        return RedirectResponse(
            redirect_uri + glue + urlencode({**fields, **kept_state, **extra}), 302
        )

    async def access_token(self, request: Request) -> Response:
        """Exchanges a code for a token; as at GitHub, errors have status 200, too."""
        form = {name: values[-1] for name, values in parse_form(await request.body()).items()}
        try:
            fields = self._oauth.exchange(form)
        except OAuthError as error:
            fields = error.as_fields()
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse(fields)
        return Response(urlencode(fields), media_type="application/x-www-form-urlencoded")
