"""Overrides: entitlements that an administrator grants by hand to any GitHub account."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from sponsorsync.domain.audit import Decision
from sponsorsync.domain.entitlement import (
    Entitlement,
    EntitlementFacts,
    EntitlementPolicy,
    evaluate,
)
from sponsorsync.domain.errors import InvalidInputError, NotFoundError
from sponsorsync.domain.sources import EntitlementSource, Grant
from sponsorsync.entitlements.grants import find_grant, replace_grant
from sponsorsync.github.client import GitHubClient
from sponsorsync.store.entitlements import EntitlementStore

# A number at GitHub has no leading zero: '007' is a login.
_NUMBER = re.compile(r"[1-9][0-9]{0,14}")
_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9])?")


@dataclass
class Overrides:
    """Grants and removes overrides; each change is recorded in the audit trail."""

    entitlements: EntitlementStore
    github: GitHubClient
    token: SecretStr | None
    policy: EntitlementPolicy
    clock: Callable[[], datetime]

    async def find_person(self, who: str) -> int:
        """Returns the number of the account that `who` names by its number or login.

        Asks GitHub for the number of a login. Overrides are saved by number, since an account may
        change its login, and another account may then take it.

        Raises:
            InvalidInputError: `who` is neither a number nor a login.
            NotFoundError: GitHub has no account with this login.
            GitHubError: GitHub cannot be asked.
        """
        if _NUMBER.fullmatch(who):
            return int(who)
        if not _LOGIN.fullmatch(who):
            raise InvalidInputError("who: should be a person's GitHub number or login.")
        token = self.token.get_secret_value() if self.token else None
        account = await self.github.fetch_account_by_login(who, token)
        if account is None:
            raise NotFoundError(f"GitHub knows no account {who}.")
        return account.id

    async def put(
        self,
        person_id: int,
        sponsorable: str,
        decision: Decision,
        *,
        cents: int | None,
        until: datetime | None,
    ) -> Entitlement:
        """Saves an override in place of an earlier one; returns the entitlement.

        The person need not have signed in; the sponsorable is lower-case. `cents` is the price of
        the tier that the override stands for; None entitles only where no minimum is required.
        `until` is the exclusive end, with a time zone; None for no end.

        Raises:
            InvalidInputError: The end is in the past.
            DurableUnavailableError: Only durable has the person's other facts, and it is down.
            StoreUnavailableError: Local is down.
        """
        now = self.clock().replace(microsecond=0)  # Redis stores whole seconds
        if until is not None and until <= now:
            raise InvalidInputError("until: should be a moment that is still to come.")

        def decide(stored: EntitlementFacts | None) -> EntitlementFacts:
            facts = stored or EntitlementFacts(sponsorable=sponsorable, checked_at=None)
            former = find_grant(facts, EntitlementSource.OVERRIDE)
            override = Grant(
                source=EntitlementSource.OVERRIDE,
                since=former.since if former and former.is_entitling(now) else now,
                until=until,
                cents=cents,
                reason=decision.reason,
                actor=decision.actor,
            )
            return replace_grant(facts, EntitlementSource.OVERRIDE, override)

        return await self._change(person_id, sponsorable, decide, decision)

    async def remove(self, person_id: int, sponsorable: str, decision: Decision) -> Entitlement:
        """Removes an override; returns the entitlement by the person's other grants.

        Raises:
            NotFoundError: There is no override.
            DurableUnavailableError, StoreUnavailableError: See `put`.
        """

        def decide(stored: EntitlementFacts | None) -> EntitlementFacts:
            if stored is None or find_grant(stored, EntitlementSource.OVERRIDE) is None:
                raise NotFoundError(f"There is no override for person {person_id}.")
            return replace_grant(stored, EntitlementSource.OVERRIDE, None)

        return await self._change(person_id, sponsorable, decide, decision)

    async def _change(
        self,
        person_id: int,
        sponsorable: str,
        decide: Callable[[EntitlementFacts | None], EntitlementFacts],
        decision: Decision,
    ) -> Entitlement:
        _, facts = await self.entitlements.change(
            sponsorable, person_id, decide, by="override", reference=str(decision), for_certain=True
        )
        return evaluate(sponsorable, facts, policy=self.policy, now=self.clock())
