"""`sponsorsync dev`, `serve` and `demo` as real processes."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from sponsorsync.commands.dev import start_linked_service
from sponsorsync.sandbox.linked_services import LINKED_SERVICES
from sponsorsync.sandbox.valkey import EmbeddedValkey, find_free_port
from tests.support.command import start

LIMIT_S = 60
_FIRST_PORT = 31_000
_PORTS = 1_500


@asynccontextmanager
async def _run(
    *arguments: str, folder: Path, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs the command in its own folder, without the settings of the test's environment."""
    process = await start(folder, *arguments, environment=environment)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _read_until_ready(process: asyncio.subprocess.Process) -> list[str]:
    """Returns the printed lines up to the line with 'ready on'."""
    assert process.stdout is not None
    assert process.stderr is not None
    lines: list[str] = []
    async with asyncio.timeout(LIMIT_S):
        async for line in process.stdout:
            lines.append(line.decode().rstrip())
            if "ready on" in lines[-1]:
                return lines
    raise AssertionError(f"never ready; it printed {lines}, {await process.stderr.read()!r}")


async def _finish(process: asyncio.subprocess.Process) -> tuple[str, str]:
    """Returns what the ended process has printed to standard output and standard error."""
    async with asyncio.timeout(LIMIT_S):
        output, errors = await process.communicate()
    return output.decode(), errors.decode()


async def _find_servers(lines: list[str]) -> list[int]:
    """Returns the process ids of the Redis servers whose addresses were printed."""
    found = []
    for url in re.findall(r"redis://[\w.:/]+", "\n".join(lines)):
        async with Redis.from_url(url) as client:
            found.append(int((await client.info("server"))["process_id"]))
    return found


async def _until_gone(processes: list[int]) -> None:
    """Waits until the processes have ended, for a limited time."""
    async with asyncio.timeout(LIMIT_S):
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                while True:
                    os.kill(process, 0)  # signal 0 only checks that the process exists
                    await asyncio.sleep(0.05)


@pytest.fixture
def port() -> str:
    """A free port outside the ranges of other tests, so that a second start can use it again."""
    return str(find_free_port(_FIRST_PORT + os.getpid() * 10 % _PORTS))


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_dev_works_and_leaves_no_process_behind(
    tmp_path: Path, port: str, ending: signal.Signals
) -> None:
    """After each signal the embedded servers end, and the next start has the data."""
    environment = {"SPONSORSYNC_PORT": port}
    origin = f"http://127.0.0.1:{port}"
    async with _run("dev", folder=tmp_path, **environment) as process:
        lines = await _read_until_ready(process)
        async with httpx.AsyncClient(base_url=origin, follow_redirects=True) as browser:
            page = await browser.get("/login?login=monthly")
            await browser.put("/preferences/mnodes/C5162902")
        servers = await _find_servers(lines)
        process.send_signal(ending)
        async with asyncio.timeout(LIMIT_S):
            status = await process.wait()
        await _until_gone(servers)
    async with _run("dev", folder=tmp_path, **environment) as process:
        await _read_until_ready(process)
        async with httpx.AsyncClient(base_url=origin, cookies=browser.cookies) as again:
            stored = await again.get("/preferences/mnodes")

    assert lines[-1] == f"SponsorSync ready on {origin}"
    assert "Monthly sponsor" in page.text
    assert len(servers) == 2
    assert status == (-signal.SIGKILL if ending is signal.SIGKILL else 0)
    assert stored.json()["items"] == ["C5162902"]


async def test_dev_simulates_patreon(tmp_path: Path, port: str) -> None:
    """Linking an account works without any configuration."""
    async with _run("dev", folder=tmp_path, SPONSORSYNC_PORT=port) as process:
        lines = await _read_until_ready(process)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", follow_redirects=True
        ) as browser:
            await browser.get("/login?login=stranger")
            consent = await browser.get("/patreon/link")
            page = await browser.get(f"{consent.url}&patron=active")

    assert [line.split(":")[0] for line in lines[:-1]] == [
        *("local Redis", "durable Redis", "GitHub", "Patreon")
    ]
    assert "You support maintainer on Patreon with $10.00 a month" in page.text


async def test_dev_uses_each_configured_part(
    tmp_path: Path, port: str, local_server: EmbeddedValkey
) -> None:
    """The local Redis and GitHub are configured; only the durable Redis is embedded."""
    environment = {
        "SPONSORSYNC_PORT": port,
        "SPONSORSYNC_REDIS_URL": local_server.url,
        "GITHUB_CLIENT_ID": "client",
        "GITHUB_SECRET": "secret",
        "SPONSORSYNC_SPONSORABLES": "octo-org",
    }
    async with _run("dev", folder=tmp_path, **environment) as process:
        lines = await _read_until_ready(process)
        origin = lines[-1].split()[-1]
        async with httpx.AsyncClient(base_url=origin) as browser:
            to_github = await browser.get("/login")

    assert to_github.headers["location"].startswith("https://github.com/login/oauth/authorize?")
    assert [line.split(":")[0] for line in lines[:-1]] == ["durable Redis"]
    assert not (tmp_path / ".sponsorsync" / "local").exists()


@pytest.mark.parametrize(
    ("command", "environment", "message"),
    [
        ("dev", {"SPONSORSYNC_PORT": "x"}, "SPONSORSYNC_PORT: "),
        ("serve", {}, "SPONSORSYNC_REDIS_URL is not set"),
        ("serve", {"SPONSORSYNC_REDIS_URL": "nonsense"}, "SPONSORSYNC_REDIS_URL: "),
        ("dev", {"GITHUB_CLIENT_ID": "x"}, "GITHUB_SECRET is not set"),
    ],
)
async def test_a_wrong_setting_is_one_line(
    tmp_path: Path, command: str, environment: dict[str, str], message: str
) -> None:
    """The line names the variable; there is no traceback."""
    async with _run(command, folder=tmp_path, **environment) as process:
        _, errors = await _finish(process)

    [line] = errors.strip().splitlines()
    assert line.startswith(f"sponsorsync: {message}")
    assert process.returncode == 1


async def test_a_port_in_use_is_named(tmp_path: Path, local_server: EmbeddedValkey) -> None:
    """The command ends with an error, and ends the embedded servers first."""
    environment = {"SPONSORSYNC_PORT": str(local_server.port)}
    async with _run("dev", folder=tmp_path, **environment) as process:
        _, errors = await _finish(process)

    assert f"SPONSORSYNC_PORT: {local_server.port} on 127.0.0.1" in errors
    assert process.returncode == 1


async def test_a_simulated_patreon_can_be_served() -> None:
    """The returned settings fit the server: its address, client id and callback."""
    callback = "http://127.0.0.1:8000/patreon/callback"
    query = {"response_type": "code", "redirect_uri": callback, "patron": "active"}

    async with AsyncExitStack() as stack, httpx.AsyncClient() as browser:
        url, settings, server = await start_linked_service(
            stack, LINKED_SERVICES[0], first_port=find_free_port(20_000), redirect_uri=callback
        )
        back = await browser.get(
            f"{url}/oauth2/authorize", params={**query, "client_id": settings["patreon_client_id"]}
        )
        was_running = not server.done()

    assert was_running
    assert settings["patreon_url"] == url
    assert back.headers["location"].startswith(f"{callback}?code=")


async def test_the_demo_succeeds(tmp_path: Path) -> None:
    """The exit status is 0 only if each step succeeded."""
    async with _run("demo", folder=tmp_path, SPONSORSYNC_PORT="nonsense") as process:
        output, errors = await _finish(process)

    assert process.returncode == 0, errors
    assert "Every step succeeded." in output
