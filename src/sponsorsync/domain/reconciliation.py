"""What became of comparisons with GitHub, by whichever replica."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class FailedReconcile:
    """When one failed, and why."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class LastReconcile:
    """The last ones of a sponsorable.

    Attributes:
        reconciled_at: When the last complete one began; None where there never was one.
        failed: One that was not complete, since then.
    """

    sponsorable: str
    reconciled_at: datetime | None
    failed: FailedReconcile | None
