"""Asking GitHub about one person now, with the maintainer's token: nobody else's is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from sponsorsync.domain.errors import (
    GitHubError,
    GitHubRefusedError,
    GitHubTokenError,
    NotSignedInError,
    RefreshLimitedError,
    RefreshNeedsLoginError,
)
from sponsorsync.domain.fact_derivation import derive_facts, is_not_older, mark_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from pydantic import SecretStr

    from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
    from sponsorsync.domain.sponsorship import Sponsorship
    from sponsorsync.github.client import GitHubClient
    from sponsorsync.reconcile.schedule import ReconcileSchedule
    from sponsorsync.store.entitlements import EntitlementStore
    from sponsorsync.store.reconciliations import ReconciliationStore

_log = structlog.get_logger(__name__)


class Refresh:
    """Looks again at one person's sponsorships."""

    def __init__(
        self,
        github: GitHubClient,
        entitlements: EntitlementStore,
        reconciliations: ReconciliationStore,
        schedule: ReconcileSchedule | None,
        *,
        token: SecretStr | None,
        sponsorables: Sequence[str],
        policy: EntitlementPolicy,
        clock: Callable[[], datetime],
    ) -> None:
        self._github = github
        self._entitlements = entitlements
        self._reconciliations = reconciliations
        self._schedule = schedule
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
            NotSignedInError: The account was deleted while GitHub was asked.
            GitHubError: GitHub gave no usable answer; the last one holds for a while, marked unless
                it was the maintainer's token that was refused.
            StoreError: A Redis cannot be asked.
        """
        if self._token is None or self._schedule is None:
            raise RefreshNeedsLoginError
        wait_ms = await self._reconciliations.admit_refresh(person_id)
        if wait_ms > 0:
            raise RefreshLimitedError(retry_after_s=-(-wait_ms // 1000))
        asked_at = self._clock()
        try:
            told = await self._ask(person_id, self._token.get_secret_value())
        except GitHubTokenError:
            # It is the maintainer's token that is refused: that tells nothing about this person.
            raise
        except GitHubError:
            for sponsorable in self._sponsorables:
                await self._entitlements.change(sponsorable, person_id, self._mark, by="refresh")
            raise
        if (await self._entitlements.load_logins([person_id]))[person_id] is None:
            raise NotSignedInError  # the account was deleted meanwhile
        settled = [
            sponsorable
            for sponsorable, given in told.items()
            if await self._keep(person_id, sponsorable, given, asked_at)
        ]
        others = [each for each in self._sponsorables if each not in settled]
        for sponsorable in others:
            await self._schedule.request(sponsorable)
        _log.info("refreshed", person=person_id, conclusive=not others)
        return not others

    async def _ask(self, person_id: int, token: str) -> dict[str, Sponsorship | None]:
        """Returns the sponsorship of each sponsorable for which GitHub's answer may decide."""
        account = await self._github.fetch_account(person_id, token)
        if account is None:
            # It may be suspended as well: that is no answer.
            raise GitHubRefusedError("GitHub shows no account with your number.")
        answer = await self._github.fetch_sponsor(token, account.node_id)
        if answer.viewer_login not in self._sponsorables or answer.sponsor_id != person_id:
            return {}
        return {answer.viewer_login: answer.sponsorship}

    async def _keep(
        self, person_id: int, sponsorable: str, given: Sponsorship | None, asked_at: datetime
    ) -> bool:
        """Keeps an answer, and returns whether that was all there is to know.

        GitHub tells of one sponsorship, and not which of several it is: beside an ended one, or a
        payment, another may go on.
        """
        is_settled = True

        def decide(known: EntitlementFacts | None) -> EntitlementFacts | None:
            nonlocal is_settled
            is_other = (
                given is not None
                and known is not None
                and known.is_sponsoring(asked_at)
                and known.since != given.created_at
            )
            is_settled = given is None or (
                given.is_active and not given.is_one_time and not is_other
            )
            if is_not_older(known, asked_at):
                return None
            now = self._clock()
            told = derive_facts(
                sponsorable,
                [] if given is None else [given],
                previous=known,
                policy=self._policy,
                now=now,
            )
            gains = told.is_sponsoring(now) and not (known and known.is_sponsoring(now))
            return told if is_settled or gains else None

        await self._entitlements.change(sponsorable, person_id, decide, by="refresh")
        return is_settled

    def _mark(self, known: EntitlementFacts | None) -> EntitlementFacts | None:
        marked = mark_unknown(known, now=self._clock())
        return None if marked == known else marked
