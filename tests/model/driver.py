"""Moves people and faults at random, from a seed, and says what came out other than it must.

Each person's operations follow one another; those of different people, the faults and some readers
who do not care run at once. So the order of what one person did is known, and `truth.py` can say
what has to be there.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, cast

from sponsorsync.store import keys
from tests.model.activity import Activity
from tests.model.faults import Faults
from tests.model.run import Outcome, Person, Run
from tests.model.world import (
    COLLECTIONS,
    SPONSORABLE,
    BrokenReplicaError,
    open_world,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path


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
    """Runs everything for a while, lets it come to rest, and compares.

    Args:
        seed: Of all choices; how they meet is up to the machine.
        directory: For the servers' data and the replicas' logs.
        active_s: How long there are operations and faults.
        engine: 'plain', or 'gears': scripts drain, and people are read past the service as well.
        people: How many.
        replicas: Processes of the service.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret
    async with open_world(directory, rng, replicas=replicas, engine=engine) as world:
        outcome = Outcome(seed, history=world.history)
        model = _Model(Run(world, rng, outcome, [Person(_FIRST_PERSON + i) for i in range(people)]))
        try:
            await model.run(active_s)
        except* BrokenReplicaError as failures:
            outcome.wrong += map(str, failures.exceptions)
        outcome.wrong += _complaints(directory)
        return outcome


def _complaints(directory: Path) -> list[str]:
    """Returns what no fault of the surroundings explains, from the replicas' logs."""
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
                group.create_task(activity.read_for_nothing(self._run.fork()))
                group.create_task(faults.break_things(self._run.fork()))
        if self._run.outcome.wrong:
            return
        self._run.world.note("all faults end")
        await self._run.world.end_all_faults()
        await self._come_to_rest()
        if not self._run.outcome.wrong:
            await self._compare()

    async def _come_to_rest(self) -> None:
        ends = time.monotonic() + _REST_S
        started = time.monotonic()
        while waiting := await self._who_waits():
            if time.monotonic() > ends:
                self._run.complain(None, [f"never came to rest: {waiting}"])
                return
            await asyncio.sleep(_POLL_S)
        self._run.world.note(f"at rest after {time.monotonic() - started:.1f} s")

    async def _who_waits(self) -> list[str]:
        local, durable = self._run.world.look_local, self._run.world.look_durable
        now = time.time()
        # Before the dirty: the sweep makes one of these of the other.
        ended = await local.zcount(keys.ENTITLEMENT_ENDS, "-inf", now)
        dirty = {
            int(each) for each in await cast("Awaitable[set[str]]", local.smembers(keys.DIRTY))
        }
        waiting = [
            f"pending of {p.id}" for p in self._run.people if await local.exists(keys.pending(p.id))
        ]
        for person_id in sorted(dirty):
            entitlement = keys.sponsorship(SPONSORABLE, person_id)
            # Whose entitlement nobody ever told stays dirty: there is still something to be learnt.
            if await local.exists(entitlement) or await durable.exists(entitlement):
                waiting.append(f"dirty {person_id}")
        if ended:
            waiting.append("an entitlement has ended, and the sweep has not come by")
        waiting += [
            f"entitlement of {person.id} ends"
            for person in self._run.people
            for entitlement in (*person.truth.entitlements, *person.truth.overrides)
            if entitlement is not None
            and entitlement.is_entitled(now)
            and entitlement.until is not None
        ]
        return waiting

    async def _compare(self) -> None:
        """Through the service first, so that what was lost alone comes back; then both sides."""
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
        """Nothing is broken any more; only what was remembered of a fault may take a moment."""
        ends = time.monotonic() + _REST_S
        while True:
            replica = self._run.rng.choice(self._run.world.replicas)
            answer = await replica.call({"person": person.id, **operation})
            if "ok" in answer:
                return answer
            if "error" in answer or time.monotonic() > ends:
                raise BrokenReplicaError(f"{operation} of {person.id} at the end: {answer}")
            await asyncio.sleep(_POLL_S)
