"""Who is covered, by what, until when, for whoever runs the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sponsorsync.domain.account import SponsorEntry, SponsorPage
from sponsorsync.domain.cover import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sponsorsync.domain.cover import CoverPolicy
    from sponsorsync.store.entitlements import EntitlementStore


class SponsorDirectory:
    """Reads covers of people who need not have signed in."""

    def __init__(
        self, covers: EntitlementStore, *, policy: CoverPolicy, clock: Callable[[], datetime]
    ) -> None:
        self._covers = covers
        self._policy = policy
        self._clock = clock

    async def load_page(self, sponsorable: str, *, cursor: int, limit: int) -> SponsorPage:
        """Returns some of those who are covered; over all pages each of them comes at least once.

        Args:
            sponsorable: The login that receives, lower-cased.
            cursor: 0, or the `next_cursor` of another page.
            limit: About how many.

        Raises:
            StoreUnavailableError: Local cannot be asked.
        """
        next_cursor, ids = await self._covers.load_covered(sponsorable, cursor, limit)
        return SponsorPage(
            entries=await self._load(sponsorable, ids), next_cursor=next_cursor or None
        )

    async def load(self, sponsorable: str, person_id: int) -> SponsorEntry:
        """Returns the cover of anybody, and so why there is none.

        Raises:
            StoreUnavailableError: Local cannot be asked.
        """
        [entry] = await self._load(sponsorable, [person_id])
        return entry

    async def _load(self, sponsorable: str, ids: Sequence[int]) -> list[SponsorEntry]:
        known = await self._covers.load(sponsorable, ids)
        logins = await self._covers.load_logins(ids)
        now = self._clock()
        return [
            SponsorEntry(
                person_id=each,
                login=logins[each],
                cover=judge(sponsorable, known[each].facts, policy=self._policy, now=now),
            )
            for each in ids
        ]
