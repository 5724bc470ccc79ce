"""Both sides with the engine's parts between them, to be moved step by step: no loop runs."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from sponsorsync.background import open_supervisor
from sponsorsync.domain.account import StoredEntitlement
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.domain.preferences import PreferenceRules
from sponsorsync.domain.profile import Profile
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.redis_pair import open_redis_pair
from sponsorsync.sandbox.valkey import find_free_port, run_valkey
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.store.people import PeopleStore
from sponsorsync.store.preferences import PreferenceStore
from sponsorsync.sync.person_records import pack_people
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from sponsorsync.background import Supervisor
    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from sponsorsync.store.connect import RedisStore
    from sponsorsync.sync.engine import SyncEngine
    from sponsorsync.sync.person_records import PersonRecord
    from sponsorsync.sync.relay import Relay

SPONSORABLE = "maintainer"
COLLECTION = "mnodes"
PERSON = 48210377
CATALOG = Catalog((SPONSORABLE,), (COLLECTION,))

# Away from where other tests look for free ports: a server that is down must not be taken for one
# of theirs.
_FIRST_PORT = 10_000
_PORTS = 6_000


@dataclass
class Pair:
    """Two servers and one replica of the service, whose engine moves only when told to.

    Attributes:
        local, durable: Plain clients, for looking and for meddling.
        local_store, durable_store: As the engine speaks to them.
    """

    local: Redis
    durable: Redis
    local_store: RedisStore
    durable_store: RedisStore
    engine: SyncEngine
    people: PeopleStore
    preferences: PreferenceStore
    _stack: AsyncExitStack = field(repr=False)

    async def sign_in(
        self,
        person_id: int = PERSON,
        *,
        entitled: bool | None = True,
        until: datetime | None = None,
    ) -> None:
        """Keeps a login of somebody who is entitled, is not, or of whom GitHub did not tell."""
        before = await self.people.load_account_for_login(person_id)
        first_seen = before.profile.first_seen if before.profile else None
        await self.save_login(person_id, entitled=entitled, until=until, first_seen=first_seen)

    async def save_login(
        self,
        person_id: int = PERSON,
        *,
        entitled: bool | None = True,
        until: datetime | None = None,
        first_seen: datetime | None = None,
        version: str | None = None,
    ) -> None:
        """Does only the last step of a login, on the version that is there unless one is given."""
        now = datetime.now(UTC)
        profile = Profile(
            id=person_id,
            login=f"person-{person_id}",
            name=None,
            email=None,
            avatar_url=None,
            first_seen=first_seen or now,
            last_login=now,
        )
        facts = EntitlementFacts(
            sponsorable=SPONSORABLE,
            checked_at=now,
            source=EntitlementSource.SPONSORSHIP if entitled else EntitlementSource.NONE,
            valid_until=until,
        )
        known = StoredEntitlement(facts, version or await self.version_of_entitlement(person_id))
        await self.people.save_login(profile, [] if entitled is None else [known], replaces=None)

    async def version_of_entitlement(self, person_id: int = PERSON) -> str:
        """Returns the version of what local knows of an entitlement."""
        reply = await self.local_store.run_script("load_entitlements", SPONSORABLE, person_id)
        [(version, _, _)] = cast("list[tuple[bytes, int, list[bytes]]]", reply)
        return version.decode()

    async def lapse(self, person_id: int = PERSON) -> None:
        """Keeps a login in which GitHub told that the sponsorship has ended."""
        await self.sign_in(person_id, until=datetime.now(UTC) - timedelta(seconds=1))

    async def add(self, *items: str, person_id: int = PERSON) -> None:
        """Adds items through the service's own path."""
        await self.preferences.change(person_id, COLLECTION, add=items, remove=[])

    async def remove(self, *items: str, person_id: int = PERSON) -> None:
        """Removes items through the service's own path."""
        await self.preferences.change(person_id, COLLECTION, add=[], remove=items)

    async def items(self, person_id: int = PERSON) -> list[str]:
        """Returns what the service answers."""
        return list((await self.preferences.load(person_id, COLLECTION)).items)

    async def settle(self, *items: str, people: Sequence[int] = (PERSON,)) -> None:
        """Signs people in, adds items of each, and brings everything to durable."""
        for person in people:
            await self.sign_in(person)
            await self.add(*items, person_id=person)
        await self.relay()

    async def relay(self) -> None:
        """Drains everybody who is dirty, until nobody is or nothing changes any more."""
        for _ in range(10):
            dirty = await self.dirty()
            if not dirty:
                return
            await self.engine.relay.drain(sorted(dirty))

    async def relay_when_back(self) -> None:
        """Drains everybody as soon as both servers serve again; nobody is dirty after it."""

        async def is_clean() -> bool:
            self.engine.hydrator._down_until = 0.0  # as if the second were over
            with suppress(StoreUnavailableError):
                await self.compare()
                await self.relay()
                return not await self.dirty()
            return False

        await until(is_clean)

    async def dirty(self) -> set[int]:
        """Returns who waits for durable."""
        return {int(each) for each in await self.local.smembers(keys.DIRTY)}

    async def kept(self, person_id: int = PERSON) -> set[str]:
        """Returns the durable copy of the collection."""
        return set(map(str, await self.durable.smembers(keys.preferences(person_id, COLLECTION))))

    async def here(self, person_id: int = PERSON) -> set[str]:
        """Returns the local set, as the application reads it."""
        return set(map(str, await self.local.smembers(keys.preferences(person_id, COLLECTION))))

    async def compare(self) -> None:
        """Compares incarnations as the engine does when it starts or is refused."""
        await self.engine.open()

    async def evict(self, key: str | None = None) -> None:
        """Takes one local key away, as eviction or DEL by hand do; the collection by default."""
        await self.local.delete(key or keys.preferences(PERSON, COLLECTION))

    async def read_for_fetch(self, token: str, person_id: int = PERSON) -> bytes:
        """Takes the lease and reads durable, as a fetch does that then takes very long."""
        await self.local.set(keys.lease(person_id), token)
        records = await pack_people(self.durable_store, [person_id], what="all", catalog=CATALOG)
        return records[0].content

    async def fill(self, token: str, content: bytes, person_id: int = PERSON) -> str:
        """Ends such a fetch; returns what local says to it."""
        reply = await self.local_store.run_script("merge", token, CATALOG.json, person_id, content)
        return cast("bytes", reply).decode()

    async def count_durable_scripts(self) -> int:
        """Returns how many scripts durable ran so far."""
        statistics = cast(
            "Mapping[str, Mapping[str, int]]", await self.durable.info("commandstats")
        )
        return statistics.get("cmdstat_evalsha", {"calls": 0})["calls"]


def _create_client(url: str) -> Redis:
    """Returns a client that gets over a restart of its server."""
    retry = Retry(ExponentialBackoff(cap=0.1, base=0.01), 3)
    return Redis.from_url(url, decode_responses=True, retry=retry)


async def dump_all(store: RedisStore) -> dict[bytes, bytes]:
    """Returns every key of a server with its serialized value."""
    names = cast("list[bytes]", await store.run("KEYS", "*"))
    return {name: cast("bytes", await store.run("DUMP", name)) for name in names}


@dataclass
class OwnServer:
    """A Valkey for one test: on one port and one directory, through all its incarnations."""

    directory: Path
    port: int
    _stack: AsyncExitStack | None = field(default=None, repr=False)
    _running: EmbeddedValkey | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The address for a Redis client."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self, **config: str) -> None:
        """Starts it on what it has written."""
        stack = AsyncExitStack()
        self._running = await stack.enter_async_context(
            run_valkey(
                self.directory,
                name="own",
                port=self.port,
                extra_config={
                    # A kill loses nothing without fsync: each write precedes its reply.
                    "appendfsync": "no",
                    **{name.replace("_", "-"): value for name, value in config.items()},
                },
            )
        )
        self._stack = stack

    async def kill(self) -> None:
        """SIGKILL."""
        if self._running is None or self._stack is None:
            return
        os.kill(self._running.pid, signal.SIGKILL)
        await self._running.wait_closed()
        await self._stack.aclose()
        self._running, self._stack = None, None

    def stop(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._running is not None:
            os.kill(self._running.pid, number)

    def keep_copy(self) -> Path:
        """Copies what it has written so far, as a backup does; nothing may be under way."""
        copy = self.directory.with_name(f"{self.directory.name}-copy")
        shutil.copytree(self.directory / "appendonlydir", copy)
        return copy

    async def come_back_older(self, copy: Path) -> None:
        """SIGKILL, and a start on the copy."""
        await self.kill()
        shutil.rmtree(self.directory / "appendonlydir")
        shutil.copytree(copy, self.directory / "appendonlydir")
        await self.start()


@asynccontextmanager
async def own_server(directory: Path, **config: str) -> AsyncIterator[OwnServer]:
    """Yields a running server that the test may kill, configure and set back."""
    start = _FIRST_PORT + os.getpid() * 17 % _PORTS
    server = OwnServer(directory, find_free_port(start))
    await server.start(**config)
    try:
        yield server
    finally:
        await server.kill()


@asynccontextmanager
async def open_pair(local_url: str, durable_url: str) -> AsyncIterator[Pair]:
    """Opens a replica between two servers, with its gates open for the servers as they are.

    Raises:
        StoreUnavailableError: One of the servers is down.
    """
    settings = Settings.model_construct(
        redis_url=SecretStr(local_url),
        durable_url=SecretStr(durable_url),
        sponsorables=(SPONSORABLE,),
        manage_notifications=True,
    )
    async with AsyncExitStack() as stack:
        redis_pair = await open_redis_pair(stack, settings)
        assert redis_pair.durable is not None
        assert redis_pair.engine is not None
        pair = Pair(
            local=await stack.enter_async_context(_create_client(local_url)),
            durable=await stack.enter_async_context(_create_client(durable_url)),
            local_store=redis_pair.local,
            durable_store=redis_pair.durable,
            engine=redis_pair.engine,
            people=PeopleStore(
                redis_pair.local,
                catalog=CATALOG,
                session_life=timedelta(days=1),
                fetcher=redis_pair.engine.hydrator,
            ),
            preferences=PreferenceStore(
                redis_pair.local,
                PreferenceRules(
                    collections=(COLLECTION,),
                    max_items=100_000,
                    max_item_bytes=256,
                    max_batch=10_000,
                ),
                redis_pair.engine.hydrator,
            ),
            _stack=stack,
        )
        await pair.compare()
        yield pair


@asynccontextmanager
async def running_engine(pair: Pair) -> AsyncIterator[Supervisor]:
    """Runs a pair's engine, all its loops; yields their supervisor."""
    async with open_supervisor() as supervisor:
        pair.engine.start(supervisor)
        yield supervisor


@asynccontextmanager
async def running_listener(pair: Pair) -> AsyncIterator[None]:
    """Runs both loops of a pair's listener, and nothing else of the engine."""
    async with open_supervisor() as supervisor:
        supervisor.start("listener", pair.engine.listener.listen)
        supervisor.start("notifications", pair.engine.listener.handle)
        yield


async def confirm_taken(
    relay: Relay, records: Sequence[PersonRecord], answers: Sequence[tuple[int, str]]
) -> None:
    """Confirms on local, as a relay does, what durable has just taken."""
    taken = [
        (count, record)
        for record, (count, answer) in zip(records, answers, strict=True)
        if answer == "ok"
    ]
    await relay._confirm(taken)
