"""A simulated GitHub: the OAuth web flow, the REST endpoints and the GraphQL API the service needs.

`sponsorsync dev` serves it on a loopback port; tests call it through httpx.ASGITransport. Its
switches make it fail in the ways in which GitHub fails.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sponsorsync.sandbox.api_endpoints import ApiEndpoints, RefusalError, refusal_response
from sponsorsync.sandbox.control import Control
from sponsorsync.sandbox.github_state import GitHubState
from sponsorsync.sandbox.hooks import Hook
from sponsorsync.sandbox.oauth import OAuthApp, Tokens
from sponsorsync.sandbox.oauth_endpoints import OAuthEndpoints
from sponsorsync.sandbox.pages import Pages
from sponsorsync.sandbox.people_by_role import people_by_role
from sponsorsync.sandbox.recording import RecordingMiddleware, Requests
from sponsorsync.sandbox.switches import Switches

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class SimulatedGitHub:
    """A simulated GitHub; its attributes may be changed while it runs.

    It has one registered OAuth app; the first of `redirect_uris` is its default callback. The
    people of `people_by_role` sponsor the login `maintainer`. It is served at `url`: set GITHUB_URL
    to `url` and GITHUB_API_URL to `{url}/api`. The clock `now` decides whether a code has expired
    or a one-time payment has ended.

    Attributes:
        people: Accounts and sponsorships; the next request sees a change.
        switches: The faults.
        tokens: The live access tokens.
        requests: The record of the requests and of their overlaps.
    """

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        redirect_uris: Sequence[str],
        url: str,
        maintainer: str = "maintainer",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.people = people_by_role(maintainer, now)
        self.switches = Switches()
        self.tokens = Tokens(now)
        self.requests = Requests()
        state = GitHubState(
            url.rstrip("/"), maintainer, self.people, self.tokens, self.switches, now
        )
        oauth = OAuthApp(
            client_id=client_id,
            client_secret=client_secret,
            redirect_uris=redirect_uris,
            tokens=self.tokens,
            now=now,
        )
        pages = Pages("GitHub")
        self._control = Control(state, pages)
        web, api = OAuthEndpoints(state, oauth, pages), ApiEndpoints(state, oauth)
        self.app = Starlette(
            routes=[
                *self._control.routes(),
                self._recorded("authorize", "GET", "/login/oauth/authorize", web.authorize),
                self._recorded("token", "POST", "/login/oauth/access_token", web.access_token),
                self._recorded("user", "GET", "/api/user", api.user),
                self._recorded("emails", "GET", "/api/user/emails", api.emails),
                self._recorded("account", "GET", "/api/user/{account_id:int}", api.account_by_id),
                self._recorded("account", "GET", "/api/users/{login}", api.account_by_login),
                self._recorded("graphql", "POST", "/api/graphql", api.graphql),
                self._recorded(
                    "revoke", "DELETE", "/api/applications/{client_id}/token", api.revoke
                ),
            ],
            exception_handlers={RefusalError: refusal_response},
        )

    def send_events_to(self, hook: Hook) -> None:
        """Sends an event to a webhook for each change on the control page."""
        self._control.hook = hook

    def _recorded(self, endpoint: str, method: str, path: str, handler: Handler) -> Route:
        recording = Middleware(
            RecordingMiddleware, endpoint=endpoint, requests=self.requests, switches=self.switches
        )
        return Route(path, handler, methods=[method], middleware=[recording])
