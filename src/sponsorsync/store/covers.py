"""Cover facts on the local Redis, of people who may never have signed in."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from sponsorsync.store import keys
from sponsorsync.store.people import dump_cover_facts, parse_known_cover

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from sponsorsync.domain.account import KnownCover
    from sponsorsync.domain.cover import CoverFacts
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.fetching import Fetcher
    from sponsorsync.store.people import PeopleStore

# People of whom only durable knows are fetched beside each other; more would take all connections.
_FETCHES = 8
_SCAN_COUNT = 500


class Saved(StrEnum):
    """What became of a change of cover."""

    OK = "ok"
    CHANGED = "changed"
    SEEN = "seen"


@dataclass(frozen=True, slots=True)
class CoverChange:
    """Facts to keep.

    Attributes:
        version: Of what they are built on; if that has changed, nothing is kept.
        delivery: The event's number; one that was applied before is not applied again.
    """

    person_id: int
    facts: CoverFacts
    version: str
    by: str
    reference: str
    delivery: str = ""


class CoverStore:
    """Loads and saves what GitHub tells of sponsorships, without anybody signing in."""

    def __init__(
        self,
        local: RedisStore,
        people: PeopleStore,
        *,
        collections: Sequence[str],
        fetcher: Fetcher | None,
    ) -> None:
        self._local = local
        self._people = people
        self._collections = collections
        self._fetcher = fetcher

    async def load(self, sponsorable: str, person_ids: Sequence[int]) -> Mapping[int, KnownCover]:
        """Returns what is known of each; what only durable knows is brought here first.

        While durable cannot be asked, that counts as nothing.
        """
        covers = await self._load_here(sponsorable, person_ids)
        missing = [person_id for person_id, (_, is_known) in covers.items() if not is_known]
        if missing and self._fetcher is not None:
            await self._fetch(missing)
            covers |= await self._load_here(sponsorable, missing)
        return {person_id: cover for person_id, (cover, _) in covers.items()}

    async def save(self, changes: Sequence[CoverChange]) -> list[Saved]:
        """Keeps facts, each person's in one script that also notes it in the audit trail."""
        if not changes:
            return []
        is_verified = self._fetcher is None or self._fetcher.is_local_verified
        replies = await self._local.run_scripts(
            "save_cover", [self._dump(change, is_verified=is_verified) for change in changes]
        )
        return [Saved(cast("bytes", reply).decode()) for reply in replies]

    async def is_delivered(self, delivery: str) -> bool:
        """Tells whether an event of this number was applied."""
        return await self._local.run("EXISTS", keys.delivery(delivery)) == 1

    async def walk_covered(self, sponsorable: str) -> AsyncIterator[list[int]]:
        """Yields the ids that stand in the index of who is covered; some may come twice."""
        cursor = 0
        while True:
            reply = await self._local.run(
                "SSCAN", keys.sponsors(sponsorable), cursor, "COUNT", _SCAN_COUNT
            )
            cursor, members = cast("tuple[int, list[bytes]]", reply)
            yield [int(member) for member in members if member.isdigit()]
            if cursor == 0:
                return

    async def load_reconciled(self, sponsorable: str) -> datetime | None:
        """Returns when the last complete comparison with GitHub began."""
        reply = await self._local.run("HGET", keys.RECONCILED, sponsorable)
        return None if reply is None else datetime.fromtimestamp(int(cast("bytes", reply)), UTC)

    async def save_reconciled(self, sponsorable: str, began_at: datetime) -> None:
        """Notes that a comparison with GitHub was complete."""
        await self._local.run("HSET", keys.RECONCILED, sponsorable, int(began_at.timestamp()))

    async def take_reconciling(self, token: str) -> bool:
        """Takes the right to compare with GitHub; one replica has it at a time."""
        taken = await self._local.run(
            "SET", keys.RECONCILING, token, "NX", "PX", keys.RECONCILING_TTL_MS
        )
        return taken is not None

    async def hold_reconciling(self, token: str) -> bool:
        """Keeps that right for longer; False where it was lost."""
        ttl_ms = keys.RECONCILING_TTL_MS
        return await self._local.run_script("hold", keys.RECONCILING, token, ttl_ms) == 1

    async def give_up_reconciling(self, token: str) -> None:
        """Lets others compare."""
        await self._local.run_script("hold", keys.RECONCILING, token, 0)

    async def _load_here(
        self, sponsorable: str, person_ids: Sequence[int]
    ) -> dict[int, tuple[KnownCover, bool]]:
        if not person_ids:
            return {}
        replies = cast(
            "list[tuple[bytes, int, list[bytes]]]",
            await self._local.run_script("load_covers", sponsorable, *person_ids),
        )
        return {
            person_id: (parse_known_cover(sponsorable, person_id, version, flat), is_known == 1)
            for person_id, (version, is_known, flat) in zip(person_ids, replies, strict=True)
        }

    async def _fetch(self, person_ids: Sequence[int]) -> None:
        places = asyncio.Semaphore(_FETCHES)

        async def fetch(person_id: int) -> None:
            async with places:
                await self._people.load_account_for_login(person_id)

        await asyncio.gather(*(fetch(person_id) for person_id in person_ids))

    def _dump(self, change: CoverChange, *, is_verified: bool) -> tuple[int | str, ...]:
        told = {
            "facts": dump_cover_facts(change.facts),
            "collections": list(self._collections),
            "is_verified": is_verified,
            "has_durable": self._fetcher is not None,
            "by": change.by,
            "reference": change.reference,
        }
        return (
            change.person_id,
            change.facts.sponsorable,
            change.version,
            change.delivery,
            json.dumps(told),
        )
