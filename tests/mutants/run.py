"""Remove each guard in a copy of the project, and report whether a test fails.

    python -m tests.mutants.run [--only NAME] [--jobs 2]

The exit status is 0 only if a test failed for every guard.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from tests.mutants.guards import GUARDS, Guard

ROOT = Path(__file__).parents[2]
_TIME_LIMIT_S = 600
_TESTS_FAILED = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one guard; `detail` names the test that failed, or says why none did."""

    guard: Guard
    is_noticed: bool
    detail: str
    seconds: float


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(description="Break each guard; see that a test notices.")
    parser.add_argument("--only", default="", help="guards with this text in their name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="copies at work")
    options = parser.parse_args()
    guards = [guard for guard in GUARDS if options.only in guard.name]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="sponsorsync-mutants-") as folder:
        copies: Queue[Path] = Queue()
        for number in range(options.jobs):
            copies.put(_copy_project(Path(folder) / str(number)))

        def work(guard: Guard) -> Outcome:
            copy = copies.get()
            try:
                return run_without(guard, copy)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(options.jobs) as pool:
            for outcome in pool.map(work, guards):
                survivors += not outcome.is_noticed
                verdict = "noticed " if outcome.is_noticed else "SURVIVED"
                name, detail = outcome.guard.name, outcome.detail
                _print(f"{verdict} {outcome.seconds:4.0f} s  {name}: {detail}")
    _print(f"{len(guards) - survivors} passed, {survivors} failed")
    return int(survivors > 0)


def run_without(guard: Guard, copy: Path) -> Outcome:
    """Removes one guard in a copy, runs its tests there, and restores the file."""
    path = copy / guard.path
    text = path.read_text(encoding="utf-8")
    started = time.monotonic()
    path.write_text(guard.take_out(text), encoding="utf-8")
    try:
        is_noticed, detail = _run_tests(guard, copy)
    finally:
        path.write_text(text, encoding="utf-8")
    return Outcome(guard, is_noticed, detail, time.monotonic() - started)


def _run_tests(guard: Guard, copy: Path) -> tuple[bool, str]:
    command = (sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider")
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and our own tests
            [*command, *guard.tests],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy / "src")},
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"the tests took longer than {_TIME_LIMIT_S} s"
    lines = done.stdout.splitlines()
    failed = next((line for line in lines if line.startswith(("FAILED ", "ERROR "))), None)
    if done.returncode == _TESTS_FAILED and failed is not None:
        return True, failed.split(" ", 1)[1].split(" - ")[0]
    last_line = lines[-1] if lines else done.stderr[-200:]
    return False, f"pytest ended with {done.returncode}: {last_line}"


def _copy_project(copy: Path) -> Path:
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "dist", ".*cache", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the output of the command


if __name__ == "__main__":
    sys.exit(main())
