"""Tests whether one server can read the dumps of the other.

`DUMP` returns a key in the server's own file format, and `RESTORE` loads it: one string instead of
each field and member. A server reads formats up to its own version, and not those of every other
maker, so two servers have to be tried with each other.
https://valkey.io/commands/restore/
"""

from typing import cast

from redis.exceptions import ResponseError

from sponsorsync.domain.errors import StoreError
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore


async def can_read_dumps(reader: RedisStore, writer: RedisStore) -> bool:
    """Tries it with a hash and a set of its own, and removes both again.

    Returns False also where a server takes no writes at the moment, or does not permit the user
    these commands: records then travel in the slower form.
    """
    key = keys.DUMP_PROBE
    samples = (("HSET", key, "field", "value"), ("SADD", key, "member"))
    try:
        for sample in samples:
            replies = await writer.run_together([("DEL", key), sample, ("DUMP", key), ("DEL", key)])
            dump = cast("bytes", replies[2])
            await reader.run_together(
                [("RESTORE", key, keys.PROBE_TTL_MS, dump, "REPLACE"), ("DEL", key)]
            )
    except (StoreError, ResponseError):
        return False
    return True
