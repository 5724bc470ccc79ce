"""The people of the simulated GitHub, as GraphQL answers show them."""

import pytest

from tests.conftest import Clock
from tests.support.simulated_github import GitHubClient, bearer, sponsors_on

# --- the people by role ---------------------------------------------------------------------------


async def test_monthly_has_every_field_of_a_sponsorship(http: GitHubClient) -> None:
    """The service reads all of these fields."""
    (sponsorship,) = await http.sponsorships_of(await http.log_in("monthly"))

    assert sponsorship == {
        "isActive": True,
        "isOneTimePayment": False,
        "privacyLevel": "PUBLIC",
        "paymentSource": "GITHUB",
        "createdAt": "2025-10-16T12:00:00Z",
        "tierSelectedAt": "2025-10-16T12:00:00Z",
        "tier": {"monthlyPriceInCents": 1000, "isOneTime": False, "name": "$10 a month"},
        "sponsorable": {"__typename": "User", "login": "maintainer", "databaseId": 36_107_525},
    }


async def test_every_field_of_a_sponsorship_can_be_read(http: GitHubClient) -> None:
    """The schema has more fields than the service reads; none of them may raise an error."""
    (monthly,) = http.github.people.sponsorships_of(http.github.people.get("monthly"))
    data = await http.ask(
        await http.log_in("monthly"),
        """{ repositoryOwner(login: "maintainer") { ... on Sponsorable {
             sponsorshipForViewerAsSponsor {
               id isSponsorOptedIntoEmail sponsorEntity { ... on Node { id } }
               tier { id name description isCustomAmount monthlyPriceInDollars } } } } }""",
    )

    assert data["repositoryOwner"]["sponsorshipForViewerAsSponsor"] == {
        "id": monthly.id,
        "isSponsorOptedIntoEmail": None,
        "sponsorEntity": {"id": "U_sim48210377"},
        "tier": {
            "id": "ST_sim1000m",
            "name": "$10 a month",
            "description": "$10 a month",
            "isCustomAmount": False,
            "monthlyPriceInDollars": 10,
        },
    }


async def test_one_time_is_active_for_a_month(http: GitHubClient, clock: Clock) -> None:
    """After a month the payment is no longer listed as active, and there is no event."""
    token = await http.log_in("one-time")
    [before] = await http.sponsorships_of(token)
    clock.advance(days=25)

    [after] = await http.sponsorships_of(token, activeOnly=False)
    assert before["isOneTimePayment"]
    assert await http.sponsorships_of(token) == []
    assert not after["isActive"]


async def test_only_sponsor_and_maintainer_see_a_private_sponsorship(http: GitHubClient) -> None:
    """The maintainer sees it only with includePrivate; other people never see it."""
    own = await http.sponsorships_of(await http.log_in("private"))
    maintainer, other = await http.log_in("maintainer"), await http.log_in("monthly")

    assert [each["privacyLevel"] for each in own] == ["PRIVATE"]
    assert "private" in sponsors_on(await http.received(maintainer, first=100))
    assert "private" not in sponsors_on(await http.received(maintainer, first=100, private=False))
    assert "private" not in sponsors_on(await http.received(other, first=100))
    http.github.switches.own_private_hidden = True
    assert await http.sponsorships_of(await http.log_in("private")) == []


async def test_former_is_listed_only_without_active_only(http: GitHubClient) -> None:
    """The default of `activeOnly` is true."""
    token = await http.log_in("former")

    [former] = await http.sponsorships_of(token, activeOnly=False)
    assert await http.sponsorships_of(token) == []
    assert not former["isActive"]


async def test_patreon_has_no_tier(http: GitHubClient) -> None:
    """GitHub does not know the tier, so the service cannot compare an amount."""
    (sponsorship,) = await http.sponsorships_of(await http.log_in("patreon"))

    assert sponsorship["paymentSource"] == "PATREON"
    assert (sponsorship["tier"], sponsorship["tierSelectedAt"]) == (None, None)


@pytest.mark.parametrize("login", ["stranger", "org-member", "maintainer"])
async def test_other_roles_sponsor_nobody(http: GitHubClient, login: str) -> None:
    """An organization's sponsorship does not make its member a sponsor."""
    assert await http.sponsorships_of(await http.log_in(login), activeOnly=False) == []


async def test_org_member_shows_the_organization_that_sponsors(http: GitHubClient) -> None:
    """With the scope read:org a member sees the sponsorship, but not its tier."""
    token = http.issue_token("org-member", ["read:user", "read:org"])
    data = await http.ask(
        token,
        """{ viewer { organizations(first: 9, orderBy: {field: LOGIN, direction: ASC}) { nodes {
             login viewerIsAMember membersWithRole(first: 1) { nodes { login } }
             sponsorshipsAsSponsor(first: 1) { nodes { isActive tier { id } } } } } } }""",
    )

    assert data["viewer"]["organizations"]["nodes"] == [
        {
            "login": "sponsoring-org",
            "viewerIsAMember": True,
            "membersWithRole": {"nodes": [{"login": "org-member"}]},
            "sponsorshipsAsSponsor": {"nodes": [{"isActive": True, "tier": None}]},
        }
    ]


async def test_only_owners_see_a_private_sponsorship_of_an_organization(http: GitHubClient) -> None:
    """An ordinary member gets an empty list."""
    people = http.github.people
    owner, member = people.get_person("stranger"), people.get_person("monthly")
    people.add_organization("quiet-org", owners=[owner], members=[member])
    people.sponsor("quiet-org", "maintainer", cents=5000, private=True)
    query = """{ viewer { organizations(first: 1) { nodes {
        sponsorshipsAsSponsor(first: 1) { nodes { tier { monthlyPriceInCents } } } } } } }"""

    owners = await http.ask(http.github.tokens.issue(owner), query)
    members = await http.ask(http.github.tokens.issue(member), query)

    assert owners["viewer"]["organizations"]["nodes"] == [
        {"sponsorshipsAsSponsor": {"nodes": [{"tier": {"monthlyPriceInCents": 5000}}]}}
    ]
    assert members["viewer"]["organizations"]["nodes"] == [{"sponsorshipsAsSponsor": {"nodes": []}}]


async def test_the_maintainer_asks_for_one_sponsor_by_node(http: GitHubClient) -> None:
    """The maintainer sees a private sponsorship with its tier; other people see null."""
    query = """query ($id: ID!) { node(id: $id) { ... on User { databaseId }
        ... on Organization { databaseId }
        ... on Sponsorable { sponsorshipForViewerAsSponsorable(activeOnly: false) {
          privacyLevel tier { monthlyPriceInCents } } } } }"""
    maintainer, other = await http.log_in("maintainer"), await http.log_in("monthly")
    node_id = http.github.people.get("private").id

    own = await http.ask(maintainer, query, id=node_id)
    organization = await http.ask(maintainer, query, id="O_sim17562948")
    others = await http.ask(other, query, id=node_id)

    assert own["node"] == {
        "databaseId": 73_355_190,
        "sponsorshipForViewerAsSponsorable": {
            "privacyLevel": "PRIVATE",
            "tier": {"monthlyPriceInCents": 500},
        },
    }
    assert organization["node"]["databaseId"] == 17_562_948
    assert others["node"] == {"databaseId": 73_355_190, "sponsorshipForViewerAsSponsorable": None}


async def test_the_direct_query_agrees_with_the_list(http: GitHubClient) -> None:
    """`sponsorshipForViewerAsSponsor` is another way to query a sponsorship."""
    query = """query ($active: Boolean!) {
      repositoryOwner(login: "MAINTAINER") { ... on Sponsorable {
        hasSponsorsListing viewerIsSponsoring isSponsoringViewer
        sponsorshipForViewerAsSponsor(activeOnly: $active) { isActive }
        sponsorshipForViewerAsSponsorable { isActive }
        byMonthly: isSponsoredBy(accountLogin: "Monthly")
        byNobody: isSponsoredBy(accountLogin: "nobody-at-all") } } }"""
    token = await http.log_in("former")

    active = await http.ask(token, query, active=True)
    ever = await http.ask(token, query, active=False)

    assert active["repositoryOwner"] == {
        "hasSponsorsListing": True,
        "viewerIsSponsoring": False,
        "isSponsoringViewer": False,
        "sponsorshipForViewerAsSponsor": None,
        "sponsorshipForViewerAsSponsorable": None,
        "byMonthly": True,
        "byNobody": False,
    }
    assert ever["repositoryOwner"]["sponsorshipForViewerAsSponsor"] == {"isActive": False}


async def test_others_see_no_tier(http: GitHubClient) -> None:
    """The token of another person shows public sponsors without amounts."""
    maintainer, other = await http.log_in("maintainer"), await http.log_in("stranger")

    seen = await http.received(maintainer, first=100)
    public = await http.received(other, first=100)

    assert {"monthlyPriceInCents": 10_000} in [node["tier"] for node in seen["nodes"]]
    assert {node["tier"] and "known" for node in public["nodes"]} == {None}


# --- changes of the directory ---------------------------------------------------------------------


async def test_an_organization_can_be_the_maintainer(http: GitHubClient) -> None:
    """Owners see its private sponsorships; the letter case of logins does not matter."""
    owner = http.github.people.get_person("stranger")
    http.github.people.add_organization(
        "Maintaining-Org", owners=[owner], has_sponsors_listing=True
    )
    http.github.people.sponsor("monthly", "maintaining-org", cents=300, private=True)
    (sponsorship,) = await http.sponsorships_of(
        await http.log_in("monthly"), logins=["MAINTAINING-ORG"]
    )
    owners_view = await http.ask(
        await http.log_in("stranger"),
        """{ organization(login: "maintaining-org") { databaseId
             sponsorshipsAsMaintainer(first: 5, includePrivate: true) {
               nodes { tier { monthlyPriceInCents } } } } }""",
    )

    assert sponsorship["sponsorable"] == {"__typename": "Organization", "login": "Maintaining-Org"}
    assert owners_view["organization"]["sponsorshipsAsMaintainer"]["nodes"] == [
        {"tier": {"monthlyPriceInCents": 300}}
    ]


async def test_the_filter_by_maintainer_keeps_the_others_out(http: GitHubClient) -> None:
    """The person sponsors another account, which the filter leaves out."""
    http.github.people.sponsor("stranger", "monthly")
    token = await http.log_in("stranger")

    assert await http.sponsorships_of(token, logins=["Maintainer"]) == []
    assert len(await http.sponsorships_of(token)) == 1


async def test_a_rename_keeps_the_account(http: GitHubClient) -> None:
    """The account's number, token and sponsorships stay."""
    token = await http.log_in("monthly")
    http.github.people.rename("monthly", "yearly")

    user = (await http.get("/api/user", headers=bearer(token))).json()

    assert (user["login"], user["id"]) == ("yearly", 48_210_377)
    assert len(await http.sponsorships_of(token)) == 1


@pytest.mark.parametrize(
    ("change", "nodes"), [("is_ended", []), ("is_null", [None])], ids=["ended", "null"]
)
async def test_a_change_holds_from_the_next_query_on(
    http: GitHubClient, change: str, nodes: list[None]
) -> None:
    """Tests end a sponsorship, or make it the null that GitHub sometimes sends."""
    token = await http.log_in("monthly")
    (sponsorship,) = http.github.people.sponsorships_of(http.github.people.get("monthly"))
    setattr(sponsorship, change, True)

    assert await http.sponsorships_of(token) == nodes


async def test_a_login_and_an_id_are_unique(http: GitHubClient) -> None:
    """Two accounts with one login would make other tests meaningless."""
    people = http.github.people
    with pytest.raises(ValueError, match="taken"):
        people.add_person("MONTHLY")
    with pytest.raises(ValueError, match="taken"):
        people.add_person("another", database_id=48_210_377)
    assert http.github.people.get("Monthly").database_id == 48_210_377
    with pytest.raises(KeyError):
        http.github.people.get("another")
    with pytest.raises(KeyError):
        http.github.people.get_person("sponsoring-org")
