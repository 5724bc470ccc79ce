"""Rules for collections of preferences and their items."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sponsorsync.domain import parts
from sponsorsync.domain.errors import InvalidInputError, TooLargeError
from sponsorsync.domain.parts import Presence

EXCLUDED_NODES = "mnodes"
"""The collection of nodes that the application hides from its search results."""

MAX_FILTER_IDS = 10_000
"""Most ids that one call may filter."""

_COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def is_collection_name(name: str) -> bool:
    """Returns whether a collection may have this name: it becomes a part and the end of a key."""
    return _COLLECTION_NAME.fullmatch(name) is not None and name != parts.PROFILE


@dataclass(frozen=True, slots=True)
class CollectionState:
    """One collection in the local Redis; `items` are sorted.

    While `presence` is UNKNOWN, there may be other items in the durable Redis.
    """

    presence: Presence
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """The result of a change: numbers of added and removed items, and the new size.

    A pending change is saved, and applied once the collection has been fetched from the durable
    Redis; its numbers are None.
    """

    added: int | None
    removed: int | None
    size: int | None
    is_pending: bool = False


@dataclass(frozen=True, slots=True)
class PreferenceRules:
    """The valid names of collections, and limits for stored preferences.

    One person has at most `max_items` in one collection, each of `max_item_bytes` in UTF-8. One
    call may add and remove `max_batch` items in total.
    """

    collections: Collection[str]
    max_items: int
    max_item_bytes: int
    max_batch: int

    def check_collection(self, collection: str) -> None:
        """Raises InvalidInputError unless the collection exists."""
        if collection not in self.collections:
            names = ", ".join(sorted(self.collections))
            raise InvalidInputError(f"There is no such collection. There is: {names}.")

    def check_change(self, add: Sequence[str], remove: Sequence[str]) -> None:
        """Raises InvalidInputError or TooLargeError if any part of the change is not valid."""
        if len(add) + len(remove) > self.max_batch:
            raise TooLargeError(
                f"One call may change {self.max_batch} items; this one has "
                f"{len(add) + len(remove)}. Send several calls."
            )
        for item in add:
            self._check_item(item)
        for item in remove:
            # A stored item may be removed even if it exceeds a limit.
            encode_item(item)
        if not set(add).isdisjoint(remove):
            raise InvalidInputError(
                "The same item is in `add` and in `remove`. Send it in one of them."
            )

    def check_filter(self, ids: Sequence[str]) -> None:
        """Raises TooLargeError if one call of the filter has too many ids."""
        if len(ids) > MAX_FILTER_IDS:
            raise TooLargeError(
                f"One call filters {MAX_FILTER_IDS} ids; this one has {len(ids)}. "
                "Send several calls."
            )
        for item in ids:
            encode_item(item)

    def format_full_message(self, collection: str, size: int) -> str:
        """Returns the error text for a change that would make a collection too large."""
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
            raise InvalidInputError("An item contains a control character. Send plain text.")


def encode_item(item: str) -> bytes:
    r"""Returns an item as stored bytes.

    Raises InvalidInputError unless it is valid Unicode: JSON allows a lone surrogate (\ud800).
    """
    try:
        return item.encode()
    except UnicodeEncodeError:
        raise InvalidInputError("An item is not valid Unicode text.") from None
