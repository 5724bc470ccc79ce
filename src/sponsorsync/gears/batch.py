"""Runs the batch scripts one after the other, and tells what each did."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from sponsorsync.domain.errors import GearsError, StoreUnavailableError
from sponsorsync.gears.replies import parse_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sponsorsync.gears.client import GearsClient
    from sponsorsync.gears.scripts import GearsScript

# One reads every key of its kind: 20,000 sets took it about a second.
_LIMIT_S = 6 * 3600.0
_DROP_S = 5.0


@dataclass
class ScriptRun:
    """What one script did.

    Attributes:
        done: Records that durable has now.
        skipped: How many were left out, by the reason.
        failed: Records that could not be copied; `errors` are the first reasons.
        reason: Why the script itself came to no end; None if it did.
    """

    script: str
    done: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    reason: str | None = None


@dataclass
class BatchSummary:
    """What a snapshot by the scripts did.

    Attributes:
        scripts: Those that have ended, in their order.
        reason: Why it ended early; None if it did not.
    """

    scripts: list[ScriptRun] = field(default_factory=list)
    seconds: float = 0.0
    reason: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether every script ran, and copied all that was to be copied."""
        return self.reason is None and not any(run.failed or run.reason for run in self.scripts)

    def to_json(self) -> dict[str, object]:
        """Returns it for `--json` and the API."""
        return {"agrees": self.agrees, **asdict(self)}


async def run_batch(client: GearsClient, scripts: Sequence[GearsScript]) -> BatchSummary:
    """Runs every script, also after one that failed; an outage ends it early, and is told there.

    Raises:
        GearsUnsupportedError: Our scripts do not run there.
    """
    summary = BatchSummary()
    began = time.perf_counter()
    try:
        await client.require_version()
        for script in scripts:
            summary.scripts.append(await _run(client, script))
    except StoreUnavailableError as error:
        summary.reason = str(error)
    summary.seconds = round(time.perf_counter() - began, 3)
    return summary


async def _run(client: GearsClient, script: GearsScript) -> ScriptRun:
    run = ScriptRun(script.name)
    began = time.perf_counter()
    try:
        execution = await client.start(script.text, requirements=script.requirements)
        try:
            counts = parse_counts(await client.follow(execution, limit_s=_LIMIT_S))
        finally:
            # Also when the service ends: whoever stops it waits for this.
            with suppress(TimeoutError):
                async with asyncio.timeout(_DROP_S):
                    await client.drop_execution(execution)
    except GearsError as error:
        run.reason = str(error)
    else:
        run = ScriptRun(script.name, **counts)
    run.seconds = round(time.perf_counter() - began, 3)
    return run
