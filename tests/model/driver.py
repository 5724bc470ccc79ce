"""Runs random people and faults from a seed, and compares the stored with the expected data.

The operations of one person run one after another; different people, faults and readers run
concurrently. So the order of a person's operations is known, and `truth.py` derives the expected
data from it.
"""

import asyncio
import random
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, cast

from sponsorsync.store import keys
from tests.model.activity import Activity
from tests.model.faults import Faults
from tests.model.run import Outcome, Person, Run
from tests.model.world import COLLECTIONS, SPONSORABLE, BrokenReplicaError, open_world

_FIRST_PERSON = 48_210_001
_REST_S = 45.0
_POLL_S = 0.1


async def run_model(
    seed: int,
    directory: Path,
    *,
    active_s: float,
    engine: str = "plain",
    people: int = 5,
    replicas: int = 3,
) -> Outcome:
    """Runs people and faults for `active_s`, waits until all changes are sent, and compares.

    The seed decides all choices, but their interleaving depends on the machine. With the engine
    'gears', scripts in Redis send the changes, and people also read without the service.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret
    async with open_world(directory, rng, replicas=replicas, engine=engine) as world:
        outcome = Outcome(seed, history=world.history)
        model = _Model(Run(world, rng, outcome, [Person(_FIRST_PERSON + i) for i in range(people)]))
        try:
            await model.run(active_s)
        except* BrokenReplicaError as failures:
            outcome.wrong += map(str, failures.exceptions)
        outcome.wrong += _find_failures(directory)
        return outcome


def _find_failures(directory: Path) -> list[str]:
    """Returns the lines of the replicas' logs that show an unexpected error."""
    return [
        f"{log.name}: {line}"
        for log in sorted(directory.glob("replica-*.log"))
        for line in log.read_text(errors="replace").splitlines()
        if "loop_failed" in line or line.startswith("Traceback")
    ]


class _Model:
    def __init__(self, run: Run) -> None:
        self._run = run

    async def run(self, active_s: float) -> None:
        self._run.ends = time.monotonic() + active_s
        activity, faults = Activity(self._run), Faults(self._run)
        async with asyncio.TaskGroup() as group:
            for person in self._run.people:
                group.create_task(activity.live(person, self._run.fork()))
            for _ in range(2):
                group.create_task(activity.read_at_random(self._run.fork()))
                group.create_task(faults.break_things(self._run.fork()))
        if self._run.outcome.wrong:
            return
        self._run.world.record("all faults end")
        await self._run.world.end_all_faults()
        await self._come_to_rest()
        if not self._run.outcome.wrong:
            await self._compare()

    async def _come_to_rest(self) -> None:
        ends = time.monotonic() + _REST_S
        started = time.monotonic()
        while unfinished := await self._find_unfinished():
            if time.monotonic() > ends:
                self._run.complain(None, [f"never came to rest: {unfinished}"])
                return
            await asyncio.sleep(_POLL_S)
        self._run.world.record(f"at rest after {time.monotonic() - started:.1f} s")

    async def _find_unfinished(self) -> list[str]:
        local, durable = self._run.world.look_local, self._run.world.look_durable
        now = time.time()
        # Read before DIRTY, because the sweep turns an ended entitlement into a dirty person.
        ended = await local.zcount(keys.ENTITLEMENT_ENDS, "-inf", now)
        dirty = {
            int(each) for each in await cast("Awaitable[set[str]]", local.smembers(keys.DIRTY))
        }
        unfinished = [
            f"pending of {p.id}" for p in self._run.people if await local.exists(keys.pending(p.id))
        ]
        for person_id in sorted(dirty):
            entitlement = keys.sponsorship(SPONSORABLE, person_id)
            # A person without facts about an entitlement stays dirty until there are some.
            if await local.exists(entitlement) or await durable.exists(entitlement):
                unfinished.append(f"dirty {person_id}")
        if ended:
            unfinished.append("an entitlement has ended, and no sweep has run")
        unfinished += [
            f"entitlement of {person.id} ends"
            for person in self._run.people
            for entitlement in (*person.truth.entitlements, *person.truth.overrides)
            if entitlement is not None
            and entitlement.is_entitled(now)
            and entitlement.until is not None
        ]
        return unfinished

    async def _compare(self) -> None:
        """Compares local and durable, after reads by the service that restore all lost keys."""
        for person in self._run.people:
            for collection in COLLECTIONS:
                answer = await self._read_at_end(person, {"op": "read", "collection": collection})
                self._run.complain(person, person.truth.wrong_in_read(collection, answer["ok"]))
            await self._read_at_end(person, {"op": "account"})
        await self._come_to_rest()
        local = await self._run.load_all(self._run.world.look_local)
        durable = await self._run.load_all(self._run.world.look_durable)
        now = time.time()
        entitled = set()
        for person in self._run.people:
            here, there = local[person.id], durable[person.id]
            self._run.complain(person, person.truth.wrong_at_end(here, there, now))
            if here.is_entitled(now):
                entitled.add(str(person.id))
        for name, look in (
            ("local", self._run.world.look_local),
            ("durable", self._run.world.look_durable),
        ):
            index = await cast("Awaitable[set[str]]", look.smembers(keys.sponsors(SPONSORABLE)))
            if index != entitled:
                self._run.complain(None, [f"index on {name}: {index}, entitled are {entitled}"])

    async def _read_at_end(self, person: Person, operation: dict[str, Any]) -> dict[str, Any]:
        """Reads by the service, and retries while it is still unavailable after the last fault."""
        ends = time.monotonic() + _REST_S
        while True:
            replica = self._run.rng.choice(self._run.world.replicas)
            answer = await replica.call({"person": person.id, **operation})
            if "ok" in answer:
                return answer
            if "error" in answer or time.monotonic() > ends:
                raise BrokenReplicaError(f"{operation} of {person.id} at the end: {answer}")
            await asyncio.sleep(_POLL_S)
