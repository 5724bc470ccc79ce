"""Runs the batch scripts one after the other, and reports the result of each."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from pydantic import Field, computed_field

from sponsorsync.domain.errors import GearsError, StoreUnavailableError
from sponsorsync.gears.client import GearsClient
from sponsorsync.gears.replies import parse_counts
from sponsorsync.gears.scripts import GearsScript
from sponsorsync.reports import Report

# A script reads all keys of one kind; for 20,000 sets that took about a second.
_LIMIT_S = 6 * 3600.0
_DROP_S = 5.0


class ScriptRun(Report):
    """Result of one batch script, which the script returns at its end."""

    script: str = Field(examples=["sync_profiles"])
    done: int = Field(default=0, description="Records that were copied to durable.")
    skipped: dict[str, int] = Field(
        default_factory=dict,
        examples=[{"not entitled": 3}],
        description="Records that were left out, by reason.",
    )
    failed: int = Field(default=0, description="Records that could not be copied.")
    errors: list[str] = Field(default_factory=list, description="The first 10 reasons.")
    seconds: float = 0.0
    reason: str | None = Field(default=None, description="Why the script itself failed.")


class BatchSummary(Report):
    """Result of a snapshot by the scripts inside local."""

    scripts: list[ScriptRun] = Field(
        default_factory=list, description="The scripts that have ended, in their order."
    )
    seconds: float = 0.0
    reason: str | None = Field(default=None, description="Why it ended early.")

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def agrees(self) -> bool:
        """Whether every script ran and copied everything that was to be copied."""
        return self.reason is None and not any(run.failed or run.reason for run in self.scripts)


async def run_batch(client: GearsClient, scripts: Sequence[GearsScript]) -> BatchSummary:
    """Runs every script, also after a failed one; an outage is the `reason` for an early end.

    Raises:
        GearsUnsupportedError: The server does not run our scripts.
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
    run = ScriptRun(script=script.name)
    began = time.perf_counter()
    try:
        execution = await client.start(script.text, requirements=script.requirements)
        try:
            counts = parse_counts(await client.wait_for_results(execution, limit_s=_LIMIT_S))
        finally:
            # Also if the service shuts down meanwhile: the shutdown waits for this.
            with suppress(TimeoutError):
                async with asyncio.timeout(_DROP_S):
                    await client.drop_execution(execution)
    except GearsError as error:
        run.reason = str(error)
    else:
        run = ScriptRun(script=script.name, **counts)
    run.seconds = round(time.perf_counter() - began, 3)
    return run
