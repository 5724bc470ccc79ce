"""Results of the last reconciles, which compare the stored facts with GitHub's sponsors."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class FailedReconcile:
    """Time and reason of a failed reconcile."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class LastReconcile:
    """The start of a sponsorable's last complete reconcile, and the last failed one since then."""

    sponsorable: str
    reconciled_at: datetime | None
    failed: FailedReconcile | None
