"""Hashes as scripts reply and take them: fields and values, and moments in whole seconds."""

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


def or_unknown(person_id: int, parse: Callable[[], T | None]) -> T | None:
    """Returns what was read; what somebody else wrote, or a newer version of us, is unknown."""
    try:
        return parse()
    except ValueError as error:
        _log.warning("unreadable_in_redis", person=person_id, reason=str(error))
        return None


def as_hash(flat: object) -> Hash:
    """Returns the hash that a script replied as a flat list of fields and values."""
    pairs = iter(cast("list[bytes]", flat))
    return dict(zip(pairs, pairs, strict=True))


def parse_text(fields: Hash, field: bytes) -> str | None:
    """Returns a field's text, or None where there is no such field."""
    value = fields.get(field)
    return None if value is None else value.decode(errors="replace")


def parse_moment(fields: Hash, field: bytes) -> datetime | None:
    """Returns a field's moment, or None where there is no such field."""
    value = fields.get(field)
    return None if value is None else datetime.fromtimestamp(int(value), UTC)


def dump_moment(moment: datetime | None) -> str | None:
    """Returns a moment as a field holds it; None stands for no field."""
    return None if moment is None else str(int(moment.timestamp()))
