"""Asking GitHub about one person now, with the maintainer's token: nobody else's is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from sponsorsync.domain.assessment import assess, is_as_new, mark_unknown
from sponsorsync.domain.errors import (
    GitHubError,
    GitHubRefusedError,
    RefreshLimitedError,
    RefreshNeedsLoginError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from pydantic import SecretStr

    from sponsorsync.domain.cover import CoverFacts, CoverPolicy
    from sponsorsync.domain.sponsorship import Sponsorship
    from sponsorsync.github.client import GitHubClient
    from sponsorsync.look_again import LookAgain
    from sponsorsync.store.covers import CoverStore

_log = structlog.get_logger(__name__)


class Refresh:
    """Looks again at one person's sponsorships."""

    def __init__(
        self,
        github: GitHubClient,
        covers: CoverStore,
        look_again: LookAgain,
        *,
        token: SecretStr | None,
        sponsorables: Sequence[str],
        policy: CoverPolicy,
        clock: Callable[[], datetime],
    ) -> None:
        self._github = github
        self._covers = covers
        self._look_again = look_again
        self._token = token
        self._sponsorables = sponsorables
        self._policy = policy
        self._clock = clock

    async def run(self, person_id: int) -> bool:
        """Asks GitHub, and keeps the answer.

        GitHub tells of one sponsor only to the account that receives. For any other sponsorable, an
        organization say, it has to be compared as a whole: that is asked for, and takes longer.

        Returns:
            Whether the answer is complete; else it follows within five minutes.

        Raises:
            RefreshNeedsLoginError: There is no maintainer's token.
            RefreshLimitedError: It was asked a moment ago.
            GitHubError: GitHub gave no usable answer; the last one holds for a while, marked.
            StoreError: A Redis cannot be asked.
        """
        if self._token is None:
            raise RefreshNeedsLoginError
        wait_ms = await self._covers.take_refresh(person_id)
        if wait_ms > 0:
            raise RefreshLimitedError(retry_after_s=-(-wait_ms // 1000))
        asked_at = self._clock()
        try:
            told = await self._ask(person_id, self._token.get_secret_value())
        except GitHubError:
            for sponsorable in self._sponsorables:
                await self._covers.change(sponsorable, person_id, self._mark, by="refresh")
            raise
        for sponsorable, sponsorships in told.items():
            await self._keep(person_id, sponsorable, sponsorships, asked_at)
        others = [each for each in self._sponsorables if each not in told]
        for sponsorable in others:
            await self._look_again.request(sponsorable)
        _log.info("refreshed", person=person_id, conclusive=not others)
        return not others

    async def _ask(self, person_id: int, token: str) -> dict[str, list[Sponsorship]]:
        """Returns the sponsorships of each sponsorable for which GitHub's answer decides."""
        account = await self._github.fetch_account(person_id, token)
        if account is None:
            # It may be suspended as well: that is no answer.
            raise GitHubRefusedError("GitHub shows no account with your number.")
        answer = await self._github.fetch_sponsor(token, account.node_id)
        if answer.viewer_login not in self._sponsorables or answer.sponsor_id != person_id:
            return {}
        given = answer.sponsorship
        if given is not None and not given.is_active:
            # There is one answer, and perhaps another sponsorship that goes on.
            return {}
        return {answer.viewer_login: [] if given is None else [given]}

    async def _keep(
        self,
        person_id: int,
        sponsorable: str,
        sponsorships: Sequence[Sponsorship],
        asked_at: datetime,
    ) -> None:
        def decide(known: CoverFacts | None) -> CoverFacts | None:
            if is_as_new(known, asked_at):
                return None
            return assess(
                sponsorable, sponsorships, previous=known, policy=self._policy, now=self._clock()
            )

        await self._covers.change(sponsorable, person_id, decide, by="refresh")

    def _mark(self, known: CoverFacts | None) -> CoverFacts | None:
        marked = mark_unknown(known, now=self._clock())
        return None if marked == known else marked
