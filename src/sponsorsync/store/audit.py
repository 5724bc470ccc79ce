"""The audit trail of entitlements, which the scripts that change them write."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from sponsorsync.domain.audit import AuditEntry
from sponsorsync.domain.errors import StoreConflictError
from sponsorsync.store import keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sponsorsync.store.connect import RedisStore


class AuditTrail:
    """Reads the trail on local."""

    def __init__(self, local: RedisStore) -> None:
        self._local = local

    async def load(self, *, before: str | None, limit: int) -> Sequence[AuditEntry]:
        """Returns entries, the latest first.

        Args:
            before: The number of the entry up to which, that one left out; None: from the latest.
            limit: How many at most.

        Raises:
            StoreUnavailableError: Local cannot be asked.
            StoreConflictError: Somebody else wrote one of them.
        """
        if before is not None and not before.strip("0-"):
            return []  # nothing is before 0-0, and Redis takes no such end
        newest = "+" if before is None else f"({before}"
        reply = await self._local.run("XREVRANGE", keys.AUDIT, newest, "-", "COUNT", limit)
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", reply)
        return [_parse(number.decode(), fields) for number, fields in entries]


def _parse(number: str, fields: dict[bytes, bytes]) -> AuditEntry:
    try:
        told = {name.decode(): value.decode() for name, value in fields.items()}
        return AuditEntry(
            number=number,
            at=datetime.fromtimestamp(int(number.partition("-")[0]) / 1000, UTC),
            person_id=int(told["id"]),
            sponsorable=told["sponsorable"],
            what=told["what"],
            by=told["by"],
            reference=told["reference"],
            before=json.loads(told["before"]),
            after=json.loads(told["after"]),
        )
    except (KeyError, ValueError) as error:
        raise StoreConflictError(
            f"The entry {number} of the stream {keys.AUDIT} is none of ours: remove it with XDEL."
        ) from error
