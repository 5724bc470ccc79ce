"""The host as a process: `python -m tests.gears.host --folder FOLDER [--port PORT]`.

The host behaves as a Redis with RedisGears 1.2.9. Scripts run in its threads, so they see its
environment, and a test can kill it like a server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from pathlib import Path

from sponsorsync.sandbox.valkey import run_valkey
from tests.gears.host.builder import GearsBuilder
from tests.gears.host.commands import Commands
from tests.gears.host.engine import ALL_FLAGS, HOST, Engine, Link
from tests.gears.host.script import Functions
from tests.gears.host.server import Connection


async def _serve(folder: Path, port: int, threads: int, *, ends_with_parent: bool) -> None:
    async with run_valkey(
        folder,
        name="gears",
        # Without fsync a kill loses nothing: the operating system gets each write before the reply.
        extra_config={"notify-keyspace-events": ALL_FLAGS, "appendfsync": "no"},
    ) as valkey:
        engine = Engine(folder, threads, await Link.open(valkey.port), await Link.open(valkey.port))
        await engine.events_link.ask(b"PSUBSCRIBE", b"__keyevent@*__:*")
        GearsBuilder.engine = engine
        Functions(engine).install(GB=GearsBuilder, GearsBuilder=GearsBuilder)
        commands = Commands(engine)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            link = await Link.open(valkey.port)
            await Connection(engine, commands, reader, writer, link).serve()

        ended = asyncio.Event()
        if ends_with_parent:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        listener = asyncio.create_task(engine.listen())
        listener.add_done_callback(lambda _: ended.set())  # it ends when Valkey has ended
        await engine.load()
        server = await asyncio.start_server(serve, HOST, port)
        facts = {"port": server.sockets[0].getsockname()[1], "valkey_pid": valkey.pid}
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
        await ended.wait()
        server.close()
        listener.cancel()


def main() -> None:
    """Serves until a signal, or until the parent process or Valkey ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument(
        "--ends-with-parent", action="store_true", help="end when standard input does"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            _serve(
                arguments.folder,
                arguments.port,
                arguments.threads,
                ends_with_parent=arguments.ends_with_parent,
            )
        )
    os._exit(0)  # a callback that never returns must not keep the process alive


if __name__ == "__main__":
    main()
