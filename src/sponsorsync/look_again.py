"""Who can be asked to compare with GitHub as a whole."""

from __future__ import annotations

from typing import Protocol


class LookAgain(Protocol):
    """Has GitHub asked for everything, some time soon."""

    async def request(self, sponsorable: str) -> bool:
        """Asks for a look; returns whether there will be one, also after a restart.

        Raises:
            StoreError: Local cannot be asked.
        """


class NobodyLooks:
    """Without the maintainer's token there is nothing to look at."""

    async def request(self, sponsorable: str) -> bool:
        """Returns False."""
        del sponsorable
        return False
