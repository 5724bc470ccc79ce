"""Names that were replaced do not return in code, Lua, keys, settings, HTTP and metrics."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from sponsorsync.app import create_app
from sponsorsync.operations import metrics
from sponsorsync.settings import Settings, variable_of
from sponsorsync.store import keys

ROOT = Path(__file__).parents[1]
OWN_CODE = ("src", "gears_scripts")
FOLDERS = (*OWN_CODE, "tests", "bench", "examples")

REPLACED = {
    "entitlement": ("cover", "covers", "covered", "covering", "uncovered"),
    "redis pair": ("sides",),
    "unconfirmed": ("arrivals",),
    "incarnation": ("epoch", "epochs"),
    "stored personal data": ("holdings",),
    "script batching": ("gathering",),
    "version vector": ("stamp", "stamps"),
    "dead letter": ("bury", "buried"),
    "diagnostics": ("findings",),
    "sponsorship event": ("news",),
    "merge": ("absorb", "absorbed"),
    "repair": ("mend", "mended"),
    "prune": ("narrow", "narrowing"),
    "import unversioned": ("adopt", "adopted"),
    "suppress capture": ("quietly",),
    "derive facts": ("assess",),
    "evaluate": ("judge", "judged"),
    "merge sets": ("unite", "united"),
}
"""Words that no name may contain, by their replacement: `judge` also excludes `judge_presence`."""

GONE_NAMES = {
    "BoundedDict": ("Latest",),
    "ReconcileRequest": ("LookAgain", "NobodyLooks", "Looks", "look_again", "looks"),
    "PersonRecord": ("Package", "load_packages", "send_packages"),
    "SponsorListing": ("SponsorDirectory",),
    "AnonymousImport": ("VisitorMerge",),
    "scan": ("walk_people", "walk_set", "walk_keyspace"),
    "recompute": ("follow_organizations",),
}
"""Whole names that are not allowed, by their replacement; their words are fine elsewhere."""

VAGUE_VARIABLES = frozenset({"told", "given", "known"})
"""Our own code uses incoming, reported and stored instead."""

VAGUE_VERBS = frozenset(
    {
        *("describe", "follow", "forget", "hear", "keep", "learn", "look", "note", "say", "see"),
        *("take", "tell", "walk"),
    }
)
"""No function of our own code begins with these, but with save, load, parse, apply, record …"""

GONE_KEYS = frozenset(
    f"sponsorsync:{name}"
    for name in ("asked", "cover_ends", "dead", "epoch", "following", "looks", "patrons", "quiet")
)

GONE_FIELDS = frozenset({"dead", "looking", "set_aside", "side"})
"""Not allowed in HTTP and metrics, as fields, parameters, labels or values; nor are those above."""

_GONE_WORDS = frozenset(chain.from_iterable(REPLACED.values()))
_GONE_NAMES = frozenset(chain.from_iterable(GONE_NAMES.values()))
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_BOTH_SIDES = re.compile("both_sides")  # the two servers of a comparison, in names of tests
_LUA_COMMENT = re.compile(r"--.*$", re.MULTILINE)
_RELATIVE = re.compile(r"\b(?:whoever|whomever|whom)\b", re.IGNORECASE)
_WHAT = re.compile(r"What\b(?!.*\?)")


def is_gone(name: str) -> bool:
    """Returns whether a name, or one of its words, was replaced by another."""
    return (
        name in _GONE_NAMES
        or "foreign_key" in name  # a term of SQL; we say wrong-type key
        or any(part.lower() in _GONE_WORDS for part in _PART.findall(_BOTH_SIDES.sub("", name)))
    )


def find_files(suffix: str, folders: Iterable[str] = FOLDERS) -> list[Path]:
    """Returns the project's own files with this suffix, except this one."""
    files = (path for folder in folders for path in (ROOT / folder).rglob(f"*{suffix}"))
    return sorted(path for path in files if path != Path(__file__))


@cache
def parse(path: Path) -> ast.Module:
    """Returns the syntax tree of a Python file, parsed once for all tests."""
    return ast.parse(path.read_text(encoding="utf-8"))


def defined_names(tree: ast.AST) -> Iterator[str]:
    """Yields the names that a Python file defines, and not those that it uses of libraries."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.arg():
                yield node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr
            case ast.alias(asname=str() as name):
                yield name


def prose_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Yields each docstring and comment of a Python file, and whether it is a docstring."""
    for node in ast.walk(parse(path)):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield ast.get_docstring(node) or "", True
            case ast.Expr(value=ast.Constant(value=str() as text)):
                yield text, True
    source = io.StringIO(path.read_text(encoding="utf-8"))
    for token in tokenize.generate_tokens(source.readline):
        if token.type == tokenize.COMMENT:
            yield token.string, False


def locate(path: Path, texts: Iterable[str]) -> list[str]:
    """Returns each text with the name of its file."""
    return [f"{path.relative_to(ROOT)}: {each}" for each in sorted(set(texts))]


def test_python_defines_no_replaced_name() -> None:
    """If one thing has two names, a search for one of them misses half."""
    assert not [
        each
        for path in find_files(".py")
        for each in locate(path, filter(is_gone, [path.stem, *defined_names(parse(path))]))
    ]


def test_own_code_has_no_vague_variable() -> None:
    """The three words do not say from which side a value comes."""
    assert not [
        each
        for path in find_files(".py", OWN_CODE)
        for each in locate(path, VAGUE_VARIABLES & set(defined_names(parse(path))))
    ]


def test_functions_begin_with_an_exact_verb() -> None:
    """`note_person` may read or write; `record_person` writes."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert not [
        each
        for path in find_files(".py", OWN_CODE)
        for each in locate(
            path,
            (
                node.name
                for node in ast.walk(parse(path))
                if isinstance(node, functions)
                and node.name.lstrip("_").partition("_")[0] in VAGUE_VERBS
            ),
        )
    ]


def test_lua_has_no_replaced_name() -> None:
    """Lua scripts use the names of the Python code that calls them."""
    assert not [
        each
        for path in find_files(".lua")
        for each in locate(
            path,
            filter(
                is_gone,
                [
                    path.stem,
                    *_IDENTIFIER.findall(_LUA_COMMENT.sub("", path.read_text(encoding="utf-8"))),
                ],
            ),
        )
    ]


def test_no_key_has_a_replaced_name() -> None:
    """Redis keys have the same names as the code."""
    assert not GONE_KEYS & {template.partition(":{")[0] for template in keys.NAMES.values()}
    assert not [name for name in keys.NAMES if is_gone(name)]
    assert not [each for each in keys.NAMES.values() if any(map(is_gone, _PART.findall(each)))]


def test_no_setting_has_a_replaced_name() -> None:
    """Operators read the names of settings, not the code."""
    assert not [name for name in map(variable_of, Settings.model_fields) if is_gone(name)]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The service's OpenAPI document, made without any server."""
    settings = Settings.model_construct(
        redis_url=SecretStr("redis://127.0.0.1:1/0"),
        github_client_id="client",
        github_secret=SecretStr("secret"),
        sponsorables=("maintainer",),
    )
    return create_app(settings).openapi()


def test_http_has_no_replaced_name(document: dict[str, Any]) -> None:
    """Authors of clients read schemas, fields, values, parameters, tags and operations."""
    schemas = document["components"]["schemas"]
    operations = [each for path in document["paths"].values() for each in path.values()]
    names = {
        *schemas,
        *(name for schema in schemas.values() for name in schema.get("properties", ())),
        *(str(value) for schema in schemas.values() for value in schema.get("enum", ())),
        *(each["name"] for operation in operations for each in operation.get("parameters", ())),
        *(operation["operationId"] for operation in operations),
        *(tag for operation in operations for tag in operation["tags"]),
        *(part for path in document["paths"] for part in path.split("/")),
    }
    assert {"Me", "entitlements", "sponsorable", "get_me", "preferences"} <= names
    assert not sorted(name for name in names if is_gone(name) or name in GONE_FIELDS)


def test_http_texts_are_plain(document: dict[str, Any]) -> None:
    """People without knowledge of the project read the summaries and descriptions."""
    texts = list(find_texts(document))
    assert len(texts) > 100
    assert not [text for text in texts if _WHAT.match(text) or _RELATIVE.search(text)]
    assert not [text for text in texts if re.search(r"\bcover(?:s|ed)?\b", text)]


def find_texts(part: object) -> Iterator[str]:
    """Yields each summary and description in a part of an OpenAPI document."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name in {"summary", "description"} and isinstance(value, str):
                yield value
            else:
                yield from find_texts(value)
    elif isinstance(part, list):
        for value in part:
            yield from find_texts(value)


def test_no_metric_has_a_replaced_name() -> None:
    """Operators' alarms use the names of metrics and labels, and the labels' values."""
    texts = {
        node.value
        for node in ast.walk(parse(Path(metrics.__file__)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    names = {text for text in texts if _IDENTIFIER.fullmatch(text)}
    assert "sponsorsync_dead_letters" in names
    assert not sorted(name for name in names if is_gone(name) or name in GONE_FIELDS)


def test_docstrings_and_comments_are_plain() -> None:
    """A free relative ('whoever dies', 'What looking finds') has to be read twice."""
    assert not [
        each
        for path in find_files(".py")
        for each in locate(
            path,
            (
                text
                for text, is_docstring in prose_of(path)
                if _RELATIVE.search(text) or (is_docstring and _WHAT.match(text))
            ),
        )
    ]


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("judge_presence", True),
        ("test_a_foreign_key_is_left_alone", True),
        ("test_both_sides_are_equal", False),
        ("CoverStore", True),
        ("ORG_COVER", True),
        ("coverage", False),
        ("entitlement", False),
        ("cover:{login}", True),
    ],
)
def test_a_replaced_word_is_found_within_a_name(name: str, gone: bool) -> None:
    """The word is found in every style of names, but not inside a longer word."""
    assert is_gone(name) is gone
