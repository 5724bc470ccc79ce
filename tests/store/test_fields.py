"""Parsing of entitlement facts in Redis that another program wrote."""

import pytest

from sponsorsync.store.fields import parse_stored_entitlement


@pytest.mark.parametrize("source", [b"none", b"liberapay"])
def test_a_grant_of_an_unknown_source_makes_all_facts_unknown(source: bytes) -> None:
    """A newer SponsorSync may have written the source; parsing must neither fail nor guess."""
    also = b'[{"source":"%b","since":1}]' % source
    stored = parse_stored_entitlement("maintainer", 1, b"7", [b"source", b"none", b"also", also])

    assert (stored.facts, stored.version) == (None, "7")
