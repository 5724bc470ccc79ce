"""Client of Patreon's API; each call has the token of one person."""

import httpx

from sponsorsync.domain.errors import LinkUnreachableError
from sponsorsync.http_client import retry_once
from sponsorsync.patreon import messages
from sponsorsync.patreon.patronage import PatreonIdentity


class PatreonClient:
    """Fetches the owner of a token; raises AccountLinkError if Patreon gives no usable answer."""

    def __init__(self, client: httpx.AsyncClient, *, patreon_url: str) -> None:
        self._client = client
        self._patreon_url = patreon_url

    async def fetch_identity(self, token: str) -> PatreonIdentity:
        """Returns the token's owner and their patronages."""

        async def fetch_once() -> PatreonIdentity:
            try:
                response = await self._client.get(
                    self._patreon_url + messages.IDENTITY_PATH,
                    params=dict(messages.IDENTITY_QUERY),
                    headers=messages.build_headers(token),
                )
            except httpx.HTTPError as error:
                raise LinkUnreachableError("Patreon could not be reached.") from error
            messages.check_status(response.status_code, response.headers, response.content)
            return messages.parse_identity(response.content)

        return await retry_once(fetch_once, on=LinkUnreachableError)
