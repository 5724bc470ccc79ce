"""`make soak MINUTES=10`: repeats the model test with new seeds."""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.model.driver import run_model
from tests.model.run import Outcome

_WRONG_SHOWN = 8


async def soak(minutes: float, *, active_s: float, jobs: int, seeds: list[int], engine: str) -> int:
    """Repeats the model test for minutes, or with these seeds; returns the number of bad runs."""
    ends = time.monotonic() + 60 * minutes
    total: Counter[str] = Counter()
    repeated = iter(seeds)

    def next_seed() -> int | None:
        if seeds:
            return next(repeated, None)
        return secrets.randbelow(2**31) if time.monotonic() < ends else None

    async def work() -> None:
        while (seed := next_seed()) is not None:
            directory = Path(tempfile.mkdtemp(prefix=f"sponsorsync-model-{seed}-"))
            started = time.monotonic()
            outcome = await run_model(seed, directory, active_s=active_s, engine=engine)
            total.update(outcome.counts)
            total["runs"] += 1
            total["bad runs"] += bool(outcome.wrong)
            total["mismatches"] += len(outcome.wrong)
            _report(outcome, directory, time.monotonic() - started)

    async with asyncio.TaskGroup() as group:
        for _ in range(jobs):
            group.create_task(work())
    _print("", *(f"{name:>20} {count}" for name, count in sorted(total.items())))
    return total["bad runs"]


def _report(outcome: Outcome, directory: Path, took_s: float) -> None:
    counts = ", ".join(f"{name} {count}" for name, count in sorted(outcome.counts.items()))
    _print(f"seed {outcome.seed} {'WRONG' if outcome.wrong else 'fine'} {took_s:.1f} s: {counts}")
    if not outcome.wrong:
        shutil.rmtree(directory)
        return
    (directory / "history").write_text("\n".join(outcome.history))
    _print(*(f"  {each}" for each in outcome.wrong[:_WRONG_SHOWN]), f"  see {directory}/history")


def _print(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Reads the command line; exits with status 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--active", type=float, default=10, help="seconds of faults in each run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--engine", choices=("plain", "gears"), default="plain")
    parser.add_argument("seeds", type=int, nargs="*", help="repeat these instead of new ones")
    options = parser.parse_args()
    bad = asyncio.run(
        soak(
            options.minutes,
            active_s=options.active,
            jobs=options.jobs,
            seeds=options.seeds,
            engine=options.engine,
        )
    )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
