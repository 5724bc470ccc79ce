"""Imports an anonymous visitor's preferences into a person's account."""

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
    """Copies the preferences of an anonymous visitor into a person's collections."""

    local: RedisStore
    people: PeopleStore
    preferences: PreferenceStore
    collections: Sequence[str]
    max_batch: int

    async def run(self, person_id: int, visitor: int) -> dict[str, int]:
        """Adds the visitor's items to the person's collections; the visitor's own data stay.

        Each batch is one change; after a failure, another import adds the rest.

        Returns:
            The number of the visitor's items by collection, including those that the person had
            already.

        Raises:
            NotFoundError: There is no such person, or no such visitor.
            InvalidInputError: A visitor's item is invalid in a person's collection, or the
                collection is full.
            StoreConflictError: A key has the wrong type, or a visitor has the person's number.
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
        """Yields the members of a set in batches, each small enough for one change."""
        found = await self._type_of(key)
        if found == "none":
            return
        if found != "set":
            raise StoreConflictError(f"{key} holds a {found}, not a set; it was left alone.")
        # SMEMBERS and not SSCAN, which may return a member twice. A collection's size is limited.
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
