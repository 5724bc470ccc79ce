"""People as the service itself would have written them: by its own stores, in pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar, cast

from sponsorsync.domain.account import NO_VERSION, StoredEntitlement
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.preferences import PreferenceRules
from sponsorsync.domain.profile import Profile
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.store import keys
from sponsorsync.store.people import PeopleStore
from sponsorsync.store.preferences import PreferenceStore

if TYPE_CHECKING:
    from sponsorsync.store.connect import Argument, RedisStore, Reply, ScriptCall

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
    """Who there is.

    Attributes:
        count: How many people.
        set_size: Members of each one's collection; 0 for no collection.
        entitled_every: Each so-manieth is entitled; 0 for nobody.
    """

    count: int
    set_size: int = 0
    entitled_every: int = 0

    @property
    def ids(self) -> list[int]:
        """Everybody."""
        return [_FIRST_ID + number for number in range(self.count)]

    @property
    def entitled(self) -> list[int]:
        """Whoever is entitled."""
        return [each for each in self.ids if self.is_entitled(each)]

    def is_entitled(self, person_id: int) -> bool:
        """Tells whether somebody is entitled."""
        return bool(self.entitled_every) and (person_id - _FIRST_ID) % self.entitled_every == 0


async def fill(local: RedisStore, population: Population) -> None:
    """Signs everybody in on local and gives them their collections; all are dirty then."""
    pipeline = _Pipeline(local)
    store = cast("RedisStore", pipeline)
    people = PeopleStore(
        store, catalog=Catalog((SPONSORABLE,), (COLLECTION,)), session_life=_SESSION
    )
    preferences = PreferenceStore(store, RULES)
    now = datetime.now(UTC)
    for each in population.ids:
        await people.save_login(*_tell(each, now, population), replaces=None)
        if population.set_size:
            items = [f"{each}-node-{number}" for number in range(population.set_size)]
            await preferences.change(each, COLLECTION, add=items, remove=[])
    await pipeline.flush()


async def mark_all_dirty(local: RedisStore, population: Population) -> None:
    """Leaves everybody as after a change that nobody has relayed: dirty, with an entry."""
    await mark_none_dirty(local)
    for ids in _in_pieces(population.ids, _PIPELINE):
        await local.run("SADD", keys.DIRTY, *ids)
        await local.run_together([("XADD", keys.OUTBOX, "*", "u", each) for each in ids])


async def mark_none_dirty(local: RedisStore) -> None:
    """Leaves everybody as if nothing had ever been relayed, nor had to be."""
    await local.run("DEL", keys.DIRTY, keys.OUTBOX, keys.CONFIRMED, keys.DEAD_LETTERS)


def _in_pieces(values: list[T], size: int) -> list[list[T]]:
    return [values[at : at + size] for at in range(0, len(values), size)]


class _Pipeline:
    """Stands between the service's stores and local, and sends many of their scripts at once."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._calls: list[ScriptCall] = []
        self._values = 0

    async def run_script(self, name: str, *arguments: Argument) -> Reply:
        """Keeps a script for later; answers as a change does that went well."""
        self._calls.append((name, arguments))
        self._values += len(arguments)
        if self._values > _VALUES_A_PIPELINE:
            await self.flush()
        return [b"ok", 0, 0, 0]

    async def flush(self) -> None:
        """Runs what was kept."""
        if self._calls:
            await self._store.run_calls(self._calls)
        self._calls, self._values = [], 0


def _tell(
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
    source = (
        EntitlementSource.SPONSORSHIP
        if population.is_entitled(person_id)
        else EntitlementSource.NONE
    )
    facts = EntitlementFacts(sponsorable=SPONSORABLE, checked_at=now, source=source)
    return profile, [StoredEntitlement(facts, NO_VERSION)]
