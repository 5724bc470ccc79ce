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
from sponsorsync.domain.profile import EmailAddress, GitHubAccount, GitHubUser
from sponsorsync.domain.sources import PaymentSource
from sponsorsync.domain.sponsorship import Memberships, Privacy
from sponsorsync.github.client import GitHubClient
from sponsorsync.github.messages import SponsorAnswer

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


def _organizations(page: object, nodes: list[None]) -> httpx.Response:
    connection = {"pageInfo": page, "nodes": nodes}
    return httpx.Response(200, json={"data": {"viewer": {"organizations": connection}}})


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


async def test_an_account_keeps_its_number_under_another_login(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """The number is asked about, and the login is what GitHub says today."""
    github.people.rename("monthly", "Yearly")

    account = await client.fetch_account(48_210_377, _token(github, "maintainer"))

    assert account == GitHubAccount(id=48_210_377, login="Yearly", node_id="U_sim48210377")


async def test_a_login_that_was_taken_over_is_another_account(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """What was meant for the one must not reach the other; nor does their sponsorship."""
    token = _token(github, "maintainer")
    github.people.rename("monthly", "yearly")
    newcomer = github.people.add_person("monthly")

    account = await client.fetch_account_by_login("monthly", token)
    answer = await client.fetch_sponsor(token, newcomer.id)

    assert account == GitHubAccount(newcomer.database_id, "monthly", newcomer.id)
    assert answer == SponsorAnswer("maintainer", newcomer.database_id, None)


async def test_an_account_that_is_gone_is_none(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """By number and by login; this is an answer, and no refusal."""
    token = _token(github, "maintainer")
    github.people.remove("monthly")

    assert await client.fetch_account(48_210_377, token) is None
    assert await client.fetch_account_by_login("monthly", token) is None
    assert [each.status for each in github.requests.all("account")] == [404, 404]


@pytest.mark.parametrize("login", ["Sponsoring-ORG", "sponsoring-org"])
async def test_anybody_may_ask_who_has_a_login(
    client: GitHubClient, way: Script, login: str
) -> None:
    """Without a token there is no header for one; organizations have logins, too."""
    account = await client.fetch_account_by_login(login, None)

    [request] = way.requests
    assert account == GitHubAccount(17_562_948, "sponsoring-org", "O_sim17562948")
    assert "authorization" not in request.headers


@pytest.mark.parametrize("login", ["../user", "..", ".", "user/emails", "monthly?x=1", "%2e%2e"])
async def test_what_cannot_be_a_login_leads_nowhere_else(
    client: GitHubClient, way: Script, github: SimulatedGitHub, login: str
) -> None:
    """With a token, another address could tell about its owner."""
    assert await client.fetch_account_by_login(login, _token(github, "monthly")) is None

    [request] = way.requests
    assert request.url.raw_path.startswith(b"/api/users/")
    assert request.url.raw_path.count(b"/") == 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(401), GitHubRefusedError),
        (httpx.Response(301), GitHubRefusedError),
        (httpx.Response(429, headers={"Retry-After": "9"}), GitHubLimitedError),
        (httpx.Response(200, json=[]), GitHubUnreachableError),
    ],
    ids=["401", "301", "429", "list"],
)
async def test_only_404_means_that_an_account_is_gone(
    client: GitHubClient, way: Script, answer: httpx.Response, error: type[GitHubError]
) -> None:
    """All else is unknown."""
    way.answer(answer)

    with pytest.raises(error):
        await client.fetch_account(48_210_377, "gho_1")


async def test_a_404_elsewhere_is_a_refusal(client: GitHubClient, way: Script) -> None:
    """GitHub says so of what a token may not see."""
    way.answer(httpx.Response(404))

    with pytest.raises(GitHubRefusedError):
        await client.fetch_sponsor("gho_1", "U_1")


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
    """The one that entitles may be the last."""
    for days_ago in range(number):
        github.people.sponsor("stranger", "maintainer", days_ago=days_ago)

    sponsorships = await client.fetch_sponsorships(_token(github, "stranger"), ["maintainer"])

    assert len({each.created_at for each in sponsorships}) == len(sponsorships) == number
    assert len(github.requests.all("graphql")) == pages


async def test_a_member_sees_what_their_organization_gives(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """Publicly, and without its tier: that is for those who manage the organization."""
    memberships = await client.fetch_memberships(_token(github, "org-member"), ["Maintainer"])

    [organization] = memberships.organizations
    [sponsorship] = organization.sponsorships
    assert (organization.id, organization.login) == (17_562_948, "sponsoring-org")
    assert sponsorship.sponsorable == "maintainer"
    assert sponsorship.is_active
    assert sponsorship.tier_cents is None
    assert memberships.is_complete


async def test_an_owner_sees_the_tier_and_what_is_private(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """They manage the organization; its ordinary members see neither."""
    owner, member = github.people.get_person("stranger"), github.people.get_person("monthly")
    github.people.add_organization("Quiet-Org", owners=[owner], members=[member])
    github.people.sponsor("quiet-org", "maintainer", cents=5000, private=True)

    owners = await client.fetch_memberships(_token(github, "stranger"), ["maintainer"])
    members = await client.fetch_memberships(_token(github, "monthly"), ["maintainer"])

    [sponsorship] = owners.organizations[0].sponsorships
    assert (sponsorship.tier_cents, sponsorship.privacy) == (5000, Privacy.PRIVATE)
    assert [each.login for each in members.organizations] == ["quiet-org"]
    assert members.organizations[0].sponsorships == ()


async def test_an_organization_that_restricts_oauth_apps_hides_no_other(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """GitHub says FORBIDDEN beside the data: the one is unknown, and the others count."""
    member = github.people.get_person("org-member")
    github.people.add_organization("restricting-org", members=[member])
    github.switches.restricting_organization = "restricting-org"

    memberships = await client.fetch_memberships(_token(github, "org-member"), ["maintainer"])

    assert [each.login for each in memberships.organizations] == ["sponsoring-org"]
    assert not memberships.is_complete


@pytest.mark.parametrize(
    ("switch", "logins"),
    [("forbidden", ["sponsoring-org"]), ("forbidden_data", []), ("partial", ["sponsoring-org"])],
)
async def test_a_sponsorship_that_is_kept_back_leaves_the_answer_incomplete(
    client: GitHubClient, github: SimulatedGitHub, switch: str, logins: list[str]
) -> None:
    """Wherever GitHub puts the null: at the node, the list, or the whole organization."""
    github.switches.change({switch: True})

    memberships = await client.fetch_memberships(_token(github, "org-member"), ["maintainer"])

    assert [each.login for each in memberships.organizations] == logins
    assert [each.sponsorships for each in memberships.organizations] == [()] * len(logins)
    assert not memberships.is_complete


async def test_who_belongs_nowhere_has_an_empty_answer(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """This is a no, and not an unknown."""
    memberships = await client.fetch_memberships(_token(github, "stranger"), ["maintainer"])

    assert memberships == Memberships([], is_complete=True)


async def test_an_organization_keeps_its_number_under_another_login(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """The number is what it is known by."""
    github.people.rename("sponsoring-org", "Renamed-Org")

    memberships = await client.fetch_memberships(_token(github, "org-member"), ["maintainer"])

    [organization] = memberships.organizations
    assert (organization.id, organization.login) == (17_562_948, "renamed-org")


@pytest.mark.parametrize(
    ("number", "pages", "expected", "is_complete"),
    [(100, 1, 100, True), (101, 2, 101, True), (1000, 10, 1000, True), (1001, 10, 1000, False)],
)
async def test_every_page_of_organizations_is_read_up_to_a_thousand(
    client: GitHubClient,
    github: SimulatedGitHub,
    number: int,
    pages: int,
    expected: int,
    *,
    is_complete: bool,
) -> None:
    """The one that entitles may be the last; but no login waits for more than ten pages."""
    person = github.people.get_person("stranger")
    for each in range(number):
        github.people.add_organization(f"organization-{each}", members=[person])

    memberships = await client.fetch_memberships(_token(github, "stranger"), ["maintainer"])

    assert len({each.id for each in memberships.organizations}) == expected
    assert memberships.is_complete == is_complete
    assert len(github.requests.all("graphql")) == pages


@pytest.mark.parametrize(("first", "last"), [([None], []), ([], [None])], ids=["first", "last"])
async def test_what_one_page_keeps_back_is_missing_from_all(
    client: GitHubClient, way: Script, first: list[None], last: list[None]
) -> None:
    """A page that is whole does not make up for another one."""
    more = {"hasNextPage": True, "endCursor": "Y3Vyc29y"}
    no_more = {"hasNextPage": False, "endCursor": None}
    way.answer(_organizations(more, first), _organizations(no_more, last))

    memberships = await client.fetch_memberships("gho_1", ["maintainer"])

    assert memberships == Memberships([], is_complete=False)


@pytest.mark.parametrize("scopes", [["read:user"], ["read:org"]])
async def test_organizations_need_both_scopes(
    client: GitHubClient, github: SimulatedGitHub, scopes: list[str]
) -> None:
    """`read:org` for the membership, `read:user` for what is given; people may grant one alone."""
    token = github.tokens.issue(github.people.get_person("org-member"), scopes)

    with pytest.raises(GitHubRefusedError, match="INSUFFICIENT_SCOPES"):
        await client.fetch_memberships(token, ["maintainer"])


async def test_a_rate_limit_in_graphql_says_when_to_come_back(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """It comes with HTTP 200, and with the header of any other limit."""
    github.switches.rate_limited = True
    github.switches.retry_after_s = 17

    with pytest.raises(GitHubLimitedError) as caught:
        await client.fetch_memberships(_token(github, "org-member"), ["maintainer"])

    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize(
    ("login", "cents", "is_active"),
    [("monthly", 1000, True), ("private", 500, True), ("former", 1000, False)],
)
async def test_a_maintainer_sees_one_sponsor(
    client: GitHubClient, github: SimulatedGitHub, login: str, cents: int, *, is_active: bool
) -> None:
    """The private ones too, and those that have ended."""
    sponsor = github.people.get(login)

    answer = await client.fetch_sponsor(_token(github, "maintainer"), sponsor.id)

    assert answer.viewer_login == "maintainer"
    assert answer.sponsor_id == sponsor.database_id
    assert answer.sponsorship is not None
    assert answer.sponsorship.sponsorable == "maintainer"
    assert answer.sponsorship.tier_cents == cents
    assert answer.sponsorship.is_active == is_active


async def test_an_organization_can_be_the_one_sponsor(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """Its number stands in another part of GitHub's schema than a person's."""
    answer = await client.fetch_sponsor(_token(github, "maintainer"), "O_sim17562948")

    assert answer.sponsor_id == 17_562_948
    assert answer.sponsorship is not None
    assert answer.sponsorship.tier_cents == 10_000


async def test_who_gives_nothing_to_the_maintainer_is_told_as_such(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """What they give to others does not count."""
    stranger = github.people.get("stranger")
    github.people.sponsor("stranger", "monthly")

    answer = await client.fetch_sponsor(_token(github, "maintainer"), stranger.id)

    assert answer == SponsorAnswer("maintainer", stranger.database_id, None)


async def test_anybody_elses_token_answers_for_somebody_else(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """The answer names whom it is about, so that a wrong token ends nobody's entitlement."""
    sponsor = github.people.get("monthly")

    answer = await client.fetch_sponsor(_token(github, "stranger"), sponsor.id)

    assert answer == SponsorAnswer("stranger", sponsor.database_id, None)


async def test_a_node_that_is_not_there_is_a_refusal(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """GitHub says NOT_FOUND of what it hides, too."""
    with pytest.raises(GitHubRefusedError, match="NOT_FOUND"):
        await client.fetch_sponsor(_token(github, "maintainer"), "U_sim1")


async def test_one_sponsor_under_a_rate_limit_says_when_to_come_back(
    client: GitHubClient, github: SimulatedGitHub
) -> None:
    """A person waits for this answer, and should know for how long."""
    github.switches.rate_limited = True
    github.switches.retry_after_s = 17

    with pytest.raises(GitHubLimitedError) as caught:
        await client.fetch_sponsor(_token(github, "maintainer"), "U_sim48210377")

    assert caught.value.retry_after_s == 17


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


async def test_a_revoked_token_is_refused(client: GitHubClient) -> None:
    """GitHub answers 401."""
    with pytest.raises(GitHubRefusedError, match="HTTP 401"):
        await client.fetch_sponsorships("gho_revoked", ["maintainer"])


@pytest.mark.parametrize("scopes", [[], ["user:email"]])
async def test_a_token_that_was_granted_too_little_is_refused(
    client: GitHubClient, github: SimulatedGitHub, scopes: list[str]
) -> None:
    """People may take scopes away on the consent page."""
    token = github.tokens.issue(github.people.get_person("monthly"), scopes)

    with pytest.raises(GitHubRefusedError, match="INSUFFICIENT_SCOPES"):
        await client.fetch_sponsorships(token, ["maintainer"])


async def test_a_403_that_names_a_wait_is_a_limit(client: GitHubClient, way: Script) -> None:
    """GitHub's secondary limits come like this, and asking again makes them worse."""
    way.answer(httpx.Response(403, headers={"Retry-After": "9"}))

    with pytest.raises(GitHubLimitedError):
        await client.fetch_user("gho_1")

    assert len(way.requests) == 1


async def test_the_token_is_no_part_of_a_query(
    client: GitHubClient, github: SimulatedGitHub, way: Script
) -> None:
    """A question to GraphQL has a body, and that may be logged, too."""
    token = _token(github, "monthly")

    await client.fetch_sponsorships(token, ["maintainer"])

    [request] = way.requests
    assert request.headers["authorization"] == f"Bearer {token}"
    assert token not in str(request.url)
    assert token.encode() not in request.content
