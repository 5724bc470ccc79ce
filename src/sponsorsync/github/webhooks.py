"""GitHub's webhook events: signature and content. No I/O.

https://docs.github.com/webhooks/webhook-events-and-payloads#sponsorship
https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, cast

from sponsorsync.domain.errors import MalformedEventError
from sponsorsync.domain.sponsorship import EventKind, Privacy, SponsorshipEvent, normalize_login

_PREFIX = "sha256="

# Times outside these limits are implausible, and adding to them could overflow a datetime.
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_GREATEST_ID = 2**53
_GREATEST_CENTS = 10**9


def sign(body: bytes, secret: str) -> str:
    """Returns the value of the header X-Hub-Signature-256."""
    return _PREFIX + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def is_signed(body: bytes, signature: str | None, secret: str) -> bool:
    """Returns, in constant time, whether the signature of a body is valid."""
    # As bytes: compare_digest accepts only ASCII text.
    reported = (signature or "").encode(errors="replace")
    return hmac.compare_digest(reported, sign(body, secret).encode())


def parse_event(body: bytes) -> Mapping[str, Any]:
    """Returns an event's JSON object; raises MalformedEventError for any other body."""
    try:
        event = cast("Any", json.loads(body))
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise MalformedEventError(
            "The body is not a JSON object. Choose the content type application/json in the "
            "webhook's settings at GitHub."
        )
    return event


def find_sponsorable(event: Mapping[str, Any]) -> str | None:
    """Returns the receiver's login in a `sponsorship` event, or None."""
    login = _member(_member(event, "sponsorship"), "sponsorable").get("login")
    return normalize_login(login) if isinstance(login, str) else None


def parse_sponsorship(event: Mapping[str, Any]) -> SponsorshipEvent | None:
    """Returns a `sponsorship` event, reduced to the fields that decide on entitlement.

    Returns None if the action is unknown, or if the sponsorable, the sponsor or the creation time
    is missing or unreadable.
    """
    sponsorship = _member(event, "sponsorship")
    tier = _member(sponsorship, "tier")
    sponsorable = find_sponsorable(event)
    sponsor_id = _number(_member(sponsorship, "sponsor"), "id", _GREATEST_ID)
    created_at = _moment(sponsorship.get("created_at"))
    action = event.get("action")
    if not isinstance(action, str) or action not in set(EventKind):
        return None
    if not sponsorable or not sponsor_id or created_at is None:
        return None
    former = _member(_member(_member(event, "changes"), "tier"), "from")
    return SponsorshipEvent(
        kind=EventKind(action),
        sponsorable=sponsorable,
        sponsor_id=sponsor_id,
        created_at=created_at,
        privacy=_privacy(sponsorship.get("privacy_level")),
        tier_cents=_number(tier, "monthly_price_in_cents", _GREATEST_CENTS),
        is_one_time=tier.get("is_one_time") is True,
        former_cents=_number(former, "monthly_price_in_cents", _GREATEST_CENTS),
        effective_at=_effective_moment(event.get("effective_date")),
    )


def _member(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    member = value.get(name)
    return member if isinstance(member, dict) else {}


def _number(value: Mapping[str, Any], name: str, greatest: int) -> int | None:
    number = value.get(name)
    # In Python a bool is an int; in JSON it is not.
    is_number = isinstance(number, int) and not isinstance(number, bool)
    return number if is_number and 0 <= cast("int", number) <= greatest else None


def _effective_moment(text: object) -> datetime | None:
    """Returns the time of an announced change; GitHub documents only that it is a string.

    A bare date means its start in UTC. An unreadable value gives None: the event
    is then used without it.
    """
    try:
        day = date.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return _moment(text)
    return None if day is None else _moment(f"{day.isoformat()}T00:00:00+00:00")


def _privacy(level: object) -> Privacy | None:
    """Returns the privacy; an unknown level is treated as PRIVATE."""
    if not isinstance(level, str):
        return None
    return Privacy.PUBLIC if level == "public" else Privacy.PRIVATE


def _moment(text: object) -> datetime | None:
    """Returns a time in whole seconds, as it is stored; None if unreadable or implausible."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None or moment.tzinfo is None or not _EARLIEST <= moment <= _LATEST:
        return None
    return moment.astimezone(UTC).replace(microsecond=0)
