"""Copies everyone's entitlement, `sponsorship:*`, to the durable Redis.

It does not copy the index `sponsors:{login}`: durable's scripts maintain their own. It copies past
entitlements as well: durable has to know that one has ended.

By hand, with REDISENT_HOST, REDISENT_PORT and REDISENT_PWD in the environment of the Redis server:

    gears-cli run --host HOST --port PORT --requirements build/gears/requirements.txt \
        build/gears/sync_sponsors.py

It returns the counts that `copy_all` describes. Running it again is safe: versions decide.
"""

CONFIG = {}

# @include shared/batch.py

copy_all(["entitlement"], SPONSORSHIP, sponsorable="[^:]+")
