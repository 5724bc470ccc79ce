"""Client of GitHub's REST and GraphQL API."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TypeVar

import httpx

from sponsorsync.domain.errors import GitHubLimitedError, GitHubUnreachableError
from sponsorsync.domain.profile import EmailAddress, GitHubAccount, GitHubUser
from sponsorsync.domain.sponsorship import Membership, Memberships, Sponsorship
from sponsorsync.github import people, requests, sponsorships
from sponsorsync.github.answers import check_status, read_retry_after
from sponsorsync.http_client import retry_once

T = TypeVar("T")
PageT = TypeVar("PageT", sponsorships.SponsorshipPage, sponsorships.ReceivedPage)

MOST_ORGANIZATIONS = 1_000
"""The most organizations that are fetched of one person; more make `is_complete` False."""


class GitHubClient:
    """Fetches data that a token may see; each method raises GitHubError if GitHub fails."""

    def __init__(self, client: httpx.AsyncClient, *, api_url: str) -> None:
        self._client = client
        self._api_url = api_url

    async def fetch_user(self, token: str) -> GitHubUser:
        """Returns the profile of the token's owner."""
        return people.parse_user((await self._respond("GET", "/user", token)).content)

    async def fetch_emails(self, token: str) -> tuple[EmailAddress, ...]:
        """Returns the e-mail addresses of the token's owner."""
        return people.parse_emails((await self._respond("GET", "/user/emails", token)).content)

    async def fetch_account(self, person_id: int, token: str) -> GitHubAccount | None:
        """Returns the account with this numeric id; None if it no longer exists."""
        return await self._find_account(f"/user/{person_id}", token)

    async def fetch_account_by_login(self, login: str, token: str | None) -> GitHubAccount | None:
        """Returns the person or organization that has this login now, or None."""
        return await self._find_account(requests.build_account_path(login), token)

    async def fetch_sponsorships(
        self, token: str, sponsorables: Sequence[str]
    ) -> list[Sponsorship]:
        """Returns all sponsorships of these accounts by the token's owner."""
        variables = {"maintainerLogins": list(sponsorables)}
        query, parse = requests.VIEWER_SPONSORSHIPS, sponsorships.parse_sponsorships
        pages = self._query_pages(token, query, variables, parse)
        return [each async for page in pages for each in page.sponsorships]

    async def fetch_memberships(self, token: str, sponsorables: Sequence[str]) -> Memberships:
        """Returns the token owner's organizations and their sponsorships of these accounts."""
        variables = {"maintainerLogins": list(sponsorables)}
        found: list[Membership] = []
        is_complete = True
        cursor: str | None = None
        for _ in range(MOST_ORGANIZATIONS // requests.PAGE_SIZE):
            body = requests.build_page_request(requests.VIEWER_ORGANIZATIONS, variables, cursor)
            page = await self._query(token, body, sponsorships.parse_organizations)
            found += page.organizations
            is_complete = is_complete and page.is_complete
            cursor = page.next_cursor
            if cursor is None:
                break
        return Memberships(found, is_complete=is_complete and cursor is None)

    def fetch_received(
        self, token: str, sponsorable: str, *, after: str | None = None
    ) -> AsyncGenerator[sponsorships.ReceivedPage, None]:
        """Yields the pages of the sponsorships that the token owner's account receives.

        `after` is the `next_cursor` of the last page that was read, or None for the first page.
        """
        query, variables = requests.MAINTAINER_SPONSORSHIPS, {"login": sponsorable}
        parse = partial(sponsorships.parse_received_sponsorships, login=sponsorable)
        return self._query_pages(token, query, variables, parse, after=after)

    async def fetch_sponsor(self, token: str, node_id: str) -> sponsorships.SponsorAnswer:
        """Returns the sponsorship of the token's owner by the account with this node id."""
        body = requests.build_sponsor_request(node_id)
        return await self._query(token, body, sponsorships.parse_sponsor)

    async def _query_pages(
        self,
        token: str,
        query: str,
        variables: Mapping[str, object],
        parse: Callable[[bytes], PageT],
        *,
        after: str | None = None,
    ) -> AsyncGenerator[PageT, None]:
        while True:
            body = requests.build_page_request(query, variables, after)
            page = await self._query(token, body, parse)
            yield page
            if page.next_cursor is None:
                return
            after = page.next_cursor

    async def _query(self, token: str, body: object, parse: Callable[[bytes], T]) -> T:
        response = await self._respond("POST", "/graphql", token, json=body)
        try:
            return parse(response.content)
        except GitHubLimitedError as error:
            # GitHub reports the limit with HTTP 200; only the headers have the time to wait.
            wait_s = read_retry_after(response.headers, now=datetime.now(UTC))
            raise GitHubLimitedError(str(error), retry_after_s=wait_s) from None

    async def _find_account(self, path: str, token: str | None) -> GitHubAccount | None:
        response = await self._respond("GET", path, token, may_be_missing=True)
        if response.status_code == HTTPStatus.NOT_FOUND:
            return None
        return people.parse_account(response.content)

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
            try:
                response = await self._client.request(
                    method, self._api_url + path, headers=requests.build_headers(token), json=json
                )
            except httpx.HTTPError as error:
                raise GitHubUnreachableError("GitHub could not be reached.") from error
            if not (may_be_missing and response.status_code == HTTPStatus.NOT_FOUND):
                check_status(response.status_code, response.headers, now=datetime.now(UTC))
            return response

        return await retry_once(respond_once, on=GitHubUnreachableError)
