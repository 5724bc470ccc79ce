"""Tests of both OAuth clients: a code gives one token, and no secret leaks."""

import json
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.patreon import SimulatedPatreon
from tests.contracts.peers import GitHubPeer, PatreonPeer, Peer, consent
from tests.support.script import Script

TOKEN = {"access_token": "token", "token_type": "bearer", "scope": "read:user,user:email"}


def test_each_attempt_has_its_own_state(peer: Peer) -> None:
    """The state binds an attempt to one browser."""
    (first, first_state), (second, second_state) = peer.start(), peer.start()

    assert parse_qs(urlsplit(first).query)["state"] == [first_state]
    assert parse_qs(urlsplit(second).query)["state"] == [second_state]
    assert first_state != second_state


async def test_codes_work_once(peer: Peer, simulation: SimulatedGitHub | SimulatedPatreon) -> None:
    """The code stays in the browser's history, so it must not give a second token."""
    address, _ = peer.start()
    code = await consent(simulation, address)

    assert await peer.fetch_token(code)
    with pytest.raises(peer.expired):
        await peer.fetch_token(code)


async def test_the_code_and_the_secret_are_sent_only_in_the_body(peer: Peer, way: Script) -> None:
    """Servers log addresses. GitHub needs a User-Agent, and `Accept` to answer with JSON."""
    way.answer(httpx.Response(200, json=TOKEN))

    await peer.fetch_token("code")

    [request] = way.requests
    form = parse_qs(request.content.decode())
    assert str(request.url) == peer.token_url
    assert form == {name: [value] for name, value in {**peer.token_form, "code": "code"}.items()}
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"].startswith("SponsorSync/")
    assert "authorization" not in request.headers


async def test_a_token_with_an_expiry_is_accepted(peer: Peer, way: Script) -> None:
    """We use a token only once, so its expiry and refresh token are ignored."""
    way.answer(httpx.Response(200, json={**TOKEN, "expires_in": 28800, "refresh_token": "more"}))

    assert await peer.fetch_token("code") == "token"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(500, json={"error": "invalid_grant"}),
        httpx.Response(502, text="<h1>502</h1>"),
        httpx.Response(200, text="<h1>Hello</h1>"),
        httpx.Response(200, text='{"access_tok'),
        httpx.Response(200, content=b"[" * 200_000),
        httpx.Response(200, json={}),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"access_token": ""}),
        httpx.Response(200, json={"access_token": 5}),
        httpx.Response(200, content=b'{"access_token": "token", "expires_in": 1e999}'),
        httpx.Response(200, json={"access_token": "token", "expires_in": [8]}),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("late"),
    ],
    ids=[
        *("500", "500 json", "502", "html", "half", "deep", "empty", "a list", "no token"),
        *("a number", "for ever", "for a list", "connect", "timeout"),
    ],
)
async def test_an_answer_without_a_token_is_an_unreachable_service(
    peer: Peer, way: Script, answer: httpx.Response | Exception
) -> None:
    """The request is not repeated, because the code may already be used up."""
    way.answer(answer)

    with pytest.raises(peer.unreachable):
        await peer.fetch_token("code")

    assert len(way.requests) == 1


@pytest.mark.parametrize("kind", [GitHubPeer, PatreonPeer])
@given(
    status=st.sampled_from([200, 400, 401, 429, 500]),
    answer=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    ["access_token", "error", "errors", "expires_in", "scope", "token_type"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=4,
    ),
)
async def test_any_json_is_a_token_or_a_sponsorsync_error(
    kind: type[Peer], status: int, answer: object
) -> None:
    """External services sometimes send unexpected JSON, which must not raise other errors."""
    body = json.dumps(answer).encode()
    peer = kind(httpx.MockTransport(lambda _: httpx.Response(status, content=body)))

    try:
        token = await peer.fetch_token("code")
    except peer.any_error:
        return

    assert token
