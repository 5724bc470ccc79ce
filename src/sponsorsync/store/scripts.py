"""The Lua scripts, by name: the names of the keys, then `common.lua`, then the script itself."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from sponsorsync.store import keys

_FIELD = re.compile(r"\{(\w+)\}")


@cache
def load_script(name: str) -> str:
    """Returns the whole text of a script; `name` has no ending.

    Raises:
        FileNotFoundError: There is no such script.
    """
    folder = resources.files(__package__) / "lua"
    common = (folder / "common.lua").read_text(encoding="utf-8")
    own = (folder / f"{name}.lua").read_text(encoding="utf-8")
    return f"{_key_names()}\n{common}\n{own}"


def _key_names() -> str:
    """Returns Lua's `K.DIRTY`, a string, and `K.META(id)`, a function, for each name."""
    lines = ["local K = {}"]
    for name, template in keys.NAMES.items():
        fields = _FIELD.findall(template)
        if not fields:
            lines.append(f"K.{name} = '{template}'")
            continue
        parts = _FIELD.split(template)
        # Split yields text, field, text, field, …, text.
        pieces = [part if index % 2 else f"'{part}'" for index, part in enumerate(parts) if part]
        parameters = ", ".join(fields)
        lines.append(f"function K.{name}({parameters}) return {' .. '.join(pieces)} end")
    lines.append(f"local LEASE_TTL_MS, NEGATIVE_TTL_S = {keys.LEASE_TTL_MS}, {keys.NEGATIVE_TTL_S}")
    return "\n".join(lines)
