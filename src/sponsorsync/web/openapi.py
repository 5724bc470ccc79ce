"""Corrects FastAPI's OpenAPI document: errors are problem details (RFC 9457)."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from sponsorsync.web.errors import error_responses

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")

COMMON_ERRORS = error_responses(HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
"""The answers of every route to a request that cannot be parsed."""


def correct_openapi(app: FastAPI) -> None:
    """Makes the app document its errors as `application/problem+json`."""
    generate: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            for path in document["paths"].values():
                for operation in path.values():
                    _correct(operation["responses"])
            for name in _FASTAPIS_OWN:
                document["components"]["schemas"].pop(name, None)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _correct(responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        # FastAPI documents errors with the media type of the route's regular answer.
        schemas = [media.get("schema", {}) for media in response.get("content", {}).values()]
        names = {schema.get("$ref", "").rpartition("/")[2] for schema in schemas}
        if status.startswith(("4", "5")) and names & {"Problem", *_FASTAPIS_OWN}:
            response["content"] = {"application/problem+json": {"schema": _PROBLEM}}
