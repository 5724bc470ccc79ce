"""Person records: packed by one server, applied or merged by the other, opaque in between.

`pack.lua` packs a person's parts with cmsgpack; `apply.lua` and `merge.lua` unpack them. Python
never parses the bytes, so ids in them need not be UTF-8.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sponsorsync.domain.catalog import Catalog
from sponsorsync.store import keys
from sponsorsync.store.connect import Argument, RedisStore
from sponsorsync.store.scripts import BYTES_A_SCRIPT, PEOPLE_A_SCRIPT


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """One person's parts.

    Attributes:
        version_vector: Identifies the versions of all parts; empty if there is an error.
        content: Opaque bytes.
        flags: Letters; see pack.lua.
        error: Why there is no content: a wrong-type key, or 'visitor'.
    """

    person_id: int
    version_vector: bytes = b""
    content: bytes = b""
    flags: bytes = b""
    error: str | None = None

    @property
    def is_dirty(self) -> bool:
        """Whether the person has changes that durable has not confirmed."""
        return b"d" in self.flags

    @property
    def needs_fetch(self) -> bool:
        """Whether a part must be fetched from durable before everything can be sent."""
        return b"u" in self.flags

    @property
    def is_partial(self) -> bool:
        """Whether parts of the person are left out."""
        return b"p" in self.flags

    @property
    def is_visitor(self) -> bool:
        """Whether an anonymous visitor has the same number; then no collection is packed."""
        return b"v" in self.flags

    @property
    def needs_pruning(self) -> bool:
        """Whether durable holds collections of this person, who is no longer entitled."""
        return b"n" in self.flags


async def run_for_people(
    store: RedisStore, script: str, arguments: Sequence[Argument], ids: Sequence[int]
) -> list[tuple[int, list[bytes]]]:
    """Runs a script for a bounded number of people at once; returns each person's row of the reply.

    A script that has read much data stops early and is run again for the rest, so the order may
    differ from that of the ids.
    """
    found: list[tuple[int, list[bytes]]] = []
    waiting = list(ids)
    while waiting:
        pieces = [
            waiting[at : at + PEOPLE_A_SCRIPT] for at in range(0, len(waiting), PEOPLE_A_SCRIPT)
        ]
        replies = await store.run_scripts(script, [[*arguments, *piece] for piece in pieces])
        waiting = []
        for piece, reply in zip(pieces, replies, strict=True):
            rows = cast("list[list[bytes]]", reply)
            found += zip(piece, rows, strict=False)
            waiting += piece[len(rows) :]
    return found


async def pack_people(
    store: RedisStore, ids: Sequence[int], *, what: str, catalog: Catalog, as_dumps: bool = False
) -> list[PersonRecord]:
    """Returns a record for each person, in any order.

    Args:
        store: Local or durable.
        ids: The people.
        what: 'entitled' leaves out the collections of people who are not entitled, which must not
            be pushed to durable. 'only:{collection}' does so too, and packs only entitlements and
            that collection. 'all' leaves out nothing: for people packed on durable.
        catalog: The sponsorables that can entitle a person.
        as_dumps: Packs keys in the server's own format, which is several times faster; the other
            server has to be able to read it (dump_format.py).
    """
    form = what + ("+dumps" if as_dumps else "")
    rows = await run_for_people(store, "pack", [form, catalog.sponsorables_json], ids)
    return [
        PersonRecord(person_id, row[0], row[1], row[2])
        if row[0]
        else PersonRecord(person_id, error=row[1].decode(errors="replace"))
        for person_id, row in rows
    ]


async def apply_records(
    durable: RedisStore, records: Sequence[PersonRecord], *, catalog: Catalog
) -> list[tuple[int, str]]:
    """Applies records on durable, in one round trip.

    Returns:
        For each record, in their order: durable's count of the scripts that applied records, and
        'ok', 'newer' (durable holds a newer part), or the error for which durable refuses it.
    """
    batches = split_for_scripts(records)
    arguments: list[list[Argument]] = [
        [catalog.sponsorables_json, *(record.content for record in batch)] for batch in batches
    ]
    replies = cast("list[tuple[int, list[bytes]]]", await durable.run_scripts("apply", arguments))
    return [(applied, answer.decode()) for applied, batch in replies for answer in batch]


def split_for_scripts(records: Sequence[PersonRecord]) -> list[list[PersonRecord]]:
    """Splits records into pieces for one script each, in their order."""
    batches: list[list[PersonRecord]] = []
    size = 0
    for record in records:
        size += len(record.content)
        if not batches or len(batches[-1]) >= PEOPLE_A_SCRIPT or size > BYTES_A_SCRIPT:
            batches.append([])
            size = len(record.content)
        batches[-1].append(record)
    return batches


async def find_removed(
    local: RedisStore, durable: RedisStore, person_id: int, collection: str
) -> list[bytes]:
    """Finds members of a collection on durable that a person not entitled has removed on local.

    Returns the last arguments for prune.lua: local's version of the collection, and these members.
    The list is empty if there are no such members.
    """
    key = keys.preferences(person_id, collection)
    copy = cast("set[bytes]", await durable.run("SMEMBERS", key))
    reply = await local.run_script("find_removed", person_id, collection, *copy)
    found = cast("list[bytes]", reply)
    return found if len(found) > 1 else []
