"""Rules for collections of preferences and their items."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sponsorsync.domain.errors import InvalidInputError, TooLargeError
from sponsorsync.domain.preferences import (
    MAX_FILTER_IDS,
    PreferenceRules,
    encode_item,
    is_collection_name,
)

RULES = PreferenceRules(
    collections=("mnodes", "favourites"), max_items=100, max_item_bytes=8, max_batch=3
)


@pytest.mark.parametrize("name", ["mnodes", "a", "a1_b", "a" * 32])
def test_a_plain_name_is_a_collection_name(name: str) -> None:
    """The name of a collection is the end of a key that the application reads."""
    assert is_collection_name(name)


@pytest.mark.parametrize(
    "name", ["", "a" * 33, "1a", "_a", "A", "aB", "a-b", "a:b", "a b", "ä", "a\n", "\na", "profile"]
)
def test_a_name_that_could_change_a_key_is_refused(name: str) -> None:
    """A colon or a line end would produce another key."""
    assert not is_collection_name(name)


def test_only_a_configured_collection_is_accepted() -> None:
    """The name becomes part of a key; the error lists the configured collections."""
    RULES.check_collection("favourites")
    with pytest.raises(InvalidInputError, match="There is: favourites, mnodes"):
        RULES.check_collection("other")


@pytest.mark.parametrize(
    ("add", "remove"),
    [([], []), (["1", "2", "3"], []), ([], ["1", "2", "3"]), (["1"], ["2", "3"]), (["1", "1"], [])],
)
def test_a_batch_at_the_limit_is_accepted(add: list[str], remove: list[str]) -> None:
    """The limit counts added and removed items together; a set ignores repetitions."""
    RULES.check_change(add, remove)


@pytest.mark.parametrize(
    ("add", "remove"),
    [
        (["1", "2", "3", "4"], []),
        ([], ["1", "2", "3", "4"]),
        (["1", "2"], ["3", "4"]),
        (["1", "1", "1", "1"], []),
    ],
)
def test_a_batch_over_the_limit_is_too_large(add: list[str], remove: list[str]) -> None:
    """One call must not block a Redis that others use."""
    with pytest.raises(TooLargeError, match="may change 3 items; this one has 4"):
        RULES.check_change(add, remove)


@pytest.mark.parametrize("item", ["12345678", "ääää", "😀😀", "a b", "a/b:c", "\u00a0"])
def test_an_item_at_the_byte_limit_is_accepted(item: str) -> None:
    """The application decides on the form of its ids."""
    RULES.check_change([item], [])
    RULES.check_change([], [item])


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("123456789", "9 bytes long; 8 are allowed"),
        ("äääää", "10 bytes long"),
        ("😀😀😀", "12 bytes long"),
        ("", "empty"),
        ("a\x00", "control character"),
        ("a\n", "control character"),
        ("\t", "control character"),
        ("\x1f", "control character"),
        ("\x7f", "control character"),
    ],
)
def test_an_invalid_item_can_be_removed_but_not_added(item: str, problem: str) -> None:
    """Another program, or an older limit, may have stored such an item."""
    RULES.check_change([], [item])
    with pytest.raises(InvalidInputError, match=problem):
        RULES.check_change([item], [])


@pytest.mark.parametrize(
    ("add", "remove", "problem"),
    [
        (["\ud800"], [], "not valid Unicode"),
        ([], ["\ud800"], "not valid Unicode"),
        (["a\udfff"], [], "not valid Unicode"),
        ([], ["a\udfff"], "not valid Unicode"),
        (["1", "2", ""], [], "empty"),
        (["1", "2"], ["2"], "in `add` and in `remove`"),
    ],
    ids=ascii,
)
def test_a_change_with_one_wrong_item_is_refused(
    add: list[str], remove: list[str], problem: str
) -> None:
    """JSON can hold a lone surrogate, UTF-8 cannot; an item in both lists is ambiguous."""
    with pytest.raises(InvalidInputError, match=problem):
        RULES.check_change(add, remove)


@pytest.mark.parametrize(
    "ids", [["1"] * MAX_FILTER_IDS, ["", "a\n", "longer than any item may be"]], ids=["most", "odd"]
)
def test_a_filter_accepts_ids_that_cannot_be_stored(ids: list[str]) -> None:
    """Such ids are in no collection, and a search must not fail because of them."""
    RULES.check_filter(ids)


@pytest.mark.parametrize(
    ("ids", "error", "problem"),
    [
        (["1"] * (MAX_FILTER_IDS + 1), TooLargeError, "10000 ids; this one has 10001"),
        (["1", "\ud800"], InvalidInputError, "not valid Unicode"),
    ],
    ids=["too many", "surrogate"],
)
def test_a_filter_refuses_too_many_ids_and_a_lone_surrogate(
    ids: list[str], error: type[InvalidInputError], problem: str
) -> None:
    """One call must not block a Redis that others use."""
    with pytest.raises(error, match=problem):
        RULES.check_filter(ids)


def test_the_error_of_a_full_collection_says_what_to_do() -> None:
    """People see this message unchanged."""
    assert RULES.format_full_message("mnodes", 100) == (
        "The collection mnodes may hold 100 items and holds 100; nothing was changed. "
        "Remove some first."
    )


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_stored_as_its_own_bytes(item: str) -> None:
    """The application reads the set directly."""
    assert encode_item(item).decode() == item


@given(
    add=st.lists(st.text(st.characters(), max_size=10), max_size=4),
    remove=st.lists(st.text(st.characters(), max_size=10), max_size=4),
)
def test_any_change_is_accepted_or_refused_with_a_message(
    add: list[str], remove: list[str]
) -> None:
    """No JSON input may cause a server error."""
    with suppress(InvalidInputError):
        RULES.check_change(add, remove)
