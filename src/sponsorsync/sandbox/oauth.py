"""The rules of the simulated GitHub's OAuth web flow: codes, tokens, and their exchange.

https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from sponsorsync.sandbox.bounded_dict import BoundedDict
from sponsorsync.sandbox.people import Person

CODE_LIFETIME = timedelta(minutes=10)
CODES_KEPT = 1_000
TOKENS_KEPT = 10_000
POINTS_AN_HOUR = 5_000

KNOWN_SCOPES = ("read:user", "user:email", "read:org")
"""GitHub silently drops any other scope from a request; there is no `read:email`."""

DOCS = "https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps"


class OAuthError(Exception):
    """An error with GitHub's `error`, `error_description` and `error_uri`."""

    page = f"{DOCS}/troubleshooting-oauth-app-access-token-request-errors"

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description

    def as_fields(self) -> dict[str, str]:
        """Returns the three fields of the answer."""
        anchor = self.error.replace("_", "-")
        return {
            "error": self.error,
            "error_description": self.description,
            "error_uri": f"{self.page}#{anchor}",
        }


_REDIRECT_URI_MISMATCH = (
    "redirect_uri_mismatch",
    "The redirect_uri MUST match the registered callback URL for this application.",
)


class AuthorizeError(OAuthError):
    """An error that GitHub reports by sending the browser back to `redirect_uri`."""

    page = f"{DOCS}/troubleshooting-authorization-request-errors"

    def __init__(self, error: str, description: str, redirect_uri: str) -> None:
        super().__init__(error, description)
        self.redirect_uri = redirect_uri


@dataclass(frozen=True)
class AuthorizeRequest:
    """The parameters with which the service sent the browser to the authorize page."""

    redirect_uri: str
    scope: str
    state: str | None
    code_challenge: str | None


@dataclass(frozen=True)
class Code:
    """A person's consent, valid for one exchange."""

    person: Person
    request: AuthorizeRequest
    issued_at: datetime


@dataclass
class Token:
    """A live access token."""

    token: str = field(repr=False)
    person: Person
    scopes: tuple[str, ...]
    window_began: datetime
    points_used: int = 0

    @property
    def points_left(self) -> int:
        """The points for the rate limit headers; never enforced, so they stay above zero."""
        return max(1, POINTS_AN_HOUR - self.points_used)

    @property
    def window_ends(self) -> datetime:
        """The moment at which the points are reset."""
        return self.window_began + timedelta(hours=1)

    def spend(self, now: datetime) -> None:
        """Counts one request."""
        if now >= self.window_ends:
            self.window_began, self.points_used = now, 0
        self.points_used += 1


class Tokens(BoundedDict[Token]):
    """The live access tokens; the keys are the tokens as text."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(TOKENS_KEPT)
        self._now = now

    def issue(self, person: Person, scopes: Sequence[str] = KNOWN_SCOPES) -> str:
        """Creates a token; a maintainer's token and tests need no web flow before."""
        token = "gho_" + secrets.token_hex(18)
        self[token] = Token(token, person, tuple(scopes), self._now())
        return token

    def live(self) -> list[Token]:
        """Returns all live tokens, the oldest first."""
        return list(self.values())


@dataclass(kw_only=True)
class OAuthApp:
    """The only registered OAuth app; the first of its `redirect_uris` is the default."""

    client_id: str
    client_secret: str = field(repr=False)
    redirect_uris: Sequence[str]
    tokens: Tokens
    now: Callable[[], datetime]
    _codes: BoundedDict[Code] = field(init=False, default_factory=lambda: BoundedDict(CODES_KEPT))

    def __post_init__(self) -> None:
        """Checks that there is a default callback."""
        if not self.redirect_uris:
            raise ValueError("an OAuth app needs at least one redirect_uri")

    def is_secret(self, client_id: str, client_secret: str) -> bool:
        """Returns whether these are the credentials of this app."""
        return _same(client_id, self.client_id) and _same(client_secret, self.client_secret)

    def parse_authorize(self, query: Mapping[str, str]) -> AuthorizeRequest:
        """Returns the parameters of the authorize page.

        Raises AuthorizeError if they are wrong; the caller then sends the browser back with it.
        """
        default_redirect_uri = self.redirect_uris[0]
        redirect_uri = query.get("redirect_uri") or default_redirect_uri
        if redirect_uri not in self.redirect_uris:
            raise AuthorizeError(*_REDIRECT_URI_MISMATCH, default_redirect_uri)
        challenge = query.get("code_challenge")
        if challenge and query.get("code_challenge_method") != "S256":
            raise AuthorizeError(
                "invalid_request", "The code_challenge_method must be S256.", redirect_uri
            )
        return AuthorizeRequest(
            redirect_uri, query.get("scope", ""), query.get("state"), challenge or None
        )

    def consent(self, person: Person, request: AuthorizeRequest) -> str:
        """Returns a code for the consent of `person`; raises AuthorizeError if they deny."""
        if person.denies:
            raise AuthorizeError(
                "access_denied",
                "The user has denied your application access.",
                request.redirect_uri,
            )
        code = secrets.token_hex(10)
        self._codes[code] = Code(person, request, self.now())
        return code

    def exchange(self, form: Mapping[str, str]) -> dict[str, str]:
        """Exchanges a code for an access token; raises OAuthError if a parameter is wrong."""
        if not self.is_secret(form.get("client_id", ""), form.get("client_secret", "")):
            raise OAuthError(
                "incorrect_client_credentials",
                "The client_id and/or client_secret passed are incorrect.",
            )
        code = self._pop_code(form.get("code", ""))
        if form.get("redirect_uri", code.request.redirect_uri) != code.request.redirect_uri:
            raise OAuthError(*_REDIRECT_URI_MISMATCH)
        challenge = code.request.code_challenge
        verifier = form.get("code_verifier", "")
        if challenge is not None and not _same(challenge_for(verifier), challenge):
            raise _bad_code()
        scopes = [scope for scope in code.request.scope.split() if scope in KNOWN_SCOPES]
        return {
            "access_token": self.tokens.issue(code.person, scopes),
            "token_type": "bearer",
            "scope": ",".join(scopes),
        }

    def _pop_code(self, text: str) -> Code:
        """Returns and removes a code before any other check, so that it cannot be tried twice."""
        code = self._codes.pop(text, None)
        if code is None or self.now() > code.issued_at + CODE_LIFETIME:
            raise _bad_code()
        return code


def challenge_for(verifier: str) -> str:
    """Returns the S256 challenge of RFC 7636."""
    digest = sha256(verifier.encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _bad_code() -> OAuthError:
    return OAuthError("bad_verification_code", "The code passed is incorrect or expired.")


def _same(received: str, wanted: str) -> bool:
    # As bytes, because compare_digest refuses text that is not ASCII.
    return hmac.compare_digest(received.encode(), wanted.encode())
