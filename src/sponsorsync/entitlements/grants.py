"""Finds and replaces a source's grant in a person's facts; each source has at most one there."""

from dataclasses import replace

from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.sources import EntitlementSource, Grant


def find_grant(facts: EntitlementFacts, source: EntitlementSource) -> Grant | None:
    """Returns the grant of a source, or None."""
    return next((each for each in facts.grants if each.source is source), None)


def replace_grant(
    facts: EntitlementFacts, source: EntitlementSource, grant: Grant | None
) -> EntitlementFacts:
    """Returns the facts with this grant in place of the source's former one; None removes it."""
    others = tuple(each for each in facts.grants if each.source is not source)
    return replace(facts, grants=others if grant is None else (*others, grant))
