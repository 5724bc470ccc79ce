"""What a person may ask for about their own data: all of it, and the end of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sponsorsync.domain.account import PersonalExport, StoredPersonalData
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.store.stored_personal_data import load_stored_personal_data

if TYPE_CHECKING:
    from sponsorsync.domain.catalog import Catalog
    from sponsorsync.redis_pair import RedisPair
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.people import PeopleStore

# A person waits for it; what takes longer goes on by itself.
_PUSH_S = 2.0


class PersonalData:
    """Exports and deletes accounts on both sides."""

    def __init__(
        self,
        redis_pair: RedisPair,
        people: PeopleStore,
        catalog: Catalog,
    ) -> None:
        self._redis_pair = redis_pair
        self._people = people
        self._catalog = catalog

    async def export(self, person_id: int) -> PersonalExport:
        """Returns all that both sides hold of a person.

        Raises:
            StoreUnavailableError: Local cannot be asked. That durable cannot is said in the export.
        """
        local = await self._load(self._redis_pair.local, person_id)
        if self._redis_pair.durable is None:
            return PersonalExport(local=local, durable=None, note="No durable Redis is configured.")
        try:
            durable = await self._load(self._redis_pair.durable, person_id)
        except StoreUnavailableError as error:
            return PersonalExport(local=local, durable=None, note=str(error))
        return PersonalExport(local=local, durable=durable, note=None)

    async def delete(self, person_id: int) -> bool:
        """Removes an account; returns whether durable has confirmed it already.

        Local is one script, after which nothing older comes back from anywhere. Durable follows at
        once, or as soon as it can be reached.

        Raises:
            StoreUnavailableError: Local cannot be asked; nothing was removed.
        """
        await self._people.delete_account(person_id)
        engine = self._redis_pair.engine
        if engine is None:
            return True
        try:
            async with asyncio.timeout(_PUSH_S):
                return await engine.push_now(person_id)
        except (StoreUnavailableError, TimeoutError):
            return False

    async def _load(self, store: RedisStore, person_id: int) -> StoredPersonalData:
        return await load_stored_personal_data(store, person_id, self._catalog)
