"""Tests of both API clients: retries, refusals, rate limits, and secrecy of the token."""

import httpx
import pytest

from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.sandbox.patreon import SimulatedPatreon
from tests.contracts.peers import Peer
from tests.support.script import Script

FAILURES = pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(502, text="<h1>502</h1>"),
        httpx.Response(504),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("late"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("gone"),
    ],
    ids=["502", "504", "connect", "connect timeout", "read timeout", "protocol"],
)


@FAILURES
async def test_one_failure_is_retried(
    peer: Peer, way: Script, token: str, failure: httpx.Response | Exception
) -> None:
    """Short failures are common, and a person waits for the answer."""
    way.answer(failure)

    assert await peer.ask(token)
    assert len(way.requests) == 2


@FAILURES
async def test_a_second_failure_is_raised(
    peer: Peer, way: Script, failure: httpx.Response | Exception
) -> None:
    """After two failures, more attempts would only prolong the person's wait."""
    way.answer(failure, failure, failure)

    with pytest.raises(peer.unreachable):
        await peer.ask("token")

    assert len(way.requests) == 2


@pytest.mark.parametrize(
    ("status", "is_limit"), [(401, False), (403, False), (404, False), (429, True)]
)
async def test_no_refusal_is_retried(peer: Peer, way: Script, status: int, is_limit: bool) -> None:
    """A retry cannot help after a refusal, and makes a rate limit worse."""
    way.answer(httpx.Response(status))

    with pytest.raises(peer.limited if is_limit else peer.refused):
        await peer.ask("token")

    assert len(way.requests) == 1


async def test_a_client_reports_the_wait_of_a_limit(
    peer: Peer, simulation: SimulatedGitHub | SimulatedPatreon, token: str
) -> None:
    """The external service sends the seconds to wait in a header."""
    simulation.switches.rate_limited = True
    simulation.switches.retry_after_s = 17

    with pytest.raises(peer.limited) as caught:
        await peer.ask(token)

    assert getattr(caught.value, "retry_after_s", None) == 17


async def test_the_token_is_sent_only_in_the_header(peer: Peer, way: Script, token: str) -> None:
    """Servers and proxies log addresses, so these must not contain the token."""
    await peer.ask(token)

    [request] = way.requests
    assert request.headers["authorization"] == f"Bearer {token}"
    assert token not in str(request.url)
    assert token.encode() not in request.content


async def test_the_error_of_an_unknown_token_does_not_show_it(peer: Peer) -> None:
    """Errors are logged, so they must not contain the token."""
    with pytest.raises(peer.refused, match="HTTP 401") as caught:
        await peer.ask("unknown-token")

    assert "unknown-token" not in repr(caught.value)
