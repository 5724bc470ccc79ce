"""Bundles, the texts of scripts with all includes: RedisGears' Python 3.7 can run them."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sponsorsync.gears.bundle import NUMBERS, SOURCES, build_bundle
from sponsorsync.gears.scripts import BATCH, REGISTERING, load_scripts
from sponsorsync.store import keys
from sponsorsync.store.scripts import load_script
from tests.support.gears import CONFIG, REQUIREMENT

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


def test_every_shipped_script_has_a_source() -> None:
    """The folder of sources has no other file with a script."""
    assert {path.stem for path in SOURCES.glob("*.py")} == {*REGISTERING, *BATCH}


@of_each
def test_every_mark_of_the_sources_is_replaced(name: str) -> None:
    """A mark such as `# @include` is a comment, so a misspelt one would have no effect."""
    assert re.findall(r"^\W*@.*", build_bundle(name), re.MULTILINE) == []


@of_each
def test_every_name_is_defined_once_and_used(name: str) -> None:
    """The linter checks each source without its includes, so here it checks the bundles."""
    config = SOURCES / "ruff.toml"
    linter = [sys.executable, "-m", "ruff", "check", "--no-cache", "--config", str(config)]

    subprocess.run(  # noqa: S603 - ours
        [*linter, "--ignore-noqa", "--select", "F", "-"],
        input=build_bundle(name),
        text=True,
        check=True,
    )


def test_the_bundler_needs_nothing_but_the_standard_library() -> None:
    """The build of the wheel has no other package to import."""
    code = f"import sys; sys.path.insert(0, {str(SOURCES.parent / 'src')!r})"
    code += "; from sponsorsync.gears.scripts import write_bundles"

    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)  # noqa: S603 - ours


@of_each
def test_constants_have_the_values_of_the_service(name: str) -> None:
    """Keys and numbers in the uploaded text are those of the service's modules."""
    constants = _constants(name)
    names = constants.keys() & keys.NAMES.keys()

    assert {"INCARNATIONS", "SPONSORS"} <= names
    assert {n: constants[n] for n in names} == {n: keys.NAMES[n] for n in names}
    numbers = constants.keys() & NUMBERS.keys()
    assert "PEOPLE_A_SCRIPT" in numbers
    assert {n: constants[n] for n in numbers} == {n: NUMBERS[n] for n in numbers}


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda path: path.stem)
def test_scripts_contain_no_literal_key(path: Path) -> None:
    """A key that is renamed in `keys.py` would keep its old name in such a literal."""
    literals = [
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value
    ]

    starts = ("sponsorsync:", "user:", "user_details", "sponsors:", "sponsorship")
    assert [each for each in literals if each.startswith(starts)] == []


@of_each
def test_lua_is_that_of_the_service_without_comments(name: str) -> None:
    """The service and the scripts have to follow the same rules."""
    lua = _load_lua(name)

    assert lua
    for each, text in lua.items():
        assert _words(text) == _words(load_script(each)), each
        assert not re.search(r"^\s*--", text, re.MULTILINE)


@of_each
def test_shared_lua_is_in_a_bundle_once(name: str) -> None:
    """Each of a hundred registrations stores the Lua texts of its script."""
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
    """Returns the lines that are neither blank nor comments."""
    return [
        line for each in lua.splitlines() if (line := each.strip()) and not line.startswith("--")
    ]


@of_each
def test_a_bundle_has_just_the_lua_that_it_calls(name: str) -> None:
    """Unused Lua would enlarge each upload."""
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
def test_the_text_parses_as_python_3_7(name: str) -> None:
    """`feature_version` checks most of the syntax in a newer Python."""
    ast.parse(build_bundle(name), feature_version=(3, 7))


@of_each
def test_python_3_7_compiles_the_text(name: str) -> None:
    """RedisGears runs scripts in Python 3.7."""
    python = _find_python_3_7()
    if python is None:
        pytest.skip("there is no Python 3.7 here")

    subprocess.run([python, "-c", COMPILE], input=build_bundle(name), text=True, check=True)  # noqa: S603 - ours


def _find_python_3_7() -> str | None:
    """Returns a working Python 3.7; that of a version manager may exist on the path and fail."""
    python = shutil.which("python3.7")
    if python is None:
        return None
    tried = subprocess.run([python, "-c", ""], check=False, capture_output=True)  # noqa: S603
    return python if tried.returncode == 0 else None


@of_each
def test_a_bundle_has_one_line_for_the_configuration(name: str) -> None:
    """A script without exactly one such line cannot be loaded for an upload."""
    [script] = load_scripts([name], CONFIG)

    assert script.text.count("\nCONFIG = ") == 1
    assert build_bundle(name).count("\nCONFIG = {}\n") == 1


def test_requirements_are_pinned() -> None:
    """gears-cli passes on every line unchanged, so the file may not contain comments."""
    lines = (SOURCES / "requirements.txt").read_text(encoding="utf-8").split("\n")

    assert lines == [REQUIREMENT, ""]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in lines[:-1])
