"""What may stand in a collection of preferences."""

from __future__ import annotations

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
    """It becomes the end of a key that the application reads."""
    assert is_collection_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "a" * 33, "1a", "_a", "A", "aB", "a-b", "a:b", "a b", "ä", "a\n", "\na", "profile"],
)
def test_what_could_be_mistaken_in_a_key_is_no_collection_name(name: str) -> None:
    """A colon or a line end in a key's name would make it another key."""
    assert not is_collection_name(name)


def test_a_collection_that_exists_is_fine() -> None:
    """The rules name them."""
    RULES.check_collection("favourites")


def test_an_unknown_collection_is_refused_with_the_names_that_exist() -> None:
    """Keys are made from the name, so no other one gets through."""
    with pytest.raises(InvalidInputError, match="There is: favourites, mnodes"):
        RULES.check_collection("other")


@pytest.mark.parametrize(
    ("add", "remove"),
    [([], []), (["1", "2", "3"], []), ([], ["1", "2", "3"]), (["1"], ["2", "3"])],
)
def test_a_batch_of_the_greatest_size_is_fine(add: list[str], remove: list[str]) -> None:
    """The limit counts both together."""
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
def test_a_batch_of_one_more_is_too_large(add: list[str], remove: list[str]) -> None:
    """One call must not hold up a Redis that others use."""
    with pytest.raises(TooLargeError, match="may change 3 items; this one has 4"):
        RULES.check_change(add, remove)


@pytest.mark.parametrize("item", ["12345678", "ääää", "😀😀", "a b", "a/b:c", "\u00a0"])
def test_an_item_up_to_the_limit_in_bytes_is_fine(item: str) -> None:
    """Ids are the application's own affair."""
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
def test_an_item_that_cannot_be_an_id_is_not_added_but_may_be_removed(
    item: str, problem: str
) -> None:
    """Somebody else may have written it, or an older limit let it through."""
    RULES.check_change([], [item])
    with pytest.raises(InvalidInputError, match=problem):
        RULES.check_change([item], [])


@pytest.mark.parametrize("item", ["\ud800", "a\udfff"])
def test_what_is_no_text_is_neither_added_nor_removed(item: str) -> None:
    """JSON can spell it, and Redis cannot hold it."""
    with pytest.raises(InvalidInputError, match="not valid Unicode"):
        RULES.check_change([item], [])
    with pytest.raises(InvalidInputError, match="not valid Unicode"):
        RULES.check_change([], [item])


def test_every_item_is_looked_at() -> None:
    """A change is made as a whole or not at all."""
    with pytest.raises(InvalidInputError, match="empty"):
        RULES.check_change(["1", "2", ""], [])


def test_the_same_item_twice_in_one_list_is_fine() -> None:
    """A set does not mind."""
    RULES.check_change(["1", "1"], [])


def test_the_same_item_in_both_lists_is_a_contradiction() -> None:
    """Which of them should count?"""
    with pytest.raises(InvalidInputError, match="in `add` and in `remove`"):
        RULES.check_change(["1", "2"], ["2"])


def test_a_filter_of_the_greatest_size_is_fine() -> None:
    """A search shows a page of results at a time."""
    RULES.check_filter(["1"] * MAX_FILTER_IDS)


def test_a_filter_of_one_more_is_too_large() -> None:
    """One call must not hold up a Redis that others use."""
    with pytest.raises(TooLargeError, match="10000 ids; this one has 10001"):
        RULES.check_filter(["1"] * (MAX_FILTER_IDS + 1))


def test_a_filter_takes_ids_that_could_not_be_stored() -> None:
    """They are in no collection, so they stay: a search must not fail because of them."""
    RULES.check_filter(["", "a\n", "longer than any item may be"])


def test_a_filter_refuses_what_is_no_text() -> None:
    """Redis could not be asked about it."""
    with pytest.raises(InvalidInputError, match="not valid Unicode"):
        RULES.check_filter(["1", "\ud800"])


def test_the_sentence_for_a_full_collection_says_what_to_do() -> None:
    """It is shown as it is."""
    assert RULES.format_full_message("mnodes", 100) == (
        "The collection mnodes may hold 100 items and holds 100; nothing was changed. "
        "Remove some first."
    )


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_stored_as_its_own_bytes(item: str) -> None:
    """The application reads the set directly and knows nothing of us."""
    assert encode_item(item).decode() == item


@given(
    add=st.lists(st.text(st.characters(), max_size=10), max_size=4),
    remove=st.lists(st.text(st.characters(), max_size=10), max_size=4),
)
def test_a_change_is_fine_or_refused_in_words(add: list[str], remove: list[str]) -> None:
    """Whatever JSON can spell, the answer is never a server error."""
    with suppress(InvalidInputError):
        RULES.check_change(add, remove)
