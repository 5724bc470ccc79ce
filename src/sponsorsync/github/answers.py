"""Checks and parses any answer of GitHub: status, JSON, errors and rate limit. No I/O."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar, cast

from sponsorsync.domain.errors import (
    GitHubLimitedError,
    GitHubRefusedError,
    GitHubTokenError,
    GitHubUnreachableError,
)

T = TypeVar("T")

# GitHub's documentation: without retry-after and x-ratelimit-reset, wait for at least a minute.
# https://docs.github.com/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api
_DEFAULT_RETRY_AFTER_S = 60


def check_status(status: int, headers: Mapping[str, str], *, now: datetime) -> None:
    """Raises the GitHubError for an HTTP status and its headers; returns for 2xx.

    403 means a rate limit if the headers have `retry-after` or no remaining points, else a refusal.
    https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    limited = "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0"
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.FORBIDDEN and limited):
        raise GitHubLimitedError(
            "GitHub's rate limit is reached.", retry_after_s=read_retry_after(headers, now=now)
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise GitHubUnreachableError(f"GitHub failed to answer (HTTP {status}).")
    if status == HTTPStatus.UNAUTHORIZED:
        raise GitHubTokenError(
            "GitHub rejected the access token (HTTP 401): it is wrong, revoked or expired."
        )
    raise GitHubRefusedError(f"GitHub refused to answer (HTTP {status}).")


def check_graphql_errors(errors: Sequence[Mapping[str, Any]]) -> None:
    """Raises the GitHubError for the `errors` of a GraphQL answer; returns when there are none."""
    if not errors:
        return
    kinds = {str(error.get("type", "")) for error in errors}
    if kinds & {"RATE_LIMITED", "RATE_LIMIT"}:
        raise GitHubLimitedError(
            "GitHub's rate limit is reached.", retry_after_s=_DEFAULT_RETRY_AFTER_S
        )
    named = ", ".join(sorted(kind for kind in kinds if kind)) or "no type given"
    raise GitHubRefusedError(f"GitHub did not answer the whole query ({named}).")


def read_retry_after(headers: Mapping[str, str], *, now: datetime) -> int:
    """Returns the number of seconds to wait before the next request."""
    try:
        if "retry-after" in headers:
            return max(1, int(headers["retry-after"]))
        return max(1, int(headers["x-ratelimit-reset"]) - int(now.timestamp()))
    except (KeyError, ValueError):
        return _DEFAULT_RETRY_AFTER_S


@contextmanager
def reading(subject: str) -> Iterator[None]:
    """Raises GitHubUnreachableError if the block fails because an answer has another shape."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(subject) from error


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - the callers check its shape
    """Returns the JSON value; raises GitHubUnreachableError when the body is not JSON."""
    try:
        return cast("Any", json.loads(body))
    except (ValueError, RecursionError) as error:
        raise _unreadable("answer") from error


def parse_time(text: str) -> datetime:
    """Returns a time with its zone; raises ValueError or TypeError for anything else."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without a zone cannot be compared with others")
    return time


def expect(value: object, kind: type[T]) -> T:
    """Returns the value; raises TypeError unless it is of this type."""
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
    return value


def expect_or_none(value: object, kind: type[T]) -> T | None:
    """Returns the value; raises TypeError unless it is None or of this type."""
    return None if value is None else expect(value, kind)


def _unreadable(subject: str) -> GitHubUnreachableError:
    return GitHubUnreachableError(f"GitHub sent a {subject} that could not be read.")
