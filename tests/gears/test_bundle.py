"""The scripts' texts: one home for what they share, and a Python that the engine has."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sponsorsync.gears.bundle import NUMBERS, SOURCES, build_bundle
from sponsorsync.gears.scripts import BATCH, REGISTERING, load_scripts
from sponsorsync.store import keys
from sponsorsync.store.scripts import load_script
from tests.support.gears import CONFIG, REQUIREMENT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COMPILE = "import sys; compile(sys.stdin.read(), '<string>', 'exec')"

of_each = pytest.mark.parametrize("name", sorted((*REGISTERING, *BATCH)))


def _constants(name: str) -> Mapping[str, object]:
    """Returns the literal values that a bundle assigns to names."""
    found: dict[str, object] = {}
    for statement in ast.parse(build_bundle(name)).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=target)], value=value):
                try:
                    found[target] = ast.literal_eval(value)
                except ValueError:
                    continue
    return found


def test_all_that_are_shipped_are_there() -> None:
    """And no other."""
    assert {path.stem for path in SOURCES.glob("*.py")} == {*REGISTERING, *BATCH}


@of_each
def test_every_mark_of_the_sources_is_replaced(name: str) -> None:
    """A mark with a spelling mistake would be a comment."""
    assert re.findall(r"^\W*@.*", build_bundle(name), re.MULTILINE) == []


@of_each
def test_every_name_is_defined_once_and_used(name: str) -> None:
    """The linter checks each source alone, without its includes."""
    config = SOURCES / "ruff.toml"
    linter = [sys.executable, "-m", "ruff", "check", "--no-cache", "--config", str(config)]

    subprocess.run(  # noqa: S603 - ours
        [*linter, "--ignore-noqa", "--select", "F", "-"],
        input=build_bundle(name),
        text=True,
        check=True,
    )


def test_the_bundler_needs_nothing_but_the_standard_library() -> None:
    """The build of the wheel has no other package."""
    code = f"import sys; sys.path.insert(0, {str(SOURCES.parent / 'src')!r})"
    code += "; from sponsorsync.gears.scripts import write_bundles"

    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)  # noqa: S603 - ours


@of_each
def test_names_and_numbers_are_the_services(name: str) -> None:
    """Looked up in the text as it is uploaded."""
    constants = _constants(name)
    names = constants.keys() & keys.NAMES.keys()

    assert {"INCARNATIONS", "SPONSORS"} <= names
    assert {n: constants[n] for n in names} == {n: keys.NAMES[n] for n in names}
    numbers = constants.keys() & NUMBERS.keys()
    assert "PEOPLE_A_SCRIPT" in numbers
    assert {n: constants[n] for n in numbers} == {n: NUMBERS[n] for n in numbers}


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda path: path.stem)
def test_keys_are_written_nowhere_else(path: Path) -> None:
    """A name that stands within a function would not follow."""
    literals = [
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value
    ]

    starts = ("sponsorsync:", "user:", "user_details", "sponsors:", "sponsorship")
    assert [each for each in literals if each.startswith(starts)] == []


@of_each
def test_lua_is_the_services_but_for_comments(name: str) -> None:
    """Both sides of a rule are one text."""
    lua = _load_lua(name)

    assert lua
    for each, text in lua.items():
        assert _words(text) == _words(load_script(each)), each
        assert not re.search(r"^\s*--", text, re.MULTILINE)


@of_each
def test_lua_that_scripts_have_in_common_stands_there_once(name: str) -> None:
    """Each registration carries the Lua texts of its script, and there are a hundred."""
    pieces = _constants(name)["LUA_PIECES"]
    assert isinstance(pieces, tuple)
    functions = re.findall(r"^local function (\w+)", "".join(pieces), re.MULTILINE)

    assert functions
    assert sorted(functions) == sorted(set(functions))
    assert len(pieces) == len(set(pieces))


def _load_lua(name: str) -> dict[str, str]:
    """Returns the Lua texts of a bundle by their names."""
    constants = _constants(name)
    pieces, lua = constants["LUA_PIECES"], constants["LUA"]
    assert isinstance(pieces, tuple)
    assert isinstance(lua, dict)
    return {each: "".join(pieces[place] for place in places) for each, places in lua.items()}


def _words(lua: str) -> list[str]:
    """Returns what is left of a text without its comments."""
    return [
        line for each in lua.splitlines() if (line := each.strip()) and not line.startswith("--")
    ]


@of_each
def test_every_lua_that_is_called_is_carried(name: str) -> None:
    """And what is carried is called: each upload is the smaller for it."""
    text = build_bundle(name)
    lua = _load_lua(name)
    quoted = set(re.findall(r'(?:run_local\(|run_durable\(\s*|\(|: \()"(\w+)"', text))

    assert lua.keys() <= quoted
    assert {n for n in quoted if _is_script(n)} <= lua.keys()


def _is_script(name: str) -> bool:
    try:
        load_script(name)
    except OSError:
        return False
    return True


@of_each
def test_the_text_is_python_3_7(name: str) -> None:
    """As far as a newer Python can tell."""
    ast.parse(build_bundle(name), feature_version=(3, 7))


@of_each
def test_a_python_3_7_takes_the_text(name: str) -> None:
    """Where there is one."""
    python = _find_python_3_7()
    if python is None:
        pytest.skip("there is no Python 3.7 here")

    subprocess.run([python, "-c", COMPILE], input=build_bundle(name), text=True, check=True)  # noqa: S603 - ours


def _find_python_3_7() -> str | None:
    """Returns a Python that runs: a version manager may only have its name on the path."""
    python = shutil.which("python3.7")
    if python is None:
        return None
    tried = subprocess.run([python, "-c", ""], check=False, capture_output=True)  # noqa: S603
    return python if tried.returncode == 0 else None


@of_each
def test_there_is_one_place_for_the_configuration(name: str) -> None:
    """Else an upload is refused."""
    [script] = load_scripts([name], CONFIG)

    assert script.text.count("\nCONFIG = ") == 1
    assert build_bundle(name).count("\nCONFIG = {}\n") == 1


def test_requirements_are_pinned_and_nothing_else() -> None:
    """gears-cli hands every line on as it is."""
    lines = (SOURCES / "requirements.txt").read_text(encoding="utf-8").split("\n")

    assert lines == [REQUIREMENT, ""]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in lines[:-1])
