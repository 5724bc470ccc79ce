"""Simulates a distant server: a proxy that delays requests and answers."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvloop

_START_S = 5.0


class _Leg(asyncio.Protocol):
    """One of the proxy's two connections: forwards its data to the other one after a delay."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self.transport: asyncio.WriteTransport | None = None
        self.other: _Leg | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self._delay_s, self._forward, data)

    def connection_lost(self, _: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def _forward(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)


class _Front(_Leg):
    """The connection from the client: opens the one to the server, and buffers data until then."""

    def __init__(self, port: int, delay_s: float) -> None:
        super().__init__(delay_s)
        self._port = port
        self._early: list[bytes] = []
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening = asyncio.get_running_loop().create_task(self._open())

    def _forward(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            super()._forward(data)

    async def _open(self) -> None:
        back = _Leg(self._delay_s)
        back.other = self
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: back, "127.0.0.1", self._port)
        self.other = back
        for data in self._early:
            super()._forward(data)


@contextmanager
def at_distance(port: int, delay_s: float) -> Iterator[int]:
    """Yields the port of a proxy that delays data to and from the server on `port`.

    The proxy runs in a thread and event loop of its own, so that it adds no other delay. If
    `delay_s` is 0, there is no proxy, and the port is the server's own.
    """
    if not delay_s:
        yield port
        return
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="distance", daemon=True)
    thread.start()

    async def listen() -> asyncio.Server:
        server = await loop.create_server(lambda: _Front(port, delay_s), "127.0.0.1", 0)
        return cast("asyncio.Server", server)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(_START_S)
    try:
        yield cast("int", server.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
