"""The facts of a person after a source has answered about a linked account."""

from dataclasses import replace

import pytest

from sponsorsync.domain.sources import EntitlementSource, Grant
from sponsorsync.entitlements.account_link import apply_account
from sponsorsync.entitlements.grants import find_grant, replace_grant
from sponsorsync.linked_source import LinkedAccount
from tests.support.entitlements import DAY, ENTITLED, NOT_A_SPONSOR, NOW

SOURCE = EntitlementSource.PATREON
STORED = Grant(SOURCE, NOW - 300 * DAY, NOW + 100 * DAY, cents=500, account_id="17")
NEW = replace(STORED, cents=1000)
OVERRIDE = Grant(EntitlementSource.OVERRIDE, NOW, None, reason="Why", actor="an-operator")
ORGANIZATION = Grant(
    EntitlementSource.ORGANIZATION, NOW, None, organization_id=17, organization="org"
)
FACTS = replace(ENTITLED, grants=(ORGANIZATION, STORED, OVERRIDE))
ACCOUNT = LinkedAccount("17", lambda _stored, _now: NEW)


@pytest.mark.parametrize("stored", [STORED, replace(STORED, account_id="another")])
def test_a_new_grant_replaces_the_one_of_the_same_source(stored: Grant) -> None:
    """A person has one account at a source, so a grant of another account is replaced, too."""
    facts = replace(FACTS, grants=(ORGANIZATION, stored, OVERRIDE))

    applied = apply_account(facts, SOURCE, ACCOUNT, now=NOW)

    assert applied == replace(ENTITLED, grants=(ORGANIZATION, OVERRIDE, NEW))


@pytest.mark.parametrize(("account_id", "expected"), [("17", STORED), ("another", None)])
def test_another_accounts_grant_is_not_inherited(account_id: str, expected: Grant | None) -> None:
    """Otherwise a second account would keep the year that the first one has paid."""
    calls = []
    account = LinkedAccount(account_id, lambda stored, now: calls.append((stored, now)))

    apply_account(FACTS, SOURCE, account, now=NOW)

    assert calls == [(expected, NOW)]


def test_an_account_without_support_ends_the_grant_and_nothing_else() -> None:
    """The source has answered that this account does not support the maintainer."""
    facts = replace(NOT_A_SPONSOR, grants=(STORED, OVERRIDE))
    account = LinkedAccount("17", lambda _stored, _now: None)

    assert apply_account(facts, SOURCE, account, now=NOW) == replace(
        NOT_A_SPONSOR, grants=(OVERRIDE,)
    )


def test_removing_a_grant_leaves_all_else() -> None:
    """The other grants stay; removing a grant that does not exist changes nothing."""
    assert replace_grant(FACTS, SOURCE, None) == replace(ENTITLED, grants=(ORGANIZATION, OVERRIDE))
    assert replace_grant(ENTITLED, SOURCE, None) == ENTITLED
    assert find_grant(ENTITLED, SOURCE) is None
