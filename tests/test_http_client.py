"""The HTTP transport shared by all clients: isolation, failures, proxies and retries."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from sponsorsync.domain.errors import GitHubRefusedError, GitHubUnreachableError
from sponsorsync.github.client import GitHubClient
from sponsorsync.http_client import open_transport, retry_once

USER = b'{"id": 1, "login": "octocat"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n" + USER
WITH_COOKIE = OK.replace(b"OK\r\n", b"OK\r\nSet-Cookie: logged_in=octocat; Path=/\r\n", 1)
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
CUT_SHORT = b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id'
NO_GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"

PROXY_VARIABLES = ["http_proxy", "https_proxy", "all_proxy", "no_proxy", "NETRC"]


@dataclass
class Server:
    """A server that answers each request with the same bytes, or not at all.

    Attributes:
        answer: A whole HTTP response; the connection is cut after an incomplete one.
        requests: The heads of the received requests.
        connections: Number of opened connections.
    """

    answer: bytes = OK
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    _handlers: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers each request on one connection."""
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answer)
                await writer.drain()
                if self.answer in {CUT_SHORT, b"nonsense\r\n\r\n"}:
                    break
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on the loopback interface."""
    server = Server()
    async with _listen(server):
        yield server


@asynccontextmanager
async def _listen(server: Server) -> AsyncIterator[None]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield


@pytest.fixture
def dead_url() -> Iterator[str]:
    """The address of a bound port on which no server listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
async def transport() -> AsyncIterator[httpx.AsyncBaseTransport]:
    """The transport of the service."""
    async with open_transport() as transport:
        yield transport


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def _fetch_login(transport: httpx.AsyncBaseTransport, url: str) -> str:
    client = httpx.AsyncClient(transport=transport, timeout=0.3)
    return (await GitHubClient(client, api_url=url).fetch_user("gho_1")).login


async def test_a_cookie_of_one_answer_is_not_sent_with_the_next_request(
    server: Server, transport: httpx.AsyncBaseTransport
) -> None:
    """The cookie may belong to another person.

    Cookie jars ignore IP addresses, so this is localhost.
    """
    server.answer = WITH_COOKIE
    url = f"http://localhost:{server.port}"

    await _fetch_login(transport, url)
    await _fetch_login(transport, url)

    first, second = server.requests
    assert b"cookie" not in first.lower()
    assert b"cookie" not in second.lower()


async def test_closing_a_client_leaves_the_transport_open(
    server: Server, transport: httpx.AsyncBaseTransport
) -> None:
    """Authlib creates a client for each call; all of them share the connections."""
    async with httpx.AsyncClient(transport=transport) as first:
        await first.get(server.url)

    async with httpx.AsyncClient(transport=transport) as second:
        answer = await second.get(server.url)

    assert answer.status_code == 200
    assert server.connections == 1


async def test_a_closed_port_is_an_unreachable_github(
    transport: httpx.AsyncBaseTransport, dead_url: str
) -> None:
    """The error is the same as for any other network failure."""
    with pytest.raises(GitHubUnreachableError):
        await _fetch_login(transport, dead_url)


@pytest.mark.parametrize(
    "answer",
    [b"", CUT_SHORT, b"nonsense\r\n\r\n", NO_GZIP],
    ids=["silent", "cut short", "nonsense", "no gzip"],
)
async def test_a_broken_answer_is_an_unreachable_github(
    server: Server, transport: httpx.AsyncBaseTransport, answer: bytes
) -> None:
    """Errors of the HTTP libraries are translated, after a second attempt."""
    server.answer = answer

    with pytest.raises(GitHubUnreachableError):
        await _fetch_login(transport, server.url)

    assert len(server.requests) == 2


async def test_no_redirect_is_followed(server: Server, transport: httpx.AsyncBaseTransport) -> None:
    """The token would be sent to the target of the redirect."""
    server.answer = REDIRECT

    with pytest.raises(GitHubRefusedError):
        await _fetch_login(transport, server.url)

    assert len(server.requests) == 1


async def test_an_entry_in_netrc_does_not_replace_the_token(
    server: Server,
    transport: httpx.AsyncBaseTransport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Developers often have a netrc entry for GitHub; aiohttp refuses a second authorization."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    await _fetch_login(transport, server.url)

    [request] = server.requests
    assert b"authorization: bearer gho_1\r\n" in request.lower()


@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning")  # httpx-aiohttp
@pytest.mark.filterwarnings("ignore:The .proxy_auth. parameter:DeprecationWarning")
@pytest.mark.parametrize(
    ("prefix", "password"),
    [
        ("http://", None),
        ("", None),
        ("http://user:password@", b"\r\nproxy-authorization: basic dxnlcjpwyxnzd29yza==\r\n"),
    ],
    ids=["address", "no scheme", "password"],
)
async def test_a_proxy_of_the_environment_is_used(
    server: Server, monkeypatch: pytest.MonkeyPatch, prefix: str, password: bytes | None
) -> None:
    """Many companies allow no direct connection; GitHub still receives the token."""
    monkeypatch.setenv("http_proxy", f"{prefix}127.0.0.1:{server.port}")

    async with open_transport() as transport:
        await _fetch_login(transport, "http://github.test")

    [request] = server.requests
    assert request.startswith(b"GET http://github.test/user HTTP/1.1\r\n")
    assert b"\r\nauthorization: bearer gho_1\r\n" in request.lower()
    assert password is None or password in request.lower()


@pytest.mark.parametrize("exempt", ["127.0.0.1", "*", "example.org,127.0.0.1"])
async def test_no_proxy_excludes_hosts(
    server: Server, dead_url: str, monkeypatch: pytest.MonkeyPatch, exempt: str
) -> None:
    """A GitHub Enterprise server is often in the local network."""
    monkeypatch.setenv("http_proxy", dead_url)
    monkeypatch.setenv("no_proxy", exempt)

    async with open_transport() as transport:
        await _fetch_login(transport, server.url)

    [request] = server.requests
    assert request.startswith(b"GET /user HTTP/1.1\r\n")


@dataclass
class Calls:
    """A function that raises the given errors in order, then returns the number of calls."""

    errors: list[Exception]
    count: int = 0

    async def __call__(self) -> int:  # noqa: D102 - the class says it
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.count


async def test_a_failed_call_is_repeated_after_a_pause_and_logged() -> None:
    """The log shows the operator how often calls are repeated."""
    clock = asyncio.get_running_loop().time
    began = clock()

    with capture_logs() as logs:
        count = await retry_once(Calls([TimeoutError("late")]), on=TimeoutError)

    assert count == 2
    assert clock() - began >= 0.09
    assert logs == [{"event": "request_repeated", "reason": "late", "log_level": "warning"}]


@pytest.mark.parametrize(
    "errors",
    [[TimeoutError("first"), TimeoutError("raised")], [ValueError("raised")]],
    ids=["a second failure", "a refusal"],
)
async def test_other_errors_are_raised_at_once(errors: list[Exception]) -> None:
    """A second failure and a refusal are final, so the call is not repeated."""
    calls, expected = Calls([*errors]), len(errors)

    with pytest.raises(type(errors[-1]), match="raised"):
        await retry_once(calls, on=TimeoutError)

    assert calls.count == expected
