"""The rules by which the two sides differ: pure, from digests to differences."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import Field

from sponsorsync.domain.parts import PROFILE
from sponsorsync.reports import FrozenReport

ENTITLEMENT = "entitlement:"
"""The names of the parts that are entitles begin with it."""


class Difference(FrozenReport):
    """One thing in which the two sides differ."""

    person_id: int
    kind: str = Field(examples=["missing on durable"])
    part: str = Field(
        default="", examples=["mnodes"], description="Empty where it is about the whole person."
    )
    # For `--fix` alone: 'absorb' and 'hydrate' take from durable, 'index' is reindex.lua, the rest
    # is repair.lua's; empty where only the operator can mend it.
    repair: str = Field(default="", exclude=True)


@dataclass(frozen=True, slots=True)
class Held:
    """What one side holds of one part."""

    version: int = 0
    state: str = "unknown"
    digest: str = ""
    has_copy: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    """What one side holds of one person."""

    flags: str = ""
    deleted: int = 0
    stale_indexes: str = ""
    parts: dict[str, Held] = field(default_factory=dict)
    error: str | None = None


def compare(person_id: int, here: Person, there: Person) -> list[Difference]:
    """Returns in what local (here) and durable (there) differ.

    Copies of who is not entitled are not judged here: that needs their members.
    """
    wrong = [
        Difference(person_id=person_id, kind=f"wrong type on {side}", part=person.error)
        for side, person in (("local", here), ("durable", there))
        if person.error is not None
    ]
    if wrong:
        return wrong
    found = []
    if here.deleted > there.deleted:
        found.append(
            Difference(person_id=person_id, kind="deletion missing on durable", repair="mark")
        )
    elif here.deleted < there.deleted:
        found.append(
            Difference(person_id=person_id, kind="deletion missing on local", repair="merge")
        )
    for side, person in (("local", here), ("durable", there)):
        if person.stale_indexes:
            kind = f"index of the entitled wrong on {side}"
            stale = person.stale_indexes
            found.append(Difference(person_id=person_id, kind=kind, part=stale, repair="index"))
    for part in sorted(here.parts.keys() | there.parts.keys()):
        if is_set(part) and ("v" in here.flags or "c" not in here.flags):
            continue
        difference = _compare_part(here.parts.get(part, Held()), there.parts.get(part, Held()))
        if difference is not None:
            kind, repair = difference
            if repair == "settle":
                repair = "merge_sets" if is_set(part) else "raise"
            found.append(Difference(person_id=person_id, kind=kind, part=part, repair=repair))
    return found


def _compare_part(here: Held, there: Held) -> tuple[str, str] | None:
    """Returns the kind of the difference and how to mend it, or None."""
    is_known_there = there.state in {"there", "empty"}
    if here.state == "unnoted":
        return "not versioned on local", "merge_sets"
    if here.state == "unknown":
        return ("lost or never there on local", "hydrate") if is_known_there else None
    if there.version > here.version:
        return "newer on durable", "merge"
    if there.version < here.version or not is_known_there:
        return ("older" if is_known_there else "missing") + " on durable", "mark"
    if (here.state, here.digest) != (there.state, there.digest):
        return "content differs", "settle"
    return None


def is_set(part: str) -> bool:
    """Tells whether a part is a collection of preferences."""
    return part != PROFILE and not part.startswith(ENTITLEMENT)


def parse_row(row: list[bytes]) -> Person:
    """Returns a person as digest.lua describes them."""
    flags, deleted, *rest = (value.decode(errors="replace") for value in row)
    if not flags:
        return Person(error=deleted)
    stale, *flat = rest
    parts = {}
    for at in range(0, len(flat), 4):
        part, version, state, digest = flat[at : at + 4]
        parts[part] = Held(int(version), state.rstrip("+"), digest, state.endswith("+"))
    return Person(flags=flags, deleted=int(deleted), stale_indexes=stale, parts=parts)
