"""Sign-ins during other changes of the same entitlement do not overwrite newer facts."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from sponsorsync.domain.account import Account
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.sandbox.github import SimulatedGitHub
from sponsorsync.store import keys
from sponsorsync.store.people import PeopleStore
from sponsorsync.web.services import Services
from tests.conftest import SPONSORABLE
from tests.support.use_cases import ADMIN, MONTHLY, UseCases, find_sponsorship


@dataclass
class BusyPeople:
    """A PeopleStore with changes by others between the load and the save of a sign-in.

    Attributes:
        meanwhile: Changes that are each made once: the first one at the first load, and so on.
        always: A change that is made at every load.
        loads: How often a sign-in loaded the stored facts.
    """

    people: PeopleStore
    meanwhile: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    always: Callable[[], Awaitable[object]] | None = None
    loads: int = 0

    async def load_account_for_login(self, person_id: int) -> Account:
        """Loads the account, then makes the changes by others."""
        self.loads += 1
        account = await self.people.load_account_for_login(person_id)
        if self.meanwhile:
            await self.meanwhile.pop(0)()
        if self.always is not None:
            await self.always()
        return account

    async def save_login(self, *arguments: Any, **more: Any) -> str | None:  # noqa: ANN401 - its own
        """Saves the sign-in, unchanged."""
        return await self.people.save_login(*arguments, **more)


@pytest.fixture
def people(services: Services) -> BusyPeople:
    """Replaces the PeopleStore of the service's sign-in."""
    busy = BusyPeople(services.people)
    services.sign_in.people = cast("PeopleStore", busy)
    return busy


async def _override(use_cases: UseCases) -> None:
    await use_cases.services.overrides.put(MONTHLY, SPONSORABLE, ADMIN, cents=500, until=None)


async def test_an_override_during_a_sign_in_stays(use_cases: UseCases, people: BusyPeople) -> None:
    """The sign-in loads again, so the sponsorship and the override are both saved."""
    people.meanwhile = [partial(_override, use_cases)]
    await use_cases.sign_in()

    facts = await use_cases.load_facts()
    assert (facts.source, facts.tier_cents) == (EntitlementSource.SPONSORSHIP, 1000)
    assert [(each.source, each.cents) for each in facts.grants] == [
        (EntitlementSource.OVERRIDE, 500)
    ]
    assert people.loads == 2


async def test_a_removed_override_stays_removed(use_cases: UseCases, people: BusyPeople) -> None:
    """An administrator removes it during the sign-in, which has loaded it, and must not save it."""
    await _override(use_cases)
    remove = use_cases.services.overrides.remove
    people.meanwhile = [partial(remove, MONTHLY, SPONSORABLE, ADMIN)]
    await use_cases.sign_in()

    assert (await use_cases.load_facts()).grants == ()
    assert people.loads == 2


async def test_an_announced_end_during_a_sign_in_stays(
    use_cases: UseCases, people: BusyPeople, github: SimulatedGitHub
) -> None:
    """Only the webhook reports an announced end, so the sign-in must not overwrite it."""
    await use_cases.sign_in()
    people.loads = 0
    ends = use_cases.clock.now + timedelta(days=365)
    announce = partial(use_cases.receive, "pending_cancellation", find_sponsorship(github))
    people.meanwhile = [partial(announce, effective_date=ends)]
    await use_cases.sign_in()

    assert (await use_cases.load_facts()).valid_until == ends
    assert people.loads == 2


@pytest.mark.usefixtures("people")
async def test_two_sign_ins_of_one_person_at_once_open_two_sessions(use_cases: UseCases) -> None:
    """Two browsers sign in; both sessions and the stored override stay."""
    await _override(use_cases)
    both = await asyncio.gather(use_cases.sign_in(), use_cases.sign_in())

    tokens = {each.session_token for each in both}
    assert len(tokens) == 2
    holders = [await use_cases.services.people.load_session(token) for token in tokens]
    assert holders == [MONTHLY, MONTHLY]
    facts = await use_cases.load_facts()
    assert facts.source is EntitlementSource.SPONSORSHIP
    assert [each.source for each in facts.grants] == [EntitlementSource.OVERRIDE]


async def test_a_sign_in_gives_up_while_others_keep_changing_the_entitlement(
    use_cases: UseCases, people: BusyPeople, local: Redis
) -> None:
    """After five attempts the sign-in fails, and has saved nothing."""
    people.always = partial(_override, use_cases)
    with pytest.raises(StoreUnavailableError, match="keeps changing"):
        await use_cases.sign_in()

    assert people.loads == 5
    assert await local.exists(keys.user_details(MONTHLY), keys.sessions(MONTHLY)) == 0
    assert [key async for key in local.scan_iter("sponsorsync:session:*")] == []
    entries = await use_cases.services.audit.load(before=None, limit=100)
    assert {entry.by for entry in entries} == {"override"}
