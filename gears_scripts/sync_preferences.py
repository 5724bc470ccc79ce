"""Copies the preferences of entitled people, `user:{id}:{collection}`, to the durable Redis.

Entitled are people in the index `sponsors:{login}` of a sponsorable that CONFIG or the environment
of the Redis server names; if neither names one, in any such index. Preferences of all other people,
and of anonymous visitors, are not copied.

By hand, with REDISENT_HOST, REDISENT_PORT and REDISENT_PWD in the environment of the Redis server:

    gears-cli run --host HOST --port PORT --requirements build/gears/requirements.txt \
        build/gears/sync_preferences.py

The script returns the counts that `copy_all` describes. It may be run again at any time: durable
refuses a part that is not newer than its own.
"""

import re

CONFIG = {}

# @include shared/batch.py

COLLECTIONS = load_names()["collections"]

copy_all(
    COLLECTIONS,
    PREFERENCES,
    only_entitled=True,
    collection="(?:{})".format("|".join(re.escape(each) for each in COLLECTIONS)),
)
