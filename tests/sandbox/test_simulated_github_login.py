"""The simulated OAuth web flow of GitHub: the page, the codes and the tokens."""

from urllib.parse import parse_qs

import pytest

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.recording import Requests
from tests.conftest import Clock
from tests.support.simulated_github import CALLBACK, URL, GitHubClient, parse_callback

# --- the authorize page ---------------------------------------------------------------------------


async def test_offers_each_person_and_says_that_it_is_a_simulation(http: GitHubClient) -> None:
    """A developer must not take this page for GitHub."""
    page = await http.authorize()

    assert page.status_code == 200
    assert "SIMULATION of GitHub" in page.text
    assert [person.login for person in http.github.people if person.about not in page.text] == []


async def test_a_link_chooses_a_person_and_keeps_the_state(http: GitHubClient) -> None:
    """The service checks that the state comes back unchanged."""
    state = "a&b=\"'<c>+ %/é"
    page = await http.authorize(state=state)
    link = page.text.split('class="person" href="')[2].split('"')[0].replace("&amp;", "&")

    back = parse_callback(await http.get("/login/oauth/authorize" + link))

    assert back["state"] == state
    assert back["code"]


async def test_escapes_the_query(http: GitHubClient) -> None:
    """The page shows parts of its address, which an attacker can choose."""
    page = await http.authorize(login="<script>", scope="<script>", state='"><script>')

    assert "<script>" not in page.text
    assert "There is no person called <code>&lt;script&gt;</code>" in page.text


async def test_a_known_login_is_chosen_at_once(http: GitHubClient) -> None:
    """Scripts and tests need one request; the letter case of logins does not matter."""
    back = parse_callback(await http.authorize(login="Monthly"))

    assert set(back) == {"code", "state", "iss"}
    assert back["state"] == "the-state"
    assert back["iss"] == f"{URL}/login/oauth"


async def test_select_account_shows_the_page_despite_a_login(http: GitHubClient) -> None:
    """With prompt=select_account GitHub always shows the list of accounts."""
    page = await http.authorize(login="monthly", prompt="select_account")

    assert page.status_code == 200
    assert "There is no person called" not in page.text


@pytest.mark.parametrize(
    ("query", "error", "description"),
    [
        ({"login": "denier"}, "access_denied", "The user has denied your application access."),
        (
            {"redirect_uri": "http://evil.test/"},
            "redirect_uri_mismatch",
            "The redirect_uri MUST match the registered callback URL for this application.",
        ),
        (
            {"code_challenge_method": "plain"},
            "invalid_request",
            "The code_challenge_method must be S256.",
        ),
    ],
)
async def test_an_authorize_error_goes_to_the_registered_callback(
    http: GitHubClient, query: dict[str, str], error: str, description: str
) -> None:
    """A redirect to another address would leak codes; GitHub does not support plain PKCE."""
    back = parse_callback(await http.authorize(**query))

    assert (back["error"], back["error_description"]) == (error, description)
    assert back["error_uri"].endswith("#" + error.replace("_", "-"))
    assert back["state"] == "the-state"


async def test_an_unknown_client_gets_a_404_page(http: GitHubClient) -> None:
    """An unknown app has no callback to which an error could be sent."""
    page = await http.authorize(client_id="another")

    assert page.status_code == 404
    assert "SIMULATION of GitHub" in page.text


@pytest.mark.parametrize(
    ("iss", "issuer"), [("absent", None), ("wrong", "https://issuer.invalid/login/oauth")]
)
async def test_the_issuer_can_be_absent_or_wrong(
    http: GitHubClient, iss: str, issuer: str | None
) -> None:
    """GitHub does not always send the issuer; a wrong one is a sign of an attack."""
    await http.put("/switches", json={"iss": iss})

    back = parse_callback(await http.authorize(login="monthly"))

    assert back.get("iss") == issuer


# --- the token endpoint ---------------------------------------------------------------------------


async def test_a_code_becomes_a_token_with_the_granted_scopes(http: GitHubClient) -> None:
    """The answer separates scopes by commas, the request by spaces."""
    answer = await http.exchange(await http.obtain_code("monthly"))

    assert answer["token_type"] == "bearer"
    assert answer["scope"] == "read:user,user:email"
    assert [token.token for token in http.github.tokens.live()] == [answer["access_token"]]


async def test_an_unknown_scope_is_not_granted(http: GitHubClient) -> None:
    """`read:email` does not exist, and a service that requests it has to notice."""
    code = await http.obtain_code("monthly", scope="read:user read:email")

    assert (await http.exchange(code))["scope"] == "read:user"


async def test_the_answer_is_form_encoded_without_an_accept_header(http: GitHubClient) -> None:
    """This is GitHub's default, so a client without the header must fail here, too."""
    response = await http.post("/login/oauth/access_token", data={"client_id": "another"})

    assert response.headers["content-type"].startswith("application/x-www-form-urlencoded")
    assert parse_qs(response.text)["error"] == ["incorrect_client_credentials"]


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"client_secret": "wrong"}, "incorrect_client_credentials"),
        ({"client_id": "wrong"}, "incorrect_client_credentials"),
        ({"code": "wrong"}, "bad_verification_code"),
        ({"redirect_uri": "http://evil.test/"}, "redirect_uri_mismatch"),
        ({"code_verifier": "wrong"}, "bad_verification_code"),
        ({"code_verifier": ""}, "bad_verification_code"),
    ],
)
async def test_a_wrong_proof_gets_no_token(
    http: GitHubClient, form: dict[str, str], error: str
) -> None:
    """GitHub checks secret, code, address and verifier, and sends errors with status 200."""
    answer = await http.exchange(await http.obtain_code("monthly"), **form)

    assert answer["error"] == error
    assert answer.keys() == {"error", "error_description", "error_uri"}
    assert http.github.tokens.live() == []


async def test_a_code_is_valid_once_and_for_ten_minutes(http: GitHubClient, clock: Clock) -> None:
    """A replayed callback must not sign anybody in, and a tab may stay open for long."""
    used, late = await http.obtain_code("monthly"), await http.obtain_code("monthly")
    await http.exchange(used)
    again = await http.exchange(used)
    clock.advance(minutes=10, seconds=1)
    too_late = await http.exchange(late)

    assert [each["error"] for each in (again, too_late)] == ["bad_verification_code"] * 2


async def test_without_a_challenge_no_verifier_is_needed(http: GitHubClient) -> None:
    """At GitHub, PKCE is optional."""
    code = await http.obtain_code("monthly", code_challenge="")

    assert "access_token" in await http.exchange(code, code_verifier="")


# --- bounds ---------------------------------------------------------------------------------------


async def test_the_oldest_code_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes that are never exchanged must not fill the memory."""
    monkeypatch.setattr("sponsorsync.sandbox.oauth.CODES_KEPT", 2)
    small = SimulatedGitHub(
        client_id="the-client", client_secret="the-secret", redirect_uris=[CALLBACK], url=URL
    )
    async with GitHubClient(small) as http:
        codes = [await http.obtain_code("monthly") for _ in range(3)]
        oldest = await http.exchange(codes[0])
        latest = await http.exchange(codes[2])

    assert oldest["error"] == "bad_verification_code"
    assert "access_token" in latest


def test_an_app_without_a_callback_is_refused() -> None:
    """Such an app could never send a browser back."""
    with pytest.raises(ValueError, match="redirect_uri"):
        SimulatedGitHub(client_id="c", client_secret="s", redirect_uris=[], url=URL)


def test_the_empty_record_counts_nothing() -> None:
    """Without any request there is no round trip."""
    assert Requests().in_sequence() == 0
