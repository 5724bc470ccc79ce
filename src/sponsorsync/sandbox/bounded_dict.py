"""What the simulations hand out and know again: codes and tokens."""

from collections import OrderedDict
from typing import Generic, TypeVar

Held = TypeVar("Held")


class Latest(Generic[Held]):
    """Drops its oldest entry when it is full: a development server may run for weeks."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[str, Held] = OrderedDict()

    def put(self, key: str, value: Held) -> None:
        """Keep an entry; what was kept under its key goes."""
        self._entries[key] = value
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def get(self, key: str) -> Held | None:
        """What is kept under a key."""
        return self._entries.get(key)

    def take(self, key: str) -> Held | None:
        """The same, which is then no longer kept."""
        return self._entries.pop(key, None)

    def values(self) -> list[Held]:
        """All entries, the oldest first."""
        return list(self._entries.values())
