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

    `url` is the simulation's address, without a slash at its end. `maintainer` is the login that
    the people of `people_by_role` sponsor. The clock `now` decides whether a code has expired or a
    one-time payment has ended.
    """

    url: str
    maintainer: str
    people: People
    tokens: Tokens
    switches: Switches
    now: Callable[[], datetime]
