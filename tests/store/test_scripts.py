"""Lua scripts: the head of a file lists the includes and keys that it uses, and no others."""

import re
from importlib import resources
from pathlib import Path

import pytest

from sponsorsync import store
from sponsorsync.store import keys
from sponsorsync.store.scripts import PLACES, LuaFile, assemble, load_pieces, load_script, read_lua
from tests.support.lua import find_definitions, find_faults, without_comments

LUA = Path(str(resources.files(store))) / "lua"
INCLUDES = {path.stem: read_lua(path) for path in sorted(LUA.glob("include/*.lua"))}
SCRIPTS = {place: sorted(LUA.glob(f"{place}/*.lua")) for place in PLACES}
DEFINED = {name: set(find_definitions(file.text)) for name, file in INCLUDES.items()}

ON_BOTH = {
    *("ENTITLEMENT_ENDS", "META", "PEOPLE", "PREFERENCES", "SPONSORS", "SPONSORSHIP"),
    *("USER_DETAILS", "USER_DETAILS_JSON"),
}
"""Names of keys that both servers have, so scripts of both folders may use them."""

of_each_script = pytest.mark.parametrize(
    "path", [path for paths in SCRIPTS.values() for path in paths], ids=lambda path: path.stem
)


def _write(folder: Path, **texts: str) -> Path:
    """Writes scripts (`local__name`) and includes (`include__name`); returns the folder."""
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.lua"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize("path", sorted(LUA.glob("*/*.lua")), ids=lambda path: path.stem)
def test_a_head_lists_what_the_file_uses(path: Path) -> None:
    """Redis notices an undefined name only when it runs the line."""
    assert find_faults(read_lua(path), DEFINED) == []


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        (LuaFile(("exists",), (), "return ARGV[1]"), "does not use exists"),
        (LuaFile((), (), "return exists(ARGV[1])"), "does not define exists"),
        (LuaFile((), (), "return f(exists_not)"), "does not define f"),
        (LuaFile((), ("DIRTY",), "return 'K.DIRTY' -- K.DIRTY"), "does not use DIRTY"),
        (LuaFile((), (), "return K.DIRTY"), "does not list DIRTY"),
        (LuaFile((), (), "return K[ARGV[1]]"), "does not define K"),
        (LuaFile((), (), "return LEASE_TTL_MS"), "does not list LEASE_TTL_MS"),
    ],
)
def test_a_wrong_head_is_a_fault(file: LuaFile, fault: str) -> None:
    """`find_faults` finds each kind of difference between head and code."""
    assert fault in find_faults(file, {"exists": {"exists"}})


@pytest.mark.parametrize(
    "text",
    [
        "local exists = {}\nreturn exists",
        "local function f(exists) return exists end\nreturn f()",
        "for i, exists in ipairs(ARGV) do redis.call(exists, i) end",
        "return { exists = 1 }",
        "return 'exists' -- exists",
    ],
)
def test_a_local_name_needs_no_include(text: str) -> None:
    """A variable, parameter, field or text with the name of an include does not use it."""
    assert find_faults(LuaFile((), (), text), {"exists": {"exists"}}) == []


@of_each_script
def test_a_script_includes_nothing_unused(path: Path) -> None:
    """At each call Redis creates every function of a script, also unused ones."""
    code = without_comments(load_script(path.stem))
    included = {name for each in DEFINED.values() for name in each}

    defined = included.intersection(find_definitions(code))
    assert {name for name in defined if len(re.findall(rf"\b{name}\b", code)) < 2} == set()


@of_each_script
def test_a_script_documents_arguments_and_replies(path: Path) -> None:
    """The callers are in Python, so a reader of either file needs this comment."""
    head = path.read_text(encoding="utf-8").split("\n\n")[0]

    assert re.search(r"^-- ARGV  ", head, re.MULTILINE)
    assert re.search(r"^-- Replies  ", head, re.MULTILINE)


def test_every_name_is_unique() -> None:
    """Callers name a script without its folder; names of includes are in one scope."""
    scripts = [path.stem for paths in SCRIPTS.values() for path in paths]
    defined = [name for file in INCLUDES.values() for name in find_definitions(file.text)]

    assert len(scripts) == len(set(scripts))
    assert len(defined) == len(set(defined))


def test_every_include_is_included() -> None:
    """A file that no script includes is dead code."""
    heads = [*INCLUDES.values(), *(read_lua(path) for each in SCRIPTS.values() for path in each)]

    assert {name for file in heads for name in file.includes} == INCLUDES.keys()


def test_scripts_use_keys_of_their_folders_server() -> None:
    """A script in the wrong folder would use keys of the other server."""
    used = {
        place: {
            name
            for path in paths
            for name in re.findall(r"^(?:function )?K\.(\w+)", load_script(path.stem), re.MULTILINE)
        }
        for place, paths in SCRIPTS.items()
    }

    assert used["local"] & used["durable"] == ON_BOTH


def test_an_include_stands_once_and_before_its_users(tmp_path: Path) -> None:
    """In Lua a local name can be used only below its definition."""
    folder = _write(
        tmp_path,
        include__base="local function base() end\n",
        include__one="--- @include base\n\n-- Why.\nlocal function one()\n  base()\nend\n",
        include__two="--- @include base one\n\nlocal function two() return base(one()) end\n",
        local__script="--- @include two base\n--- @keys META DIRTY LEASE_TTL_MS\n\ntwo()\n",
    )

    assert assemble("script", folder) == (
        f"local LEASE_TTL_MS = {keys.LEASE_TTL_MS}",
        "local K = {}",
        "function K.META(id) return 'sponsorsync:meta:' .. id end",
        "K.DIRTY = 'sponsorsync:dirty'",
        "local function base() end",
        "local function one()\n  base()\nend",
        "local function two() return base(one()) end",
        "\ntwo()\n",
    )


def test_joined_pieces_are_the_script() -> None:
    """Bundles for RedisGears contain a piece that several scripts share only once."""
    assert "\n".join(load_pieces("merge")) == load_script("merge")
    assert set(load_pieces("merge")) & set(load_pieces("apply"))


def test_an_unknown_script_is_refused() -> None:
    """The error names the script."""
    with pytest.raises(FileNotFoundError, match=r"no_such\.lua"):
        load_script("no_such")


@pytest.mark.parametrize(
    ("head", "kind", "named"),
    [
        ("@include no_such", FileNotFoundError, r"no_such\.lua"),
        ("@include one", ValueError, "one -> two -> one"),
        ("@keys NO_SUCH", ValueError, "NO_SUCH"),
        # Of keys.py, Lua may use only the names of keys and the numbers.
        ("@keys OUTBOX_GROUP", ValueError, "OUTBOX_GROUP"),
        ("@keys meta", ValueError, "meta"),
    ],
)
def test_a_head_that_cannot_be_resolved_is_refused(
    tmp_path: Path, head: str, kind: type[Exception], named: str
) -> None:
    """The error names the missing file or key, or the cycle."""
    folder = _write(
        tmp_path,
        include__one="--- @include two\n",
        include__two="--- @include one\n",
        local__script=f"--- {head}\n",
    )

    with pytest.raises(kind, match=named):
        assemble("script", folder)
