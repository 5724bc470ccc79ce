"""Comparing both sides, which is the truth where notifications and outboxes are only hints.

Digests are compared, not contents, of everybody who stands in any index of either side. Whoever
differs, or is on their way, is looked at once more, both sides anew: a change that travelled
between the two answers is no difference.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, cast

from pydantic import Field, computed_field

from sponsorsync.domain.errors import StoreConflictError, StoreUnavailableError
from sponsorsync.domain.parts import PROFILE
from sponsorsync.reports import FrozenReport, Report
from sponsorsync.store import keys
from sponsorsync.store.entitlements import end_entitlements
from sponsorsync.sync.differences import (
    ENTITLEMENT,
    Difference,
    Held,
    Person,
    compare,
    is_set,
    parse_row,
)
from sponsorsync.sync.person_records import chunks
from sponsorsync.sync.scan import in_batches, scan_people, scan_set

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from sponsorsync.domain.catalog import Catalog
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.sync.hydrate import Hydrator
    from sponsorsync.sync.relay import Relay

_BATCH = 500
_MOST_SHOWN = 100
_DRAINS = 3


class DeadLetter(FrozenReport):
    """A person whose data durable refuses."""

    id: int
    reason: str
    next_try: int = Field(description="Seconds since 1970.")


class VerifySummary(Report):
    """Result of a comparison of both sides."""

    total: int = Field(default=0, description="People in local's index at the start.")
    people: int = Field(default=0, description="People who were compared.")
    equal: int = Field(default=0, description="People who were found equal.")
    visitors: int = Field(
        default=0,
        description="Numbers that a visitor of the application has, too: the sets are left alone.",
    )
    on_their_way: int = Field(
        default=0,
        description="People with changes that durable has not confirmed; without `dead_letters`.",
    )
    waiting_for_entitlement: int = Field(
        default=0, description="Those of them who wait only until GitHub tells their entitlement."
    )
    dead_letters: list[DeadLetter] = Field(default_factory=list)
    counts: dict[str, int] = Field(
        default_factory=dict,
        examples=[{"missing on durable": 2}],
        description="Differences of each kind.",
    )
    differences: list[Difference] = Field(default_factory=list, description="The first 100.")
    repaired: int = Field(
        default=0, description="Differences that were mended, before the second comparison."
    )
    seconds: float = 0.0
    reason: str | None = Field(default=None, description="Why it ended early.")

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def agrees(self) -> bool:
        """Both sides are known to be equal."""
        return not (self.reason or self.counts or self.dead_letters or self.on_their_way)

    def add(self, differences: Iterable[Difference]) -> None:
        """Counts differences, and keeps the first of them."""
        for each in differences:
            self.counts[each.kind] = self.counts.get(each.kind, 0) + 1
            if len(self.differences) < _MOST_SHOWN:
                self.differences.append(each)


class Verifier:
    """Compares everybody, and mends if told to."""

    def __init__(
        self,
        local: RedisStore,
        durable: RedisStore,
        *,
        catalog: Catalog,
        hydrator: Hydrator,
        relay: Relay,
    ) -> None:
        self._local = local
        self._durable = durable
        self._catalog = catalog
        self._hydrator = hydrator
        self._relay = relay

    async def run(
        self, *, fix: bool = False, report: Callable[[VerifySummary], None] = lambda _: None
    ) -> VerifySummary:
        """Compares, and returns what was found; an outage ends it early, and is told there.

        Args:
            fix: Mends each difference, relays what is dirty, and compares everything once more.
            report: Told from time to time how far it is.
        """
        began = time.perf_counter()
        summary = VerifySummary()

        def tell() -> None:
            summary.seconds = round(time.perf_counter() - began, 3)
            report(summary)

        try:
            await self._compare_all(summary, tell, fix=fix)
            if fix:
                await self._drain_all()
                repaired, summary = summary.repaired, VerifySummary()
                summary.repaired = repaired
                await self._compare_all(summary, tell, fix=False)
        except StoreUnavailableError as error:
            summary.reason = str(error)
        tell()
        return summary

    async def _compare_all(
        self, summary: VerifySummary, tell: Callable[[], None], *, fix: bool
    ) -> None:
        # What ended by now would otherwise be found as a difference of the indexes.
        await end_entitlements(self._local)
        summary.total = cast("int", await self._local.run("ZCARD", keys.PEOPLE))
        summary.dead_letters = await self._load_dead_letters()
        dead_letters = {letter.id for letter in summary.dead_letters}
        everybody = self._scan_everybody()
        async with aclosing(everybody):
            async for ids in everybody:
                await self._compare_batch(ids, summary, dead_letters, fix=fix)
                tell()

    async def _compare_batch(
        self, ids: list[int], summary: VerifySummary, dead_letters: set[int], *, fix: bool
    ) -> None:
        summary.people += len(ids)
        here, there = await self._look(ids)
        summary.visitors += sum("v" in person.flags for person in here.values())
        doubtful = [
            each
            for each in ids
            if "d" in here[each].flags
            or _may_have_copy(here[each], there[each])
            or compare(each, here[each], there[each])
        ]
        summary.equal += len(ids) - len(doubtful)
        if doubtful:
            here, there = await self._look(doubtful)
        for each in doubtful:
            found = compare(each, here[each], there[each])
            if each in dead_letters:
                continue
            if "d" in here[each].flags:
                summary.on_their_way += 1
                summary.waiting_for_entitlement += not found and self._lacks_entitlement(here[each])
                continue
            found += await self._compare_copies(each, here[each], there[each])
            summary.add(found)
            summary.equal += not found
            if fix and found:
                summary.repaired += await self._repair(each, found)

    def _lacks_entitlement(self, here: Person) -> bool:
        return any(
            here.parts.get(f"{ENTITLEMENT}{each}", Held()).state == "unknown"
            for each in self._catalog.sponsorables
        )

    async def _compare_copies(
        self, person_id: int, here: Person, there: Person
    ) -> list[Difference]:
        """Judges what durable still holds of who is not entitled: nothing that local has not."""
        found = []
        if not _may_have_copy(here, there):
            return []
        for part, held in there.parts.items():
            if not (is_set(part) and held.state in {"there", "unnoted"}):
                continue
            mine = here.parts.get(part, Held())
            if mine.state == "unknown":
                kind, repair = "lost or never there on local", "hydrate"
            elif not mine.has_copy:
                kind, repair = "kept of somebody not entitled", "prune"
            elif await self._is_wider(person_id, part):
                kind, repair = "copy not narrowed", "prune"
            else:
                continue
            found.append(Difference(person_id=person_id, kind=kind, part=part, repair=repair))
        return found

    async def _is_wider(self, person_id: int, part: str) -> bool:
        key = keys.preferences(person_id, part)
        copy = cast("set[bytes]", await self._durable.run("SMEMBERS", key))
        reply = await self._local.run_script("find_removed", person_id, part, *copy)
        return len(cast("list[bytes]", reply)) > 1

    # ------------------------------------------------------------------ looking

    async def _scan_everybody(self) -> AsyncGenerator[list[int], None]:
        """Yields everybody whom any index of either side knows, by the first that does."""
        before: list[tuple[RedisStore, str, str]] = []
        for store, key, asks in self._indexes():
            pages = scan_people(store) if asks == "ZMSCORE" else scan_set(store, key)
            batches = in_batches(pages, _BATCH)
            async with aclosing(batches):
                async for ids in batches:
                    new = await _drop_known(ids, before)
                    if new:
                        yield new
            before.append((store, key, asks))

    def _indexes(self) -> list[tuple[RedisStore, str, str]]:
        """Returns each index with the command that asks it about many people."""
        sets = [keys.sponsors(each) for each in self._catalog.sponsorables]
        return [
            (self._local, keys.PEOPLE, "ZMSCORE"),
            (self._durable, keys.PEOPLE, "ZMSCORE"),
            (self._local, keys.DIRTY, "SMISMEMBER"),
            *((store, key, "SMISMEMBER") for key in sets for store in (self._local, self._durable)),
        ]

    async def _look(self, ids: Sequence[int]) -> tuple[dict[int, Person], dict[int, Person]]:
        # Local first: what is changed and relayed in between then shows as newer on durable, which
        # the second look clears up.
        return await self._digest(self._local, ids), await self._digest(self._durable, ids)

    async def _digest(self, store: RedisStore, ids: Sequence[int]) -> dict[int, Person]:
        people: dict[int, Person] = {}
        waiting = list(ids)
        while waiting:
            pieces = chunks(waiting)
            replies = await store.run_scripts(
                "digest", [[self._catalog.json, *piece] for piece in pieces]
            )
            left: list[int] = []
            for piece, reply in zip(pieces, replies, strict=True):
                rows = cast("list[list[bytes]]", reply)
                people |= zip(piece, map(parse_row, rows), strict=False)
                left += piece[len(rows) :]
            waiting = left
        return people

    async def _load_dead_letters(self) -> list[DeadLetter]:
        reply = cast("dict[bytes, bytes]", await self._local.run("HGETALL", keys.DEAD_LETTERS))
        letters = []
        for person_id, record in reply.items():
            told = json.loads(record)
            letters.append(
                DeadLetter(id=int(person_id), reason=told["reason"], next_try=told["next_try"])
            )
        return letters

    # ------------------------------------------------------------------ mending

    async def _repair(self, person_id: int, found: Sequence[Difference]) -> int:
        by_repair: dict[str, list[Difference]] = defaultdict(list)
        for each in found:
            by_repair[each.repair].append(each)
        beyond_us = by_repair.pop("", [])
        refused: dict[int, str] = {}
        try:
            if by_repair.pop("merge", None):
                refused |= await self._hydrator.merge_newer([person_id])
            if by_repair.pop("hydrate", None):
                refused |= await self._hydrator.hydrate([person_id])
            if by_repair.pop("index", None):
                for store in (self._local, self._durable):
                    await store.run_script("reindex", person_id, self._catalog.sponsorables_json)
            steps = [
                word
                for how, differences in by_repair.items()
                for each in differences
                for word in (how, each.part or PROFILE)
            ]
            if steps:
                await self._local.run_script("repair", person_id, *steps)
            if "merge_sets" in by_repair:
                refused |= await self._hydrator.hydrate([person_id])
        except StoreConflictError:
            return 0  # a wrong-type key came in between; the next comparison names it
        return 0 if refused else len(found) - len(beyond_us)

    async def _drain_all(self) -> None:
        for _ in range(_DRAINS):
            batches = in_batches(scan_set(self._local, keys.DIRTY), _BATCH)
            async with aclosing(batches):
                async for ids in batches:
                    with suppress(StoreConflictError):
                        await self._relay.drain(ids)
            if not await self._local.run("EXISTS", keys.DIRTY):
                return


def _may_have_copy(here: Person, there: Person) -> bool:
    return (
        here.error is None
        and "c" not in here.flags
        and "v" not in here.flags
        and any(
            is_set(part) and held.state in {"there", "unnoted"}
            for part, held in there.parts.items()
        )
    )


async def _drop_known(ids: list[int], indexes: Sequence[tuple[RedisStore, str, str]]) -> list[int]:
    """Returns the ids that stand in none of these indexes."""
    for store, key, asks in indexes:
        if not ids:
            break
        answers = cast("list[object]", await store.run(asks, key, *ids))
        ids = [each for each, answer in zip(ids, answers, strict=True) if answer in {None, 0}]
    return ids
