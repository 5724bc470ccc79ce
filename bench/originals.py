"""The contenders to the engine: the scripts that it replaced, and the limits.

All of them copy only data, without versions and indexes. The original scripts copy key by key: they
read a key on local, write it to durable, and wait for each answer. They write a profile with one
HSET, and a set with one SADD for each member. The limits are the fastest copies in Python.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, cast
from urllib.parse import urlsplit

import hiredis
from redis.typing import EncodableT as _Value

from bench.measure import Contender
from bench.people import COLLECTION, SPONSORABLE
from bench.servers import Servers
from sponsorsync.store import keys

_Copy = Callable[[Servers, Sequence[int]], None]

PIPELINE = 500
_RECEIVE_BYTES = 1 << 20


def contender(
    servers: Servers, name: str, copy: _Copy, ids: Sequence[int], scale: int = 1
) -> Contender:
    """Returns a contender that copies the people `ids` to an empty durable by calling `copy`."""

    @asynccontextmanager
    async def prepare() -> AsyncIterator[Callable[[], Awaitable[None]]]:
        await servers.clear_durable()

        async def work() -> None:
            copy(servers, ids)
            await asyncio.sleep(0)

        yield work

    return Contender(name, prepare, scale)


def copy_profiles_by_key(servers: Servers, ids: Iterable[int]) -> None:
    """Copies profile by profile, as the original script did."""
    for each in ids:
        key = keys.user_details(each)
        servers.durable.hset(key, mapping=_hash(servers.local.hgetall(key)))


def copy_profiles_in_pipelines(servers: Servers, ids: Sequence[int]) -> None:
    """Copies profiles in blocking pipelines, parsed by hiredis: the limit of redis-py."""
    for at in range(0, len(ids), PIPELINE):
        names = [keys.user_details(each) for each in ids[at : at + PIPELINE]]
        reading = servers.local.pipeline(transaction=False)
        for name in names:
            reading.hgetall(name)
        writing = servers.durable.pipeline(transaction=False)
        for name, fields in zip(names, reading.execute(), strict=True):
            writing.hset(name, mapping=fields)
        writing.execute()


def copy_profiles_raw(servers: Servers, ids: Sequence[int]) -> None:
    """Copies profiles over plain sockets, parsed and packed by hiredis: the limit of Python."""
    with (
        RawServer(servers.local_server.url) as local,
        RawServer(servers.durable_server.url) as durable,
    ):
        for at in range(0, len(ids), PIPELINE):
            names = [keys.user_details(each) for each in ids[at : at + PIPELINE]]
            found = local.run([("HGETALL", name) for name in names])
            commands = zip(names, cast("list[list[bytes]]", found), strict=True)
            durable.run([("HSET", name, *flat) for name, flat in commands])


def copy_people_in_pipelines(servers: Servers, ids: Sequence[int], *, sets: bool) -> None:
    """Copies all keys that the engine copies, in pipelines: the limit of redis-py for them.

    These are profile, entitlement and versions, and with `sets` also the collection.
    """
    for at in range(0, len(ids), PIPELINE):
        some = ids[at : at + PIPELINE]
        hashes = [name for each in some for name in _hashes(each)]
        reading = servers.local.pipeline(transaction=False)
        for name in hashes:
            reading.hgetall(name)
        for each in some if sets else ():
            reading.smembers(keys.preferences(each, COLLECTION))
        found = reading.execute()
        writing = servers.durable.pipeline(transaction=False)
        for name, fields in zip(hashes, found[: len(hashes)], strict=True):
            writing.hset(name, mapping=fields)
        for each, members in zip(some if sets else (), found[len(hashes) :], strict=True):
            writing.sadd(keys.preferences(each, COLLECTION), *members)
        writing.execute()


def copy_sets_by_key(servers: Servers, ids: Iterable[int]) -> None:
    """Copies the sets of sponsors member by member, as the original script did."""
    for each in ids:
        if servers.local.sismember(keys.sponsors(SPONSORABLE), str(each)):
            key = keys.preferences(each, COLLECTION)
            for member in _set(servers.local.smembers(key)):
                servers.durable.sadd(key, member)


def copy_sets_in_pipelines(servers: Servers, ids: Sequence[int]) -> None:
    """Copies the sets of sponsors in pipelines, with one SADD a set: the limit of redis-py."""
    for at in range(0, len(ids), PIPELINE):
        some = ids[at : at + PIPELINE]
        bits = servers.local.execute_command(  # type: ignore[no-untyped-call]
            "SMISMEMBER", keys.sponsors(SPONSORABLE), *some
        )
        names = [
            keys.preferences(each, COLLECTION) for each, bit in zip(some, bits, strict=True) if bit
        ]
        reading = servers.local.pipeline(transaction=False)
        for name in names:
            reading.smembers(name)
        writing = servers.durable.pipeline(transaction=False)
        for name, members in zip(names, reading.execute(), strict=True):
            writing.sadd(name, *members)
        writing.execute()


def copy_people_by_key(servers: Servers, ids: Iterable[int]) -> None:
    """Copies profile and set of one person after the other, as the original did after changes."""
    for each in ids:
        copy_profiles_by_key(servers, [each])
        copy_sets_by_key(servers, [each])


class RawServer:
    """A blocking connection to a Redis server, without redis-py."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname or "", address.port or 0))
        self._reader = hiredis.Reader()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self, commands: Sequence[tuple[Any, ...]]) -> list[object]:
        """Sends all commands, then reads all replies."""
        self._socket.sendall(b"".join(hiredis.pack_command(each) for each in commands))
        replies: list[object] = []
        while len(replies) < len(commands):
            reply: object = self._reader.gets()
            if reply is not False:
                replies.append(reply)
                continue
            self._reader.feed(self._socket.recv(_RECEIVE_BYTES))
        return replies


def _hashes(person_id: int) -> tuple[str, str, str]:
    sponsorship = keys.sponsorship(SPONSORABLE, person_id)
    return keys.user_details(person_id), sponsorship, keys.meta(person_id)


# Casts: redis-py's types for replies also cover its asyncio client, whose replies are awaitable.
def _hash(reply: object) -> dict[_Value, _Value]:
    return cast("dict[_Value, _Value]", reply)


def _set(reply: object) -> set[bytes]:
    return cast("set[bytes]", reply)
