"""GitHub's REST and GraphQL API, asked with one person's token."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

import httpx

from sponsorsync.domain.errors import GitHubLimitedError, GitHubUnreachableError
from sponsorsync.domain.sponsorship import Membership, Memberships
from sponsorsync.github import messages
from sponsorsync.http_client import try_twice

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from sponsorsync.domain.profile import EmailAddress, GitHubAccount, GitHubUser
    from sponsorsync.domain.sponsorship import Sponsorship

T = TypeVar("T")

MOST_ORGANIZATIONS = 1_000
"""Of one person; who belongs to more gets an answer that is not complete."""


class GitHubClient:
    """Fetches what a token may see. Every method raises a GitHubError where that cannot be had."""

    def __init__(self, client: httpx.AsyncClient, *, api_url: str) -> None:
        self._client = client
        self._api_url = api_url

    async def fetch_user(self, token: str) -> GitHubUser:
        """Returns the profile of the token's owner."""
        return messages.parse_user(await self._get("/user", token))

    async def fetch_emails(self, token: str) -> tuple[EmailAddress, ...]:
        """Returns the e-mail addresses of the token's owner."""
        return messages.parse_emails(await self._get("/user/emails", token))

    async def fetch_account(self, person_id: int, token: str) -> GitHubAccount | None:
        """Returns the account that has this number; None where there is none any more."""
        return await self._find_account(f"/user/{person_id}", token)

    async def fetch_account_by_login(self, login: str, token: str | None) -> GitHubAccount | None:
        """Returns the person or organization that has this login now; None where nobody has it."""
        return await self._find_account(messages.build_account_path(login), token)

    async def fetch_sponsorships(
        self, token: str, sponsorables: Sequence[str]
    ) -> list[Sponsorship]:
        """Returns all sponsorships of these accounts by the token's owner, page after page."""
        found: list[Sponsorship] = []
        cursor: str | None = None
        while True:
            body = messages.build_sponsorships_request(sponsorables, cursor)
            page = await self._query(token, body, messages.parse_sponsorships)
            found += page.sponsorships
            if page.next_cursor is None:
                return found
            cursor = page.next_cursor

    async def fetch_memberships(self, token: str, sponsorables: Sequence[str]) -> Memberships:
        """Returns the organizations of the token's owner, and what they give to these accounts."""
        found: list[Membership] = []
        is_complete = True
        cursor: str | None = None
        for _ in range(MOST_ORGANIZATIONS // messages.PAGE_SIZE):
            body = messages.build_organizations_request(sponsorables, cursor)
            page = await self._query(token, body, messages.parse_organizations)
            found += page.organizations
            is_complete = is_complete and page.is_complete
            cursor = page.next_cursor
            if cursor is None:
                break
        return Memberships(found, is_complete=is_complete and cursor is None)

    async def fetch_received(
        self, token: str, sponsorable: str, *, after: str | None = None
    ) -> AsyncGenerator[messages.ReceivedPage, None]:
        """Yields all sponsorships of an account, page after page, for whom it belongs to.

        `after` is the `next_cursor` of the page to go on from; None: from the first.
        """
        cursor = after
        while True:
            body = messages.build_received_request(sponsorable, cursor)
            page = await self._query(
                token, body, partial(messages.parse_received_sponsorships, login=sponsorable)
            )
            yield page
            if page.next_cursor is None:
                return
            cursor = page.next_cursor

    async def fetch_sponsor(self, token: str, node_id: str) -> messages.SponsorAnswer:
        """Returns what one account gives to the token's owner, and to nobody else."""
        body = messages.build_sponsor_request(node_id)
        return await self._query(token, body, messages.parse_sponsor)

    async def _query(self, token: str, body: object, parse: Callable[[bytes], T]) -> T:
        response = await self._respond("POST", "/graphql", token, json=body)
        try:
            return parse(response.content)
        except GitHubLimitedError as error:
            # It comes with HTTP 200; its headers tell for how long.
            wait_s = messages.read_retry_after(response.headers, now=datetime.now(UTC))
            raise GitHubLimitedError(str(error), retry_after_s=wait_s) from None

    async def _get(self, path: str, token: str) -> bytes:
        return (await self._respond("GET", path, token)).content

    async def _find_account(self, path: str, token: str | None) -> GitHubAccount | None:
        response = await self._respond("GET", path, token, may_be_missing=True)
        if response.status_code == HTTPStatus.NOT_FOUND:
            return None
        return messages.parse_account(response.content)

    async def _respond(
        self,
        method: str,
        path: str,
        token: str | None,
        *,
        json: object = None,
        may_be_missing: bool = False,
    ) -> httpx.Response:
        async def respond_once() -> httpx.Response:
            response = await self._request_once(method, path, token, json)
            if not (may_be_missing and response.status_code == HTTPStatus.NOT_FOUND):
                messages.check_status(response.status_code, response.headers, now=datetime.now(UTC))
            return response

        return await try_twice(respond_once, on=GitHubUnreachableError)

    async def _request_once(
        self, method: str, path: str, token: str | None, json: object
    ) -> httpx.Response:
        try:
            return await self._client.request(
                method, self._api_url + path, headers=messages.build_headers(token), json=json
            )
        except httpx.HTTPError as error:
            raise GitHubUnreachableError("GitHub could not be reached.") from error
