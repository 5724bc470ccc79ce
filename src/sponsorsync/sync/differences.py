"""Finds the differences between two digests of a person; pure."""

from dataclasses import dataclass, field

from pydantic import Field

from sponsorsync.domain.parts import PROFILE
from sponsorsync.reports import FrozenReport

ENTITLEMENT = "entitlement:"
"""Prefix of the names of the parts that are entitlements."""


class Difference(FrozenReport):
    """One difference between local and durable."""

    person_id: int
    kind: str = Field(examples=["missing on durable"])
    part: str = Field(
        default="", examples=["mnodes"], description="Empty where it concerns the whole person."
    )
    # The repair that `verify --fix` makes: 'merge' and 'hydrate' fetch from durable, 'index' runs
    # reindex.lua, any other name is an argument of repair.lua. Empty: only the operator can repair.
    repair: str = Field(default="", exclude=True)


@dataclass(frozen=True, slots=True)
class Held:
    """One part of a person on one server, as digest.lua describes it.

    Attributes:
        state: 'there', 'empty', 'unknown', or 'unnoted': a key without a version.
        has_copy: Whether local has recorded that durable may hold a copy.
    """

    version: int = 0
    state: str = "unknown"
    digest: str = ""
    has_copy: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    """One person on one server, as digest.lua describes them.

    Attributes:
        flags: 'd' dirty, 'c' entitled, 'v' an anonymous visitor has the same number.
        deleted: The version of the deletion; 0 without one.
        stale_indexes: Sponsorables whose index of entitled people is wrong about this person.
        error: A wrong-type key; the other fields are then empty.
    """

    flags: str = ""
    deleted: int = 0
    stale_indexes: str = ""
    parts: dict[str, Held] = field(default_factory=dict)
    error: str | None = None


def compare(person_id: int, here: Person, there: Person) -> list[Difference]:
    """Returns the differences between local (here) and durable (there).

    Skips the collections of people who are not entitled: comparing these needs their members.
    """
    wrong = [
        Difference(person_id=person_id, kind=f"wrong type on {side}", part=person.error)
        for side, person in (("local", here), ("durable", there))
        if person.error is not None
    ]
    if wrong:
        return wrong
    found = []
    if here.deleted != there.deleted:
        side, repair = ("durable", "mark") if here.deleted > there.deleted else ("local", "merge")
        kind = f"deletion missing on {side}"
        found.append(Difference(person_id=person_id, kind=kind, repair=repair))
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
    """Returns the kind of the difference and its repair, or None."""
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
    """Returns whether a part is a collection of preferences."""
    return part != PROFILE and not part.startswith(ENTITLEMENT)


def is_stored_set(part: str, held: Held) -> bool:
    """Returns whether a part is a collection that has members."""
    return is_set(part) and held.state in {"there", "unnoted"}


def parse_row(row: list[bytes]) -> Person:
    """Parses a person's row of digest.lua."""
    flags, deleted, *rest = (value.decode(errors="replace") for value in row)
    if not flags:
        return Person(error=deleted)
    stale, *flat = rest
    parts = {}
    for at in range(0, len(flat), 4):
        part, version, state, digest = flat[at : at + 4]
        parts[part] = Held(int(version), state.rstrip("+"), digest, state.endswith("+"))
    return Person(flags=flags, deleted=int(deleted), stale_indexes=stale, parts=parts)
