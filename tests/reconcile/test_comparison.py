"""Reconciling with GitHub's list: which differences are repaired, and which prove nothing."""

import json
from datetime import timedelta

import httpx
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.people import Tier
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from tests.conftest import SPONSORABLE, Clock, RunBrowser
from tests.reconcile.conftest import ACTIVE, Replica, open_replica
from tests.support.use_cases import (
    FORMER,
    MONTHLY,
    PRIVATE,
    STRANGER,
    UseCases,
    find_sponsorship,
    open_services,
)


async def test_a_first_comparison_saves_every_active_sponsor(replica: Replica) -> None:
    """A former sponsor gets no facts."""
    summary = await replica.compare()

    assert (summary.reason, summary.counts) == (None, {"created": ACTIVE})
    assert (summary.total, summary.people, summary.pages) == (ACTIVE + 1, ACTIVE + 1, 1)
    assert PRIVATE in await replica.entitled()
    assert await replica.facts(FORMER) == {}
    assert (summary.points, summary.budget is not None) == (1, True)
    assert await replica.local.sismember(keys.DIRTY, str(PRIVATE))


async def test_a_comparison_without_differences_changes_nothing(replica: Replica) -> None:
    """No person becomes dirty, and no drift is reported."""
    await replica.compare()
    await replica.local.delete(keys.DIRTY)
    summary = await replica.compare()

    assert (summary.counts, summary.newer) == ({}, 0)
    assert await replica.local.scard(keys.DIRTY) == 0


async def test_a_missed_created_is_repaired_and_reported(replica: Replica) -> None:
    """A lost webhook event must not keep a sponsor out."""
    await replica.compare()
    replica.github.people.sponsor("stranger", SPONSORABLE, cents=500)
    summary = await replica.compare()

    assert [(d.person_id, d.kind) for d in summary.drifts] == [(STRANGER, "created")]
    assert STRANGER in await replica.entitled()
    assert (await replica.facts(STRANGER))["tier_cents"] == "500"
    assert await replica.last_audited() == ("granted", STRANGER)


@pytest.mark.parametrize("how", ["is listed as ended", "is not listed"])
async def test_a_missed_cancelled_is_repaired_and_reported(replica: Replica, how: str) -> None:
    """GitHub may or may not still list the ended sponsorship."""
    await replica.compare()
    people, sponsorship = replica.github.people, find_sponsorship(replica.github)
    sponsorship.is_ended = True
    if how == "is not listed":
        people.sponsorships.remove(sponsorship)
    summary = await replica.compare()

    assert [(d.person_id, d.kind) for d in summary.drifts] == [(MONTHLY, "ended")]
    assert MONTHLY not in await replica.entitled()
    assert await replica.last_audited() == ("lost", MONTHLY)


async def test_a_missed_tier_change_is_repaired_and_reported(replica: Replica) -> None:
    """The tier decides what a sponsor may see."""
    await replica.compare()
    find_sponsorship(replica.github).tier = Tier(2500)
    summary = await replica.compare()

    assert [(d.person_id, d.kind) for d in summary.drifts] == [(MONTHLY, "changed")]
    assert (await replica.facts(MONTHLY))["tier_cents"] == "2500"


async def test_a_dry_run_only_reports(replica: Replica) -> None:
    """An administrator wants to see the drifts before they are repaired."""
    summary = await replica.compare(dry_run=True)

    assert (summary.is_dry_run, summary.counts) == (True, {"created": ACTIVE})
    assert await replica.local.keys("*") == []


async def test_the_best_of_several_sponsorships_counts_over_all_pages(replica: Replica) -> None:
    """An ended sponsorship may be pages before the active one, or pages after it."""
    people = replica.github.people
    people.sponsor("stranger", SPONSORABLE, cents=700, days_ago=2000)
    replica.add_sponsors(150)
    people.sponsor("stranger", SPONSORABLE, cents=100, days_ago=1, ended=True)
    people.sponsor("monthly", SPONSORABLE, cents=1, days_ago=3000, ended=True)
    first = await replica.compare()
    again = await replica.compare()

    assert (first.pages, again.counts) == (2, {})
    assert (await replica.facts(STRANGER))["tier_cents"] == "700"
    assert (await replica.facts(MONTHLY))["tier_cents"] == "1000"
    assert {"changed", "ended"}.isdisjoint(first.counts)


async def test_a_one_time_payment_does_not_replace_a_monthly_sponsorship(replica: Replica) -> None:
    """The newer payment is pages before the sponsorship; a failure in between changes nothing."""
    people = replica.github.people
    replica.add_sponsors(150, days_ago=2)
    people.sponsor("monthly", SPONSORABLE, cents=100, days_ago=1, one_time=True)
    await replica.compare()
    stored = await replica.facts(MONTHLY)
    replica.way.pages, between = 0, {}

    async def record(page: int) -> None:
        between[page] = await replica.facts(MONTHLY)
        replica.github.switches.forbidden = page > 1

    replica.way.before = record
    failed = await replica.compare()
    replica.way.before, replica.github.switches.forbidden = None, False
    complete = await replica.compare()

    assert (stored["tier_cents"], "valid_until" in stored) == ("1000", False)
    assert between[2] == await replica.facts(MONTHLY) == stored
    assert (failed.counts, complete.counts) == ({}, {})


async def test_a_missing_detail_is_completed_without_a_drift(replica: Replica) -> None:
    """Webhook events have no payment source, so its absence is no sign of a missed event."""
    await replica.compare()
    await replica.local.hdel(keys.sponsorship(SPONSORABLE, MONTHLY), "payment_source")
    summary = await replica.compare()

    assert (summary.counts, summary.drifts) == ({}, [])
    assert (await replica.facts(MONTHLY))["payment_source"] == "github"


async def test_an_override_during_the_comparison_is_kept(replica: Replica) -> None:
    """The reconcile changes the facts as they are when it saves, not as it loaded them."""
    await replica.compare()
    find_sponsorship(replica.github).is_ended = True
    replica.add_sponsors(150)
    replica.way.pages = 0

    async def override(page: int) -> None:
        if page > 1:
            await replica.override(MONTHLY)

    replica.way.before = override
    summary = await replica.compare()

    facts = await replica.facts(MONTHLY)
    assert summary.counts["ended"] == 1
    assert (int(facts["valid_until"]), facts["also_until"]) == (
        int(replica.clock.now.timestamp()),
        "never",
    )
    assert MONTHLY in await replica.entitled()


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        ("forbidden", True),
        ("forbidden_data", True),
        ("partial", True),
        ("rate_limited", True),
        ("secondary_limit", True),
        ("insufficient_scopes", True),
        ("fail", {"graphql"}),
        ("bad_json", {"graphql"}),
    ],
)
async def test_half_an_answer_ends_nothing(replica: Replica, switch: str, value: object) -> None:
    """The summary has the reason, and for a limit when GitHub may be asked again."""
    await replica.compare()
    before = await replica.entitled()
    people = replica.github.people
    people.sponsorships.clear()
    people.sponsor("stranger", SPONSORABLE)
    setattr(replica.github.switches, switch, value)
    summary = await replica.compare()

    assert summary.reason is not None
    assert (await replica.entitled(), summary.counts) == (before, {})
    assert (summary.retry_after_s == 60) == ("limit" in switch)
    assert await replica.local.exists(keys.RECONCILING) == 0


async def test_a_failure_on_the_last_page_ends_no_entitlement(replica: Replica) -> None:
    """Sponsors on the earlier pages are entitled all the same."""
    await replica.compare()
    replica.github.people.sponsorships.clear()
    replica.add_sponsors(150)
    find_sponsorship(replica.github, "p0").is_ended = True
    replica.way.pages = 0

    async def break_second(page: int) -> None:
        replica.github.switches.forbidden = page > 1

    replica.way.before = break_second
    failed = await replica.compare()
    after_failure = await replica.entitled()
    replica.way.before = None
    replica.github.switches.forbidden = False
    complete = await replica.compare()

    assert (failed.pages, list(failed.counts)) == (1, ["created"])
    assert MONTHLY in after_failure
    assert complete.counts["ended"] == ACTIVE - 1  # a one-time payment ends by itself
    assert MONTHLY not in await replica.entitled()


@pytest.mark.parametrize("is_former_listed", [False, True], ids=["unlisted", "former"])
async def test_possibly_hidden_sponsors_stay(replica: Replica, *, is_former_listed: bool) -> None:
    """GitHub lists null for some sponsorships, and a null may be one that is still active."""
    await replica.compare()
    find_sponsorship(replica.github).is_null = True
    if is_former_listed:
        replica.github.people.sponsor("monthly", SPONSORABLE, cents=100, days_ago=900, ended=True)
    summary = await replica.compare()

    assert (summary.hidden, summary.unknown, summary.counts) == (1, 1, {})
    assert MONTHLY in await replica.entitled()


async def test_a_list_shorter_than_its_total_ends_no_entitlement(replica: Replica) -> None:
    """GitHub sends the total with each page, so a gap is noticed."""
    await replica.compare()
    before = await replica.entitled()
    replica.way.rewrite = _without_nodes
    summary = await replica.compare()

    assert "0 of 6" in (summary.reason or "")
    assert (await replica.entitled(), summary.counts) == (before, {})


async def test_a_complete_answer_removes_unknown_since(replica: Replica) -> None:
    """GitHub has answered, also about a former sponsor that it still lists."""
    await replica.compare()
    find_sponsorship(replica.github).is_ended = True
    await replica.compare()
    key = keys.sponsorship(SPONSORABLE, MONTHLY)
    await replica.local.hset(key, "unknown_since", "1795420800")
    summary = await replica.compare()

    assert summary.counts == {}
    assert "unknown_since" not in await replica.facts(MONTHLY)


async def test_a_token_of_another_person_is_refused(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock, replica: Replica
) -> None:
    """Such a token sees no private sponsorship, so each of them would end."""
    await replica.compare()
    async with open_replica(settings, github, local, clock, login="stranger") as other:
        summary = await other.compare()

    assert "does not belong to maintainer" in (summary.reason or "")
    assert PRIVATE in await replica.entitled()


async def test_an_owners_token_shows_the_sponsors_of_an_organization(
    settings: Settings, github: SimulatedGitHub, local: Redis, clock: Clock
) -> None:
    """The token of a person works for an organization that the person owns."""
    owner = github.people.get_person("maintainer")
    github.people.add_organization("octo-org", owners=[owner], has_sponsors_listing=True)
    github.people.sponsor("private", "octo-org", private=True)
    settings = settings.model_copy(update={"sponsorables": ("octo-org", "gone")})
    async with open_replica(settings, github, local, clock, login="maintainer") as replica:
        summary = await replica.compare()

    assert await local.sismember(keys.sponsors("octo-org"), str(PRIVATE))
    assert summary.reason == "gone: GitHub knows no account gone."


async def test_events_during_a_comparison_are_newer(replica: Replica, settings: Settings) -> None:
    """The reconcile must neither end the new entitlement nor restore the ended one."""
    await replica.compare()
    github, clock = replica.github, replica.clock
    ended = find_sponsorship(github)
    begun = github.people.sponsor("stranger", SPONSORABLE)
    github.people.sponsorships.remove(begun)  # GitHub's list is older than the event
    async with open_services(settings, httpx.ASGITransport(github.app), clock) as services:
        use_cases = UseCases(services, github, clock)

        async def report(_: int) -> None:
            await use_cases.receive("created", begun)
            await use_cases.receive("cancelled", ended)

        replica.way.before = report
        summary = await replica.compare()

    assert (summary.newer, summary.counts) == (2, {})
    assert STRANGER in await replica.entitled()
    assert MONTHLY not in await replica.entitled()


async def test_an_announced_end_is_kept(replica: Replica) -> None:
    """GitHub lists the sponsorship as active until then, and lists no end."""
    await replica.compare()
    end = int((replica.clock.now + timedelta(days=3)).timestamp())
    await replica.local.hset(keys.sponsorship(SPONSORABLE, MONTHLY), "valid_until", end)
    summary = await replica.compare()

    assert summary.counts == {}
    assert (await replica.facts(MONTHLY))["valid_until"] == str(end)


async def test_refresh_is_answered_also_for_a_non_sponsor(replica: Replica) -> None:
    """A person who asked for a refresh gets the facts 'no sponsorship'; others get none."""
    await replica.compare()
    key = keys.sponsorship(SPONSORABLE, STRANGER)
    await replica.reconciliations.admit_refresh(STRANGER)
    await replica.compare(dry_run=True)
    before = await replica.facts(STRANGER)
    first = await replica.compare()
    answered = await replica.facts(STRANGER)
    await replica.local.hset(key, "unknown_since", "1795420800")
    await replica.compare()
    unasked = await replica.facts(STRANGER)
    await replica.local.delete(
        f"sponsorsync:refreshed:{STRANGER}"
    )  # as the TTL does after a minute
    await replica.reconciliations.admit_refresh(STRANGER)
    await replica.compare()

    assert (before, answered["source"], first.counts) == ({}, "none", {})
    assert "unknown_since" in unasked
    assert "unknown_since" not in await replica.facts(STRANGER)
    assert await replica.reconciliations.load_awaiting(SPONSORABLE) == []


async def test_refresh_of_a_possibly_hidden_sponsor_stays_open(replica: Replica) -> None:
    """Each person may be the sponsor that GitHub lists as null, so there is no answer yet."""
    find_sponsorship(replica.github).is_null = True
    await replica.reconciliations.admit_refresh(MONTHLY)
    await replica.compare()

    assert await replica.facts(MONTHLY) == {}
    assert await replica.reconciliations.load_awaiting(SPONSORABLE) == [MONTHLY]


async def test_a_deleted_account_gets_no_facts(replica: Replica, run_browser: RunBrowser) -> None:
    """The person had asked for a refresh before the deletion."""
    async with run_browser() as browser:
        await browser.sign_in("stranger")
        await replica.reconciliations.admit_refresh(STRANGER)
        await browser.delete("/me")
    await replica.compare()

    assert await replica.facts(STRANGER) == {}


async def test_wrong_type_keys_of_some_people_do_not_stop_a_comparison(replica: Replica) -> None:
    """The entitlement of one person and the set of another are strings; the log names both keys."""
    await replica.compare()
    people = replica.github.people
    for role in ("monthly", "one-time", "patreon"):
        find_sponsorship(replica.github, role).is_ended = True
    people.sponsor("stranger", SPONSORABLE)
    wrong = keys.sponsorship(SPONSORABLE, PRIVATE), keys.preferences(MONTHLY, "mnodes")
    for key in wrong:
        await replica.local.delete(key)
        await replica.local.set(key, "somebody else's")
    with capture_logs() as logs:
        summary = await replica.compare()
    reasons = {log["person"]: log["reason"] for log in logs if "person" in log}

    assert (summary.reason, summary.conflicts) == (None, 2)
    assert summary.counts == {"created": 1, "ended": 1}
    assert await replica.reconciliations.load_reconciled(SPONSORABLE) is not None
    assert STRANGER in await replica.entitled()
    assert (wrong[0] in reasons[PRIVATE], wrong[1] in reasons[MONTHLY]) == (True, True)


async def test_a_shared_wrong_type_key_makes_a_comparison_incomplete(replica: Replica) -> None:
    """The audit trail is a string, so no change of any person can be saved."""
    await replica.local.set(keys.AUDIT, "somebody else's")
    with capture_logs() as logs:
        summary = await replica.compare()

    assert "data of another kind" in (summary.reason or "")
    assert keys.AUDIT in str(logs)
    assert await replica.reconciliations.load_reconciled(SPONSORABLE) is None


def _without_nodes(answer: bytes) -> bytes:
    content = json.loads(answer)
    content["data"]["repositoryOwner"]["sponsorshipsAsMaintainer"]["nodes"] = []
    return json.dumps(content).encode()
