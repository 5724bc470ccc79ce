"""A person's collections on the local Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sponsorsync.domain.errors import InvalidInputError, StoreConflictError
from sponsorsync.domain.parts import Presence
from sponsorsync.domain.preferences import ChangeResult, CollectionState, encode_item
from sponsorsync.store import keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sponsorsync.domain.preferences import PreferenceRules
    from sponsorsync.store.connect import RedisStore


class PreferenceStore:
    """Reads and changes preferences, one round trip each.

    Every method raises InvalidInputError or TooLargeError for what the rules do not allow, and
    StoreConflictError where the person's number belongs to a visitor of the application.
    """

    def __init__(self, local: RedisStore, rules: PreferenceRules) -> None:
        self._local = local
        self._rules = rules

    async def load(self, person_id: int, collection: str) -> CollectionState:
        """Returns the collection.

        With no durable side to ask, UNKNOWN is answered as what the local Redis has: nobody knows
        better. This is the place where asking the durable side begins once there is one.
        """
        self._rules.check_collection(collection)
        reply = await self._run("read_preferences", person_id, collection, [collection])
        return CollectionState(
            presence=Presence(_text(reply[0])),
            items=tuple(sorted(_text(member) for member in cast("list[bytes]", reply[1]))),
        )

    async def change(
        self, person_id: int, collection: str, *, add: Sequence[str], remove: Sequence[str]
    ) -> ChangeResult:
        """Adds and removes items, all or nothing; doing it twice changes nothing more."""
        self._rules.check_collection(collection)
        self._rules.check_change(add, remove)
        to_add, to_remove = tuple(dict.fromkeys(add)), tuple(dict.fromkeys(remove))
        reply = await self._run(
            "change_preferences",
            person_id,
            collection,
            [person_id, collection, self._rules.max_items, len(to_add), *to_add, *to_remove],
            keys.DIRTY,
            keys.OUTBOX,
        )
        if reply[0] == b"full":
            raise InvalidInputError(self._rules.full_message(collection, cast("int", reply[1])))
        added, removed, size = cast("tuple[int, int, int]", reply[1:])
        return ChangeResult(added=added, removed=removed, size=size)

    async def filter(self, person_id: int, collection: str, ids: Sequence[str]) -> list[str]:
        """Returns the ids that are not in the collection, in order, with their duplicates."""
        self._rules.check_collection(collection)
        self._rules.check_filter(ids)
        reply = await self._run(
            "filter_preferences", person_id, collection, [collection, *map(encode_item, ids)]
        )
        found = cast("bytes", reply[1])
        return [item for item, bit in zip(ids, found, strict=True) if bit == ord("0")]

    async def _run(
        self,
        script: str,
        person_id: int,
        collection: str,
        arguments: Sequence[bytes | str | int],
        *more_keys: str,
    ) -> list[object]:
        reply = await self._local.run_script(
            script,
            [
                keys.preferences(person_id, collection),
                keys.meta(person_id),
                keys.visitor(person_id),
                *more_keys,
            ],
            arguments,
        )
        answer = cast("list[object]", reply)
        if answer[0] == b"visitor":
            raise StoreConflictError(
                "Your GitHub number is in use by an anonymous visitor of the application, so your "
                "preferences cannot be kept apart from theirs. The operator has to move the "
                "application's visitor counter above 10^12."
            )
        return answer


def _text(value: object) -> str:
    # What the application wrote itself need not be UTF-8; an answer in JSON has to be.
    return cast("bytes", value).decode(errors="replace")
