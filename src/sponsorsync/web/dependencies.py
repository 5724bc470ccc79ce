"""The dependencies that routes declare in their signatures.

All are async: FastAPI runs a plain function in a thread, which takes longer than the whole request.
"""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPBearer

from sponsorsync.domain.errors import BearerRefusedError, NotSignedInError, TokenReadsOnlyError
from sponsorsync.web.services import Services

# Only documents the cookie in OpenAPI; on plain http its name has no prefix.
_session_cookie = APIKeyCookie(
    name="__Host-sponsorsync",
    scheme_name="session",
    description="Set by the sign-in. On plain http its name is `sponsorsync`.",
    auto_error=False,
)
_bearer = HTTPBearer(
    scheme_name="token", description="A token of `POST /token`; for reads.", auto_error=False
)
_BEARER = "bearer "

READER_SECURITY: list[dict[str, list[str]]] = [
    {_session_cookie.scheme_name: []},
    {_bearer.scheme_name: []},
]
"""The `security` in OpenAPI of a route that calls `find_caller` instead of taking `ReaderId`."""


async def get_services(request: Request) -> Services:
    """Returns the services that the lifespan opened."""
    services: Services = request.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


async def get_session_token(request: Request, services: ServicesDep) -> str | None:
    """Returns the token in the session cookie, which may be invalid; None without a cookie."""
    return services.cookies.read_session(request.cookies)


SessionToken = Annotated[str | None, Depends(get_session_token)]


def find_caller(request: Request, services: Services) -> str | int | None:
    """Returns the person's id in a valid bearer token, else the unchecked session token, else None.

    An invalid bearer token beside a session is no error: a reverse proxy may forward a token that
    is meant for the application behind it.
    """
    person_id = _read_token(request, services)
    return services.cookies.read_session(request.cookies) if person_id is None else person_id


def not_signed_in(request: Request, *, login_url: str = "/login") -> NotSignedInError:
    """Returns the error for a request with neither a valid session nor a valid bearer token."""
    kind = NotSignedInError if _find_bearer(request) is None else BearerRefusedError
    return kind(login_url=login_url)


async def require_session(
    request: Request, services: ServicesDep, _: Annotated[str | None, Depends(_session_cookie)]
) -> str:
    """Returns the session token of the cookie, without a check.

    Raises:
        NotSignedInError: There is no session cookie.
        TokenReadsOnlyError: There is no session cookie, but a valid bearer token.
    """
    session = services.cookies.read_session(request.cookies)
    if session is not None:
        return session
    if _read_token(request, services) is not None:
        raise TokenReadsOnlyError
    raise not_signed_in(request)


SessionOnly = Annotated[str, Depends(require_session)]


async def require_person(session: SessionOnly, services: ServicesDep) -> int:
    """Returns the id of the signed-in person, after one round trip to Redis.

    Raises:
        NotSignedInError: There is no session, or it has ended.
    """
    person_id = await services.people.load_session(session)
    if person_id is None:
        raise NotSignedInError
    return person_id


PersonId = Annotated[int, Depends(require_person)]
"""The signed-in person's id, for routes that change or export data: only a session will do."""


async def require_reader(
    request: Request,
    services: ServicesDep,
    _cookie: Annotated[object, Depends(_session_cookie)],
    _token: Annotated[object, Depends(_bearer)],
) -> int:
    """Returns the id of the person from a bearer token or a session.

    Raises:
        NotSignedInError: There is neither a valid session nor a valid bearer token.
    """
    caller = find_caller(request, services)
    person_id = await services.people.load_session(caller) if isinstance(caller, str) else caller
    if person_id is None:
        raise not_signed_in(request)
    return person_id


ReaderId = Annotated[int, Depends(require_reader)]
"""The id of the person, for routes that only read: a session or a bearer token will do."""


def _read_token(request: Request, services: Services) -> int | None:
    token = _find_bearer(request)
    if token is None or services.tokens is None:
        return None
    return services.tokens.read(token, now=services.clock())


def _find_bearer(request: Request) -> str | None:
    header = request.headers.get("authorization", "")
    return header[len(_BEARER) :].strip() if header.lower().startswith(_BEARER) else None
