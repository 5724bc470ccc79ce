"""The audit trail of entitlements; the scripts that change entitlements write its entries."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from sponsorsync.domain.audit import AuditEntry
from sponsorsync.domain.errors import StoreConflictError
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore


class AuditTrail:
    """Reads the trail on local."""

    def __init__(self, local: RedisStore) -> None:
        self._local = local

    async def load(self, *, before: str | None, limit: int) -> Sequence[AuditEntry]:
        """Returns at most `limit` entries, the latest first.

        `before` is the number of an entry: only older entries are returned. None begins with the
        latest entry.

        Raises:
            StoreUnavailableError: Local cannot be asked.
            StoreConflictError: The stream has an entry that another program wrote.
        """
        if before is not None and not before.strip("0-"):
            return []  # Redis refuses 0-0 as an exclusive end
        newest = "+" if before is None else f"({before}"
        reply = await self._local.run("XREVRANGE", keys.AUDIT, newest, "-", "COUNT", limit)
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", reply)
        return [_parse_entry(number.decode(), fields) for number, fields in entries]


def _parse_entry(number: str, fields: dict[bytes, bytes]) -> AuditEntry:
    try:
        texts = {name.decode(): value.decode() for name, value in fields.items()}
        return AuditEntry(
            number=number,
            at=datetime.fromtimestamp(int(number.partition("-")[0]) / 1000, UTC),
            person_id=int(texts["id"]),
            sponsorable=texts["sponsorable"],
            what=texts["what"],
            by=texts["by"],
            reference=texts["reference"],
            before=json.loads(texts["before"]),
            after=json.loads(texts["after"]),
        )
    except (KeyError, ValueError) as error:
        raise StoreConflictError(
            f"The entry {number} of the stream {keys.AUDIT} was not written by SponsorSync: remove "
            "it with XDEL."
        ) from error
