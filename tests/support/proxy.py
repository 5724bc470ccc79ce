"""A TCP proxy that counts round trips, and can cut or stall its connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_CHUNK = 65536


@dataclass
class TcpProxy:
    """Forwards connections to one server.

    Attributes:
        port: The port of the proxy on 127.0.0.1.
        target_port: The port of the server; a change applies to new connections.
        round_trips: How often a client began to send, at first or after an answer.
    """

    port: int = 0
    round_trips: int = 0
    target_port: int = 0
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _is_cut: bool = False
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def is_stalled(self) -> bool:
        """Whether the proxy holds bytes back."""
        return not self._flows.is_set()

    def stall(self) -> None:
        """Holds back every byte, in both directions, until `flow`."""
        self._flows.clear()

    def flow(self) -> None:
        """Lets bytes and new connections through again."""
        self._is_cut = False
        self._flows.set()

    def cut(self) -> None:
        """Breaks all connections, and new ones until `flow`; bytes held back are lost."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(
                "127.0.0.1", self.target_port
            )
        except OSError:  # the server is down
            writer.transport.abort()
            return
        both = {writer, server_writer}
        if self._is_cut:  # during the connecting
            for each in both:
                each.transport.abort()
            return
        self._writers |= both
        turn = [True]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server_writer, turn, from_client=True))
                group.create_task(self._pump(server_reader, writer, turn, from_client=False))
        finally:
            self._writers -= both
            for each in both:
                each.close()
                with suppress(OSError):
                    await each.wait_closed()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        turn: list[bool],
        *,
        from_client: bool,
    ) -> None:
        with suppress(OSError):
            while data := await source.read(_CHUNK):
                await self._flows.wait()
                if from_client and turn[0]:
                    self.round_trips += 1
                turn[0] = not from_client
                sink.write(data)
                await sink.drain()
        sink.close()


@asynccontextmanager
async def run_proxy(target_port: int) -> AsyncIterator[TcpProxy]:
    """Yields a proxy to a port of this machine, which at first lets everything through."""
    proxy = TcpProxy(target_port=target_port)
    proxy.flow()
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await server.wait_closed()
