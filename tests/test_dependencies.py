"""pyproject.toml declares all imported packages, and the locks pin all declared packages."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads(TEXT)
GROUPS = PYPROJECT["dependency-groups"]
RUNNING = [
    *PYPROJECT["project"]["dependencies"],
    *PYPROJECT["project"]["optional-dependencies"]["sandbox"],
]
TEST_FOLDERS = ("tests", "bench", "tools", "examples")
OWN_PACKAGES = ("sponsorsync", *TEST_FOLDERS)
LOCKED = {
    "requirements.lock": [*RUNNING, *GROUPS["build"]],
    "requirements-test.lock": GROUPS["test"],
    "requirements-tools.lock": GROUPS["tools"],
}


def name_of(requirement: str) -> str:
    """Returns the normalized package name of a requirement or of a line in a lock file."""
    [name] = re.findall(r"^[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", str(name)).lower()


@cache
def read_imports(*folders: str) -> set[str]:
    """Returns the names of the packages that the Python files of some folders import."""
    packages = packages_distributions()
    return {
        name_of(package)
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for module in _read_modules(path)
        if module not in {*sys.stdlib_module_names, *OWN_PACKAGES}
        for package in packages.get(module, [module])
    }


def _read_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def find_unexplained(requirements: list[str], imported: set[str]) -> list[str]:
    """Returns the requirements (and their extras) that have neither an import nor a comment."""
    return [
        requirement
        for requirement in requirements
        if ("[" in requirement or name_of(requirement) not in imported)
        and not re.search(rf'^  "{re.escape(requirement)}",  # \w', TEXT, re.MULTILINE)
    ]


def read_pins(lock: str) -> dict[str, str]:
    """Returns the version of each package in a lock file."""
    lines = re.findall(r"^[\w.-]+==\S+", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE)
    return {name_of(line): line.partition("==")[2] for line in lines}


def test_the_service_declares_every_package_that_it_imports() -> None:
    """A dependency of a dependency may disappear with the next release."""
    declared = {name_of(requirement) for requirement in RUNNING}

    assert read_imports("src") - declared == set()


def test_the_tests_declare_every_package_that_they_import() -> None:
    """A test must not depend on packages that happen to be installed."""
    declared = {name_of(requirement) for requirement in [*RUNNING, *GROUPS["test"]]}

    assert read_imports(*TEST_FOLDERS) - declared == set()


def test_a_dependency_is_imported_or_has_a_comment() -> None:
    """Without a known reason nobody dares to remove a dependency."""
    unexplained = find_unexplained(RUNNING, read_imports("src"))
    unexplained += find_unexplained(GROUPS["test"], read_imports(*TEST_FOLDERS))
    unexplained += find_unexplained([*GROUPS["build"], *GROUPS["tools"]], set())

    assert unexplained == []


@pytest.mark.parametrize("lock", LOCKED)
def test_a_lock_pins_all_its_declared_packages(lock: str) -> None:
    """If `make lock` was forgotten, the package is missing on a fresh machine only."""
    declared = {name_of(requirement) for requirement in LOCKED[lock]}

    assert declared - read_pins(lock).keys() == set()


def test_the_locks_agree() -> None:
    """All lock files are installed into one environment, one after the other."""
    versions: dict[str, set[str]] = {}
    for lock in LOCKED:
        for name, version in read_pins(lock).items():
            versions.setdefault(name, set()).add(version)

    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_tools_are_not_installed_for_running() -> None:
    """`make run` has to start quickly on a fresh machine."""
    unwanted = {name_of(requirement) for requirement in ["pytest", *GROUPS["tools"]]}

    assert unwanted & read_pins("requirements.lock").keys() == set()


@pytest.mark.parametrize("lock", LOCKED)
def test_a_lock_names_no_address(lock: str) -> None:
    """Each machine has its own package index; the hashes are valid for all of them."""
    text = (ROOT / lock).read_text(encoding="utf-8")

    assert re.findall(r"://|^-", text, re.MULTILINE) == []
