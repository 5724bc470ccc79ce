"""Creation of all HTTP clients (docs/adr/0002-httpx-over-aiohttp.md)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
import structlog
from httpx_aiohttp import AiohttpTransport

from sponsorsync import __version__

T = TypeVar("T")

USER_AGENT = f"SponsorSync/{__version__}"
"""Sent with each request; GitHub and other services refuse requests without a User-Agent:
https://docs.github.com/rest/using-the-rest-api/getting-started-with-the-rest-api#user-agent"""

_MAX_CONNECTIONS = 100
_KEEP_ALIVE_S = 60.0
_RETRY_WAIT_S = 0.1

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_transport() -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Yields the transport that all HTTP clients share; closes it at the end."""
    connector = aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE_S)
    # No cookie jar: one person's GitHub cookies would be sent with another person's request.
    # No trust_env: with it aiohttp would also read ~/.netrc, and if that has an entry for GitHub,
    # refuse every request with a token.
    session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
    async with session:
        yield _SharedTransport(session)


def create_http_client(
    transport: httpx.AsyncBaseTransport, *, timeout_s: float
) -> httpx.AsyncClient:
    """Returns a client for another service's API, on the shared transport."""
    return httpx.AsyncClient(
        transport=transport, timeout=timeout_s, headers={"User-Agent": USER_AGENT}
    )


async def retry_once(call: Callable[[], Awaitable[T]], *, on: type[Exception]) -> T:
    """Returns the result of `call`; if that raises `on`, waits briefly and calls it once more.

    Use it only for calls that are safe to repeat. There is no third attempt, because a person waits
    for the answer.
    """
    try:
        return await call()
    except on as error:
        _log.warning("request_repeated", reason=str(error))
    await asyncio.sleep(_RETRY_WAIT_S)
    return await call()


class _SharedTransport(httpx.AsyncBaseTransport):
    """A transport that stays open when one of its clients is closed.

    It applies HTTP_PROXY, HTTPS_PROXY and NO_PROXY, which an httpx client with a transport ignores.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._direct = AiohttpTransport(client=session)
        self._proxied = {
            scheme: AiohttpTransport(client=session, proxy=httpx.Proxy(_with_scheme(address)))
            for scheme, address in getproxies().items()
            if scheme in {"http", "https"}
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = self._direct
        if not proxy_bypass(request.url.host):
            transport = self._proxied.get(request.url.scheme, self._direct)
        try:
            return await transport.handle_async_request(request)
        except aiohttp.ClientError as error:  # httpx-aiohttp does not translate all of them
            raise httpx.TransportError(type(error).__name__) from error


def _with_scheme(address: str) -> str:
    return address if "://" in address else f"http://{address}"
