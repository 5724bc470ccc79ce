"""Only its own package and a few lists name a source of entitlement such as Patreon."""

from pathlib import Path

import pytest

import sponsorsync
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.entitlements.linked_sources import LINKED_SOURCES
from sponsorsync.sandbox.linked_services import LINKED_SERVICES

SOURCE_FOLDER = Path(sponsorsync.__file__).parent
ALLOWED = {
    "patreon": "the package itself",
    "domain/sources.py": "the list of all sources",
    "entitlements/linked_sources.py": "the list of sources with accounts",
    "settings.py": "the settings",
    "setting_values.py": "the checks of their values",
    "sandbox": "the simulated services, GitHub's schema and its simulated people",
}
WORDS = ("patreon", "patron")


def _find_names(folder: Path) -> dict[str, list[str]]:
    """Returns the lines, by file, that name the source outside of the allowed places."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_allowed = any(name == each or name.startswith(f"{each}/") for each in ALLOWED)
        if path.is_file() and path.suffix not in {".pyc", ".css"} and not is_allowed:
            lines = [
                f"{number}: {line.strip()}"
                for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
                if any(word in line.lower() for word in WORDS)
            ]
            if lines or any(word in name.lower() for word in WORDS):
                found[name] = lines
    return found


def test_only_its_own_package_and_the_lists_name_a_source() -> None:
    """Comments count, too. A new source then needs changes in the same few places only."""
    assert _find_names(SOURCE_FOLDER) == {}


@pytest.mark.parametrize("place", ALLOWED)
def test_each_allowed_place_names_the_source(place: str) -> None:
    """A place that no longer names the source has to leave ALLOWED."""
    path = SOURCE_FOLDER / place
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))

    assert any(word in each.read_text(encoding="utf-8").lower() for each in files for word in WORDS)


def test_a_name_elsewhere_is_found(tmp_path: Path) -> None:
    """The search finds the name in any file and any letter case."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "page.html").write_text("<p>\n  Link PATREON\n", encoding="utf-8")
    (tmp_path / "settings.py").write_text("patreon_url = ''\n", encoding="utf-8")

    assert _find_names(tmp_path) == {"web/page.html": ["2: Link PATREON"]}


def test_each_linked_source_is_registered_once() -> None:
    """Two entries for one source would share its routes, keys and grants."""
    sources = [each.source for each in LINKED_SOURCES]

    assert len(set(sources)) == len(sources)
    assert set(sources) <= set(EntitlementSource) - {EntitlementSource.NONE}
    assert {each.source for each in LINKED_SERVICES} == set(sources)
