"""The one place that makes an HTTP client (docs/adr/0002-httpx-over-aiohttp.md)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from sponsorsync import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

USER_AGENT = f"SponsorSync/{__version__}"
"""GitHub refuses requests without one:
https://docs.github.com/rest/using-the-rest-api/getting-started-with-the-rest-api#user-agent"""

_MAX_CONNECTIONS = 100
_KEEP_ALIVE_S = 60.0


@asynccontextmanager
async def open_transport() -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Yields the transport that all of GitHub's traffic shares, and closes it at the end."""
    connector = aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE_S)
    # No cookie jar: one person's GitHub cookies would travel with the next one's request.
    # trust_env: with a transport of its own httpx no longer looks at HTTPS_PROXY itself.
    session = aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True
    )
    async with session:
        yield _ClosedElsewhere(AiohttpTransport(client=session))


class _ClosedElsewhere(httpx.AsyncBaseTransport):
    """A transport that short-lived clients share: closing one of them leaves it open."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._inner.handle_async_request(request)
        except aiohttp.ClientError as error:  # the few that httpx-aiohttp does not translate
            raise httpx.TransportError(type(error).__name__) from error
