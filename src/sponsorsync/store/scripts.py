"""The Lua scripts, by name: each is `common.lua` and its own text, read once."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def load_script(name: str) -> str:
    """Returns the whole text of a script; `name` has no ending.

    Raises:
        FileNotFoundError: There is no such script.
    """
    folder = resources.files(__package__) / "lua"
    common = (folder / "common.lua").read_text(encoding="utf-8")
    return f"{common}\n{(folder / f'{name}.lua').read_text(encoding='utf-8')}"
