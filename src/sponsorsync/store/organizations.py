"""Organizations whose members are entitled: their changes, members and seats on the local Redis."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import structlog

from sponsorsync.store import keys
from sponsorsync.store.locks import hold_lock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.locks import HeldLock

_BATCH = 100
_NOTED = re.compile(rb"(?P<sponsorable>[\w-]+):(?P<id>\d{1,15})(?::(?P<member>\d{1,15}))?")

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ChangedOrganization:
    """An organization whose members are to be judged, each by a note: its field, and what it says.

    Attributes:
        id: GitHub's number.
        note: Of all members; None where only some are to be judged.
        newcomers: Of those who are new there, by their numbers.
    """

    sponsorable: str
    id: int
    note: tuple[bytes, bytes] | None = None
    newcomers: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)

    @property
    def notes(self) -> list[tuple[bytes, bytes]]:
        """All of them."""
        return [*self.newcomers.values(), *([] if self.note is None else [self.note])]


class OrganizationStore:
    """Notes which organizations have changed, and who their members are."""

    def __init__(self, local: RedisStore) -> None:
        self._local = local

    def hold_lock(self) -> AbstractAsyncContextManager[HeldLock | None]:
        """Holds the right to judge members again; one replica has it at a time."""
        return hold_lock(self._local, keys.RECOMPUTING, ttl_ms=keys.RECOMPUTING_TTL_MS)

    async def has_changed_organizations(self) -> bool:
        """Tells whether `find_changed_organizations` would find any."""
        return await self._local.run("HLEN", keys.ORGANIZATIONS) != 0

    async def find_changed_organizations(self) -> list[ChangedOrganization]:
        """Returns those whose members, or some of them, are to be judged.

        What somebody else wrote among the notes is removed.
        """
        reply = cast("dict[bytes, bytes]", await self._local.run("HGETALL", keys.ORGANIZATIONS))
        found: dict[tuple[str, int], ChangedOrganization] = {}
        for name, note in reply.items():
            told = _NOTED.fullmatch(name)
            if told is None:
                _log.warning("organization_unreadable", field=name.decode(errors="replace"))
                await self._local.run("HDEL", keys.ORGANIZATIONS, name)
                continue
            key = told["sponsorable"].decode(), int(told["id"])
            changed = found.setdefault(key, ChangedOrganization(*key))
            if told["member"]:
                changed.newcomers[int(told["member"])] = (name, note)
            else:
                changed.note = (name, note)
        return list(found.values())

    async def settle_organizations(self, notes: Sequence[tuple[bytes, bytes]]) -> None:
        """Removes notes of which everybody was judged, unless there is a new one in its place."""
        for at in range(0, len(notes), _BATCH):
            flat = [each for note in notes[at : at + _BATCH] for each in note]
            await self._local.run_script("settle_organization", *flat)

    async def load_members(self, sponsorable: str, organization_id: int) -> list[int]:
        """Returns who is, or was, entitled by an organization's sponsorship."""
        reply = await self._local.run("ZRANGE", keys.members(sponsorable, organization_id), 0, -1)
        return [int(member) for member in cast("list[bytes]", reply) if member.isdigit()]

    async def claim_seat(
        self,
        sponsorable: str,
        organization_id: int,
        person_id: int,
        *,
        seats: int | None,
    ) -> bool:
        """Tells whether a member has one of an organization's seats, and takes a free one.

        It is held for minutes; whoever keeps the member's grant has it for as long as that holds.

        Args:
            sponsorable: Whom the organization sponsors.
            organization_id: Whose seats they are.
            person_id: The member.
            seats: How many there are; None is one for each.
        """
        reply = await self._local.run_script(
            "claim_seat",
            sponsorable,
            organization_id,
            person_id,
            "" if seats is None else seats,
        )
        return reply == 1
