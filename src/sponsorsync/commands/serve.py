"""`sponsorsync serve`: runs an ASGI app under uvicorn, with our own handling of signals.

uvicorn raises a captured signal again at its end, which would kill the process before the embedded
servers are shut down.
"""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from sponsorsync.app import create_app
from sponsorsync.commands.start import stop_signals
from sponsorsync.domain.errors import SettingsError
from sponsorsync.settings import Settings

_SHUTDOWN_S = 5
_BACKLOG = 2048
_LAST_PORT = 65535


async def run_serve(settings: Settings) -> None:
    """Serves requests until a signal ends it."""
    app = create_app(settings)
    async with stop_signals() as stop, run_server(app, bind(settings.host, settings.port)) as task:
        settle_memory()
        announce(settings.host, settings.port)
        await wait_for_first(task, stop=stop)


class _Server(uvicorn.Server):
    """A uvicorn server that ignores signals and sets an event once it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()


@asynccontextmanager
async def run_server(app: Starlette, sock: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """Serves an app on a bound socket while the context is open, and closes the socket.

    Yields the task, which ends early only if the server fails. The lifespan runs here and not in
    uvicorn, which would log its errors with a traceback in place of raising them.
    """
    with sock:
        async with (
            app.router.lifespan_context(app) as state,
            _serve_with_state(app, state or {}, sock) as task,
        ):
            yield task


@asynccontextmanager
async def _serve_with_state(
    app: ASGIApp, state: Mapping[str, Any], sock: socket.socket
) -> AsyncIterator[asyncio.Task[None]]:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    config = uvicorn.Config(
        call,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    server = _Server(config)
    task = asyncio.create_task(
        server.serve(sockets=[sock]), name=f"the server on port {port_of(sock)}"
    )
    started = asyncio.create_task(server.has_started.wait())
    try:
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        yield task
    finally:
        started.cancel()
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await task


async def wait_for_first(*tasks: asyncio.Task[object], stop: asyncio.Event) -> None:
    """Waits until one of the tasks ends or the event is set."""
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()


def announce(host: str, port: int) -> None:
    """Prints that requests are served, without buffering."""
    shown = f"[{host}]" if ":" in host else host
    print(f"SponsorSync ready on http://{shown}:{port}", flush=True)  # noqa: T201 - the command's own output


def settle_memory() -> None:
    """Excludes the objects of the start from every later garbage collection."""
    gc.collect()
    gc.freeze()


def bind(host: str, port: int) -> socket.socket:
    """Returns a listening socket.

    Raises:
        SettingsError: The address is in use or not available.
    """
    try:
        return _listen(host, port)
    except OSError as error:
        raise SettingsError(
            f"SPONSORSYNC_PORT: {port} on {host} cannot be used ({error.strerror}); choose a free "
            "port, and a SPONSORSYNC_HOST of this machine"
        ) from None


def bind_next_free(host: str, first_port: int) -> socket.socket:
    """Returns a socket that listens on the first free port from `first_port` on.

    Raises:
        SettingsError: No port is free.
    """
    for port in range(first_port, _LAST_PORT + 1):
        with suppress(OSError):
            return _listen(host, port)
    raise SettingsError(f"SPONSORSYNC_PORT: no later port is free on {host}; choose a lower one")


def port_of(sock: socket.socket) -> int:
    """Returns the port that a socket is bound to."""
    port: int = sock.getsockname()[1]
    return port


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
