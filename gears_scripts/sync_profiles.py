"""Copies every profile, `user_details:*`, to the durable Redis.

By hand, with REDISENT_HOST, REDISENT_PORT and REDISENT_PWD in the environment of the Redis server:

    gears-cli run --host HOST --port PORT --requirements build/gears/requirements.txt \
        build/gears/sync_profiles.py

The script returns the counts that `copy_all` describes. It may be run again at any time: durable
refuses a part that is not newer than its own.
"""

CONFIG = {}

# @include shared/batch.py

copy_all(["profile"], USER_DETAILS)
