"""The embedded Valkey locks its data directory and ends with its owner process."""

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from sponsorsync.sandbox.valkey import SandboxError, TimeLimits, find_free_port, run_valkey
from tests.support.waiting import until

DEADLINE_S = 20.0
SHORT_LOCK = TimeLimits(lock_s=0.1)

OWNER = """
import asyncio, pathlib, signal, sys
from sponsorsync.sandbox.valkey import run_valkey

signal.signal(signal.SIGINT, signal.default_int_handler)  # CI may start pytest with it ignored

async def main():
    async with run_valkey(pathlib.Path(sys.argv[1]), name="owned") as valkey:
        print(valkey.pid, valkey.port, flush=True)
        await valkey.wait_closed()

asyncio.run(main())
"""


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _is_session_empty(session: int) -> bool:
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return True
    return False


async def _has_ended(pid: int) -> bool:
    return not _is_running(pid)


async def _refused(data_dir: Path, match: str, **options: Any) -> None:  # noqa: ANN401 - as it has
    """Checks that no server starts on this directory, and that the error has this reason."""
    with pytest.raises(SandboxError, match=match):
        async with run_valkey(data_dir, name="refused", **options):
            pass


async def _set(port: int, key: str, value: str) -> None:
    async with Redis(port=port) as client:
        await client.set(key, value)


async def _get(port: int, key: str) -> str | None:
    async with Redis(port=port, decode_responses=True) as client:
        value = await client.get(key)
    assert value is None or isinstance(value, str)
    return value


@asynccontextmanager
async def _owner(data_dir: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int, int]]:
    """Yields another process that runs a server, and the server's process id and port."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(data_dir)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            pid, port = map(int, (await process.stdout.readline()).split())
        yield process, pid, port
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_server_answers_at_its_url(tmp_path: Path) -> None:
    """A client needs only the URL to connect."""
    async with run_valkey(tmp_path, name="local") as valkey, Redis.from_url(valkey.url) as client:
        info = await client.execute_command("INFO", "server")  # type: ignore[no-untyped-call]

        assert info["process_id"] == valkey.pid


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"appendfsync": "always"},
            {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"},
        ),
        ({}, {"appendfsync": "everysec", "save": ""}),
        ({"extra_config": {"notify-keyspace-events": "KEA"}}, {"notify-keyspace-events": "AKE"}),
    ],
)
async def test_the_configuration_loses_no_write(
    tmp_path: Path, options: dict[str, Any], expected: dict[str, str]
) -> None:
    """Every write is in the append-only file; a full memory refuses writes and evicts nothing."""
    async with (
        run_valkey(tmp_path, name="local", **options) as valkey,
        Redis.from_url(valkey.url, decode_responses=True) as client,
    ):
        config = await client.config_get(*expected)

    assert config == expected


async def test_a_new_directory_is_private(tmp_path: Path) -> None:
    """Other users of the machine must not read personal data."""
    data_dir = tmp_path / "not" / "there yet"

    async with run_valkey(data_dir, name="local"):
        mode = data_dir.stat().st_mode

    assert stat.S_IMODE(mode) == 0o700


async def test_data_survive_a_restart(tmp_path: Path) -> None:
    """`make run` continues with the data of the previous run."""
    async with run_valkey(tmp_path, name="local") as valkey:
        await _set(valkey.port, "key", "kept")

    async with run_valkey(tmp_path, name="local") as valkey:
        assert await _get(valkey.port, "key") == "kept"


async def test_leaving_the_block_ends_every_process(tmp_path: Path) -> None:
    """The server and its watchdog process both end."""
    async with run_valkey(tmp_path, name="local") as valkey:
        session = os.getsid(valkey.pid)

    assert _is_session_empty(session)


async def test_an_error_inside_the_block_ends_the_server_too(tmp_path: Path) -> None:
    """The start of the service may fail after the start of the server."""
    with pytest.raises(ZeroDivisionError):
        async with run_valkey(tmp_path, name="local") as valkey:
            raise ZeroDivisionError

    assert not _is_running(valkey.pid)


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    """Two servers on one append-only file destroy it."""
    async with run_valkey(tmp_path, name="first"):
        await _refused(tmp_path, f"{tmp_path} is used by another SponsorSync", limits=SHORT_LOCK)


async def test_the_server_itself_holds_the_lock(tmp_path: Path) -> None:
    """A server may outlive its owner for a moment, and its files are still open then."""
    async with _owner(tmp_path) as (owner, pid, _):
        os.kill(pid, signal.SIGSTOP)
        owner.kill()
        await owner.wait()
        await _refused(tmp_path, "is used by another SponsorSync", limits=SHORT_LOCK)
        os.kill(pid, signal.SIGCONT)

    await until(partial(_has_ended, pid))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_no_server_outlives_its_owner(tmp_path: Path, how: signal.Signals) -> None:
    """The owner may be ended by Ctrl-C, a service manager or the kernel (out of memory)."""
    async with _owner(tmp_path) as (owner, pid, _):
        owner.send_signal(how)
        async with asyncio.timeout(DEADLINE_S):
            await owner.wait()

        await until(partial(_has_ended, pid))


async def test_data_survive_a_killed_owner_and_the_next_start_waits(tmp_path: Path) -> None:
    """The next start waits until the old server has ended, then has its data."""
    async with _owner(tmp_path) as (owner, _, port):
        await _set(port, "key", "kept")
        owner.kill()
        await owner.wait()

        async with run_valkey(tmp_path, name="next") as valkey:
            assert await _get(valkey.port, "key") == "kept"


async def test_the_owner_notices_a_server_that_dies(tmp_path: Path) -> None:
    """`wait_closed` returns, so the owner can stop with a reason."""
    async with run_valkey(tmp_path, name="local") as valkey:
        session = os.getsid(valkey.pid)
        os.kill(valkey.pid, signal.SIGKILL)

        async with asyncio.timeout(DEADLINE_S):
            code = await valkey.wait_closed()

        assert code == 128 + signal.SIGKILL
        assert _is_session_empty(session)


async def test_a_server_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    """A server in an endless loop does not react to SIGTERM."""
    async with run_valkey(tmp_path, name="local", limits=TimeLimits(stop_s=0.2)) as valkey:
        os.kill(valkey.pid, signal.SIGSTOP)

    assert not _is_running(valkey.pid)


async def test_a_watchdog_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    """The server and its watchdog are stopped, and the block still ends in limited time."""
    async with run_valkey(tmp_path, name="local", limits=TimeLimits(stop_s=0.2)) as valkey:
        os.killpg(os.getsid(valkey.pid), signal.SIGSTOP)

    async with run_valkey(tmp_path, name="next"):
        """The directory is free again."""


async def test_a_wrong_config_is_refused_with_the_servers_reason(tmp_path: Path) -> None:
    """The error has the end of the server's log, which names the wrong setting."""
    reason = r"(?s)'refused' does not start.*no-such-setting"

    await _refused(tmp_path, reason, extra_config={"no-such-setting": "1"})


async def test_a_server_that_never_answers_is_refused(tmp_path: Path) -> None:
    """The start fails after a limited time."""
    limits, silent = TimeLimits(start_s=0.5), {"requirepass": "secret"}

    await _refused(tmp_path, "does not start", limits=limits, extra_config=silent)


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """The user gets a one-line error, and no traceback."""
    (tmp_path / "file").touch()

    await _refused(tmp_path / "file" / "data", "Cannot keep data in")


async def test_a_chosen_port_in_use_is_refused(tmp_path: Path) -> None:
    """Otherwise the other server would answer in place of ours."""
    async with run_valkey(tmp_path / "first", name="first") as first:
        await _refused(tmp_path / "second", "Address already in use", port=first.port)


async def test_servers_that_start_together_get_a_port_each(tmp_path: Path) -> None:
    """The two servers find the same free port; the later one takes the next port."""
    servers = [run_valkey(tmp_path / name, name=name) for name in ("local", "durable")]

    async with asyncio.timeout(DEADLINE_S):
        local, durable = await asyncio.gather(*(each.__aenter__() for each in servers))
        await asyncio.gather(*(each.__aexit__(None, None, None) for each in servers))

    assert local.port != durable.port


def test_a_port_in_use_is_skipped() -> None:
    """The search returns the next free port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert find_free_port(port) > port


def test_a_machine_without_free_ports_is_an_error() -> None:
    """The search ends at the highest port number."""
    with pytest.raises(SandboxError, match="No port from 65536"):
        find_free_port(65536)
