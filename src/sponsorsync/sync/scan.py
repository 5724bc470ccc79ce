"""Scans all people of a server in pages, so that memory stays bounded.

SCAN guarantees that a person who is there during the whole scan is found at least once. A person
who is added or removed meanwhile may be missed, and a person may be found twice.
https://redis.io/docs/latest/commands/scan/
"""

import re
from collections.abc import AsyncGenerator, Sequence
from typing import cast

from sponsorsync.domain.catalog import Catalog
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore

_COUNT = 1000


async def scan_people(store: RedisStore) -> AsyncGenerator[list[int], None]:
    """Yields pages of the people in a server's index."""
    async for page in _scan(store, "ZSCAN", keys.PEOPLE):
        yield [int(member) for member, _ in cast("list[tuple[bytes, float]]", page)]


async def scan_set(store: RedisStore, key: str) -> AsyncGenerator[list[int], None]:
    """Yields pages of a set of person ids."""
    async for page in _scan(store, "SSCAN", key):
        yield [int(member) for member in cast("list[bytes]", page)]


async def scan_entitled(store: RedisStore, catalog: Catalog) -> AsyncGenerator[list[int], None]:
    """Yields pages of the people in the indexes of the entitled."""
    for sponsorable in catalog.sponsorables:
        async for page in scan_set(store, keys.sponsors(sponsorable)):
            yield page


async def scan_keyspace(store: RedisStore, catalog: Catalog) -> AsyncGenerator[list[int], None]:
    """Yields pages of the people who have a profile or a collection, found by a scan of all keys.

    Skips similar keys: those without a person's number, and those of collections not configured.
    """
    own = [("user_details:*", re.compile(rb"user_details:([1-9][0-9]*)"))]
    for collection in catalog.collections:
        pattern = rf"user:([1-9][0-9]*):{re.escape(collection)}".encode()
        own.append((f"user:*:{collection}", re.compile(pattern)))
    for glob, pattern_of_key in own:
        async for page in _scan(store, "SCAN", None, "MATCH", glob):
            found = (pattern_of_key.fullmatch(key) for key in cast("list[bytes]", page))
            yield [int(match[1]) for match in found if match]


async def in_batches(
    pages: AsyncGenerator[list[int], None], size: int
) -> AsyncGenerator[list[int], None]:
    """Yields the ids of all pages in batches of `size`; a batch contains no id twice."""
    waiting: list[int] = []
    async for page in pages:
        waiting += page
        while len(waiting) >= size:
            yield list(dict.fromkeys(waiting[:size]))
            del waiting[:size]
    if waiting:
        yield list(dict.fromkeys(waiting))


async def _scan(
    store: RedisStore, command: str, key: str | None, *options: str
) -> AsyncGenerator[Sequence[object], None]:
    cursor = 0
    first = (command,) if key is None else (command, key)
    while True:
        reply = await store.run(*first, cursor, *options, "COUNT", _COUNT)
        cursor, page = cast("tuple[int, list[object]]", reply)
        if page:
            yield page
        if int(cursor) == 0:
            return
