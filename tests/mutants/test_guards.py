"""The list of guards matches the code; `make mutants` itself takes too long for `make test`."""

from pathlib import Path

import pytest

from tests.mutants.guards import GUARDS, Guard

ROOT = Path(__file__).parents[2]
LUA = ROOT / "src" / "sponsorsync" / "store" / "lua"
SCRIPTS = sorted(
    path for place in ("local", "durable", "both") for path in (LUA / place).glob("*.lua")
)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_is_found_where_the_list_says(guard: Guard) -> None:
    """The code of a guard that has changed can no longer be found and removed."""
    text = (ROOT / guard.path).read_text(encoding="utf-8")
    assert guard.take_out(text) != text
    assert all((ROOT / each).exists() for each in guard.tests)


def test_every_promise_and_every_script_has_a_guard() -> None:
    """Names are unique, so that `--only` can select one guard."""
    names = {guard.name for guard in GUARDS}
    assert len(names) == len(GUARDS)
    assert all(any(name.startswith(f"promise {n}:") for name in names) for n in range(1, 10))
    guarded = {ROOT / guard.path for guard in GUARDS}
    assert [path.stem for path in SCRIPTS if path not in guarded] == []
