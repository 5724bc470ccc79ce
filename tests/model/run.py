"""A run of the model: its world, its people, and what was found wrong."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import RedisError

from sponsorsync.store import keys
from tests.model.truth import Held, Truth
from tests.model.world import (
    COLLECTIONS,
    SPONSORABLE,
    World,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable


ITEMS = ("a", "b", "c", "d")
_UNIVERSE = tuple((collection, item) for collection in COLLECTIONS for item in ITEMS)


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
class Person:
    """A simulated person, and what their operations make true."""

    id: int
    truth: Truth = field(default_factory=lambda: Truth(_UNIVERSE))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    logins: int = 0
    decisions: int = 0
    may_be_changed_later: bool = False  # an answer was lost


class Run:
    """The state that the people, the faults and the comparison share."""

    def __init__(
        self, world: World, rng: random.Random, outcome: Outcome, people: list[Person]
    ) -> None:
        self.world = world
        self.rng = rng
        self.outcome = outcome
        self.people = people
        self.ends = 0.0
        # Who holds a server's or a replica's lock may break it.
        self.locks = {
            name: asyncio.Lock()
            for name in ("local", "durable", *(str(each.number) for each in world.replicas))
        }

    @property
    def is_over(self) -> bool:
        """True when the time is over, or something was found wrong."""
        return time.monotonic() > self.ends or bool(self.outcome.wrong)

    def fork(self) -> random.Random:
        """Each task has choices of its own: how they interleave changes none of them."""
        return random.Random(self.rng.getrandbits(64))  # noqa: S311 - no secret

    def complain(self, person: Person | None, wrong: list[str]) -> None:
        """Records what is wrong."""
        for each in wrong:
            text = f"{person.id if person else 'all'}: {each}"
            self.world.note(f"WRONG {text}")
            self.outcome.wrong.append(text)

    async def see_whether_clean(self, person: Person) -> None:
        """Notes that a person is not dirty, and checks what durable has of them."""
        local = self.world.local
        if local.running is None or local.is_stopped:
            return
        with suppress(RedisError):
            if not await cast(
                "Awaitable[int]", self.world.look_local.sismember(keys.DIRTY, str(person.id))
            ):
                person.truth.see_clean(time.time())
                await self._check_what_is_confirmed(person)

    async def _check_what_is_confirmed(self, person: Person) -> None:
        """Who is not dirty has everything on durable; a later journey would mend what is wrong."""
        durable = self.world.durable
        truth = person.truth
        if durable.running is None or durable.is_stopped or not truth.is_fenced:
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
        """Loads what one Redis has of each person."""
        # Never as a MULTI where local runs Gears: two hooked reads in one end RedisGears 1.2.9.
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
