"""The use case of a login: what is asked, what is kept, and what a silent GitHub changes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING
from unittest.mock import AsyncMock
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from sponsorsync.app import create_app
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.errors import (
    GitHubError,
    GitHubLimitedError,
    GitHubTokenError,
    GitHubUnreachableError,
    LoginExpiredError,
    NotSignedInError,
)
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.reconcile.schedule import ReconcileSchedule
from sponsorsync.sandbox.hooks import Hook
from tests.conftest import GITHUB_URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sponsorsync.domain.account import SignedIn
    from sponsorsync.domain.profile import Profile
    from sponsorsync.domain.sponsorship_event import EventOutcome
    from sponsorsync.sandbox.github import SimulatedGitHub
    from sponsorsync.sandbox.hooks import Action
    from sponsorsync.sandbox.people import Sponsorship
    from sponsorsync.settings import Settings
    from sponsorsync.web.services import Services
    from tests.conftest import Clock

MONTHLY_ID = 48_210_377
PRIVATE_ID = 73_355_190
STRANGER_ID = 112_493_071
ORGANIZATION_ID = 17_562_948
SECRET = "a-secret-shared-with-github"

RATE_LIMITED = httpx.Response(200, json={"errors": [{"type": "RATE_LIMITED", "message": "…"}]})
SECONDARY_LIMIT = httpx.Response(403, headers={"Retry-After": "9"})


@dataclass
class Way(httpx.AsyncBaseTransport):
    """The way from the service to the simulated GitHub.

    Attributes:
        answers: What comes back instead, by path.
        blocked: Paths from which nothing comes back.
        meanwhile: What happens once, while an answer of GraphQL is on its way.
    """

    rest: httpx.AsyncBaseTransport
    answers: dict[str, httpx.Response] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answers, or does not."""
        path = request.url.path.removeprefix("/api")
        if path in self.blocked:
            await asyncio.Event().wait()
        if path in self.answers:
            return self.answers[path]
        answer = await self.rest.handle_async_request(request)
        if path == "/graphql" and self.meanwhile is not None:
            happen, self.meanwhile = self.meanwhile, None
            await happen()
        return answer


@pytest.fixture
def way(github: SimulatedGitHub) -> Way:
    """The way to GitHub, open."""
    return Way(httpx.ASGITransport(github.app))


@pytest.fixture
def sponsorables() -> tuple[str, ...]:
    """Whom the service asks for; a test may say otherwise."""
    return ("maintainer",)


@pytest.fixture
def overrides() -> dict[str, object]:
    """Settings of a test's own."""
    return {}


@pytest.fixture
def maintainers(github: SimulatedGitHub, overrides: dict[str, object]) -> None:
    """The service has the maintainer's token, and looks when it is asked to."""
    token = github.tokens.issue(github.people.get_person("maintainer"))
    overrides |= {"maintainer_token": SecretStr(token), "reconcile_hours": 0}


@pytest.fixture
async def services(
    settings: Settings,
    sponsorables: tuple[str, ...],
    overrides: dict[str, object],
    way: Way,
    clock: Clock,
) -> AsyncIterator[Services]:
    """The parts of the service, wired as it wires them."""
    clock.now = clock.now.replace(microsecond=0)  # Redis keeps whole seconds
    told = {"sponsorables": sponsorables, "github_timeout_s": 30.0, "one_time_days": 31}
    settings = settings.model_copy(
        update={**told, "webhook_secret": SecretStr(SECRET), **overrides}
    )
    app = create_app(settings, github_transport=way, clock=clock)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        yield state["services"]


@dataclass
class Visitor:
    """Somebody with a browser, between the service and GitHub."""

    services: Services
    github: SimulatedGitHub

    async def sign_in(self, login: str, *, replaces: str | None = None) -> SignedIn:
        """Goes by GitHub's page and comes back with a code."""
        attempt = self.services.sign_in.start(login_hint=login)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.github.app)) as browser:
            redirect = await browser.get(attempt.url)
        [code] = parse_qs(urlsplit(redirect.headers["location"]).query)["code"]
        return await self.services.sign_in.finish(
            code=code, code_verifier=attempt.code_verifier, replaces=replaces
        )

    async def apply_event(
        self, action: Action, sponsorship: Sponsorship, *, former_cents: int | None = None
    ) -> EventOutcome:
        """Has GitHub tell of a sponsorship by itself."""
        hook = Hook(url="", secret=SECRET, base_url=GITHUB_URL)
        event = hook.tell(action, sponsorship, former_cents=former_cents)
        return await self.services.webhooks.receive(
            event.body,
            event=event.event,
            delivery=event.number,
            signature=event.headers(SECRET)["X-Hub-Signature-256"],
        )

    async def load_facts(
        self, sponsorable: str = "maintainer", person_id: int = MONTHLY_ID
    ) -> EntitlementFacts | None:
        """What is kept of an entitlement."""
        account = await self.services.people.load_account(person_id)
        return account.entitlements[sponsorable].facts

    async def load_profile(self, person_id: int = MONTHLY_ID) -> Profile | None:
        """What is kept of a person."""
        return (await self.services.people.load_account(person_id)).profile


@pytest.fixture
def visitor(services: Services, github: SimulatedGitHub) -> Visitor:
    """Somebody who signs in."""
    return Visitor(services, github)


# --- what is asked --------------------------------------------------------------------------------


async def test_a_login_costs_two_round_trips_to_github(
    visitor: Visitor, github: SimulatedGitHub
) -> None:
    """A person waits: first for the token, then for everything else at once."""
    await visitor.sign_in("monthly")

    assert github.requests.in_sequence("token", "user", "emails", "graphql") == 2
    assert len(github.requests.all("token", "user", "emails", "graphql")) == 4


async def test_profile_addresses_and_sponsorships_are_asked_for_side_by_side(
    visitor: Visitor, github: SimulatedGitHub
) -> None:
    """None of the three needs another one."""
    await visitor.sign_in("monthly")

    user, emails, graphql = github.requests.all("user", "emails", "graphql")
    assert user.overlaps(emails)
    assert user.overlaps(graphql)
    assert emails.overlaps(graphql)


async def test_a_code_that_github_does_not_take_asks_for_nothing_more(
    services: Services, github: SimulatedGitHub
) -> None:
    """There is no token to ask with."""
    with pytest.raises(LoginExpiredError):
        await services.sign_in.finish(code="bad", code_verifier="x" * 64, replaces=None)

    assert [each.endpoint for each in github.requests.all()] == ["token"]


# --- what is kept ---------------------------------------------------------------------------------


async def test_a_login_keeps_profile_and_entitlement(visitor: Visitor, clock: Clock) -> None:
    """All of it, as GitHub told it."""
    done = await visitor.sign_in("monthly")

    profile, facts = await visitor.load_profile(), await visitor.load_facts()
    assert profile == done.profile
    assert (done.profile.id, done.profile.login) == (MONTHLY_ID, "monthly")
    assert done.profile.email == "monthly@example.com"
    assert done.profile.first_seen == done.profile.last_login == clock.now
    assert facts is not None
    assert facts.source is EntitlementSource.SPONSORSHIP
    assert facts.tier_cents == 1000
    assert facts.checked_at == clock.now
    assert facts.since == clock.now - timedelta(days=400)
    assert facts.valid_until is None


async def test_first_seen_stays_and_last_login_moves(visitor: Visitor, clock: Clock) -> None:
    """The one tells since when, the other whether still."""
    first = (await visitor.sign_in("monthly")).profile
    clock.advance(days=3)

    second = (await visitor.sign_in("monthly")).profile

    assert second.first_seen == first.first_seen
    assert second.last_login == clock.now
    assert await visitor.load_profile() == second


async def test_a_session_that_the_browser_had_before_ends(
    visitor: Visitor, services: Services
) -> None:
    """Somebody may have planted it."""
    first = await visitor.sign_in("monthly")

    second = await visitor.sign_in("monthly", replaces=first.session_token)

    assert await services.people.load_session(first.session_token) is None
    assert await services.people.load_session(second.session_token) == MONTHLY_ID


async def test_a_person_who_renamed_themselves_is_the_same_person(
    visitor: Visitor, github: SimulatedGitHub, clock: Clock
) -> None:
    """The number counts, not the name."""
    first = (await visitor.sign_in("monthly")).profile
    github.people.rename("monthly", "Renamed")
    clock.advance(days=1)

    second = (await visitor.sign_in("Renamed")).profile

    assert (second.id, second.login) == (MONTHLY_ID, "Renamed")
    assert second.first_seen == first.first_seen
    facts = await visitor.load_facts()
    assert facts is not None
    assert facts.is_sponsoring(clock.now)


async def test_who_takes_a_freed_login_inherits_nothing(
    visitor: Visitor, github: SimulatedGitHub, clock: Clock
) -> None:
    """GitHub gives a freed login to anybody."""
    await visitor.sign_in("monthly")
    github.people.rename("monthly", "renamed")
    github.people.add_person("monthly", database_id=5)
    clock.advance(days=1)

    other = (await visitor.sign_in("monthly")).profile

    assert (other.id, other.first_seen) == (5, clock.now)
    facts = await visitor.load_facts(person_id=5)
    assert facts == EntitlementFacts(sponsorable="maintainer", checked_at=clock.now)


async def test_a_sponsorship_that_ended_ends_the_entitlement(
    visitor: Visitor, github: SimulatedGitHub, clock: Clock
) -> None:
    """With the moment in which we learnt of it, also at the logins after."""
    await visitor.sign_in("monthly")
    [sponsorship] = github.people.sponsorships_of(github.people.get("monthly"))
    sponsorship.is_ended = True
    clock.advance(days=2)
    learnt_at = clock.now
    await visitor.sign_in("monthly")
    clock.advance(days=5)

    await visitor.sign_in("monthly")

    facts = await visitor.load_facts()
    assert facts is not None
    assert facts.valid_until == learnt_at


async def test_a_one_time_payment_entitles_for_a_month_from_its_payment(
    visitor: Visitor, clock: Clock
) -> None:
    """GitHub says nothing at its end."""
    done = await visitor.sign_in("one-time")

    facts = await visitor.load_facts(person_id=done.profile.id)
    assert facts is not None
    assert facts.valid_until == clock.now + timedelta(days=26)


@pytest.mark.parametrize("sponsorables", [("maintainer", "the-project", "stranger")])
async def test_each_sponsorable_has_a_entitlement_of_its_own(
    visitor: Visitor, github: SimulatedGitHub, clock: Clock
) -> None:
    """Persons and organizations, whatever the case of their logins at GitHub."""
    github.people.get("maintainer").login = "MainTainer"
    github.people.add_organization("The-Project")
    github.people.sponsor("monthly", "The-Project", cents=7000, days_ago=3)

    await visitor.sign_in("monthly")

    person = await visitor.load_facts("maintainer")
    project = await visitor.load_facts("the-project")
    assert person is not None
    assert person.tier_cents == 1000
    assert project is not None
    assert project.tier_cents == 7000
    assert await visitor.load_facts("stranger") == EntitlementFacts(
        sponsorable="stranger", checked_at=clock.now
    )


# --- a GitHub that does not tell ------------------------------------------------------------------


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
async def test_the_last_entitlement_stays_while_github_does_not_tell(
    visitor: Visitor, github: SimulatedGitHub, clock: Clock, switches: dict[str, object]
) -> None:
    """Counted from the first failed check, and forgotten with the first answer."""
    await visitor.sign_in("monthly")
    known = await visitor.load_facts()
    assert known is not None
    assert github.switches.change(switches) == []

    clock.advance(hours=1)
    failed_at = clock.now
    await visitor.sign_in("monthly")
    after_one_failure = await visitor.load_facts()
    clock.advance(hours=1)
    await visitor.sign_in("monthly")
    after_two_failures = await visitor.load_facts()
    github.switches.change({"forbidden": False, "forbidden_data": False, "partial": False})
    github.switches.change({"insufficient_scopes": False, "bad_json": [], "fail": []})
    clock.advance(hours=1)
    await visitor.sign_in("monthly")

    assert after_one_failure == replace(known, unknown_since=failed_at)
    assert after_two_failures == after_one_failure
    assert await visitor.load_facts() == replace(known, checked_at=clock.now)


@pytest.mark.parametrize("answer", [RATE_LIMITED, SECONDARY_LIMIT], ids=["primary", "secondary"])
async def test_a_rate_limit_of_the_sponsorships_leaves_the_entitlement_as_it_was(
    visitor: Visitor, way: Way, clock: Clock, answer: httpx.Response
) -> None:
    """GraphQL has a budget of its own, which other apps of the same person use up."""
    await visitor.sign_in("monthly")
    known = await visitor.load_facts()
    assert known is not None
    way.answers["/graphql"] = answer
    clock.advance(hours=1)

    await visitor.sign_in("monthly")

    assert await visitor.load_facts() == replace(known, unknown_since=clock.now)


@pytest.mark.parametrize("overrides", [{"github_timeout_s": 0.5}])
async def test_a_slow_list_of_sponsorships_is_not_waited_for(
    visitor: Visitor, way: Way, clock: Clock
) -> None:
    """The person is signed in all the same, in bounded time."""
    await visitor.sign_in("monthly")
    known = await visitor.load_facts()
    assert known is not None
    way.blocked = {"/graphql", "/user/emails"}
    clock.advance(hours=1)

    done = await visitor.sign_in("monthly")

    assert done.profile.email == "monthly@example.com"
    assert await visitor.load_facts() == replace(known, unknown_since=clock.now)


async def test_a_hidden_address_stays_while_github_does_not_tell_it(
    visitor: Visitor, github: SimulatedGitHub
) -> None:
    """`/user` has none, and that is no reason to forget the one that is known."""
    await visitor.sign_in("stranger")
    github.switches.bad_json = {"emails"}

    done = await visitor.sign_in("stranger")

    assert done.profile.email == "stranger@example.com"


async def test_at_a_first_login_a_silent_github_leaves_the_entitlement_unknown(
    visitor: Visitor, github: SimulatedGitHub
) -> None:
    """Unknown is not no, and nothing is made up."""
    github.switches.fail = {"graphql"}

    done = await visitor.sign_in("monthly")

    assert await visitor.load_profile() == done.profile
    assert await visitor.load_facts() is None


async def test_of_somebody_who_was_no_sponsor_a_silent_github_makes_nobody_known(
    visitor: Visitor, github: SimulatedGitHub, clock: Clock
) -> None:
    """They may have become one since."""
    stranger = (await visitor.sign_in("stranger")).profile.id
    known = await visitor.load_facts(person_id=stranger)
    assert known is not None
    github.switches.forbidden = True
    clock.advance(hours=1)

    await visitor.sign_in("stranger")

    facts = await visitor.load_facts(person_id=stranger)
    assert facts == replace(known, unknown_since=clock.now)


@pytest.mark.parametrize("login", ["monthly", "stranger"])
async def test_at_a_first_login_without_the_addresses_the_public_one_is_kept(
    visitor: Visitor, github: SimulatedGitHub, login: str
) -> None:
    """Where there is one."""
    github.switches.fail = {"emails"}

    done = await visitor.sign_in(login)

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
    visitor: Visitor, way: Way, answer: httpx.Response, error: type[GitHubError]
) -> None:
    """It alone says who it is."""
    way.answers["/user"] = answer

    with pytest.raises(GitHubError) as caught:
        await visitor.sign_in("monthly")

    assert type(caught.value) is error
    assert await visitor.load_profile() is None


@pytest.mark.parametrize("overrides", [{"github_timeout_s": 0.5}])
async def test_a_profile_that_does_not_come_ends_the_login_in_time(
    visitor: Visitor, way: Way
) -> None:
    """A page that loads for ever tells nobody anything."""
    way.blocked = {"/user"}

    with pytest.raises(GitHubUnreachableError, match="in time"):
        await visitor.sign_in("monthly")


async def test_when_everything_fails_it_is_one_error(
    visitor: Visitor, github: SimulatedGitHub
) -> None:
    """Three calls run side by side, and the person reads one sentence."""
    github.switches.fail = {"user", "emails", "graphql"}

    with pytest.raises(GitHubUnreachableError):
        await visitor.sign_in("monthly")


# --- what the own token may not show --------------------------------------------------------------


@pytest.fixture
async def hidden(visitor: Visitor, github: SimulatedGitHub, clock: Clock) -> EntitlementFacts:
    """A private sponsorship that is known, and that GitHub does not show to who gives."""
    await visitor.sign_in("private")
    [sponsorship] = github.people.sponsorships_of(github.people.get("private"))
    github.people.sponsorships.remove(sponsorship)
    clock.advance(days=1)
    facts = await visitor.load_facts(person_id=PRIVATE_ID)
    assert facts is not None
    return facts


@pytest.fixture
def asked_to_look(monkeypatch: pytest.MonkeyPatch) -> AsyncMock:
    """Stands in for the looks at all of GitHub."""
    asked = AsyncMock(return_value=True)
    monkeypatch.setattr(ReconcileSchedule, "request", asked)
    return asked


@pytest.mark.usefixtures("maintainers")
async def test_a_private_sponsorship_that_is_not_shown_is_looked_for(
    visitor: Visitor, asked_to_look: AsyncMock, hidden: EntitlementFacts
) -> None:
    """The maintainer's token shows it for certain; whether the sponsor's does nobody promises."""
    await visitor.sign_in("private")

    assert await visitor.load_facts(person_id=PRIVATE_ID) == hidden
    asked_to_look.assert_called_once_with("maintainer")


@pytest.mark.usefixtures("maintainers")
async def test_a_former_sponsorship_that_is_shown_is_no_answer_about_a_private_one(
    visitor: Visitor, github: SimulatedGitHub, asked_to_look: AsyncMock, hidden: EntitlementFacts
) -> None:
    """Somebody had sponsored in public before, and does so in private now."""
    github.people.sponsor("private", "maintainer", cents=100, days_ago=900, ended=True)
    await visitor.sign_in("private")

    assert await visitor.load_facts(person_id=PRIVATE_ID) == hidden
    asked_to_look.assert_called_once_with("maintainer")


@pytest.mark.usefixtures("maintainers")
async def test_a_better_sponsorship_that_is_shown_takes_the_place_of_a_private_one(
    visitor: Visitor, github: SimulatedGitHub, asked_to_look: AsyncMock, hidden: EntitlementFacts
) -> None:
    """There is nothing to be doubted then."""
    github.people.sponsor("private", "maintainer", cents=9900, days_ago=0)
    await visitor.sign_in("private")

    facts = await visitor.load_facts(person_id=PRIVATE_ID)
    assert facts is not None
    assert (facts.tier_cents, hidden.tier_cents) == (9900, 500)
    asked_to_look.assert_not_called()


async def test_without_the_maintainers_token_a_private_sponsorship_has_to_be_shown(
    visitor: Visitor, hidden: EntitlementFacts, clock: Clock
) -> None:
    """Nobody else would ever tell that it has ended."""
    await visitor.sign_in("private")

    assert await visitor.load_facts(person_id=PRIVATE_ID) == replace(
        hidden, checked_at=clock.now, valid_until=clock.now
    )


@pytest.mark.usefixtures("maintainers")
async def test_a_private_sponsorship_that_is_shown_as_ended_has_ended(
    visitor: Visitor, github: SimulatedGitHub, asked_to_look: AsyncMock, clock: Clock
) -> None:
    """This is an answer."""
    await visitor.sign_in("private")
    [sponsorship] = github.people.sponsorships_of(github.people.get("private"))
    sponsorship.is_ended = True
    clock.advance(days=1)

    await visitor.sign_in("private")

    facts = await visitor.load_facts(person_id=PRIVATE_ID)
    assert facts is not None
    assert facts.valid_until == clock.now
    asked_to_look.assert_not_called()


@pytest.mark.usefixtures("maintainers")
async def test_a_public_sponsorship_that_is_not_shown_has_ended(
    visitor: Visitor, github: SimulatedGitHub, asked_to_look: AsyncMock, clock: Clock
) -> None:
    """Everybody would see it."""
    await visitor.sign_in("monthly")
    [sponsorship] = github.people.sponsorships_of(github.people.get("monthly"))
    github.people.sponsorships.remove(sponsorship)
    clock.advance(days=1)

    await visitor.sign_in("monthly")

    facts = await visitor.load_facts()
    assert facts is not None
    assert facts.valid_until == clock.now
    asked_to_look.assert_not_called()


# --- an answer that is older than what is known ---------------------------------------------------


async def test_who_becomes_a_sponsor_while_they_sign_in_is_entitled(
    visitor: Visitor, github: SimulatedGitHub, way: Way, clock: Clock
) -> None:
    """GitHub's answer is older than the event; it must not end the new entitlement."""
    clock.now += timedelta(milliseconds=700)  # moments are kept in whole seconds
    way.meanwhile = partial(_begin, visitor, github)

    await visitor.sign_in("stranger")

    facts = await visitor.load_facts(person_id=STRANGER_ID)
    assert facts is not None
    assert (facts.source, facts.valid_until) == (EntitlementSource.SPONSORSHIP, None)


@pytest.mark.usefixtures("maintainers")
async def test_who_becomes_a_sponsor_while_github_is_asked_again_is_entitled(
    visitor: Visitor, github: SimulatedGitHub, services: Services, way: Way, clock: Clock
) -> None:
    """As at a login."""
    await visitor.sign_in("stranger")
    clock.now += timedelta(minutes=1, milliseconds=700)
    way.meanwhile = partial(_begin, visitor, github)

    await services.refresh.run(STRANGER_ID)

    facts = await visitor.load_facts(person_id=STRANGER_ID)
    assert facts is not None
    assert (facts.source, facts.valid_until) == (EntitlementSource.SPONSORSHIP, None)


@pytest.mark.usefixtures("maintainers")
async def test_an_account_that_is_deleted_while_github_is_asked_stays_so(
    visitor: Visitor, github: SimulatedGitHub, services: Services, way: Way, clock: Clock
) -> None:
    """What was asked for it before must not bring it back."""
    await visitor.sign_in("monthly")
    clock.advance(minutes=1)
    way.meanwhile = partial(_delete, services)

    with pytest.raises(NotSignedInError):
        await services.refresh.run(MONTHLY_ID)

    assert await visitor.load_facts() is None
    assert len(github.requests.all("graphql")) == 2  # of the login, and of the refresh


async def _delete(services: Services) -> None:
    await services.personal_data.delete(MONTHLY_ID)


async def _begin(visitor: Visitor, github: SimulatedGitHub) -> None:
    await visitor.apply_event(
        "created", github.people.sponsor("stranger", "maintainer", days_ago=0)
    )


async def test_a_cancellation_that_comes_during_a_login_holds(
    visitor: Visitor, github: SimulatedGitHub, way: Way, clock: Clock
) -> None:
    """GitHub's answer still calls the sponsorship active."""
    await visitor.sign_in("monthly")
    clock.advance(days=1)
    [sponsorship] = github.people.sponsorships_of(github.people.get("monthly"))
    way.meanwhile = partial(_cancel, visitor, sponsorship)

    done = await visitor.sign_in("monthly")

    facts = await visitor.load_facts()
    assert facts is not None
    assert facts.valid_until == clock.now == done.profile.last_login


@pytest.mark.usefixtures("maintainers")
async def test_a_cancellation_that_comes_while_github_is_asked_again_holds(
    visitor: Visitor, github: SimulatedGitHub, services: Services, way: Way, clock: Clock
) -> None:
    """As at a login."""
    await visitor.sign_in("monthly")
    clock.advance(days=1)
    [sponsorship] = github.people.sponsorships_of(github.people.get("monthly"))
    way.meanwhile = partial(_cancel, visitor, sponsorship)

    assert await services.refresh.run(MONTHLY_ID)

    facts = await visitor.load_facts()
    assert facts is not None
    assert facts.valid_until == clock.now


@pytest.mark.parametrize("overrides", [{"org_entitlement": "members"}])
async def test_a_cancellation_of_an_organization_during_a_login_of_a_member_holds(
    visitor: Visitor, github: SimulatedGitHub, way: Way, clock: Clock
) -> None:
    """What the member was shown is older, of the organization and so of its members."""
    await visitor.sign_in("org-member")
    clock.advance(days=1)
    [sponsorship] = github.people.sponsorships_of(github.people.get("sponsoring-org"))
    way.meanwhile = partial(_cancel, visitor, sponsorship)

    done = await visitor.sign_in("org-member")

    organization = await visitor.load_facts(person_id=ORGANIZATION_ID)
    member = await visitor.load_facts(person_id=done.profile.id)
    assert organization is not None
    assert organization.valid_until == clock.now
    assert member is not None
    assert [grant.until for grant in member.grants] == [clock.now]


async def _cancel(visitor: Visitor, sponsorship: Sponsorship) -> None:
    await visitor.apply_event("cancelled", sponsorship)


@pytest.mark.parametrize("overrides", [{"org_entitlement": "members"}])
async def test_memberships_count_though_the_own_sponsorship_is_newer(
    visitor: Visitor, github: SimulatedGitHub, way: Way
) -> None:
    """No event tells of these."""
    sponsorship = github.people.sponsor("org-member", "maintainer", days_ago=0)
    way.meanwhile = partial(_cancel, visitor, sponsorship)

    done = await visitor.sign_in("org-member")

    facts = await visitor.load_facts(person_id=done.profile.id)
    assert facts is not None
    assert facts.valid_until is not None
    assert [grant.organization for grant in facts.grants] == ["sponsoring-org"]
