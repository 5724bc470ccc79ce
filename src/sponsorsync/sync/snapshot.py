"""The batch copy of everybody from local to durable.

The relay takes what changed; a snapshot takes all there is, for a first import and after anything
that made somebody doubt. Versions decide here as there: what durable holds already, or holds newer,
is not overwritten, so a snapshot may run at any time, beside relays and other snapshots, and again.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, cast

from pydantic import Field, computed_field

from sponsorsync.background import end_tasks
from sponsorsync.domain.errors import InvalidInputError, StoreConflictError, StoreUnavailableError
from sponsorsync.reports import Report
from sponsorsync.store import keys
from sponsorsync.store.scripts import PEOPLE_A_SCRIPT
from sponsorsync.sync.scan import in_batches, scan_entitled, scan_keyspace, scan_people

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from sponsorsync.domain.catalog import Catalog
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.sync.person_records import PersonRecord
    from sponsorsync.sync.relay import Relay

_BATCH = 1000
_BATCH_LEAST = PEOPLE_A_SCRIPT
# Of the packages in a batch. There are four of them at most: one is read, one waits, two are sent;
# the first may exceed this before it is noticed.
_BATCH_BYTES = 8 * 1024 * 1024
# While durable applies one batch, local confirms the other.
_SENDERS = 2
_MOST_SHOWN = 20


class SnapshotSummary(Report):
    """Result of a snapshot."""

    is_dry_run: bool = Field(default=False, description="Nothing was written.")
    total: int = Field(default=0, description="People in the index at the start.")
    people: int = Field(default=0, description="People it has looked at.")
    records: int = Field(
        default=0,
        description="People whom durable has as they are on local; in a dry run: would have.",
    )
    bytes: int = Field(default=0, description="Size of the data that were handed over.")
    imported: int = Field(
        default=0, description="People with data that nobody had versioned yet (`--scan`)."
    )
    skipped: dict[str, int] = Field(
        default_factory=dict,
        examples=[{"visitor": 3}],
        description="People who were left out, or left to the relay, by the reason.",
    )
    errors: list[str] = Field(
        default_factory=list, description="The first reasons why data could not be copied."
    )
    on_their_way: int = Field(default=0, description="People who wait for durable at the end.")
    seconds: float = 0.0
    reason: str | None = Field(default=None, description="Why it ended early.")

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def agrees(self) -> bool:
        """Durable has all that was to be copied, and nobody waits."""
        return self.reason is None and not self.errors and not self.on_their_way

    def skip(self, reason: str, count: int = 1) -> None:
        """Counts people who were left out."""
        if count:
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def fail(self, error: str) -> None:
        """Counts somebody whose data could not be copied, and keeps the first few reasons."""
        self.skip("wrong type")
        if len(self.errors) < _MOST_SHOWN:
            self.errors.append(error)


class Snapshot:
    """Copies everybody; the next batches are read from local while one is applied on durable."""

    def __init__(self, local: RedisStore, *, catalog: Catalog, relay: Relay) -> None:
        self._local = local
        self._catalog = catalog
        self._relay = relay

    def check_collection(self, collection: str | None) -> None:
        """Raises InvalidInputError for a collection that does not exist; None stands for all."""
        if collection is not None and collection not in self._catalog.collections:
            known = ", ".join(sorted(self._catalog.collections))
            raise InvalidInputError(f"There is no such collection. There is: {known}.")

    async def run(
        self,
        *,
        collection: str | None = None,
        dry_run: bool = False,
        scan: bool = False,
        report: Callable[[SnapshotSummary], None] = lambda _: None,
    ) -> SnapshotSummary:
        """Copies, and returns what it did; an outage ends it early, and is told there.

        Args:
            collection: Only this one, of people who are entitled; else everybody's everything.
            dry_run: Reads and counts only.
            scan: First looks through all keys for what nobody has versioned yet.
            report: Told from time to time how far it is.

        Raises:
            InvalidInputError: There is no such collection.
        """
        self.check_collection(collection)
        summary = SnapshotSummary(is_dry_run=dry_run)
        began = time.perf_counter()

        def tell() -> None:
            summary.seconds = round(time.perf_counter() - began, 3)
            report(summary)

        try:
            summary.total = await self._count(collection)
            if scan:
                await self._adopt(summary, tell)
                summary.total = await self._count(collection)
            await self._copy(collection, summary, tell)
            summary.on_their_way = cast("int", await self._local.run("SCARD", keys.DIRTY))
        except StoreUnavailableError as error:
            summary.reason = str(error)
        tell()
        return summary

    async def _count(self, collection: str | None) -> int:
        if collection is None:
            return cast("int", await self._local.run("ZCARD", keys.PEOPLE))
        sizes = [
            cast("int", await self._local.run("SCARD", keys.sponsors(each)))
            for each in self._catalog.sponsorables
        ]
        return sum(sizes)

    async def _adopt(self, summary: SnapshotSummary, tell: Callable[[], None]) -> None:
        how = "count" if summary.is_dry_run else "mark"
        pages = in_batches(scan_keyspace(self._local, self._catalog), PEOPLE_A_SCRIPT)
        async with aclosing(pages):
            async for ids in pages:
                reply = await self._local.run_script(
                    "import_unversioned", how, self._catalog.json, *ids
                )
                imported, visitors, wrongs = cast("tuple[list[bytes], int, list[bytes]]", reply)
                summary.imported += len(imported)
                summary.skip("visitor", visitors)
                for wrong in wrongs:
                    summary.fail(wrong.decode(errors="replace"))
                if imported and not summary.is_dry_run:
                    await self._relay_people([int(each) for each in imported])
                tell()

    async def _copy(
        self, collection: str | None, summary: SnapshotSummary, tell: Callable[[], None]
    ) -> None:
        queue: asyncio.Queue[list[PersonRecord] | None] = asyncio.Queue(1)

        async def read() -> None:
            async with aclosing(self._pack_all(collection, summary)) as batches:
                async for records in batches:
                    await queue.put(records)
            for _ in range(_SENDERS):
                await queue.put(None)

        async def send() -> None:
            while (records := await queue.get()) is not None:
                await self._hand_over(records, summary)
                tell()

        tasks = [asyncio.create_task(work()) for work in (read, *[send] * _SENDERS)]
        try:
            await asyncio.gather(*tasks)
        finally:
            await end_tasks(*tasks)

    async def _pack_all(
        self, collection: str | None, summary: SnapshotSummary
    ) -> AsyncGenerator[list[PersonRecord], None]:
        """Yields batches of packages; their size follows what people have."""
        what = "entitled" if collection is None else f"only:{collection}"
        people = (
            scan_people(self._local)
            if collection is None
            else scan_entitled(self._local, self._catalog)
        )
        size = _BATCH
        async for batch in in_batches(people, _BATCH):
            at = 0
            while at < len(batch):
                ids = batch[at : at + size]
                at += len(ids)
                records = await self._relay.pack(ids, what)
                summary.people += len(records)
                yield records
                content = sum(len(record.content) for record in records)
                if content > _BATCH_BYTES:
                    size = max(size // 2, _BATCH_LEAST)
                elif content < _BATCH_BYTES // 4:
                    size = min(size * 2, _BATCH)

    async def _hand_over(self, records: Sequence[PersonRecord], summary: SnapshotSummary) -> None:
        good = []
        for record in records:
            if record.error is None:
                good.append(record)
                summary.skip("visitor", int(record.is_visitor))
            else:
                summary.fail(f"local, person {record.person_id}: {record.error}")
        waiting = [record.person_id for record in good if record.needs_fetch]
        summary.skip("unknown", len(waiting))
        summary.bytes += sum(len(record.content) for record in good)
        if summary.is_dry_run or not good:
            summary.records += len(good)
            return
        delivery = await self._relay.deliver(good)
        summary.records += delivery.taken
        summary.skip("newer", len(delivery.newer))
        for person_id, error in delivery.refused.items():
            summary.fail(f"durable, person {person_id}: {error}")
        # Whatever is more than copying, or was only copied in part, is the relay's.
        left = {p.person_id for p in good if p.is_dirty and (p.needs_fetch or b"p" in p.flags)}
        await self._relay_people(sorted(left.union(delivery.newer)))

    async def _relay_people(self, ids: Sequence[int]) -> None:
        with suppress(StoreConflictError):  # it set them aside, and said so
            await self._relay.drain(ids)
