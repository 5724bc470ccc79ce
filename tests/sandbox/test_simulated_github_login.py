"""The simulated web flow: the page, the codes and the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import httpx
import pytest

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.recording import Requests
from tests.support.simulated_github import (
    CALLBACK,
    URL,
    authorize,
    came_back_with,
    exchange,
    obtain_code,
)

if TYPE_CHECKING:
    from tests.conftest import Clock


class TestAuthorizePage:
    """Where the browser is sent to."""

    async def test_offers_each_person_and_says_that_it_is_a_simulation(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """Nobody may take this page for GitHub, and everybody must see whom to choose."""
        page = await authorize(http)

        assert page.status_code == 200
        assert "SIMULATION of GitHub" in page.text
        assert [person.login for person in github.people if person.about not in page.text] == []

    async def test_a_link_on_it_chooses_with_everything_carried_over(
        self, http: httpx.AsyncClient
    ) -> None:
        """A state that is hurt on the way would fail the service's own check."""
        state = "a&b=\"'<c>+ %/é"
        page = await authorize(http, state=state)
        link = page.text.split('class="person" href="')[2].split('"')[0].replace("&amp;", "&")

        back = came_back_with(await http.get("/login/oauth/authorize" + link))

        assert back["state"] == state
        assert back["code"]

    async def test_escapes_what_the_address_says(self, http: httpx.AsyncClient) -> None:
        """The page shows the address's own words, which anybody can write."""
        page = await authorize(http, login="<script>", scope="<script>", state='"><script>')

        assert "<script>" not in page.text
        assert "There is no person called <code>&lt;script&gt;</code>" in page.text

    async def test_a_known_login_is_chosen_at_once(self, http: httpx.AsyncClient) -> None:
        """So a script or a test logs in with one request; case does not matter to GitHub."""
        back = came_back_with(await authorize(http, login="Monthly"))

        assert set(back) == {"code", "state", "iss"}
        assert back["state"] == "the-state"
        assert back["iss"] == f"{URL}/login/oauth"

    async def test_select_account_shows_the_page_in_spite_of_a_login(
        self, http: httpx.AsyncClient
    ) -> None:
        """With prompt=select_account GitHub asks, whoever is logged in there."""
        page = await authorize(http, login="monthly", prompt="select_account")

        assert page.status_code == 200
        assert "There is no person called" not in page.text

    async def test_the_denier_denies(self, http: httpx.AsyncClient) -> None:
        """Refusing consent is a path of its own through the service."""
        back = came_back_with(await authorize(http, login="denier"))

        assert back["error"] == "access_denied"
        assert back["error_description"] == "The user has denied your application access."
        assert back["error_uri"].endswith("#access-denied")
        assert back["state"] == "the-state"

    async def test_an_unknown_client_gets_a_404_page(self, http: httpx.AsyncClient) -> None:
        """There is no callback to send the browser to."""
        page = await authorize(http, client_id="another")

        assert page.status_code == 404
        assert "SIMULATION of GitHub" in page.text

    async def test_a_foreign_redirect_uri_is_never_followed(self, http: httpx.AsyncClient) -> None:
        """An open redirect would leak codes; GitHub uses the registered callback."""
        back = came_back_with(await authorize(http, redirect_uri="http://evil.test/"))

        assert back["error"] == "redirect_uri_mismatch"
        assert back["state"] == "the-state"

    async def test_a_challenge_that_is_not_s256_is_refused(self, http: httpx.AsyncClient) -> None:
        """GitHub knows no plain PKCE."""
        back = came_back_with(await authorize(http, code_challenge_method="plain"))

        assert back["error"] == "invalid_request"

    @pytest.mark.parametrize(
        ("iss", "issuer"), [("absent", None), ("wrong", "https://issuer.invalid/login/oauth")]
    )
    async def test_the_issuer_can_be_absent_or_wrong(
        self, http: httpx.AsyncClient, iss: str, issuer: str | None
    ) -> None:
        """GitHub has sent it on and off, and a wrong one is an attack."""
        await http.put("/switches", json={"iss": iss})

        back = came_back_with(await authorize(http, login="monthly"))

        assert back.get("iss") == issuer


class TestTokenEndpoint:
    """Where a code becomes an access token."""

    async def test_a_code_becomes_a_token_with_the_granted_scopes(
        self, http: httpx.AsyncClient, github: SimulatedGitHub
    ) -> None:
        """The answer's scopes are separated by commas, the request's were by blanks."""
        answer = await exchange(http, await obtain_code(http, "monthly"))

        assert answer["token_type"] == "bearer"
        assert answer["scope"] == "read:user,user:email"
        assert [token.token for token in github.tokens.live()] == [answer["access_token"]]

    async def test_an_unknown_scope_is_not_granted(self, http: httpx.AsyncClient) -> None:
        """`read:email` does not exist, and a service that asks for it has to notice."""
        code = await obtain_code(http, "monthly", scope="read:user read:email")

        assert (await exchange(http, code))["scope"] == "read:user"

    async def test_the_answer_is_form_encoded_unless_json_is_asked_for(
        self, http: httpx.AsyncClient
    ) -> None:
        """GitHub's default; a client that forgets its Accept header must fail here too."""
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
    async def test_whoever_cannot_prove_it_gets_no_token(
        self,
        http: httpx.AsyncClient,
        github: SimulatedGitHub,
        form: dict[str, str],
        error: str,
    ) -> None:
        """Each proof counts by itself, and GitHub says so with HTTP 200."""
        answer = await exchange(http, await obtain_code(http, "monthly"), **form)

        assert answer["error"] == error
        assert answer.keys() == {"error", "error_description", "error_uri"}
        assert github.tokens.live() == []

    async def test_a_code_is_good_once(self, http: httpx.AsyncClient) -> None:
        """A replayed callback must not log anybody in."""
        code = await obtain_code(http, "monthly")
        await exchange(http, code)

        assert (await exchange(http, code))["error"] == "bad_verification_code"

    async def test_a_code_lives_ten_minutes(self, http: httpx.AsyncClient, clock: Clock) -> None:
        """A tab that was left open is a case the service has to word."""
        code = await obtain_code(http, "monthly")
        clock.advance(minutes=10, seconds=1)

        assert (await exchange(http, code))["error"] == "bad_verification_code"

    async def test_without_a_challenge_no_verifier_is_needed(self, http: httpx.AsyncClient) -> None:
        """PKCE is optional at GitHub."""
        code = await obtain_code(http, "monthly", code_challenge="")

        assert "access_token" in await exchange(http, code, code_verifier="")


class TestBounds:
    """A development server may run for weeks."""

    async def test_the_oldest_code_gives_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Codes that nobody exchanges must not pile up."""
        monkeypatch.setattr("sponsorsync.sandbox.oauth.CODES_KEPT", 2)
        small = SimulatedGitHub(
            client_id="the-client",
            client_secret="the-secret",
            redirect_uris=[CALLBACK],
            url=URL,
        )
        transport = httpx.ASGITransport(app=small.app)
        async with httpx.AsyncClient(transport=transport, base_url=URL) as http:
            codes = [await obtain_code(http, "monthly") for _ in range(3)]
            oldest = await exchange(http, codes[0])
            latest = await exchange(http, codes[2])

        assert oldest["error"] == "bad_verification_code"
        assert "access_token" in latest

    def test_an_app_without_callback_is_refused(self) -> None:
        """It could never send a browser back."""
        with pytest.raises(ValueError, match="redirect_uri"):
            SimulatedGitHub(client_id="c", client_secret="s", redirect_uris=[], url=URL)

    def test_the_empty_record_counts_nothing(self) -> None:
        """No request is no round trip."""
        assert Requests().in_sequence() == 0
