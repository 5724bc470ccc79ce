"""What becomes of an event of GitHub's: news to apply, and a reason to look again."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from sponsorsync.domain.errors import (
    EventSignatureError,
    MalformedEventError,
    NoWebhookError,
    SponsorSyncError,
)
from sponsorsync.domain.sponsorship_event import EventOutcome, apply_event, is_doubtful
from sponsorsync.github import webhooks as messages
from sponsorsync.store.entitlements import Saved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from pydantic import SecretStr

    from sponsorsync.domain.entitlement import EntitlementPolicy
    from sponsorsync.domain.sponsorship import SponsorshipEvent
    from sponsorsync.reconcile.schedule import ReconcileSchedule
    from sponsorsync.store.entitlements import EntitlementStore

_DELIVERY = re.compile(r"[0-9A-Za-z-]{1,100}")

_log = structlog.get_logger(__name__)


class Webhooks:
    """Takes GitHub's events.

    Attributes:
        counts: How many there were of each outcome, here and since the start; `refused`: of none.
    """

    def __init__(
        self,
        entitlements: EntitlementStore,
        schedule: ReconcileSchedule | None,
        *,
        secret: SecretStr | None,
        sponsorables: Sequence[str],
        policy: EntitlementPolicy,
        clock: Callable[[], datetime],
    ) -> None:
        self._entitlements = entitlements
        self._schedule = schedule
        self._secret = secret
        self._sponsorables = sponsorables
        self._policy = policy
        self._clock = clock
        self.counts: Counter[str] = Counter()

    def require_secret(self) -> None:
        """Returns where events can be checked.

        Raises:
            NoWebhookError: No secret is configured.
        """
        if self._secret is None:
            raise NoWebhookError

    async def receive(
        self, body: bytes, *, event: str, delivery: str, signature: str | None
    ) -> EventOutcome:
        """Checks an event, and applies what it tells; nothing is parsed before it was checked.

        Args:
            body: The bytes as they came.
            event: X-GitHub-Event.
            delivery: X-GitHub-Delivery; the same when it is delivered again.
            signature: X-Hub-Signature-256.

        Raises:
            NoWebhookError: No secret is configured.
            EventSignatureError: It is not GitHub's.
            MalformedEventError: It is no JSON object, or has no number by which it would be known
                again.
            StoreError: The local Redis could not keep it. GitHub does not try again by itself.
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
        if self._secret is None:
            raise NoWebhookError
        if not messages.is_signed(body, signature, self._secret.get_secret_value()):
            raise EventSignatureError
        content = messages.parse_event(body)
        if event == "ping":
            return EventOutcome.PONG
        if event != "sponsorship":
            return EventOutcome.IGNORED
        sponsorable = messages.find_sponsorable(content)
        if sponsorable is not None and sponsorable not in self._sponsorables:
            return EventOutcome.IGNORED
        if not _DELIVERY.fullmatch(delivery):
            raise MalformedEventError(
                "X-GitHub-Delivery is no number of a delivery. GitHub always sends one; a proxy "
                "may have dropped it."
            )
        if await self._entitlements.is_delivered(delivery):
            return EventOutcome.SEEN_BEFORE
        return await self._take(messages.parse_sponsorship(content), sponsorable, delivery)

    async def _take(
        self, event: SponsorshipEvent | None, sponsorable: str | None, delivery: str
    ) -> EventOutcome:
        wanted = self._sponsorables if sponsorable is None else (sponsorable,)
        is_looking = self._schedule is not None and any(
            [await self._schedule.request(each) for each in wanted]
        )
        if event is None:
            _log.warning("event_tells_nothing_certain", delivery=delivery, looking_again=is_looking)
            return EventOutcome.RECONCILE_REQUESTED if is_looking else EventOutcome.IGNORED
        outcome = await self._apply(event, delivery, is_looking=is_looking)
        _log.info(
            "event_received",
            kind=event.kind.value,
            person=event.sponsor_id,
            delivery=delivery,
            outcome=outcome.value,
        )
        return outcome

    async def _apply(
        self, event: SponsorshipEvent, delivery: str, *, is_looking: bool
    ) -> EventOutcome:
        saved, known = await self._entitlements.change(
            event.sponsorable,
            event.sponsor_id,
            lambda known: apply_event(event, known, policy=self._policy, now=self._clock()),
            by="webhook",
            reference=delivery,
            delivery=delivery,
        )
        if saved is None:
            is_left = is_looking and is_doubtful(event, known)
            return EventOutcome.RECONCILE_REQUESTED if is_left else EventOutcome.NOTHING_NEW
        return EventOutcome.APPLIED if saved is Saved.OK else EventOutcome.SEEN_BEFORE
