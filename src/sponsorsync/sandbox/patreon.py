"""A simulated Patreon: the OAuth web flow, and the part of version 2 of the API that we use.

It answers as https://docs.patreon.com/ says; docs/patreon.md lists the
behaviour that is not documented and was chosen here. Serve `SimulatedPatreon.app` on a loopback
port, or call it through httpx.ASGITransport.
"""

import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeAlias
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route

from sponsorsync.sandbox.bounded_dict import BoundedDict
from sponsorsync.sandbox.pages import Pages, parse_form
from sponsorsync.sandbox.patrons import Membership, Patron, patrons_by_role
from sponsorsync.sandbox.switchboard import Switchboard, switch_routes

CODE_LIFETIME = timedelta(minutes=5)
CODES_KEPT = 1_000
TOKENS_KEPT = 10_000
TOKEN_LIFETIME_S = 31 * 24 * 3600

ALL_MEMBERSHIPS = "identity.memberships"
"""The scope that shows the memberships of all campaigns, not only of the client's own."""

_INCLUDES = {"memberships", "memberships.campaign", "memberships.currently_entitled_tiers"}

_Resource: TypeAlias = dict[str, object]


@dataclass
class PatreonSwitches(Switchboard):
    """Patreon's faults; all are off at first."""

    down: Annotated[bool, "answer 503 with a page"] = False
    malformed: Annotated[bool, "answer 200 with half of it"] = False
    rate_limited: Annotated[bool, "too many at a time: 429"] = False
    retry_after_s: Annotated[int, "when to come back from the limit"] = 9
    unauthorized: Annotated[bool, "accept no token: 401"] = False


@dataclass(frozen=True)
class _Grant:
    """The person and the scopes that a code or a token stands for."""

    patron: Patron
    scopes: frozenset[str]
    issued_at: datetime


class _ParameterError(Exception):
    """A request names something that the API does not have."""


class SimulatedPatreon:
    """A simulated Patreon; its `patrons` and `switches` may be changed while it runs.

    It is served at `url` and has one registered client, of the account with the campaign
    `campaign_id`. The clock `now` decides whether a code has expired. The authorize page offers the
    `patrons`, which are kept by role. The `switches` turn faults on.
    """

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        url: str,
        campaign_id: str = "1234567",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.url = url.rstrip("/")
        self.campaign_id = campaign_id
        self.patrons = patrons_by_role(campaign_id, now)
        self.switches = PatreonSwitches()
        self._client_id = client_id
        self._client_secret = client_secret
        self._redirect_uri = redirect_uri
        self._now = now
        self._codes: BoundedDict[_Grant] = BoundedDict(CODES_KEPT)
        self._tokens: BoundedDict[_Grant] = BoundedDict(TOKENS_KEPT)
        self._pages = Pages("Patreon")
        self.app = Starlette(
            routes=[
                *switch_routes(self.switches, self._render_page),
                Route("/oauth2/authorize", self._authorize, methods=["GET"]),
                Route("/api/oauth2/token", self._token, methods=["POST"]),
                Route("/api/oauth2/v2/identity", self._identity, methods=["GET"]),
            ]
        )

    def issue_token(self, role: str, *scopes: str) -> str:
        """Issues a token without the web flow, with the scopes `identity` and `scopes`."""
        return self._issue(self.patrons[role], {"identity", *scopes})

    def _render_page(self, problems: list[str]) -> Response:
        return self._pages.render(
            "patreon.html",
            422 if problems else 200,
            url=self.url,
            campaign_id=self.campaign_id,
            patrons=list(self.patrons.values()),
            rows=self.switches.rows(),
            problems=problems,
        )

    # --- the OAuth web flow ----------------------------------------------------------------------

    async def _authorize(self, request: Request) -> Response:
        query = request.query_params
        if (query.get("client_id"), query.get("redirect_uri"), query.get("response_type")) != (
            self._client_id,
            self._redirect_uri,
            "code",
        ):
            return PlainTextResponse(
                "client_id, redirect_uri or response_type are not those of the client that this "
                "simulation was started with.",
                400,
            )
        patron = self.patrons.get(query.get("patron", ""))
        if patron is None:
            return self._consent_page(query)
        if patron.denies:
            return self._send_back(query, error="access_denied")
        code = secrets.token_urlsafe(22)
        scopes = frozenset(query.get("scope", "").split())
        self._codes[code] = _Grant(patron, scopes, self._now())
        return self._send_back(query, code=code)

    def _consent_page(self, query: QueryParams) -> Response:
        """Returns the page with all patrons; each link repeats the request with one of them."""
        kept = [item for item in query.multi_items() if item[0] != "patron"]
        return self._pages.render(
            "patreon_authorize.html",
            patrons=[
                (patron, "?" + urlencode([*kept, ("patron", patron.role)]))
                for patron in self.patrons.values()
            ],
            scope=query.get("scope", ""),
            redirect_uri=self._redirect_uri,
        )

    def _send_back(self, query: QueryParams, **fields: str) -> Response:
        if "state" in query:
            fields["state"] = query["state"]
        return RedirectResponse(f"{self._redirect_uri}?{urlencode(fields)}", 302)

    async def _token(self, request: Request) -> Response:
        if (fault := self._find_fault(request)) is not None:
            return fault
        form = {name: values[-1] for name, values in parse_form(await request.body()).items()}
        if (form.get("client_id"), form.get("client_secret")) != (
            self._client_id,
            self._client_secret,
        ):
            return JSONResponse({"error": "invalid_client"}, 401)
        if form.get("grant_type") != "authorization_code":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        grant = self._codes.pop(form.get("code", ""), None)
        if (
            grant is None
            or form.get("redirect_uri") != self._redirect_uri
            or self._now() > grant.issued_at + CODE_LIFETIME
        ):
            return JSONResponse({"error": "invalid_grant"}, 401)
        return JSONResponse(
            {
                "access_token": self._issue(grant.patron, grant.scopes),
                "refresh_token": secrets.token_urlsafe(32),
                "expires_in": TOKEN_LIFETIME_S,
                "scope": " ".join(sorted(grant.scopes)),
                "token_type": "Bearer",
            }
        )

    def _issue(self, patron: Patron, scopes: Iterable[str]) -> str:
        token = secrets.token_urlsafe(32)
        self._tokens[token] = _Grant(patron, frozenset(scopes), self._now())
        return token

    # --- the API ---------------------------------------------------------------------------------

    async def _identity(self, request: Request) -> Response:
        if (fault := self._find_fault(request)) is not None:
            return fault
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        grant = self._tokens.get(token) if scheme == "Bearer" else None
        if grant is None or "identity" not in grant.scopes or self.switches.unauthorized:
            return _error(401, "Unauthorized", "The token is missing, unknown or expired.")
        try:
            return _jsonapi(self._to_resource(grant, request.query_params))
        except _ParameterError as error:
            return _error(400, "ParameterInvalid", str(error))

    def _find_fault(self, request: Request) -> Response | None:
        """Returns the answer of a fault that is on, else None."""
        if not request.headers.get("user-agent"):
            return HTMLResponse("<html><body><h1>403 Forbidden</h1></body></html>", 403)
        if self.switches.down:
            return HTMLResponse("<html><body><h1>503 Unavailable</h1></body></html>", 503)
        if self.switches.rate_limited:
            wait_s = self.switches.retry_after_s
            response = _error(429, "RequestThrottled", "Slow down.", retry_after_seconds=wait_s)
            response.headers["Retry-After"] = str(wait_s)
            return response
        if self.switches.malformed:
            return Response('{"data": {"attributes": {}, "id": "90', media_type="application/json")
        return None

    def _to_resource(self, grant: _Grant, query: QueryParams) -> _Resource:
        include = set(query.get("include", "").split(",")) - {""}
        if unknown := include - _INCLUDES:
            raise _ParameterError(f"{', '.join(sorted(unknown))} cannot be included.")
        user: _Resource = {"type": "user", "id": grant.patron.id, "attributes": {}}
        document: _Resource = {
            "data": user,
            "links": {"self": f"{self.url}/api/oauth2/v2/user/{grant.patron.id}"},
        }
        if include:
            shown = [
                membership
                for membership in grant.patron.memberships
                if ALL_MEMBERSHIPS in grant.scopes or membership.campaign_id == self.campaign_id
            ]
            user["relationships"] = {
                "memberships": {"data": [_link("member", each.id) for each in shown]}
            }
            if shown:
                document["included"] = _include(shown, include, query)
        return document


def _include(
    memberships: list[Membership], include: set[str], query: QueryParams
) -> list[_Resource]:
    """Returns the members and the requested related resources, each once."""
    found: dict[str, _Resource] = {}
    for membership in memberships:
        member = _resource("member", membership.id, membership.attributes(), query)
        found[membership.id] = member
        relationships: dict[str, object] = {}
        if "memberships.campaign" in include:
            campaign_id = membership.campaign_id
            relationships["campaign"] = {"data": _link("campaign", campaign_id)}
            found[campaign_id] = _resource("campaign", campaign_id, {}, query)
        if "memberships.currently_entitled_tiers" in include:
            relationships["currently_entitled_tiers"] = {
                "data": [_link("tier", tier.id) for tier in membership.tiers]
            }
            found |= {
                tier.id: _resource("tier", tier.id, {"amount_cents": tier.amount_cents}, query)
                for tier in membership.tiers
            }
        if relationships:
            member["relationships"] = relationships
    return list(found.values())


def _resource(
    kind: str, identifier: str, attributes: Mapping[str, object], query: QueryParams
) -> _Resource:
    """Returns a resource with only the requested attributes."""
    requested = [name for name in query.get(f"fields[{kind}]", "").split(",") if name]
    if unknown := set(requested) - set(attributes):
        raise _ParameterError(f"A {kind} has no {', '.join(sorted(unknown))}.")
    return {**_link(kind, identifier), "attributes": {name: attributes[name] for name in requested}}


def _link(kind: str, identifier: str) -> _Resource:
    return {"type": kind, "id": identifier}


def _error(status: int, code_name: str, detail: str, **more: object) -> Response:
    error = {
        "code": None,
        "code_name": code_name,
        "detail": detail,
        "id": str(uuid.uuid4()),
        "status": str(status),
        "title": code_name,
        **more,
    }
    return _jsonapi({"errors": [error]}, status)


def _jsonapi(document: Mapping[str, object], status: int = 200) -> Response:
    return JSONResponse(document, status, media_type="application/vnd.api+json")
