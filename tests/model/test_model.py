"""The model test: random people, replicas and faults lose no data and restore no removed data."""

import os
import time
from pathlib import Path

import pytest

from tests.model.driver import run_model
from tests.support.scale import scale

SEED = os.environ.get("SPONSORSYNC_MODEL_SEED")
ACTIVE_S = 3.0
TAIL = 60


@pytest.mark.random
@pytest.mark.parametrize("engine", ["plain", "gears"])
@pytest.mark.parametrize("seed", [int(SEED)] if SEED else range(scale(1)))
async def test_nothing_is_lost_and_nothing_comes_back(
    seed: int, engine: str, tmp_path: Path
) -> None:
    """After kills, stalls, cuts and flushes, local and durable have the expected data.

    `make soak MINUTES=10` runs the test for longer, with new seeds. After a failure the test's
    folder has the servers' append-only files, with the time of each write.
    """
    started = time.monotonic()
    outcome = await run_model(seed, tmp_path, active_s=ACTIVE_S, engine=engine)

    print(f"seed {seed} {engine}, {time.monotonic() - started:.1f} s: {dict(outcome.counts)}")  # noqa: T201
    history = "\n".join(outcome.history[-TAIL:])
    assert outcome.wrong == [], f"seed {seed}, {tmp_path}\n{history}"
