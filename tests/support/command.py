"""Runs the command `sponsorsync` as its users do, in its own process."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.sync import SPONSORABLE

LIMIT_S = 60


async def start_command(
    folder: Path,
    local_url: str,
    durable_url: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
) -> asyncio.subprocess.Process:
    """Starts the command with settings for both servers, and with `environment`."""
    settings = {
        "SPONSORSYNC_REDIS_URL": local_url,
        "SPONSORSYNC_DURABLE_URL": durable_url,
        "SPONSORSYNC_SPONSORABLES": SPONSORABLE,
    }
    return await start(folder, *arguments, environment=settings | dict(environment or {}))


async def start(
    folder: Path, *arguments: str, environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    """Starts the command in a folder, with `environment` in place of this process's settings."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SPONSORSYNC_", "REDISENT_", "GITHUB_"))
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sponsorsync",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env=inherited | dict(environment),
    )


async def run_command(
    folder: Path,
    local_url: str,
    durable_url: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
) -> tuple[int, str, str]:
    """Runs the command; returns its exit status, standard output and standard error."""
    process = await start_command(
        folder, local_url, durable_url, *arguments, environment=environment
    )
    async with asyncio.timeout(LIMIT_S):
        out, errors = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()
