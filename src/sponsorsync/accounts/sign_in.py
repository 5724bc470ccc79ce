"""Sign-in: from GitHub's authorization code to a session."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from sponsorsync.background import Supervisor
from sponsorsync.domain.account import LoginAttempt, SignedIn, StoredEntitlement
from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
from sponsorsync.domain.errors import GitHubError, GitHubUnreachableError, StoreUnavailableError
from sponsorsync.domain.fact_derivation import (
    derive_facts,
    is_better,
    is_not_older,
    mark_unknown,
    may_be_hidden,
)
from sponsorsync.domain.profile import EmailAddress, GitHubUser, Profile, choose_email
from sponsorsync.domain.sponsorship import Memberships, Sponsorship
from sponsorsync.entitlements.organization_members import OrganizationMembers
from sponsorsync.github.client import GitHubClient
from sponsorsync.github.oauth import GitHubOAuth
from sponsorsync.reconcile.schedule import ReconcileSchedule
from sponsorsync.store.people import PeopleStore

T = TypeVar("T")

# Attempts to save: a webhook, a reconcile or another sign-in may change the same entitlement
# between reading and saving.
_TRIES = 5

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FetchedUser:
    """GitHub's data of a person at one sign-in; `asked_at` is the moment before GitHub was asked.

    A part is None if GitHub was not asked for it, or gave no answer or an incomplete one.
    """

    asked_at: datetime
    user: GitHubUser
    emails: Sequence[EmailAddress] | None
    sponsorships: Sequence[Sponsorship] | None
    memberships: Memberships | None


@dataclass
class UserFetcher:
    """Fetches a person's data from GitHub with their own token."""

    github: GitHubClient
    sponsorables: Sequence[str]
    wants_memberships: bool
    timeout_s: float
    clock: Callable[[], datetime]

    async def fetch(self, token: str) -> FetchedUser:
        """Fetches profile, addresses, sponsorships and memberships at the same time.

        Raises:
            GitHubError: `/user` gave no usable answer.
        """
        asked_at = self.clock()
        try:
            async with asyncio.TaskGroup() as group:
                user = group.create_task(self._in_time(self.github.fetch_user(token)))
                emails = group.create_task(
                    self._or_none(self.github.fetch_emails(token), what="e-mail addresses")
                )
                sponsorships = group.create_task(
                    self._or_none(
                        self.github.fetch_sponsorships(token, self.sponsorables),
                        what="sponsorships",
                    )
                )
                memberships = group.create_task(self._fetch_memberships(token))
        except* GitHubError as failures:
            # Only the task for /user raises, the others return None: the group has one exception.
            raise failures.exceptions[0] from None
        return FetchedUser(
            asked_at=asked_at,
            user=user.result(),
            emails=emails.result(),
            sponsorships=sponsorships.result(),
            memberships=memberships.result(),
        )

    async def _fetch_memberships(self, token: str) -> Memberships | None:
        if not self.wants_memberships:
            return None
        return await self._or_none(
            self.github.fetch_memberships(token, self.sponsorables), what="organizations"
        )

    async def _in_time(self, call: Coroutine[None, None, T]) -> T:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await call
        except TimeoutError:
            raise GitHubUnreachableError("GitHub did not answer in time.") from None

    async def _or_none(self, call: Coroutine[None, None, T], *, what: str) -> T | None:
        try:
            return await self._in_time(call)
        except GitHubError as error:
            _log.warning("github_left_unknown", what=what, reason=str(error))
            return None


@dataclass
class SignIn:
    """Signs people in with GitHub: `start` sends the browser there, `finish` opens a session."""

    oauth: GitHubOAuth
    fetcher: UserFetcher
    people: PeopleStore
    members: OrganizationMembers | None
    schedule: ReconcileSchedule | None
    background: Supervisor
    policy: EntitlementPolicy
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def start(self, *, login_hint: str | None) -> LoginAttempt:
        """Returns a new attempt; its state and verifier are for this browser only."""
        return self.oauth.start(login_hint=login_hint)

    async def finish(self, *, code: str, code_verifier: str, replaces: str | None) -> SignedIn:
        """Exchanges the code, saves the person's data and opens a session in place of `replaces`.

        GitHub is asked twice in sequence: for the token, then for everything else at once. The
        token is revoked in the background, whether the rest succeeds or not.

        Raises:
            LoginError: GitHub rejects the code.
            GitHubError: `/user` or the token endpoint gave no usable answer. Without e-mail
                addresses or sponsorships the sign-in goes on, and the stored ones are kept.
            StoreError: The local Redis could not save the person.
        """
        token = await self.oauth.fetch_token(code=code, code_verifier=code_verifier)
        try:
            fetched = await self.fetcher.fetch(token)
        finally:
            self.background.start_once("revoke a login's token", self.oauth.revoke_token(token))
        for _ in range(_TRIES):
            signed_in = await self._try_to_save(fetched, replaces=replaces)
            if signed_in is not None:
                return signed_in
        raise StoreUnavailableError(
            "Your sponsorship data keeps changing at this moment. Please sign in again."
        )

    async def _try_to_save(self, fetched: FetchedUser, *, replaces: str | None) -> SignedIn | None:
        """Saves the person and opens a session; returns None if stored facts changed meanwhile."""
        now = self.clock()
        user = fetched.user
        before = await self.people.load_account_for_login(user.id)
        profile = Profile(
            id=user.id,
            login=user.login,
            name=user.name,
            email=_choose_email(fetched, before.profile),
            avatar_url=user.avatar_url,
            first_seen=before.profile.first_seen if before.profile else now,
            last_login=now,
        )
        entitlements = []
        for sponsorable, stored in before.entitlements.items():
            facts = await self._derive_facts(sponsorable, fetched, stored.facts, now)
            if self.members is not None:
                facts = await self.members.record_memberships(
                    user.id, sponsorable, facts, fetched.memberships, asked_at=fetched.asked_at
                )
            entitlements.append(StoredEntitlement(facts, stored.version))
        session_token = await self.people.save_login(profile, entitlements, replaces=replaces)
        if session_token is None:
            return None
        _log.info("signed_in", person=user.id, entitlement_known=fetched.sponsorships is not None)
        return SignedIn(profile=profile, session_token=session_token)

    async def _derive_facts(
        self,
        sponsorable: str,
        fetched: FetchedUser,
        previous: EntitlementFacts | None,
        now: datetime,
    ) -> EntitlementFacts | None:
        shown = fetched.sponsorships
        if shown is None:
            return mark_unknown(previous, now=now)
        if is_not_older(previous, fetched.asked_at):
            return previous
        facts = derive_facts(sponsorable, shown, previous=previous, policy=self.policy, now=now)
        if (
            self.schedule is None
            or previous is None
            or is_better(facts, previous, now=now)
            or not may_be_hidden(sponsorable, shown, previous=previous, now=now)
        ):
            return facts
        # GitHub may hide a private sponsorship from the person's token, but not from the
        # maintainer's. So a reconcile is requested, and the previous facts stay until then.
        await self.schedule.request(sponsorable)
        return previous


def _choose_email(fetched: FetchedUser, before: Profile | None) -> str | None:
    """Returns the address to store: the previous one if GitHub did not show the addresses."""
    if fetched.emails is None and before is not None:
        return before.email
    return choose_email(fetched.user, fetched.emails or ())
