"""Entitlement facts as Redis holds them, also where somebody else wrote them."""

from __future__ import annotations

import pytest

from sponsorsync.store.entitlement_fields import parse_stored_entitlement


@pytest.mark.parametrize("source", [b"none", b"liberapay"])
def test_a_grant_of_no_known_source_leaves_everything_unknown(source: bytes) -> None:
    """A newer version of us may have written it; the answer must neither fail nor guess."""
    also = b'[{"source":"%b","since":1}]' % source
    known = parse_stored_entitlement("maintainer", 1, b"7", [b"source", b"none", b"also", also])

    assert (known.facts, known.version) == (None, "7")
