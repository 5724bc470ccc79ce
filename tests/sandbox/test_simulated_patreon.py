"""The simulated Patreon answers as Patreon documents it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sponsorsync.sandbox.patreon import SimulatedPatreon
from sponsorsync.sandbox.patrons import OTHER_CAMPAIGN_ID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Clock

URL = "http://patreon.test"
CALLBACK = "http://service.test/patreon/callback"
AUTHORIZE = {
    "response_type": "code",
    "client_id": "the-client",
    "redirect_uri": CALLBACK,
    "scope": "identity",
    "state": "the-state",
}
IDENTITY = "/api/oauth2/v2/identity"


class PatreonClient(httpx.AsyncClient):
    """Sends the requests of a browser and of the service; redirects are not followed.

    Attributes:
        patreon: The simulation.
    """

    def __init__(self, patreon: SimulatedPatreon) -> None:
        super().__init__(transport=httpx.ASGITransport(app=patreon.app), base_url=URL)
        self.patreon = patreon

    async def authorize(self, role: str, **query: str) -> dict[str, str]:
        """Returns the parameters with which the browser comes back after choosing a role."""
        response = await self.get(
            "/oauth2/authorize", params={**AUTHORIZE, "patron": role, **query}
        )
        assert response.status_code == 302
        parts = urlsplit(response.headers["location"])
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == CALLBACK
        return {name: values[0] for name, values in parse_qs(parts.query).items()}

    async def exchange(self, code: str, /, **form: str) -> httpx.Response:
        """Exchanges a code with the usual form, changed by `form`."""
        usual = {
            "grant_type": "authorization_code",
            "client_id": "the-client",
            "client_secret": "the-secret",
            "code": code,
            "redirect_uri": CALLBACK,
        }
        return await self.post("/api/oauth2/token", data={**usual, **form})

    async def ask(self, token: str, **query: str) -> httpx.Response:
        """Queries the identity of the owner of a token."""
        fields = {f"fields[{name}]": each for name, each in query.items() if name != "include"}
        return await self.get(
            IDENTITY,
            params={"include": query.get("include", ""), **fields},
            headers={"Authorization": f"Bearer {token}"},
        )


@pytest.fixture
async def http(clock: Clock) -> AsyncIterator[PatreonClient]:
    """A client of a simulation with its patrons by role."""
    patreon = SimulatedPatreon(
        client_id="the-client",
        client_secret="the-secret",
        redirect_uri=CALLBACK,
        url=f"{URL}/",
        now=clock,
    )
    async with PatreonClient(patreon) as client:
        yield client


def members(document: dict[str, Any]) -> list[Any]:
    """Returns the memberships in an answer."""
    return [each for each in document["included"] if each["type"] == "member"]


# --- the web flow ---------------------------------------------------------------------------------


async def test_the_page_offers_each_patron_and_keeps_the_query(http: PatreonClient) -> None:
    """Each link is the same request again, with a choice."""
    response = await http.get("/oauth2/authorize", params=AUTHORIZE)

    assert response.status_code == 200
    assert "SIMULATION of Patreon" in response.text
    assert len(http.patreon.patrons) == response.text.count("&amp;patron=")
    assert "state=the-state" in response.text


@pytest.mark.parametrize(
    "wrong",
    [{"client_id": "x"}, {"redirect_uri": "http://evil.test/"}, {"response_type": "token"}],
)
async def test_a_request_of_another_client_is_not_sent_back(
    http: PatreonClient, wrong: dict[str, str]
) -> None:
    """Nobody may have a code sent to an address of their choice."""
    response = await http.get(
        "/oauth2/authorize", params={**AUTHORIZE, "patron": "active", **wrong}
    )

    assert response.status_code == 400


async def test_a_code_becomes_a_token_as_documented(http: PatreonClient) -> None:
    """The answer has all fields, also those that the service ignores."""
    back = await http.authorize("active")

    response = await http.exchange(back["code"])

    token = response.json()
    assert back["state"] == "the-state"
    assert set(token) == {"access_token", "refresh_token", "expires_in", "scope", "token_type"}
    assert (token["scope"], token["token_type"]) == ("identity", "Bearer")


async def test_a_denial_gives_no_code(http: PatreonClient) -> None:
    """RFC 6749, 4.1.2.1 defines the error."""
    assert await http.authorize("denier") == {"error": "access_denied", "state": "the-state"}


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "wrong"}, 401, "invalid_client"),
        ({"redirect_uri": "http://elsewhere.test"}, 401, "invalid_grant"),
        ({"code": "wrong"}, 401, "invalid_grant"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
async def test_a_wrong_exchange_is_an_oauth_error(
    http: PatreonClient, form: dict[str, str], status: int, error: str
) -> None:
    """RFC 6749 defines the errors; the statuses have been seen at Patreon."""
    back = await http.authorize("active")

    response = await http.exchange(back["code"], **form)

    assert (response.status_code, response.json()) == (status, {"error": error})


async def test_a_code_is_valid_once_and_for_five_minutes(http: PatreonClient, clock: Clock) -> None:
    """A code in a browser's history must be worthless."""
    used, late = await http.authorize("active"), await http.authorize("active")
    await http.exchange(used["code"])
    clock.now += timedelta(minutes=6)

    again, too_late = await http.exchange(used["code"]), await http.exchange(late["code"])

    assert (again.status_code, too_late.status_code) == (401, 401)


# --- the API --------------------------------------------------------------------------------------


async def test_without_includes_the_answer_is_an_id(http: PatreonClient) -> None:
    """Version 2 of the API sends only requested data."""
    response = await http.ask(http.patreon.issue_token("active"))

    document = response.json()
    assert response.headers["content-type"] == "application/vnd.api+json"
    assert document["data"] == {"type": "user", "id": "90210010", "attributes": {}}
    assert "included" not in document


async def test_a_membership_names_its_campaign_only_if_included(http: PatreonClient) -> None:
    """This is why the service includes `memberships.campaign`."""
    token = http.patreon.issue_token("active")

    bare = (await http.ask(token, include="memberships")).json()
    full = (await http.ask(token, include="memberships.campaign")).json()

    assert "relationships" not in members(bare)[0]
    assert members(full)[0]["relationships"] == {
        "campaign": {"data": {"type": "campaign", "id": "1234567"}}
    }


async def test_only_requested_attributes_are_sent(http: PatreonClient) -> None:
    """Dates have the form of the documentation."""
    response = await http.ask(
        http.patreon.issue_token("active"),
        include="memberships.currently_entitled_tiers",
        member="patron_status,next_charge_date",
        tier="amount_cents",
    )

    member, tier = response.json()["included"]
    assert member["attributes"] == {
        "patron_status": "active_patron",
        "next_charge_date": "2026-12-10T12:00:00.000+00:00",
    }
    assert tier["attributes"] == {"amount_cents": 1000}


async def test_the_scope_decides_which_memberships_are_shown(http: PatreonClient) -> None:
    """The scope `identity` shows only the membership of the client's own campaign."""
    own = await http.ask(http.patreon.issue_token("active"), include="memberships.campaign")
    every = await http.ask(
        http.patreon.issue_token("active", "identity.memberships"),
        include="memberships.campaign",
    )

    assert len(members(own.json())) == 1
    assert {each["relationships"]["campaign"]["data"]["id"] for each in members(every.json())} == {
        "1234567",
        OTHER_CAMPAIGN_ID,
    }


async def test_a_stranger_has_an_empty_list_of_memberships(http: PatreonClient) -> None:
    """The answer then has no `included`."""
    response = await http.ask(http.patreon.issue_token("stranger"), include="memberships")

    document = response.json()
    assert document["data"]["relationships"] == {"memberships": {"data": []}}
    assert "included" not in document


@pytest.mark.parametrize("query", [{"include": "friends"}, {"member": "shoe_size"}])
async def test_an_unknown_include_or_field_is_refused(
    http: PatreonClient, query: dict[str, str]
) -> None:
    """A misspelt name in the service's query must not go unnoticed."""
    response = await http.ask(
        http.patreon.issue_token("active"), **{"include": "memberships", **query}
    )

    assert response.status_code == 400


async def test_a_token_without_the_scope_identity_is_401(http: PatreonClient) -> None:
    """Patreon answers so."""
    back = await http.authorize("active", scope="campaigns")
    token = (await http.exchange(back["code"])).json()["access_token"]

    response = await http.ask(token)

    assert response.status_code == 401


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status"),
    [("down", 503), ("rate_limited", 429), ("unauthorized", 401), ("malformed", 200)],
)
async def test_each_switch_is_one_fault(http: PatreonClient, fault: str, status: int) -> None:
    """Scripts set the switches over HTTP."""
    token = http.patreon.issue_token("active")

    await http.put("/switches", json={fault: True})

    assert (await http.ask(token)).status_code == status


async def test_a_rate_limit_has_the_body_of_the_documentation(http: PatreonClient) -> None:
    """It holds for the token endpoint, too."""
    http.patreon.switches.rate_limited = True

    response = await http.exchange("code")

    [error] = response.json()["errors"]
    assert (error["status"], error["retry_after_seconds"]) == ("429", 9)
    assert response.headers["retry-after"] == "9"


async def test_an_unknown_token_is_an_error_of_json_api(http: PatreonClient) -> None:
    """The API does not answer in the form of OAuth."""
    response = await http.ask("unknown")

    assert response.status_code == 401
    assert response.json()["errors"][0]["code_name"] == "Unauthorized"


async def test_a_request_without_a_user_agent_is_refused(http: PatreonClient) -> None:
    """Patreon answers with a page, as to a robot."""
    headers = {"Authorization": f"Bearer {http.patreon.issue_token('active')}", "User-Agent": ""}

    response = await http.get(IDENTITY, headers=headers)

    assert response.status_code == 403
    assert "json" not in response.headers["content-type"]


async def test_the_control_page_shows_the_patrons_and_sets_the_switches(
    http: PatreonClient,
) -> None:
    """`sponsorsync dev` links to it."""
    page = await http.get("/")

    response = await http.post("/", data={"down": "on", "retry_after_s": "3"})

    assert "annual" in page.text
    assert response.status_code == 303
    assert (http.patreon.switches.down, http.patreon.switches.retry_after_s) == (True, 3)


async def test_patreons_control_page_names_a_mistake(http: PatreonClient) -> None:
    """The mistake changes nothing."""
    response = await http.post("/", data={"retry_after_s": "soon"})

    assert response.status_code == 422
    assert "retry_after_s must be" in response.text
