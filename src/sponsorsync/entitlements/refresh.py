"""Refresh: asks GitHub about one person at once, with the maintainer's token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from pydantic import SecretStr

from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
from sponsorsync.domain.errors import (
    GitHubError,
    GitHubRefusedError,
    GitHubTokenError,
    NotSignedInError,
    RefreshLimitedError,
    RefreshNeedsLoginError,
)
from sponsorsync.domain.fact_derivation import derive_facts, is_not_older, mark_unknown
from sponsorsync.domain.sponsorship import Sponsorship
from sponsorsync.github.client import GitHubClient
from sponsorsync.reconcile.schedule import ReconcileSchedule
from sponsorsync.store.entitlements import EntitlementStore
from sponsorsync.store.reconciliations import ReconciliationStore

_log = structlog.get_logger(__name__)


@dataclass
class Refresh:
    """Fetches a person's sponsorships from GitHub when the person requests it."""

    github: GitHubClient
    entitlements: EntitlementStore
    reconciliations: ReconciliationStore
    schedule: ReconcileSchedule | None
    token: SecretStr | None
    sponsorables: Sequence[str]
    policy: EntitlementPolicy
    clock: Callable[[], datetime]

    async def run(self, person_id: int) -> bool:
        """Asks GitHub about a person and saves the answer.

        GitHub shows a single sponsorship only to the account that receives it, which is the owner
        of the maintainer's token. For every other sponsorable, such as an organization, this
        requests a reconcile, which takes longer.

        Returns:
            Whether the answer is complete; else a reconcile completes it within five minutes.

        Raises:
            RefreshNeedsLoginError: No maintainer's token is configured.
            RefreshLimitedError: The person, or all people together, have refreshed too often.
            NotSignedInError: The account was deleted while GitHub was asked.
            GitHubError: GitHub gave no usable answer. The stored facts stay; they are marked as
                unknown, except if GitHub refused the maintainer's token.
            StoreError: A Redis cannot be asked.
        """
        if self.token is None or self.schedule is None:
            raise RefreshNeedsLoginError
        wait_ms = await self.reconciliations.admit_refresh(person_id)
        if wait_ms > 0:
            raise RefreshLimitedError(retry_after_s=-(-wait_ms // 1000))
        asked_at = self.clock()
        try:
            sponsorships = await self._fetch(person_id, self.token.get_secret_value())
        except GitHubTokenError:
            raise  # the maintainer's token was refused, which says nothing about this person
        except GitHubError:
            for sponsorable in self.sponsorables:
                await self.entitlements.change(
                    sponsorable, person_id, self._mark_unknown, by="refresh"
                )
            raise
        if (await self.entitlements.load_logins([person_id]))[person_id] is None:
            raise NotSignedInError
        settled = [
            sponsorable
            for sponsorable, sponsorship in sponsorships.items()
            if await self._save(person_id, sponsorable, sponsorship, asked_at)
        ]
        others = [each for each in self.sponsorables if each not in settled]
        for sponsorable in others:
            await self.schedule.request(sponsorable)
        _log.info("refreshed", person=person_id, conclusive=not others)
        return not others

    async def _fetch(self, person_id: int, token: str) -> dict[str, Sponsorship | None]:
        """Returns the person's sponsorship of the sponsorable that owns the token.

        The result is empty if GitHub's answer is about no configured sponsorable.
        """
        account = await self.github.fetch_account(person_id, token)
        if account is None:
            # The account may be suspended, so this does not end a sponsorship.
            raise GitHubRefusedError("GitHub shows no account with your number.")
        answer = await self.github.fetch_sponsor(token, account.node_id)
        if answer.viewer_login not in self.sponsorables or answer.sponsor_id != person_id:
            return {}
        return {answer.viewer_login: answer.sponsorship}

    async def _save(
        self, person_id: int, sponsorable: str, shown: Sponsorship | None, asked_at: datetime
    ) -> bool:
        """Saves the sponsorship that GitHub shows; returns whether the answer is complete.

        GitHub shows one sponsorship even if there are several. So if the shown one has ended or is
        a one-time payment, the person may have another one that continues.
        """
        is_settled = True

        def decide(stored: EntitlementFacts | None) -> EntitlementFacts | None:
            nonlocal is_settled
            is_other = (
                shown is not None
                and stored is not None
                and stored.is_sponsoring(asked_at)
                and stored.since != shown.created_at
            )
            is_settled = shown is None or (
                shown.is_active and not shown.is_one_time and not is_other
            )
            if is_not_older(stored, asked_at):
                return None
            now = self.clock()
            sponsorships = [] if shown is None else [shown]
            facts = derive_facts(
                sponsorable, sponsorships, previous=stored, policy=self.policy, now=now
            )
            is_gain = facts.is_sponsoring(now) and not (stored and stored.is_sponsoring(now))
            return facts if is_settled or is_gain else None

        await self.entitlements.change(sponsorable, person_id, decide, by="refresh")
        return is_settled

    def _mark_unknown(self, stored: EntitlementFacts | None) -> EntitlementFacts | None:
        marked = mark_unknown(stored, now=self.clock())
        return None if marked == stored else marked
