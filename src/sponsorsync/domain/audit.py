"""Entries of the audit trail, which records each gained, changed or lost entitlement."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change of an entitlement.

    Attributes:
        number: The entry's id in the trail; later entries have greater ids.
        what: `granted`, `changed` or `lost`.
        by: `login`, `webhook`, `reconcile`, `refresh`, `override`, `organization` (the member's
            organization changed), `deletion` (of the account), `end` (a grant expired), or the
            source of a linked account.
        reference: The delivery id of a webhook, or the actor and reason of an override.
        before, after: The stored facts before and after the change.
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
    """The administrator who made an override, and the reason."""

    actor: str
    reason: str

    def __str__(self) -> str:
        return f"{self.actor}: {self.reason}" if self.reason else self.actor
