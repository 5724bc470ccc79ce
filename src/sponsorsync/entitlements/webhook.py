"""Receives GitHub's sponsorship events: verifies and applies each, and requests a reconcile."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from pydantic import SecretStr

from sponsorsync.domain.entitlement import EntitlementPolicy
from sponsorsync.domain.errors import (
    EventSignatureError,
    MalformedEventError,
    NoWebhookError,
    SponsorSyncError,
)
from sponsorsync.domain.sponsorship import SponsorshipEvent
from sponsorsync.domain.sponsorship_event import EventOutcome, apply_event, is_doubtful
from sponsorsync.github import webhooks as messages
from sponsorsync.reconcile.schedule import ReconcileSchedule
from sponsorsync.store.entitlements import EntitlementStore, Saved

_DELIVERY = re.compile(r"[0-9A-Za-z-]{1,100}")

_log = structlog.get_logger(__name__)


@dataclass
class Webhooks:
    """Receives GitHub's events.

    Attributes:
        counts: The numbers of events since this replica started, by outcome; refused events have
            the outcome `refused`.
    """

    entitlements: EntitlementStore
    schedule: ReconcileSchedule | None
    secret: SecretStr | None
    sponsorables: Sequence[str]
    policy: EntitlementPolicy
    clock: Callable[[], datetime]
    counts: Counter[str] = field(default_factory=Counter, init=False)

    def require_secret(self) -> None:
        """Returns nothing if events can be verified.

        Raises:
            NoWebhookError: No secret is configured.
        """
        if self.secret is None:
            raise NoWebhookError

    async def receive(
        self, body: bytes, *, event: str, delivery: str, signature: str | None
    ) -> EventOutcome:
        """Verifies an event and applies it; the body is not parsed before it is verified.

        `event`, `delivery` and `signature` are X-GitHub-Event, X-GitHub-Delivery and
        X-Hub-Signature-256. A redelivery has the same `delivery`.

        Raises:
            NoWebhookError: No secret is configured.
            EventSignatureError: The signature is missing or wrong.
            MalformedEventError: The body is no JSON object, or `delivery` is missing or malformed.
            StoreError: The local Redis could not save the event. GitHub does not send it again by
                itself.
        """
        try:
            outcome = await self._receive(body, event, delivery, signature)
        except SponsorSyncError:
            self.counts["refused"] += 1
            raise
        self.counts[outcome.value] += 1
        return outcome

    async def _receive(
        self, body: bytes, event: str, delivery: str, signature: str | None
    ) -> EventOutcome:
        if self.secret is None:
            raise NoWebhookError
        if not messages.is_signed(body, signature, self.secret.get_secret_value()):
            raise EventSignatureError
        content = messages.parse_event(body)
        if event == "ping":
            return EventOutcome.PONG
        if event != "sponsorship":
            return EventOutcome.IGNORED
        sponsorable = messages.find_sponsorable(content)
        if sponsorable is not None and sponsorable not in self.sponsorables:
            return EventOutcome.IGNORED
        if not _DELIVERY.fullmatch(delivery):
            raise MalformedEventError(
                "X-GitHub-Delivery is missing or malformed. GitHub always sends it; a proxy may "
                "have dropped it."
            )
        if await self.entitlements.is_delivered(delivery):
            return EventOutcome.SEEN_BEFORE
        return await self._handle(messages.parse_sponsorship(content), sponsorable, delivery)

    async def _handle(
        self, event: SponsorshipEvent | None, sponsorable: str | None, delivery: str
    ) -> EventOutcome:
        if self.schedule is not None:
            for each in self.sponsorables if sponsorable is None else (sponsorable,):
                await self.schedule.request(each)
        if event is None:
            _log.warning("event_inconclusive", delivery=delivery)
            return (
                EventOutcome.IGNORED if self.schedule is None else EventOutcome.RECONCILE_REQUESTED
            )
        outcome = await self._apply(event, delivery)
        _log.info(
            "event_received",
            kind=event.kind.value,
            person=event.sponsor_id,
            delivery=delivery,
            outcome=outcome.value,
        )
        return outcome

    async def _apply(self, event: SponsorshipEvent, delivery: str) -> EventOutcome:
        saved, facts = await self.entitlements.change(
            event.sponsorable,
            event.sponsor_id,
            lambda stored: apply_event(event, stored, policy=self.policy, now=self.clock()),
            by="webhook",
            reference=delivery,
            delivery=delivery,
        )
        if saved is None:
            is_open = self.schedule is not None and is_doubtful(event, facts)
            return EventOutcome.RECONCILE_REQUESTED if is_open else EventOutcome.NOTHING_NEW
        return EventOutcome.APPLIED if saved is Saved.OK else EventOutcome.SEEN_BEFORE
