"""Log formats, and no secrets in logs. Each test has its own process, since logging is global."""

import asyncio
import json
import os
import pty
import sys
from contextlib import suppress

import pytest

TOKEN = "gho_correct-horse-battery-staple"

PROGRAM = """
import logging, os, sys
import structlog
from sponsorsync.logs import configure_logging

def fetch(url):
    token = os.environ["TOKEN"]
    headers = {"Authorization": f"Bearer {token}"}
    try:
        raise ValueError(f"no answer from {url}")
    except ValueError as error:
        raise RuntimeError("the call failed") from error

configure_logging(sys.argv[1])
structlog.get_logger("sponsorsync").info("signed_in", person=1)
logging.getLogger("httpx").info("HTTP Request: GET https://github.test")
logging.getLogger("library").warning("slow: %s", "very")
try:
    fetch("https://github.test")
except RuntimeError:
    structlog.get_logger("sponsorsync").exception("own_failure")
    logging.getLogger("library").exception("library_failure")
try:
    raise ExceptionGroup("several", [RuntimeError("one")])
except ExceptionGroup:
    structlog.get_logger("sponsorsync").exception("grouped_failure")
"""


async def _run(log_format: str, *, stderr: int = asyncio.subprocess.PIPE) -> tuple[str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", PROGRAM, log_format),
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, "TOKEN": TOKEN, "COLUMNS": "80"},
    )
    stdout, text = await process.communicate()
    assert process.returncode == 0
    return stdout.decode(), (text or b"").decode()


def _read_all(descriptor: int) -> str:
    """Reads a terminal until its last writer closes it; Linux reports that as an error."""
    read = b""
    with suppress(OSError):
        while chunk := os.read(descriptor, 65536):
            read += chunk
    return read.decode()


@pytest.mark.parametrize("log_format", ["json", "console", "auto"])
async def test_an_exception_is_logged_without_the_local_variables(log_format: str) -> None:
    """Local variables may contain tokens. The log goes to standard error, for all formats."""
    printed, logged = await _run(log_format)

    assert printed == ""
    assert "own_failure" in logged
    assert "library_failure" in logged
    assert "the call failed" in logged
    assert "no answer from https://github.test" in logged
    assert "fetch" in logged
    assert TOKEN not in logged
    assert "Bearer" not in logged
    assert "\x1b" not in logged, "colours are for a terminal"


@pytest.mark.parametrize("log_format", ["json", "auto"])
async def test_json_has_one_line_per_event(log_format: str) -> None:
    """Log collectors read lines. Libraries log warnings only, since httpx logs each address."""
    _, logged = await _run(log_format)

    lines = [json.loads(line) for line in logged.splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("info", "signed_in"),
        ("warning", "slow: very"),
        ("error", "own_failure"),
        ("error", "library_failure"),
        ("error", "grouped_failure"),
    ]
    assert "HTTP Request" not in logged
    assert lines[0]["person"] == 1
    assert lines[0]["timestamp"].endswith("Z")
    assert [each["exc_type"] for each in lines[2]["exception"]] == ["RuntimeError", "ValueError"]


async def test_auto_is_readable_on_a_terminal() -> None:
    """On a terminal a person reads the log, so `auto` is not JSON there."""
    reading_end, writing_end = pty.openpty()
    reading = asyncio.create_task(asyncio.to_thread(_read_all, reading_end))
    await _run("auto", stderr=writing_end)
    os.close(writing_end)

    logged = await reading

    os.close(reading_end)
    assert "signed_in" in logged
    assert '"event"' not in logged
    assert "\x1b" in logged
    assert TOKEN not in logged
