"""Who is entitled, by what, until when: every answer, with the moment given."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from sponsorsync.domain.entitlement import (
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

if TYPE_CHECKING:
    from collections.abc import Sequence


def _evaluate(facts: EntitlementFacts | None, now: datetime = NOW) -> tuple[EntitlementStatus, str]:
    entitlement = evaluate("maintainer", facts, policy=POLICY, now=now)
    return entitlement.status, entitlement.reason


# --- judge ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        (NEVER, EntitlementStatus.UNKNOWN),
        (NOT_A_SPONSOR, EntitlementStatus.NOT_ENTITLED),
        (ENTITLED, EntitlementStatus.ENTITLED),
        (LAPSED, EntitlementStatus.NOT_ENTITLED),
        (PAID_ONCE, EntitlementStatus.ENTITLED),
        (replace(NOT_A_SPONSOR, unknown_since=YESTERDAY), EntitlementStatus.UNKNOWN),
        (replace(ENTITLED, unknown_since=YESTERDAY), EntitlementStatus.ENTITLED),
        (replace(LAPSED, unknown_since=YESTERDAY), EntitlementStatus.UNKNOWN),
        (replace(PAID_ONCE, unknown_since=YESTERDAY), EntitlementStatus.ENTITLED),
        (replace(NOT_A_SPONSOR, unknown_since=NOW - 4 * DAY), EntitlementStatus.UNKNOWN),
        (replace(ENTITLED, unknown_since=NOW - 4 * DAY), EntitlementStatus.UNKNOWN),
        (replace(LAPSED, unknown_since=NOW - 4 * DAY), EntitlementStatus.UNKNOWN),
        (replace(PAID_ONCE, unknown_since=NOW - 4 * DAY), EntitlementStatus.UNKNOWN),
    ],
    ids=[
        *("never", "not a sponsor", "entitled", "lapsed", "paid once"),
        *("no, failing", "entitled, failing", "lapsed, failing", "paid once, failing"),
        *("no, stale", "entitled, stale", "lapsed, stale", "paid once, stale"),
    ],
)
def test_the_answer_is_one_of_three(
    facts: EntitlementFacts | None, status: EntitlementStatus
) -> None:
    """While GitHub does not answer, a yes holds for a bounded time and a no becomes unknown."""
    assert _evaluate(facts)[0] is status


@pytest.mark.parametrize(
    ("now", "status"),
    [
        (TOMORROW - SECOND, EntitlementStatus.ENTITLED),
        (TOMORROW, EntitlementStatus.NOT_ENTITLED),
        (TOMORROW + SECOND, EntitlementStatus.NOT_ENTITLED),
    ],
)
def test_the_end_of_a_entitlement_is_exclusive(now: datetime, status: EntitlementStatus) -> None:
    """The scripts in Redis decide the same second alike."""
    assert _evaluate(PAID_ONCE, now)[0] is status


@pytest.mark.parametrize(
    ("now", "status"),
    [
        (NOW + POLICY.stale - SECOND, EntitlementStatus.ENTITLED),
        (NOW + POLICY.stale, EntitlementStatus.UNKNOWN),
        (NOW + POLICY.stale + SECOND, EntitlementStatus.UNKNOWN),
    ],
)
def test_the_time_of_not_knowing_is_bounded(now: datetime, status: EntitlementStatus) -> None:
    """It is counted from the first failed check."""
    assert _evaluate(replace(ENTITLED, unknown_since=NOW), now)[0] is status


def test_a_entitlement_ends_on_its_day_also_while_github_is_silent() -> None:
    """A one-time payment has a known end; no GitHub is needed to see it come."""
    facts = replace(PAID_ONCE, unknown_since=NOW)

    assert _evaluate(facts, TOMORROW - SECOND)[0] is EntitlementStatus.ENTITLED
    assert _evaluate(facts, TOMORROW)[0] is EntitlementStatus.UNKNOWN


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            NEVER,
            "GitHub has not told us yet whether you sponsor maintainer. Sign in again to ask.",
        ),
        (NOT_A_SPONSOR, "GitHub shows no sponsorship of maintainer by your account."),
        (ENTITLED, "You sponsor maintainer with $10.00 a month."),
        (
            replace(ENTITLED, tier_cents=123456),
            "You sponsor maintainer with $1,234.56 a month.",
        ),
        (PAID_ONCE, "You sponsor maintainer with a one-time $25.00 until 2026-11-23."),
        (
            replace(ENTITLED, tier_cents=None, payment_source=PaymentSource.PATREON),
            "You sponsor maintainer through Patreon.",
        ),
        (replace(ENTITLED, tier_cents=None, payment_source=None), "You sponsor maintainer."),
        (
            LAPSED,
            "Your sponsorship of maintainer with $10.00 a month ended by 2026-11-21.",
        ),
        (
            replace(ENTITLED, unknown_since=YESTERDAY),
            (
                "GitHub could not be asked since 2026-11-21 12:30 UTC; what was known before, that "
                "you sponsor maintainer, holds until 2026-11-24 12:30 UTC."
            ),
        ),
        (
            replace(PAID_ONCE, unknown_since=YESTERDAY),
            (
                "GitHub could not be asked since 2026-11-21 12:30 UTC; what was known before, that "
                "you sponsor maintainer, holds until 2026-11-23 12:30 UTC."
            ),
        ),
        (
            replace(ENTITLED, unknown_since=NOW - 4 * DAY),
            (
                "GitHub could not be asked since 2026-11-18 12:30 UTC, so whether you sponsor "
                "maintainer is not known. Sign in again to ask."
            ),
        ),
    ],
)
def test_the_reason_is_one_sentence_for_the_person(
    facts: EntitlementFacts | None, sentence: str
) -> None:
    """People see it on their account page; it promises no more than what holds."""
    assert _evaluate(facts)[1] == sentence


def test_the_answer_carries_what_it_rests_on() -> None:
    """The page shows the tier and the dates beside it."""
    entitlement = evaluate("maintainer", ENTITLED, policy=POLICY, now=NOW)

    assert (entitlement.sponsorable, entitlement.facts) == ("maintainer", ENTITLED)


# --- several sources: every combination -----------------------------------------------------------

# Each source in each of its states, with what that state alone amounts to.
MEMBERS = replace(POLICY, entitles_members=True)
UNKNOWN, NO = EntitlementStatus.UNKNOWN, EntitlementStatus.NOT_ENTITLED
Alone = tuple[EntitlementStatus, int | None, datetime | None]


def _yes(cents: int | None, until: datetime | None) -> Alone:
    return EntitlementStatus.ENTITLED, cents, until


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
    "silent": (
        replace(ENTITLED, unknown_since=YESTERDAY),
        _yes(1000, YESTERDAY + POLICY.stale),
    ),
    "silent too long": (
        replace(ENTITLED, unknown_since=NOW - 4 * DAY),
        (UNKNOWN, None, None),
    ),
    "none, silent": (
        replace(NOT_A_SPONSOR, unknown_since=YESTERDAY),
        (UNKNOWN, None, None),
    ),
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
    "organization without a tier": (
        replace(ORGANIZATION, cents=None),
        _yes(None, NOW + 20 * DAY),
    ),
    "organization ended": (replace(ORGANIZATION, until=YESTERDAY), _no()),
    "membership over": (
        replace(ORGANIZATION, until=YESTERDAY, member_until=YESTERDAY),
        _no(),
    ),
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
    """The rule in words: who is entitled by anything is; the highest tier, then the latest end."""
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
def test_every_combination(
    own: str, organization: str, override: str, patron: str, *, are_members_entitled: bool
) -> None:
    """Anything that entitles is enough, nothing that does not takes away, and unknown is not no."""
    facts, own_alone = OWN[own]
    (at_org, org_alone), (by_hand, hand_alone) = ORGANIZATIONS[organization], OVERRIDES[override]
    at_patreon, patron_alone = PATRONAGES[patron]
    facts = replace(
        facts,
        grants=tuple(grant for grant in (at_org, by_hand, at_patreon) if grant),
        memberships_checked_at=YESTERDAY,
    )
    policy = MEMBERS if are_members_entitled else POLICY

    entitlement = evaluate("maintainer", facts, policy=policy, now=NOW)

    expected = _best(
        [own_alone, *([org_alone] if are_members_entitled else []), hand_alone, patron_alone]
    )
    assert (entitlement.status, entitlement.tier_cents, entitlement.until) == expected
    assert (entitlement.source is EntitlementSource.NONE) is (
        entitlement.status is not EntitlementStatus.ENTITLED
    )
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
def test_hidden_organizations_are_not_a_no(
    checked_at: datetime | None,
    unknown_since: datetime | None,
    policy: EntitlementPolicy,
    status: EntitlementStatus,
) -> None:
    """An organization may keep OAuth apps out, and then nobody knows whether its members count."""
    facts = replace(
        NOT_A_SPONSOR,
        memberships_checked_at=checked_at,
        memberships_unknown_since=unknown_since,
    )

    assert evaluate("maintainer", facts, policy=policy, now=NOW).status is status


def test_members_need_not_inherit_the_tier() -> None:
    """A maintainer may let members in, and keep the features of a price for who pays it."""
    facts = replace(NOT_A_SPONSOR, grants=(ORGANIZATION,), memberships_checked_at=YESTERDAY)

    entitlement = evaluate(
        "maintainer", facts, policy=replace(MEMBERS, members_inherit_tier=False), now=NOW
    )

    assert (entitlement.status, entitlement.tier_cents) == (EntitlementStatus.ENTITLED, None)


def test_what_comes_through_patreon_counts_as_the_maintainer_says() -> None:
    """GitHub never tells that tier."""
    facts = replace(ENTITLED, tier_cents=None, payment_source=PaymentSource.PATREON)

    entitlement = evaluate(
        "maintainer", facts, policy=replace(POLICY, hidden_tier_cents=300), now=NOW
    )

    assert entitlement.tier_cents == 300
    assert entitlement.reason == "You sponsor maintainer through Patreon."


@pytest.mark.parametrize(
    ("grant", "reason"),
    [
        (
            ORGANIZATION,
            (
                "sponsoring-org, to which you belong, sponsors maintainer with $100.00 a month "
                "until 2026-12-12."
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
        (
            replace(OVERRIDE, until=TOMORROW),
            "An administrator gave you access until 2026-11-23.",
        ),
        (OVERRIDE, "An administrator gave you access."),
        (
            replace(OVERRIDE, until=YESTERDAY),
            "The access that an administrator gave you ended by 2026-11-21.",
        ),
        (
            replace(OVERRIDE, source=EntitlementSource.SPONSORSHIP, cents=2500, until=TOMORROW),
            "You sponsor maintainer with a one-time $25.00 until 2026-11-23.",
        ),
        (PATRONAGE, "You support maintainer on Patreon with $7.00 a month until 2026-12-02."),
        (
            replace(PATRONAGE, until=YESTERDAY),
            (
                "Your access through Patreon ended by 2026-11-21. Link Patreon again if you still "
                "support maintainer there."
            ),
        ),
    ],
)
def test_what_else_entitles_says_so_or_why_not(grant: Grant, reason: str) -> None:
    """The sentence is for the person; GitHub's own 'no' would not help them."""
    facts = replace(NOT_A_SPONSOR, grants=(grant,), memberships_checked_at=YESTERDAY)

    assert evaluate("maintainer", facts, policy=MEMBERS, now=NOW).reason == reason


def test_only_administrators_read_why_somebody_was_let_in() -> None:
    """It may be about the person, and is not for them."""
    facts = replace(NOT_A_SPONSOR, grants=(OVERRIDE,))

    own, override = evaluate("maintainer", facts, policy=POLICY, now=NOW).considered

    assert own.note is None
    assert override.note == "an administrator: translated the manual"
    assert "manual" not in override.reason
