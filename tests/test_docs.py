"""Documents name only what exists, and list every key, setting and package."""

import ast
import re
import tomllib
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

from sponsorsync.settings import _FOR_TESTS, Settings, variable_of
from sponsorsync.store import keys

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "sponsorsync"
FOLDERS = (ROOT, SOURCE, SOURCE / "store")
"""A document may name a file relative to any of these folders."""

DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for pattern in ("*.md", "docs/*.md", "gears_scripts/*.md", ".env*.example")
    for path in sorted(ROOT.glob(pattern))
}
LINKED = DOCUMENTS | {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted(ROOT.glob("docs/adr/*.md"))
}
CONTRIBUTING, DATA = DOCUMENTS["CONTRIBUTING.md"], DOCUMENTS["docs/data.md"]
KEYS = set(re.findall(r'"(sponsorsync:[a-z_]+)', (SOURCE / "store" / "keys.py").read_text("utf-8")))
METRICS = (SOURCE / "operations" / "metrics.py").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SETTINGS = {variable_of(field) for field in Settings.model_fields}

_SPAN = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[\w.*/-]+(?:\.(?:py|lua|md|toml|lock|yaml|html|css|graphql)|/)")
_MEMBER = re.compile(r"`([\w/]+\.py): ([\w.]+)`")
# Names without a file: placeholders, output folders, the guide's example, the former scripts.
_NO_FILE = re.compile(r"NAME|NNNN|^support\.py$|^/|^build/|liberapay|gears_sync_")

documents = pytest.mark.parametrize("document", DOCUMENTS)


@pytest.mark.parametrize("template", keys.NAMES.values())
def test_every_key_is_documented(template: str) -> None:
    """An operator who finds a key has to know whether it may be deleted."""
    assert f"`{template.partition('{')[0]}" in DATA


@documents
def test_documents_name_existing_keys(document: str) -> None:
    """A renamed key would send operators to a key that never exists."""
    named = set(re.findall(r"sponsorsync:[a-z_]+", DOCUMENTS[document]))

    assert named - KEYS == set()


@pytest.mark.parametrize("variable", sorted(SETTINGS))
def test_every_setting_is_documented(variable: str) -> None:
    """Nobody finds a setting that only the code names."""
    assert f"`{variable}`" in DOCUMENTS["docs/settings.md"]


@documents
def test_documents_name_existing_settings(document: str) -> None:
    """A misspelt variable has no effect."""
    named = set(re.findall(r"(?:SPONSORSYNC|REDISENT|GITHUB)_[A-Z_]+", DOCUMENTS[document]))
    known = SETTINGS | _FOR_TESTS

    assert {n for n in named if not n.endswith("_") and n not in known} == set()


@documents
def test_documents_name_existing_metrics(document: str) -> None:
    """An alert on a metric that does not exist never fires."""
    named = set(re.findall(r"\bsponsorsync_[a-z_]+", DOCUMENTS[document]))

    assert {name for name in named if f'"{name.removesuffix("_total")}"' not in METRICS} == set()


@documents
def test_documents_name_existing_files(document: str) -> None:
    """A newcomer opens the files that a document names."""
    named = [span for span in _SPAN.findall(DOCUMENTS[document]) if _FILE.fullmatch(span)]

    assert [name for name in named if not _NO_FILE.search(name) and not find(name)] == []


@documents
def test_documents_name_existing_members(document: str) -> None:
    """`module.py: name` is a function, a class, a method or a constant of that module."""
    named = _MEMBER.findall(DOCUMENTS[document])

    assert [each for each in named if not _NO_FILE.search(each[0]) and not is_member(*each)] == []


@documents
def test_documents_name_existing_make_targets(document: str) -> None:
    """The first command that a newcomer tries has to work."""
    named = set(re.findall(r"(?:`|^    )make ([a-z][a-z-]*)", DOCUMENTS[document], re.MULTILINE))

    assert named - set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)) == set()


@pytest.mark.parametrize("document", LINKED)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    """A renamed file or heading breaks links silently."""
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", LINKED[document])
    folder = (ROOT / document).parent
    targets = [((folder / path).resolve() if path else ROOT / document, at) for path, at in links]

    assert [(str(path), at) for path, at in targets if not is_target(path, at)] == []


def test_the_tree_shows_every_package_and_nothing_else() -> None:
    """The tree in CONTRIBUTING.md has all packages and modules that exist."""
    block = CONTRIBUTING.partition("    src/sponsorsync/\n")[2].partition("\n    gears_scripts/")[0]
    named = set(chain(*(re.findall(r"[\w/]+/|\w+\.py", line[6:24]) for line in block.splitlines())))
    there = {f"{path.parent.name}/" for path in SOURCE.glob("*/__init__.py")}
    modules = {path.name for path in SOURCE.glob("*.py") if not path.name.startswith("__")}

    assert {name for name in named if not find(name)} == set()
    assert (there | modules) - named == set()


def test_the_picture_of_the_layers_is_the_contract() -> None:
    """import-linter checks the contract in pyproject.toml, not the picture in CONTRIBUTING.md."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = contracts["tool"]["importlinter"]["contracts"][0]["layers"]
    picture = CONTRIBUTING.partition("```mermaid\n")[2].partition("```")[0]
    rows = [row for line in picture.splitlines()[1:] for row in line.split("-->")]
    drawn = [set(re.findall(r"\w+", row)) for row in rows]

    assert list(dict.fromkeys(map(frozenset, drawn))) == [
        frozenset(re.findall(r"\w+", layer)) for layer in layers
    ]


def find(name: str) -> list[Path]:
    """Returns the files that a name in a document can mean; a bare file name may be anywhere."""
    found = [path for folder in FOLDERS for path in folder.glob(name.rstrip("/"))]
    if found or "/" in name:
        return found
    return [path for top in ("src", "gears_scripts", "tests") for path in (ROOT / top).rglob(name)]


def is_member(file: str, name: str) -> bool:
    """Returns whether a file of this name defines `name`, which may be `Class.method`."""
    return any(name in read_members(path) for path in find(file))


@cache
def read_members(path: Path) -> set[str]:
    """Returns the names that a module defines, and `Class.name` for those of its classes."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    own = {name for node in body for name in names_of(node)}
    return own | {f"{c.name}.{name}" for c in classes for node in c.body for name in names_of(node)}


def names_of(node: ast.stmt) -> list[str]:
    """Returns the names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return [target.id for target in targets if isinstance(target, ast.Name)]


def is_target(path: Path, anchor: str) -> bool:
    """Returns whether a file exists and has a heading with this anchor, in GitHub's form."""
    if not path.exists():
        return False
    if not anchor:
        return True
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
