"""The simulated Patreon answers as Patreon documents; other tests rely on this."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sponsorsync.sandbox.patreon import SimulatedPatreon
from sponsorsync.sandbox.patrons import OTHER_CAMPAIGN_ID
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
    """A client that acts as the browser and as the service; it follows no redirects."""

    def __init__(self, patreon: SimulatedPatreon) -> None:
        super().__init__(transport=httpx.ASGITransport(app=patreon.app), base_url=URL)
        self.patreon = patreon

    async def authorize(self, role: str, **query: str) -> dict[str, str]:
        """Chooses a patron on the consent page; returns the parameters of the redirect."""
        params = {**AUTHORIZE, "patron": role, **query}
        response = await self.get("/oauth2/authorize", params=params)
        assert response.status_code == 302
        parts = urlsplit(response.headers["location"])
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == CALLBACK
        return {name: values[0] for name, values in parse_qs(parts.query).items()}

    async def exchange(self, code: str, /, **form: str) -> httpx.Response:
        """Exchanges a code for a token, with the usual form fields changed by `form`."""
        usual = {
            "grant_type": "authorization_code",
            "client_id": "the-client",
            "client_secret": "the-secret",
            "code": code,
            "redirect_uri": CALLBACK,
        }
        return await self.post("/api/oauth2/token", data={**usual, **form})

    async def ask(self, token: str, include: str = "", **fields: str) -> httpx.Response:
        """Requests the identity of a token's owner."""
        return await self.get(
            IDENTITY,
            params={"include": include}
            | {f"fields[{name}]": each for name, each in fields.items()},
            headers={"Authorization": f"Bearer {token}"},
        )

    async def ask_as(self, role: str, include: str = "", **fields: str) -> httpx.Response:
        """Requests the identity of a patron with a new token."""
        return await self.ask(self.patreon.issue_token(role), include, **fields)


@pytest.fixture
async def http(clock: Clock) -> AsyncIterator[PatreonClient]:
    """A client of the simulated Patreon with its usual patrons."""
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
    """Returns the memberships that an answer includes."""
    return [each for each in document["included"] if each["type"] == "member"]


# --- the web flow ---------------------------------------------------------------------------------


async def test_the_page_offers_each_patron_and_keeps_the_request(http: PatreonClient) -> None:
    """Each link repeats the request, with one patron added."""
    response = await http.get("/oauth2/authorize", params=AUTHORIZE)

    assert response.status_code == 200
    assert "SIMULATION of Patreon" in response.text
    assert len(http.patreon.patrons) == response.text.count("&amp;patron=")
    assert "state=the-state" in response.text


@pytest.mark.parametrize(
    "wrong", [{"client_id": "x"}, {"redirect_uri": "http://evil.test/"}, {"response_type": "token"}]
)
async def test_a_request_of_another_client_is_not_sent_back(
    http: PatreonClient, wrong: dict[str, str]
) -> None:
    """A code must not be sent to an address that an attacker chose."""
    response = await http.get(
        "/oauth2/authorize", params={**AUTHORIZE, "patron": "active", **wrong}
    )

    assert response.status_code == 400


async def test_a_code_becomes_a_token_as_documented(http: PatreonClient) -> None:
    """The answer has all documented fields, also those that the service does not use."""
    back = await http.authorize("active")

    response = await http.exchange(back["code"])

    token = response.json()
    assert back["state"] == "the-state"
    assert set(token) == {"access_token", "refresh_token", "expires_in", "scope", "token_type"}
    assert (token["scope"], token["token_type"]) == ("identity", "Bearer")


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
    """The error is one of RFC 6749, with the status that Patreon was seen to send."""
    back = await http.authorize("active")

    response = await http.exchange(back["code"], **form)

    assert (response.status_code, response.json()) == (status, {"error": error})


async def test_a_code_works_once_and_for_five_minutes(http: PatreonClient, clock: Clock) -> None:
    """A code in the browser's history must be useless."""
    used, late = await http.authorize("active"), await http.authorize("active")
    await http.exchange(used["code"])
    clock.now += timedelta(minutes=6)

    again, too_late = await http.exchange(used["code"]), await http.exchange(late["code"])

    assert (again.status_code, too_late.status_code) == (401, 401)


# --- the API --------------------------------------------------------------------------------------


async def test_without_includes_there_is_an_id_and_nothing_more(http: PatreonClient) -> None:
    """Version 2 of the API sends only the requested fields."""
    response = await http.ask_as("active")

    document = response.json()
    assert response.headers["content-type"] == "application/vnd.api+json"
    assert document["data"] == {"type": "user", "id": "90210010", "attributes": {}}
    assert "included" not in document


async def test_a_membership_alone_does_not_name_its_campaign(http: PatreonClient) -> None:
    """Patreon does not document this, so the service includes `memberships.campaign`."""
    token = http.patreon.issue_token("active")

    bare = (await http.ask(token, "memberships")).json()
    full = (await http.ask(token, "memberships.campaign")).json()

    assert "relationships" not in members(bare)[0]
    assert members(full)[0]["relationships"] == {
        "campaign": {"data": {"type": "campaign", "id": "1234567"}}
    }


async def test_only_requested_attributes_are_sent(http: PatreonClient) -> None:
    """Dates have the format of Patreon's documentation."""
    response = await http.ask_as(
        "active",
        "memberships.currently_entitled_tiers",
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
    """The scope `identity` shows only the membership in the campaign of the client's owner."""
    include = "memberships.campaign"
    own = await http.ask_as("active", include)
    every = await http.ask(http.patreon.issue_token("active", "identity.memberships"), include)

    assert len(members(own.json())) == 1
    assert {each["relationships"]["campaign"]["data"]["id"] for each in members(every.json())} == {
        "1234567",
        OTHER_CAMPAIGN_ID,
    }


async def test_a_person_without_memberships_has_an_empty_list(http: PatreonClient) -> None:
    """The answer then has no `included`."""
    response = await http.ask_as("stranger", "memberships")

    document = response.json()
    assert document["data"]["relationships"] == {"memberships": {"data": []}}
    assert "included" not in document


@pytest.mark.parametrize(
    "query", [{"include": "friends"}, {"include": "memberships", "member": "shoe_size"}]
)
async def test_an_unknown_field_is_an_error(http: PatreonClient, query: dict[str, str]) -> None:
    """A misspelt field in the service's query must be noticed."""
    response = await http.ask_as("active", **query)

    assert response.status_code == 400


async def test_another_scope_than_identity_shows_nothing(http: PatreonClient) -> None:
    """Patreon answers 401 to a token without the scope `identity`."""
    back = await http.authorize("active", scope="campaigns")
    token = (await http.exchange(back["code"])).json()["access_token"]

    assert (await http.ask(token)).status_code == 401


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status"),
    [("down", 503), ("rate_limited", 429), ("unauthorized", 401), ("malformed", 200)],
)
async def test_each_switch_is_one_fault(http: PatreonClient, fault: str, status: int) -> None:
    """A script sets the switches over HTTP."""
    token = http.patreon.issue_token("active")

    await http.put("/switches", json={fault: True})

    assert (await http.ask(token)).status_code == status


async def test_a_limit_has_the_body_of_the_documentation(http: PatreonClient) -> None:
    """The token endpoint has the same body as the API."""
    http.patreon.switches.rate_limited = True

    response = await http.exchange("code")

    [error] = response.json()["errors"]
    assert (error["status"], error["retry_after_seconds"]) == ("429", 9)
    assert response.headers["retry-after"] == "9"


async def test_an_unknown_token_is_an_error_of_json_api(http: PatreonClient) -> None:
    """The error has the format of JSON:API, and not that of OAuth."""
    response = await http.ask("unknown")

    assert response.status_code == 401
    assert response.json()["errors"][0]["code_name"] == "Unauthorized"


async def test_a_request_without_a_user_agent_is_refused(http: PatreonClient) -> None:
    """Patreon answers it with an HTML page, as it does to robots."""
    headers = {"Authorization": f"Bearer {http.patreon.issue_token('active')}", "User-Agent": ""}

    response = await http.get(IDENTITY, headers=headers)

    assert response.status_code == 403
    assert "json" not in response.headers["content-type"]


async def test_the_control_page_shows_the_patrons_and_sets_the_switches(
    http: PatreonClient,
) -> None:
    """`sponsorsync dev` prints the address of this page."""
    page = await http.get("/")

    response = await http.post("/", data={"down": "on", "retry_after_s": "3"})

    assert "annual" in page.text
    assert response.status_code == 303
    assert (http.patreon.switches.down, http.patreon.switches.retry_after_s) == (True, 3)


async def test_the_patreon_control_page_names_the_wrong_field(http: PatreonClient) -> None:
    """A form with a wrong value changes no switch."""
    response = await http.post("/", data={"retry_after_s": "soon"})

    assert response.status_code == 422
    assert "retry_after_s must be" in response.text
