"""Report of a reconcile: one model for the work, the command line and the API."""

from collections import Counter
from datetime import datetime
from typing import Literal

from pydantic import Field

from sponsorsync.reports import FrozenReport, Report

_MAX_DRIFTS = 100


class Drift(FrozenReport):
    """A difference from GitHub's list that neither a webhook event nor a sign-in had reported."""

    sponsorable: str
    person_id: int
    kind: Literal["created", "changed", "ended"]


class BudgetLeft(FrozenReport, from_attributes=True):
    """The rest of the maintainer's rate limit at GitHub."""

    limit: int
    remaining: int
    reset_at: datetime


class ReconcileSummary(Report):
    """Result of a comparison with GitHub."""

    is_dry_run: bool = False
    total: int = Field(default=0, description="Sponsorships that GitHub lists.")
    people: int = Field(default=0, description="Sponsors that were compared.")
    pages: int = 0
    counts: Counter[str] = Field(
        default_factory=Counter,
        examples=[{"created": 1, "ended": 2}],
        description="Number of drifts of each kind.",
    )
    drifts: list[Drift] = Field(default_factory=list, description="The first 100 drifts.")
    newer: int = Field(
        default=0,
        description="Entitlements that changed during the comparison; they were left as they are.",
    )
    hidden: int = Field(default=0, description="Sponsorships whose sponsor GitHub does not show.")
    unknown: int = Field(
        default=0,
        description="Entitled people who are not listed and may be among the hidden sponsors.",
    )
    conflicts: int = Field(
        default=0, description="People who have a key of the wrong type; the log names them."
    )
    points: int = Field(default=0, description="Points spent of GitHub's rate limit.")
    budget: BudgetLeft | None = None
    # Progress, not result: the end of a wait for GitHub's rate limit.
    waiting_until: datetime | None = Field(default=None, exclude=True)
    seconds: float = 0.0
    reason: str | None = Field(
        default=None,
        description="Why the comparison is incomplete; then nobody's entitlement was ended.",
    )
    retry_after_s: int | None = Field(
        default=None, description="Seconds until GitHub may be asked again, where it said so."
    )

    def add_drift(self, drift: Drift) -> None:
        """Counts a drift, and lists it if it is among the first 100."""
        self.counts[drift.kind] += 1
        if len(self.drifts) < _MAX_DRIFTS:
            self.drifts.append(drift)

    def add_reason(self, reason: str) -> None:
        """Marks the comparison as incomplete."""
        self.reason = reason if self.reason is None else f"{self.reason} {reason}"
