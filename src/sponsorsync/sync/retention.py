"""Removes preferences of people who have not been entitled for longer than the retention."""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import structlog

from sponsorsync.domain.catalog import Catalog
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore

_BATCH = 100

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Removal:
    """The sizes of the collections that were removed from durable, of one person."""

    person_id: int
    collections: dict[str, int]


async def remove_lapsed(
    durable: RedisStore, *, catalog: Catalog, retention: timedelta
) -> list[Removal]:
    """Removes one batch of preferences whose retention is over from durable; returns the removals.

    The script on durable checks the person again: if they became entitled after they were listed,
    nothing is removed.

    Raises:
        StoreUnavailableError: Durable is down.
    """
    until = int(time.time() - retention.total_seconds())
    listed = cast(
        "list[tuple[bytes, float]]",
        await durable.run(
            *("ZRANGEBYSCORE", keys.LAPSED, "-inf", until, "WITHSCORES", "LIMIT", 0, _BATCH)
        ),
    )
    removals = []
    for person, lapse in listed:
        reply = await durable.run_script(
            "forget_lapsed", person, f"{lapse:.0f}", catalog.sponsorables_json
        )
        pairs = iter(cast("list[bytes | int]", reply))
        sizes = {cast("bytes", name).decode(): cast("int", next(pairs)) for name in pairs}
        if sizes:
            removals.append(Removal(person_id=int(person), collections=sizes))
            _log.info("retention_ended", person=int(person), removed=sizes)
    return removals
