"""Entitlement facts on the local Redis, also of people who never signed in."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import cast

import structlog

from sponsorsync.domain.account import StoredEntitlement
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.errors import (
    DurableUnavailableError,
    StoreConflictError,
    StoreUnavailableError,
)
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.fetching import Fetcher, durable_state
from sponsorsync.store.fields import dump_entitlement_facts, parse_stored_entitlement
from sponsorsync.store.people import PeopleStore

# The most parallel fetches from durable; more would take all connections of the pool.
_FETCHES = 8
_SCAN_COUNT = 500
_BATCH = 100
# A change is tried again if a webhook, a login or a reconcile has changed the same entitlement.
_TRIES = 5
# How the error sentence of a script on a wrong-type key begins.
_WRONG_TYPE = "WRONGTYPE "

_log = structlog.get_logger(__name__)


async def end_entitlements(local: RedisStore) -> None:
    """Runs `sweep_entitlements.lua` until all ended grants are handled.

    Raises StoreUnavailableError if local cannot be asked.
    """
    while cast("int", await local.run_script("sweep_entitlements", _BATCH)) == _BATCH:
        pass


class Saved(StrEnum):
    """Outcome of a change of an entitlement; only OK means that the change was saved.

    CHANGED: the entitlement has another version by now. SEEN: the same webhook delivery was applied
    before. CONFLICT: the person has a wrong-type key, which the log names.
    """

    OK = "ok"
    CHANGED = "changed"
    SEEN = "seen"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class EntitlementChange:
    """Facts to save, derived from the stored facts that had this `version`.

    `by` and `reference` are the cause and its details for the audit trail (`AuditEntry`).
    `delivery` is the delivery id of a webhook event, or ''.
    """

    person_id: int
    facts: EntitlementFacts
    version: str
    by: str
    reference: str
    delivery: str = ""


@dataclass
class EntitlementStore:
    """Loads and saves entitlement facts."""

    local: RedisStore
    people: PeopleStore
    _: KW_ONLY
    catalog: Catalog
    fetcher: Fetcher | None

    async def load(
        self, sponsorable: str, person_ids: Sequence[int]
    ) -> Mapping[int, StoredEntitlement]:
        """Returns each person's stored entitlement; fetches facts that are unknown on local.

        If durable cannot be asked, returns the facts that local has. A person with a wrong-type key
        is returned without facts.
        """
        entitlements = await self._load_here(sponsorable, person_ids)
        missing = [person_id for person_id, (_, is_known) in entitlements.items() if not is_known]
        if missing and self.fetcher is not None:
            await self._fetch(missing)
            entitlements |= await self._load_here(sponsorable, missing)
        return {person_id: entitlement for person_id, (entitlement, _) in entitlements.items()}

    async def load_for_certain(self, sponsorable: str, person_id: int) -> StoredEntitlement:
        """Returns one person's stored entitlement; raises an error if it is not completely known.

        Raises:
            DurableUnavailableError: Durable may have further facts, and cannot be asked.
            StoreConflictError: The person has a wrong-type key.
        """
        entitlement, is_known = (await self._load_here(sponsorable, [person_id]))[person_id]
        self._check_type(entitlement)
        if is_known or self.fetcher is None:
            return entitlement
        await self.people.load_account(person_id)
        entitlement, is_known = (await self._load_here(sponsorable, [person_id]))[person_id]
        if not is_known:
            # The facts are `partial`: the relay completes them when durable is back.
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
        """Changes one person's entitlement; tries again if others change it at the same time.

        `decide` gets the stored facts and returns the new ones, or None to change nothing.
        `EntitlementChange` explains `by`, `reference` and `delivery`. With `for_certain`, facts
        that are not completely known are not changed.

        Returns:
            The outcome (None if `decide` returned None), and the facts that are stored now.

        Raises:
            DurableUnavailableError: With `for_certain`: see `load_for_certain`.
            StoreConflictError: A key to change has the wrong type.
            StoreUnavailableError: Local cannot be asked, or others keep changing the entitlement.
        """
        for _ in range(_TRIES):
            if for_certain:
                stored = await self.load_for_certain(sponsorable, person_id)
            else:
                stored = (await self.load(sponsorable, [person_id]))[person_id]
                self._check_type(stored)
            facts = decide(stored.facts)
            if facts is None:
                return None, stored.facts
            change = EntitlementChange(
                person_id, facts, stored.version, by=by, reference=reference, delivery=delivery
            )
            [saved] = await self.save([change])
            if saved is Saved.CONFLICT:
                raise self.local.create_conflict_error()
            if saved is not Saved.CHANGED:
                return saved, facts if saved is Saved.OK else stored.facts
        raise StoreUnavailableError("Other requests keep changing the same entitlement.")

    async def save(self, changes: Sequence[EntitlementChange]) -> list[Saved]:
        """Saves each change in one run of a script, which also writes the audit trail.

        Raises:
            StoreConflictError: A key that all people share has the wrong type.
            StoreUnavailableError: Local cannot be asked.
        """
        if not changes:
            return []
        replies = await self.local.run_scripts("save_entitlement", list(map(self._dump, changes)))
        return [
            _to_saved(change, cast("bytes", reply).decode(errors="replace"))
            for change, reply in zip(changes, replies, strict=True)
        ]

    async def is_delivered(self, delivery: str) -> bool:
        """Returns whether the webhook event with this delivery id was applied."""
        return await self.local.run("EXISTS", keys.delivery(delivery)) == 1

    async def find_unknown(self, sponsorable: str, person_ids: Sequence[int]) -> set[int]:
        """Returns the people whose facts are still not completely known after `load`.

        Durable cannot be asked about them, or they have a wrong-type key.
        """
        entitlements = await self._load_here(sponsorable, person_ids)
        return {
            person_id
            for person_id, (entitlement, is_known) in entitlements.items()
            if not is_known and (self.fetcher is not None or _is_wrong_type(entitlement))
        }

    async def load_logins(self, person_ids: Sequence[int]) -> Mapping[int, str | None]:
        """Returns each person's login as of their last sign-in; None if they never signed in."""
        if not person_ids:
            return {}
        reply = cast("list[bytes]", await self.local.run_script("load_logins", *person_ids))
        return {
            person_id: login.decode(errors="replace") or None
            for person_id, login in zip(person_ids, reply, strict=True)
        }

    async def load_entitled(
        self, sponsorable: str, cursor: int, count: int
    ) -> tuple[int, list[int]]:
        """Returns some ids of the index of entitled people, and the next cursor (0: no more).

        A scan to the end returns each id at least once.
        """
        reply = await self.local.run("SSCAN", keys.sponsors(sponsorable), cursor, "COUNT", count)
        cursor, members = cast("tuple[int, list[bytes]]", reply)
        return cursor, [int(member) for member in members if member.isdigit()]

    async def scan_entitled(self, sponsorable: str) -> AsyncIterator[list[int]]:
        """Yields all ids of the index of entitled people; some may come twice."""
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
            await self.local.run_script("load_entitlements", sponsorable, *person_ids),
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
                # A wrong-type key concerns only this person, whose parts stay unknown.
                with suppress(StoreConflictError):
                    await self.people.load_account_for_login(person_id)

        await asyncio.gather(*(fetch(person_id) for person_id in person_ids))

    def _check_type(self, entitlement: StoredEntitlement) -> None:
        if _is_wrong_type(entitlement):
            raise self.local.create_conflict_error(entitlement.version)

    def _dump(self, change: EntitlementChange) -> tuple[int | str, ...]:
        data = {
            "facts": dump_entitlement_facts(change.facts),
            "collections": self.catalog.collections,
            "by": change.by,
            "reference": change.reference,
            **durable_state(self.fetcher),
        }
        facts, version, delivery = change.facts, change.version, change.delivery
        return (change.person_id, facts.sponsorable, version, delivery, json.dumps(data))


def _to_saved(change: EntitlementChange, reply: str) -> Saved:
    if not reply.startswith(_WRONG_TYPE):
        return Saved(reply)
    _log.warning(
        "entitlement_not_saved",
        person=change.person_id,
        sponsorable=change.facts.sponsorable,
        by=change.by,
        reason=reply,
    )
    return Saved.CONFLICT


def _is_wrong_type(entitlement: StoredEntitlement) -> bool:
    return entitlement.version.startswith(_WRONG_TYPE)
