"""How Patreon's errors are said: by the one place that decides on HTTP statuses."""

from __future__ import annotations

import json

import pytest
from starlette.requests import Request

from sponsorsync.domain import errors
from sponsorsync.web.errors import respond_to

REQUEST = Request({"type": "http", "method": "GET", "path": "/patreon/callback", "headers": []})


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.LinkUnreachableError("Gone."), 502, "link_unavailable"),
        (errors.LinkRefusedError("No."), 502, "link_unavailable"),
        (errors.LinkLimitedError("Wait.", retry_after_s=9), 503, "link_limited"),
        (errors.LinkExpiredError("Late."), 400, "link_expired"),
        (errors.LinkDeniedError("Denied."), 403, "link_denied"),
    ],
)
def test_each_kind_has_a_status_and_a_code(
    error: errors.AccountLinkError, status: int, code: str
) -> None:
    """Programs go by the code, people by the sentence."""
    response = respond_to(REQUEST, error)

    problem = json.loads(bytes(response.body))
    assert response.status_code == status
    assert (problem["code"], problem["detail"]) == (code, str(error))


def test_a_limit_is_passed_on() -> None:
    """Whoever asked us can wait as well as we can."""
    response = respond_to(REQUEST, errors.LinkLimitedError("Wait.", retry_after_s=9))

    assert response.headers["retry-after"] == "9"
