"""Compares forward auth with a bare route: `python -m bench.auth [--rounds N] [--connections N]`.

The bare route does one GET on the same Redis and answers 204. Each route runs in a process of its
own, as the service does: FastAPI under uvicorn, uvloop and httptools. Many short rounds alternate
between the two. The table also has the server's processor time for a request, which depends less on
other load.
"""

import argparse
import asyncio
import multiprocessing
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import cast

import uvloop
from fastapi import FastAPI, Request, Response
from pydantic import SecretStr
from redis.asyncio import Redis

from bench.measure import console, create_table, verdict
from sponsorsync.app import create_app
from sponsorsync.commands.serve import bind, port_of, run_server, settle_memory
from sponsorsync.domain.account import NO_VERSION, StoredEntitlement
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.profile import Profile
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.sandbox.valkey import run_valkey
from sponsorsync.settings import Settings
from sponsorsync.store.connect import create_store
from sponsorsync.store.people import PeopleStore

_HOST = "127.0.0.1"
_SPONSORABLE = "maintainer"
_WANTED = 0.7
_WARM_UP_S = 1.0
_OURS, _BARE = "/auth/sponsor?min_cents=1000", "/read"
_STARTS_WITHIN_S = 30


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.auth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(options.rounds, options.seconds, options.connections))


async def _run(rounds: int, seconds: float, connections: int) -> None:
    with TemporaryDirectory(prefix="sponsorsync-bench-") as root:
        async with run_valkey(Path(root) / "local", name="local") as local:
            token = await _sign_in(local.url)
            with _serve(_OURS, local.url, root) as ours, _serve(_BARE, local.url, root) as bare:
                contenders = (ours, bare)
                for each in contenders:
                    await _load(each, token, _WARM_UP_S, connections)
                    each.clear()
                for _ in range(rounds):
                    for each in contenders:
                        await _load(each, token, seconds, connections)
                _show(ours, bare, connections)


async def _sign_in(url: str) -> str:
    """Returns the session token of an entitled person."""
    now = datetime.now(UTC)
    store = create_store(SecretStr(url), name="local", pool_size=2)
    people = PeopleStore(
        store, catalog=Catalog((_SPONSORABLE,), ("mnodes",)), session_life=timedelta(days=1)
    )
    profile = Profile(
        id=48_210_377,
        login="monthly",
        name="Monthly sponsor",
        email="monthly@example.com",
        avatar_url="https://example.com/48210377.png",
        first_seen=now,
        last_login=now,
    )
    facts = EntitlementFacts(
        sponsorable=_SPONSORABLE,
        checked_at=now,
        source=EntitlementSource.SPONSORSHIP,
        tier_cents=1000,
        since=now,
        valid_until=now + timedelta(days=30),
    )
    try:
        token = await people.save_login(
            profile, [StoredEntitlement(facts, NO_VERSION)], replaces=None
        )
        await store.run("SET", "bare", "1")
    finally:
        await store.aclose()
    if token is None:
        raise AssertionError("unreachable: no other client writes there")
    return token


@dataclass
class _Contender:
    """One of the two apps, in its own process.

    Attributes:
        rates: Answers a second, for each round.
        cpu_us: Microseconds of processor time for a request, for each round.
    """

    path: str
    port: int
    pipe: Connection
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)

    def fetch_cpu_s(self) -> float:
        """Returns the processor time that the app's process has used so far."""
        self.pipe.send(True)
        return cast("float", self.pipe.recv())

    def clear(self) -> None:
        """Removes the measurements."""
        self.rates.clear()
        self.cpu_us.clear()


@contextmanager
def _serve(path: str, url: str, root: str) -> Iterator[_Contender]:
    """Runs one of the two apps in a process of its own; `path` selects the app."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve_until_told, args=(path, url, root, there), daemon=True)
    process.start()
    try:
        if not here.poll(_STARTS_WITHIN_S):
            raise RuntimeError(f"the app of {path} did not start")
        yield _Contender(path=path, port=cast("int", here.recv()), pipe=here)
    finally:
        here.send(None)
        process.join(_STARTS_WITHIN_S)


def _serve_until_told(path: str, url: str, root: str, pipe: Connection) -> None:
    app = _create_bare_app(url) if path == _BARE else _create_our_app(url, root)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve_app(app, pipe))


async def _serve_app(app: FastAPI, pipe: Connection) -> None:
    sock = bind(_HOST, 0)
    port = port_of(sock)
    async with run_server(app, sock):
        settle_memory()
        pipe.send(port)
        while await asyncio.to_thread(pipe.recv) is not None:
            pipe.send(time.process_time())


def _create_our_app(url: str, root: str) -> FastAPI:
    settings = Settings.model_construct(
        redis_url=SecretStr(url),
        data_dir=Path(root) / "data",
        github_client_id="client",
        github_secret=SecretStr("secret"),
        sponsorables=(_SPONSORABLE,),
        token_audience="https://app.example",  # noqa: S106 - no password
    )
    return create_app(settings)


def _create_bare_app(url: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Redis]]:
        async with Redis.from_url(url) as client:
            yield {"client": client}

    app = FastAPI(lifespan=lifespan)

    async def read(request: Request) -> Response:
        client: Redis = request.state.client
        await client.get("bare")
        return Response(status_code=204)

    # Not by a decorator, with which FastAPI would not find the annotations of a nested function.
    app.add_api_route(_BARE, read, status_code=204, response_class=Response)
    return app


class _Caller(asyncio.Protocol):
    """A client on one connection: sends the next request after each answer; counts the answers."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self.answers = 0
        self.failure: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._buffer.endswith(b"\r\n\r\n") or self._transport is None:
            return
        if not self._buffer.startswith(b"HTTP/1.1 204"):
            self.failure = self._buffer.decode(errors="replace")
            self._transport.close()
            return
        self._buffer = b""
        self.answers += 1
        self._transport.write(self._request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def _load(contender: _Contender, token: str, seconds: float, connections: int) -> None:
    """Sends requests to a contender on all connections for some seconds; records its figures."""
    request = (
        f"GET {contender.path} HTTP/1.1\r\nHost: {_HOST}:{contender.port}\r\n"
        f"Cookie: sponsorsync={token}\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    callers = [_Caller(request) for _ in range(connections)]
    for caller in callers:
        await loop.create_connection(lambda caller=caller: caller, _HOST, contender.port)  # type: ignore[misc]
    cpu_before, began = contender.fetch_cpu_s(), time.perf_counter()
    before = sum(caller.answers for caller in callers)
    await asyncio.sleep(seconds)
    answers = sum(caller.answers for caller in callers) - before
    contender.rates.append(answers / (time.perf_counter() - began))
    contender.cpu_us.append((contender.fetch_cpu_s() - cpu_before) / answers * 1e6)
    for caller in callers:
        caller.close()
        if caller.failure is not None:
            raise RuntimeError(caller.failure)


def _show(ours: _Contender, bare: _Contender, connections: int) -> None:
    ratio = median(ours.rates) / median(bare.rates)
    each_round = sorted(a / b for a, b in zip(ours.rates, bare.rates, strict=True))
    table = create_table(f"{connections} connections", "requests/s", "min..max", "CPU us a request")
    for each in (ours, bare):
        rates = each.rates
        span = f"{min(rates):,.0f}..{max(rates):,.0f}"
        cpu_us = f"{median(each.cpu_us):.0f}"
        table.add_row(f"GET {each.path}", f"{median(rates):,.0f}", span, cpu_us)
    console.print(table)
    quarter = len(each_round) // 4
    console.print(
        f"requests/s: {ratio:.0%} of the bare route's, {verdict(ratio >= _WANTED)} {_WANTED:.0%}; "
        f"median of the rounds {median(each_round):.0%}, the middle half of them "
        f"{each_round[quarter]:.0%}..{each_round[-1 - quarter]:.0%}; "
        f"by processor time {median(bare.cpu_us) / median(ours.cpu_us):.0%}"
    )
    console.print("load average " + " ".join(f"{each:.1f}" for each in os.getloadavg()))


if __name__ == "__main__":
    main()
