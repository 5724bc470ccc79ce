"""Copies everyone from local to durable in batches.

The relay pushes changes; a snapshot pushes everything, for a first import or when an operator
doubts that durable is complete. It never overwrites a newer version on durable, so it may run at
any time and repeatedly, beside relays and other snapshots.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import cast

from pydantic import Field, computed_field

from sponsorsync.background import end_tasks
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.errors import InvalidInputError, StoreConflictError, StoreUnavailableError
from sponsorsync.reports import Report
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.scripts import PEOPLE_A_SCRIPT
from sponsorsync.sync.person_records import PersonRecord
from sponsorsync.sync.relay import Relay
from sponsorsync.sync.scan import in_batches, scan_entitled, scan_keyspace, scan_people

_BATCH = 1000
_BATCH_LEAST = PEOPLE_A_SCRIPT
# Size of the records in a batch; the first batch may be larger. At most four batches are in memory:
# one is being read, one waits in the queue, and two are being sent.
_BATCH_BYTES = 8 * 1024 * 1024
# Two, so that local confirms one batch while durable applies the other.
_SENDERS = 2
_MOST_SHOWN = 20


class SnapshotSummary(Report):
    """Result of a snapshot."""

    is_dry_run: bool = Field(default=False, description="Nothing was written.")
    total: int = Field(default=0, description="People in the index at the start.")
    people: int = Field(default=0, description="People it has read.")
    records: int = Field(
        default=0,
        description="People whose data are now the same on durable; in a dry run: would be.",
    )
    bytes: int = Field(default=0, description="Size of the records that were sent.")
    imported: int = Field(
        default=0, description="People whose data had no versions yet (`--scan`)."
    )
    skipped: dict[str, int] = Field(
        default_factory=dict,
        examples=[{"visitor": 3}],
        description="People who were left out, or left to the relay, by reason.",
    )
    errors: list[str] = Field(
        default_factory=list, description="The first 20 reasons why data could not be copied."
    )
    on_their_way: int = Field(default=0, description="People who are dirty at the end.")
    seconds: float = 0.0
    reason: str | None = Field(default=None, description="Why it ended early.")

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def agrees(self) -> bool:
        """Whether everything was copied to durable and no person is dirty."""
        return self.reason is None and not self.errors and not self.on_their_way

    def skip(self, reason: str, count: int = 1) -> None:
        """Counts people who were left out."""
        if count:
            self.skipped[reason] = self.skipped.get(reason, 0) + count

    def fail(self, error: str) -> None:
        """Counts a person whose data could not be copied, and stores the first 20 reasons."""
        self.skip("wrong type")
        if len(self.errors) < _MOST_SHOWN:
            self.errors.append(error)


class Snapshot:
    """Copies everyone; reads the next batch from local while durable applies one."""

    def __init__(self, local: RedisStore, *, catalog: Catalog, relay: Relay) -> None:
        self._local = local
        self._catalog = catalog
        self._relay = relay

    def check_collection(self, collection: str | None) -> None:
        """Raises InvalidInputError for a collection that does not exist; None means all."""
        if collection is not None and collection not in self._catalog.collections:
            names = ", ".join(sorted(self._catalog.collections))
            raise InvalidInputError(f"There is no such collection. There is: {names}.")

    async def run(
        self,
        *,
        collection: str | None = None,
        dry_run: bool = False,
        scan: bool = False,
        report: Callable[[SnapshotSummary], None] = lambda _: None,
    ) -> SnapshotSummary:
        """Copies everyone to durable; an outage ends it early and is the summary's `reason`.

        Args:
            collection: Copies only this collection, of entitled people; None copies everything.
            dry_run: Reads and counts only.
            scan: First imports data without versions, which a scan of all keys finds.
            report: Called with the summary so far, from time to time.

        Raises:
            InvalidInputError: There is no such collection.
        """
        self.check_collection(collection)
        summary = SnapshotSummary(is_dry_run=dry_run)
        began = time.perf_counter()

        def report_progress() -> None:
            summary.seconds = round(time.perf_counter() - began, 3)
            report(summary)

        try:
            summary.total = await self._count(collection)
            if scan:
                await self._import_unversioned(summary, report_progress)
                summary.total = await self._count(collection)
            await self._copy(collection, summary, report_progress)
            summary.on_their_way = cast("int", await self._local.run("SCARD", keys.DIRTY))
        except StoreUnavailableError as error:
            summary.reason = str(error)
        report_progress()
        return summary

    async def _count(self, collection: str | None) -> int:
        if collection is None:
            return cast("int", await self._local.run("ZCARD", keys.PEOPLE))
        sizes = [
            cast("int", await self._local.run("SCARD", keys.sponsors(each)))
            for each in self._catalog.sponsorables
        ]
        return sum(sizes)

    async def _import_unversioned(
        self, summary: SnapshotSummary, report_progress: Callable[[], None]
    ) -> None:
        """Finds local's data without versions, marks them dirty, and pushes them to durable.

        A dry run only counts these people.
        """
        mode = "count" if summary.is_dry_run else "mark"
        people = scan_keyspace(self._local, self._catalog)
        async with aclosing(in_batches(people, PEOPLE_A_SCRIPT)) as batches:
            async for ids in batches:
                reply = await self._local.run_script(
                    "import_unversioned", mode, self._catalog.json, *ids
                )
                imported, visitors, wrongs = cast("tuple[list[bytes], int, list[bytes]]", reply)
                summary.imported += len(imported)
                summary.skip("visitor", visitors)
                for wrong in wrongs:
                    summary.fail(wrong.decode(errors="replace"))
                if imported and not summary.is_dry_run:
                    await self._relay_people([int(each) for each in imported])
                report_progress()

    async def _copy(
        self, collection: str | None, summary: SnapshotSummary, report_progress: Callable[[], None]
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
                await self._send(records, summary)
                report_progress()

        tasks = [asyncio.create_task(work()) for work in (read, *[send] * _SENDERS)]
        try:
            await asyncio.gather(*tasks)
        finally:
            await end_tasks(*tasks)

    async def _pack_all(
        self, collection: str | None, summary: SnapshotSummary
    ) -> AsyncGenerator[list[PersonRecord], None]:
        """Yields batches of records, with fewer people in a batch where their records are large."""
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

    async def _send(self, records: Sequence[PersonRecord], summary: SnapshotSummary) -> None:
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
        # These are still dirty: part of their data needs a fetch first, was left out, or is older.
        left = {p.person_id for p in good if p.is_dirty and (p.needs_fetch or p.is_partial)}
        await self._relay_people(sorted(left.union(delivery.newer)))

    async def _relay_people(self, ids: Sequence[int]) -> None:
        with suppress(StoreConflictError):  # the relay has logged the person as a dead letter
            await self._relay.drain(ids)
