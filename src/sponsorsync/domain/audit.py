"""Entries of the audit trail: each gained, changed or lost entitlement."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change of an entitlement.

    Attributes:
        number: Its position in the trail.
        what: `granted`, `changed` or `lost`.
        by: `login`, `webhook`, `reconcile`, `refresh`, `override`, `organization` (the member's
            organization changed), `deletion` (of the account), `end` (it expired), or the source
            of a linked account.
        reference: The delivery of a webhook, or the actor and reason of an override.
        before, after: The stored facts.
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
    """The actor of an override and their reason."""

    actor: str
    reason: str

    def __str__(self) -> str:
        return f"{self.actor}: {self.reason}" if self.reason else self.actor
