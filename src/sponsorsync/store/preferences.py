"""Preferences on the local Redis."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from sponsorsync.domain.errors import DurableUnavailableError, InvalidInputError, StoreConflictError
from sponsorsync.domain.parts import Presence
from sponsorsync.domain.preferences import (
    ChangeResult,
    CollectionState,
    PreferenceRules,
    encode_item,
)
from sponsorsync.store.connect import Argument, RedisStore, ScriptCall
from sponsorsync.store.fetching import Fetcher, ask_until_known


@dataclass
class PreferenceStore:
    """Reads and changes preferences, in one round trip if local has the collection.

    Every method raises InvalidInputError or TooLargeError for arguments against the rules, and
    StoreConflictError if an anonymous visitor of the application has the same number as the person.
    `load` and `filter` raise DurableUnavailableError if the collection must be fetched from
    durable, which cannot be asked.
    """

    local: RedisStore
    rules: PreferenceRules
    fetcher: Fetcher | None = None

    async def load(self, person_id: int, collection: str) -> CollectionState:
        """Returns the collection."""
        self.rules.check_collection(collection)
        answer = await self._read(person_id, collection, "list")
        return CollectionState(
            presence=Presence(cast("bytes", answer[0]).decode()),
            # Items that the application added need not be UTF-8, but a JSON answer has to be.
            items=tuple(
                sorted([each.decode(errors="replace") for each in cast("list[bytes]", answer[1])])
            ),
        )

    async def filter(self, person_id: int, collection: str, ids: Sequence[str]) -> list[str]:
        """Returns the ids that are not in the collection, in their order, duplicates included."""
        self.rules.check_collection(collection)
        self.rules.check_filter(ids)
        answer = await self._read(person_id, collection, "filter", *map(encode_item, ids))
        found = cast("bytes", answer[1])
        return [item for item, bit in zip(ids, found, strict=True) if bit == ord("0")]

    async def change(
        self, person_id: int, collection: str, *, add: Sequence[str], remove: Sequence[str]
    ) -> ChangeResult:
        """Adds and removes items, all or nothing; the same change again has no further effect.

        If the collection is unknown and durable cannot be asked, or if local may be older than
        durable, the change is saved as pending.
        """
        self.rules.check_collection(collection)
        self.rules.check_change(add, remove)
        to_add, to_remove = tuple(dict.fromkeys(add)), tuple(dict.fromkeys(remove))

        def call(how: str, token: str) -> ScriptCall:
            fixed = (person_id, collection, self.rules.max_items, how, token, len(to_add))
            return "change_preferences", (*fixed, *to_add, *to_remove)

        async def run(how: str) -> list[object]:
            name, arguments = call(how, "")
            return cast("list[object]", await self.local.run_script(name, *arguments))

        if self.fetcher is None:
            answer = await run("local_only")
        elif not self.fetcher.is_local_verified:
            answer = await run("wait!")
        else:
            try:
                answer = await ask_until_known(
                    person_id, self.fetcher, self.local, partial(call, "ask")
                )
            except DurableUnavailableError:
                answer = await run("wait")
        return self._to_result(collection, _refuse_visitor(answer))

    def _to_result(self, collection: str, answer: list[object]) -> ChangeResult:
        if answer[0] == b"full":
            raise InvalidInputError(
                self.rules.format_full_message(collection, cast("int", answer[1]))
            )
        if answer[0] == b"pending":
            return ChangeResult(added=None, removed=None, size=None, is_pending=True)
        added, removed, size = cast("tuple[int, int, int]", answer[1:])
        return ChangeResult(added=added, removed=removed, size=size)

    async def _read(
        self, person_id: int, collection: str, how: str, *ids: Argument
    ) -> list[object]:
        answer = await ask_until_known(
            person_id,
            self.fetcher,
            self.local,
            lambda token: ("read_preferences", (person_id, collection, token, how, *ids)),
        )
        return _refuse_visitor(answer)


def _refuse_visitor(answer: list[object]) -> list[object]:
    if answer[0] == b"visitor":
        raise StoreConflictError(
            "Your GitHub number is in use by an anonymous visitor of the application, so your "
            "preferences cannot be kept apart from theirs. The operator has to move the "
            "application's visitor counter above 10^12."
        )
    return answer
