"""Organizations whose members are entitled: their changes, members and seats on the local Redis."""

import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import cast

import structlog

from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.locks import HeldLock, hold_lock

_BATCH = 100
_FIELD = re.compile(rb"(?P<sponsorable>[\w-]+):(?P<id>\d{1,15})(?::(?P<member>\d{1,15}))?")

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ChangedOrganization:
    """An organization whose members have to be evaluated.

    `entry` is the request for all members, a field and its value in ORGANIZATIONS; None if only
    new members have to be evaluated. `newcomers` has the request for each new member by person id.
    """

    sponsorable: str
    id: int
    entry: tuple[bytes, bytes] | None = None
    newcomers: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)

    @property
    def entries(self) -> list[tuple[bytes, bytes]]:
        """The requests for new members and for all members."""
        return [*self.newcomers.values(), *([] if self.entry is None else [self.entry])]


class OrganizationStore:
    """Finds changed organizations and their members, and gives members seats."""

    def __init__(self, local: RedisStore) -> None:
        self._local = local

    def hold_lock(self) -> AbstractAsyncContextManager[HeldLock | None]:
        """Holds the lock of the replica that evaluates members again."""
        return hold_lock(self._local, keys.RECOMPUTING, ttl_ms=keys.RECOMPUTING_TTL_MS)

    async def has_changed_organizations(self) -> bool:
        """Returns whether `find_changed_organizations` would find any."""
        return await self._local.run("HLEN", keys.ORGANIZATIONS) != 0

    async def find_changed_organizations(self) -> list[ChangedOrganization]:
        """Returns organizations of which all members or new members have to be evaluated.

        Removes fields that other programs wrote.
        """
        reply = cast("dict[bytes, bytes]", await self._local.run("HGETALL", keys.ORGANIZATIONS))
        found: dict[tuple[str, int], ChangedOrganization] = {}
        for entry in reply.items():
            parsed = _FIELD.fullmatch(entry[0])
            if parsed is None:
                _log.warning("organization_unreadable", field=entry[0].decode(errors="replace"))
                await self._local.run("HDEL", keys.ORGANIZATIONS, entry[0])
                continue
            key = parsed["sponsorable"].decode(), int(parsed["id"])
            changed = found.setdefault(key, ChangedOrganization(*key))
            if parsed["member"]:
                changed.newcomers[int(parsed["member"])] = entry
            else:
                changed.entry = entry
        return list(found.values())

    async def settle_organizations(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Removes requests that were handled, unless a later request has replaced them."""
        for at in range(0, len(entries), _BATCH):
            flat = [each for entry in entries[at : at + _BATCH] for each in entry]
            await self._local.run_script("settle_organization", *flat)

    async def load_members(self, sponsorable: str, organization_id: int) -> list[int]:
        """Returns the people with a seat of an organization, also if their membership has ended."""
        reply = await self._local.run("ZRANGE", keys.members(sponsorable, organization_id), 0, -1)
        return [int(member) for member in cast("list[bytes]", reply) if member.isdigit()]

    async def claim_seat(
        self, sponsorable: str, organization_id: int, person_id: int, *, seats: int | None
    ) -> bool:
        """Gives a member one of the `seats` (None: no limit); returns False if no seat is free.

        The seat expires after SEAT_TTL_S, unless a grant with the membership's end is saved.
        """
        limit = "" if seats is None else seats
        reply = await self._local.run_script(
            "claim_seat", sponsorable, organization_id, person_id, limit
        )
        return reply == 1
