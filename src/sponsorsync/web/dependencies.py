"""What routes ask for in their signatures."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie

from sponsorsync.domain.errors import NotSignedInError
from sponsorsync.web.services import Services

# For OpenAPI only: it tells a reader which cookie is meant. On plain http the name has no prefix.
_session_cookie = APIKeyCookie(
    name="__Host-sponsorsync",
    scheme_name="session",
    description="Set by the login. On plain http its name is `sponsorsync`.",
    auto_error=False,
)


def get_services(request: Request) -> Services:
    """Returns what the lifespan opened."""
    services: Services = request.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


def get_session_token(request: Request, services: ServicesDep) -> str | None:
    """Returns the token in the session cookie, known to the server or not."""
    return services.cookies.read_session(request.cookies)


SessionToken = Annotated[str | None, Depends(get_session_token)]


async def require_person(
    token: SessionToken,
    services: ServicesDep,
    _: Annotated[str | None, Depends(_session_cookie)],
) -> int:
    """Returns the id of who is signed in, at the cost of one round trip to Redis.

    Raises:
        NotSignedInError: There is no session, or it ended.
    """
    person_id = None if token is None else await services.people.load_session(token)
    if person_id is None:
        raise NotSignedInError
    return person_id


PersonId = Annotated[int, Depends(require_person)]
