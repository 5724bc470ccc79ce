"""A static check of Lua files; Redis would notice an unknown name only when it runs the line."""

import re
from collections.abc import Mapping

from sponsorsync.store.scripts import NUMBERS, LuaFile

_LANGUAGE = set(
    re.findall(
        r"\w+",
        "and break do else elseif end false for function if in local nil not or repeat return self "
        "then true until while error ipairs math pairs pcall setmetatable string table tonumber "
        "tostring type unpack cjson cmsgpack redis ARGV",
    )
)
_TEXT = re.compile(r"""'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|--[^\n]*""")
_KEY = re.compile(r"\bK\.(\w+)")
# Fields of a table are not variables: `.name`, `:name`, `{ name = `, and `, name = `.
_NAME = re.compile(r"(?<![.:\w])[A-Za-z_]\w*")
_FIELD = re.compile(r"(?<=[{,])\s*\w+\s*=(?!=)")
_DECLARATIONS = (
    re.compile(r"\blocal function (\w+)"),
    re.compile(r"\blocal (?!function\b)(\w+(?:, \w+)*)"),
    re.compile(r"\bfunction\b[^(\n]*\(([\w, .]*)\)"),
    re.compile(r"\bfor (\w+(?:, \w+)*) (?:in|=)"),
)
_DEFINITION = re.compile(r"^local (?:function (\w+)|(\w+(?:, \w+)*)(?: =|$))", re.MULTILINE)


def find_faults(file: LuaFile, defined: Mapping[str, set[str]]) -> list[str]:
    """Returns the differences between the names in a file's head and those in its code.

    Args:
        file: A script or an include.
        defined: The names that each include defines.
    """
    code = without_comments(file.text)
    keys = set(_KEY.findall(code))
    used = _free_names(_KEY.sub("''", code))
    keys |= used & NUMBERS.keys()
    included = set().union(*(defined[each] for each in file.includes))
    return [
        *(f"does not use {each}" for each in file.includes if not defined[each] & used),
        *(f"does not use {each}" for each in sorted(set(file.keys) - keys)),
        *(f"does not list {each}" for each in sorted(keys - set(file.keys))),
        *(f"does not define {each}" for each in sorted(used - included - NUMBERS.keys())),
    ]


def find_definitions(lua: str) -> list[str]:
    """Returns the local names that a text defines at its top level."""
    return [
        name
        for function, names in _DEFINITION.findall(lua)
        for name in (function or names).split(", ")
    ]


def without_comments(lua: str) -> str:
    """Returns a text without comments, and with empty strings in place of all strings."""
    return _TEXT.sub(lambda found: "" if found[0].startswith("--") else "''", lua)


def _free_names(code: str) -> set[str]:
    declared = {
        name
        for declaration in _DECLARATIONS
        for names in declaration.findall(code)
        for name in re.findall(r"\w+", names)
    }
    return set(_NAME.findall(_FIELD.sub("", code))) - declared - _LANGUAGE
