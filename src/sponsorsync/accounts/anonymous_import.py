"""What the application's anonymous visitors chose, for the account of who they turn out to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sponsorsync.domain.errors import InvalidInputError, NotFoundError, StoreConflictError
from sponsorsync.store import keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sponsorsync.store.connect import RedisStore
    from sponsorsync.store.people import PeopleStore
    from sponsorsync.store.preferences import PreferenceStore


class AnonymousImport:
    """Copies a visitor's sets into a person's collections."""

    def __init__(
        self,
        local: RedisStore,
        people: PeopleStore,
        preferences: PreferenceStore,
        *,
        collections: Sequence[str],
        max_batch: int,
    ) -> None:
        self._local = local
        self._people = people
        self._preferences = preferences
        self._collections = collections
        self._max_batch = max_batch

    async def merge(self, person_id: int, visitor: int) -> dict[str, int]:
        """Adds what the visitor has, and leaves the visitor's own data alone.

        Each batch is a change of its own: after a failure in the middle, doing it again adds the
        rest.

        Returns:
            How many items each collection was given; adding them again would change nothing.

        Raises:
            NotFoundError: There is no such person, or no such visitor.
            InvalidInputError: A visitor's item may not stand in a person's collection, or there is
                no room for it.
            StoreConflictError: A key holds another type, or the person's number is a visitor's.
        """
        if await self._type_of(keys.visitor(visitor)) != "hash":
            raise NotFoundError(
                f"There is no visitor {visitor}: the application keeps no hash "
                f"{keys.visitor(visitor)}. Nothing was changed."
            )
        if (await self._people.load_account(person_id)).profile is None:
            raise NotFoundError(
                f"Nobody with the number {person_id} has signed in. Nothing was changed."
            )
        given = {}
        for collection in self._collections:
            given[collection] = 0
            async for items in self._scan_set(keys.preferences(visitor, collection)):
                await self._preferences.change(person_id, collection, add=items, remove=[])
                given[collection] += len(items)
        return given

    async def _scan_set(self, key: str) -> AsyncIterator[list[str]]:
        """Yields pages that one change may carry."""
        found = await self._type_of(key)
        if found == "none":
            return
        if found != "set":
            raise StoreConflictError(f"{key} holds a {found}, not a set; it was left alone.")
        # All of it at once: a collection is bounded, and SSCAN may give a member twice.
        members = cast("set[bytes]", await self._local.run("SMEMBERS", key))
        try:
            items = sorted(member.decode() for member in members)
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"{key} has a member that is no UTF-8 text; nothing of it was copied."
            ) from None
        for at in range(0, len(items), self._max_batch):
            yield items[at : at + self._max_batch]

    async def _type_of(self, key: str) -> str:
        return cast("bytes", await self._local.run("TYPE", key)).decode()
