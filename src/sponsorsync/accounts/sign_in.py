"""A login from GitHub's code to a session: the one use case that needs GitHub and Redis alike."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import structlog

from sponsorsync.domain.account import SignedIn, StoredEntitlement
from sponsorsync.domain.errors import (
    GitHubError,
    GitHubUnreachableError,
    StoreUnavailableError,
)
from sponsorsync.domain.fact_derivation import (
    derive_facts,
    is_better,
    is_not_older,
    mark_unknown,
    may_be_hidden,
)
from sponsorsync.domain.profile import Profile, choose_email

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from sponsorsync.background import Supervisor
    from sponsorsync.domain.account import LoginAttempt
    from sponsorsync.domain.entitlement import EntitlementFacts, EntitlementPolicy
    from sponsorsync.domain.profile import EmailAddress, GitHubUser
    from sponsorsync.domain.sponsorship import Memberships, Sponsorship
    from sponsorsync.entitlements.organization_members import Members
    from sponsorsync.github.client import GitHubClient
    from sponsorsync.github.oauth import GitHubOAuth
    from sponsorsync.reconcile.schedule import ReconcileSchedule
    from sponsorsync.store.people import PeopleStore

T = TypeVar("T")

# A webhook, a comparison or another login may change the same entitlement meanwhile.
_TRIES = 5

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answers:
    """What GitHub said at one login; None where it did not say all of it, or was not asked.

    Attributes:
        asked_at: The moment before it was asked.
    """

    asked_at: datetime
    user: GitHubUser
    emails: Sequence[EmailAddress] | None
    sponsorships: Sequence[Sponsorship] | None
    memberships: Memberships | None


class Questions:
    """What is asked of GitHub at a login, with the person's own token."""

    def __init__(
        self,
        github: GitHubClient,
        *,
        sponsorables: Sequence[str],
        wants_memberships: bool,
        timeout_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._github = github
        self._sponsorables = sponsorables
        self._wants_memberships = wants_memberships
        self._timeout_s = timeout_s
        self._clock = clock

    async def fetch(self, token: str) -> Answers:
        """Returns what GitHub says to all of it at once.

        Raises:
            GitHubError: `/user` gave no usable answer.
        """
        asked_at = self._clock()
        try:
            async with asyncio.TaskGroup() as group:
                user = group.create_task(self._in_time(self._github.fetch_user(token)))
                emails = group.create_task(
                    self._or_none(self._github.fetch_emails(token), what="e-mail addresses")
                )
                sponsorships = group.create_task(
                    self._or_none(
                        self._github.fetch_sponsorships(token, self._sponsorables),
                        what="sponsorships",
                    )
                )
                memberships = group.create_task(self._fetch_memberships(token))
        except* GitHubError as failures:
            # Only /user can fail here, so it is the one exception of the group.
            raise failures.exceptions[0] from None
        return Answers(
            asked_at=asked_at,
            user=user.result(),
            emails=emails.result(),
            sponsorships=sponsorships.result(),
            memberships=memberships.result(),
        )

    async def _fetch_memberships(self, token: str) -> Memberships | None:
        if not self._wants_memberships:
            return None
        return await self._or_none(
            self._github.fetch_memberships(token, self._sponsorables), what="organizations"
        )

    async def _in_time(self, call: Coroutine[None, None, T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except TimeoutError:
            raise GitHubUnreachableError("GitHub did not answer in time.") from None

    async def _or_none(self, call: Coroutine[None, None, T], *, what: str) -> T | None:
        try:
            return await self._in_time(call)
        except GitHubError as error:
            _log.warning("github_left_unknown", what=what, reason=str(error))
            return None


class Login:
    """Takes people from `GET /login` to a session."""

    def __init__(
        self,
        *,
        oauth: GitHubOAuth,
        questions: Questions,
        people: PeopleStore,
        members: Members | None,
        schedule: ReconcileSchedule | None,
        background: Supervisor,
        policy: EntitlementPolicy,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._oauth = oauth
        self._questions = questions
        self._people = people
        self._members = members
        self._schedule = schedule
        self._background = background
        self._policy = policy
        self._clock = clock

    @property
    def issuer(self) -> str:
        """What `iss` in a callback has to be when it is there."""
        return self._oauth.issuer

    def start(self, *, login_hint: str | None) -> LoginAttempt:
        """Returns a new attempt; its state and verifier belong to this browser alone."""
        return self._oauth.start(login_hint=login_hint)

    async def finish(self, *, code: str, code_verifier: str, replaces: str | None) -> SignedIn:
        """Returns who signed in, after all of it is kept.

        GitHub is asked twice in sequence: for the token, then for everything else at once. The
        token is revoked behind the answer, whether the rest went well or not.

        Args:
            code: From the callback.
            code_verifier: Of the attempt (PKCE).
            replaces: The session token that the browser had before, if any.

        Raises:
            LoginError: GitHub does not take the code.
            GitHubError: `/user` or the token endpoint gave no usable answer. That sponsorships or
                e-mail addresses could not be had is no reason to fail: they stay as they were.
            StoreError: The local Redis could not keep it.
        """
        token = await self._oauth.fetch_token(code=code, code_verifier=code_verifier)
        try:
            answers = await self._questions.fetch(token)
        finally:
            self._background.start_once("revoke a login's token", self._oauth.revoke_token(token))
        return await self._save(answers, replaces=replaces)

    async def _save(self, answers: Answers, *, replaces: str | None) -> SignedIn:
        for _ in range(_TRIES):
            signed_in = await self._try_to_save(answers, replaces=replaces)
            if signed_in is not None:
                return signed_in
        raise StoreUnavailableError("Somebody else keeps changing your entitlement.")

    async def _try_to_save(self, answers: Answers, *, replaces: str | None) -> SignedIn | None:
        """Judges on what is known now; returns None where that has changed meanwhile."""
        now = self._clock()
        user = answers.user
        before = await self._people.load_account_for_login(user.id)
        profile = Profile(
            id=user.id,
            login=user.login,
            name=user.name,
            email=_email_of(answers, before.profile),
            avatar_url=user.avatar_url,
            first_seen=before.profile.first_seen if before.profile else now,
            last_login=now,
        )
        entitlements = [
            StoredEntitlement(
                await self._evaluate(user.id, sponsorable, answers, known.facts, now), known.version
            )
            for sponsorable, known in before.entitlements.items()
        ]
        session_token = await self._people.save_login(profile, entitlements, replaces=replaces)
        if session_token is None:
            return None
        _log.info("signed_in", person=user.id, entitlement_known=answers.sponsorships is not None)
        return SignedIn(profile=profile, session_token=session_token)

    async def _evaluate(
        self,
        person_id: int,
        sponsorable: str,
        answers: Answers,
        previous: EntitlementFacts | None,
        now: datetime,
    ) -> EntitlementFacts | None:
        facts = await self._derive_facts(sponsorable, answers, previous, now)
        if self._members is None:
            return facts
        return await self._members.see(
            person_id, sponsorable, facts, answers.memberships, asked_at=answers.asked_at
        )

    async def _derive_facts(
        self, sponsorable: str, answers: Answers, previous: EntitlementFacts | None, now: datetime
    ) -> EntitlementFacts | None:
        if answers.sponsorships is None:
            return mark_unknown(previous, now=now)
        if is_not_older(previous, answers.asked_at):
            return previous
        given = answers.sponsorships
        told = derive_facts(sponsorable, given, previous=previous, policy=self._policy, now=now)
        is_doubtful = may_be_hidden(sponsorable, given, previous=previous, now=now)
        if (
            is_doubtful
            and previous is not None
            and not is_better(told, previous, now=now)
            and self._schedule is not None
            and await self._schedule.request(sponsorable)
        ):
            return previous
        return told


def _email_of(answers: Answers, before: Profile | None) -> str | None:
    """What could not be read stays as it was."""
    if answers.emails is None and before is not None:
        return before.email
    return choose_email(answers.user, answers.emails or ())
