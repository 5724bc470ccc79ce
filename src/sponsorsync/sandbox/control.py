"""The control page of the simulated GitHub, its switches over HTTP, and the avatars."""

from html import escape

import httpx
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from sponsorsync.sandbox.github_state import GitHubState
from sponsorsync.sandbox.hooks import Action, Hook
from sponsorsync.sandbox.pages import Pages, parse_form
from sponsorsync.sandbox.people import Sponsorship
from sponsorsync.sandbox.switchboard import switch_routes


class Control:
    """The pages for developers, and the avatars, to which the service links."""

    def __init__(self, state: GitHubState, pages: Pages) -> None:
        self.hook: Hook | None = None
        self._state = state
        self._pages = pages

    def routes(self) -> list[Route]:
        """Returns the routes of the pages, of the switches and of the avatars."""
        return [
            *switch_routes(self._state.switches, self._render),
            Route("/sponsorships", self._sponsor, methods=["POST"]),
            Route("/avatars/{database_id:int}", self._avatar, methods=["GET"]),
        ]

    async def _sponsor(self, request: Request) -> Response:
        """Starts or ends a sponsorship of the maintainer, and sends the event to the webhook."""
        form = parse_form(await request.body())
        sponsor = self._state.people.find(form.get("sponsor", [""])[-1])
        if sponsor is None:
            return self._render(["no account has this login"])
        if form.get("action") == ["created"]:
            people, maintainer = self._state.people, self._state.maintainer
            changed = [people.sponsor(sponsor.login, maintainer, days_ago=0)]
            action: Action = "created"
        else:
            changed = [
                each
                for each in self._state.people.sponsorships_of(sponsor)
                if not (each.is_ended or each.is_one_time_payment)
            ]
            action = "cancelled"
        problems = []
        for sponsorship in changed:
            sponsorship.is_ended = action == "cancelled"
            problems += await self._send_event(action, sponsorship)
        return self._render(problems) if problems else RedirectResponse("/", 303)

    async def _send_event(self, action: Action, sponsorship: Sponsorship) -> list[str]:
        if self.hook is None:
            return []
        try:
            answer = await self.hook.send(self.hook.event(action, sponsorship))
        except httpx.HTTPError as error:
            return [f"the webhook could not be reached: {type(error).__name__}"]
        return [] if answer.is_success else [f"the webhook answered {answer.status_code}"]

    async def _avatar(self, request: Request) -> Response:
        account = self._state.people.by_id(request.path_params["database_id"])
        if account is None:
            return PlainTextResponse("no such account", 404)
        hue = account.database_id % 360
        return Response(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 80 80">'
            f'<rect width="80" height="80" fill="hsl({hue} 45% 40%)"/>'
            '<text x="40" y="54" font-family="sans-serif" font-size="40" fill="#fff" '
            f'text-anchor="middle">{escape(account.login[:1].upper())}</text></svg>',
            media_type="image/svg+xml",
        )

    def _render(self, problems: list[str]) -> Response:
        return self._pages.render(
            "control.html",
            422 if problems else 200,
            url=self._state.url,
            people=list(self._state.people),
            live_tokens=len(self._state.tokens.live()),
            rows=self._state.switches.rows(),
            problems=problems,
        )
