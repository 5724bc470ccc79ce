"""Bundles each script of `gears_scripts/`, with the files that it includes, into one text.

RedisGears takes a script as one text. A source has three kinds of marks, each a line of its own:

    # @include shared/relay.py      is replaced by the text of that file and of its own includes
    # @lua pack apply confirm       names the Lua scripts that this file calls; is removed
    # @service                      is replaced by assignments: the keys and numbers of the service
                                    that the bundle uses, and the Lua scripts that any `@lua` names

The build of the wheel imports this module, so this module imports nothing but the standard library
and modules of ours that need nothing else either.
"""

import ast
import json
import re
from functools import cache
from pathlib import Path

from sponsorsync.store import keys
from sponsorsync.store.scripts import BYTES_A_SCRIPT, PEOPLE_A_SCRIPT, load_pieces

SOURCES = Path(__file__).parents[3] / "gears_scripts"
"""The sources in a checkout; an installed wheel has bundles instead."""

NUMBERS = {
    "LEASE_TTL_MS": keys.LEASE_TTL_MS,
    "PEOPLE_A_SCRIPT": PEOPLE_A_SCRIPT,
    "BYTES_A_SCRIPT": BYTES_A_SCRIPT,
}
"""Numbers that scripts share with the service."""

_INCLUDE = re.compile(r"^# @include (?P<path>\S+)$", re.MULTILINE)
_LUA = re.compile(r"^# @lua ([\w ]+)\n", re.MULTILINE)
_SERVICE = re.compile(r"^# @service$", re.MULTILINE)
_IMPORT = re.compile(r"^import \w+\n", re.MULTILINE)
_MANY_BLANK_LINES = re.compile(r"\n{4,}")
_LUA_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n\s*\n+")


@cache
def build_bundle(name: str) -> str:
    """Returns a script and its includes as one text; `name` has no extension.

    Raises:
        FileNotFoundError: The source, or a file that it includes, is missing.
    """
    text = _include((SOURCES / f"{name}.py").read_text(encoding="utf-8"))
    lua = sorted(set(" ".join(_LUA.findall(text)).split()))
    imports = sorted(set(_IMPORT.findall(text)))
    text = _MANY_BLANK_LINES.sub("\n\n\n", _IMPORT.sub("", _LUA.sub("", text)))
    service = "".join(imports) + "\n" + _write_service(set(re.findall(r"\w+", text)), lua)
    return _SERVICE.sub(lambda _: service, text)


def _include(text: str) -> str:
    """Returns the text with each included file, without its docstring, in place of its mark."""

    def load(found: re.Match[str]) -> str:
        shared = (SOURCES / found["path"]).read_text(encoding="utf-8")
        docstring = ast.parse(shared).body[0]
        return _include("\n".join(shared.splitlines()[docstring.end_lineno :]).strip())

    return _INCLUDE.sub(load, text)


def _write_service(used: set[str], lua: list[str]) -> str:
    """Returns the lines that assign the service's keys and numbers in `used`, and its Lua scripts.

    Lua scripts share many includes, so a bundle has each piece once: `LUA_PIECES` has the pieces,
    and `LUA` has for each script the indexes of its pieces.
    """
    scripts = {
        name: [piece for text in load_pieces(name) if (piece := _strip_comments(text))]
        for name in lua
    }
    places: dict[str, int] = {}
    for piece in (piece for pieces in scripts.values() for piece in pieces):
        places.setdefault(piece, len(places))
    return "\n".join(
        [
            "# Written by `sponsorsync gears bundle`, as the service has them.",
            *(f"{n} = {json.dumps(template)}" for n, template in keys.NAMES.items() if n in used),
            *(f"{n} = {number}" for n, number in NUMBERS.items() if n in used),
            "LUA_PIECES = (",
            *(f'    r"""{piece}\n""",' for piece in places),
            ")",
            "LUA = {",
            *(
                f'    "{name}": {[places[piece] for piece in pieces]},'
                for name, pieces in scripts.items()
            ),
            "}",
        ]
    )


def _strip_comments(lua: str) -> str:
    return _BLANK_LINES.sub("\n", _LUA_COMMENT.sub("", lua)).strip()
