"""One replica of the service without HTTP, as a process that may be killed at any moment.

It opens both servers and runs the engine like the service. It reads operations as JSON lines from
stdin, and writes a line with the answer to each to stdout. It ends when stdin or its parent ends.
"""

import asyncio
import ctypes
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import structlog
from pydantic import SecretStr

from sponsorsync.background import open_supervisor
from sponsorsync.domain.account import StoredEntitlement
from sponsorsync.domain.audit import Decision
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.errors import (
    DurableUnavailableError,
    InvalidInputError,
    NotFoundError,
    StoreUnavailableError,
)
from sponsorsync.domain.fact_derivation import mark_unknown
from sponsorsync.domain.preferences import PreferenceRules
from sponsorsync.domain.profile import Profile
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.entitlements.overrides import Overrides
from sponsorsync.github.client import GitHubClient
from sponsorsync.redis_pair import create_entitlements, open_redis_pair
from sponsorsync.settings import Settings
from sponsorsync.store.people import PeopleStore
from sponsorsync.store.preferences import PreferenceStore

Message = dict[str, Any]

_PR_SET_PDEATHSIG = 1
_TRIES = 5
_ADMIN = Decision("admin", "the model")


@dataclass(frozen=True)
class Replica:
    """Performs the operations, each by the calls that the route of the web makes."""

    people: PeopleStore
    preferences: PreferenceStore
    overrides: Overrides
    sponsorable: str

    async def answer(self, message: Message) -> Message:
        """Performs an operation; `unavailable` means that the web would answer 503."""
        operations: dict[str, Callable[[Message], Awaitable[object]]] = {
            "change": self._change,
            "read": self._read,
            "login": self._login,
            "account": self._account,
            "delete": self._delete,
            "add_override": self._add_override,
            "remove_override": self._remove_override,
        }
        try:
            return {"ok": await operations[message["op"]](message)}
        except StoreUnavailableError as error:
            return {"unavailable": str(error)}
        except Exception as error:  # noqa: BLE001 - the driver reports it with its history
            return {"error": f"{type(error).__name__}: {error}"}

    async def _change(self, message: Message) -> object:
        result = await self.preferences.change(
            message["person"], message["collection"], add=message["add"], remove=message["remove"]
        )
        # None for a change that waits for durable: how many items it will change is unknown.
        return None if result.is_pending else (result.added or 0) + (result.removed or 0)

    async def _read(self, message: Message) -> object:
        state = await self.preferences.load(message["person"], message["collection"])
        return list(state.items)

    async def _login(self, message: Message) -> object:
        for _ in range(_TRIES):
            if await self._try_to_log_in(message):
                return None
        raise StoreUnavailableError("Another writer keeps changing this entitlement.")

    async def _try_to_log_in(self, message: Message) -> bool:
        now = datetime.now(UTC)
        person_id = message["person"]
        before = await self.people.load_account_for_login(person_id)
        profile = Profile(
            id=person_id,
            login=f"person-{person_id}",
            name=message["name"],
            email=None,
            avatar_url=None,
            first_seen=before.profile.first_seen if before.profile else now,
            last_login=now,
        )
        if message["entitled"] is None:
            # GitHub did not answer; `sponsorsync.accounts.sign_in` does the same then.
            entitlements = [
                StoredEntitlement(mark_unknown(stored.facts, now=now), stored.version)
                for stored in before.entitlements.values()
            ]
        else:
            until, stored = message["until"], before.entitlements[self.sponsorable]
            facts = replace(
                stored.facts or EntitlementFacts(sponsorable=self.sponsorable, checked_at=now),
                checked_at=now,
                unknown_since=None,
                source=EntitlementSource.SPONSORSHIP
                if message["entitled"]
                else EntitlementSource.NONE,
                valid_until=None if until is None else datetime.fromtimestamp(until, UTC),
            )
            entitlements = [StoredEntitlement(facts, stored.version)]
        return await self.people.save_login(profile, entitlements, replaces=None) is not None

    async def _account(self, message: Message) -> object:
        account = await self.people.load_account(message["person"])
        return None if account.profile is None else account.profile.name

    async def _delete(self, message: Message) -> object:
        await self.people.delete_account(message["person"])
        return None

    async def _add_override(self, message: Message) -> object:
        """Adds an override; returns whether it was added and not refused."""
        until = message["until"]
        try:
            await self.overrides.put(
                message["person"],
                self.sponsorable,
                _ADMIN,
                cents=message["cents"],
                until=None if until is None else datetime.fromtimestamp(until, UTC),
            )
        except (DurableUnavailableError, InvalidInputError):  # invalid: the end has passed
            return False
        return True

    async def _remove_override(self, message: Message) -> object:
        """Removes the override; returns whether there was one, or None if this is unknown."""
        try:
            await self.overrides.remove(message["person"], self.sponsorable, _ADMIN)
        except DurableUnavailableError:
            return None
        except NotFoundError:
            return False
        return True


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    config = json.loads(await reader.readline())
    sponsorables, collections = (config["sponsorable"],), tuple(config["collections"])
    settings = Settings.model_construct(
        redis_url=SecretStr(config["local"]),
        durable_url=SecretStr(config["durable"]),
        sponsorables=sponsorables,
        collections=collections,
        manage_notifications=True,
        engine=config["engine"],
    )
    async with AsyncExitStack() as stack:
        redis_pair = await open_redis_pair(stack, settings)
        if redis_pair.engine is None:
            raise AssertionError("the settings have a durable")
        redis_pair.engine.start(await stack.enter_async_context(open_supervisor()))
        people = PeopleStore(
            redis_pair.local,
            catalog=settings.catalog,
            session_life=timedelta(days=1),
            fetcher=redis_pair.engine.hydrator,
        )
        rules = PreferenceRules(
            collections=collections, max_items=1000, max_item_bytes=256, max_batch=100
        )
        preferences = PreferenceStore(redis_pair.local, rules, redis_pair.engine.hydrator)
        overrides = Overrides(
            create_entitlements(settings, redis_pair, people),
            cast("GitHubClient", None),  # only lookups by login use it
            token=None,
            policy=settings.entitlement_policy,
            clock=lambda: datetime.now(UTC),
        )
        replica = Replica(people, preferences, overrides, config["sponsorable"])
        await _answer_all(reader, replica)


async def _answer_all(reader: asyncio.StreamReader, replica: Replica) -> None:
    async def answer(message: Message) -> None:
        _write({"n": message["n"], **await replica.answer(message)})

    _write({"n": 0, "ok": "ready"})
    tasks: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        task = asyncio.create_task(answer(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def _write(message: Message) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Runs the replica until stdin ends."""
    # A process stopped by SIGSTOP does not notice the end of stdin, so the kernel kills it when the
    # parent ends.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
