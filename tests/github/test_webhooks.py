"""Signatures and parsing of GitHub's webhook events."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sponsorsync.domain.errors import MalformedEventError
from sponsorsync.domain.sponsorship import EventKind, Privacy, SponsorshipEvent
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


def _parse(payload: dict[str, Any]) -> SponsorshipEvent:
    event = parse_sponsorship(payload)
    assert event is not None
    return event


def test_the_signature_matches_githubs_test_vector() -> None:
    """GitHub's documentation of webhook deliveries has this example."""
    signature = sign(b"Hello, World!", "It's a Secret to Everybody")

    assert signature == ("sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")


@pytest.mark.parametrize(
    "signature",
    [None, "", "sha256=", sign(b"other", "secret"), sign(b"body", "other"), "sha256=wörng\ud800"],
)
def test_a_wrong_signature_is_rejected(signature: str | None) -> None:
    """The signature is missing, empty, not ASCII, or of another body or secret."""
    assert is_signed(b"body", sign(b"body", "secret"), "secret")
    assert not is_signed(b"body", signature, "secret")


def test_the_fields_that_decide_on_entitlement_are_parsed() -> None:
    """Each of these fields has an effect on the entitlement."""
    event = _parse(_event(effective_date="2026-12-01T00:00:00Z"))

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
def test_an_unreadable_effective_date_is_ignored(
    effective_date: object, moment: datetime | None
) -> None:
    """GitHub documents a string only; the event is applied without the date."""
    event = _parse(_event(action="cancelled", effective_date=effective_date))

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
def test_an_uncertain_event_is_none(event: dict[str, Any]) -> None:
    """The caller requests a reconcile instead of applying the event."""
    assert parse_sponsorship(event) is None


def test_an_event_without_tier_and_privacy_is_parsed() -> None:
    """The event still shows that the sponsorship exists."""
    payload = _changed("tier", None)
    payload["sponsorship"]["privacy_level"] = ["public"]
    event = _parse(payload)

    assert (event.tier_cents, event.is_one_time, event.privacy) == (None, False, None)


def test_an_unknown_privacy_is_private() -> None:
    """It is not known to which audience the sponsorship may be shown."""
    assert _parse(_changed("privacy_level", "secret")).privacy is Privacy.PRIVATE


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_an_object_is_malformed(body: bytes) -> None:
    """Even a correctly signed body may be anything."""
    with pytest.raises(MalformedEventError):
        parse_event(body)


def test_githubs_example_events_are_parsed() -> None:
    """All examples are parsed, except one without a sponsor."""
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
