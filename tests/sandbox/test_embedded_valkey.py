"""The embedded Valkey: it keeps its data to itself and never outlives its owner."""

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from sponsorsync.sandbox.valkey import SandboxError, TimeLimits, find_free_port, run_valkey

DEADLINE_S = 20.0

OWNER = """
import asyncio, pathlib, sys
from sponsorsync.sandbox.valkey import run_valkey

async def main():
    async with run_valkey(pathlib.Path(sys.argv[1]), name="owned") as valkey:
        print(valkey.pid, valkey.port, flush=True)
        await valkey.wait_closed()

asyncio.run(main())
"""


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - processes end without an event
            await asyncio.sleep(0.01)


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
    """Another process that runs a server: the process, the server's id and port."""
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


async def test_it_answers_at_its_url(tmp_path: Path) -> None:
    """A client needs nothing but the url."""
    async with run_valkey(tmp_path, name="local") as valkey, Redis.from_url(valkey.url) as client:
        info = await client.execute_command("INFO", "server")  # type: ignore[no-untyped-call]

        assert info["process_id"] == valkey.pid


async def test_it_is_configured_to_lose_nothing(tmp_path: Path) -> None:
    """Every write is in the append-only file, and a full memory refuses instead of evicting."""
    async with (
        run_valkey(tmp_path, name="durable", appendfsync="always") as valkey,
        Redis.from_url(valkey.url, decode_responses=True) as client,
    ):
        config = await client.config_get("appendonly", "appendfsync", "save", "maxmemory-policy")

    assert config == {
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
    }


async def test_extra_config_is_applied(tmp_path: Path) -> None:
    """The plain engine wants keyspace notifications."""
    extra = {"notify-keyspace-events": "KEA"}
    async with (
        run_valkey(tmp_path, name="local", extra_config=extra) as valkey,
        Redis.from_url(valkey.url, decode_responses=True) as client,
    ):
        config = await client.config_get("notify-keyspace-events")

    assert config == {"notify-keyspace-events": "AKE"}


async def test_a_directory_it_makes_is_private(tmp_path: Path) -> None:
    """Personal data are not for the machine's other users."""
    data_dir = tmp_path / "not" / "there yet"

    async with run_valkey(data_dir, name="local"):
        mode = data_dir.stat().st_mode

    assert stat.S_IMODE(mode) == 0o700


async def test_data_are_there_after_a_restart(tmp_path: Path) -> None:
    """`make run` goes on where it stopped."""
    async with run_valkey(tmp_path, name="local") as valkey:
        await _set(valkey.port, "key", "kept")

    async with run_valkey(tmp_path, name="local") as valkey:
        assert await _get(valkey.port, "key") == "kept"


async def test_leaving_ends_every_process(tmp_path: Path) -> None:
    """Neither the server nor its watchdog stays."""
    async with run_valkey(tmp_path, name="local") as valkey:
        session = os.getsid(valkey.pid)

    assert _is_session_empty(session)


async def test_an_error_inside_the_block_ends_the_server_too(tmp_path: Path) -> None:
    """A start that fails further on unwinds."""
    with pytest.raises(ZeroDivisionError):
        async with run_valkey(tmp_path, name="local") as valkey:
            raise ZeroDivisionError

    assert not _is_running(valkey.pid)


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    """Two servers on one append-only file destroy it."""
    limits = TimeLimits(lock_s=0.1)
    sentence = f"{tmp_path} is used by another SponsorSync"

    async with run_valkey(tmp_path, name="first"):
        with pytest.raises(SandboxError, match=sentence):
            async with run_valkey(tmp_path, name="second", limits=limits):
                pass


async def test_the_lock_is_the_servers_and_not_its_owners(tmp_path: Path) -> None:
    """A server that outlives its owner for a moment still has its data open."""
    limits = TimeLimits(lock_s=0.1)

    async with _owner(tmp_path) as (owner, pid, _):
        os.kill(pid, signal.SIGSTOP)
        owner.kill()
        await owner.wait()
        with pytest.raises(SandboxError, match="is used by another SponsorSync"):
            async with run_valkey(tmp_path, name="next", limits=limits):
                pass
        os.kill(pid, signal.SIGCONT)

    await _until(lambda: not _is_running(pid))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_no_server_outlives_its_owner(tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C, a service manager and the OOM killer all end us; none may leave a server behind."""
    async with _owner(tmp_path) as (owner, pid, _):
        owner.send_signal(how)
        await owner.wait()

        await _until(lambda: not _is_running(pid))


async def test_data_survive_a_killed_owner_and_the_next_start_waits(tmp_path: Path) -> None:
    """Whoever starts again at once gets the same data, not an error."""
    async with _owner(tmp_path) as (owner, _, port):
        await _set(port, "key", "kept")
        owner.kill()
        await owner.wait()

        async with run_valkey(tmp_path, name="next") as valkey:
            assert await _get(valkey.port, "key") == "kept"


async def test_a_server_that_dies_by_itself_is_noticed(tmp_path: Path) -> None:
    """Its owner stops with a reason instead of failing call by call."""
    async with run_valkey(tmp_path, name="local") as valkey:
        session = os.getsid(valkey.pid)
        os.kill(valkey.pid, signal.SIGKILL)

        async with asyncio.timeout(DEADLINE_S):
            code = await valkey.wait_closed()

        assert code == 128 + signal.SIGKILL
        assert _is_session_empty(session)


async def test_a_server_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    """A script in an endless loop does not hear a polite request."""
    async with run_valkey(tmp_path, name="local", limits=TimeLimits(stop_s=0.2)) as valkey:
        os.kill(valkey.pid, signal.SIGSTOP)

    assert not _is_running(valkey.pid)


async def test_a_watchdog_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    """Leaving takes a bounded time whatever hangs."""
    async with run_valkey(tmp_path, name="local", limits=TimeLimits(stop_s=0.2)) as valkey:
        os.killpg(os.getsid(valkey.pid), signal.SIGSTOP)

    async with run_valkey(tmp_path, name="next"):
        """The directory is free again."""


async def test_a_wrong_config_is_told_with_the_servers_reason(tmp_path: Path) -> None:
    """The log's end says what to change."""
    with pytest.raises(SandboxError, match=r"(?s)'local' does not start.*no-such-setting"):
        async with run_valkey(tmp_path, name="local", extra_config={"no-such-setting": "1"}):
            pass


async def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """A start takes a bounded time."""
    limits = TimeLimits(start_s=0.5)
    asks_for_a_password = {"requirepass": "secret"}

    with pytest.raises(SandboxError, match="does not start"):
        async with run_valkey(
            tmp_path, name="local", limits=limits, extra_config=asks_for_a_password
        ):
            pass


async def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A sentence, not a traceback."""
    (tmp_path / "file").touch()

    with pytest.raises(SandboxError, match="Cannot keep data in"):
        async with run_valkey(tmp_path / "file" / "data", name="local"):
            pass


async def test_a_chosen_port_in_use_is_refused(tmp_path: Path) -> None:
    """An answer from somebody else's server there does not pass for ours."""
    async with run_valkey(tmp_path / "first", name="first") as first:
        with pytest.raises(SandboxError, match="Address already in use"):
            async with run_valkey(tmp_path / "second", name="second", port=first.port):
                pass


async def test_servers_that_start_together_get_a_port_each(tmp_path: Path) -> None:
    """Both see the same port free; the one that comes second moves on."""
    async with (
        asyncio.timeout(DEADLINE_S),
        _both(tmp_path / "local", tmp_path / "durable") as (local, durable),
    ):
        assert local != durable


@asynccontextmanager
async def _both(one: Path, other: Path) -> AsyncIterator[tuple[int, int]]:
    servers = run_valkey(one, name="local"), run_valkey(other, name="durable")
    started = await asyncio.gather(*(server.__aenter__() for server in servers))
    try:
        yield started[0].port, started[1].port
    finally:
        await asyncio.gather(*(server.__aexit__(None, None, None) for server in servers))


def test_a_free_port_is_one_nobody_listens_on() -> None:
    """The next one is taken instead."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert find_free_port(port) > port


def test_a_machine_without_free_ports_is_told() -> None:
    """The search has an end."""
    with pytest.raises(SandboxError, match="No port from 65536"):
        find_free_port(65536)
