"""A dict with a maximum size, for the codes and tokens of the simulations."""

from typing import TypeVar

_Value = TypeVar("_Value")


class BoundedDict(dict[str, _Value]):
    """Drops its oldest entry when it is full: a development server may run for weeks."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __setitem__(self, key: str, value: _Value) -> None:
        """Adds or replaces an entry."""
        super().__setitem__(key, value)
        if len(self) > self._size:
            del self[next(iter(self))]
