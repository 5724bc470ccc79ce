"""GitHub's API, asked with one person's token: pages, retries and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from sponsorsync.domain.errors import (
    GitHubError,
    GitHubLimitedError,
    GitHubRefusedError,
    GitHubUnreachableError,
)
from sponsorsync.domain.profile import EmailAddress, GitHubUser
from sponsorsync.domain.sponsorship import PaymentSource, Privacy
from sponsorsync.github.client import GitHubClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sponsorsync.sandbox.github import SimulatedGitHub
    from tests.support.script import Script


@pytest.fixture
async def client(way: Script) -> AsyncIterator[GitHubClient]:
    """The client, on the way to the simulated GitHub."""
    headers = {"User-Agent": "SponsorSync/test"}
    async with httpx.AsyncClient(transport=way, headers=headers) as http:
        yield GitHubClient(http, api_url="http://github.test/api")


def _token(github: SimulatedGitHub, login: str) -> str:
    return github.tokens.issue(github.people.get_person(login))


async def test_the_token_tells_who_its_owner_is(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """Somebody without a name and with a hidden address is somebody too."""
    user = await client.fetch_user(_token(github, "stranger"))

    assert user == GitHubUser(
        id=112_493_071,
        login="stranger",
        name=None,
        email=None,
        avatar_url="http://github.test/avatars/112493071",
    )


async def test_the_owner_of_a_token_sees_all_their_addresses(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """The hidden ones too, which `/user` does not show."""
    emails = await client.fetch_emails(_token(github, "stranger"))

    assert emails == (EmailAddress("stranger@example.com", is_primary=True, is_verified=True),)


@pytest.mark.parametrize("login", ["maintainer", "MainTainer"])
async def test_a_sponsor_sees_their_sponsorship(
    client: GitHubClient, github: SimulatedGitHub, login: str
) -> None:
    """Logins have no case at GitHub."""
    [sponsorship] = await client.fetch_sponsorships(_token(github, "private"), [login])

    assert sponsorship.sponsorable == "maintainer"
    assert sponsorship.tier_cents == 500
    assert sponsorship.privacy is Privacy.PRIVATE
    assert sponsorship.is_active


async def test_a_sponsorship_through_patreon_has_no_tier(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """GitHub does not know what is paid there."""
    [sponsorship] = await client.fetch_sponsorships(_token(github, "patreon"), ["maintainer"])

    assert sponsorship.payment_source is PaymentSource.PATREON
    assert sponsorship.tier_cents is None


async def test_former_sponsorships_are_seen(client: GitHubClient, github: SimulatedGitHub) -> None:
    """GitHub leaves them out unless it is asked, and one-time payments among them."""
    [sponsorship] = await client.fetch_sponsorships(_token(github, "former"), ["maintainer"])

    assert not sponsorship.is_active


async def test_an_organization_can_be_sponsored(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """Its login stands in another part of GitHub's schema than a person's."""
    github.people.add_organization("The-Project")
    github.people.sponsor("monthly", "The-Project")

    sponsorships = await client.fetch_sponsorships(
        _token(github, "monthly"), ["the-project", "maintainer"]
    )

    assert {each.sponsorable for each in sponsorships} == {"the-project", "maintainer"}


async def test_sponsorships_of_others_are_not_asked_for(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """They are none of our affair."""
    github.people.sponsor("monthly", "stranger")

    sponsorships = await client.fetch_sponsorships(_token(github, "monthly"), ["maintainer"])

    assert [each.sponsorable for each in sponsorships] == ["maintainer"]


@pytest.mark.parametrize(("number", "pages"), [(0, 1), (99, 1), (100, 1), (101, 2), (150, 2)])
async def test_every_page_is_read(
    client: GitHubClient, github: SimulatedGitHub, number: int, pages: int
) -> None:
    """The one that covers may be the last."""
    for days_ago in range(number):
        github.people.sponsor("stranger", "maintainer", days_ago=days_ago)

    sponsorships = await client.fetch_sponsorships(_token(github, "stranger"), ["maintainer"])

    assert len({each.created_at for each in sponsorships}) == len(sponsorships) == number
    assert len(github.requests.all("graphql")) == pages


async def test_a_page_that_fails_leaves_nothing_half_known(
    client: GitHubClient, way: Script
) -> None:
    """Half a list would be taken for all of it."""
    page = {"hasNextPage": True, "endCursor": "Y3Vyc29y"}
    connection = {"pageInfo": page, "nodes": []}
    answer = {"data": {"viewer": {"sponsorshipsAsSponsor": connection}}}
    way.answer(httpx.Response(200, json=answer), httpx.Response(403))

    with pytest.raises(GitHubRefusedError):
        await client.fetch_sponsorships("gho_1", ["maintainer"])


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(502, text="<h1>502</h1>"),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("gone"),
    ],
    ids=["502", "connect", "timeout", "protocol"],
)
async def test_one_failure_is_tried_again(
    client: GitHubClient,
    github: SimulatedGitHub,
    way: Script,
    failure: httpx.Response | Exception,
) -> None:
    """GitHub has a bad moment now and then, and a person waits."""
    token = _token(github, "monthly")
    way.answer(failure)

    user = await client.fetch_user(token)

    assert user.login == "monthly"
    assert len(way.requests) == 2


@pytest.mark.parametrize(
    "failure",
    [httpx.Response(504), httpx.ConnectTimeout("late")],
    ids=["504", "timeout"],
)
async def test_two_failures_are_enough(
    client: GitHubClient, way: Script, failure: httpx.Response | Exception
) -> None:
    """More tries would only make a person wait for the same answer."""
    way.answer(failure, failure, failure)

    with pytest.raises(GitHubUnreachableError):
        await client.fetch_user("gho_1")

    assert len(way.requests) == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(401, json={"message": "Bad credentials"}), GitHubRefusedError),
        (httpx.Response(403), GitHubRefusedError),
        (httpx.Response(404), GitHubRefusedError),
        (httpx.Response(403, headers={"Retry-After": "9"}), GitHubLimitedError),
        (httpx.Response(429), GitHubLimitedError),
    ],
    ids=["401", "403", "404", "limited 403", "429"],
)
async def test_a_refusal_is_taken_at_once(
    client: GitHubClient, way: Script, answer: httpx.Response, error: type[GitHubError]
) -> None:
    """Asking again makes it no better, and a limit worse."""
    way.answer(answer)

    with pytest.raises(error):
        await client.fetch_user("gho_1")

    assert len(way.requests) == 1


async def test_a_revoked_token_is_refused(client: GitHubClient) -> None:
    """GitHub answers 401."""
    with pytest.raises(GitHubRefusedError, match="HTTP 401"):
        await client.fetch_sponsorships("gho_revoked", ["maintainer"])


async def test_a_rate_limit_says_when_to_come_back(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """By the header that GitHub sends."""
    github.switches.rate_limited = True
    github.switches.retry_after_s = 17

    with pytest.raises(GitHubLimitedError) as caught:
        await client.fetch_user(_token(github, "monthly"))

    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize("scopes", [[], ["user:email"]])
async def test_a_token_that_was_granted_too_little_is_refused(
    client: GitHubClient, github: SimulatedGitHub, scopes: list[str]
) -> None:
    """People may take scopes away on the consent page."""
    token = github.tokens.issue(github.people.get_person("monthly"), scopes)

    with pytest.raises(GitHubRefusedError, match="INSUFFICIENT_SCOPES"):
        await client.fetch_sponsorships(token, ["maintainer"])


async def test_the_token_stands_in_the_header_alone(
    client: GitHubClient, github: SimulatedGitHub, way: Script
) -> None:
    """Addresses are logged on the way."""
    token = _token(github, "monthly")

    await client.fetch_sponsorships(token, ["maintainer"])

    [request] = way.requests
    assert request.headers["authorization"] == f"Bearer {token}"
    assert token not in str(request.url)
    assert token.encode() not in request.content
