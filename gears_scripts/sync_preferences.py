"""Copies the preferences of entitled people, `user:{id}:{collection}`, to the durable Redis.

People are entitled by the sponsorables that CONFIG names; if it names none, by any that has an
index `sponsors:*`. Preferences of all other people, and of anonymous visitors, are not copied.

By hand, with REDISENT_HOST, REDISENT_PORT and REDISENT_PWD in the environment of the Redis server:

    gears-cli run --host HOST --port PORT --requirements build/gears/requirements.txt \
        build/gears/sync_preferences.py

It returns the counts that `copy_all` describes. Running it again is safe: versions decide.
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
