"""Writes into each script of gears_scripts/ what it shares: key names, Lua texts and functions.

A script that runs inside Redis is one text. So what several of them need, and what the service has
too, is copied into each, between two marks; this and nothing else writes what stands there.

    # <shared: local durable; lua: export absorb>
    # </shared>

`make gears-scripts` runs it; `--check` only tells whether something would change (exit status 1).
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from pathlib import Path

from sponsorsync.store import keys
from sponsorsync.store.scripts import load_script
from sponsorsync.sync.packages import BYTES_A_SCRIPT, PEOPLE_A_SCRIPT

FOLDER = Path(__file__).parents[1] / "gears_scripts"

_BLOCK = re.compile(
    r"^# <shared: (?P<fragments>[\w ]+); lua: (?P<lua>[\w ]+)>\n.*?^# </shared>$",
    re.MULTILINE | re.DOTALL,
)
_LUA_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n\s*\n+")
_NUMBERS = {
    "LEASE_TTL_MS": keys.LEASE_TTL_MS,
    "PEOPLE_A_SCRIPT": PEOPLE_A_SCRIPT,
    "BYTES_A_SCRIPT": BYTES_A_SCRIPT,
}


def main() -> int:
    """Bundles every script; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    changed = []
    for path in sorted(FOLDER.glob("*.py")):
        before = path.read_text(encoding="utf-8")
        after = bundle(before)
        if after != before:
            changed.append(path.name)
            if not options.check:
                path.write_text(after, encoding="utf-8")
    if changed and options.check:
        print(f"not as `make gears-scripts` writes it: {', '.join(changed)}", file=sys.stderr)  # noqa: T201 - the command's word
    return int(bool(changed) and options.check)


def bundle(script: str) -> str:
    """Returns a script's text with what stands between its marks written anew.

    Raises:
        ValueError: The marks are missing.
    """
    found = _BLOCK.search(script)
    if found is None:
        raise ValueError("there is no block `# <shared: …; lua: …>`")
    own = script[: found.start()] + script[found.end() :]
    functions = [_load_fragment(name) for name in found["fragments"].split()]
    used = set(re.findall(r"\w+", own + "".join(functions)))
    lua = {name: _without_comments(load_script(name)) for name in found["lua"].split()}
    lines = [
        found[0].splitlines()[0],
        "# From gears_scripts/shared/ and the service's own store; `make gears-scripts` writes it.",
        "",
        *(
            f"{name} = {json.dumps(template)}"
            for name, template in keys.NAMES.items()
            if name in used
        ),
        *(f"{name} = {number}" for name, number in _NUMBERS.items() if name in used),
        "",
        "LUA = {",
        *(f'    "{name}": r"""\n{text}\n""",' for name, text in lua.items()),
        "}",
        "LUA_SHA = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in LUA.items()}",
        "",
        "",
        "\n\n\n".join(functions),
        "",
        "",
        "# </shared>",
    ]
    return script[: found.start()] + "\n".join(lines) + script[found.end() :]


def _load_fragment(name: str) -> str:
    """Returns a fragment without its docstring."""
    text = (FOLDER / "shared" / f"{name}.py").read_text(encoding="utf-8")
    docstring = ast.parse(text).body[0]
    return "\n".join(text.splitlines()[docstring.end_lineno :]).strip()


def _without_comments(lua: str) -> str:
    return _BLANK_LINES.sub("\n", _LUA_COMMENT.sub("", lua)).strip()


if __name__ == "__main__":
    sys.exit(main())
