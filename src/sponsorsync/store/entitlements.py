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
from sponsorsync.store.entitlement_fields import dump_entitlement_facts, parse_stored_entitlement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from sponsorsync.domain.account import StoredEntitlement
    from sponsorsync.domain.catalog import Catalog
    from sponsorsync.domain.entitlement import EntitlementFacts
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.fetching import Fetcher
    from sponsorsync.store.people import PeopleStore

# People of whom only durable knows are fetched beside each other; more would take all connections.
_FETCHES = 8
_SCAN_COUNT = 500
_BATCH = 100
# Webhooks, logins and comparisons may change the same entitlement at the same time.
_TRIES = 5
# So begins a script's sentence on a wrong-type key.
_FOREIGN = "WRONGTYPE "

_log = structlog.get_logger(__name__)


async def end_entitlements(local: RedisStore) -> None:
    """Makes each entitlement that has ended by now an event.

    Raises:
        StoreUnavailableError: Local cannot be asked.
    """
    while cast("int", await local.run_script("sweep_entitlements", _BATCH)) == _BATCH:
        pass


class Saved(StrEnum):
    """What became of a change of entitlement.

    Attributes:
        CONFLICT: There is a wrong-type key in the place of one of this person's; the log names it.
    """

    OK = "ok"
    CHANGED = "changed"
    SEEN = "seen"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class EntitlementChange:
    """Facts to keep.

    Attributes:
        version: Of what they are built on; if that has changed, nothing is kept.
        delivery: The event's number; one that was applied before is not applied again.
    """

    person_id: int
    facts: EntitlementFacts
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
        catalog: Catalog,
        fetcher: Fetcher | None,
    ) -> None:
        self._local = local
        self._people = people
        self._catalog = catalog
        self._fetcher = fetcher

    async def load(
        self, sponsorable: str, person_ids: Sequence[int]
    ) -> Mapping[int, StoredEntitlement]:
        """Returns what is known of each; what only durable knows is brought here first.

        While durable cannot be asked, that counts as nothing; so does what a wrong-type key is in
        the place of.
        """
        entitlements = await self._load_here(sponsorable, person_ids)
        missing = [person_id for person_id, (_, is_known) in entitlements.items() if not is_known]
        if missing and self._fetcher is not None:
            await self._fetch(missing)
            entitlements |= await self._load_here(sponsorable, missing)
        return {person_id: entitlement for person_id, (entitlement, _) in entitlements.items()}

    async def load_for_certain(self, sponsorable: str, person_id: int) -> StoredEntitlement:
        """Returns what is known of one person's entitlement, for who adds to that.

        Raises:
            DurableUnavailableError: Only durable knows, and it cannot be asked.
            StoreConflictError: There is a wrong-type key in the place of one of theirs.
        """
        entitlement, is_known = (await self._load_here(sponsorable, [person_id]))[person_id]
        self._require_ours(entitlement)
        if is_known or self._fetcher is None:
            return entitlement
        await self._people.load_account(person_id)
        entitlement, is_known = (await self._load_here(sponsorable, [person_id]))[person_id]
        if not is_known:
            # Local has a part of it (`partial`); the relay adds the rest when durable is back.
            raise DurableUnavailableError(
                "Durable storage, which may know more of this entitlement, could not be asked yet."
            )
        return entitlement

    async def change(
        self,
        sponsorable: str,
        person_id: int,
        decide: Callable[[EntitlementFacts | None], EntitlementFacts | None],
        *,
        by: str,
        reference: str = "",
        delivery: str = "",
        for_certain: bool = False,
    ) -> tuple[Saved | None, EntitlementFacts | None]:
        """Changes what is known of one person's entitlement, however many others do so meanwhile.

        Args:
            sponsorable: The login that receives, lower-cased.
            person_id: Whose entitlement it is.
            decide: Returns the new facts for those that are known; None to leave them.
            by: What it comes from, for the audit trail.
            reference: Which one of these.
            delivery: The event's number, if it is one.
            for_certain: Nothing is changed while only durable knows, and cannot be asked.

        Returns:
            What became of it, None where it was left; and the facts that are known now.

        Raises:
            DurableUnavailableError: See `for_certain`.
            StoreConflictError: There is a wrong-type key in the place of one that it would change.
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
            change = EntitlementChange(
                person_id, facts, known.version, by=by, reference=reference, delivery=delivery
            )
            [saved] = await self.save([change])
            if saved is Saved.CONFLICT:
                raise self._local.create_conflict_error()
            if saved is not Saved.CHANGED:
                return saved, facts if saved is Saved.OK else known.facts
        raise StoreUnavailableError("Somebody else keeps changing the same entitlement.")

    async def save(self, changes: Sequence[EntitlementChange]) -> list[Saved]:
        """Keeps facts, each person's in one script that also notes it in the audit trail.

        Raises:
            StoreConflictError: There is a wrong-type key in the place of one that is everybody's.
            StoreUnavailableError: Local cannot be asked.
        """
        if not changes:
            return []
        is_verified = self._fetcher is None or self._fetcher.is_local_verified
        replies = await self._local.run_scripts(
            "save_entitlement", [self._dump(change, is_verified=is_verified) for change in changes]
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

        That is what durable knows, while it is away, and what a wrong-type key is in the place of.
        """
        entitlements = await self._load_here(sponsorable, person_ids)
        return {
            person_id
            for person_id, (entitlement, is_known) in entitlements.items()
            if not is_known and (self._fetcher is not None or _is_wrong_type(entitlement))
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

    async def load_entitled(
        self, sponsorable: str, cursor: int, count: int
    ) -> tuple[int, list[int]]:
        """Returns some ids of the index of entitled people, and the next cursor (0: no more).

        Over all of them each comes at least once.
        """
        reply = await self._local.run("SSCAN", keys.sponsors(sponsorable), cursor, "COUNT", count)
        cursor, members = cast("tuple[int, list[bytes]]", reply)
        return cursor, [int(member) for member in members if member.isdigit()]

    async def scan_entitled(self, sponsorable: str) -> AsyncIterator[list[int]]:
        """Yields the ids that stand in the index of who is entitled; some may come twice."""
        cursor = 0
        while True:
            cursor, members = await self.load_entitled(sponsorable, cursor, _SCAN_COUNT)
            yield members
            if cursor == 0:
                return

    async def _load_here(
        self, sponsorable: str, person_ids: Sequence[int]
    ) -> dict[int, tuple[StoredEntitlement, bool]]:
        if not person_ids:
            return {}
        replies = cast(
            "list[tuple[bytes, int, list[bytes]]]",
            await self._local.run_script("load_entitlements", sponsorable, *person_ids),
        )
        return {
            person_id: (
                parse_stored_entitlement(sponsorable, person_id, version, flat),
                is_known == 1,
            )
            for person_id, (version, is_known, flat) in zip(person_ids, replies, strict=True)
        }

    async def _fetch(self, person_ids: Sequence[int]) -> None:
        places = asyncio.Semaphore(_FETCHES)

        async def fetch(person_id: int) -> None:
            async with places:
                # A wrong-type key is in the way of this person alone; their parts stay unknown.
                with suppress(StoreConflictError):
                    await self._people.load_account_for_login(person_id)

        await asyncio.gather(*(fetch(person_id) for person_id in person_ids))

    def _require_ours(self, entitlement: StoredEntitlement) -> None:
        if _is_wrong_type(entitlement):
            raise self._local.create_conflict_error(entitlement.version)

    def _tell(self, change: EntitlementChange, reply: str) -> Saved:
        if not reply.startswith(_FOREIGN):
            return Saved(reply)
        _log.warning(
            "entitlement_not_kept",
            person=change.person_id,
            sponsorable=change.facts.sponsorable,
            by=change.by,
            reason=reply,
        )
        return Saved.CONFLICT

    def _dump(self, change: EntitlementChange, *, is_verified: bool) -> tuple[int | str, ...]:
        told = {
            "facts": dump_entitlement_facts(change.facts),
            "collections": list(self._catalog.collections),
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


def _is_wrong_type(entitlement: StoredEntitlement) -> bool:
    return entitlement.version.startswith(_FOREIGN)
