"""The webhook of the simulated GitHub's sponsored account: its events and their delivery.

https://docs.github.com/webhooks/webhook-events-and-payloads#sponsorship
"""

import hmac
import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

import httpx

from sponsorsync.sandbox.people import Sponsorship, Tier

Action = Literal[
    "created", "cancelled", "edited", "tier_changed", "pending_cancellation", "pending_tier_change"
]
ANSWER_TIMEOUT_S = 10
"""GitHub's own limit; GitHub does not repeat a delivery that exceeds it."""


@dataclass(frozen=True)
class Delivery:
    """One event; a redelivery sends the same bytes again."""

    number: str
    event: str
    body: bytes

    def headers(self, secret: str) -> dict[str, str]:
        """Returns GitHub's headers, with the signature."""
        digest = hmac.new(secret.encode(), self.body, sha256).hexdigest()
        return {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/simulated",
            "X-GitHub-Delivery": self.number,
            "X-GitHub-Event": self.event,
            "X-Hub-Signature-256": f"sha256={digest}",
        }


@dataclass(frozen=True, kw_only=True)
class Hook:
    """One webhook; it sends only if `send` is called.

    The receiver is at `url`, through `transport` (None: the network). The `secret` signs the
    events. `base_url` is the address of the simulated GitHub.
    """

    url: str
    secret: str = field(repr=False)
    base_url: str
    transport: httpx.AsyncBaseTransport | None = None

    def ping(self) -> Delivery:
        """Returns the ping that GitHub sends first to each new webhook."""
        return _deliver("ping", {"zen": "Design for failure.", "hook": {"type": "SponsorsListing"}})

    def event(
        self,
        action: Action,
        sponsorship: Sponsorship,
        *,
        former_cents: int | None = None,
        former_privacy: Literal["public", "private"] | None = None,
        effective_date: datetime | None = None,
        sponsor_is_null: bool = False,
    ) -> Delivery:
        """Returns a `sponsorship` event with the present state of the sponsorship."""
        sponsor = sponsorship.sponsor.as_json(self.base_url)
        tier = sponsorship.tier
        event: dict[str, object] = {
            "action": action,
            "sponsorship": {
                "node_id": sponsorship.id,
                "created_at": _timestamp(sponsorship.created_at),
                "sponsorable": sponsorship.sponsorable.as_json(self.base_url),
                "sponsor": None if sponsor_is_null else sponsor,
                "privacy_level": "private" if sponsorship.is_private else "public",
                "tier": None if tier is None else _tier(tier, sponsorship),
            },
            "sender": sponsor,
        }
        if former_cents is not None:
            event["changes"] = {"tier": {"from": _tier(Tier(former_cents), sponsorship)}}
        if former_privacy is not None:
            event["changes"] = {"privacy_level": {"from": former_privacy}}
        if effective_date is not None:
            event["effective_date"] = _timestamp(effective_date)
        return _deliver("sponsorship", event)

    async def send(self, delivery: Delivery) -> httpx.Response:
        """Sends an event; a second time is a redelivery."""
        async with httpx.AsyncClient(transport=self.transport, timeout=ANSWER_TIMEOUT_S) as client:
            return await client.post(
                self.url, content=delivery.body, headers=delivery.headers(self.secret)
            )


def _deliver(kind: str, content: dict[str, object]) -> Delivery:
    return Delivery(str(uuid.uuid4()), kind, json.dumps(content).encode())


def _tier(tier: Tier, sponsorship: Sponsorship) -> dict[str, object]:
    return {
        "node_id": tier.id,
        "created_at": _timestamp(sponsorship.sponsorable.created_at),
        "description": tier.description,
        "monthly_price_in_cents": tier.monthly_price_in_cents,
        "monthly_price_in_dollars": tier.monthly_price_in_dollars,
        "name": tier.name,
        "is_one_time": tier.is_one_time,
        # GitHub misspells `amount` in some events.
        "is_custom_ammount": tier.is_custom_amount,
    }


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
