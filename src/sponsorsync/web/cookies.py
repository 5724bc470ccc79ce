"""The cookies: one for the session, and one for each open login attempt.

The session cookie contains a random token and nothing else. An attempt's cookie contains the OAuth
state, the PKCE verifier and the next URL, encrypted: it binds the attempt to the browser. Each
attempt has its own cookie, so that attempts in two tabs do not overwrite each other.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Literal

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import SecretStr
from starlette.responses import Response

_ATTEMPT_LIFE_S = 600  # GitHub's codes live ten minutes
_STATE_HASH_LENGTH = 16
_MAX_ATTEMPTS = 8
_SEAL = {"alg": "dir", "enc": "A256GCM"}
_SameSite = Literal["lax", "none"]


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt to log in or to link an account: the values that the callback needs.

    A login has neither `person_id` nor `source`; a link has the signed-in person and the source of
    the account.
    """

    state: str
    code_verifier: str
    next_url: str
    person_id: int | None = None
    source: str | None = None


class Cookies:
    """Sets, reads and clears every cookie; all are HttpOnly.

    On https the names begin with `__Host-`: browsers then accept the cookie only from this very
    host, over TLS, for all paths (RFC 6265bis, 4.1.3.2).
    """

    def __init__(
        self, *, secret: SecretStr, secure: bool, samesite: _SameSite, session_life: timedelta
    ) -> None:
        # One secret may serve several purposes; each has its own derived key.
        key = hmac.digest(secret.get_secret_value().encode(), b"login attempt", "sha256")
        self._seal_key = OctKey.import_key(key)
        self._secure = secure
        self._samesite = samesite
        self._session_s = int(session_life.total_seconds())
        self.session_name = f"{'__Host-' if secure else ''}sponsorsync"
        self._attempt_prefix = f"{self.session_name}-login-"

    def read_session(self, cookies: Mapping[str, str]) -> str | None:
        """Returns the session token, or None."""
        return cookies.get(self.session_name) or None

    def set_session(self, response: Response, token: str) -> None:
        """Sets the session cookie, for as long as the server stores the session."""
        self._set(response, self.session_name, token, self._session_s, self._samesite)

    def clear_session(self, response: Response) -> None:
        """Deletes the session cookie."""
        self._set(response, self.session_name, "", 0, self._samesite)

    def set_attempt(self, response: Response, attempt: OpenAttempt, *, now: datetime) -> None:
        """Sets the encrypted cookie that binds an attempt to the browser."""
        content = {**asdict(attempt), "ends": int(now.timestamp()) + _ATTEMPT_LIFE_S}
        sealed = jwe.encrypt_compact(_SEAL, json.dumps(content, ensure_ascii=False), self._seal_key)
        # Lax is enough: GitHub's redirect is a top-level navigation, which sends Lax cookies.
        self._set(response, self._attempt_name(attempt.state), sealed, _ATTEMPT_LIFE_S, "lax")

    def read_attempt(
        self, cookies: Mapping[str, str], state: str, *, now: datetime
    ) -> OpenAttempt | None:
        """Returns the attempt with this state if this browser started it and it is valid."""
        sealed = cookies.get(self._attempt_name(state))
        if sealed is None:
            return None
        try:
            plain = jwe.decrypt_compact(sealed, self._seal_key).plaintext
        except (JoseError, ValueError):
            return None
        content = json.loads(plain or b"{}")
        if not hmac.compare_digest(content["state"].encode(), state.encode()):
            return None
        if now.timestamp() >= content.pop("ends"):
            return None
        return OpenAttempt(**content)

    def clear_excess_attempts(self, response: Response, cookies: Mapping[str, str]) -> None:
        """Deletes the cookies of all attempts if there are many: proxies refuse long headers."""
        attempts = [name for name in cookies if name.startswith(self._attempt_prefix)]
        if len(attempts) >= _MAX_ATTEMPTS:
            for name in attempts:
                self._set(response, name, "", 0, "lax")

    def clear_attempt(self, response: Response, state: str) -> None:
        """Deletes the cookie of an attempt, which is used once, be it a success or a failure."""
        self._set(response, self._attempt_name(state), "", 0, "lax")

    def _attempt_name(self, state: str) -> str:
        # The state comes from outside, so it is hashed before it becomes a name.
        digest = hashlib.sha256(state.encode()).hexdigest()[:_STATE_HASH_LENGTH]
        return self._attempt_prefix + digest

    def _set(
        self, response: Response, name: str, value: str, max_age_s: int, samesite: _SameSite
    ) -> None:
        response.set_cookie(
            name,
            value,
            max_age=max_age_s,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite=samesite,
        )
