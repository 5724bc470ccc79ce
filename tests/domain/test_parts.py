"""Names and presence of the parts of a person's data."""

from sponsorsync.domain import parts
from sponsorsync.domain.parts import Presence
from sponsorsync.domain.preferences import is_collection_name


def test_no_collection_can_take_the_name_of_another_part() -> None:
    """The versions of all parts of a person are fields of one hash."""
    assert not is_collection_name(parts.PROFILE)
    assert not is_collection_name("entitlement:maintainer")


def test_presence_distinguishes_unknown_from_empty() -> None:
    """An unknown collection shown as empty would look like the person's choice."""
    assert {each.value for each in Presence} == {"unknown", "empty", "there"}
