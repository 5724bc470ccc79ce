"""Assembles each Lua script from its own file and the files that it includes.

The folder of a script says where it runs: `lua/local`, `lua/durable`, or `lua/both`. The head of a
file lists what the file itself uses:

    --- @include exists wrong_type
    --- @keys META LEASE_TTL_MS

`@include` names files of `lua/include`, which may include others. `@keys` names constants of
`keys.py`: Lua gets `K.DIRTY`, a string, `K.META(id)`, a function, and `LEASE_TTL_MS`, a number.
Scripts build their keys from these instead of taking KEYS, since a cluster is refused at startup.

A server creates all functions of a script at each call, and that takes longer than the work of most
scripts. So no script includes a function that it does not use: two functions stand in one include
only if the same scripts use both.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from sponsorsync.store import keys

PEOPLE_A_SCRIPT = 50
"""The most people that one call handles: while a script runs, the server serves no other client."""

BYTES_A_SCRIPT = 256 * 1024
"""The most bytes that one call gets, for the same reason; one person's record may be larger."""

PLACES = ("local", "durable", "both")
"""The names of the folders, which say where a script runs."""

NUMBERS = {name: value for name, value in vars(keys).items() if isinstance(value, int)}
"""Constants of `keys.py` that are numbers: times to live and limits."""

_DIRECTIVE = re.compile(r"^--- @(include|keys) (.+)\n", re.MULTILINE)
_FIELD = re.compile(r"\{(\w+)\}")
# Empty lines and comments at the left margin, which stand between the functions of an include.
_BETWEEN_FUNCTIONS = re.compile(r"^(?:--.*)?\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LuaFile:
    """A Lua file: the names that its head lists, and its text without these lines."""

    includes: tuple[str, ...]
    keys: tuple[str, ...]
    text: str


def load_script(name: str) -> str:
    """Returns the whole text of a script; `name` is its file's name without folder and `.lua`.

    Raises:
        FileNotFoundError: There is no such script, or one of its includes is missing.
        ValueError: An include includes itself, or `keys.py` has no such name.
    """
    return "\n".join(load_pieces(name))


@cache
def load_pieces(name: str) -> tuple[str, ...]:
    """Returns a script's text in pieces, so that a bundle of scripts has equal pieces only once.

    A piece is the definition of a key, or the text of an include or of the script itself. Raises
    the same errors as `load_script`.
    """
    return assemble(name, resources.files(__package__) / "lua")


def assemble(name: str, folder: Traversable) -> tuple[str, ...]:
    """Returns the pieces of a script in `folder`; raises the same errors as `load_script`."""
    script = read_lua(_find_script(name, folder))
    included: dict[str, LuaFile] = {}
    for each in script.includes:
        _include(each, folder / "include", included, ())
    wanted = {key for file in (script, *included.values()) for key in file.keys}
    texts = (_BETWEEN_FUNCTIONS.sub("", file.text).removesuffix("\n") for file in included.values())
    return (*_define_keys(wanted), *texts, script.text)


def read_lua(path: Traversable) -> LuaFile:
    """Reads one file and the names that its head lists."""
    text = path.read_text(encoding="utf-8")
    named: dict[str, list[str]] = {"include": [], "keys": []}
    for kind, names in _DIRECTIVE.findall(text):
        named[kind] += names.split()
    return LuaFile(tuple(named["include"]), tuple(named["keys"]), _DIRECTIVE.sub("", text))


def _find_script(name: str, folder: Traversable) -> Traversable:
    for place in PLACES:
        path = folder / place / f"{name}.lua"
        if path.is_file():
            return path
    raise FileNotFoundError(f"there is no script {name}.lua in {', '.join(PLACES)}")


def _include(
    name: str, folder: Traversable, included: dict[str, LuaFile], above: tuple[str, ...]
) -> None:
    """Adds a file to `included`, behind the files that it includes."""
    if name in above:
        raise ValueError(f"includes form a cycle: {' -> '.join((*above, name))}")
    if name not in included:
        file = read_lua(folder / f"{name}.lua")
        for each in file.includes:
            _include(each, folder, included, (*above, name))
        included[name] = file


def _define_keys(names: set[str]) -> Iterator[str]:
    """Yields one definition for each name, in the order of `keys.py`."""
    unknown = sorted(names - NUMBERS.keys() - keys.NAMES.keys())
    if unknown:
        raise ValueError(f"keys.py has no {', '.join(unknown)}")
    yield from (f"local {name} = {value}" for name, value in NUMBERS.items() if name in names)
    if names & keys.NAMES.keys():
        yield "local K = {}"
    for name, template in keys.NAMES.items():
        if name in names:
            yield _define_key(name, template)


def _define_key(name: str, template: str) -> str:
    fields = _FIELD.findall(template)
    if not fields:
        return f"K.{name} = '{template}'"
    # The split yields text, field, text, field, …, text.
    parts = enumerate(_FIELD.split(template))
    pieces = [part if index % 2 else f"'{part}'" for index, part in parts if part]
    return f"function K.{name}({', '.join(fields)}) return {' .. '.join(pieces)} end"
