"""What is read of GitHub's events, and what is not."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sponsorsync.domain.errors import MalformedEventError
from sponsorsync.domain.sponsorship import EventKind, Privacy
from sponsorsync.github.webhooks import (
    find_sponsorable,
    is_signed,
    parse_event,
    parse_sponsorship,
    sign,
)

HOW_TO_GET_THEM = (
    "set SPONSORSYNC_GITHUB_EXAMPLES to a folder of GitHub's own example payloads, named "
    "sponsorship.….json (npm pack @octokit/webhooks-examples)"
)


def _event(**more: object) -> dict[str, Any]:
    return {
        "action": "created",
        "sponsorship": {
            "created_at": "2026-11-20T19:24:46+00:00",
            "sponsorable": {"login": "Maintainer", "id": 1},
            "sponsor": {"login": "monthly", "id": 2},
            "privacy_level": "private",
            "tier": {"monthly_price_in_cents": 500, "is_one_time": True},
        },
        **more,
    }


def _changed(member: str, value: object) -> dict[str, Any]:
    event = _event()
    event["sponsorship"][member] = value
    return event


def test_the_signature_is_githubs() -> None:
    """Their own test vector."""
    signature = sign(b"Hello, World!", "It's a Secret to Everybody")

    assert signature == ("sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")


@pytest.mark.parametrize(
    "signature",
    [None, "", "sha256=", sign(b"other", "secret"), sign(b"body", "other"), "sha256=wörng\ud800"],
)
def test_another_signature_is_none(signature: str | None) -> None:
    """Whatever it is made of."""
    assert is_signed(b"body", sign(b"body", "secret"), "secret")
    assert not is_signed(b"body", signature, "secret")


def test_what_decides_about_entitlement_is_read() -> None:
    """And nothing else is needed."""
    event = parse_sponsorship(_event(effective_date="2026-12-01T00:00:00Z"))

    assert event is not None
    assert (event.kind, event.sponsorable, event.sponsor_id) == (EventKind.CREATED, "maintainer", 2)
    assert (event.tier_cents, event.is_one_time, event.privacy) == (500, True, Privacy.PRIVATE)
    assert event.effective_at is not None


@pytest.mark.parametrize(
    ("effective_date", "moment"),
    [
        ("2026-12-01T02:00:00+02:00", datetime(2026, 12, 1, tzinfo=UTC)),
        ("2026-12-01", datetime(2026, 12, 1, tzinfo=UTC)),
        ("9999-12-01", None),
        ("2026-12-01T00:00:00", None),
        ("soon", None),
        ("", None),
        (1764547200, None),
        (None, None),
    ],
)
def test_a_date_that_is_written_otherwise_costs_no_event(
    effective_date: object, moment: datetime | None
) -> None:
    """GitHub promises a string and no form of it; a cancellation counts without one."""
    event = parse_sponsorship(_event(action="cancelled", effective_date=effective_date))

    assert event is not None
    assert event.effective_at == moment


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"action": "created", "sponsorship": []},
        _event(action="transferred"),
        _event(action=["created"]),
        _changed("sponsor", None),
        _changed("sponsor", {"id": True}),
        _changed("sponsor", {"id": 0}),
        _changed("sponsor", {"id": "2"}),
        _changed("sponsor", {"id": 2**60}),
        _changed("sponsorable", None),
        _changed("created_at", None),
        _changed("created_at", "2026-11-20T19:24:46"),
        _changed("created_at", "9999-12-31T23:59:59+00:00"),
    ],
)
def test_what_is_not_certain_is_no_news(event: dict[str, Any]) -> None:
    """It is a reason to look at GitHub instead."""
    assert parse_sponsorship(event) is None


def test_a_missing_tier_and_privacy_are_not_known() -> None:
    """The sponsorship is there nevertheless."""
    payload = _changed("tier", None)
    payload["sponsorship"]["privacy_level"] = ["public"]
    event = parse_sponsorship(payload)

    assert event is not None
    assert (event.tier_cents, event.is_one_time, event.privacy) == (None, False, None)


def test_a_privacy_that_github_adds_is_not_shown_as_public() -> None:
    """It is not known who may see it."""
    event = parse_sponsorship(_changed("privacy_level", "secret"))

    assert event is not None
    assert event.privacy is Privacy.PRIVATE


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_no_event(body: bytes) -> None:
    """Signed or not."""
    with pytest.raises(MalformedEventError):
        parse_event(body)


def test_githubs_own_examples_are_read() -> None:
    """Each of them, but for one without a sponsor."""
    folder = os.environ.get("SPONSORSYNC_GITHUB_EXAMPLES")
    if not folder:
        pytest.skip(HOW_TO_GET_THEM)
    payloads = [
        parse_event(path.read_bytes()) for path in sorted(Path(folder).rglob("sponsorship.*.json"))
    ]

    assert payloads
    for payload in payloads:
        event = parse_sponsorship(payload)
        assert find_sponsorable(payload)
        assert (event is None) == (payload["sponsorship"]["sponsor"] is None)
        assert event is None or json.dumps(payload).count(str(event.tier_cents))
