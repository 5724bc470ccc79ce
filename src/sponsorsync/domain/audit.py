"""What the audit trail tells: who gained, changed or lost a cover, by what, and when."""

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
        by: `login`, `webhook`, `reconcile`, or `end` where a cover was over by itself.
        reference: Of a webhook, the delivery.
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
