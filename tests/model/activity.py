"""Random operations of people: changes, reads, logins, deletions and overrides."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias, cast

from redis.exceptions import RedisError

from sponsorsync.store import keys
from tests.gears.real import REAL_COMMAND
from tests.model.run import ITEMS, Person, Run
from tests.model.truth import EntitlementValue, OverrideValue
from tests.model.world import COLLECTIONS, GearsServer, LostAnswerError, Replica

_Act: TypeAlias = Callable[[Person, Replica, random.Random], Awaitable[None]]


class Activity:
    """Performs random operations; those of one person one after another."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def live(self, person: Person, rng: random.Random) -> None:
        """Performs operations of one person until the run is over."""
        while not self._run.is_over:
            async with person.lock:
                if person.may_be_changed_later:
                    await self._run.world.wait_until_nothing_is_held()
                    person.may_be_changed_later = False
                await self._run.record_if_clean(person)
                replica = self._run.world.choose_replica(rng)
                if replica is not None:
                    await self._act(person, replica, rng)
            await asyncio.sleep(rng.uniform(0, 0.06))

    async def _act(self, person: Person, replica: Replica, rng: random.Random) -> None:
        has_account = person.truth.names != {None}
        acts: dict[_Act, float] = {
            self._change: 10 if has_account else 0,
            self._read: 5 if has_account else 1,
            self._log_in: 3 if has_account else 6,
            self._delete: 0.4 if has_account else 0,
            self._add_override: 1.5 if has_account else 0.5,
            self._remove_override: 1 if has_account else 0.1,
        }
        if isinstance(self._run.world.local, GearsServer) and has_account:
            acts[self._read_directly] = 4
            # The host captures a write after it was done. A kill in between loses the write, which
            # cannot happen in RedisGears.
            acts[self._add_directly] = 3 if REAL_COMMAND else 0
        act = rng.choices(list(acts), list(acts.values()))[0]
        await act(person, replica, rng)

    async def _change(self, person: Person, replica: Replica, rng: random.Random) -> None:
        collection = rng.choice(COLLECTIONS)
        items = rng.sample(ITEMS, rng.choice((1, 1, 2, 4)))
        is_add = {item: rng.random() < 0.55 for item in items}
        now = time.time()
        answer = await self._call(
            person,
            replica,
            op="change",
            collection=collection,
            add=[item for item in items if is_add[item]],
            remove=[item for item in items if not is_add[item]],
        )
        changed = None if answer is None else answer["ok"]
        person.truth.change(
            {(collection, item): is_there for item, is_there in is_add.items()},
            is_sure=answer is not None,
            creates_version=answer is not None and changed != 0,
            now=now,
        )
        if answer is not None and changed is None:
            self._run.outcome.counts["pending"] += 1

    async def _read(self, person: Person, replica: Replica, rng: random.Random) -> None:
        collection = rng.choice(COLLECTIONS)
        answer = await self._call(person, replica, is_write=False, op="read", collection=collection)
        if answer is not None:
            self._run.complain(person, person.truth.wrong_in_read(collection, answer["ok"]))

    async def _log_in(self, person: Person, replica: Replica, rng: random.Random) -> None:
        now = time.time()
        entitlement, until = rng.choices(
            (
                (True, None),
                (True, now + rng.uniform(0.5, 3)),
                (True, now - 1),
                (False, None),
                (None, None),
            ),
            (6, 2, 1, 1, 1.5),
        )[0]
        until = None if until is None else float(int(until))
        person.logins += 1
        name = f"login {person.logins}"
        answer = await self._call(
            person, replica, op="login", name=name, entitled=entitlement, until=until
        )
        person.truth.login(
            name,
            None if entitlement is None else EntitlementValue(entitlement, until),
            is_sure=answer is not None,
            now=now,
        )

    async def _add_override(self, person: Person, replica: Replica, rng: random.Random) -> None:
        """Adds an override; the service refuses it while it cannot reach the stored data."""
        now = time.time()
        person.decisions += 1
        until = rng.choice((None, float(int(now + rng.uniform(1, 4)))))
        override = OverrideValue(person.decisions, until)
        answer = await self._call(
            person, replica, op="add_override", cents=override.cents, until=until
        )
        if answer is None or answer["ok"]:
            person.truth.decide(override, is_sure=answer is not None, now=now)
        else:
            self._run.outcome.counts["override refused"] += 1

    async def _remove_override(self, person: Person, replica: Replica, _: random.Random) -> None:
        now, possible = time.time(), person.truth.overrides
        answer = await self._call(person, replica, op="remove_override")
        had = None if answer is None else answer["ok"]
        if answer is not None and had is None:
            self._run.outcome.counts["removal refused"] += 1
            return
        if had is not None and had not in {each is not None for each in possible}:
            self._run.complain(person, [f"override removed: {had}, may be {possible}"])
        person.truth.decide(None, is_sure=answer is not None, now=now)

    async def _delete(self, person: Person, replica: Replica, _: random.Random) -> None:
        answer = await self._call(person, replica, op="delete")
        person.truth.delete(is_sure=answer is not None)

    async def _read_directly(self, person: Person, _: Replica, rng: random.Random) -> None:
        """Reads a set on local without the service, as the application does."""
        collection = rng.choice(COLLECTIONS)
        self._run.outcome.counts["direct read"] += 1
        with suppress(RedisError, OSError):
            # Changes that wait for durable are not in the set yet.
            if not await self._run.world.look_local.exists(keys.pending(person.id)):
                found = await self._load_set(keys.preferences(person.id, collection))
                self._run.world.record(f"{person.id} direct {collection} -> {sorted(found)}")
                self._run.complain(person, person.truth.wrong_in_read(collection, found))

    async def _load_set(self, key: str) -> set[str]:
        return set(await cast("Awaitable[set[str]]", self._run.world.look_local.smembers(key)))

    async def _add_directly(self, person: Person, _: Replica, rng: random.Random) -> None:
        """Adds an item to a set on local without the service, as the application does."""
        collection, item = rng.choice(COLLECTIONS), rng.choice(ITEMS)
        self._run.outcome.counts["direct add"] += 1
        is_sure, now = False, time.time()
        with suppress(RedisError, OSError):
            if await self._run.world.look_local.exists(keys.pending(person.id)):
                return
            key = keys.preferences(person.id, collection)
            await self._run.world.look_local.sadd(key, item)
            is_sure = True
        self._run.world.record(f"{person.id} direct {collection} + {item}: {is_sure}")
        person.truth.change(
            {(collection, item): True}, is_sure=is_sure, creates_version=False, now=now
        )
        person.may_be_changed_later = person.may_be_changed_later or not is_sure

    async def _call(
        self, person: Person, replica: Replica, *, is_write: bool = True, op: str, **rest: object
    ) -> dict[str, Any] | None:
        """Performs an operation; returns the answer, or None if its effect is unknown."""
        operation = {"op": op, **rest}
        self._run.world.record(f"{person.id} r{replica.number} {operation}")
        self._run.outcome.counts[op] += 1
        try:
            answer = await replica.call({"person": person.id, **operation})
        except LostAnswerError:
            answer = {"lost": "killed"}
        self._run.world.record(f"{person.id} r{replica.number} -> {answer}")
        if "error" in answer:
            self._run.complain(person, [f"{operation}: {answer['error']}"])
        if "ok" in answer:
            return answer
        self._run.outcome.counts["unanswered"] += 1
        person.may_be_changed_later = person.may_be_changed_later or is_write
        return None

    async def read_at_random(self, rng: random.Random) -> None:
        """Reads random data during all operations, so that a fetch may run at any moment."""
        while not self._run.is_over:
            replica = self._run.world.choose_replica(rng)
            if replica is not None:
                operation: dict[str, Any] = {"op": rng.choice(("account", "read"))}
                operation |= {
                    "person": rng.choice(self._run.people).id,
                    "collection": rng.choice(COLLECTIONS),
                }
                with suppress(LostAnswerError):
                    answer = await replica.call(operation)
                    if "error" in answer:
                        self._run.complain(None, [f"{operation}: {answer['error']}"])
                self._run.outcome.counts["read beside"] += 1
            await asyncio.sleep(rng.uniform(0, 0.1))
