"""Data on reconciles in the local Redis: requests, waiting refreshes, and the last results."""

import json
import secrets
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime
from typing import cast

from sponsorsync.domain.reconciliation import FailedReconcile
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.locks import HeldLock, hold_lock


class ReconciliationStore:
    """Stores requests for reconciles with GitHub, and the results of the last ones."""

    def __init__(self, local: RedisStore, *, sponsorables: Sequence[str]) -> None:
        self._local = local
        self._sponsorables = sponsorables

    def hold_lock(self) -> AbstractAsyncContextManager[HeldLock | None]:
        """Holds the lock of the replica that runs a reconcile with GitHub."""
        return hold_lock(self._local, keys.RECONCILING, ttl_ms=keys.RECONCILING_TTL_MS)

    async def load_reconciled(self, sponsorable: str) -> datetime | None:
        """Returns when the last full reconcile began; None if there was none."""
        reply = await self._local.run("HGET", keys.RECONCILED, sponsorable)
        return None if reply is None else datetime.fromtimestamp(int(cast("bytes", reply)), UTC)

    async def save_reconciled(
        self, sponsorable: str, began_at: datetime, request: str | None = None
    ) -> None:
        """Records a full reconcile; `began_at` is a time before its first request to GitHub.

        `request` is the token that `load_requests` returned at that time. Removes this request, but
        not a later one.
        """
        began_s = int(began_at.timestamp())
        await self._local.run_script("save_reconciled", sponsorable, began_s, request or "")

    async def load_failed(self) -> dict[str, FailedReconcile]:
        """Returns each sponsorable's last failed reconcile since its last full reconcile."""
        reply = await self._local.run("HGETALL", keys.RECONCILE_FAILED)
        found = {}
        for sponsorable, text in cast("dict[bytes, bytes]", reply).items():
            # Skips values that another program wrote.
            with suppress(ValueError, KeyError, TypeError, OverflowError):
                record = json.loads(text)
                at = datetime.fromtimestamp(record["at"], UTC)
                found[sponsorable.decode()] = FailedReconcile(at=at, reason=str(record["reason"]))
        return found

    async def save_failed(self, sponsorable: str, failed: FailedReconcile) -> None:
        """Records a failed reconcile."""
        record = {"at": int(failed.at.timestamp()), "reason": failed.reason}
        await self._local.run("HSET", keys.RECONCILE_FAILED, sponsorable, json.dumps(record))

    async def load_requests(self) -> dict[str, str]:
        """Returns the token of the latest request for a reconcile, by sponsorable.

        `save_request` makes requests, and so does sweep_entitlements.lua at the announced end of a
        monthly sponsorship.
        """
        reply = await self._local.run("HGETALL", keys.RECONCILE_REQUESTS)
        found = {
            sponsorable.decode(): token.decode()
            for sponsorable, token in cast("dict[bytes, bytes]", reply).items()
        }
        return {each: token for each, token in found.items() if each in self._sponsorables}

    async def save_request(self, sponsorable: str) -> None:
        """Requests a reconcile; the request stays until a later full reconcile has succeeded."""
        await self._local.run("HSET", keys.RECONCILE_REQUESTS, sponsorable, secrets.token_hex(8))

    async def admit_refresh(self, person_id: int) -> int:
        """Applies the rate limit of POST /me/refresh; returns 0 (admitted) or the wait in ms."""
        reply = await self._local.run_script("admit_refresh", person_id, *self._sponsorables)
        return cast("int", reply)

    async def load_awaiting(self, sponsorable: str) -> list[int]:
        """Returns the people whose refresh the next full reconcile answers."""
        reply = await self._local.run("SMEMBERS", keys.awaiting_reconcile(sponsorable))
        return [int(member) for member in cast("set[bytes]", reply) if member.isdigit()]

    async def settle_awaiting(self, sponsorable: str, person_ids: Sequence[int]) -> None:
        """Removes people whose refresh has been answered."""
        await self._local.run("SREM", keys.awaiting_reconcile(sponsorable), *person_ids)
