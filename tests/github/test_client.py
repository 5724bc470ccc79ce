"""The client of GitHub's API: pages, accounts, sponsors, limits and refusals."""

from collections.abc import AsyncIterator, Awaitable, Callable

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
from sponsorsync.github.sponsorships import SponsorAnswer
from sponsorsync.sandbox.github import SimulatedGitHub
from tests.support.github_answers import Json, answer_with, organizations_answer
from tests.support.script import Script

NEXT_PAGE: Json = {"hasNextPage": True, "endCursor": "Y3Vyc29y"}


class Client(GitHubClient):
    """The client of the simulated GitHub, with a way to get tokens from it."""

    def __init__(self, http: httpx.AsyncClient, github: SimulatedGitHub) -> None:
        super().__init__(http, api_url="http://github.test/api")
        self.github = github

    def token_of(self, login: str) -> str:
        """Returns a token of a person."""
        return self.github.tokens.issue(self.github.people.get_person(login))


@pytest.fixture
async def client(way: Script, github: SimulatedGitHub) -> AsyncIterator[Client]:
    """The client of the simulated GitHub."""
    headers = {"User-Agent": "SponsorSync/test"}
    async with httpx.AsyncClient(transport=way, headers=headers) as http:
        yield Client(http, github)


async def test_fetch_user_returns_the_token_owners_profile(client: Client) -> None:
    """Name and public address may be missing."""
    user = await client.fetch_user(client.token_of("stranger"))

    assert user == GitHubUser(
        id=112_493_071,
        login="stranger",
        name=None,
        email=None,
        avatar_url="http://github.test/avatars/112493071",
    )


async def test_fetch_emails_returns_hidden_addresses_too(client: Client) -> None:
    """`/user` has the public address only."""
    emails = await client.fetch_emails(client.token_of("stranger"))

    assert emails == (EmailAddress("stranger@example.com", is_primary=True, is_verified=True),)


async def test_a_renamed_account_is_found_by_its_id(client: Client) -> None:
    """GitHub's answer has the new login."""
    client.github.people.rename("monthly", "Yearly")

    account = await client.fetch_account(48_210_377, client.token_of("maintainer"))

    assert account == GitHubAccount(id=48_210_377, login="Yearly", node_id="U_sim48210377")


async def test_a_login_that_was_taken_over_is_another_account(client: Client) -> None:
    """Data and sponsorship of the former owner of a login must not reach the new one."""
    token = client.token_of("maintainer")
    client.github.people.rename("monthly", "yearly")
    newcomer = client.github.people.add_person("monthly")

    account = await client.fetch_account_by_login("monthly", token)
    answer = await client.fetch_sponsor(token, newcomer.id)

    assert account == GitHubAccount(newcomer.database_id, "monthly", newcomer.id)
    assert answer == SponsorAnswer("maintainer", newcomer.database_id, None)


async def test_a_deleted_account_is_none(client: Client) -> None:
    """404 is GitHub's answer that there is no account, and no refusal."""
    token = client.token_of("maintainer")
    client.github.people.remove("monthly")

    assert await client.fetch_account(48_210_377, token) is None
    assert await client.fetch_account_by_login("monthly", token) is None
    assert [each.status for each in client.github.requests.all("account")] == [404, 404]


@pytest.mark.parametrize("login", ["Sponsoring-ORG", "sponsoring-org"])
async def test_an_account_is_found_by_login_without_a_token(
    client: Client, way: Script, login: str
) -> None:
    """Without a token there is no Authorization header; organizations have logins, too."""
    account = await client.fetch_account_by_login(login, None)

    [request] = way.requests
    assert account == GitHubAccount(17_562_948, "sponsoring-org", "O_sim17562948")
    assert "authorization" not in request.headers


@pytest.mark.parametrize("login", ["../user", "..", ".", "user/emails", "monthly?x=1", "%2e%2e"])
async def test_an_invalid_login_does_not_change_the_path(
    client: Client, way: Script, login: str
) -> None:
    """Another path could return data on the token's owner."""
    assert await client.fetch_account_by_login(login, client.token_of("monthly")) is None

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
    client: Client, way: Script, answer: httpx.Response, error: type[GitHubError]
) -> None:
    """After any other status it is unknown whether the account exists."""
    way.answer(answer)

    with pytest.raises(error):
        await client.fetch_account(48_210_377, "gho_1")


async def test_a_404_elsewhere_is_a_refusal(client: Client, way: Script) -> None:
    """For GraphQL, GitHub sends 404 for objects that a token may not see."""
    way.answer(httpx.Response(404))

    with pytest.raises(GitHubRefusedError):
        await client.fetch_sponsor("gho_1", "U_1")


@pytest.mark.parametrize(
    ("sponsor", "login", "cents", "privacy", "source", "is_active"),
    [
        ("private", "maintainer", 500, Privacy.PRIVATE, PaymentSource.GITHUB, True),
        ("private", "MainTainer", 500, Privacy.PRIVATE, PaymentSource.GITHUB, True),
        ("patreon", "maintainer", None, Privacy.PUBLIC, PaymentSource.PATREON, True),
        ("former", "maintainer", 1000, Privacy.PUBLIC, PaymentSource.GITHUB, False),
    ],
)
async def test_a_sponsor_sees_their_sponsorship(
    client: Client,
    sponsor: str,
    login: str,
    cents: int | None,
    privacy: Privacy,
    source: PaymentSource,
    *,
    is_active: bool,
) -> None:
    """The list has private and ended ones, too; GitHub ignores letter case in logins."""
    [found] = await client.fetch_sponsorships(client.token_of(sponsor), [login])

    assert found.sponsorable == "maintainer"
    assert (found.tier_cents, found.privacy) == (cents, privacy)
    assert (found.payment_source, found.is_active) == (source, is_active)


async def test_an_organization_can_be_sponsored(client: Client) -> None:
    """In GitHub's schema an organization is another type than a person."""
    client.github.people.add_organization("The-Project")
    client.github.people.sponsor("monthly", "The-Project")

    sponsorships = await client.fetch_sponsorships(
        client.token_of("monthly"), ["the-project", "maintainer"]
    )

    assert {each.sponsorable for each in sponsorships} == {"the-project", "maintainer"}


async def test_sponsorships_of_other_accounts_are_not_requested(client: Client) -> None:
    """The person sponsors two accounts; only the configured one is requested."""
    client.github.people.sponsor("monthly", "stranger")

    sponsorships = await client.fetch_sponsorships(client.token_of("monthly"), ["maintainer"])

    assert [each.sponsorable for each in sponsorships] == ["maintainer"]


@pytest.mark.parametrize(("number", "pages"), [(0, 1), (99, 1), (100, 1), (101, 2), (150, 2)])
async def test_every_page_of_sponsorships_is_read(client: Client, number: int, pages: int) -> None:
    """The sponsorship that entitles may be on the last page."""
    for days_ago in range(number):
        client.github.people.sponsor("stranger", "maintainer", days_ago=days_ago)

    sponsorships = await client.fetch_sponsorships(client.token_of("stranger"), ["maintainer"])

    assert len({each.created_at for each in sponsorships}) == len(sponsorships) == number
    assert len(client.github.requests.all("graphql")) == pages


async def test_a_member_sees_the_organizations_public_sponsorship(client: Client) -> None:
    """The tier is shown only to managers of the organization."""
    memberships = await client.fetch_memberships(client.token_of("org-member"), ["Maintainer"])

    [organization] = memberships.organizations
    [sponsorship] = organization.sponsorships
    assert (organization.id, organization.login) == (17_562_948, "sponsoring-org")
    assert sponsorship.sponsorable == "maintainer"
    assert sponsorship.is_active
    assert sponsorship.tier_cents is None
    assert memberships.is_complete


async def test_an_owner_sees_the_tier_and_private_sponsorships(client: Client) -> None:
    """Ordinary members see neither the tier nor private sponsorships."""
    owner, member = (
        client.github.people.get_person("stranger"),
        client.github.people.get_person("monthly"),
    )
    client.github.people.add_organization("Quiet-Org", owners=[owner], members=[member])
    client.github.people.sponsor("quiet-org", "maintainer", cents=5000, private=True)

    owners = await client.fetch_memberships(client.token_of("stranger"), ["maintainer"])
    members = await client.fetch_memberships(client.token_of("monthly"), ["maintainer"])

    [sponsorship] = owners.organizations[0].sponsorships
    assert (sponsorship.tier_cents, sponsorship.privacy) == (5000, Privacy.PRIVATE)
    assert [each.login for each in members.organizations] == ["quiet-org"]
    assert members.organizations[0].sponsorships == ()


async def test_a_restricting_organization_does_not_hide_others(client: Client) -> None:
    """GitHub sends the error FORBIDDEN beside the data of the other organizations."""
    member = client.github.people.get_person("org-member")
    client.github.people.add_organization("restricting-org", members=[member])
    client.github.switches.restricting_organization = "restricting-org"

    memberships = await client.fetch_memberships(client.token_of("org-member"), ["maintainer"])

    assert [each.login for each in memberships.organizations] == ["sponsoring-org"]
    assert not memberships.is_complete


@pytest.mark.parametrize(
    ("switch", "logins"),
    [("forbidden", ["sponsoring-org"]), ("forbidden_data", []), ("partial", ["sponsoring-org"])],
)
async def test_a_withheld_sponsorship_makes_the_answer_incomplete(
    client: Client, switch: str, logins: list[str]
) -> None:
    """GitHub may send null for one sponsorship, the list or the organization."""
    client.github.switches.change({switch: True})

    memberships = await client.fetch_memberships(client.token_of("org-member"), ["maintainer"])

    assert [each.login for each in memberships.organizations] == logins
    assert [each.sponsorships for each in memberships.organizations] == [()] * len(logins)
    assert not memberships.is_complete


async def test_a_person_without_organizations_has_a_complete_empty_answer(client: Client) -> None:
    """An empty list means 'no', not 'unknown'."""
    memberships = await client.fetch_memberships(client.token_of("stranger"), ["maintainer"])

    assert memberships == Memberships([], is_complete=True)


async def test_a_renamed_organization_keeps_its_id(client: Client) -> None:
    """The id identifies the organization; the answer has the new login."""
    client.github.people.rename("sponsoring-org", "Renamed-Org")

    memberships = await client.fetch_memberships(client.token_of("org-member"), ["maintainer"])

    [organization] = memberships.organizations
    assert (organization.id, organization.login) == (17_562_948, "renamed-org")


@pytest.mark.parametrize(
    ("number", "pages", "expected", "is_complete"),
    [(100, 1, 100, True), (101, 2, 101, True), (1000, 10, 1000, True), (1001, 10, 1000, False)],
)
async def test_every_page_of_organizations_is_read_up_to_a_thousand(
    client: Client, number: int, pages: int, expected: int, *, is_complete: bool
) -> None:
    """The last page may have the sponsor, but a sign-in must not wait for more than ten pages."""
    person = client.github.people.get_person("stranger")
    for each in range(number):
        client.github.people.add_organization(f"organization-{each}", members=[person])

    memberships = await client.fetch_memberships(client.token_of("stranger"), ["maintainer"])

    assert len({each.id for each in memberships.organizations}) == expected
    assert memberships.is_complete == is_complete
    assert len(client.github.requests.all("graphql")) == pages


@pytest.mark.parametrize(("first", "last"), [([None], []), ([], [None])], ids=["first", "last"])
async def test_one_incomplete_page_makes_the_whole_answer_incomplete(
    client: Client, way: Script, first: list[Json], last: list[Json]
) -> None:
    """A complete page before or after the incomplete one does not change that."""
    pages = [organizations_answer(*first, page=NEXT_PAGE), organizations_answer(*last)]
    way.answer(*(httpx.Response(200, json=page) for page in pages))

    memberships = await client.fetch_memberships("gho_1", ["maintainer"])

    assert memberships == Memberships([], is_complete=False)


@pytest.mark.parametrize(
    "fetch",
    [
        lambda client, token: client.fetch_sponsorships(token, ["maintainer"]),
        lambda client, token: client.fetch_memberships(token, ["maintainer"]),
        lambda client, token: client.fetch_sponsor(token, "U_sim48210377"),
    ],
    ids=["sponsorships", "memberships", "sponsor"],
)
async def test_a_graphql_rate_limit_has_the_wait_of_its_header(
    client: Client, fetch: Callable[[GitHubClient, str], Awaitable[object]]
) -> None:
    """GitHub sends the limit with HTTP 200; the person reads how long to wait."""
    client.github.switches.rate_limited = True
    client.github.switches.retry_after_s = 17

    with pytest.raises(GitHubLimitedError) as caught:
        await fetch(client, client.token_of("maintainer"))

    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize(
    ("login", "cents", "is_active"),
    [
        ("monthly", 1000, True),
        ("private", 500, True),
        ("former", 1000, False),
        ("sponsoring-org", 10_000, True),
    ],
)
async def test_the_maintainer_can_fetch_one_sponsor(
    client: Client, login: str, cents: int, *, is_active: bool
) -> None:
    """Private and ended sponsorships are shown, too; a sponsor may be an organization."""
    sponsor = client.github.people.get(login)

    answer = await client.fetch_sponsor(client.token_of("maintainer"), sponsor.id)

    assert answer.viewer_login == "maintainer"
    assert answer.sponsor_id == sponsor.database_id
    assert answer.sponsorship is not None
    assert answer.sponsorship.sponsorable == "maintainer"
    assert answer.sponsorship.tier_cents == cents
    assert answer.sponsorship.is_active == is_active


@pytest.mark.parametrize(
    ("viewer", "login"),
    [("maintainer", "stranger"), ("stranger", "monthly")],
    ids=["no sponsor", "token of another person"],
)
async def test_the_answer_about_a_non_sponsor_names_the_token_owner(
    client: Client, viewer: str, login: str
) -> None:
    """GitHub answers for the token's owner, so the caller can see that a token is the wrong one."""
    person = client.github.people.get(login)
    client.github.people.sponsor("stranger", "monthly")

    answer = await client.fetch_sponsor(client.token_of(viewer), person.id)

    assert answer == SponsorAnswer(viewer, person.database_id, None)


async def test_an_unknown_node_is_a_refusal(client: Client) -> None:
    """GitHub sends NOT_FOUND for hidden nodes, too, so the sponsorship is unknown."""
    with pytest.raises(GitHubRefusedError, match="NOT_FOUND"):
        await client.fetch_sponsor(client.token_of("maintainer"), "U_sim1")


async def test_a_failed_page_fails_the_whole_list(client: Client, way: Script) -> None:
    """The first page alone would look like a complete list."""
    way.answer(httpx.Response(200, json=answer_with(page=NEXT_PAGE)), httpx.Response(403))

    with pytest.raises(GitHubRefusedError):
        await client.fetch_sponsorships("gho_1", ["maintainer"])


async def test_a_revoked_token_is_refused(client: Client) -> None:
    """GitHub answers with status 401."""
    with pytest.raises(GitHubRefusedError, match="HTTP 401"):
        await client.fetch_sponsorships("gho_revoked", ["maintainer"])


@pytest.mark.parametrize(
    ("fetch", "scopes"),
    [
        (GitHubClient.fetch_sponsorships, []),
        (GitHubClient.fetch_sponsorships, ["user:email"]),
        (GitHubClient.fetch_memberships, ["read:user"]),
        (GitHubClient.fetch_memberships, ["read:org"]),
    ],
)
async def test_a_token_with_missing_scopes_is_refused(
    client: Client,
    fetch: Callable[[GitHubClient, str, list[str]], Awaitable[object]],
    scopes: list[str],
) -> None:
    """People may remove scopes on the consent page; memberships need two scopes."""
    token = client.github.tokens.issue(client.github.people.get_person("org-member"), scopes)

    with pytest.raises(GitHubRefusedError, match="INSUFFICIENT_SCOPES"):
        await fetch(client, token, ["maintainer"])


async def test_a_403_with_retry_after_is_a_limit(client: Client, way: Script) -> None:
    """This is GitHub's secondary rate limit, so the request is not repeated."""
    way.answer(httpx.Response(403, headers={"Retry-After": "9"}))

    with pytest.raises(GitHubLimitedError):
        await client.fetch_user("gho_1")

    assert len(way.requests) == 1


async def test_the_token_is_not_in_a_query(client: Client, way: Script) -> None:
    """Addresses and bodies may be logged, so the token is in a header only."""
    token = client.token_of("monthly")

    await client.fetch_sponsorships(token, ["maintainer"])

    [request] = way.requests
    assert request.headers["authorization"] == f"Bearer {token}"
    assert token not in str(request.url)
    assert token.encode() not in request.content
