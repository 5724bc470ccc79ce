"""Finds changes that durable applied without a confirmation on local, and merges them into local.

A relay may stall between packing a record on local and applying it on durable. If local is flushed
meanwhile and filled with durable's data, the late record makes durable newer than local; if the
relay dies before it confirms, local has no trace of that. Durable counts the scripts that applied
records, and stores for each person the count at their last record; local stores the count at each
person's last confirmation. If durable's count is higher, the person is merged from durable: their
versions decide which parts are newer.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias, cast

import structlog

from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore

# More than the people of one script, who all have the same count: else a page might end where it
# began.
_PAGE = 500

_log = structlog.get_logger(__name__)

MergeNewer: TypeAlias = Callable[[Sequence[int]], Awaitable[Mapping[int, str]]]


class UnconfirmedChanges:
    """Compares durable's counts with those of local's confirmations, from where it last stopped.

    Args of the constructor:
        local, durable: Stores behind the gates: the count up to which it has compared must not be
            written to a local that has come back with older data meanwhile.
        merge_newer: Merges parts that are newer on durable; returns the people who could not be
            merged, with the reason.
        push_again: Marks people dirty whose last confirmation has a higher count than given.
    """

    def __init__(
        self,
        local: RedisStore,
        durable: RedisStore,
        *,
        merge_newer: MergeNewer,
        push_again: Callable[[int], Awaitable[None]],
    ) -> None:
        self._local = local
        self._durable = durable
        self._merge_newer = merge_newer
        self._push_again = push_again
        self._last_applied = 0

    async def check(self) -> None:
        """Checks the records that durable had applied at the previous call of this method.

        Confirmations of later records may still be under way.

        Raises:
            StoreUnavailableError: A server is down.
        """
        applied = int(cast("bytes | None", await self._durable.run("GET", keys.APPLIED)) or 0)
        checked = await load_checked(self._local)
        if applied < max(self._last_applied, checked):
            # Durable was emptied or restored while connections were open. A relay notices that as
            # well, but only if it has something to push.
            await self._push_again(applied)
        last, self._last_applied = min(self._last_applied, applied), applied
        if checked < last:
            await merge_unconfirmed(
                self._local, self._durable, self._merge_newer, after=checked, last=last
            )
            await self._local.run("HSET", keys.INCARNATIONS, "checked", last)


async def load_checked(local: RedisStore) -> int:
    """Returns the count on durable up to which local is known to have all applied records."""
    return int(cast("bytes | None", await local.run("HGET", keys.INCARNATIONS, "checked")) or 0)


async def merge_unconfirmed(
    local: RedisStore,
    durable: RedisStore,
    merge_newer: MergeNewer,
    *,
    after: int,
    last: int | None = None,
) -> int:
    """Merges people whose last record on durable has no confirmation on local.

    Only records whose count is higher than `after`, and at most `last`, are compared. People who
    are not on local are skipped: local has no older data of them. People who cannot be merged are
    marked dirty, so that the relay makes them dead letters and tries again.

    Returns how many people had such a record.
    """
    total = 0
    async for page in _scan_applied(durable, after, last):
        ids = [person_id for person_id, _ in page]
        stored, confirmed = cast(
            "list[list[float | None]]",
            await local.run_together(
                [("ZMSCORE", keys.PEOPLE, *ids), ("ZMSCORE", keys.CONFIRMED, *ids)]
            ),
        )
        ahead = [
            person_id
            for (person_id, applied), here, seen in zip(page, stored, confirmed, strict=True)
            if here is not None and (seen or 0) < applied
        ]
        if ahead:
            for person_id in await merge_newer(ahead):
                await local.run_together(
                    [("SADD", keys.DIRTY, person_id), ("XADD", keys.OUTBOX, "*", "u", person_id)]
                )
            total += len(ahead)
    if total:
        _log.info("unconfirmed_on_durable", people=total)
    return total


async def _scan_applied(
    durable: RedisStore, after: int, last: int | None
) -> AsyncGenerator[list[tuple[int, int]], None]:
    """Yields pages of (person id, count), by ascending count.

    The count is that of APPLIED when durable last applied a record of the person.
    """
    start = f"({after}"
    end = "+inf" if last is None else last
    while True:
        rows = cast(
            "list[tuple[bytes, float]]",
            await durable.run(
                *("ZRANGEBYSCORE", keys.PEOPLE, start, end, "WITHSCORES", "LIMIT", 0, _PAGE)
            ),
        )
        if rows:
            yield [(int(person), int(applied)) for person, applied in rows]
        if len(rows) < _PAGE:
            return
        # The page may have ended between people of the same count, so the next page includes that
        # count; some people are found twice.
        start = str(int(rows[-1][1]))
