"""Detects a server that came back with older data, before this loses newer data of the other one.

Each start of a server has a new run_id: its incarnation. Local stores in `sponsorsync:incarnations`
the run_ids of the two servers when they were last compared. Durable counts the scripts that applied
records there, and stores for each person the count at their last record. Local stores the count at
each person's last confirmation.

A local that came back from an older append-only file lacks the last confirmations, so durable may
have newer data of these people: they are merged from there. A durable that was restored from a
backup has a smaller count, so people who were confirmed at a higher one are pushed again.
"""

from typing import cast

import structlog

from sponsorsync.store import keys
from sponsorsync.store.connect import Gate, RedisStore
from sponsorsync.sync.dump_format import can_read_dumps
from sponsorsync.sync.shared_database import refuse_shared_database
from sponsorsync.sync.unconfirmed import MergeNewer, load_checked, merge_unconfirmed

_BATCH = 500

_log = structlog.get_logger(__name__)


class Incarnations:
    """Compares the two servers whenever one of them is another incarnation.

    Args of the constructor:
        local, durable: Stores without gates.
        local_gate, durable_gate: The gates of all other stores.

    Attributes:
        is_local_verified: Whether local is known not to be older than durable.
        can_dump_to_durable, can_dump_to_local: Whether the named server reads the other one's
            dumps (dump_format.py).
    """

    def __init__(
        self, local: RedisStore, durable: RedisStore, *, local_gate: Gate, durable_gate: Gate
    ) -> None:
        self._local = local
        self._durable = durable
        self._local_gate = local_gate
        self._durable_gate = durable_gate
        self.is_local_verified = True
        self.can_dump_to_durable = False
        self.can_dump_to_local = False

    async def check(self, merge_newer: MergeNewer) -> bool:
        """Compares the servers as far as necessary, and opens the gates.

        Args:
            merge_newer: Merges into local the parts of people that are newer on durable.

        Returns:
            Whether local had stored no incarnation, so that it is new or was flushed.

        Raises:
            SettingsError: Both addresses lead to one database; durable's gate stays closed.
            StoreUnavailableError: A server does not answer. Local's gate opens as soon as local
                answers; changes then wait for durable.
        """
        local_id = await self._local.load_run_id()
        compared = await self._local.run("HGET", keys.INCARNATIONS, "local")
        is_same_local = compared == local_id.encode()
        # A local without people cannot hold older data than durable.
        self.is_local_verified = is_same_local or await self._local.run("ZCARD", keys.PEOPLE) == 0
        self._local_gate.open_for(local_id)

        durable_id = await self._durable.load_run_id()
        await refuse_shared_database(self._local, self._durable)
        self._durable_gate.open_for(durable_id)
        applied = int(cast("bytes", await self._durable.run("GET", keys.APPLIED)) or 0)
        await self.push_again(applied)
        self.can_dump_to_durable = await can_read_dumps(self._durable, self._local)
        self.can_dump_to_local = await can_read_dumps(self._local, self._durable)
        if not self.is_local_verified:
            checked = await load_checked(self._local)
            newer = await merge_unconfirmed(self._local, self._durable, merge_newer, after=checked)
            if newer and compared is not None:
                _log.warning("local_came_back_older", compared=newer)
        await self._local.run(
            *("HSET", keys.INCARNATIONS, "local", local_id, "durable", durable_id),
            *("dumps:durable", int(self.can_dump_to_durable)),
            *("dumps:local", int(self.can_dump_to_local)),
        )
        self.is_local_verified = True
        return compared is None

    async def is_recorded(self) -> bool:
        """Returns whether local still stores its compared incarnation, which FLUSHALL removes."""
        return await self._local.run("HEXISTS", keys.INCARNATIONS, "local") == 1

    async def push_again(self, applied: int) -> None:
        """Marks people dirty whose last confirmation has a higher count than `applied`.

        `applied` is durable's present count, so durable has lost what it had confirmed of them.
        """
        total = 0
        while marked := cast("int", await self._local.run_script("push_again", applied, _BATCH)):
            total += marked
        if total:
            _log.warning("durable_came_back_older", applied=applied, pushed_again=total)
