"""The names of the parts in which a person's data travels."""

from __future__ import annotations

from sponsorsync.domain import parts
from sponsorsync.domain.parts import Presence
from sponsorsync.domain.preferences import is_collection_name


def test_a_entitlement_is_named_after_who_is_sponsored() -> None:
    """Each sponsorable's entitlement has a version of its own."""
    assert parts.entitlement_part("maintainer") == "entitlement:maintainer"


def test_no_collection_can_take_the_name_of_another_part() -> None:
    """Their versions stand side by side in one hash."""
    assert not is_collection_name(parts.PROFILE)
    assert not is_collection_name(parts.entitlement_part("maintainer"))


def test_unknown_and_empty_are_two_things() -> None:
    """An empty answer to who asks while nobody knows would be a loss made look like a choice."""
    assert {each.value for each in Presence} == {"unknown", "empty", "there"}
