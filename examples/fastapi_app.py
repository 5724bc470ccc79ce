"""A FastAPI application with a page for sponsors of $10 a month or more."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from examples.sponsor_tokens import KeysAwayError, SponsorTokens, is_entitled

_bearer = HTTPBearer(auto_error=False)


def create_app(tokens: SponsorTokens) -> FastAPI:
    """Returns the application."""
    app = FastAPI()

    # Not async, so that FastAPI runs it in a thread: fetching the keys blocks.
    def require_sponsor(
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> dict[str, Any]:
        try:
            claims = None if bearer is None else tokens.read(bearer.credentials)
        except KeysAwayError:
            raise HTTPException(503, "SponsorSync does not answer.") from None
        if claims is None:
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
        if not is_entitled(claims, 1000):
            raise HTTPException(403, "This is for sponsors.")
        return claims

    @app.get("/members")
    def show_members(claims: Annotated[dict[str, Any], Depends(require_sponsor)]) -> dict[str, str]:
        return {"hello": claims["sub"]}

    return app
