"""Hashes in the replies and arguments of scripts; moments are whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar, cast

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

Hash = dict[bytes, bytes]
Fields = dict[str, str | None]

_log = structlog.get_logger(__name__)


def parse_or_none(person_id: int, parse: Callable[[], T | None]) -> T | None:
    """Returns what `parse` does; None for data of another program or of a newer version of us."""
    try:
        return parse()
    except ValueError as error:
        _log.warning("unreadable_in_redis", person=person_id, reason=str(error))
        return None


def as_hash(flat: object) -> Hash:
    """Returns a script's flat list of fields and values as a hash."""
    pairs = iter(cast("list[bytes]", flat))
    return dict(zip(pairs, pairs, strict=True))


def parse_text(fields: Hash, field: bytes) -> str | None:
    """Returns a field as text; None if it is missing."""
    value = fields.get(field)
    return None if value is None else value.decode(errors="replace")


def parse_moment(fields: Hash, field: bytes) -> datetime | None:
    """Returns a field as a moment; None if it is missing."""
    value = fields.get(field)
    return None if value is None else datetime.fromtimestamp(int(value), UTC)


def dump_moment(moment: datetime | None) -> str | None:
    """Returns a moment as the text of a field; None stands for no field."""
    return None if moment is None else str(int(moment.timestamp()))
