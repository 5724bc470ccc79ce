"""Noticing that a server came back older than it was, before anything is lost by it.

Each server has a run_id for each incarnation. Local keeps the two that were last compared in
`sponsorsync:epoch`, and for each person durable's counter of applications when it confirmed them.

Local's versions grow with time over all people, so a local that came back from an older append-only
file holds a prefix of them: whoever durable holds in a version later than local's last one is newer
there. Durable counts its applications, so a durable that was restored from a backup shows a smaller
counter: whoever was confirmed after that travels again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import structlog

from sponsorsync.store import keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sponsorsync.store.connect import Gate, RedisStore

_BATCH = 500

_log = structlog.get_logger(__name__)


class Epochs:
    """Compares the two servers whenever one of them is another incarnation.

    Args of the constructor:
        local, durable: Connections that no gate watches.
        local_gate, durable_gate: What everybody else's connections go through.
    """

    def __init__(
        self, local: RedisStore, durable: RedisStore, *, local_gate: Gate, durable_gate: Gate
    ) -> None:
        self._local = local
        self._durable = durable
        self._local_gate = local_gate
        self._durable_gate = durable_gate
        self.is_local_verified = True

    async def check(self, absorb_newer: Callable[[Sequence[int]], Awaitable[object]]) -> bool:
        """Compares what has to be compared, and opens the gates.

        Returns whether local knew of no epoch: it is new, or was flushed.

        Args:
            absorb_newer: Takes from durable what is newer there.

        Raises:
            StoreUnavailableError: A server cannot be asked. Local's gate is open all the same once
                local answers; changes then wait until durable has been asked.
        """
        local_id = await self._local.load_run_id()
        compared = await self._local.run("HGET", keys.EPOCH, "local")
        is_same_local = compared == local_id.encode()
        since = 0 if is_same_local else await self._note_last_version(local_id)
        # Where nobody is known, nothing can be older.
        self.is_local_verified = is_same_local or since == 0
        self._local_gate.open_for(local_id)

        durable_id = await self._durable.load_run_id()
        self._durable_gate.open_for(durable_id)
        applied = int(cast("bytes", await self._durable.run("GET", keys.APPLIED)) or 0)
        await self.push_again(applied)
        if not self.is_local_verified:
            await self._absorb_newer(since, absorb_newer)
        await self._local.run_together(
            [
                ("DEL", keys.EPOCH),
                ("HSET", keys.EPOCH, "local", local_id, "durable", durable_id),
            ]
        )
        self.is_local_verified = True
        return compared is None

    async def is_known(self) -> bool:
        """Tells whether local still remembers the epoch: a FLUSHALL takes it along."""
        return await self._local.run("HEXISTS", keys.EPOCH, "local") == 1

    async def _note_last_version(self, local_id: str) -> int:
        """Returns the last version that this incarnation of local came back with.

        It is noted before anybody's gate opens: whoever signs in before durable can be asked gets a
        later version than all that durable has.
        """
        last = cast(
            "list[tuple[bytes, float]]",
            await self._local.run("ZREVRANGE", keys.PEOPLE, 0, 0, "WITHSCORES"),
        )
        field = f"since:{local_id}"
        version = f"{last[0][1]:.0f}" if last else "0"
        await self._local.run("HSETNX", keys.EPOCH, field, version)
        # None: another replica has just finished comparing.
        noted = cast("bytes | None", await self._local.run("HGET", keys.EPOCH, field))
        return int(noted or version)

    async def push_again(self, applied: int) -> None:
        """Makes everybody travel again whom durable confirmed after this count of applications."""
        total = 0
        while marked := cast("int", await self._local.run_script("push_again", applied, _BATCH)):
            total += marked
        if total:
            _log.warning("durable_came_back_older", applied=applied, pushed_again=total)

    async def _absorb_newer(
        self, since: int, absorb_newer: Callable[[Sequence[int]], Awaitable[object]]
    ) -> None:
        newer = cast(
            "list[bytes]",
            await self._durable.run("ZRANGEBYSCORE", keys.PEOPLE, f"({since}", "+inf"),
        )
        ids = [int(each) for each in newer]
        for at in range(0, len(ids), _BATCH):
            await absorb_newer(ids[at : at + _BATCH])
        if ids:
            _log.warning("local_came_back_older", taken_from_durable=len(ids))
