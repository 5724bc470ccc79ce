"""The one place that makes an HTTP client (docs/adr/0002-httpx-over-aiohttp.md)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
import structlog
from httpx_aiohttp import AiohttpTransport

from sponsorsync import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

T = TypeVar("T")

USER_AGENT = f"SponsorSync/{__version__}"
"""GitHub and other services refuse requests without one:
https://docs.github.com/rest/using-the-rest-api/getting-started-with-the-rest-api#user-agent"""

_MAX_CONNECTIONS = 100
_KEEP_ALIVE_S = 60.0
_RETRY_WAIT_S = 0.1

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_transport() -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Yields the transport that all traffic to other services shares; closes it at the end."""
    connector = aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE_S)
    # No cookie jar: one person's GitHub cookies would travel with the next one's request.
    # No trust_env: aiohttp would look into ~/.netrc too, and an entry for GitHub there makes it
    # refuse every request that carries a token.
    session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
    async with session:
        yield _SharedTransport(session)


def create_http_client(
    transport: httpx.AsyncBaseTransport, *, timeout_s: float
) -> httpx.AsyncClient:
    """Returns a client for another service's API, over a transport that others may share."""
    return httpx.AsyncClient(
        transport=transport, timeout=timeout_s, headers={"User-Agent": USER_AGENT}
    )


async def try_twice(call: Callable[[], Awaitable[T]], *, on: type[Exception]) -> T:
    """Returns the result of `call`, and calls it a second time, soon, if it raises `on`.

    Only for what is safe to repeat. There is no third time: a person waits for the answer.
    """
    try:
        return await call()
    except on as error:
        _log.warning("request_repeated", reason=str(error))
    await asyncio.sleep(_RETRY_WAIT_S)
    return await call()


class _SharedTransport(httpx.AsyncBaseTransport):
    """A transport that short-lived clients share: closing one of them leaves it open.

    It goes by the proxies that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name, which httpx itself no
    longer reads once it is given a transport.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._direct = AiohttpTransport(client=session)
        self._proxied = {
            scheme: AiohttpTransport(client=session, proxy=httpx.Proxy(_with_scheme(address)))
            for scheme, address in getproxies().items()
            if scheme in {"http", "https"}
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._choose(request.url).handle_async_request(request)
        except aiohttp.ClientError as error:  # the few that httpx-aiohttp does not translate
            raise httpx.TransportError(type(error).__name__) from error

    def _choose(self, url: httpx.URL) -> AiohttpTransport:
        if proxy_bypass(url.host):
            return self._direct
        return self._proxied.get(url.scheme, self._direct)


def _with_scheme(address: str) -> str:
    return address if "://" in address else f"http://{address}"
