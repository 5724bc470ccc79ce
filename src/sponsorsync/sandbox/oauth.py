"""The simulated GitHub's OAuth web flow: codes, tokens, and how one becomes the other.

https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from sponsorsync.sandbox.bounded_dict import Latest
from sponsorsync.sandbox.people import Person

CODE_LIFETIME = timedelta(minutes=10)
CODES_KEPT = 1_000
TOKENS_KEPT = 10_000
POINTS_AN_HOUR = 5_000

KNOWN_SCOPES = ("read:user", "user:email", "read:org")
"""What is granted when asked for; any other (there is no `read:email`) is dropped in silence."""

DOCS = "https://docs.github.com/apps/oauth-apps/maintaining-oauth-apps"


class OAuthError(Exception):
    """What GitHub says in `error`, `error_description` and `error_uri`."""

    page = f"{DOCS}/troubleshooting-oauth-app-access-token-request-errors"

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description

    def as_fields(self) -> dict[str, str]:
        """The three fields of the answer."""
        anchor = self.error.replace("_", "-")
        return {
            "error": self.error,
            "error_description": self.description,
            "error_uri": f"{self.page}#{anchor}",
        }


class AuthorizeError(OAuthError):
    """One that goes back through the browser, to `redirect_uri`."""

    page = f"{DOCS}/troubleshooting-authorization-request-errors"

    def __init__(self, error: str, description: str, redirect_uri: str) -> None:
        super().__init__(error, description)
        self.redirect_uri = redirect_uri


@dataclass(frozen=True)
class AuthorizeRequest:
    """What the service asked for when it sent the browser here."""

    redirect_uri: str
    scope: str
    state: str | None
    code_challenge: str | None


@dataclass(frozen=True)
class Code:
    """A person's consent, good for one exchange."""

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
        """What the rate limit headers say; counted and never enforced, so it stays above zero."""
        return max(1, POINTS_AN_HOUR - self.points_used)

    @property
    def window_ends(self) -> datetime:
        """When the points are all there again."""
        return self.window_began + timedelta(hours=1)

    def spend(self, now: datetime) -> None:
        """Count one request."""
        if now >= self.window_ends:
            self.window_began, self.points_used = now, 0
        self.points_used += 1


class Tokens:
    """The access tokens that work."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._tokens: Latest[Token] = Latest(TOKENS_KEPT)

    def issue(self, person: Person, scopes: Sequence[str] = KNOWN_SCOPES) -> str:
        """Make a token without any web flow, as somebody does by hand for MAINTAINER_TOKEN."""
        token = "gho_" + secrets.token_hex(18)
        self._tokens.put(token, Token(token, person, tuple(scopes), self._now()))
        return token

    def find(self, token: str) -> Token | None:
        """What is known of a live token."""
        return self._tokens.get(token)

    def revoke(self, token: str) -> bool:
        """End a token; False when it was not live."""
        return self._tokens.take(token) is not None

    def live(self) -> list[Token]:
        """All live tokens, the oldest first."""
        return self._tokens.values()


class OAuthApp:
    """The one OAuth app that is registered here."""

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        redirect_uris: Sequence[str],
        tokens: Tokens,
        now: Callable[[], datetime],
    ) -> None:
        if not redirect_uris:
            raise ValueError("an OAuth app needs at least one redirect_uri")
        self.client_id = client_id
        self._client_secret = client_secret
        self._redirect_uris = tuple(redirect_uris)
        self._tokens = tokens
        self._now = now
        self._codes: Latest[Code] = Latest(CODES_KEPT)

    @property
    def default_redirect_uri(self) -> str:
        """Where to send a browser whose request names no callback, or a wrong one."""
        return self._redirect_uris[0]

    def is_secret(self, client_id: str, client_secret: str) -> bool:
        """Whether both belong to this app."""
        return _same(client_id, self.client_id) and _same(client_secret, self._client_secret)

    def parse_authorize(self, query: Mapping[str, str]) -> AuthorizeRequest:
        """Judge what the browser brought.

        Raises:
            AuthorizeError: The browser has to go back with an error.
        """
        redirect_uri = query.get("redirect_uri") or self.default_redirect_uri
        if redirect_uri not in self._redirect_uris:
            raise AuthorizeError(
                "redirect_uri_mismatch",
                "The redirect_uri MUST match the registered callback URL for this application.",
                self.default_redirect_uri,
            )
        challenge = query.get("code_challenge")
        if challenge and query.get("code_challenge_method") != "S256":
            raise AuthorizeError(
                "invalid_request", "The code_challenge_method must be S256.", redirect_uri
            )
        return AuthorizeRequest(
            redirect_uri, query.get("scope", ""), query.get("state"), challenge or None
        )

    def consent(self, person: Person, request: AuthorizeRequest) -> str:
        """Note the consent of `person`.

        Returns:
            The code for the redirect.

        Raises:
            AuthorizeError: This person denies.
        """
        if person.denies:
            raise AuthorizeError(
                "access_denied",
                "The user has denied your application access.",
                request.redirect_uri,
            )
        code = secrets.token_hex(10)
        self._codes.put(code, Code(person, request, self._now()))
        return code

    def exchange(self, form: Mapping[str, str]) -> dict[str, str]:
        """Turn a code into an access token.

        Raises:
            OAuthError: The form does not deserve one.
        """
        if not self.is_secret(form.get("client_id", ""), form.get("client_secret", "")):
            raise OAuthError(
                "incorrect_client_credentials",
                "The client_id and/or client_secret passed are incorrect.",
            )
        code = self._take_code(form.get("code", ""))
        if form.get("redirect_uri", code.request.redirect_uri) != code.request.redirect_uri:
            raise OAuthError(
                "redirect_uri_mismatch",
                "The redirect_uri MUST match the registered callback URL for this application.",
            )
        _check_verifier(code.request.code_challenge, form.get("code_verifier", ""))
        scopes = [scope for scope in code.request.scope.split() if scope in KNOWN_SCOPES]
        return {
            "access_token": self._tokens.issue(code.person, scopes),
            "token_type": "bearer",
            "scope": ",".join(scopes),
        }

    def _take_code(self, text: str) -> Code:
        """Taken out before anything else is judged: no second try with the same code."""
        code = self._codes.take(text)
        if code is None or self._now() > code.issued_at + CODE_LIFETIME:
            raise _bad_code()
        return code


def challenge_for(verifier: str) -> str:
    """The S256 challenge of RFC 7636."""
    digest = sha256(verifier.encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _check_verifier(challenge: str | None, verifier: str) -> None:
    if challenge is not None and not _same(challenge_for(verifier), challenge):
        raise _bad_code()


def _bad_code() -> OAuthError:
    return OAuthError("bad_verification_code", "The code passed is incorrect or expired.")


def _same(given: str, wanted: str) -> bool:
    # Bytes, because compare_digest refuses text that is not ASCII.
    return hmac.compare_digest(given.encode(), wanted.encode())
