"""Copies everybody's entitlement, `sponsorship:*`, to the durable Redis.

The index `sponsors:{login}` is not copied: durable's scripts keep their own by the facts. Past
entitles travel as well: that one has ended has to be known there, too.

By hand, with REDISENT_HOST, REDISENT_PORT and REDISENT_PWD in the environment of the Redis server:

    gears-cli run --host HOST --port PORT --requirements build/gears/requirements.txt \
        build/gears/sync_sponsors.py

It returns the counts that `copy_all` describes. Running it again is safe: versions decide.
"""

CONFIG = {}

# @include shared/batch.py

copy_all(["entitlement"], SPONSORSHIP, sponsorable="[^:]+")
