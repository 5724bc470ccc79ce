"""The simulated GitHub's control page, fault switches, recorded requests and webhook."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from sponsorsync.sandbox.hooks import Hook
from tests.support.simulated_github import MINE, URL, GitHubClient, bearer

# --- the switches ---------------------------------------------------------------------------------


@pytest.fixture
async def token(http: GitHubClient) -> str:
    """A token of the monthly sponsor, issued before the fault is switched on."""
    return await http.log_in("monthly")


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
    http: GitHubClient, endpoint: str, method: str, path: str
) -> None:
    """A failing endpoint sends an HTML page; a broken one sends JSON that breaks off."""
    await http.put("/switches", json={"fail": [endpoint]})
    failed = await http.request(method, path)
    await http.put("/switches", json={"fail": [], "bad_json": [endpoint]})
    broken = await http.request(method, path)

    assert failed.status_code == 502
    assert failed.headers["content-type"].startswith("text/html")
    assert broken.status_code == 200
    with pytest.raises(ValueError, match="Unterminated"):
        broken.json()


@pytest.mark.parametrize(
    ("fault", "statuses"), [("rate_limited", (403, 200)), ("secondary_limit", (429, 429))]
)
async def test_both_limits_send_retry_after(
    http: GitHubClient, token: str, fault: str, statuses: tuple[int, int]
) -> None:
    """With a used-up primary limit, GraphQL answers with status 200."""
    await http.put("/switches", json={fault: True, "retry_after_s": 7})
    rest = await http.get("/api/user", headers=bearer(token))
    graphql = await http.post_query(token, MINE)

    assert (rest.status_code, graphql.status_code) == statuses
    assert [each.headers["retry-after"] for each in (rest, graphql)] == ["7", "7"]


async def test_rate_limited_has_no_points_left(http: GitHubClient, token: str) -> None:
    """GraphQL reports the limit as an error without data; the default wait is a minute."""
    http.github.switches.rate_limited = True
    rest = await http.get("/api/user", headers=bearer(token))
    graphql = await http.post_query(token, MINE)

    assert [each["type"] for each in graphql.json()["errors"]] == ["RATE_LIMITED"]
    assert "data" not in graphql.json()
    for response in (rest, graphql):
        assert response.headers["x-ratelimit-remaining"] == "0"
        assert response.headers["retry-after"] == "60"


async def test_forbidden_is_a_null_with_its_error(http: GitHubClient, token: str) -> None:
    """The rest of the answer stays; the null means 'unknown', not 'no'."""
    http.github.switches.forbidden = True
    body = (await http.post_query(token, MINE)).json()

    assert body["data"] == {"viewer": {"databaseId": 48_210_377, "sponsorshipsAsSponsor": None}}
    assert body["errors"][0]["type"] == "FORBIDDEN"
    assert body["errors"][0]["path"] == ["viewer", "sponsorshipsAsSponsor"]


async def test_forbidden_data_makes_all_data_null(http: GitHubClient, token: str) -> None:
    """In GraphQL the null of a non-nullable field makes its parent null, up to `data`."""
    http.github.switches.forbidden_data = True
    body = (await http.post_query(token, MINE)).json()

    assert body["data"] is None
    assert body["errors"][0]["type"] == "FORBIDDEN"


@pytest.mark.parametrize("login", ["monthly", "stranger"])
async def test_partial_hides_a_node_behind_an_error(http: GitHubClient, login: str) -> None:
    """The sponsorship that is null may be the one that entitles."""
    token = await http.log_in(login)
    http.github.switches.partial = True
    body = (await http.post_query(token, MINE)).json()

    assert body["data"]["viewer"]["sponsorshipsAsSponsor"]["nodes"] == [None]
    assert body["errors"][0]["type"] == "FORBIDDEN"
    assert body["errors"][0]["path"] == ["viewer", "sponsorshipsAsSponsor", "nodes", 0]


async def test_an_organization_restricts_oauth_apps(http: GitHubClient) -> None:
    """The organization is null, with an error beside the data; other organizations stay."""
    member = http.github.people.get_person("org-member")
    http.github.people.add_organization("open-org", members=[member])
    http.github.switches.restricting_organization = "Sponsoring-Org"
    query = """{ viewer {
        organizations(first: 9, orderBy: {field: LOGIN, direction: ASC}) { totalCount
          nodes { login } }
        restricting: organization(login: "sponsoring-org") { login }
        open: organization(login: "open-org") { login } } }"""

    body = (await http.post_query(http.github.tokens.issue(member), query)).json()

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


async def test_insufficient_scopes_refuses_a_good_token(http: GitHubClient, token: str) -> None:
    """At GitHub, a person may untick scopes on the consent page."""
    http.github.switches.insufficient_scopes = True

    assert await http.error_type(token, MINE) == "INSUFFICIENT_SCOPES"


async def test_switches_are_read_and_set_over_http(http: GitHubClient) -> None:
    """A script that demonstrates a fault is another process."""
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
    assert http.github.switches.fail == {"user", "token"}


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
        (b"{", "the body must be a JSON object"),
    ],
)
async def test_a_mistake_changes_nothing_and_is_named(
    http: GitHubClient, values: object, problem: str
) -> None:
    """If a misspelt switch were ignored, the test that uses it would test nothing."""
    before = http.github.switches.as_json()
    content = values if isinstance(values, bytes) else json.dumps(values)
    response = await http.put("/switches", content=content)

    assert response.status_code == 422
    assert problem in response.json()["errors"][0]
    assert http.github.switches.as_json() == before


# --- the control page -----------------------------------------------------------------------------


async def test_the_control_page_names_the_simulation_and_lists_the_people(
    http: GitHubClient,
) -> None:
    """A developer opens the page to see which server has this port."""
    page = await http.get("/")

    assert "SIMULATION of GitHub" in page.text
    assert [person.login for person in http.github.people if person.login not in page.text] == []


async def test_the_form_sets_all_switches(http: GitHubClient) -> None:
    """Browsers send no unticked box, so an absent switch is switched off."""
    http.github.switches.partial = True
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
    switches = http.github.switches
    assert (switches.latency_ms, switches.fail) == (20, {"user", "emails"})
    assert (switches.forbidden, switches.partial, switches.iss) == (True, False, "absent")
    assert switches.restricting_organization == "sponsoring-org"
    page = (await http.get("/")).text
    assert 'value="emails" checked' in page
    assert 'name="restricting_organization" value="sponsoring-org"' in page


async def test_a_mistake_in_the_form_is_shown(http: GitHubClient) -> None:
    """The page shows the form again, so that the developer can correct it."""
    response = await http.post("/", data={"latency_ms": "a while", "iss": "right"})

    assert response.status_code == 422
    assert "latency_ms must be a whole number" in response.text


async def test_an_avatar_is_a_picture(http: GitHubClient) -> None:
    """The account page of the service shows the picture."""
    picture = await http.get("/avatars/48210377")
    nobody = await http.get("/avatars/1")

    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert ">M</text>" in picture.text
    assert nobody.status_code == 404


# --- the record -----------------------------------------------------------------------------------


def calls(http: GitHubClient, token: str) -> list[Any]:
    """Returns the requests of a sign-in after the token, not sent yet."""
    return [
        http.get("/api/user", headers=bearer(token)),
        http.get("/api/user/emails", headers=bearer(token)),
        http.post_query(token, MINE),
    ]


async def test_calls_sent_together_overlap(http: GitHubClient) -> None:
    """A sign-in is two round trips: the token, then three requests at the same time."""
    token = await http.log_in("monthly")
    await asyncio.gather(*calls(http, token))

    user, emails, graphql = http.github.requests.all("user", "emails", "graphql")
    assert user.overlaps(emails)
    assert emails.overlaps(graphql)
    assert graphql.overlaps(user)
    assert http.github.requests.in_sequence() == 2


async def test_calls_sent_one_by_one_do_not_overlap(http: GitHubClient) -> None:
    """This shows that the record can tell sequential from concurrent requests."""
    token = await http.log_in("monthly")
    for call in calls(http, token):
        await call

    user, emails, graphql = http.github.requests.all("user", "emails", "graphql")
    assert not user.overlaps(emails)
    assert not emails.overlaps(graphql)
    assert http.github.requests.in_sequence() == 4
    assert http.github.requests.in_sequence("user", "emails") == 2


async def test_the_record_has_the_status_of_each_answer(http: GitHubClient) -> None:
    """Refused and failed requests are recorded; requests of the control page are not."""
    http.github.requests.clear()
    await http.get("/switches")
    await http.authorize(login="monthly")
    await http.get("/api/user")
    http.github.switches.fail = {"user"}
    await http.get("/api/user")

    assert [(each.endpoint, each.path, each.status) for each in http.github.requests.all()] == [
        ("authorize", "/login/oauth/authorize", 302),
        ("user", "/api/user", 401),
        ("user", "/api/user", 502),
    ]


async def test_a_caller_that_leaves_is_recorded_without_a_status(http: GitHubClient) -> None:
    """Tests of the service's time-out use the switch for latency."""
    http.github.switches.latency_ms = 60_000
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await http.get("/api/user")

    assert [each.status for each in http.github.requests.all("user")] == [0]


# --- the webhook ----------------------------------------------------------------------------------


def send_events_to(http: GitHubClient, answer: Callable[[httpx.Request], httpx.Response]) -> None:
    """Connects the simulation's webhook to a function that answers its requests."""
    transport = httpx.MockTransport(answer)
    http.github.send_events_to(
        Hook(url="http://service.test/hook", secret="s", base_url=URL, transport=transport)
    )


async def change_sponsorship(http: GitHubClient, sponsor: str, action: str) -> httpx.Response:
    """Submits the control page's form that starts or ends a sponsorship."""
    return await http.post("/sponsorships", data={"sponsor": sponsor, "action": action})


async def test_a_start_and_an_end_are_sent_to_the_webhook(http: GitHubClient) -> None:
    """Each event is signed and contains the new state; a failure is shown on the page."""
    received: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        received.append(request)
        return httpx.Response(202 if len(received) < 3 else 500)

    send_events_to(http, answer)
    began = await change_sponsorship(http, "stranger", "created")
    ended = await change_sponsorship(http, "stranger", "ended")
    failed = await change_sponsorship(http, "stranger", "created")
    nobody = await change_sponsorship(http, "nobody", "created")

    events = [json.loads(request.content) for request in received]
    assert [event["action"] for event in events] == ["created", "cancelled", "created"]
    assert {event["sponsorship"]["sponsor"]["login"] for event in events} == {"stranger"}
    assert {request.headers["x-github-event"] for request in received} == {"sponsorship"}
    assert all(request.headers["x-hub-signature-256"] for request in received)
    assert [each.status_code for each in (began, ended, failed, nobody)] == [303, 303, 422, 422]
    assert "answered 500" in failed.text


async def test_an_unreachable_webhook_is_shown_and_none_is_needed(http: GitHubClient) -> None:
    """Without a webhook the sponsorship is changed, and no event is sent."""
    answer = await change_sponsorship(http, "monthly", "ended")
    [sponsorship] = http.github.people.sponsorships_of(http.github.people.get("monthly"))

    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    send_events_to(http, refuse)
    failed = await change_sponsorship(http, "monthly", "created")

    assert (answer.status_code, sponsorship.is_ended) == (303, True)
    assert "could not be reached" in failed.text


async def test_the_ping_comes_first() -> None:
    """GitHub sends a ping first; its hook has the type SponsorsListing."""
    ping = Hook(url="http://x", secret="s", base_url=URL).ping()

    assert ping.event == "ping"
    assert json.loads(ping.body)["hook"] == {"type": "SponsorsListing"}
