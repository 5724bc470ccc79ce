"""What the audit trail tells: who gained, changed or lost an entitlement, by what, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change.

    Attributes:
        number: Its place in the trail.
        what: `granted`, `changed` or `lost`.
        by: `login`, `webhook`, `reconcile`, `refresh`, `override`, `organization` (that
            of a member changed), `deletion` (of the account), or `end` where its time was over.
        reference: Of a webhook, the delivery; of an override, who decided, and why.
        before, after: The facts as they are kept.
    """

    number: str
    at: datetime
    person_id: int
    sponsorable: str
    what: str
    by: str
    reference: str
    before: Mapping[str, str]
    after: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """Who decided about somebody's entitlement, and why."""

    actor: str
    reason: str

    def __str__(self) -> str:
        return f"{self.actor}: {self.reason}" if self.reason else self.actor
