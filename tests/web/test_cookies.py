"""Sealed (encrypted) cookies are valid under their own name only."""

from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

from pydantic import SecretStr
from starlette.responses import Response

from sponsorsync.web.cookies import Cookies, OpenAttempt

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
COOKIES = Cookies(
    secret=SecretStr("x" * 32), secure=True, samesite="lax", session_life=timedelta(days=30)
)


def _set(attempt: OpenAttempt) -> tuple[str, str]:
    """Returns the name and the value of the cookie of a sign-in attempt."""
    response = Response()
    COOKIES.set_attempt(response, attempt, now=NOW)
    [(name, morsel)] = SimpleCookie(response.headers["set-cookie"]).items()
    return name, morsel.value


def test_an_attempt_under_the_name_of_another_one_is_refused() -> None:
    """A browser could otherwise finish one sign-in with the PKCE verifier of another."""
    first = OpenAttempt(state="first", code_verifier="a", next_url="/account")
    second = OpenAttempt(state="second", code_verifier="b", next_url="/admin")
    first_name, first_value = _set(first)
    second_name, second_value = _set(second)

    assert COOKIES.read_attempt({first_name: first_value}, "first", now=NOW) == first
    assert COOKIES.read_attempt({first_name: second_value}, "first", now=NOW) is None
    assert COOKIES.read_attempt({second_name: first_value}, "second", now=NOW) is None


def test_an_attempt_is_not_a_session() -> None:
    """A sign-in attempt is not valid under the name of the session cookie, and vice versa."""
    name, value = _set(OpenAttempt(state="first", code_verifier="a", next_url="/account"))

    assert COOKIES.read_session({name: value}) is None
    assert COOKIES.read_attempt({COOKIES.session_name: value}, "first", now=NOW) is None
