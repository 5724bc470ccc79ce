"""The people of the simulated GitHub, as GraphQL shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.simulated_github import (
    ask,
    bearer,
    given,
    log_in,
    received,
    sponsors_on,
)

if TYPE_CHECKING:
    import httpx

    from sponsorsync.sandbox.github import SimulatedGitHub
    from tests.conftest import Clock


class TestPeopleByRole:
    """What GraphQL tells of each person that one can log in as."""

    async def test_monthly(self, http: httpx.AsyncClient) -> None:
        """The plain case, with every field the service reads."""
        (sponsorship,) = await given(http, await log_in(http, "monthly"))

        assert sponsorship == {
            "isActive": True,
            "isOneTimePayment": False,
            "privacyLevel": "PUBLIC",
            "paymentSource": "GITHUB",
            "createdAt": "2025-10-16T12:00:00Z",
            "tierSelectedAt": "2025-10-16T12:00:00Z",
            "tier": {"monthlyPriceInCents": 1000, "isOneTime": False, "name": "$10 a month"},
            "sponsorable": {
                "__typename": "User",
                "login": "maintainer",
                "databaseId": 36_107_525,
            },
        }

    async def test_every_field_of_a_sponsorship_can_be_read(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The schema promises them, so none may end in a defect."""
        (monthly,) = github.people.sponsorships_of(github.people.get("monthly"))
        data = await ask(
            http,
            await log_in(http, "monthly"),
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

    async def test_one_time_is_active_for_a_month(
        self, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """Then it is gone from the default list without any event, but not from the full one."""
        token = await log_in(http, "one-time")
        before = await given(http, token)
        clock.advance(days=25)

        assert [each["isOneTimePayment"] for each in before] == [True]
        assert await given(http, token) == []
        assert [each["isActive"] for each in await given(http, token, activeOnly=False)] == [False]

    async def test_private_is_seen_by_both_sides_alone(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The maintainer has to ask for it by includePrivate, others never see it."""
        own = await given(http, await log_in(http, "private"))
        maintainer, other = await log_in(http, "maintainer"), await log_in(http, "monthly")

        assert [each["privacyLevel"] for each in own] == ["PRIVATE"]
        assert "private" in sponsors_on(await received(http, maintainer, first=100))
        assert "private" not in sponsors_on(
            await received(http, maintainer, first=100, private=False)
        )
        assert "private" not in sponsors_on(await received(http, other, first=100))
        github.switches.own_private_hidden = True
        assert await given(http, await log_in(http, "private")) == []

    async def test_former_is_listed_only_when_asked_for(self, http: httpx.AsyncClient) -> None:
        """`activeOnly` is true unless the query says otherwise."""
        token = await log_in(http, "former")

        assert await given(http, token) == []
        assert [each["isActive"] for each in await given(http, token, activeOnly=False)] == [False]

    async def test_patreon_has_no_tier(self, http: httpx.AsyncClient) -> None:
        """GitHub does not know it, so the service cannot compare a price."""
        (sponsorship,) = await given(http, await log_in(http, "patreon"))

        assert sponsorship["paymentSource"] == "PATREON"
        assert (sponsorship["tier"], sponsorship["tierSelectedAt"]) == (None, None)

    @pytest.mark.parametrize("login", ["stranger", "org-member", "maintainer"])
    async def test_the_others_give_nothing(self, http: httpx.AsyncClient, login: str) -> None:
        """An organization's sponsorship does not make its member a sponsor."""
        assert await given(http, await log_in(http, login), activeOnly=False) == []

    async def test_org_member_shows_the_organization_that_sponsors(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """With read:org the way from member to sponsorship is open; the tier stays unknown."""
        member = github.people.get_person("org-member")
        token = github.tokens.issue(member, ["read:user", "read:org"])
        data = await ask(
            http,
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

    async def test_a_private_sponsorship_of_an_organization_is_for_its_owners(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """An ordinary member is not told of it at all."""
        owner, member = github.people.get_person("stranger"), github.people.get_person("monthly")
        github.people.add_organization("quiet-org", owners=[owner], members=[member])
        github.people.sponsor("quiet-org", "maintainer", cents=5000, private=True)
        query = """{ viewer { organizations(first: 1) { nodes {
            sponsorshipsAsSponsor(first: 1) { nodes { tier { monthlyPriceInCents } } } } } } }"""

        owners = await ask(http, github.tokens.issue(owner), query)
        members = await ask(http, github.tokens.issue(member), query)

        assert owners["viewer"]["organizations"]["nodes"] == [
            {"sponsorshipsAsSponsor": {"nodes": [{"tier": {"monthlyPriceInCents": 5000}}]}}
        ]
        assert members["viewer"]["organizations"]["nodes"] == [
            {"sponsorshipsAsSponsor": {"nodes": []}}
        ]

    async def test_the_maintainer_asks_for_one_sponsor_by_node(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """What is private shows too, with its tier; to anybody else there is nothing to see."""
        query = """query ($id: ID!) { node(id: $id) { ... on User { databaseId }
            ... on Organization { databaseId }
            ... on Sponsorable { sponsorshipForViewerAsSponsorable(activeOnly: false) {
              privacyLevel tier { monthlyPriceInCents } } } } }"""
        maintainer, other = await log_in(http, "maintainer"), await log_in(http, "monthly")
        node_id = github.people.get("private").id

        own = await ask(http, maintainer, query, id=node_id)
        organization = await ask(http, maintainer, query, id="O_sim17562948")
        others = await ask(http, other, query, id=node_id)

        assert own["node"] == {
            "databaseId": 73_355_190,
            "sponsorshipForViewerAsSponsorable": {
                "privacyLevel": "PRIVATE",
                "tier": {"monthlyPriceInCents": 500},
            },
        }
        assert organization["node"]["databaseId"] == 17_562_948
        assert others["node"] == {
            "databaseId": 73_355_190,
            "sponsorshipForViewerAsSponsorable": None,
        }

    async def test_the_direct_question_gets_the_same_answer(self, http: httpx.AsyncClient) -> None:
        """`sponsorshipForViewerAsSponsor` is the other valid way to ask."""
        query = """query ($active: Boolean!) {
          repositoryOwner(login: "MAINTAINER") { ... on Sponsorable {
            hasSponsorsListing viewerIsSponsoring isSponsoringViewer
            sponsorshipForViewerAsSponsor(activeOnly: $active) { isActive }
            sponsorshipForViewerAsSponsorable { isActive }
            byMonthly: isSponsoredBy(accountLogin: "Monthly")
            byNobody: isSponsoredBy(accountLogin: "nobody-at-all") } } }"""
        token = await log_in(http, "former")

        active = await ask(http, token, query, active=True)
        ever = await ask(http, token, query, active=False)

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

    async def test_others_see_no_tier(self, http: httpx.AsyncClient) -> None:
        """An ordinary token shows who sponsors publicly, not what they pay."""
        maintainer, other = await log_in(http, "maintainer"), await log_in(http, "stranger")

        seen = await received(http, maintainer, first=100)
        public = await received(http, other, first=100)

        assert {"monthlyPriceInCents": 10_000} in [node["tier"] for node in seen["nodes"]]
        assert {node["tier"] and "known" for node in public["nodes"]} == {None}


class TestPeopleApi:
    """What tests do with the directory while the simulation runs."""

    async def test_an_organization_can_be_the_maintainer(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """Its owners see what it receives, and logins are compared without case."""
        owner = github.people.get_person("stranger")
        github.people.add_organization("Maintaining-Org", owners=[owner], has_sponsors_listing=True)
        github.people.sponsor("monthly", "maintaining-org", cents=300, private=True)
        (sponsorship,) = await given(
            http, await log_in(http, "monthly"), logins=["MAINTAINING-ORG"]
        )
        owners_view = await ask(
            http,
            await log_in(http, "stranger"),
            """{ organization(login: "maintaining-org") { databaseId
                 sponsorshipsAsMaintainer(first: 5, includePrivate: true) {
                   nodes { tier { monthlyPriceInCents } } } } }""",
        )

        assert sponsorship["sponsorable"] == {
            "__typename": "Organization",
            "login": "Maintaining-Org",
        }
        assert owners_view["organization"]["sponsorshipsAsMaintainer"]["nodes"] == [
            {"tier": {"monthlyPriceInCents": 300}}
        ]

    async def test_the_filter_by_maintainer_keeps_the_others_out(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """Sponsoring somebody else is not sponsoring this maintainer."""
        github.people.sponsor("stranger", "monthly")
        token = await log_in(http, "stranger")

        assert await given(http, token, logins=["Maintainer"]) == []
        assert len(await given(http, token)) == 1

    async def test_a_rename_keeps_the_account(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The login is a label: number, token and sponsorships stay."""
        token = await log_in(http, "monthly")
        github.people.rename("monthly", "yearly")

        user = (await http.get("/api/user", headers=bearer(token))).json()

        assert (user["login"], user["id"]) == ("yearly", 48_210_377)
        assert len(await given(http, token)) == 1

    async def test_a_change_holds_from_the_next_query_on(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """So a test ends or cheapens a sponsorship between two checks."""
        token = await log_in(http, "monthly")
        (sponsorship,) = github.people.sponsorships_of(github.people.get("monthly"))
        sponsorship.is_ended = True

        assert await given(http, token) == []

    async def test_a_null_node_stands_where_a_test_put_it(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The elements of `nodes` are nullable, and GitHub makes use of it."""
        (sponsorship,) = github.people.sponsorships_of(github.people.get("monthly"))
        sponsorship.is_null = True

        assert await given(http, await log_in(http, "monthly")) == [None]

    def test_a_login_and_an_id_are_given_once(self, github: SimulatedGitHub) -> None:
        """Two accounts of one name would make every other test lie."""
        with pytest.raises(ValueError, match="taken"):
            github.people.add_person("MONTHLY")
        with pytest.raises(ValueError, match="taken"):
            github.people.add_person("another", database_id=48_210_377)
        assert github.people.get("Monthly").database_id == 48_210_377
        with pytest.raises(KeyError):
            github.people.get("another")
        with pytest.raises(KeyError):
            github.people.get_person("sponsoring-org")
