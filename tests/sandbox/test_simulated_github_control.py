"""The control page, the switches, the record and the webhook of the simulated GitHub."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from sponsorsync.sandbox.hooks import Hook
from tests.support.simulated_github import (
    MINE,
    URL,
    authorize,
    bearer,
    error_type,
    log_in,
    post_query,
)

if TYPE_CHECKING:
    from sponsorsync.sandbox.github import SimulatedGitHub


class TestSwitches:
    """GitHub on a bad day."""

    @pytest.fixture
    async def token(self, http: httpx.AsyncClient) -> str:
        """Of a monthly sponsor, from before the bad day."""
        return await log_in(http, "monthly")

    @pytest.mark.parametrize(
        ("endpoint", "method", "path"),
        [
            ("token", "POST", "/login/oauth/access_token"),
            ("user", "GET", "/api/user"),
            ("emails", "GET", "/api/user/emails"),
            ("account", "GET", "/api/user/48210377"),
            ("account", "GET", "/api/users/monthly"),
            ("graphql", "POST", "/api/graphql"),
            ("revoke", "DELETE", "/api/applications/the-client/token"),
        ],
    )
    async def test_each_endpoint_can_fail_or_break_off(
        self, http: httpx.AsyncClient, endpoint: str, method: str, path: str
    ) -> None:
        """A page where JSON was expected, and JSON without its end."""
        await http.put("/switches", json={"fail": [endpoint]})
        failed = await http.request(method, path)
        await http.put("/switches", json={"fail": [], "bad_json": [endpoint]})
        broken = await http.request(method, path)

        assert failed.status_code == 502
        assert failed.headers["content-type"].startswith("text/html")
        assert broken.status_code == 200
        with pytest.raises(ValueError, match="Unterminated"):
            broken.json()

    async def test_rate_limited(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, token: str
    ) -> None:
        """REST says 403, GraphQL says 200; both say when to come back."""
        github.switches.rate_limited = True
        rest = await http.get("/api/user", headers=bearer(token))
        graphql = await post_query(http, token, MINE)

        assert (rest.status_code, graphql.status_code) == (403, 200)
        assert graphql.json()["errors"][0]["type"] == "RATE_LIMITED"
        assert "data" not in graphql.json()
        for response in (rest, graphql):
            assert response.headers["retry-after"] == "60"
            assert response.headers["x-ratelimit-remaining"] == "0"

    async def test_secondary_limit(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, token: str
    ) -> None:
        """429 for both, with the wait that was set."""
        github.switches.secondary_limit = True
        github.switches.retry_after_s = 7
        rest = await http.get("/api/user", headers=bearer(token))
        graphql = await post_query(http, token, MINE)

        for response in (rest, graphql):
            assert response.status_code == 429
            assert response.headers["retry-after"] == "7"

    async def test_forbidden_is_a_null_with_its_error(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, token: str
    ) -> None:
        """The rest of the answer stays; this null is 'unknown' and not 'no'."""
        github.switches.forbidden = True
        body = (await post_query(http, token, MINE)).json()

        assert body["data"] == {"viewer": {"databaseId": 48_210_377, "sponsorshipsAsSponsor": None}}
        assert body["errors"][0]["type"] == "FORBIDDEN"
        assert body["errors"][0]["path"] == ["viewer", "sponsorshipsAsSponsor"]

    async def test_forbidden_data_swallows_everything(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, token: str
    ) -> None:
        """What GraphQL's own rule makes of a null in a non-null field."""
        github.switches.forbidden_data = True
        body = (await post_query(http, token, MINE)).json()

        assert body["data"] is None
        assert body["errors"][0]["type"] == "FORBIDDEN"

    @pytest.mark.parametrize("login", ["monthly", "stranger"])
    async def test_partial_hides_a_node_behind_an_error(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, login: str
    ) -> None:
        """The sponsorship that would matter may be the one that is missing."""
        token = await log_in(http, login)
        github.switches.partial = True
        body = (await post_query(http, token, MINE)).json()

        assert body["data"]["viewer"]["sponsorshipsAsSponsor"]["nodes"] == [None]
        assert body["errors"][0]["type"] == "FORBIDDEN"
        assert body["errors"][0]["path"] == ["viewer", "sponsorshipsAsSponsor", "nodes", 0]

    async def test_an_organization_restricts_oauth_apps(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """It is null with an error beside the data, and the others stand there as ever."""
        member = github.people.get_person("org-member")
        github.people.add_organization("open-org", members=[member])
        github.switches.restricting_organization = "Sponsoring-Org"
        query = """{ viewer {
            organizations(first: 9, orderBy: {field: LOGIN, direction: ASC}) { totalCount
              nodes { login } }
            restricting: organization(login: "sponsoring-org") { login }
            open: organization(login: "open-org") { login } } }"""

        body = (await post_query(http, github.tokens.issue(member), query)).json()

        assert body["data"]["viewer"] == {
            "organizations": {"totalCount": 2, "nodes": [{"login": "open-org"}, None]},
            "restricting": None,
            "open": {"login": "open-org"},
        }
        assert [error["type"] for error in body["errors"]] == ["FORBIDDEN", "FORBIDDEN"]
        assert {tuple(error["path"]) for error in body["errors"]} == {
            ("viewer", "organizations", "nodes", 1),
            ("viewer", "restricting"),
        }
        assert "`sponsoring-org` organization" in body["errors"][0]["message"]

    async def test_insufficient_scopes(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, token: str
    ) -> None:
        """As if the person had unticked them."""
        github.switches.insufficient_scopes = True

        assert await error_type(http, token, MINE) == "INSUFFICIENT_SCOPES"

    async def test_over_http_they_are_read_and_set(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """For a demo script, which is another process."""
        changed = await http.put("/switches", json={"fail": ["user", "token"], "latency_ms": 3})

        assert changed.status_code == 200
        assert (await http.get("/switches")).json() == {
            "latency_ms": 3,
            "fail": ["token", "user"],
            "bad_json": [],
            "rate_limited": False,
            "secondary_limit": False,
            "retry_after_s": 60,
            "forbidden": False,
            "forbidden_data": False,
            "partial": False,
            "restricting_organization": "",
            "own_private_hidden": False,
            "insufficient_scopes": False,
            "iss": "right",
        }
        assert github.switches.fail == {"user", "token"}

    @pytest.mark.parametrize(
        ("values", "problem"),
        [
            ({"slow": True, "latency_ms": 5}, "unknown switch 'slow'"),
            ({"latency_ms": -1}, "latency_ms must be a whole number"),
            ({"latency_ms": True}, "latency_ms must be a whole number"),
            ({"partial": 1}, "partial must be true or false"),
            ({"fail": ["everything"]}, "fail must be a list of some of token, user,"),
            ({"fail": "user"}, "fail must be a list of some of token, user,"),
            ({"restricting_organization": 5}, "restricting_organization must be a text"),
            ({"iss": "maybe"}, "iss must be one of right, absent, wrong"),
            ([], "the body must be a JSON object"),
        ],
    )
    async def test_a_mistake_changes_nothing_and_is_named(
        self, http: httpx.AsyncClient, github: SimulatedGitHub, values: object, problem: str
    ) -> None:
        """A misspelt switch that is silently ignored makes a test that tests nothing."""
        before = github.switches.as_json()
        response = await http.put("/switches", json=values)

        assert response.status_code == 422
        assert problem in response.json()["errors"][0]
        assert github.switches.as_json() == before

    async def test_a_body_that_is_no_json_is_named_too(self, http: httpx.AsyncClient) -> None:
        """And not a 500."""
        assert (await http.put("/switches", content=b"{")).status_code == 422


class TestControlPage:
    """What a developer sees at the root."""

    async def test_says_what_it_is_and_lists_the_people(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The first thing somebody opens who wonders what runs on that port."""
        page = await http.get("/")

        assert "SIMULATION of GitHub" in page.text
        assert [person.login for person in github.people if person.login not in page.text] == []

    async def test_the_form_sets_all_switches(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """A box that is not ticked is not sent, and means off."""
        github.switches.partial = True
        form = {
            "latency_ms": "20",
            "retry_after_s": "60",
            "fail": ["user", "emails"],
            "forbidden": "on",
            "restricting_organization": "sponsoring-org",
            "iss": "absent",
        }

        response = await http.post("/", data=form)

        assert (response.status_code, response.headers["location"]) == (303, "/")
        assert github.switches.latency_ms == 20
        assert github.switches.fail == {"user", "emails"}
        assert github.switches.forbidden
        assert not github.switches.partial
        assert github.switches.iss == "absent"
        assert github.switches.restricting_organization == "sponsoring-org"
        page = (await http.get("/")).text
        assert 'value="emails" checked' in page
        assert 'name="restricting_organization" value="sponsoring-org"' in page

    async def test_a_mistake_in_the_form_is_shown(self, http: httpx.AsyncClient) -> None:
        """With the page around it, so that it can be put right."""
        response = await http.post("/", data={"latency_ms": "a while", "iss": "right"})

        assert response.status_code == 422
        assert "latency_ms must be a whole number" in response.text

    async def test_an_avatar_is_a_picture(self, http: httpx.AsyncClient) -> None:
        """The service's account page shows it; a broken image would look like a defect."""
        picture = await http.get("/avatars/48210377")
        nobody = await http.get("/avatars/1")

        assert picture.headers["content-type"].startswith("image/svg+xml")
        assert ">M</text>" in picture.text
        assert nobody.status_code == 404


class TestRecord:
    """The record by which a test proves what ran beside what."""

    @staticmethod
    def calls(http: httpx.AsyncClient, token: str) -> list[Any]:
        """What the service asks after the exchange."""
        return [
            http.get("/api/user", headers=bearer(token)),
            http.get("/api/user/emails", headers=bearer(token)),
            post_query(http, token, MINE),
        ]

    async def test_calls_sent_together_overlap(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """A login is two round trips: the exchange, and then all three questions at once."""
        token = await log_in(http, "monthly")
        await asyncio.gather(*self.calls(http, token))

        user, emails, graphql = github.requests.all("user", "emails", "graphql")
        assert user.overlaps(emails)
        assert emails.overlaps(graphql)
        assert graphql.overlaps(user)
        assert github.requests.in_sequence() == 2

    async def test_calls_sent_one_by_one_do_not(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The record must be able to prove the opposite, else it proves nothing."""
        token = await log_in(http, "monthly")
        for call in self.calls(http, token):
            await call

        user, emails, graphql = github.requests.all("user", "emails", "graphql")
        assert not user.overlaps(emails)
        assert not emails.overlaps(graphql)
        assert github.requests.in_sequence() == 4
        assert github.requests.in_sequence("user", "emails") == 2

    async def test_notes_what_was_answered(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The refused and the failed ones too, but not what the control page does."""
        github.requests.clear()
        await http.get("/switches")
        await authorize(http, login="monthly")
        await http.get("/api/user")
        github.switches.fail = {"user"}
        await http.get("/api/user")

        assert [(each.endpoint, each.path, each.status) for each in github.requests.all()] == [
            ("authorize", "/login/oauth/authorize", 302),
            ("user", "/api/user", 401),
            ("user", "/api/user", 502),
        ]

    async def test_a_caller_who_leaves_is_noted_without_a_status(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The service's timeout is tested with the latency switch."""
        github.switches.latency_ms = 60_000
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await http.get("/api/user")

        assert [each.status for each in github.requests.all("user")] == [0]


class TestHook:
    """What happens on the control page is told to the webhook."""

    async def test_a_sponsorship_begins_and_ends(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """Signed, and with what the directory says afterwards."""
        received: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            received.append(request)
            return httpx.Response(202 if len(received) < 3 else 500)

        github.send_events_to(
            Hook(
                url="http://service.test/hook",
                secret="It's a Secret to Everybody",
                base_url=URL,
                transport=httpx.MockTransport(answer),
            )
        )
        began = await http.post("/sponsorships", data={"sponsor": "stranger", "action": "created"})
        ended = await http.post("/sponsorships", data={"sponsor": "stranger", "action": "ended"})
        failed = await http.post("/sponsorships", data={"sponsor": "stranger", "action": "created"})
        nobody = await http.post("/sponsorships", data={"sponsor": "nobody", "action": "created"})

        events = [json.loads(request.content) for request in received]
        assert [event["action"] for event in events] == ["created", "cancelled", "created"]
        assert {event["sponsorship"]["sponsor"]["login"] for event in events} == {"stranger"}
        assert {request.headers["x-github-event"] for request in received} == {"sponsorship"}
        assert all(request.headers["x-hub-signature-256"] for request in received)
        assert [each.status_code for each in (began, ended, failed, nobody)] == [303, 303, 422, 422]
        assert "answered 500" in failed.text

    async def test_without_a_webhook_only_the_directory_changes(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """And one that cannot be reached is told on the page."""
        answer = await http.post("/sponsorships", data={"sponsor": "monthly", "action": "ended"})
        [sponsorship] = github.people.sponsorships_of(github.people.get("monthly"))

        def refuse(_: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused")

        github.send_events_to(
            Hook(url="http://x", secret="s", base_url=URL, transport=httpx.MockTransport(refuse))
        )
        failed = await http.post("/sponsorships", data={"sponsor": "monthly", "action": "created"})

        assert (answer.status_code, sponsorship.is_ended) == (303, True)
        assert "could not be reached" in failed.text

    async def test_the_ping_comes_first(self) -> None:
        """Its form is that of a Sponsors listing."""
        ping = Hook(url="http://x", secret="s", base_url=URL).ping()

        assert ping.event == "ping"
        assert json.loads(ping.body)["hook"] == {"type": "SponsorsListing"}
