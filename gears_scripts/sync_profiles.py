"""Copies every profile, `user_details:*`, to the durable Redis.

By hand, with REDISENT_HOST, REDISENT_PORT and REDISENT_PWD in the environment of the Redis server:

    gears-cli run --host HOST --port PORT --requirements build/gears/requirements.txt \
        build/gears/sync_profiles.py

It returns the counts that `copy_all` describes. Running it again is safe: versions decide.
"""

CONFIG = {}

# @include shared/batch.py

copy_all(["profile"], USER_DETAILS)
