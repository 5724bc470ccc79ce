"""Moves people and faults at random, from a seed, and says what came out other than it must.

Each person's operations follow one another; those of different people, the faults and some readers
who do not care run at once. So the order of what one person did is known, and `truth.py` can say
what has to be there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from redis.exceptions import RedisError

from sponsorsync.store import keys
from tests.gears.real import REAL_COMMAND
from tests.model.truth import CoverValue, Held, OverrideValue, Truth
from tests.model.world import (
    COLLECTIONS,
    SPONSORABLE,
    BrokenReplicaError,
    GearsServer,
    LostAnswerError,
    World,
    open_world,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.model.world import Replica, Server

_ITEMS = ("a", "b", "c", "d")
_UNIVERSE = tuple((collection, item) for collection in COLLECTIONS for item in _ITEMS)
_FIRST_PERSON = 48_210_001
_REST_S = 45.0
_POLL_S = 0.1
# Longer than the service waits for an answer, and than it takes others to sweep: what arrives then
# is older than what is there.
_LONG_STALL_S = 6.0

# DEL by hand of somebody of whom durable has everything. In one script, so that it is known.
_EVICT = """
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return -1 end
return redis.call('DEL', KEYS[2])
"""


@dataclass
class Outcome:
    """What a run did, and what it found.

    Attributes:
        counts: Operations and faults by name.
        wrong: What is not as it must be; empty when all is well.
        history: What happened, line by line.
    """

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)


@dataclass
class _Person:
    id: int
    truth: Truth = field(default_factory=lambda: Truth(_UNIVERSE))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    logins: int = 0
    decisions: int = 0
    may_be_changed_later: bool = False  # an answer was lost


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
        model = _Model(world, rng, outcome, [_Person(_FIRST_PERSON + i) for i in range(people)])
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


_Act: TypeAlias = "Callable[[_Person, Replica, random.Random], Awaitable[None]]"


class _Model:
    def __init__(
        self, world: World, rng: random.Random, outcome: Outcome, people: list[_Person]
    ) -> None:
        self._world = world
        self._rng = rng
        self._outcome = outcome
        self._people = people
        self._ends = 0.0
        # Who holds a server's or a replica's lock may break it.
        self._locks = {
            name: asyncio.Lock()
            for name in ("local", "durable", *(str(each.number) for each in world.replicas))
        }

    @property
    def _is_over(self) -> bool:
        return time.monotonic() > self._ends or bool(self._outcome.wrong)

    async def run(self, active_s: float) -> None:
        self._ends = time.monotonic() + active_s
        async with asyncio.TaskGroup() as group:
            for person in self._people:
                group.create_task(self._live(person, self._fork()))
            for _ in range(2):
                group.create_task(self._read_for_nothing(self._fork()))
                group.create_task(self._break_things(self._fork()))
        if self._outcome.wrong:
            return
        self._world.note("all faults end")
        await self._world.end_all_faults()
        await self._come_to_rest()
        if not self._outcome.wrong:
            await self._compare()

    def _fork(self) -> random.Random:
        """Each task has choices of its own: how they interleave changes none of them."""
        return random.Random(self._rng.getrandbits(64))  # noqa: S311 - no secret

    def _complain(self, person: _Person | None, wrong: list[str]) -> None:
        for each in wrong:
            text = f"{person.id if person else 'all'}: {each}"
            self._world.note(f"WRONG {text}")
            self._outcome.wrong.append(text)

    # ------------------------------------------------------------------ people

    async def _live(self, person: _Person, rng: random.Random) -> None:
        while not self._is_over:
            async with person.lock:
                if person.may_be_changed_later:
                    await self._world.wait_until_nothing_is_held()
                    person.may_be_changed_later = False
                await self._see_whether_clean(person)
                replica = self._world.choose_replica(rng)
                if replica is not None:
                    await self._act(person, replica, rng)
            await asyncio.sleep(rng.uniform(0, 0.06))

    async def _act(self, person: _Person, replica: Replica, rng: random.Random) -> None:
        has_account = person.truth.names != {None}
        acts: dict[_Act, float] = {
            self._change: 10 if has_account else 0,
            self._read: 5 if has_account else 1,
            self._log_in: 3 if has_account else 6,
            self._delete: 0.4 if has_account else 0,
            self._let_in: 1.5 if has_account else 0.5,
            self._let_go: 1 if has_account else 0.1,
        }
        if isinstance(self._world.local, GearsServer) and has_account:
            acts[self._read_directly] = 4
            # The host calls the capture after a write, the engine before it: killed in between,
            # only the host has one that nobody noted.
            acts[self._add_directly] = 3 if REAL_COMMAND else 0
        act = rng.choices(list(acts), list(acts.values()))[0]
        await act(person, replica, rng)

    async def _change(self, person: _Person, replica: Replica, rng: random.Random) -> None:
        collection = rng.choice(COLLECTIONS)
        items = rng.sample(_ITEMS, rng.choice((1, 1, 2, 4)))
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
            is_news=answer is not None and changed != 0,
            now=now,
        )
        if answer is not None and changed is None:
            self._outcome.counts["pending"] += 1

    async def _read(self, person: _Person, replica: Replica, rng: random.Random) -> None:
        collection = rng.choice(COLLECTIONS)
        answer = await self._call(person, replica, is_write=False, op="read", collection=collection)
        if answer is not None:
            self._complain(person, person.truth.wrong_in_read(collection, answer["ok"]))

    async def _log_in(self, person: _Person, replica: Replica, rng: random.Random) -> None:
        now = time.time()
        cover, until = rng.choices(
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
            person, replica, op="login", name=name, covered=cover, until=until
        )
        person.truth.login(
            name,
            None if cover is None else CoverValue(cover, until),
            is_sure=answer is not None,
            now=now,
        )

    async def _let_in(self, person: _Person, replica: Replica, rng: random.Random) -> None:
        """As an administrator does; it is refused while only durable knows, and is away."""
        now = time.time()
        person.decisions += 1
        until = rng.choice((None, float(int(now + rng.uniform(1, 4)))))
        override = OverrideValue(person.decisions, until)
        answer = await self._call(person, replica, op="let_in", cents=override.cents, until=until)
        if answer is None or answer["ok"]:
            person.truth.decide(override, is_sure=answer is not None, now=now)
        else:
            self._outcome.counts["not let in"] += 1

    async def _let_go(self, person: _Person, replica: Replica, _: random.Random) -> None:
        now, known = time.time(), person.truth.overrides
        answer = await self._call(person, replica, op="let_go")
        had = None if answer is None else answer["ok"]
        if answer is not None and had is None:
            self._outcome.counts["not let go"] += 1
            return
        if had is not None and had not in {each is not None for each in known}:
            self._complain(person, [f"let go: {had}, may be {known}"])
        person.truth.decide(None, is_sure=answer is not None, now=now)

    async def _delete(self, person: _Person, replica: Replica, _: random.Random) -> None:
        answer = await self._call(person, replica, op="delete")
        person.truth.delete(is_sure=answer is not None)

    async def _read_directly(self, person: _Person, _: Replica, rng: random.Random) -> None:
        """As the application reads: past the service."""
        collection = rng.choice(COLLECTIONS)
        self._outcome.counts["direct read"] += 1
        with suppress(RedisError, OSError):
            # What waits for durable is not in the set yet.
            if not await self._world.look_local.exists(keys.pending(person.id)):
                found = await self._load_set(keys.preferences(person.id, collection))
                self._world.note(f"{person.id} direct {collection} -> {sorted(found)}")
                self._complain(person, person.truth.wrong_in_read(collection, found))

    async def _load_set(self, key: str) -> set[str]:
        return set(await cast("Awaitable[set[str]]", self._world.look_local.smembers(key)))

    async def _add_directly(self, person: _Person, _: Replica, rng: random.Random) -> None:
        """As the application writes."""
        collection, item = rng.choice(COLLECTIONS), rng.choice(_ITEMS)
        self._outcome.counts["direct add"] += 1
        is_sure, now = False, time.time()
        with suppress(RedisError, OSError):
            if await self._world.look_local.exists(keys.pending(person.id)):
                return
            key = keys.preferences(person.id, collection)
            await self._world.look_local.sadd(key, item)
            is_sure = True
        self._world.note(f"{person.id} direct {collection} + {item}: {is_sure}")
        person.truth.change({(collection, item): True}, is_sure=is_sure, is_news=False, now=now)
        person.may_be_changed_later = person.may_be_changed_later or not is_sure

    async def _call(
        self, person: _Person, replica: Replica, *, is_write: bool = True, op: str, **rest: object
    ) -> dict[str, Any] | None:
        """Returns the answer, or None where nobody knows."""
        operation = {"op": op, **rest}
        self._world.note(f"{person.id} r{replica.number} {operation}")
        self._outcome.counts[op] += 1
        try:
            answer = await replica.call({"person": person.id, **operation})
        except LostAnswerError:
            answer = {"lost": "killed"}
        self._world.note(f"{person.id} r{replica.number} -> {answer}")
        if "error" in answer:
            self._complain(person, [f"{operation}: {answer['error']}"])
        if "ok" in answer:
            return answer
        self._outcome.counts["unanswered"] += 1
        person.may_be_changed_later = person.may_be_changed_later or is_write
        return None

    async def _read_for_nothing(self, rng: random.Random) -> None:
        """Reads beside everything else: a fetch may be on its way in any moment."""
        while not self._is_over:
            replica = self._world.choose_replica(rng)
            if replica is not None:
                operation: dict[str, Any] = {"op": rng.choice(("account", "read"))}
                operation |= {
                    "person": rng.choice(self._people).id,
                    "collection": rng.choice(COLLECTIONS),
                }
                with suppress(LostAnswerError):
                    answer = await replica.call(operation)
                    if "error" in answer:
                        self._complain(None, [f"{operation}: {answer['error']}"])
                self._outcome.counts["read beside"] += 1
            await asyncio.sleep(rng.uniform(0, 0.1))

    async def _see_whether_clean(self, person: _Person) -> None:
        local = self._world.local
        if local.running is None or local.is_stopped:
            return
        with suppress(RedisError):
            if not await cast(
                "Awaitable[int]", self._world.look_local.sismember(keys.DIRTY, str(person.id))
            ):
                person.truth.see_clean(time.time())
                await self._check_what_is_confirmed(person)

    async def _check_what_is_confirmed(self, person: _Person) -> None:
        """Who is not dirty has everything on durable; a later journey would mend what is wrong."""
        durable = self._world.durable
        truth = person.truth
        if durable.running is None or durable.is_stopped or not truth.is_fenced:
            return
        held = (await self._load_all(self._world.look_durable))[person.id]
        if not truth.is_surely_covered(time.time()):
            return
        for collection in COLLECTIONS:
            items = [item for name, item in held.items if name == collection]
            self._complain(
                person,
                [f"confirmed, but {each}" for each in truth.wrong_in_read(collection, items)],
            )

    # ------------------------------------------------------------------ faults

    async def _break_things(self, rng: random.Random) -> None:
        faults: list[tuple[Callable[[random.Random], Awaitable[None]], float]] = [
            (self._kill_replica, 2),
            (self._stop_replica, 3),
            (self._cut_way, 4),
            (self._stall_way, 4),
            (self._kill_server, 3),
            (self._stop_server, 2),
            (self._flush, 4),
            (self._flush_while_durable_is_away, 3),
            (self._evict, 8),
            (self._lose_outbox, 1),
        ]
        while not self._is_over:
            await asyncio.sleep(rng.uniform(0, 0.3))
            fault = rng.choices([f for f, _ in faults], [weight for _, weight in faults])[0]
            await fault(rng)

    def _count(self, fault: str, *what: object) -> None:
        self._outcome.counts[fault] += 1
        self._world.note(f"FAULT {fault} {' '.join(map(str, what))}")

    async def _kill_replica(self, rng: random.Random) -> None:
        replica = rng.choice(self._world.replicas)
        async with self._locks[str(replica.number)]:
            self._count("kill service", replica.number)
            await replica.kill()
            await asyncio.sleep(rng.uniform(0, 0.3))
            await replica.start()

    async def _stop_replica(self, rng: random.Random) -> None:
        replica = rng.choice(self._world.replicas)
        async with self._locks[str(replica.number)]:
            self._count("stop service", replica.number)
            replica.stop()
            await asyncio.sleep(self._how_long(rng))
            if rng.random() < 0.2:
                self._count("kill service", replica.number)
                await replica.kill()
                await replica.start()
            replica.resume()
            self._world.note(f"service {replica.number} goes on")

    async def _cut_way(self, rng: random.Random) -> None:
        replica = rng.choice(self._world.replicas)
        async with self._locks[str(replica.number)]:
            name = rng.choice(("local", "durable"))
            way = replica.to_local if name == "local" else replica.to_durable
            self._count("cut connections", replica.number, name)
            way.cut()
            await asyncio.sleep(rng.choice((0, rng.uniform(0, 1.5))))
            way.flow()

    async def _stall_way(self, rng: random.Random) -> None:
        replica = rng.choice(self._world.replicas)
        async with self._locks[str(replica.number)]:
            name = rng.choice(("local", "durable", "durable"))
            way = replica.to_local if name == "local" else replica.to_durable
            self._count("stall connections", replica.number, name)
            way.stall()
            await asyncio.sleep(self._how_long(rng))
            if rng.random() < 0.2:
                self._count("kill service", replica.number)
                await replica.kill()
                way.flow()
                await replica.start()
            way.flow()
            self._world.note(f"connections of {replica.number} to {name} go on")

    def _how_long(self, rng: random.Random) -> float:
        """Mostly short; sometimes so long that others sweep, or longer than anybody waits."""
        long = rng.choices((rng.uniform(0, 0.8), rng.uniform(1, 3), _LONG_STALL_S), (12, 2, 1))[0]
        return min(long, max(0.1, self._ends - time.monotonic()))

    def _choose_server(self, rng: random.Random) -> Server:
        return rng.choice((self._world.local, self._world.durable))

    async def _kill_server(self, rng: random.Random) -> None:
        server = self._choose_server(rng)
        async with self._locks[server.name]:
            self._count(f"kill {server.name}")
            await server.kill()
            await asyncio.sleep(rng.choice((0, rng.uniform(0, 1.5))))
            await server.start()
            self._world.note(f"{server.name} runs again")

    async def _stop_server(self, rng: random.Random) -> None:
        server = self._choose_server(rng)
        async with self._locks[server.name]:
            self._count(f"stop {server.name}")
            server.stop()
            await asyncio.sleep(self._how_long(rng))
            server.resume()

    async def _lose_outbox(self, _: random.Random) -> None:
        async with self._locks["local"]:
            self._count("lose outbox")
            await self._world.look_local.delete(keys.OUTBOX)

    async def _flush(self, _: random.Random) -> None:
        """Local loses everything, in the middle of whatever the replicas do."""
        async with AsyncExitStack() as stack:
            for person in self._people:
                await stack.enter_async_context(person.lock)
            for name in ("local", "durable"):
                await stack.enter_async_context(self._locks[name])
            if any(person.may_be_changed_later for person in self._people):
                await self._world.wait_until_nothing_is_held()
            self._count("flush")
            before = await self._load_all(self._world.look_durable)
            async with self._world.look_local.pipeline(transaction=True) as together:
                together.execute_command("SMEMBERS", keys.DIRTY)
                together.execute_command("FLUSHALL")
                dirty = {int(each) for each in (await together.execute())[0]}
            after = await self._load_all(self._world.look_durable)
            self._world.note(f"flushed while dirty: {sorted(dirty)}")
            for person in self._people:
                self._complain(
                    person,
                    person.truth.lose_local(
                        is_clean=person.id not in dirty,
                        seen=(before[person.id], after[person.id]),
                        now=time.time(),
                    ),
                )

    async def _flush_while_durable_is_away(self, rng: random.Random) -> None:
        """What people do then is done without all that only durable knows."""
        async with AsyncExitStack() as stack:
            for replica in self._world.replicas:
                await stack.enter_async_context(self._locks[str(replica.number)])
                replica.to_durable.cut()
            self._count("cut off durable")
            await self._flush(rng)
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            for replica in self._world.replicas:
                replica.to_durable.flow()
            self._world.note("all ways to durable go on")

    async def _evict(self, rng: random.Random) -> None:
        """Local loses a set, a profile or a cover of somebody of whom durable has everything."""
        person = rng.choice(self._people)
        async with person.lock, self._locks["local"], self._locks["durable"]:
            if person.may_be_changed_later:
                await self._world.wait_until_nothing_is_held()
                person.may_be_changed_later = False
            await self._see_whether_clean(person)
            if not person.truth.is_fenced:
                return
            collection = rng.choice((*COLLECTIONS, None))
            hashes = (keys.user_details(person.id), keys.sponsorship(SPONSORABLE, person.id))
            key = (
                rng.choice(hashes)
                if collection is None
                else keys.preferences(person.id, collection)
            )
            reply = await cast(
                "Awaitable[int]",
                self._world.look_local.eval(_EVICT, 2, keys.DIRTY, key, str(person.id)),
            )
            if reply != 1:
                return
            self._count("evict", key)
            if collection is not None:
                held = (await self._load_all(self._world.look_durable))[person.id]
                if person.truth.is_surely_covered(time.time()):
                    self._complain(
                        person,
                        person.truth.wrong_in_read(
                            collection, [item for c, item in held.items if c == collection]
                        ),
                    )
                person.truth.lose_collection(collection, held)

    # ------------------------------------------------------------------ the end

    async def _come_to_rest(self) -> None:
        ends = time.monotonic() + _REST_S
        started = time.monotonic()
        while waiting := await self._who_waits():
            if time.monotonic() > ends:
                self._complain(None, [f"never came to rest: {waiting}"])
                return
            await asyncio.sleep(_POLL_S)
        self._world.note(f"at rest after {time.monotonic() - started:.1f} s")

    async def _who_waits(self) -> list[str]:
        local, durable = self._world.look_local, self._world.look_durable
        now = time.time()
        # Before the dirty: the sweep makes one of these of the other.
        ended = await local.zcount(keys.COVER_ENDS, "-inf", now)
        dirty = {
            int(each) for each in await cast("Awaitable[set[str]]", local.smembers(keys.DIRTY))
        }
        waiting = [
            f"pending of {p.id}" for p in self._people if await local.exists(keys.pending(p.id))
        ]
        for person_id in sorted(dirty):
            cover = keys.sponsorship(SPONSORABLE, person_id)
            # Whose cover nobody ever told stays dirty: there is still something to be learnt.
            if await local.exists(cover) or await durable.exists(cover):
                waiting.append(f"dirty {person_id}")
        if ended:
            waiting.append("a cover has ended, and the sweep has not come by")
        waiting += [
            f"cover of {person.id} ends"
            for person in self._people
            for cover in (*person.truth.covers, *person.truth.overrides)
            if cover is not None and cover.is_covered(now) and cover.until is not None
        ]
        return waiting

    async def _compare(self) -> None:
        """Through the service first, so that what was lost alone comes back; then both sides."""
        for person in self._people:
            for collection in COLLECTIONS:
                answer = await self._read_at_end(person, {"op": "read", "collection": collection})
                self._complain(person, person.truth.wrong_in_read(collection, answer["ok"]))
            await self._read_at_end(person, {"op": "account"})
        await self._come_to_rest()
        local = await self._load_all(self._world.look_local)
        durable = await self._load_all(self._world.look_durable)
        now = time.time()
        covered = set()
        for person in self._people:
            here, there = local[person.id], durable[person.id]
            self._complain(person, person.truth.wrong_at_end(here, there, now))
            if here.is_covered(now):
                covered.add(str(person.id))
        for name, look in (
            ("local", self._world.look_local),
            ("durable", self._world.look_durable),
        ):
            index = await cast("Awaitable[set[str]]", look.smembers(keys.sponsors(SPONSORABLE)))
            if index != covered:
                self._complain(None, [f"index on {name}: {index}, covered are {covered}"])

    async def _read_at_end(self, person: _Person, operation: dict[str, Any]) -> dict[str, Any]:
        """Nothing is broken any more; only what was remembered of a fault may take a moment."""
        ends = time.monotonic() + _REST_S
        while True:
            replica = self._rng.choice(self._world.replicas)
            answer = await replica.call({"person": person.id, **operation})
            if "ok" in answer:
                return answer
            if "error" in answer or time.monotonic() > ends:
                raise BrokenReplicaError(f"{operation} of {person.id} at the end: {answer}")
            await asyncio.sleep(_POLL_S)

    async def _load_all(self, look: Any) -> dict[int, Held]:  # noqa: ANN401 - redis-py's own
        # Never as a MULTI where local runs Gears: two hooked reads in one end RedisGears 1.2.9.
        is_together = look is self._world.look_durable
        async with look.pipeline(transaction=is_together) as together:
            for person in self._people:
                for collection in COLLECTIONS:
                    together.smembers(keys.preferences(person.id, collection))
                together.hgetall(keys.user_details(person.id))
                together.hgetall(keys.sponsorship(SPONSORABLE, person.id))
            replies = iter(await together.execute())
        return {
            person.id: Held(
                {(collection, item) for collection in COLLECTIONS for item in next(replies)},
                next(replies),
                next(replies),
            )
            for person in self._people
        }
