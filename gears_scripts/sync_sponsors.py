"""Copies everyone's entitlement, `sponsorship:*`, to the durable Redis.

It also copies past entitlements, so that durable knows that they have ended. It does not copy the
index `sponsors:{login}`, since durable's Lua scripts maintain an index of their own.

By hand, with REDISENT_HOST, REDISENT_PORT and REDISENT_PWD in the environment of the Redis server:

    gears-cli run --host HOST --port PORT --requirements build/gears/requirements.txt \
        build/gears/sync_sponsors.py

The script returns the counts that `copy_all` describes. It may be run again at any time: durable
refuses a part that is not newer than its own.
"""

CONFIG = {}

# @include shared/batch.py

copy_all(["entitlement"], SPONSORSHIP, sponsorable="[^:]+")
