"""The simulated GitHub's webhook of a sponsored account: the events, and how they are delivered.

https://docs.github.com/webhooks/webhook-events-and-payloads#sponsorship
"""

import hmac
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

import httpx

from sponsorsync.sandbox.people import Account, Sponsorship, Tier

Action = Literal[
    "created", "cancelled", "edited", "tier_changed", "pending_cancellation", "pending_tier_change"
]
ANSWER_TIMEOUT_S = 10
"""GitHub waits for so long and does not try again."""


@dataclass(frozen=True)
class Delivery:
    """An event as it is sent; sent again, it is the same to the byte."""

    number: str
    event: str
    body: bytes

    def headers(self, secret: str) -> dict[str, str]:
        """What GitHub sends with the body."""
        digest = hmac.new(secret.encode(), self.body, sha256).hexdigest()
        return {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/simulated",
            "X-GitHub-Delivery": self.number,
            "X-GitHub-Event": self.event,
            "X-Hub-Signature-256": f"sha256={digest}",
        }


class Hook:
    """One webhook; nothing is sent by itself, so that a test decides what arrives, and when.

    Args:
        url: Where the events go.
        secret: They are signed with it.
        transport: The way there; None for the network.
        base_url: Where the simulated GitHub is served.
    """

    def __init__(
        self,
        *,
        url: str,
        secret: str,
        base_url: str,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._secret = secret
        self._base_url = base_url
        self._transport = transport

    def ping(self) -> Delivery:
        """The first event of each webhook."""
        return _deliver("ping", {"zen": "Design for failure.", "hook": {"type": "SponsorsListing"}})

    def tell(
        self,
        action: Action,
        sponsorship: Sponsorship,
        *,
        former_cents: int | None = None,
        former_privacy: Literal["public", "private"] | None = None,
        effective_date: datetime | None = None,
        sponsor_is_null: bool = False,
    ) -> Delivery:
        """An event of the kind `sponsorship`, as things are now."""
        told: dict[str, object] = {
            "action": action,
            "sponsorship": self._describe(sponsorship, sponsor_is_null=sponsor_is_null),
            "sender": self._account(sponsorship.sponsor),
        }
        if former_cents is not None:
            told["changes"] = {"tier": {"from": _tier(Tier(former_cents), sponsorship)}}
        if former_privacy is not None:
            told["changes"] = {"privacy_level": {"from": former_privacy}}
        if effective_date is not None:
            told["effective_date"] = _timestamp(effective_date)
        return _deliver("sponsorship", told)

    async def send(self, delivery: Delivery) -> httpx.Response:
        """Delivers an event; once more is a redelivery."""
        async with httpx.AsyncClient(transport=self._transport, timeout=ANSWER_TIMEOUT_S) as client:
            return await client.post(
                self._url, content=delivery.body, headers=delivery.headers(self._secret)
            )

    def _describe(self, sponsorship: Sponsorship, *, sponsor_is_null: bool) -> dict[str, object]:
        tier = sponsorship.tier
        return {
            "node_id": sponsorship.id,
            "created_at": _timestamp(sponsorship.created_at),
            "sponsorable": self._account(sponsorship.sponsorable),
            "sponsor": None if sponsor_is_null else self._account(sponsorship.sponsor),
            "privacy_level": "private" if sponsorship.is_private else "public",
            "tier": None if tier is None else _tier(tier, sponsorship),
        }

    def _account(self, account: Account) -> dict[str, object]:
        return {
            "login": account.login,
            "id": account.database_id,
            "node_id": account.id,
            "avatar_url": account.avatar_url(self._base_url),
            "html_url": account.html_url(self._base_url),
            "type": account.typename,
            "site_admin": False,
        }


def _deliver(event: str, told: dict[str, object]) -> Delivery:
    return Delivery(str(uuid.uuid4()), event, json.dumps(told).encode())


def _tier(tier: Tier, sponsorship: Sponsorship) -> dict[str, object]:
    return {
        "node_id": tier.id,
        "created_at": _timestamp(sponsorship.sponsorable.created_at),
        "description": tier.description,
        "monthly_price_in_cents": tier.monthly_price_in_cents,
        "monthly_price_in_dollars": tier.monthly_price_in_dollars,
        "name": tier.name,
        "is_one_time": tier.is_one_time,
        # GitHub misspells it in some events.
        "is_custom_ammount": tier.is_custom_amount,
    }


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
