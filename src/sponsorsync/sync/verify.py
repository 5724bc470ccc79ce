"""Compares local with durable, and so finds changes that notifications and the outbox have missed.

It compares digests, not contents, of everyone in any index of either server. It requests the
digests of people who differ or are dirty a second time, because a change that was pushed between
the answers of the two servers is no difference.
"""

import json
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import cast

from pydantic import Field, computed_field

from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.errors import StoreConflictError, StoreUnavailableError
from sponsorsync.domain.parts import PROFILE
from sponsorsync.reports import FrozenReport, Report
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.entitlements import end_entitlements
from sponsorsync.sync.differences import (
    ENTITLEMENT,
    Difference,
    Held,
    Person,
    compare,
    is_stored_set,
    parse_row,
)
from sponsorsync.sync.hydrate import Hydrator
from sponsorsync.sync.person_records import find_removed, run_for_people
from sponsorsync.sync.relay import Relay
from sponsorsync.sync.scan import in_batches, scan_people, scan_set

_BATCH = 500
_MOST_SHOWN = 100
_DRAINS = 3


class DeadLetter(FrozenReport):
    """A person whose data one of the servers refuses."""

    id: int
    reason: str
    next_try: int = Field(description="Seconds since 1970.")


class VerifySummary(Report):
    """Result of a comparison of local with durable."""

    total: int = Field(default=0, description="People in local's index at the start.")
    people: int = Field(default=0, description="People who were compared.")
    equal: int = Field(default=0, description="People who were found equal.")
    visitors: int = Field(
        default=0,
        description="People whose number is also an anonymous visitor's: sets are not compared.",
    )
    on_their_way: int = Field(
        default=0,
        description="People with changes that durable has not confirmed; without `dead_letters`.",
    )
    waiting_for_entitlement: int = Field(
        default=0, description="Those of them who wait only for their entitlement from GitHub."
    )
    dead_letters: list[DeadLetter] = Field(default_factory=list)
    counts: dict[str, int] = Field(
        default_factory=dict,
        examples=[{"missing on durable": 2}],
        description="Differences of each kind.",
    )
    differences: list[Difference] = Field(default_factory=list, description="The first 100.")
    repaired: int = Field(
        default=0, description="Differences that were repaired before the second comparison."
    )
    seconds: float = 0.0
    reason: str | None = Field(default=None, description="Why it ended early.")

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def agrees(self) -> bool:
        """Whether local and durable are known to be equal."""
        return not (self.reason or self.counts or self.dead_letters or self.on_their_way)

    def add(self, differences: Iterable[Difference]) -> None:
        """Counts differences, and stores the first 100."""
        for each in differences:
            self.counts[each.kind] = self.counts.get(each.kind, 0) + 1
            if len(self.differences) < _MOST_SHOWN:
                self.differences.append(each)


class Verifier:
    """Compares everyone, and repairs on request."""

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
        """Compares everyone; an outage ends it early and is the summary's `reason`.

        Args:
            fix: Repairs each difference, pushes all dirty people, and compares everyone once more.
            report: Called with the summary so far, from time to time.
        """
        began = time.perf_counter()
        summary = VerifySummary()

        def report_progress() -> None:
            summary.seconds = round(time.perf_counter() - began, 3)
            report(summary)

        try:
            await self._compare_all(summary, report_progress, fix=fix)
            if fix:
                await self._drain_all()
                summary = VerifySummary(repaired=summary.repaired)
                await self._compare_all(summary, report_progress, fix=False)
        except StoreUnavailableError as error:
            summary.reason = str(error)
        report_progress()
        return summary

    async def _compare_all(
        self, summary: VerifySummary, report_progress: Callable[[], None], *, fix: bool
    ) -> None:
        # First: entitlements that have just ended would show as wrong indexes of the entitled.
        await end_entitlements(self._local)
        summary.total = cast("int", await self._local.run("ZCARD", keys.PEOPLE))
        summary.dead_letters = await self._load_dead_letters()
        dead_letters = {letter.id for letter in summary.dead_letters}
        async with aclosing(self._scan_everyone()) as everyone:
            async for ids in everyone:
                await self._compare_batch(ids, summary, dead_letters, fix=fix)
                report_progress()

    async def _compare_batch(
        self, ids: list[int], summary: VerifySummary, dead_letters: set[int], *, fix: bool
    ) -> None:
        summary.people += len(ids)
        here, there = await self._digest_both(ids)
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
            here, there = await self._digest_both(doubtful)
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
        """Returns the differences of collections that durable holds of a person not entitled.

        Such a copy need not equal local's collection, but must hold no item that local lacks.
        """
        found = []
        if not _may_have_copy(here, there):
            return []
        for part, held in there.parts.items():
            if not is_stored_set(part, held):
                continue
            mine = here.parts.get(part, Held())
            if mine.state == "unknown":
                kind, repair = "lost or never there on local", "hydrate"
            elif not mine.has_copy:
                kind, repair = "kept though not entitled", "prune"
            elif await find_removed(self._local, self._durable, person_id, part):
                kind, repair = "copy not pruned", "prune"
            else:
                continue
            found.append(Difference(person_id=person_id, kind=kind, part=part, repair=repair))
        return found

    async def _scan_everyone(self) -> AsyncGenerator[list[int], None]:
        """Yields everyone in any index of either server, once each."""
        before: list[tuple[RedisStore, str, str]] = []
        for store, key, query in self._list_indexes():
            pages = scan_people(store) if query == "ZMSCORE" else scan_set(store, key)
            async with aclosing(in_batches(pages, _BATCH)) as batches:
                async for ids in batches:
                    new = await _drop_indexed(ids, before)
                    if new:
                        yield new
            before.append((store, key, query))

    def _list_indexes(self) -> list[tuple[RedisStore, str, str]]:
        """Returns each index with the command that looks up many people in it."""
        sets = [keys.sponsors(each) for each in self._catalog.sponsorables]
        return [
            (self._local, keys.PEOPLE, "ZMSCORE"),
            (self._durable, keys.PEOPLE, "ZMSCORE"),
            (self._local, keys.DIRTY, "SMISMEMBER"),
            *((store, key, "SMISMEMBER") for key in sets for store in (self._local, self._durable)),
        ]

    async def _digest_both(self, ids: Sequence[int]) -> tuple[dict[int, Person], dict[int, Person]]:
        # Local first: a change that is pushed between the two then shows as newer on durable, and
        # the second pair of digests shows that both are equal.
        return await self._digest(self._local, ids), await self._digest(self._durable, ids)

    async def _digest(self, store: RedisStore, ids: Sequence[int]) -> dict[int, Person]:
        rows = await run_for_people(store, "digest", [self._catalog.json], ids)
        return {person_id: parse_row(row) for person_id, row in rows}

    async def _load_dead_letters(self) -> list[DeadLetter]:
        reply = cast("dict[bytes, bytes]", await self._local.run("HGETALL", keys.DEAD_LETTERS))
        letters = {int(person_id): json.loads(letter) for person_id, letter in reply.items()}
        return [
            DeadLetter(id=person_id, reason=letter["reason"], next_try=letter["next_try"])
            for person_id, letter in letters.items()
        ]

    async def _repair(self, person_id: int, found: Sequence[Difference]) -> int:
        """Repairs a person's differences; returns how many."""
        by_repair: dict[str, list[Difference]] = defaultdict(list)
        for each in found:
            by_repair[each.repair].append(each)
        for_the_operator = by_repair.pop("", [])
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
                for repair, differences in by_repair.items()
                for each in differences
                for word in (repair, each.part or PROFILE)
            ]
            if steps:
                await self._local.run_script("repair", person_id, *steps)
            if "merge_sets" in by_repair:
                refused |= await self._hydrator.hydrate([person_id])
        except StoreConflictError:
            return 0  # a wrong-type key appeared meanwhile; the next comparison names it
        return 0 if refused else len(found) - len(for_the_operator)

    async def _drain_all(self) -> None:
        for _ in range(_DRAINS):
            dirty = scan_set(self._local, keys.DIRTY)
            async with aclosing(in_batches(dirty, _BATCH)) as batches:
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
        and any(is_stored_set(part, held) for part, held in there.parts.items())
    )


async def _drop_indexed(
    ids: list[int], indexes: Sequence[tuple[RedisStore, str, str]]
) -> list[int]:
    """Returns the ids that are in none of these indexes."""
    for store, key, query in indexes:
        if not ids:
            break
        answers = cast("list[object]", await store.run(query, key, *ids))
        ids = [each for each, answer in zip(ids, answers, strict=True) if answer in {None, 0}]
    return ids
