"""The list of entitled people for administrators, with source and end of each entitlement."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sponsorsync.domain.account import SponsorEntry, SponsorPage
from sponsorsync.domain.entitlement import EntitlementPolicy, evaluate
from sponsorsync.store.entitlements import EntitlementStore


@dataclass
class SponsorListing:
    """Reads people's entitlements, also of people who have never signed in."""

    entitlements: EntitlementStore
    policy: EntitlementPolicy
    clock: Callable[[], datetime]

    async def load_page(self, sponsorable: str, *, cursor: int, limit: int) -> SponsorPage:
        """Returns a page of about `limit` entitled people; each person is on at least one page.

        The sponsorable is lower-case. The cursor is 0, or the `next_cursor` of the previous page.

        Raises:
            StoreUnavailableError: Local cannot be asked.
        """
        next_cursor, ids = await self.entitlements.load_entitled(sponsorable, cursor, limit)
        return SponsorPage(
            entries=await self._load(sponsorable, ids), next_cursor=next_cursor or None
        )

    async def load(self, sponsorable: str, person_id: int) -> SponsorEntry:
        """Returns the entitlement of one person, who may also be not entitled.

        Raises:
            StoreUnavailableError: Local cannot be asked.
        """
        [entry] = await self._load(sponsorable, [person_id])
        return entry

    async def _load(self, sponsorable: str, ids: Sequence[int]) -> list[SponsorEntry]:
        stored = await self.entitlements.load(sponsorable, ids)
        logins = await self.entitlements.load_logins(ids)
        now = self.clock()
        return [
            SponsorEntry(
                person_id=each,
                login=logins[each],
                entitlement=evaluate(sponsorable, stored[each].facts, policy=self.policy, now=now),
            )
            for each in ids
        ]
