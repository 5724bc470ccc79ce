"""What the documentation lists is what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from sponsorsync.store import keys

DATA = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("template", keys.NAMES.values())
def test_every_key_is_documented(template: str) -> None:
    """An operator who finds one has to know whether it may go."""
    assert f"`{template.partition('{')[0]}" in DATA
