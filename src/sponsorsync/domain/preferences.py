"""The rules for collections of preferences and what may stand in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sponsorsync.domain import parts
from sponsorsync.domain.errors import InvalidInputError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sponsorsync.domain.parts import Presence

EXCLUDED_NODES = "mnodes"
"""The collection that the first application's search leaves out of its results."""

MAX_FILTER_IDS = 10_000
"""How many ids one call of the filter may carry."""

_COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def is_collection_name(name: str) -> bool:
    """Tells whether a collection may have this name: it becomes a part and the end of a key."""
    return _COLLECTION_NAME.fullmatch(name) is not None and name != parts.PROFILE


@dataclass(frozen=True, slots=True)
class CollectionState:
    """What the local Redis holds of one collection; `items` are sorted.

    While `presence` is UNKNOWN the items are what this Redis happens to have, and no statement that
    there are no others.
    """

    presence: Presence
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """What a change did: members added and removed, and the size of the collection now.

    While `is_pending` the change is kept, but waits for the durable side to say what else is in the
    collection; then the numbers are None.
    """

    added: int | None
    removed: int | None
    size: int | None
    is_pending: bool = False


@dataclass(frozen=True, slots=True)
class PreferenceRules:
    """What may be stored.

    Attributes:
        collections: The names that exist.
        max_items: Members a person may have in one collection.
        max_item_bytes: Length of a member in UTF-8.
        max_batch: Members one call may add and remove, together.
    """

    collections: Collection[str]
    max_items: int
    max_item_bytes: int
    max_batch: int

    def check_collection(self, collection: str) -> None:
        """Raises InvalidInputError unless the collection exists."""
        if collection not in self.collections:
            known = ", ".join(sorted(self.collections))
            raise InvalidInputError(f"There is no such collection. There is: {known}.")

    def check_change(self, add: Sequence[str], remove: Sequence[str]) -> None:
        """Raises InvalidInputError, or TooLargeError, unless all of the change may be applied."""
        if len(add) + len(remove) > self.max_batch:
            raise TooLargeError(
                f"One call may change {self.max_batch} items; this one has "
                f"{len(add) + len(remove)}. Send several calls."
            )
        for item in add:
            self._check_item(item)
        for item in remove:
            # Whatever is there may be removed, also what somebody else wrote, or an older limit let
            # through.
            encode_item(item)
        if not set(add).isdisjoint(remove):
            raise InvalidInputError(
                "The same item stands in `add` and in `remove`. Send it in one."
            )

    def check_filter(self, ids: Sequence[str]) -> None:
        """Raises TooLargeError when one call of the filter carries too many ids."""
        if len(ids) > MAX_FILTER_IDS:
            raise TooLargeError(
                f"One call filters {MAX_FILTER_IDS} ids; this one has {len(ids)}. "
                "Send several calls."
            )
        for item in ids:
            encode_item(item)

    def format_full_message(self, collection: str, size: int) -> str:
        """Returns the sentence for a change that would make a collection too large."""
        return (
            f"The collection {collection} may hold {self.max_items} items and holds {size}; "
            "nothing was changed. Remove some first."
        )

    def _check_item(self, item: str) -> None:
        encoded = encode_item(item)
        if not encoded:
            raise InvalidInputError("An item is empty. Send the id of a node.")
        if len(encoded) > self.max_item_bytes:
            raise InvalidInputError(
                f"An item is {len(encoded)} bytes long; {self.max_item_bytes} are allowed."
            )
        if _CONTROL.search(item):
            raise InvalidInputError("An item has a control character in it. Send plain text.")


def encode_item(item: str) -> bytes:
    r"""Returns an item as Redis holds it.

    Raises:
        InvalidInputError: It is no Unicode text: JSON can spell half a surrogate pair (\ud800).
    """
    try:
        return item.encode()
    except UnicodeEncodeError:
        raise InvalidInputError("An item is not valid Unicode text.") from None
