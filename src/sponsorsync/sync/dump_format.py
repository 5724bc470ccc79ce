"""Tests whether one server can read the dumps of the other.

`DUMP` returns a key's value in the server's own file format, and `RESTORE` loads it: one string
instead of each field and member. A server reads this format only up to its own version, and Redis
and Valkey do not read all of each other's versions, so the two servers have to be tried.
https://valkey.io/commands/restore/
"""

from typing import cast

from redis.exceptions import ResponseError

from sponsorsync.domain.errors import StoreError
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore


async def can_read_dumps(reader: RedisStore, writer: RedisStore) -> bool:
    """Returns whether `reader` restores dumps of `writer`; tries it with a hash and a set.

    Both samples are removed again. Also returns False where a server takes no writes at the moment,
    or does not permit these commands: records are then sent field by field, which is slower.
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
