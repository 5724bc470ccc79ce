"""Import of the preferences that an anonymous visitor chose into a person's account."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import cast

from sponsorsync.domain.errors import InvalidInputError, NotFoundError, StoreConflictError
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.people import PeopleStore
from sponsorsync.store.preferences import PreferenceStore


@dataclass
class AnonymousImport:
    """Copies a visitor's sets into a person's collections."""

    local: RedisStore
    people: PeopleStore
    preferences: PreferenceStore
    collections: Sequence[str]
    max_batch: int

    async def run(self, person_id: int, visitor: int) -> dict[str, int]:
        """Adds the visitor's items to the person's collections; the visitor's own data stay.

        Each batch is one change, so another import after a failure adds the rest.

        Returns:
            The number of items imported into each collection; a repetition changes nothing.

        Raises:
            NotFoundError: There is no such person, or no such visitor.
            InvalidInputError: A visitor's item is invalid in a person's collection, or the
                collection is full.
            StoreConflictError: A key has the wrong type, or the person's number is a visitor's.
        """
        if await self._type_of(keys.visitor(visitor)) != "hash":
            raise NotFoundError(
                f"There is no visitor {visitor}: the application has no hash "
                f"{keys.visitor(visitor)}. Nothing was changed."
            )
        if (await self.people.load_account(person_id)).profile is None:
            raise NotFoundError(
                f"Nobody with the number {person_id} has signed in. Nothing was changed."
            )
        counts = {}
        for collection in self.collections:
            counts[collection] = 0
            async for items in self._scan_set(keys.preferences(visitor, collection)):
                await self.preferences.change(person_id, collection, add=items, remove=[])
                counts[collection] += len(items)
        return counts

    async def _scan_set(self, key: str) -> AsyncIterator[list[str]]:
        """Yields the members of a set in batches of the size that one change may have."""
        found = await self._type_of(key)
        if found == "none":
            return
        if found != "set":
            raise StoreConflictError(f"{key} holds a {found}, not a set; it was left alone.")
        # SMEMBERS, since a collection is bounded and SSCAN may return a member twice.
        members = cast("set[bytes]", await self.local.run("SMEMBERS", key))
        try:
            items = sorted(member.decode() for member in members)
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"{key} has a member that is not UTF-8 text; nothing of this set was imported."
            ) from None
        for at in range(0, len(items), self.max_batch):
            yield items[at : at + self.max_batch]

    async def _type_of(self, key: str) -> str:
        return cast("bytes", await self.local.run("TYPE", key)).decode()
