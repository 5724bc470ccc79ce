"""Every source of entitlement is explained; an unknown one is an error."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

import pytest

from sponsorsync.domain.entitlement import evaluate
from sponsorsync.domain.sources import EntitlementSource, Grant, explain
from tests.support.entitlements import NOT_A_SPONSOR, NOW, POLICY, YESTERDAY

GRANT = Grant(source=EntitlementSource.PATREON, since=YESTERDAY, until=None)


@pytest.mark.parametrize("until", [None, NOW - timedelta(hours=1)])
def test_each_source_has_sentences_of_its_own(until: datetime | None) -> None:
    """Otherwise the sentence would name the wrong source."""
    sources = [each for each in EntitlementSource if each is not EntitlementSource.NONE]
    grants = [replace(GRANT, source=each, until=until) for each in sources]

    assert len({explain(each, "maintainer", now=NOW) for each in grants}) == len(sources)


@pytest.mark.parametrize("source", [EntitlementSource.NONE, cast("EntitlementSource", "liberapay")])
def test_an_unknown_source_is_taken_for_no_other(source: EntitlementSource) -> None:
    """A source that the domain does not list raises an error."""
    facts = replace(NOT_A_SPONSOR, grants=(replace(GRANT, source=source),))

    with pytest.raises(AssertionError):
        evaluate("maintainer", facts, policy=POLICY, now=NOW)
