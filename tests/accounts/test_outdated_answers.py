"""Answers of GitHub that are incomplete or older than the stored facts change nothing."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TypeAlias
from unittest.mock import AsyncMock

import pytest

from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.errors import NotSignedInError
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.reconcile.schedule import ReconcileSchedule
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.web.services import Services
from tests.accounts.conftest import Way
from tests.conftest import Clock
from tests.support.use_cases import MONTHLY, ORG, PRIVATE, STRANGER, UseCases, find_sponsorship


@pytest.fixture
async def hidden(use_cases: UseCases, github: SimulatedGitHub, clock: Clock) -> EntitlementFacts:
    """A stored private sponsorship that GitHub does not show to the sponsor."""
    await use_cases.sign_in("private")
    github.people.sponsorships.remove(find_sponsorship(github, "private"))
    clock.advance(days=1)
    return await use_cases.load_facts(PRIVATE)


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> AsyncMock:
    """A mock in place of the method that requests a reconcile."""
    request = AsyncMock()
    monkeypatch.setattr(ReconcileSchedule, "request", request)
    return request


@pytest.mark.parametrize("formerly", [0, 1], ids=["none is shown", "a former one is shown"])
@pytest.mark.usefixtures("with_maintainers_token")
async def test_a_private_sponsorship_that_is_not_shown_requests_a_reconcile(
    use_cases: UseCases, requested: AsyncMock, hidden: EntitlementFacts, formerly: int
) -> None:
    """GitHub promises to show it to the maintainer only, so the sponsor's answer proves no end."""
    for _ in range(formerly):
        use_cases.github.people.sponsor(
            "private", "maintainer", cents=100, days_ago=900, ended=True
        )
    await use_cases.sign_in("private")

    assert await use_cases.load_facts(PRIVATE) == hidden
    requested.assert_called_once_with("maintainer")


@pytest.mark.usefixtures("with_maintainers_token")
async def test_a_shown_better_sponsorship_replaces_a_private_one(
    use_cases: UseCases, github: SimulatedGitHub, requested: AsyncMock, hidden: EntitlementFacts
) -> None:
    """The new sponsorship decides, so the hidden private one does not matter."""
    github.people.sponsor("private", "maintainer", cents=9900, days_ago=0)
    await use_cases.sign_in("private")

    facts = await use_cases.load_facts(PRIVATE)
    assert (facts.tier_cents, hidden.tier_cents) == (9900, 500)
    requested.assert_not_called()


async def test_without_the_maintainers_token_a_private_sponsorship_has_to_be_shown(
    use_cases: UseCases, hidden: EntitlementFacts, clock: Clock
) -> None:
    """No reconcile can run, so only the sponsor's sign-in can report its end."""
    await use_cases.sign_in("private")

    assert await use_cases.load_facts(PRIVATE) == replace(
        hidden, checked_at=clock.now, valid_until=clock.now
    )


@pytest.mark.usefixtures("with_maintainers_token")
async def test_a_private_sponsorship_that_is_shown_as_ended_has_ended(
    use_cases: UseCases, github: SimulatedGitHub, requested: AsyncMock, clock: Clock
) -> None:
    """GitHub shows the end itself, so no reconcile has to confirm it."""
    await use_cases.sign_in("private")
    sponsorship = find_sponsorship(github, "private")
    sponsorship.is_ended = True
    clock.advance(days=1)

    await use_cases.sign_in("private")

    facts = await use_cases.load_facts(PRIVATE)
    assert facts.valid_until == clock.now
    requested.assert_not_called()


@pytest.mark.usefixtures("with_maintainers_token")
async def test_a_public_sponsorship_that_is_not_shown_has_ended(
    use_cases: UseCases, github: SimulatedGitHub, requested: AsyncMock, clock: Clock
) -> None:
    """GitHub shows every active public sponsorship."""
    await use_cases.sign_in()
    sponsorship = find_sponsorship(github)
    github.people.sponsorships.remove(sponsorship)
    clock.advance(days=1)

    await use_cases.sign_in()

    facts = await use_cases.load_facts()
    assert facts.valid_until == clock.now
    requested.assert_not_called()


Run: TypeAlias = Callable[[UseCases], Awaitable[object]]


async def _sign_in(use_cases: UseCases) -> object:
    return await use_cases.sign_in("stranger")


async def _refresh(use_cases: UseCases) -> object:
    return await use_cases.services.refresh.run(STRANGER)


@pytest.mark.parametrize("run", [_sign_in, _refresh])
@pytest.mark.usefixtures("with_maintainers_token")
async def test_a_new_sponsorship_while_github_is_asked_stays(
    use_cases: UseCases, github: SimulatedGitHub, way: Way, clock: Clock, run: Run
) -> None:
    """GitHub's answer is older than the webhook event, and must not end the new entitlement."""
    await use_cases.sign_in("stranger")
    clock.now += timedelta(minutes=1, milliseconds=700)  # Redis stores whole seconds

    async def begin() -> None:
        sponsorship = github.people.sponsor("stranger", "maintainer", days_ago=0)
        await use_cases.receive("created", sponsorship)

    way.meanwhile = begin
    await run(use_cases)

    facts = await use_cases.load_facts(STRANGER)
    assert (facts.source, facts.valid_until) == (EntitlementSource.SPONSORSHIP, None)


@pytest.mark.parametrize("run", [_sign_in, _refresh])
@pytest.mark.usefixtures("with_maintainers_token")
async def test_a_cancellation_while_github_is_asked_stays(
    use_cases: UseCases, github: SimulatedGitHub, way: Way, clock: Clock, run: Run
) -> None:
    """GitHub's answer is older than the webhook event: it has the sponsorship as active."""
    sponsorship = github.people.sponsor("stranger", "maintainer", days_ago=400)
    await use_cases.sign_in("stranger")
    clock.advance(days=1)
    way.meanwhile = partial(use_cases.receive, "cancelled", sponsorship)

    assert await run(use_cases)

    assert (await use_cases.load_facts(STRANGER)).valid_until == clock.now


@pytest.mark.usefixtures("with_maintainers_token")
async def test_an_account_deleted_during_a_refresh_stays_deleted(
    use_cases: UseCases, github: SimulatedGitHub, services: Services, way: Way, clock: Clock
) -> None:
    """The answer to the refresh arrives after the deletion, and must not be saved."""
    await use_cases.sign_in()
    clock.advance(minutes=1)
    way.meanwhile = partial(services.personal_data.delete, MONTHLY)

    with pytest.raises(NotSignedInError):
        await services.refresh.run(MONTHLY)

    assert await use_cases.find_facts() is None
    assert len(github.requests.all("graphql")) == 2  # one of the sign-in, one of the refresh


@pytest.mark.parametrize("overrides", [{"org_entitlement": "members"}])
async def test_a_cancellation_of_an_organization_during_a_members_sign_in_stays(
    use_cases: UseCases, github: SimulatedGitHub, way: Way, clock: Clock
) -> None:
    """The member's answer has the organization's sponsorship as active, but is older."""
    await use_cases.sign_in("org-member")
    clock.advance(days=1)
    sponsorship = find_sponsorship(github, "sponsoring-org")
    way.meanwhile = partial(use_cases.receive, "cancelled", sponsorship)

    done = await use_cases.sign_in("org-member")

    organization = await use_cases.load_facts(ORG)
    member = await use_cases.load_facts(done.profile.id)
    assert organization.valid_until == clock.now
    assert [grant.until for grant in member.grants] == [clock.now]


@pytest.mark.parametrize("overrides", [{"org_entitlement": "members"}])
async def test_memberships_are_saved_beside_a_newer_own_sponsorship(
    use_cases: UseCases, github: SimulatedGitHub, way: Way
) -> None:
    """An event changes the member's own sponsorship meanwhile; it says nothing on memberships."""
    sponsorship = github.people.sponsor("org-member", "maintainer", days_ago=0)
    way.meanwhile = partial(use_cases.receive, "cancelled", sponsorship)

    done = await use_cases.sign_in("org-member")

    facts = await use_cases.load_facts(done.profile.id)
    assert facts.valid_until is not None
    assert [grant.organization for grant in facts.grants] == ["sponsoring-org"]
