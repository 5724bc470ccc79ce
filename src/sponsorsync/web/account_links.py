"""Routes that link an account at another service: three for each source in `LINKED_SOURCES`."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from sponsorsync.domain.errors import (
    LinkDeniedError,
    LinkExpiredError,
    NoLinkSourceError,
    SponsorSyncError,
)
from sponsorsync.entitlements.account_link import AccountLink
from sponsorsync.entitlements.linked_sources import LINKED_SOURCES
from sponsorsync.linked_source import LinkedSource, callback_path
from sponsorsync.web.cookies import OpenAttempt
from sponsorsync.web.dependencies import PersonId, ServicesDep
from sponsorsync.web.errors import error_responses, respond_to
from sponsorsync.web.services import Services


class _Routes:
    def __init__(self, kind: type[LinkedSource]) -> None:
        self._kind = kind

    async def start(self, request: Request, person_id: PersonId, services: ServicesDep) -> Response:
        """Sends the browser to the service; a cookie binds the attempt to this browser and you."""
        attempt = self._find_link(services).linked_source.start()
        response = RedirectResponse(attempt.url, status_code=303)
        services.cookies.clear_excess_attempts(response, request.cookies)
        services.cookies.set_attempt(
            response,
            OpenAttempt(
                state=attempt.state,
                code_verifier="",
                next_url="/account",
                person_id=person_id,
                source=self._kind.source,
            ),
            now=services.clock(),
        )
        return response

    async def finish(
        self,
        request: Request,
        person_id: PersonId,
        services: ServicesDep,
        state: Annotated[str, Query(description="As it was sent to the service.")] = "",
        code: Annotated[str, Query(description="To be exchanged for a token, once.")] = "",
        error: Annotated[str, Query(description="Why there is no code.")] = "",
    ) -> Response:
        """Asks the service once about your support, and does not store its token.

        `state` is checked before anything else, because any site can send a browser here.
        """
        link, source, name = self._find_link(services), self._kind.source, self._kind.name
        attempt = services.cookies.read_attempt(request.cookies, state, now=services.clock())
        if attempt is None or (attempt.person_id, attempt.source) != (person_id, source):
            raise LinkExpiredError(
                "This was not begun by you in this browser, was used already, or began more "
                f"than ten minutes ago. Please link {name} again."
            )
        response: Response
        try:
            if error or not code:
                raise LinkDeniedError(
                    f"You did not allow SponsorSync to see your {name} profile, so nothing was "
                    "linked."
                )
            has_grant = await link.finish(person_id, code=code)
        except SponsorSyncError as failure:
            response = respond_to(request, failure)
        else:
            next_url = attempt.next_url if has_grant else f"/account?no_support={source}"
            response = RedirectResponse(next_url, status_code=303)
        services.cookies.clear_attempt(response, state)
        return response

    async def unlink(self, person_id: PersonId, services: ServicesDep) -> Response:
        """Removes the link and ends its entitlement; does nothing if no account is linked."""
        await self._find_link(services).unlink(person_id)
        return RedirectResponse("/account", status_code=303)

    def _find_link(self, services: Services) -> AccountLink:
        link = services.account_links.get(self._kind.source)
        if link is None:
            raise NoLinkSourceError(self._kind.name, self._kind.client_id_variable)
        return link


def _create_router(kind: type[LinkedSource]) -> APIRouter:
    routes, source, name = _Routes(kind), kind.source, kind.name
    router = APIRouter(
        tags=[source], default_response_class=RedirectResponse, responses=error_responses(401)
    )
    router.add_api_route(
        f"/{source}/link",
        routes.start,
        name=f"start_{source}_link",
        status_code=303,
        summary=f"Begin to link an account at {name}",
        responses=error_responses(409),
    )
    router.add_api_route(
        callback_path(source),
        routes.finish,
        name=f"finish_{source}_link",
        status_code=303,
        summary=f"Finish the link: {name} sends the browser here",
        responses=error_responses(400, 403, 409, 502, 503),
    )
    router.add_api_route(
        f"/{source}/unlink",
        routes.unlink,
        methods=["POST"],
        name=f"unlink_{source}",
        status_code=303,
        summary=f"Unlink my account at {name}",
        responses=error_responses(403, 409, 503),
    )
    return router


router = APIRouter()
for _kind in LINKED_SOURCES:
    router.include_router(_create_router(_kind))
