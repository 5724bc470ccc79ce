"""GitHub's GraphQL connections: pages of at most 100 items in a stable order, with cursors.

https://docs.github.com/graphql/guides/using-pagination-in-the-graphql-api
"""

from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypedDict, TypeVar

from sponsorsync.sandbox.graphql_context import github_error

MOST_ON_A_PAGE = 100
CURSOR_PREFIX = "cursor:sim:"

Key = tuple[int, ...]
"""An item's sort key; a cursor contains it, so it remains valid if the item is removed."""

_Item = TypeVar("_Item")


class SliceArguments(TypedDict, total=False):
    """The four paging arguments of a connection."""

    first: int | None
    last: int | None
    after: str | None
    before: str | None


@dataclass(frozen=True)
class PageInfo:
    """The place of a page in its connection."""

    start_cursor: str | None
    end_cursor: str | None
    has_previous_page: bool
    has_next_page: bool


@dataclass(frozen=True)
class Page(Generic[_Item]):
    """One page of a connection."""

    nodes: list[_Item]
    page_info: PageInfo
    total_count: int


def paginate(
    items: Sequence[_Item],
    wanted: SliceArguments,
    *,
    connection: str,
    key: Callable[[_Item], Key],
    descending: bool = False,
) -> Page[_Item]:
    """Returns the wanted page; raises a GraphQLError if the arguments do not make one."""
    size = _checked_size(wanted, connection)
    ordered = sorted(items, key=key, reverse=descending)
    start, stop = 0, len(ordered)
    if (after := wanted.get("after")) is not None:
        start = _count_up_to(after, ordered, key, descending=descending, inclusive=True)
    if (before := wanted.get("before")) is not None:
        stop = _count_up_to(before, ordered, key, descending=descending, inclusive=False)
    if wanted.get("first") is not None:
        stop = min(stop, start + size)
    else:
        start = max(start, stop - size)
    nodes = ordered[start:stop]
    return Page(
        nodes=nodes,
        page_info=PageInfo(
            start_cursor=_cursor(key(nodes[0])) if nodes else None,
            end_cursor=_cursor(key(nodes[-1])) if nodes else None,
            has_previous_page=start > 0,
            has_next_page=stop < len(ordered),
        ),
        total_count=len(ordered),
    )


def _checked_size(wanted: SliceArguments, connection: str) -> int:
    first, last = wanted.get("first"), wanted.get("last")
    if first is not None and last is not None:
        raise github_error(
            "INVALID_PAGINATION",
            f"Passing both `first` and `last` to the `{connection}` connection is not supported.",
        )
    name, size = ("first", first) if last is None else ("last", last)
    if size is None:
        raise github_error(
            "MISSING_PAGINATION_BOUNDARIES",
            "You must provide a `first` or `last` value to properly paginate the "
            f"`{connection}` connection.",
        )
    if size < 0:
        raise github_error(
            "INVALID_PAGINATION",
            f"`{name}` on the `{connection}` connection cannot be less than zero.",
        )
    if size > MOST_ON_A_PAGE:
        raise github_error(
            "EXCESSIVE_PAGINATION",
            f"Requesting {size} records on the `{connection}` connection exceeds the `{name}` "
            f"limit of {MOST_ON_A_PAGE} records.",
        )
    return size


def _count_up_to(
    cursor: str,
    ordered: Sequence[_Item],
    key: Callable[[_Item], Key],
    *,
    descending: bool,
    inclusive: bool,
) -> int:
    """Returns the number of items before the cursor, plus the item at it if `inclusive`."""
    mark = _parse_cursor(cursor)

    def is_counted(item: _Item) -> bool:
        each = key(item)
        if each == mark:
            return inclusive
        return each > mark if descending else each < mark

    return bisect_left(ordered, True, key=lambda item: not is_counted(item))


def _cursor(key: Key) -> str:
    return b64encode((CURSOR_PREFIX + ":".join(map(str, key))).encode()).decode()


def _parse_cursor(cursor: str) -> Key:
    try:
        text = b64decode(cursor.encode(), validate=True).decode()
        # Without the prefix, `numbers` is empty, and int('') raises a ValueError.
        _, _, numbers = text.partition(CURSOR_PREFIX)
        return tuple(int(number) for number in numbers.split(":"))
    except ValueError:
        raise github_error(
            "INVALID_CURSOR_ARGUMENTS", f"`{cursor}` does not appear to be a valid cursor."
        ) from None
