"""The parts of a person's data, each with its own version and presence.

The parts are `profile`, one `entitlement:{sponsorable}` for each account that can be sponsored, and
each collection of preferences by its own name.
"""

from enum import StrEnum

PROFILE = "profile"


class Presence(StrEnum):
    """Whether the local Redis has a part.

    UNKNOWN is not EMPTY: the durable Redis, if there is one, may have the part. An unknown part is
    never copied, nor shown as empty while durable can be asked.
    """

    UNKNOWN = "unknown"
    EMPTY = "empty"
    THERE = "there"
