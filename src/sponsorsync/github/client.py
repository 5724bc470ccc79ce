"""GitHub's REST and GraphQL API, asked with one person's token."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import stamina

from sponsorsync.domain.errors import GitHubLimitedError, GitHubUnreachableError
from sponsorsync.github import messages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from sponsorsync.domain.profile import EmailAddress, GitHubUser
    from sponsorsync.domain.sponsorship import Sponsorship

# Only what is safe to say twice is retried, once and soon: a person waits for the answer.
_ATTEMPTS = 2
_RETRY_WAIT_S = 0.1


class GitHubClient:
    """Fetches what a token may see. Every method raises a GitHubError where that cannot be had."""

    def __init__(self, client: httpx.AsyncClient, *, api_url: str) -> None:
        self._client = client
        self._api_url = api_url

    async def fetch_user(self, token: str) -> GitHubUser:
        """Returns the profile of the token's owner."""
        return messages.parse_user(await self._request("GET", "/user", token))

    async def fetch_emails(self, token: str) -> tuple[EmailAddress, ...]:
        """Returns the e-mail addresses of the token's owner."""
        return messages.parse_emails(await self._request("GET", "/user/emails", token))

    async def fetch_sponsorships(
        self, token: str, sponsorables: Sequence[str]
    ) -> list[Sponsorship]:
        """Returns all sponsorships of these accounts by the token's owner, page after page."""
        found: list[Sponsorship] = []
        cursor: str | None = None
        while True:
            body = messages.build_sponsorships_request(sponsorables, cursor)
            page = messages.parse_sponsorships(
                await self._request("POST", "/graphql", token, json=body)
            )
            found += page.sponsorships
            if page.next_cursor is None:
                return found
            cursor = page.next_cursor

    async def fetch_received(
        self, token: str, sponsorable: str, *, after: str | None = None
    ) -> AsyncGenerator[messages.ReceivedPage, None]:
        """Yields all sponsorships of an account, page after page, for whom it belongs to.

        `after` is the `next_cursor` of the page to go on from; None: from the first.
        """
        cursor = after
        while True:
            body = messages.build_received_request(sponsorable, cursor)
            response = await self._respond("POST", "/graphql", token, json=body)
            try:
                page = messages.parse_received_sponsorships(response.content, login=sponsorable)
            except GitHubLimitedError as error:
                # It comes with HTTP 200; its headers tell for how long.
                wait_s = messages.read_retry_after(response.headers, now=datetime.now(UTC))
                raise GitHubLimitedError(str(error), retry_after_s=wait_s) from None
            yield page
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    async def _request(self, method: str, path: str, token: str, *, json: object = None) -> bytes:
        return (await self._respond(method, path, token, json=json)).content

    async def _respond(
        self, method: str, path: str, token: str, *, json: object = None
    ) -> httpx.Response:
        async for attempt in stamina.retry_context(
            on=GitHubUnreachableError,
            attempts=_ATTEMPTS,
            wait_initial=_RETRY_WAIT_S,
            wait_max=_RETRY_WAIT_S,
        ):
            with attempt:
                return await self._request_once(method, path, token, json)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _request_once(
        self, method: str, path: str, token: str, json: object
    ) -> httpx.Response:
        try:
            response = await self._client.request(
                method, self._api_url + path, headers=messages.build_headers(token), json=json
            )
        except httpx.HTTPError as error:
            raise GitHubUnreachableError("GitHub could not be reached.") from error
        messages.check_status(response.status_code, response.headers, now=datetime.now(UTC))
        return response
