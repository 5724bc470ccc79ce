"""Evaluating stored facts to an entitlement: every rule, with a fixed time."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sponsorsync.domain.entitlement import (
    Entitlement,
    EntitlementFacts,
    EntitlementPolicy,
    EntitlementStatus,
    evaluate,
)
from sponsorsync.domain.sources import EntitlementSource, Grant, PaymentSource
from tests.support.entitlements import (
    DAY,
    ENTITLED,
    LAPSED,
    NEVER,
    NOT_A_SPONSOR,
    NOW,
    PAID_ONCE,
    POLICY,
    SECOND,
    TOMORROW,
    YESTERDAY,
)


def _evaluate(
    facts: EntitlementFacts | None, *, policy: EntitlementPolicy = POLICY, now: datetime = NOW
) -> Entitlement:
    return evaluate("maintainer", facts, policy=policy, now=now)


# --- one source -----------------------------------------------------------------------------------


YES, NO, UNKNOWN = (
    EntitlementStatus.ENTITLED,
    EntitlementStatus.NOT_ENTITLED,
    EntitlementStatus.UNKNOWN,
)


@pytest.mark.parametrize(
    ("facts", "answered", "failing", "stale"),
    [
        (NOT_A_SPONSOR, NO, UNKNOWN, UNKNOWN),
        (ENTITLED, YES, YES, UNKNOWN),
        (LAPSED, NO, UNKNOWN, UNKNOWN),
        (PAID_ONCE, YES, YES, UNKNOWN),
    ],
    ids=["not a sponsor", "entitled", "lapsed", "paid once"],
)
def test_the_status_for_each_state_and_each_length_of_outage(
    facts: EntitlementFacts,
    answered: EntitlementStatus,
    failing: EntitlementStatus,
    stale: EntitlementStatus,
) -> None:
    """During an outage a 'yes' holds for a limited time, and a 'no' becomes unknown at once."""
    assert _evaluate(facts).status is answered
    assert _evaluate(replace(facts, unknown_since=YESTERDAY)).status is failing
    assert _evaluate(replace(facts, unknown_since=NOW - 4 * DAY)).status is stale


def test_the_status_without_facts_is_unknown() -> None:
    """Unknown is not 'no'."""
    assert _evaluate(NEVER).status is UNKNOWN


@pytest.mark.parametrize(
    ("facts", "end", "status_after"),
    [
        (PAID_ONCE, TOMORROW, NO),
        (replace(ENTITLED, unknown_since=NOW), NOW + POLICY.stale, UNKNOWN),
        (replace(PAID_ONCE, unknown_since=NOW), TOMORROW, UNKNOWN),
    ],
    ids=["known end", "outage", "known end during an outage"],
)
def test_the_end_of_an_entitlement_is_exclusive(
    facts: EntitlementFacts, end: datetime, status_after: EntitlementStatus
) -> None:
    """The Redis scripts have the same rule; an outage begins at the first failed check."""
    assert _evaluate(facts, now=end - SECOND).status is YES
    assert _evaluate(facts, now=end).status is status_after
    assert _evaluate(facts, now=end + SECOND).status is status_after


SILENT = (
    "GitHub has not answered since 2026-11-21 12:30 UTC; by its last answer you sponsor "
    "maintainer, access until "
)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (NEVER, "It is not known yet whether you sponsor maintainer. Sign in again to check."),
        (NOT_A_SPONSOR, "GitHub shows no sponsorship of maintainer by your account."),
        (ENTITLED, "You sponsor maintainer with $10.00 a month."),
        (
            replace(ENTITLED, tier_cents=123456),
            "You sponsor maintainer with $1,234.56 a month.",
        ),
        (PAID_ONCE, "You sponsor maintainer with a one-time $25.00, access until 2026-11-23."),
        (
            replace(ENTITLED, tier_cents=None, payment_source=PaymentSource.PATREON),
            "You sponsor maintainer through Patreon.",
        ),
        (replace(ENTITLED, tier_cents=None, payment_source=None), "You sponsor maintainer."),
        (LAPSED, "Your sponsorship of maintainer with $10.00 a month ended by 2026-11-21."),
        (replace(ENTITLED, unknown_since=YESTERDAY), f"{SILENT}2026-11-24 12:30 UTC."),
        (replace(PAID_ONCE, unknown_since=YESTERDAY), f"{SILENT}2026-11-23 12:30 UTC."),
        (
            replace(ENTITLED, unknown_since=NOW - 4 * DAY),
            (
                "GitHub has not answered since 2026-11-18 12:30 UTC, so it is not known whether "
                "you sponsor maintainer. Sign in again to check."
            ),
        ),
    ],
)
def test_the_reason_is_a_sentence_for_the_person(
    facts: EntitlementFacts | None, sentence: str
) -> None:
    """The account page shows this text, so it must not promise too much."""
    entitlement = _evaluate(facts)

    assert (entitlement.sponsorable, entitlement.facts) == ("maintainer", facts)
    assert entitlement.reason == sentence


# --- several sources: every combination -----------------------------------------------------------

# Each source in each of its states, with status, cents and end if it were the only source.
MEMBERS = replace(POLICY, entitles_members=True)
Alone = tuple[EntitlementStatus, int | None, datetime | None]


def _yes(cents: int | None, until: datetime | None) -> Alone:
    return YES, cents, until


def _no() -> Alone:
    return NO, None, None


OWN: dict[str, tuple[EntitlementFacts, Alone]] = {
    "never asked": (EntitlementFacts("maintainer", checked_at=None), (UNKNOWN, None, None)),
    "none": (NOT_A_SPONSOR, _no()),
    "monthly": (ENTITLED, _yes(1000, None)),
    "cancelled": (replace(ENTITLED, valid_until=TOMORROW), _yes(1000, TOMORROW)),
    "ended": (LAPSED, _no()),
    "one-time": (PAID_ONCE, _yes(2500, TOMORROW)),
    "one-time over": (replace(PAID_ONCE, valid_until=YESTERDAY), _no()),
    "by patreon": (
        replace(ENTITLED, tier_cents=None, payment_source=PaymentSource.PATREON),
        _yes(None, None),
    ),
    "no tier": (replace(ENTITLED, tier_cents=None, payment_source=None), _yes(None, None)),
    "silent": (replace(ENTITLED, unknown_since=YESTERDAY), _yes(1000, YESTERDAY + POLICY.stale)),
    "silent too long": (replace(ENTITLED, unknown_since=NOW - 4 * DAY), (UNKNOWN, None, None)),
    "none, silent": (replace(NOT_A_SPONSOR, unknown_since=YESTERDAY), (UNKNOWN, None, None)),
    "none, partial": (replace(NOT_A_SPONSOR, is_partial=True), (UNKNOWN, None, None)),
    "monthly, partial": (replace(ENTITLED, is_partial=True), _yes(1000, None)),
}

ORGANIZATION = Grant(
    source=EntitlementSource.ORGANIZATION,
    since=NOW - 200 * DAY,
    until=NOW + 20 * DAY,
    cents=10_000,
    organization_id=17_562_948,
    organization="sponsoring-org",
    member_until=NOW + 20 * DAY,
)
ORGANIZATIONS: dict[str, tuple[Grant | None, Alone]] = {
    "no organization": (None, _no()),
    "organization": (ORGANIZATION, _yes(10_000, NOW + 20 * DAY)),
    "cheap organization": (replace(ORGANIZATION, cents=500), _yes(500, NOW + 20 * DAY)),
    "organization without a tier": (replace(ORGANIZATION, cents=None), _yes(None, NOW + 20 * DAY)),
    "organization ended": (replace(ORGANIZATION, until=YESTERDAY), _no()),
    "membership over": (replace(ORGANIZATION, until=YESTERDAY, member_until=YESTERDAY), _no()),
    "no seat": (replace(ORGANIZATION, has_seat=False), _no()),
}

OVERRIDE = Grant(
    source=EntitlementSource.OVERRIDE,
    since=NOW - DAY,
    until=None,
    reason="translated the manual",
    actor="an administrator",
)
OVERRIDES: dict[str, tuple[Grant | None, Alone]] = {
    "no override": (None, _no()),
    "override": (OVERRIDE, _yes(None, None)),
    "override with a tier and an end": (
        replace(OVERRIDE, cents=2000, until=TOMORROW),
        _yes(2000, TOMORROW),
    ),
    "override over": (replace(OVERRIDE, until=NOW), _no()),
}

PATRONAGE = Grant(
    source=EntitlementSource.PATREON, since=NOW - 50 * DAY, until=NOW + 10 * DAY, cents=700
)
PATRONAGES: dict[str, tuple[Grant | None, Alone]] = {
    "no patron": (None, _no()),
    "patron": (PATRONAGE, _yes(700, NOW + 10 * DAY)),
    "former patron": (replace(PATRONAGE, until=YESTERDAY), _no()),
}


def _best(alone: Sequence[Alone]) -> Alone:
    """The rule: each source can entitle; the highest tier wins, then the latest end."""
    entitling = [each for each in alone if each[0] is EntitlementStatus.ENTITLED]
    if not entitling:
        return (UNKNOWN, None, None) if any(each[0] is UNKNOWN for each in alone) else _no()
    return max(
        entitling,
        key=lambda each: (
            -1 if each[1] is None else each[1],
            each[2] or datetime.max.replace(tzinfo=UTC),
        ),
    )


@pytest.mark.parametrize("are_members_entitled", [True, False])
@pytest.mark.parametrize("patron", PATRONAGES)
@pytest.mark.parametrize("override", OVERRIDES)
@pytest.mark.parametrize("organization", ORGANIZATIONS)
@pytest.mark.parametrize("own", OWN)
def test_every_combination_of_sources(
    own: str, organization: str, override: str, patron: str, *, are_members_entitled: bool
) -> None:
    """One entitling source is enough, and no other source takes anything away from it."""
    facts, own_alone = OWN[own]
    (at_org, org_alone), (by_hand, hand_alone) = ORGANIZATIONS[organization], OVERRIDES[override]
    at_patreon, patron_alone = PATRONAGES[patron]
    grants = tuple(grant for grant in (at_org, by_hand, at_patreon) if grant)
    facts = replace(facts, grants=grants, memberships_checked_at=YESTERDAY)
    policy = MEMBERS if are_members_entitled else POLICY

    entitlement = _evaluate(facts, policy=policy)

    expected = _best(
        [own_alone, *([org_alone] if are_members_entitled else []), hand_alone, patron_alone]
    )
    assert (entitlement.status, entitlement.tier_cents, entitlement.until) == expected
    assert (entitlement.source is EntitlementSource.NONE) is (entitlement.status is not YES)
    assert len(entitlement.considered) == 1 + len(facts.grants) - (
        at_org is not None and not are_members_entitled
    )
    assert all(each.reason.endswith((".", "?")) for each in entitlement.considered)


@pytest.mark.parametrize(
    ("checked_at", "unknown_since", "policy", "status"),
    [
        (YESTERDAY, None, MEMBERS, NO),
        (None, None, MEMBERS, UNKNOWN),
        (YESTERDAY, YESTERDAY, MEMBERS, UNKNOWN),
        (None, None, POLICY, NO),
        (YESTERDAY, YESTERDAY, POLICY, NO),
    ],
    ids=["shown", "never shown", "partly shown", "never asked", "no matter"],
)
def test_hidden_organizations_make_a_no_unknown(
    checked_at: datetime | None,
    unknown_since: datetime | None,
    policy: EntitlementPolicy,
    status: EntitlementStatus,
) -> None:
    """An organization that GitHub hides may be a sponsor, if members are entitled at all."""
    facts = replace(
        NOT_A_SPONSOR, memberships_checked_at=checked_at, memberships_unknown_since=unknown_since
    )

    assert _evaluate(facts, policy=policy).status is status


def test_members_may_be_entitled_without_the_tier() -> None:
    """The maintainer may reserve the features of a tier for those who pay for it themselves."""
    facts = replace(NOT_A_SPONSOR, grants=(ORGANIZATION,), memberships_checked_at=YESTERDAY)

    entitlement = _evaluate(facts, policy=replace(MEMBERS, members_inherit_tier=False))

    assert (entitlement.status, entitlement.tier_cents) == (YES, None)


def test_a_sponsorship_through_patreon_has_the_configured_tier() -> None:
    """GitHub sends no tier for a sponsorship through Patreon."""
    facts = replace(ENTITLED, tier_cents=None, payment_source=PaymentSource.PATREON)

    entitlement = _evaluate(facts, policy=replace(POLICY, hidden_tier_cents=300))

    assert entitlement.tier_cents == 300
    assert entitlement.reason == "You sponsor maintainer through Patreon."


@pytest.mark.parametrize(
    ("grant", "reason"),
    [
        (
            ORGANIZATION,
            (
                "sponsoring-org, to which you belong, sponsors maintainer with $100.00 a month, "
                "access until 2026-12-12."
            ),
        ),
        (
            replace(ORGANIZATION, has_seat=False),
            (
                "sponsoring-org, to which you belong, sponsors maintainer, but its seats are taken "
                "by other members."
            ),
        ),
        (
            replace(ORGANIZATION, until=YESTERDAY),
            (
                "The sponsorship of maintainer by sponsoring-org, to which you belong, ended by "
                "2026-11-21."
            ),
        ),
        (
            replace(ORGANIZATION, until=YESTERDAY, member_until=YESTERDAY),
            (
                "GitHub has to confirm again that you belong to sponsoring-org, which sponsored "
                "maintainer: sign in again."
            ),
        ),
        (replace(OVERRIDE, until=TOMORROW), "An administrator gave you access until 2026-11-23."),
        (OVERRIDE, "An administrator gave you access."),
        (
            replace(OVERRIDE, until=YESTERDAY),
            "The access that an administrator gave you ended by 2026-11-21.",
        ),
        (
            replace(OVERRIDE, source=EntitlementSource.SPONSORSHIP, cents=2500, until=TOMORROW),
            "You sponsor maintainer with a one-time $25.00, access until 2026-11-23.",
        ),
        (
            PATRONAGE,
            "You support maintainer on Patreon with $7.00 a month, access until 2026-12-02.",
        ),
        (
            replace(PATRONAGE, until=YESTERDAY),
            (
                "Your access through Patreon ended by 2026-11-21. Link Patreon again if you still "
                "support maintainer there."
            ),
        ),
    ],
)
def test_the_reason_of_each_grant(grant: Grant, reason: str) -> None:
    """The reason is about the grant; 'GitHub shows no sponsorship' would not help."""
    facts = replace(NOT_A_SPONSOR, grants=(grant,), memberships_checked_at=YESTERDAY)

    assert _evaluate(facts, policy=MEMBERS).reason == reason


def test_only_administrators_see_the_reason_of_an_override() -> None:
    """An administrator's reason may contain remarks about the person."""
    facts = replace(NOT_A_SPONSOR, grants=(OVERRIDE,))

    own, override = _evaluate(facts).considered

    assert own.note is None
    assert override.note == "an administrator: translated the manual"
    assert "manual" not in override.reason
