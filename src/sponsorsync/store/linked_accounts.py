"""Accounts at other services, and the people that linked them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.locks import hold_lock

_WAIT_S = 5.0


class LinkedAccountStore:
    """Finds the person that linked an account, and lets only one person at a time link it."""

    def __init__(self, local: RedisStore) -> None:
        self._local = local

    async def find_person(
        self, source: EntitlementSource, sponsorable: str, account_id: str
    ) -> int | None:
        """Returns the person that linked an account, or None."""
        index = keys.linked_accounts(source, sponsorable)
        reply = await self._local.run("HGET", index, account_id)
        return None if reply is None else int(cast("bytes", reply))

    @asynccontextmanager
    async def hold_lock(self, source: EntitlementSource, account_id: str) -> AsyncIterator[None]:
        """Keeps others from linking the same account while the context is open.

        Raises StoreUnavailableError if another holder does not finish in time, or if local cannot
        be reached.
        """
        key = keys.linking(source, account_id)
        async with hold_lock(self._local, key, ttl_ms=keys.LINKING_TTL_MS, wait_s=_WAIT_S) as lock:
            if lock is None:
                raise StoreUnavailableError(
                    f"Another person is linking the same account at {source.title()}. Try again "
                    "in a moment."
                )
            yield
