"""Patreon's API, asked with one person's token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from sponsorsync.domain.errors import PatreonUnreachableError
from sponsorsync.http_client import retry_once
from sponsorsync.patreon import messages

if TYPE_CHECKING:
    from sponsorsync.domain.patronage import PatreonIdentity


class PatreonClient:
    """Fetches what a token may see; raises a PatreonError where that cannot be had."""

    def __init__(self, client: httpx.AsyncClient, *, patreon_url: str) -> None:
        self._client = client
        self._patreon_url = patreon_url

    async def fetch_identity(self, token: str) -> PatreonIdentity:
        """Returns who the token's owner is, and what they give."""

        async def fetch_once() -> PatreonIdentity:
            return messages.parse_identity(await self._get_identity(token))

        return await retry_once(fetch_once, on=PatreonUnreachableError)

    async def _get_identity(self, token: str) -> bytes:
        try:
            response = await self._client.get(
                self._patreon_url + messages.IDENTITY_PATH,
                params=dict(messages.IDENTITY_QUERY),
                headers=messages.build_headers(token),
            )
        except httpx.HTTPError as error:
            raise PatreonUnreachableError("Patreon could not be reached.") from error
        messages.check_status(response.status_code, response.headers, response.content)
        return response.content
