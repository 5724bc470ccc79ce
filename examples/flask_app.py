"""A Flask application with a page for sponsors of $10 a month or more."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Flask, g, request

from examples.sponsor_tokens import KeysAwayError, SponsorTokens, is_entitled


def create_app(tokens: SponsorTokens) -> Flask:
    """Returns the application."""
    app = Flask(__name__)

    def require_sponsor(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - a view's own
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            try:
                claims = tokens.read(token) if scheme.lower() == "bearer" else None
            except KeysAwayError:
                return "SponsorSync does not answer.", 503
            if claims is None:
                return "", 401, {"WWW-Authenticate": "Bearer"}
            if not is_entitled(claims, 1000):
                return "This is for sponsors.", 403
            g.sponsor = claims
            return view(*arguments, **named)

        return guarded

    @app.get("/members")
    @require_sponsor
    def show_members() -> dict[str, str]:
        return {"hello": g.sponsor["sub"]}

    return app
