"""Fills local with people, through the service's own stores and in pipelines."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast

from sponsorsync.domain.account import NO_VERSION, StoredEntitlement
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.preferences import PreferenceRules
from sponsorsync.domain.profile import Profile
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.store import keys
from sponsorsync.store.connect import Argument, RedisStore, Reply, ScriptCall
from sponsorsync.store.people import PeopleStore
from sponsorsync.store.preferences import PreferenceStore

T = TypeVar("T")

SPONSORABLE = "maintainer"
COLLECTION = "mnodes"
RULES = PreferenceRules(
    collections=(COLLECTION,), max_items=100_000, max_item_bytes=256, max_batch=10_000
)

_FIRST_ID = 10_000_000
_PIPELINE = 500
_VALUES_A_PIPELINE = 5_000
_SESSION = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Population:
    """The people of a benchmark.

    Attributes:
        count: The number of people.
        set_size: The number of members of each person's collection; 0 for no collection.
        entitled_every: With 3, every third person is entitled; with 0, nobody is.
    """

    count: int
    set_size: int = 0
    entitled_every: int = 0

    @property
    def ids(self) -> list[int]:
        """The ids of all people."""
        return [_FIRST_ID + number for number in range(self.count)]

    @property
    def entitled(self) -> list[int]:
        """The ids of the entitled people."""
        return [each for each in self.ids if self.is_entitled(each)]

    def is_entitled(self, person_id: int) -> bool:
        """Returns whether a person is entitled."""
        return bool(self.entitled_every) and (person_id - _FIRST_ID) % self.entitled_every == 0


async def fill(local: RedisStore, population: Population) -> None:
    """Signs all people in on local and fills their collections; all are dirty afterwards."""
    pipeline = _Pipeline(local)
    store = cast("RedisStore", pipeline)
    catalog = Catalog((SPONSORABLE,), (COLLECTION,))
    people = PeopleStore(store, catalog=catalog, session_life=_SESSION)
    preferences = PreferenceStore(store, RULES)
    now = datetime.now(UTC)
    for each in population.ids:
        await people.save_login(*_create_login(each, now, population), replaces=None)
        if population.set_size:
            items = [f"{each}-node-{number}" for number in range(population.set_size)]
            await preferences.change(each, COLLECTION, add=items, remove=[])
    await pipeline.flush()


async def mark_all_dirty(local: RedisStore, population: Population) -> None:
    """Makes all people dirty, with an entry in the outbox, as after an unrelayed change."""
    await mark_none_dirty(local)
    for ids in _in_pieces(population.ids, _PIPELINE):
        await local.run("SADD", keys.DIRTY, *ids)
        await local.run_together([("XADD", keys.OUTBOX, "*", "u", each) for each in ids])


async def mark_none_dirty(local: RedisStore) -> None:
    """Makes nobody dirty: deletes the keys of changes, confirmations and dead letters."""
    await local.run("DEL", keys.DIRTY, keys.OUTBOX, keys.CONFIRMED, keys.DEAD_LETTERS)


def _in_pieces(values: list[T], size: int) -> list[list[T]]:
    return [values[at : at + size] for at in range(0, len(values), size)]


class _Pipeline:
    """Takes the place of a RedisStore: collects script calls, and runs many of them at once."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._calls: list[ScriptCall] = []
        self._values = 0

    async def run_script(self, name: str, *arguments: Argument) -> Reply:
        """Adds a script call; returns the reply of a successful change."""
        self._calls.append((name, arguments))
        self._values += len(arguments)
        if self._values > _VALUES_A_PIPELINE:
            await self.flush()
        return [b"ok", 0, 0, 0]

    async def flush(self) -> None:
        """Runs the collected scripts."""
        if self._calls:
            await self._store.run_calls(self._calls)
        self._calls, self._values = [], 0


def _create_login(
    person_id: int, now: datetime, population: Population
) -> tuple[Profile, list[StoredEntitlement]]:
    profile = Profile(
        id=person_id,
        login=f"person-{person_id}",
        name=f"Person Number {person_id}",
        email=f"person-{person_id}@example.org",
        avatar_url=f"https://avatars.githubusercontent.com/u/{person_id}?v=4",
        first_seen=now,
        last_login=now,
    )
    is_entitled = population.is_entitled(person_id)
    source = EntitlementSource.SPONSORSHIP if is_entitled else EntitlementSource.NONE
    facts = EntitlementFacts(sponsorable=SPONSORABLE, checked_at=now, source=source)
    return profile, [StoredEntitlement(facts, NO_VERSION)]
