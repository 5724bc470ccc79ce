"""Personal data: the export of an account, and its deletion."""

import asyncio
from dataclasses import dataclass

from sponsorsync.domain.account import PersonalExport
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.redis_pair import RedisPair
from sponsorsync.store.people import PeopleStore
from sponsorsync.store.stored_personal_data import load_stored_personal_data

# A person waits this long for the push of a deletion to durable; after it, the relay goes on.
_PUSH_S = 2.0


@dataclass
class PersonalData:
    """Exports and deletes accounts on both Redises."""

    redis_pair: RedisPair
    people: PeopleStore
    catalog: Catalog

    async def export(self, person_id: int) -> PersonalExport:
        """Returns all data that both Redises store about a person.

        Raises:
            StoreUnavailableError: Local cannot be reached. If durable cannot, the export has only
                local's data and the reason in its note.
        """
        pair, catalog = self.redis_pair, self.catalog
        local = await load_stored_personal_data(pair.local, person_id, catalog)
        if pair.durable is None:
            return PersonalExport(local=local, durable=None, note="No durable Redis is configured.")
        try:
            durable = await load_stored_personal_data(pair.durable, person_id, catalog)
        except StoreUnavailableError as error:
            return PersonalExport(local=local, durable=None, note=str(error))
        return PersonalExport(local=local, durable=durable, note=None)

    async def delete(self, person_id: int) -> bool:
        """Deletes an account; returns whether durable has confirmed it already.

        One script deletes the account on local, and nothing older comes back afterwards. Durable
        deletes it at once, or as soon as it can be reached.

        Raises:
            StoreUnavailableError: Local cannot be reached; nothing was deleted.
        """
        await self.people.delete_account(person_id)
        engine = self.redis_pair.engine
        if engine is None:
            return True
        try:
            async with asyncio.timeout(_PUSH_S):
                return await engine.push_now(person_id)
        except (StoreUnavailableError, TimeoutError):
            return False
