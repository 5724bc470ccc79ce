"""What one side exports and the other takes: packed by Redis, unpacked by Redis, opaque in between.

`pack.lua` packs a person's parts with cmsgpack; `apply.lua` and `merge.lua` unpack them. The
bytes are not looked at here, so ids need not be UTF-8 and nothing is parsed twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sponsorsync.store.scripts import BYTES_A_SCRIPT, PEOPLE_A_SCRIPT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sponsorsync.domain.catalog import Catalog
    from sponsorsync.store.connect import Argument, RedisStore


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """One person's parts.

    Attributes:
        version_vector: Stands for all versions in it; empty when there is an error.
        content: Opaque.
        flags: See pack.lua.
        error: Why there is no content: a key of another type, or 'visitor'.
    """

    person_id: int
    version_vector: bytes
    content: bytes
    flags: bytes
    error: str | None = None

    @property
    def is_dirty(self) -> bool:
        """Whether durable has yet to confirm some of it."""
        return b"d" in self.flags

    @property
    def needs_fetch(self) -> bool:
        """Whether something has to be fetched from durable before all can be sent."""
        return b"u" in self.flags

    @property
    def is_visitor(self) -> bool:
        """Whether an anonymous visitor has the same number, so that no set is in it."""
        return b"v" in self.flags

    @property
    def needs_pruning(self) -> bool:
        """Whether durable holds a copy of somebody who is not entitled any more."""
        return b"n" in self.flags


async def pack_people(
    store: RedisStore, ids: Sequence[int], *, what: str, catalog: Catalog, as_dumps: bool = False
) -> list[PersonRecord]:
    """Returns a package for each person, in one round trip (more where there is very much).

    The order may be another than that of the ids.

    Args:
        store: Either side.
        ids: Of the people.
        what: 'entitled' leaves out the collections of who is not entitled: what may leave local.
            'all' leaves out nothing; 'only:{collection}' is 'entitled' for one collection.
        catalog: The sponsorables that can entitle somebody.
        as_dumps: In the server's own format, which is several times faster; the other side has to
            be able to read it (dump_format.py).
    """
    records: list[PersonRecord] = []
    waiting = ids
    while waiting:
        pieces = chunks(waiting)
        replies = await store.run_scripts(
            "pack",
            [
                [what + ("+dumps" if as_dumps else ""), catalog.sponsorables_json, *piece]
                for piece in pieces
            ],
        )
        left: list[int] = []
        for piece, reply in zip(pieces, replies, strict=True):
            rows = cast("list[list[bytes]]", reply)
            records += map(_parse_row, piece, rows)
            left += piece[len(rows) :]  # the script had read much, and stopped
        waiting = left
    return records


def chunks(ids: Sequence[int]) -> list[Sequence[int]]:
    """Returns the ids in pieces for one script each."""
    return [ids[at : at + PEOPLE_A_SCRIPT] for at in range(0, len(ids), PEOPLE_A_SCRIPT)]


async def apply_records(
    durable: RedisStore, records: Sequence[PersonRecord], *, catalog: Catalog
) -> list[tuple[int, str]]:
    """Hands packages to durable, in one round trip.

    Returns:
        For each package, in their order, durable's counter of applications with it, and 'ok',
        'newer' (durable holds something newer) or the error for which it does not take it.
    """
    batches = split_for_scripts(records)
    arguments: list[list[Argument]] = [
        [catalog.sponsorables_json, *(record.content for record in batch)] for batch in batches
    ]
    replies = cast("list[tuple[int, list[bytes]]]", await durable.run_scripts("apply", arguments))
    return [(applied, answer.decode()) for applied, batch in replies for answer in batch]


def split_for_scripts(records: Sequence[PersonRecord]) -> list[list[PersonRecord]]:
    """Returns the packages in pieces for one script each, in their order."""
    batches: list[list[PersonRecord]] = []
    size = 0
    for record in records:
        size += len(record.content)
        if not batches or len(batches[-1]) >= PEOPLE_A_SCRIPT or size > BYTES_A_SCRIPT:
            batches.append([])
            size = len(record.content)
        batches[-1].append(record)
    return batches


def _parse_row(person_id: int, row: list[bytes]) -> PersonRecord:
    if not row[0]:
        error = row[1].decode(errors="replace")
        return PersonRecord(
            person_id=person_id, version_vector=b"", content=b"", flags=b"", error=error
        )
    return PersonRecord(person_id=person_id, version_vector=row[0], content=row[1], flags=row[2])
