"""A run of the model test: its servers and replicas, its people, and the violations found."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from redis.exceptions import RedisError

from sponsorsync.store import keys
from tests.model.truth import Held, Truth
from tests.model.world import COLLECTIONS, SPONSORABLE, World

ITEMS = ("a", "b", "c", "d")
_UNIVERSE = tuple((collection, item) for collection in COLLECTIONS for item in ITEMS)


@dataclass
class Outcome:
    """The result of a run.

    Attributes:
        counts: The numbers of operations and faults, by name.
        wrong: All violations of what is expected.
        history: All events of the run, one a line.
    """

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)


@dataclass
class Person:
    """A simulated person, with the expected effects of their operations."""

    id: int
    truth: Truth = field(default_factory=lambda: Truth(_UNIVERSE))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    logins: int = 0
    decisions: int = 0
    may_be_changed_later: bool = False  # a write without an answer may still be applied


class Run:
    """The state of a run, which the people, the faults and the comparison share."""

    def __init__(
        self, world: World, rng: random.Random, outcome: Outcome, people: list[Person]
    ) -> None:
        self.world = world
        self.rng = rng
        self.outcome = outcome
        self.people = people
        self.ends = 0.0
        # A fault holds the lock of the server or replica that it breaks.
        self.locks = {
            name: asyncio.Lock()
            for name in ("local", "durable", *(str(each.number) for each in world.replicas))
        }

    @property
    def is_over(self) -> bool:
        """Whether the time is over, or a violation was found."""
        return time.monotonic() > self.ends or bool(self.outcome.wrong)

    def fork(self) -> random.Random:
        """Returns a generator for one task, whose choices do not depend on other tasks."""
        return random.Random(self.rng.getrandbits(64))  # noqa: S311 - no secret

    def complain(self, person: Person | None, wrong: list[str]) -> None:
        """Records violations."""
        for each in wrong:
            text = f"{person.id if person else 'all'}: {each}"
            self.world.record(f"WRONG {text}")
            self.outcome.wrong.append(text)

    async def record_if_clean(self, person: Person) -> None:
        """If a person is not dirty, records this, and checks that durable has all their data."""
        local = self.world.local
        if not local.is_running or local.is_stopped:
            return
        with suppress(RedisError):
            if not await cast(
                "Awaitable[int]", self.world.look_local.sismember(keys.DIRTY, str(person.id))
            ):
                person.truth.record_clean(time.time())
                await self._check_confirmed(person)

    async def _check_confirmed(self, person: Person) -> None:
        """Checks that durable has everything of a person who is not dirty.

        A later relay would hide what is missing now.
        """
        durable = self.world.durable
        truth = person.truth
        if not durable.is_running or durable.is_stopped or not truth.is_fenced:
            return
        held = (await self.load_all(self.world.look_durable))[person.id]
        if not truth.is_surely_entitled(time.time()):
            return
        for collection in COLLECTIONS:
            items = [item for name, item in held.items if name == collection]
            self.complain(
                person,
                [f"confirmed, but {each}" for each in truth.wrong_in_read(collection, items)],
            )

    async def load_all(self, look: Any) -> dict[int, Held]:  # noqa: ANN401 - redis-py's own
        """Loads the data of all people from one Redis."""
        # No MULTI on local: two hooked reads in one MULTI crash RedisGears 1.2.9.
        is_together = look is self.world.look_durable
        async with look.pipeline(transaction=is_together) as together:
            for person in self.people:
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
            for person in self.people
        }
