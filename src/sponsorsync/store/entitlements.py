"""Entitlement facts on the local Redis, of people who may never have signed in."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, cast

import structlog

from sponsorsync.domain.errors import (
    DurableUnavailableError,
    StoreConflictError,
    StoreUnavailableError,
)
from sponsorsync.store import keys
from sponsorsync.store.entitlement_fields import dump_cover_facts, parse_known_cover

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from sponsorsync.domain.account import KnownCover
    from sponsorsync.domain.cover import CoverFacts
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.fetching import Fetcher
    from sponsorsync.store.people import PeopleStore

# People of whom only durable knows are fetched beside each other; more would take all connections.
_FETCHES = 8
_SCAN_COUNT = 500
_BATCH = 100
# Webhooks, logins and comparisons may change the same cover at the same time.
_TRIES = 5
# So begins a script's sentence on a foreign key.
_FOREIGN = "WRONGTYPE "

_log = structlog.get_logger(__name__)


async def end_covers(local: RedisStore) -> None:
    """Makes each cover that has ended by now an event.

    Raises:
        StoreUnavailableError: Local cannot be asked.
    """
    while cast("int", await local.run_script("sweep_covers", _BATCH)) == _BATCH:
        pass


class Saved(StrEnum):
    """What became of a change of cover.

    Attributes:
        CONFLICT: There is a foreign key in the place of one of this person's; the log names it.
    """

    OK = "ok"
    CHANGED = "changed"
    SEEN = "seen"
    CONFLICT = "conflict"


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


class EntitlementStore:
    """Loads and saves the facts of one person's entitlement, without anybody signing in."""

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

        While durable cannot be asked, that counts as nothing; so does what a foreign key is in the
        place of.
        """
        covers = await self._load_here(sponsorable, person_ids)
        missing = [person_id for person_id, (_, is_known) in covers.items() if not is_known]
        if missing and self._fetcher is not None:
            await self._fetch(missing)
            covers |= await self._load_here(sponsorable, missing)
        return {person_id: cover for person_id, (cover, _) in covers.items()}

    async def load_for_certain(self, sponsorable: str, person_id: int) -> KnownCover:
        """Returns what is known of one person's cover, for who adds to that.

        Raises:
            DurableUnavailableError: Only durable knows, and it cannot be asked.
            StoreConflictError: There is a foreign key in the place of one of theirs.
        """
        cover, is_known = (await self._load_here(sponsorable, [person_id]))[person_id]
        self._require_ours(cover)
        if is_known or self._fetcher is None:
            return cover
        await self._people.load_account(person_id)
        cover, is_known = (await self._load_here(sponsorable, [person_id]))[person_id]
        if not is_known:
            # Local has a part of it (`partial`); the relay adds the rest when durable is back.
            raise DurableUnavailableError(
                "Durable storage, which may know more of this cover, could not be asked yet."
            )
        return cover

    async def change(
        self,
        sponsorable: str,
        person_id: int,
        decide: Callable[[CoverFacts | None], CoverFacts | None],
        *,
        by: str,
        reference: str = "",
        delivery: str = "",
        for_certain: bool = False,
    ) -> tuple[Saved | None, CoverFacts | None]:
        """Changes what is known of one person's cover, however many others do so meanwhile.

        Args:
            sponsorable: The login that receives, lower-cased.
            person_id: Whose cover it is.
            decide: Returns the new facts for those that are known; None to leave them.
            by: What it comes from, for the audit trail.
            reference: Which one of these.
            delivery: The event's number, if it is one.
            for_certain: Nothing is changed while only durable knows, and cannot be asked.

        Returns:
            What became of it, None where it was left; and the facts that are known now.

        Raises:
            DurableUnavailableError: See `for_certain`.
            StoreConflictError: There is a foreign key in the place of one that it would change.
            StoreUnavailableError: Local cannot be asked, or others keep changing it.
        """
        for _ in range(_TRIES):
            if for_certain:
                known = await self.load_for_certain(sponsorable, person_id)
            else:
                known = (await self.load(sponsorable, [person_id]))[person_id]
                self._require_ours(known)
            facts = decide(known.facts)
            if facts is None:
                return None, known.facts
            change = CoverChange(
                person_id, facts, known.version, by=by, reference=reference, delivery=delivery
            )
            [saved] = await self.save([change])
            if saved is Saved.CONFLICT:
                raise self._local.say_conflict()
            if saved is not Saved.CHANGED:
                return saved, facts if saved is Saved.OK else known.facts
        raise StoreUnavailableError("Somebody else keeps changing the same cover.")

    async def save(self, changes: Sequence[CoverChange]) -> list[Saved]:
        """Keeps facts, each person's in one script that also notes it in the audit trail.

        Raises:
            StoreConflictError: There is a foreign key in the place of one that is everybody's.
            StoreUnavailableError: Local cannot be asked.
        """
        if not changes:
            return []
        is_verified = self._fetcher is None or self._fetcher.is_local_verified
        replies = await self._local.run_scripts(
            "save_cover", [self._dump(change, is_verified=is_verified) for change in changes]
        )
        return [
            self._tell(change, cast("bytes", reply).decode(errors="replace"))
            for change, reply in zip(changes, replies, strict=True)
        ]

    async def is_delivered(self, delivery: str) -> bool:
        """Tells whether an event of this number was applied."""
        return await self._local.run("EXISTS", keys.delivery(delivery)) == 1

    async def find_unknown(self, sponsorable: str, person_ids: Sequence[int]) -> set[int]:
        """Returns of whom more may be known than `load` has just returned.

        That is what durable knows, while it is away, and what a foreign key is in the place of.
        """
        covers = await self._load_here(sponsorable, person_ids)
        return {
            person_id
            for person_id, (cover, is_known) in covers.items()
            if not is_known and (self._fetcher is not None or _is_foreign(cover))
        }

    async def load_logins(self, person_ids: Sequence[int]) -> Mapping[int, str | None]:
        """Returns the login of each as of their last sign-in, None of who never did."""
        if not person_ids:
            return {}
        reply = cast("list[bytes]", await self._local.run_script("load_logins", *person_ids))
        return {
            person_id: login.decode(errors="replace") or None
            for person_id, login in zip(person_ids, reply, strict=True)
        }

    async def load_covered(
        self, sponsorable: str, cursor: int, count: int
    ) -> tuple[int, list[int]]:
        """Returns some ids of the index of who is covered, and where the next ones begin (0: none).

        Over all of them each comes at least once.
        """
        reply = await self._local.run("SSCAN", keys.sponsors(sponsorable), cursor, "COUNT", count)
        cursor, members = cast("tuple[int, list[bytes]]", reply)
        return cursor, [int(member) for member in members if member.isdigit()]

    async def walk_covered(self, sponsorable: str) -> AsyncIterator[list[int]]:
        """Yields the ids that stand in the index of who is covered; some may come twice."""
        cursor = 0
        while True:
            cursor, members = await self.load_covered(sponsorable, cursor, _SCAN_COUNT)
            yield members
            if cursor == 0:
                return

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
                # A foreign key is in the way of this person alone; their parts stay unknown.
                with suppress(StoreConflictError):
                    await self._people.load_account_for_login(person_id)

        await asyncio.gather(*(fetch(person_id) for person_id in person_ids))

    def _require_ours(self, cover: KnownCover) -> None:
        if _is_foreign(cover):
            raise self._local.say_conflict(cover.version)

    def _tell(self, change: CoverChange, reply: str) -> Saved:
        if not reply.startswith(_FOREIGN):
            return Saved(reply)
        _log.warning(
            "cover_not_kept",
            person=change.person_id,
            sponsorable=change.facts.sponsorable,
            by=change.by,
            reason=reply,
        )
        return Saved.CONFLICT

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


def _is_foreign(cover: KnownCover) -> bool:
    return cover.version.startswith(_FOREIGN)
