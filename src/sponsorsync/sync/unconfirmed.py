"""Changes that durable applied and local never saw confirmed.

A relay may stall between reading from local and applying on durable. If local is flushed meanwhile
and filled with durable's data, the record that arrives afterwards is newer than local, and a relay
that dies before it confirms leaves no trace of that. Durable counts its applications and stores
each person's last one; local stores each person's last confirmed one. A person ahead on durable
is merged from there: versions decide whether anything is newer.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias, cast

import structlog

from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore

# More than one script applies on durable: all people of a script have the same count.
_PAGE = 500

_log = structlog.get_logger(__name__)

MergeNewer: TypeAlias = Callable[[Sequence[int]], Awaitable[Mapping[int, str]]]


class UnconfirmedChanges:
    """Compares durable's applications with local's confirmations, starting at the last stop.

    Args of the constructor:
        local, durable: Stores behind the gates: the last stop must not be written to a local that
            came back older in between.
        merge_newer: Merges what is newer on durable; returns the people it failed for, and why.
        push_again: Marks everyone dirty that durable confirmed after a count.
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
        """Checks what durable applied until the previous call; later records may be under way.

        Raises:
            StoreUnavailableError: A server is down.
        """
        applied = int(cast("bytes | None", await self._durable.run("GET", keys.APPLIED)) or 0)
        checked = await load_checked(self._local)
        if applied < max(self._last_applied, checked):
            # Durable was emptied or restored under open connections; maybe no relay sends now.
            await self._push_again(applied)
        last, self._last_applied = min(self._last_applied, applied), applied
        if checked < last:
            await merge_unconfirmed(
                self._local, self._durable, self._merge_newer, after=checked, last=last
            )
            await self._local.run("HSET", keys.INCARNATIONS, "checked", last)


async def load_checked(local: RedisStore) -> int:
    """Returns the count of applications on durable up to which local has everything."""
    return int(cast("bytes | None", await local.run("HGET", keys.INCARNATIONS, "checked")) or 0)


async def merge_unconfirmed(
    local: RedisStore,
    durable: RedisStore,
    merge_newer: MergeNewer,
    *,
    after: int,
    last: int | None = None,
) -> int:
    """Merges people that durable applied after a count, unconfirmed on local.

    Skips people who are unknown on local: nothing of them can be older. People who cannot be merged
    are marked dirty, so that the relay makes them dead letters and tries again. Returns how many
    people were ahead on durable.
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
    """Yields pages of people with the count of their last application, in that order."""
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
        # The page may have ended within a count: its people are found twice.
        start = str(int(rows[-1][1]))
