"""What arrived on durable without local's knowledge: after it was confirmed, or never confirmed.

A relay may be stopped for a while between reading from local and applying on durable. If local is
flushed meanwhile and filled with what durable has then, the package that arrives after that is
newer than local, and a relay that dies before it confirms tells nobody. Durable counts its
applications and keeps for each person the last one; local keeps for each the last one that was
confirmed. Whoever is ahead on durable is taken from there: versions decide whether it is news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

import structlog

from sponsorsync.store import keys

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from sponsorsync.store.connect import RedisStore

# More than one script on durable takes, whose people all have the same count.
_PAGE = 500

_log = structlog.get_logger(__name__)

MergeNewer: TypeAlias = "Callable[[Sequence[int]], Awaitable[Mapping[int, str]]]"


class UnconfirmedChanges:
    """Compares durable's applications with local's confirmations, from where it stopped last.

    Args of the constructor:
        local, durable: Behind the gates: where it stopped must not be told to a local that came
            back older in the middle.
        merge_newer: Takes from durable what is newer there; returns why it could not of some.
        push_again: Makes everybody travel again who was confirmed after a count of durable's.
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
        self._absorb_newer = merge_newer
        self._push_again = push_again
        self._seen = 0

    async def check(self) -> None:
        """Looks at what durable took until the last call: the rest may just be under way.

        Raises:
            StoreUnavailableError: A server is down.
        """
        applied = int(cast("bytes | None", await self._durable.run("GET", keys.APPLIED)) or 0)
        checked = await load_checked(self._local)
        if applied < max(self._seen, checked):
            # It was emptied or restored under open connections; nobody else may send anything.
            await self._push_again(applied)
        last, self._seen = min(self._seen, applied), applied
        if checked < last:
            await merge_unconfirmed(
                self._local, self._durable, self._absorb_newer, after=checked, last=last
            )
            await self._local.run("HSET", keys.INCARNATIONS, "checked", last)


async def load_checked(local: RedisStore) -> int:
    """Returns durable's count up to which local was seen to have everything."""
    return int(cast("bytes | None", await local.run("HGET", keys.INCARNATIONS, "checked")) or 0)


async def merge_unconfirmed(
    local: RedisStore,
    durable: RedisStore,
    merge_newer: MergeNewer,
    *,
    after: int,
    last: int | None = None,
) -> int:
    """Takes what is newer on durable of whom it took after a count without a confirmation here.

    Only of people who are known here: of others nothing can be older. Whoever cannot be taken over
    is marked dirty, so that the relay sets them aside and tries again. Returns how many there were.
    """
    total = 0
    async for page in _scan_taken(durable, after, last):
        ids = [person_id for person_id, _ in page]
        known, confirmed = cast(
            "list[list[float | None]]",
            await local.run_together(
                [("ZMSCORE", keys.PEOPLE, *ids), ("ZMSCORE", keys.CONFIRMED, *ids)]
            ),
        )
        ahead = [
            person_id
            for (person_id, taken), is_known, seen in zip(page, known, confirmed, strict=True)
            if is_known is not None and (seen or 0) < taken
        ]
        if ahead:
            refused = await merge_newer(ahead)
            for person_id in refused:
                await local.run_together(
                    [("SADD", keys.DIRTY, person_id), ("XADD", keys.OUTBOX, "*", "u", person_id)]
                )
            total += len(ahead)
    if total:
        _log.info("unconfirmed_on_durable", people=total)
    return total


async def _scan_taken(
    durable: RedisStore, after: int, last: int | None
) -> AsyncGenerator[list[tuple[int, int]], None]:
    """Yields pages of people with durable's count when it took them last, in that order."""
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
            yield [(int(person), int(taken)) for person, taken in rows]
        if len(rows) < _PAGE:
            return
        # The page may have ended within a count: those are met twice.
        start = str(int(rows[-1][1]))
