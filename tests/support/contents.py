"""The whole content of a Redis as one text, in which a test can search."""

from redis.asyncio import Redis


async def read_everything(redis: Redis) -> str:
    """Returns all keys and values as text; does not use DUMP, which may compress values."""
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
