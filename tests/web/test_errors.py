"""The table of HTTP statuses has exactly the codes of the domain's errors."""

from collections.abc import Iterator
from http import HTTPStatus

from sponsorsync.domain import errors
from sponsorsync.web.errors import CHALLENGES, STATUSES

WITHOUT_OWN_CODE = {
    errors.SponsorSyncError,
    errors.SettingsError,  # it ends the start of the service, so no request meets it
    errors.NotEntitledError,  # only its subclasses are raised
    errors.StoreError,  # likewise
    errors.RetryLaterError,  # likewise
}
"""The errors that keep the root's code, which is answered as 500."""


def scan_tree(parent: type[errors.SponsorSyncError]) -> Iterator[type[errors.SponsorSyncError]]:
    """Yields a class and all its subclasses that the domain declares."""
    if parent.__module__ == errors.__name__:
        yield parent
    for child in parent.__subclasses__():
        yield from scan_tree(child)


TREE = set(scan_tree(errors.SponsorSyncError))
DECLARING = [kind for kind in TREE if "code" in vars(kind)]


def test_every_error_that_can_reach_http_has_a_code() -> None:
    """An error without its own code would be answered as 500."""
    assert {kind for kind in TREE if kind.code == errors.SponsorSyncError.code} == WITHOUT_OWN_CODE


def test_a_code_has_its_own_title() -> None:
    """An inherited title would describe another error."""
    assert [kind for kind in TREE if ("code" in vars(kind)) != ("title" in vars(kind))] == []


def test_codes_are_unique() -> None:
    """Programs distinguish errors by their codes."""
    codes = [kind.code for kind in DECLARING]

    assert sorted(codes) == sorted(set(codes))


def test_every_code_has_a_status_and_every_status_a_code() -> None:
    """No error lacks a status, and no status belongs to a removed code."""
    assert set(STATUSES) == {kind.code for kind in DECLARING}


def test_every_401_has_a_challenge() -> None:
    """RFC 9110, 11.6.1 requires WWW-Authenticate."""
    unauthorized = {code for code, status in STATUSES.items() if status is HTTPStatus.UNAUTHORIZED}

    assert set(CHALLENGES) == unauthorized
