"""What routes ask for in their signatures."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from sponsorsync.domain.errors import BearerRefusedError, NotSignedInError, TokenReadsOnlyError
from sponsorsync.web.services import Services

# For OpenAPI only: it tells a reader which cookie is meant. On plain http the name has no prefix.
_session_cookie = APIKeyCookie(
    name="__Host-sponsorsync",
    scheme_name="session",
    description="Set by the login. On plain http its name is `sponsorsync`.",
    auto_error=False,
)
_bearer = HTTPBearer(
    scheme_name="token", description="A token of `POST /token`; for reads.", auto_error=False
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


Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def find_caller(
    session: SessionToken,
    services: ServicesDep,
    credentials: Credentials,
    _: Annotated[str | None, Depends(_session_cookie)],
) -> str | int | None:
    """Returns the id in a token that counts, else the session's token, known or not, else None.

    A token that is not ours is no fault beside a session: a reverse proxy may pass on what is meant
    for the application behind it.
    """
    person_id = None if credentials is None else _read_token(services, credentials)
    return session if person_id is None else person_id


Caller = Annotated[str | int | None, Depends(find_caller)]


def require_session(
    session: SessionToken,
    services: ServicesDep,
    credentials: Credentials,
    _: Annotated[str | None, Depends(_session_cookie)],
) -> str:
    """Returns the session's token, known to the server or not.

    Raises:
        NotSignedInError: There is none.
        TokenReadsOnlyError: … but a token that counts.
    """
    if session is not None:
        return session
    if credentials is not None and _read_token(services, credentials) is not None:
        raise TokenReadsOnlyError
    raise not_signed_in(credentials)


SessionOnly = Annotated[str, Depends(require_session)]


async def require_person(session: SessionOnly, services: ServicesDep) -> int:
    """Returns the id of who is signed in, at the cost of one round trip to Redis.

    Raises:
        NotSignedInError: There is no session, or it ended.
    """
    person_id = await services.people.load_session(session)
    if person_id is None:
        raise NotSignedInError
    return person_id


async def require_reader(caller: Caller, services: ServicesDep, credentials: Credentials) -> int:
    """Returns the id of who is signed in, or whose token it is.

    Raises:
        NotSignedInError: Neither.
    """
    person_id = await services.people.load_session(caller) if isinstance(caller, str) else caller
    if person_id is None:
        raise not_signed_in(credentials)
    return person_id


def not_signed_in(
    credentials: HTTPAuthorizationCredentials | None, *, login_url: str = "/login"
) -> NotSignedInError:
    """Returns what to raise where there is no session that counts, and no token that does."""
    kind = NotSignedInError if credentials is None else BearerRefusedError
    return kind(login_url=login_url)


def _read_token(services: Services, credentials: HTTPAuthorizationCredentials) -> int | None:
    if services.tokens is None:
        return None
    return services.tokens.read(credentials.credentials, now=services.clock())


ReaderId = Annotated[int, Depends(require_reader)]
"""For what only reads: a token is enough."""

PersonId = Annotated[int, Depends(require_person)]
"""For what changes something, or shows all there is: it takes a session."""
