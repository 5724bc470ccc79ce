"""What one side exports and the other takes: packed by Redis, unpacked by Redis, opaque in between.

`export.lua` packs a person's parts with cmsgpack; `apply.lua` and `absorb.lua` unpack them. The
bytes are not looked at here, so ids need not be UTF-8 and nothing is parsed twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sponsorsync.store.script_limits import BYTES_A_SCRIPT, PEOPLE_A_SCRIPT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sponsorsync.store.connect import Argument, RedisStore
    from sponsorsync.sync.names import KnownNames


@dataclass(frozen=True, slots=True)
class Package:
    """One person's parts.

    Attributes:
        stamp: Stands for all versions in it; empty when there is an error.
        content: Opaque.
        flags: See export.lua.
        error: Why there is no content: a key of another type, or 'visitor'.
    """

    person_id: int
    stamp: bytes
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
    def needs_narrowing(self) -> bool:
        """Whether durable holds a copy of somebody who is not covered any more."""
        return b"n" in self.flags


async def export_people(
    store: RedisStore, ids: Sequence[int], *, what: str, names: KnownNames, as_dumps: bool = False
) -> list[Package]:
    """Returns a package for each person, in one round trip (more where there is very much).

    The order may be another than that of the ids.

    Args:
        store: Either side.
        ids: Of the people.
        what: 'covered' leaves out the collections of who is not covered: what may leave local.
            'all' leaves out nothing; 'only:{collection}' is 'covered' for one collection.
        names: The sponsorables that can cover somebody.
        as_dumps: In the server's own format, which is several times faster; the other side has to
            be able to read it (dumps.py).
    """
    packages: list[Package] = []
    waiting = ids
    while waiting:
        pieces = chunks(waiting)
        replies = await store.run_scripts(
            "export",
            [
                [what + ("+dumps" if as_dumps else ""), names.sponsorables_json, *piece]
                for piece in pieces
            ],
        )
        left: list[int] = []
        for piece, reply in zip(pieces, replies, strict=True):
            rows = cast("list[list[bytes]]", reply)
            packages += map(_parse_row, piece, rows)
            left += piece[len(rows) :]  # the script had read much, and stopped
        waiting = left
    return packages


def chunks(ids: Sequence[int]) -> list[Sequence[int]]:
    """Returns the ids in pieces for one script each."""
    return [ids[at : at + PEOPLE_A_SCRIPT] for at in range(0, len(ids), PEOPLE_A_SCRIPT)]


async def apply_packages(
    durable: RedisStore, packages: Sequence[Package], *, names: KnownNames
) -> list[tuple[int, str]]:
    """Hands packages to durable, in one round trip.

    Returns:
        For each package, in their order, durable's counter of applications with it, and 'ok',
        'newer' (durable holds something newer) or the error for which it does not take it.
    """
    batches = split_for_scripts(packages)
    arguments: list[list[Argument]] = [
        [names.sponsorables_json, *(package.content for package in batch)] for batch in batches
    ]
    replies = cast("list[tuple[int, list[bytes]]]", await durable.run_scripts("apply", arguments))
    return [(applied, answer.decode()) for applied, batch in replies for answer in batch]


def split_for_scripts(packages: Sequence[Package]) -> list[list[Package]]:
    """Returns the packages in pieces for one script each, in their order."""
    batches: list[list[Package]] = []
    size = 0
    for package in packages:
        size += len(package.content)
        if not batches or len(batches[-1]) >= PEOPLE_A_SCRIPT or size > BYTES_A_SCRIPT:
            batches.append([])
            size = len(package.content)
        batches[-1].append(package)
    return batches


def _parse_row(person_id: int, row: list[bytes]) -> Package:
    if not row[0]:
        error = row[1].decode(errors="replace")
        return Package(person_id=person_id, stamp=b"", content=b"", flags=b"", error=error)
    return Package(person_id=person_id, stamp=row[0], content=row[1], flags=row[2])
