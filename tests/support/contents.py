"""All that a Redis holds, as text to look for something in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def read_everything(redis: Redis) -> str:
    """Returns every key with what it holds; not as DUMP gives it, which may be compressed."""
    found: dict[str | bytes, object] = {}
    for key in await redis.keys("*"):
        kind = await redis.type(key)
        if kind == "string":
            found[key] = await redis.get(key)
        elif kind == "hash":
            found[key] = await redis.hgetall(key)
        elif kind == "set":
            found[key] = await redis.smembers(key)
        elif kind == "zset":
            found[key] = await redis.zrange(key, 0, -1)
        else:
            found[key] = await redis.xrange(key)
    return repr(found)
