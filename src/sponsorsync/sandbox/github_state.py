"""The state that all endpoints of the simulated GitHub share."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sponsorsync.sandbox.oauth import Tokens
from sponsorsync.sandbox.people import People
from sponsorsync.sandbox.switches import Switches


@dataclass(frozen=True)
class GitHubState:
    """The accounts, the live tokens and the faults.

    `url` has no slash at its end. The people by role sponsor the login `maintainer`. By the clock
    `now` codes expire and one-time payments end.
    """

    url: str
    maintainer: str
    people: People
    tokens: Tokens
    switches: Switches
    now: Callable[[], datetime]
