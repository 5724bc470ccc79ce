"""The relay: takes what is dirty on local to durable.

Dirty is the truth; the outbox only wakes. An entry is read without acknowledgement and removed once
its person was handled. Whatever goes wrong in between, a crash or a lost stream, leaves the person
dirty, and the sweep comes by.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import structlog
from redis.exceptions import ResponseError

from sponsorsync.domain.errors import StoreConflictError, StoreUnavailableError
from sponsorsync.store import keys
from sponsorsync.sync.person_records import apply_records, pack_people, split_for_scripts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sponsorsync.domain.catalog import Catalog
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.sync.hydrate import Hydrator
    from sponsorsync.sync.incarnations import Incarnations
    from sponsorsync.sync.person_records import PersonRecord

BATCH = 500
_BLOCK_MS = 1000
_BACKOFF_FIRST_S = 0.1
_BACKOFF_LONGEST_S = 10.0
_ENTRY_LIFE_S = 3600
_DEAD_FIRST_S = 60
_DEAD_LONGEST_S = 3600

_log = structlog.get_logger(__name__)


@dataclass
class RelayCounts:
    """What this relay did since it started, for the metrics and the tests."""

    sent: int = 0
    confirmed: int = 0
    dead_lettered: int = 0
    outages: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """What durable said to packages.

    Attributes:
        taken: How many it has now.
        newer: Of whom it holds something newer, which local has taken over by now.
        refused: The errors for which it does not take somebody's data.
    """

    taken: int
    newer: list[int]
    refused: dict[int, str]


@dataclass
class _Sweep:
    """What the sweep remembers: who was dirty the last time, and what was sent to no avail."""

    seen: set[int] = field(default_factory=set)
    version_vectors: dict[int, bytes] = field(default_factory=dict)


class Relay:
    """Drains local's outbox into durable. Several at once are safe: versions decide."""

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
        self._epochs = incarnations
        self._highest_applied = 0
        self._consumer = f"relay-{secrets.token_hex(4)}"
        self._sweep = _Sweep()
        self.counts = RelayCounts()

    async def run(self) -> None:
        """Drains until it is cancelled; rests, longer each time, while a server is down."""
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
        """Drains whoever was dirty at the last sweep already and still is; returns how many.

        Raises:
            StoreUnavailableError: A server is down.
        """
        now_s = await self._load_now_s()
        dirty = await self._load_dirty(now_s)
        stale = sorted(dirty & self._sweep.seen)
        self._sweep.seen = dirty
        self._sweep.version_vectors = {
            i: s for i, s in self._sweep.version_vectors.items() if i in dirty
        }
        for at in range(0, len(stale), BATCH):
            await self.drain(stale[at : at + BATCH])
        await self._trim_outbox(now_s)
        return len(stale)

    async def drain(self, ids: Sequence[int]) -> None:
        """Takes these people to durable: export, apply, confirm; a round trip each.

        Raises:
            StoreUnavailableError: A server is down; nobody left dirty who should not.
        """
        if not ids:
            return
        records = await self._export(list(dict.fromkeys(ids)))
        wanted = [p for p in records if p.is_dirty and self._is_news(p)]
        if wanted:
            await self.deliver(wanted)

    async def deliver(self, records: Sequence[PersonRecord]) -> Delivery:
        """Hands packages to durable and draws the consequences; a round trip each.

        Also of people who are not dirty: nothing is lost by saying again what durable knows.

        Args:
            records: Exported from local without an error, at least one.

        Raises:
            StoreUnavailableError: A server is down; nobody left dirty who should not.
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
            # Local came back older: what durable has newer wins, the rest travels again.
            conflicts = await self._hydrator.merge_newer(newer)
            for person_id, reason in conflicts.items():
                await self._add_dead_letter(person_id, reason)
            await self._wake([each for each in newer if each not in conflicts])
        return Delivery(taken=len(taken), newer=newer, refused=refused)

    async def _start_over(
        self, records: Sequence[PersonRecord], answers: Sequence[tuple[int, str]]
    ) -> None:
        """Durable was emptied under an open connection, since each script raises its counter.

        Everybody travels again, but for those who are in these packages as a whole.
        """
        whole = [
            record.person_id
            for record, (_, answer) in zip(records, answers, strict=True)
            if answer == "ok" and b"p" not in record.flags
        ]
        if whole:
            await self._local.run("ZREM", keys.CONFIRMED, *whole)
        await self._epochs.push_again(0)

    async def _export(self, ids: list[int]) -> list[PersonRecord]:
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

    async def pack(self, ids: Sequence[int], what: str) -> list[PersonRecord]:
        """Returns packages of local for durable, in the fastest form that it reads."""
        return await pack_people(
            self._local,
            ids,
            what=what,
            catalog=self._catalog,
            as_dumps=self._epochs.can_dump_to_durable,
        )

    def _is_news(self, record: PersonRecord) -> bool:
        """Whether it differs from what was sent and could not be confirmed the last time."""
        return self._sweep.version_vectors.get(record.person_id) != record.version_vector

    async def _confirm(self, taken: Sequence[tuple[int, PersonRecord]]) -> None:
        rows = [(n, p.person_id, p.version_vector, p.flags) for n, p in taken if p.is_dirty]
        clean = [(count, p.person_id) for count, p in taken if not p.is_dirty]
        if rows:
            left = await self._local.run_script(
                "confirm", *(value for row in rows for value in row)
            )
            self.counts.confirmed += cast("int", left)
        if clean:
            # Who changed meanwhile is dirty by now, and travels again.
            pairs = (value for pair in clean for value in pair)
            await self._local.run("ZADD", keys.CONFIRMED, *pairs)
        self._sweep.version_vectors |= {
            p.person_id: p.version_vector for _, p in taken if p.needs_fetch
        }

    async def _prune_lapsed(self, taken: Sequence[tuple[int, PersonRecord]]) -> dict[int, str]:
        """Narrows the copies of who is not entitled any more; returns why some could not be."""
        refused: dict[int, str] = {}
        for _, record in taken:
            if record.needs_pruning and record.is_dirty:
                try:
                    await self._prune(record.person_id)
                except StoreConflictError:
                    key = keys.preferences(record.person_id, "…")
                    refused[record.person_id] = f"WRONGTYPE {key} on durable, of one collection"
        return refused

    async def _prune(self, person_id: int) -> None:
        """Removes from durable's copy what somebody who is not entitled removed here."""
        for collection in self._catalog.collections:
            key = keys.preferences(person_id, collection)
            copy = cast("set[bytes]", await self._durable.run("SMEMBERS", key))
            found = cast(
                "list[bytes]",
                await self._local.run_script("find_removed", person_id, collection, *copy),
            )
            if len(found) > 1:
                await self._durable.run_script("prune", person_id, collection, *found)

    async def _add_dead_letter(self, person_id: int, reason: str) -> None:
        """Sets aside a person whose data one side does not take; nobody else waits for them."""
        if reason == "visitor":
            return
        self.counts.dead_lettered += 1
        next_try = await self._local.run_script(
            "add_dead_letter", person_id, reason, _DEAD_FIRST_S, _DEAD_LONGEST_S
        )
        _log.error("set_aside", person=person_id, reason=reason, next_try=next_try)

    async def _wake(self, ids: Sequence[int]) -> None:
        if not ids:
            return
        await self._local.run_together(
            [("XADD", keys.OUTBOX, "*", "u", person_id) for person_id in ids]
        )

    async def _load_dirty(self, now_s: int) -> set[int]:
        dirty = {int(each) for each in await self._scan(keys.DIRTY)}
        resting = await self._local.run("HGETALL", keys.DEAD_LETTERS)
        return dirty - _not_due(cast("dict[bytes, bytes]", resting), now_s)

    async def _scan(self, key: str) -> list[bytes]:
        found: list[bytes] = []
        cursor = 0
        while True:
            reply = await self._local.run("SSCAN", key, cursor, "COUNT", BATCH)
            cursor, members = cast("tuple[int, list[bytes]]", reply)
            found += members
            if cursor == 0:
                return found

    async def _trim_outbox(self, now_s: int) -> None:
        """Removes entries that a relay read and did not live to remove: nobody reads them again.

        Also one that nobody has read in all that time is needed no more: the sweep has been by.
        """
        await self._local.run("XTRIM", keys.OUTBOX, "MINID", 1000 * (now_s - _ENTRY_LIFE_S))

    async def _load_now_s(self) -> int:
        return int(cast("list[bytes]", await self._local.run("TIME"))[0])

    async def _read_outbox(self) -> list[int]:
        """Waits a while for entries, removes them from the stream, and returns whom they wake."""
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
        entries = _entries_in(reply)
        if entries:
            # Before they are handled: who is lost on the way is still dirty, and is swept.
            await self._local.run("XDEL", keys.OUTBOX, *(entry for entry, _ in entries))
        return [person_id for _, person_id in entries]

    async def _create_group(self) -> None:
        with suppress(ResponseError):  # another relay was first
            await self._local.run(
                "XGROUP", "CREATE", keys.OUTBOX, keys.OUTBOX_GROUP, "0", "MKSTREAM"
            )


def _entries_in(reply: object) -> list[tuple[bytes, int]]:
    """Returns entry ids and person ids of an answer to XREADGROUP of one stream."""
    streams = cast("list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]", reply or [])
    return [(entry, int(fields[b"u"])) for _, entries in streams for entry, fields in entries]


def _not_due(dead_letters: dict[bytes, bytes], now_s: int) -> set[int]:
    return {
        int(each) for each, record in dead_letters.items() if json.loads(record)["next_try"] > now_s
    }
