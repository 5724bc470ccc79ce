"""The scripts' texts: one home for what they share, and a Python that the engine has."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from sponsorsync.gears.scripts import BATCH, REGISTERING, load_scripts
from sponsorsync.store import keys
from sponsorsync.store.scripts import load_script
from sponsorsync.sync.packages import BYTES_A_SCRIPT, PEOPLE_A_SCRIPT
from tests.support.gears import CONFIG, REQUIREMENT
from tools.bundle_gears_scripts import FOLDER, bundle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ALL = sorted(FOLDER.glob("*.py"))
NUMBERS = {
    "LEASE_TTL_MS": keys.LEASE_TTL_MS,
    "PEOPLE_A_SCRIPT": PEOPLE_A_SCRIPT,
    "BYTES_A_SCRIPT": BYTES_A_SCRIPT,
}
COMPILE = "import sys; compile(sys.stdin.read(), '<string>', 'exec')"

of_each = pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)


def _constants(path: Path) -> Mapping[str, object]:
    """Returns what a script's text assigns to names, as far as it is literal."""
    found: dict[str, object] = {}
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                try:
                    found[name] = ast.literal_eval(value)
                except ValueError:
                    continue
    return found


def test_all_that_are_shipped_are_there() -> None:
    """And no other."""
    assert {path.stem for path in ALL} == {*REGISTERING, *BATCH}


@of_each
def test_what_is_shared_is_as_it_is_bundled(path: Path) -> None:
    """Nobody has changed a copy, or forgotten `make gears-scripts`."""
    text = path.read_text(encoding="utf-8")

    assert text == bundle(text)


@of_each
def test_names_and_numbers_are_the_services(path: Path) -> None:
    """Looked up in the text as it stands, whatever has written it."""
    constants = _constants(path)
    names = constants.keys() & keys.NAMES.keys()

    assert {"EPOCH", "SPONSORS"} <= names
    assert {name: constants[name] for name in names} == {name: keys.NAMES[name] for name in names}
    numbers = constants.keys() & NUMBERS.keys()
    assert "PEOPLE_A_SCRIPT" in numbers
    assert {name: constants[name] for name in numbers} == {n: NUMBERS[n] for n in numbers}


@of_each
def test_keys_are_written_nowhere_else(path: Path) -> None:
    """A name that stands within a function would not follow."""
    own = _without_shared(path.read_text(encoding="utf-8"))
    for fragment in (FOLDER / "shared").glob("*.py"):
        own += fragment.read_text(encoding="utf-8")
    literals = [
        node.value
        for node in ast.walk(ast.parse(own))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value
    ]

    starts = ("sponsorsync:", "user:", "user_details", "sponsors:", "sponsorship")
    assert [each for each in literals if each.startswith(starts)] == []


def _without_shared(text: str) -> str:
    return re.sub(r"^# <shared:.*^# </shared>$", "", text, flags=re.MULTILINE | re.DOTALL)


@of_each
def test_lua_is_the_services_but_for_comments(path: Path) -> None:
    """Both sides of a rule are one text."""
    lua = _constants(path)["LUA"]
    assert isinstance(lua, dict)

    assert lua
    for name, text in lua.items():
        assert _words(text) == _words(load_script(name)), name
        assert not re.search(r"^\s*--", text, re.MULTILINE)


def _words(lua: str) -> list[str]:
    """Returns what is left of a text without its comments."""
    return [
        line for each in lua.splitlines() if (line := each.strip()) and not line.startswith("--")
    ]


@of_each
def test_every_lua_that_is_called_is_carried(path: Path) -> None:
    """And what is carried is called: each upload is the smaller for it."""
    text = path.read_text(encoding="utf-8")
    lua = _constants(path)["LUA"]
    assert isinstance(lua, dict)
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
def test_the_text_is_python_3_7(path: Path) -> None:
    """As far as a newer Python can tell."""
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 7))


@of_each
def test_a_python_3_7_takes_the_text(path: Path) -> None:
    """Where there is one."""
    python = _find_python_3_7()
    if python is None:
        pytest.skip("there is no Python 3.7 here")
    text = path.read_text(encoding="utf-8")

    subprocess.run([python, "-c", COMPILE], input=text, text=True, check=True)  # noqa: S603 - ours


def _find_python_3_7() -> str | None:
    """Returns a Python that runs: a version manager may only have its name on the path."""
    python = shutil.which("python3.7")
    if python is None:
        return None
    tried = subprocess.run([python, "-c", ""], check=False, capture_output=True)  # noqa: S603
    return python if tried.returncode == 0 else None


@of_each
def test_there_is_one_place_for_the_configuration(path: Path) -> None:
    """Else an upload is refused."""
    [script] = load_scripts([path.stem], CONFIG)

    assert script.text.count("\nCONFIG = ") == 1
    assert path.read_text(encoding="utf-8").count("\nCONFIG = {}\n") == 1


def test_requirements_are_pinned_and_nothing_else() -> None:
    """gears-cli hands every line on as it is."""
    lines = (FOLDER / "requirements.txt").read_text(encoding="utf-8").split("\n")

    assert lines == [REQUIREMENT, ""]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in lines[:-1])
