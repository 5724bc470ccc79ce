"""Fetches people's data from durable when local has lost it or never had it."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import cast

import structlog

from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.errors import (
    DurableUnavailableError,
    StoreConflictError,
    StoreUnavailableError,
)
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore, Reply, ScriptCall
from sponsorsync.sync.incarnations import Incarnations
from sponsorsync.sync.person_records import PersonRecord, pack_people

# Within this time after a failure durable is not asked again, so that requests fail at once.
_DOWN_S = 1.0

_log = structlog.get_logger(__name__)


class Hydrator:
    """Fetches people from durable and merges them into local.

    A fetch holds a lease for each person: `merge.lua` merges only while the lease has its token.
    """

    def __init__(
        self,
        local: RedisStore,
        durable: RedisStore,
        *,
        catalog: Catalog,
        incarnations: Incarnations,
    ) -> None:
        self._local = local
        self._durable = durable
        self._catalog = catalog
        self._incarnations = incarnations
        self._down_until = 0.0

    @property
    def is_local_verified(self) -> bool:
        """Whether local is known not to be older than durable."""
        return self._incarnations.is_local_verified

    async def fetch(self, person_id: int, token: str, then: ScriptCall) -> Reply:
        """Fetches the unknown parts of one person and releases the lease, in two round trips.

        Returns the reply of the script `then`, which local runs right after the merge.

        Raises:
            DurableUnavailableError: Durable cannot be asked; the lease is released.
            StoreConflictError: The person has a wrong-type key; the lease is released.
        """
        refused, answer = await self._fetch_leased([person_id], token, then)
        if refused:
            raise StoreConflictError(
                "A key in one of the two Redis servers holds data of another kind, so nothing was "
                "fetched from durable storage. The operator's log names it."
            )
        return answer

    async def hydrate(self, ids: Sequence[int]) -> dict[int, str]:
        """Fetches people whose lease is free; returns those who could not be fetched, and why.

        Raises:
            DurableUnavailableError: Durable cannot be asked; the leases are released.
        """
        token = secrets.token_hex(8)
        taken = await self._local.run_together(
            [("SET", keys.lease(each), token, "NX", "PX", keys.LEASE_TTL_MS) for each in ids]
        )
        mine = [each for each, reply in zip(ids, taken, strict=True) if reply is not None]
        if not mine:
            return {}
        refused, _ = await self._fetch_leased(mine, token)
        return refused

    async def merge_newer(self, ids: Sequence[int]) -> dict[int, str]:
        """Merges parts that are known on local and newer on durable.

        Returns the people who could not be merged, and why.
        """
        refused, _ = await self._fetch(ids, "")
        return refused

    async def _fetch_leased(
        self, ids: Sequence[int], token: str, then: ScriptCall | None = None
    ) -> tuple[dict[int, str], Reply]:
        try:
            refused, answer = await self._fetch(ids, token, then)
        except BaseException:
            # Also if the request is cancelled: else others would wait until the lease expires.
            await asyncio.shield(self._release(ids, token))
            raise
        if refused:
            await self._release(list(refused), token)
        return refused, answer

    async def _fetch(
        self, ids: Sequence[int], token: str, then: ScriptCall | None = None
    ) -> tuple[dict[int, str], Reply]:
        """Merges durable's records of people, then runs the script `then` on local.

        Returns two values: the people who have a wrong-type key, each with the error; and the reply
        of `then`.
        """
        records = await self._ask_durable(ids)
        refused = {p.person_id: p.error for p in records if p.error is not None}
        good = [record for record in records if record.error is None]
        calls: list[ScriptCall] = [
            ("merge", (token, self._catalog.json, record.person_id, record.content))
            for record in good
        ]
        replies = await self._local.run_calls([*calls, *([then] if then and good else [])])
        for record, reply in zip(good, replies, strict=False):
            if reply not in (b"ok", b"lost"):
                refused[record.person_id] = cast("bytes", reply).decode(errors="replace")
        for person_id, reason in refused.items():
            _log.warning("not_fetched", person=person_id, reason=reason)
        return refused, replies[-1] if replies else None

    async def _ask_durable(self, ids: Sequence[int]) -> list[PersonRecord]:
        loop = asyncio.get_running_loop()
        if loop.time() < self._down_until:
            raise _unavailable()
        try:
            return await pack_people(
                self._durable,
                ids,
                what="all",
                catalog=self._catalog,
                as_dumps=self._incarnations.can_dump_to_local,
            )
        except StoreUnavailableError as error:
            self._down_until = loop.time() + _DOWN_S
            raise _unavailable() from error

    async def _release(self, ids: Sequence[int], token: str) -> None:
        try:
            await self._local.run_scripts("release_lease", [[each, token] for each in ids])
        except StoreUnavailableError as error:
            _log.warning("leases_not_released", people=len(ids), reason=str(error))


def _unavailable() -> DurableUnavailableError:
    return DurableUnavailableError(
        "Some of your data are only in durable storage, which cannot be reached at the moment."
    )
