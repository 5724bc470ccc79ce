"""A sign-in: its requests, the saved data, and missing answers of GitHub."""

from dataclasses import replace
from datetime import timedelta
from itertools import combinations

import httpx
import pytest

from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.errors import (
    GitHubError,
    GitHubLimitedError,
    GitHubTokenError,
    GitHubUnreachableError,
    LoginExpiredError,
)
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.web.services import Services
from tests.accounts.conftest import Way
from tests.conftest import Clock
from tests.support.use_cases import MONTHLY, UseCases, find_sponsorship

RATE_LIMITED = httpx.Response(200, json={"errors": [{"type": "RATE_LIMITED", "message": "…"}]})
SECONDARY_LIMIT = httpx.Response(403, headers={"Retry-After": "9"})


async def test_a_sign_in_is_two_round_trips(use_cases: UseCases, github: SimulatedGitHub) -> None:
    """The token is fetched first, then profile, addresses and sponsorships at the same time."""
    await use_cases.sign_in()

    assert github.requests.in_sequence("token", "user", "emails", "graphql") == 2
    token, *others = github.requests.all("token", "user", "emails", "graphql")
    assert (token.endpoint, len(others)) == ("token", 3)
    assert all(one.overlaps(other) for one, other in combinations(others, 2))


async def test_a_refused_code_fetches_nothing(services: Services, github: SimulatedGitHub) -> None:
    """Without a token there is no further request to GitHub."""
    with pytest.raises(LoginExpiredError):
        await services.sign_in.finish(code="bad", code_verifier="x" * 64, replaces=None)

    assert [each.endpoint for each in github.requests.all()] == ["token"]


async def test_a_sign_in_saves_profile_and_entitlement(use_cases: UseCases, clock: Clock) -> None:
    """Redis has the profile and the sponsorship as GitHub showed them."""
    done = await use_cases.sign_in()

    profile, facts = (await use_cases.load_profile(), await use_cases.load_facts())
    assert profile == done.profile
    assert (done.profile.id, done.profile.login) == (MONTHLY, "monthly")
    assert done.profile.email == "monthly@example.com"
    assert done.profile.first_seen == done.profile.last_login == clock.now
    assert facts is not None
    assert facts.source is EntitlementSource.SPONSORSHIP
    assert facts.tier_cents == 1000
    assert facts.checked_at == clock.now
    assert facts.since == clock.now - timedelta(days=400)
    assert facts.valid_until is None


async def test_first_seen_stays_and_last_login_moves(use_cases: UseCases, clock: Clock) -> None:
    """Administrators see how long a person is known, and when the last visit was."""
    first = (await use_cases.sign_in()).profile
    clock.advance(days=3)

    second = (await use_cases.sign_in()).profile

    assert second.first_seen == first.first_seen
    assert second.last_login == clock.now
    assert await use_cases.load_profile() == second


async def test_the_browsers_former_session_ends(use_cases: UseCases, services: Services) -> None:
    """An attacker may have planted that session in the browser (session fixation)."""
    first = await use_cases.sign_in()

    second = await use_cases.sign_in(replaces=first.session_token)

    assert await services.people.load_session(first.session_token) is None
    assert await services.people.load_session(second.session_token) == MONTHLY


async def test_a_renamed_account_is_the_same_person(use_cases: UseCases) -> None:
    """GitHub's account number identifies a person, not the login."""
    first = (await use_cases.sign_in()).profile
    use_cases.github.people.rename("monthly", "Renamed")
    use_cases.clock.advance(days=1)

    second = (await use_cases.sign_in("Renamed")).profile

    assert (second.id, second.login) == (MONTHLY, "Renamed")
    assert second.first_seen == first.first_seen
    facts = await use_cases.load_facts()
    assert facts.is_sponsoring(use_cases.clock.now)


async def test_the_next_owner_of_a_login_inherits_nothing(use_cases: UseCases) -> None:
    """After a rename, anybody can register the freed login."""
    await use_cases.sign_in()
    use_cases.github.people.rename("monthly", "renamed")
    use_cases.github.people.add_person("monthly", database_id=5)
    use_cases.clock.advance(days=1)

    other = (await use_cases.sign_in()).profile

    assert (other.id, other.first_seen) == (5, use_cases.clock.now)
    facts = await use_cases.load_facts(5)
    assert facts == EntitlementFacts(sponsorable="maintainer", checked_at=use_cases.clock.now)


async def test_a_sponsorship_that_ended_ends_the_entitlement(use_cases: UseCases) -> None:
    """The end is the time of the first sign-in that shows it, and stays at later ones."""
    await use_cases.sign_in()
    sponsorship = find_sponsorship(use_cases.github)
    sponsorship.is_ended = True
    use_cases.clock.advance(days=2)
    learnt_at = use_cases.clock.now
    await use_cases.sign_in()
    use_cases.clock.advance(days=5)

    await use_cases.sign_in()

    facts = await use_cases.load_facts()
    assert facts.valid_until == learnt_at


async def test_a_one_time_payment_entitles_for_a_month(use_cases: UseCases, clock: Clock) -> None:
    """GitHub reports no end of a payment, so the end is computed."""
    done = await use_cases.sign_in("one-time")

    facts = await use_cases.load_facts(done.profile.id)
    assert facts.valid_until == clock.now + timedelta(days=26)


@pytest.mark.parametrize("overrides", [{"sponsorables": ("maintainer", "the-project", "stranger")}])
async def test_each_sponsorable_has_an_entitlement_of_its_own(use_cases: UseCases) -> None:
    """Two people and an organization, whose logins have other letter case at GitHub."""
    use_cases.github.people.get("maintainer").login = "MainTainer"
    use_cases.github.people.add_organization("The-Project")
    use_cases.github.people.sponsor("monthly", "The-Project", cents=7000, days_ago=3)

    await use_cases.sign_in()

    person = await use_cases.load_facts()
    project = await use_cases.load_facts(sponsorable="the-project")
    assert person.tier_cents == 1000
    assert project.tier_cents == 7000
    assert await use_cases.load_facts(sponsorable="stranger") == EntitlementFacts(
        sponsorable="stranger", checked_at=use_cases.clock.now
    )


@pytest.mark.parametrize(
    "switches",
    [
        {"forbidden": True},
        {"forbidden_data": True},
        {"partial": True},
        {"insufficient_scopes": True},
        {"bad_json": ["graphql"]},
        {"fail": ["graphql"]},
    ],
    ids=lambda switches: next(iter(switches)),
)
async def test_the_stored_entitlement_stays_while_github_gives_no_answer(
    use_cases: UseCases, github: SimulatedGitHub, clock: Clock, switches: dict[str, object]
) -> None:
    """`unknown_since` is the time of the first failed check; the next answer removes it."""
    await use_cases.sign_in()
    stored = await use_cases.load_facts()
    assert github.switches.change(switches) == []

    clock.advance(hours=1)
    failed_at = clock.now
    await use_cases.sign_in()
    after_one_failure = await use_cases.load_facts()
    clock.advance(hours=1)
    await use_cases.sign_in()
    after_two_failures = await use_cases.load_facts()
    github.switches.change({"forbidden": False, "forbidden_data": False, "partial": False})
    github.switches.change({"insufficient_scopes": False, "bad_json": [], "fail": []})
    clock.advance(hours=1)
    await use_cases.sign_in()

    assert after_one_failure == replace(stored, unknown_since=failed_at)
    assert after_two_failures == after_one_failure
    assert await use_cases.load_facts() == replace(stored, checked_at=clock.now)


@pytest.mark.parametrize("answer", [RATE_LIMITED, SECONDARY_LIMIT], ids=["primary", "secondary"])
async def test_a_rate_limit_of_the_sponsorships_keeps_the_entitlement(
    use_cases: UseCases, way: Way, clock: Clock, answer: httpx.Response
) -> None:
    """GraphQL has its own rate limit, which other apps of the same person may use up."""
    await use_cases.sign_in()
    stored = await use_cases.load_facts()
    way.answers["/graphql"] = answer
    clock.advance(hours=1)

    await use_cases.sign_in()

    assert await use_cases.load_facts() == replace(stored, unknown_since=clock.now)


@pytest.mark.parametrize("overrides", [{"github_timeout_s": 0.5}])
async def test_a_slow_list_delays_no_sign_in(use_cases: UseCases, way: Way, clock: Clock) -> None:
    """Sponsorships and addresses do not arrive within the time-out; the stored ones stay."""
    await use_cases.sign_in()
    stored = await use_cases.load_facts()
    way.blocked = {"/graphql", "/user/emails"}
    clock.advance(hours=1)

    done = await use_cases.sign_in()

    assert done.profile.email == "monthly@example.com"
    assert await use_cases.load_facts() == replace(stored, unknown_since=clock.now)


@pytest.mark.parametrize("switch", ["bad_json", "fail"])
async def test_a_stored_private_address_stays(use_cases: UseCases, switch: str) -> None:
    """Only the list of addresses has a private one; the list fails, so the stored one stays."""
    await use_cases.sign_in("stranger")
    setattr(use_cases.github.switches, switch, {"emails"})

    done = await use_cases.sign_in("stranger")

    assert done.profile.email == "stranger@example.com"
    assert await use_cases.load_profile(done.profile.id) == done.profile


async def test_a_first_sign_in_may_be_unknown(use_cases: UseCases, github: SimulatedGitHub) -> None:
    """Without an answer about sponsorships no facts are stored."""
    github.switches.fail = {"graphql"}

    done = await use_cases.sign_in()

    assert await use_cases.load_profile() == done.profile
    assert await use_cases.find_facts() is None


async def test_a_former_non_sponsor_is_unknown_without_an_answer(use_cases: UseCases) -> None:
    """The person may have become a sponsor since the last answer."""
    stranger = (await use_cases.sign_in("stranger")).profile.id
    stored = await use_cases.load_facts(stranger)
    use_cases.github.switches.forbidden = True
    use_cases.clock.advance(hours=1)

    await use_cases.sign_in("stranger")

    facts = await use_cases.load_facts(stranger)
    assert facts == replace(stored, unknown_since=use_cases.clock.now)


@pytest.mark.parametrize("login", ["monthly", "stranger"])
async def test_a_first_sign_in_without_addresses_saves_the_public_one(
    use_cases: UseCases, github: SimulatedGitHub, login: str
) -> None:
    """The list of addresses fails; the profile has the public address, if there is one."""
    github.switches.fail = {"emails"}

    done = await use_cases.sign_in(login)

    assert done.profile.email == github.people.get_person(login).email


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(401), GitHubTokenError),
        (httpx.Response(429, headers={"Retry-After": "9"}), GitHubLimitedError),
        (httpx.Response(502), GitHubUnreachableError),
        (httpx.Response(200, text="{"), GitHubUnreachableError),
        (httpx.Response(200, json={"id": None}), GitHubUnreachableError),
    ],
    ids=["401", "429", "502", "half", "nobody"],
)
async def test_without_a_profile_nobody_is_signed_in(
    use_cases: UseCases, way: Way, answer: httpx.Response, error: type[GitHubError]
) -> None:
    """Only the profile identifies the person."""
    way.answers["/user"] = answer

    with pytest.raises(GitHubError) as caught:
        await use_cases.sign_in()

    assert type(caught.value) is error
    assert await use_cases.load_profile() is None


@pytest.mark.parametrize("overrides", [{"github_timeout_s": 0.5}])
async def test_a_slow_profile_fails_in_time(use_cases: UseCases, way: Way) -> None:
    """An error page is better than a page that loads for ever."""
    way.blocked = {"/user"}

    with pytest.raises(GitHubUnreachableError, match="in time"):
        await use_cases.sign_in()


async def test_several_failures_are_one_error(use_cases: UseCases, github: SimulatedGitHub) -> None:
    """Three requests fail at the same time; the person reads one message."""
    github.switches.fail = {"user", "emails", "graphql"}

    with pytest.raises(GitHubUnreachableError):
        await use_cases.sign_in()
