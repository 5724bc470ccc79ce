"""A person's data travels in parts, each with its own version and presence.

The parts are `profile`, one `entitlement:{sponsorable}` for each account that can be sponsored, and
each collection of preferences by its own name.
"""

from __future__ import annotations

from enum import StrEnum

PROFILE = "profile"


def entitlement_part(sponsorable: str) -> str:
    """Returns the name of the part that holds the entitlement by one sponsorable."""
    return f"entitlement:{sponsorable}"


class Presence(StrEnum):
    """What the local Redis knows of a part.

    UNKNOWN is not EMPTY: it means that only the durable side, if any, can tell. It is never sent
    anywhere and never shown as an empty answer while there is somebody to ask.
    """

    UNKNOWN = "unknown"
    EMPTY = "empty"
    THERE = "there"
