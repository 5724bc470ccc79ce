"""Comparisons with GitHub on the local Redis: who asks for one, and how the last ones ended."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from sponsorsync.domain.reconciliation import FailedReconcile
from sponsorsync.store import keys
from sponsorsync.store.locks import hold_lock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.locks import HeldLock


async def load_failed_reconciles(local: RedisStore) -> dict[str, FailedReconcile]:
    """Returns of which sponsorables a comparison has failed since the last complete one.

    Raises:
        StoreConflictError: Somebody else wrote that key.
        StoreUnavailableError: Local cannot be asked.
    """
    reply = cast("dict[bytes, bytes]", await local.run("HGETALL", keys.RECONCILE_FAILED))
    found = {}
    for sponsorable, text in reply.items():
        # What somebody else wrote is none.
        with suppress(ValueError, KeyError, TypeError, OverflowError):
            told = json.loads(text)
            at = datetime.fromtimestamp(told["at"], UTC)
            found[sponsorable.decode()] = FailedReconcile(at=at, reason=str(told["reason"]))
    return found


class ReconciliationStore:
    """Keeps requests for a comparison with GitHub, and the outcome of the last ones."""

    def __init__(self, local: RedisStore, *, sponsorables: Sequence[str]) -> None:
        self._local = local
        self._sponsorables = sponsorables

    def hold_lock(self) -> AbstractAsyncContextManager[HeldLock | None]:
        """Holds the right to compare with GitHub; one replica has it at a time."""
        return hold_lock(self._local, keys.RECONCILING, ttl_ms=keys.RECONCILING_TTL_MS)

    async def load_reconciled(self, sponsorable: str) -> datetime | None:
        """Returns when the last complete comparison with GitHub began."""
        reply = await self._local.run("HGET", keys.RECONCILED, sponsorable)
        return None if reply is None else datetime.fromtimestamp(int(cast("bytes", reply)), UTC)

    async def save_reconciled(
        self, sponsorable: str, began_at: datetime, look: str | None = None
    ) -> None:
        """Notes that a comparison with GitHub was complete.

        Args:
            sponsorable: Who was compared.
            began_at: Before GitHub was asked.
            look: What `load_requests` told then: that look is done, unless somebody asked again
                since.
        """
        await self._local.run_script(
            "save_reconciled", sponsorable, int(began_at.timestamp()), look or ""
        )

    async def load_failed(self) -> dict[str, FailedReconcile]:
        """Returns of which sponsorables a comparison has failed since the last complete one."""
        return await load_failed_reconciles(self._local)

    async def save_failed(self, sponsorable: str, failed: FailedReconcile) -> None:
        """Notes that a comparison with GitHub was not complete."""
        told = {"at": int(failed.at.timestamp()), "reason": failed.reason}
        await self._local.run("HSET", keys.RECONCILE_FAILED, sponsorable, json.dumps(told))

    async def load_requests(self) -> dict[str, str]:
        """Returns at whom GitHub has to be looked again, and what names the latest who asked.

        Besides those of `save_request` these are sponsorables of whom a monthly entitlement has
        ended by itself.
        """
        reply = cast(
            "dict[bytes, bytes]", await self._local.run("HGETALL", keys.RECONCILE_REQUESTS)
        )
        found = {field.decode(): name.decode() for field, name in reply.items()}
        return {each: name for each, name in found.items() if each in self._sponsorables}

    async def save_request(self, sponsorable: str) -> None:
        """Notes that GitHub has to be looked at again, until somebody has done so."""
        await self._local.run("HSET", keys.RECONCILE_REQUESTS, sponsorable, secrets.token_hex(8))

    async def admit_refresh(self, person_id: int) -> int:
        """Returns 0 where GitHub may be asked about a person now, else in how many ms it may."""
        return cast(
            "int", await self._local.run_script("admit_refresh", person_id, *self._sponsorables)
        )

    async def load_awaiting(self, sponsorable: str) -> list[int]:
        """Returns who has asked since, and waits for, a complete comparison."""
        reply = await self._local.run("SMEMBERS", keys.asked(sponsorable))
        return [int(member) for member in cast("set[bytes]", reply) if member.isdigit()]

    async def settle_awaiting(self, sponsorable: str, person_ids: Sequence[int]) -> None:
        """Notes that these have been answered."""
        await self._local.run("SREM", keys.asked(sponsorable), *person_ids)
