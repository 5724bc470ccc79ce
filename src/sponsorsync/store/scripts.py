"""The Lua scripts, by name, each with what it uses of the names of the keys and of `common.lua`.

A server runs a script's whole text at each call. Functions that a script does not use would be made
anew each time: that took longer than the work of most scripts.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from sponsorsync.store import keys

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIELD = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[A-Za-z_]\w*")
# At the left margin: a function up to its `end`, or one line that defines names.
_DEFINITION = re.compile(
    r"^local function (?P<function>\w+)\(.*?^end$|^local (?P<names>\w+(?:, \w+)*)(?: = [^\n]*)?$",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"--.*$", re.MULTILINE)


@cache
def load_script(name: str) -> str:
    """Returns the whole text of a script; `name` has no ending.

    Raises:
        FileNotFoundError: There is no such script.
    """
    return "\n".join(load_pieces(name))


def load_pieces(name: str) -> tuple[str, ...]:
    """Returns what a script's text is joined from: what it shares with others, then its own text.

    Raises:
        FileNotFoundError: There is no such script.
    """
    folder = resources.files(__package__) / "lua"
    common = (folder / "common.lua").read_text(encoding="utf-8")
    text = (folder / f"{name}.lua").read_text(encoding="utf-8")
    wanted = set(_WORD.findall(_COMMENT.sub("", text)))
    pieces = [text]
    # From the last one back: each uses only what stands before it.
    for names, definition in reversed([*_key_names(), *_definitions(common)]):
        if wanted & names:
            wanted |= set(_WORD.findall(_COMMENT.sub("", definition)))
            pieces.append(definition)
    return tuple(reversed(pieces))


def _definitions(lua: str) -> Iterator[tuple[set[str], str]]:
    """Yields what a text defines at its left margin: the names, and the text that defines them."""
    for found in _DEFINITION.finditer(lua):
        names = found["function"] or found["names"]
        yield set(names.split(", ")), found[0]


def _key_names() -> Iterator[tuple[set[str], str]]:
    """Yields Lua's `K.DIRTY`, a string, and `K.META(id)`, a function, for each name."""
    yield {"LEASE_TTL_MS"}, f"local LEASE_TTL_MS = {keys.LEASE_TTL_MS}"
    yield {"QUIET_TTL_MS"}, f"local QUIET_TTL_MS = {keys.QUIET_TTL_MS}"
    yield {"NEGATIVE_TTL_S"}, f"local NEGATIVE_TTL_S = {keys.NEGATIVE_TTL_S}"
    yield {"SEAT_TTL_S"}, f"local SEAT_TTL_S = {keys.SEAT_TTL_S}"
    yield {"DELIVERY_TTL_S"}, f"local DELIVERY_TTL_S = {keys.DELIVERY_TTL_S}"
    yield {"REFRESHED_TTL_MS"}, f"local REFRESHED_TTL_MS = {keys.REFRESHED_TTL_MS}"
    yield {"REFRESHES_A_MINUTE"}, f"local REFRESHES_A_MINUTE = {keys.REFRESHES_A_MINUTE}"
    yield {"AUDIT_LENGTH"}, f"local AUDIT_LENGTH = {keys.AUDIT_LENGTH}"
    yield {"K"}, "local K = {}"
    for name, template in keys.NAMES.items():
        fields = _FIELD.findall(template)
        if not fields:
            yield {name}, f"K.{name} = '{template}'"
            continue
        parts = _FIELD.split(template)
        # Split yields text, field, text, field, …, text.
        pieces = [part if index % 2 else f"'{part}'" for index, part in enumerate(parts) if part]
        parameters = ", ".join(fields)
        yield {name}, f"function K.{name}({parameters}) return {' .. '.join(pieces)} end"
