"""The relay: pushes dirty people from local to durable.

The set of dirty people is the truth; the outbox, a stream, only wakes the relay. The relay reads an
entry without acknowledgement and deletes it before it pushes the person. After a crash, or if the
stream is lost, the person is still dirty, and the periodic sweep of dirty people pushes them.
"""

import asyncio
import json
import random
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import structlog
from redis.exceptions import ResponseError

from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.errors import StoreConflictError, StoreUnavailableError
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.sync.hydrate import Hydrator
from sponsorsync.sync.incarnations import Incarnations
from sponsorsync.sync.person_records import (
    PersonRecord,
    apply_records,
    find_removed,
    pack_people,
    split_for_scripts,
)
from sponsorsync.sync.scan import scan_set

BATCH = 500
_BLOCK_MS = 1000
_BACKOFF_FIRST_S = 0.1
_BACKOFF_LONGEST_S = 10.0
_ENTRY_LIFE_S = 3600
_DEAD_LETTER_FIRST_S = 60
_DEAD_LETTER_LONGEST_S = 3600

_log = structlog.get_logger(__name__)


@dataclass
class RelayCounts:
    """Counters since the start of this relay, for the metrics and the tests."""

    sent: int = 0
    confirmed: int = 0
    dead_lettered: int = 0
    outages: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """Durable's answers to person records.

    Attributes:
        taken: How many records durable applied, or held already.
        newer: People with newer parts on durable, which local has merged by now.
        refused: People whose data durable refuses, with the error.
    """

    taken: int
    newer: list[int]
    refused: dict[int, str]


class Relay:
    """Pushes the people of local's outbox to durable.

    Several relays may run at once: durable refuses a part that is not newer than its own.
    """

    def __init__(
        self,
        local: RedisStore,
        durable: RedisStore,
        *,
        catalog: Catalog,
        hydrator: Hydrator,
        incarnations: Incarnations,
    ) -> None:
        self._local = local
        self._durable = durable
        self._catalog = catalog
        self._hydrator = hydrator
        self._incarnations = incarnations
        self._highest_applied = 0
        self._consumer = f"relay-{secrets.token_hex(4)}"
        self._last_dirty: set[int] = set()
        self._sent_in_vain: dict[int, bytes] = {}
        self.counts = RelayCounts()

    async def run(self) -> None:
        """Pushes people from the outbox until it is cancelled.

        While a server is down, it waits longer after each attempt.
        """
        wait_s = _BACKOFF_FIRST_S
        unsent: list[int] = []
        while True:
            try:
                unsent = unsent or await self._read_outbox()
                await self.drain(unsent)
                unsent = []
                wait_s = _BACKOFF_FIRST_S
            except StoreUnavailableError as error:
                self.counts.outages += 1
                _log.warning("relay_waits", seconds=round(wait_s, 1), reason=str(error))
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                wait_s = min(2 * wait_s, _BACKOFF_LONGEST_S)

    async def sweep(self) -> int:
        """Pushes people who were dirty at the last sweep and still are; returns how many.

        Raises:
            StoreUnavailableError: A server is down.
        """
        now_s = int(cast("list[bytes]", await self._local.run("TIME"))[0])
        dirty = await self._load_due(now_s)
        stale = sorted(dirty & self._last_dirty)
        self._last_dirty = dirty
        self._sent_in_vain = {i: v for i, v in self._sent_in_vain.items() if i in dirty}
        for at in range(0, len(stale), BATCH):
            await self.drain(stale[at : at + BATCH])
        # Removes entries that a relay read before it crashed, and entries that no relay read: the
        # sweep has pushed their people by now.
        await self._local.run("XTRIM", keys.OUTBOX, "MINID", 1000 * (now_s - _ENTRY_LIFE_S))
        return len(stale)

    async def drain(self, ids: Sequence[int]) -> None:
        """Pushes those of these people who are dirty to durable.

        It packs their records on local, applies them on durable and confirms them on local, in one
        round trip each.

        Raises:
            StoreUnavailableError: A server is down; people not yet confirmed are still dirty.
        """
        if not ids:
            return
        records = await self._pack_sendable(list(dict.fromkeys(ids)))
        wanted = [
            record
            for record in records
            if record.is_dirty and self._sent_in_vain.get(record.person_id) != record.version_vector
        ]
        if wanted:
            await self.deliver(wanted)

    async def deliver(self, records: Sequence[PersonRecord]) -> Delivery:
        """Applies records on durable and handles its answers.

        Records may be of people who are not dirty: applying a version again changes nothing.

        Args:
            records: Packed on local without an error, at least one.

        Raises:
            StoreUnavailableError: A server is down; people not yet confirmed are still dirty.
        """
        before = self._highest_applied
        answers = await apply_records(self._durable, records, catalog=self._catalog)
        self.counts.sent += len(records)
        applied = max(count for count, _ in answers)
        if applied - len(split_for_scripts(records)) < before:
            await self._start_over(records, answers)
            self._highest_applied = applied
        self._highest_applied = max(applied, self._highest_applied)
        taken: list[tuple[int, PersonRecord]] = []
        newer: list[int] = []
        refused: dict[int, str] = {}
        for record, (count, answer) in zip(records, answers, strict=True):
            if answer == "ok":
                taken.append((count, record))
            elif answer == "newer":
                newer.append(record.person_id)
            else:
                refused[record.person_id] = answer
                if record.is_dirty:
                    await self._add_dead_letter(record.person_id, answer)
        for person_id, reason in (await self._prune_lapsed(taken)).items():
            refused[person_id] = reason
            await self._add_dead_letter(person_id, reason)
        taken = [each for each in taken if each[1].person_id not in refused]
        await self._confirm(taken)
        if newer:
            # Local came back with older data: merge durable's newer parts, then push the others.
            conflicts = await self._hydrator.merge_newer(newer)
            for person_id, reason in conflicts.items():
                await self._add_dead_letter(person_id, reason)
            await self._wake([each for each in newer if each not in conflicts])
        return Delivery(taken=len(taken), newer=newer, refused=refused)

    async def pack(self, ids: Sequence[int], what: str) -> list[PersonRecord]:
        """Returns people's records on local, as dumps if durable can read these."""
        return await pack_people(
            self._local,
            ids,
            what=what,
            catalog=self._catalog,
            as_dumps=self._incarnations.can_dump_to_durable,
        )

    async def _start_over(
        self, records: Sequence[PersonRecord], answers: Sequence[tuple[int, str]]
    ) -> None:
        """Marks everyone dirty except people whose complete record was just applied.

        Each applying script raises durable's count, so a lower count means that durable was emptied
        while the connection was open.
        """
        whole = [
            record.person_id
            for record, (_, answer) in zip(records, answers, strict=True)
            if answer == "ok" and not record.is_partial
        ]
        if whole:
            await self._local.run("ZREM", keys.CONFIRMED, *whole)
        await self._incarnations.push_again(0)

    async def _pack_sendable(self, ids: list[int]) -> list[PersonRecord]:
        """Fetches unknown parts of dirty people, then returns the records that can be sent.

        People whose data cannot be fetched or packed become dead letters.
        """
        records = await self.pack(ids, "entitled")
        refused: dict[int, str] = {}
        unknown = [p.person_id for p in records if p.needs_fetch and p.is_dirty]
        if unknown:
            refused = await self._hydrator.hydrate(unknown)
            records = await self.pack(ids, "entitled")
        refused |= {p.person_id: p.error for p in records if p.error is not None}
        for person_id, reason in refused.items():
            await self._add_dead_letter(person_id, reason)
        return [record for record in records if record.person_id not in refused]

    async def _confirm(self, taken: Sequence[tuple[int, PersonRecord]]) -> None:
        rows = [(n, p.person_id, p.version_vector, p.flags) for n, p in taken if p.is_dirty]
        clean = [(count, p.person_id) for count, p in taken if not p.is_dirty]
        if rows:
            left = await self._local.run_script(
                "confirm", *(value for row in rows for value in row)
            )
            self.counts.confirmed += cast("int", left)
        if clean:
            # They were not dirty when packed; those who changed since are dirty, and pushed again.
            pairs = (value for pair in clean for value in pair)
            await self._local.run("ZADD", keys.CONFIRMED, *pairs)
        self._sent_in_vain |= {p.person_id: p.version_vector for _, p in taken if p.needs_fetch}

    async def _prune_lapsed(self, taken: Sequence[tuple[int, PersonRecord]]) -> dict[int, str]:
        """Prunes durable's collections of people no longer entitled.

        Returns the people who could not be pruned, with the reason.
        """
        refused: dict[int, str] = {}
        for person_id in (p.person_id for _, p in taken if p.needs_pruning and p.is_dirty):
            try:
                await self._prune(person_id)
            except StoreConflictError:
                key = keys.preferences(person_id, "…")
                refused[person_id] = f"WRONGTYPE {key} on durable, of one collection"
        return refused

    async def _prune(self, person_id: int) -> None:
        """Removes items from durable that a person who is not entitled has removed on local."""
        for collection in self._catalog.collections:
            found = await find_removed(self._local, self._durable, person_id, collection)
            if found:
                await self._durable.run_script("prune", person_id, collection, *found)

    async def _add_dead_letter(self, person_id: int, reason: str) -> None:
        """Saves a person whose data one server refuses, so that they do not hold up the others."""
        if reason == "visitor":
            return
        self.counts.dead_lettered += 1
        next_try = await self._local.run_script(
            "add_dead_letter", person_id, reason, _DEAD_LETTER_FIRST_S, _DEAD_LETTER_LONGEST_S
        )
        _log.error("dead_letter_added", person=person_id, reason=reason, next_try=next_try)

    async def _wake(self, ids: Sequence[int]) -> None:
        if ids:
            await self._local.run_together(
                [("XADD", keys.OUTBOX, "*", "u", person_id) for person_id in ids]
            )

    async def _load_due(self, now_s: int) -> set[int]:
        """Returns the dirty people, except dead letters whose next attempt is still to come."""
        dirty = {each async for page in scan_set(self._local, keys.DIRTY) for each in page}
        letters = await self._local.run("HGETALL", keys.DEAD_LETTERS)
        return dirty - {
            int(each)
            for each, letter in cast("dict[bytes, bytes]", letters).items()
            if json.loads(letter)["next_try"] > now_s
        }

    async def _read_outbox(self) -> list[int]:
        """Waits a bounded time for outbox entries, deletes them, and returns their people."""
        command = (
            *("XREADGROUP", "GROUP", keys.OUTBOX_GROUP, self._consumer, "NOACK"),
            *("COUNT", BATCH, "BLOCK", _BLOCK_MS, "STREAMS", keys.OUTBOX, ">"),
        )
        try:
            reply = await self._local.run(*command)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            await self._create_group()
            return []
        streams = cast("list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]", reply or [])
        entries = [entry for _, of_stream in streams for entry in of_stream]
        if entries:
            # Deleted before the people are pushed: after a crash they are still dirty.
            await self._local.run("XDEL", keys.OUTBOX, *(entry for entry, _ in entries))
        return [int(fields[b"u"]) for _, fields in entries]

    async def _create_group(self) -> None:
        with suppress(ResponseError):  # another relay has created it
            await self._local.run(
                "XGROUP", "CREATE", keys.OUTBOX, keys.OUTBOX_GROUP, "0", "MKSTREAM"
            )
