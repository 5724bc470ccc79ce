"""Local and durable with a replica of the service, whose engine tests run step by step."""

import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from sponsorsync.background import Supervisor, open_supervisor
from sponsorsync.domain.account import StoredEntitlement
from sponsorsync.domain.catalog import Catalog
from sponsorsync.domain.entitlement import EntitlementFacts
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.domain.preferences import PreferenceRules
from sponsorsync.domain.profile import Profile
from sponsorsync.domain.sources import EntitlementSource
from sponsorsync.redis_pair import open_redis_pair
from sponsorsync.sandbox.valkey import EmbeddedValkey, find_free_port, run_valkey
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore
from sponsorsync.store.people import PeopleStore
from sponsorsync.store.preferences import PreferenceStore
from sponsorsync.sync.engine import SyncEngine
from sponsorsync.sync.person_records import PersonRecord, apply_records, pack_people
from sponsorsync.sync.relay import Relay
from tests.support.proxy import TcpProxy
from tests.support.waiting import until

SPONSORABLE = "maintainer"
COLLECTION = "mnodes"
PERSON = 48210377
CATALOG = Catalog((SPONSORABLE,), (COLLECTION,))

# Other tests use other ports, so that none takes over the port of a server that is down.
_FIRST_PORT = 10_000
_PORTS = 6_000


@dataclass
class Pair:
    """Two servers and a replica of the service, whose loops do not run unless a test starts them.

    Attributes:
        local, durable: Direct clients of the servers, which read and change the data.
        local_store, durable_store: The stores of the engine.
        proxy: The proxy between the engine and durable, if the test can cut this connection.
    """

    local: Redis
    durable: Redis
    local_store: RedisStore
    durable_store: RedisStore
    engine: SyncEngine
    people: PeopleStore
    preferences: PreferenceStore
    proxy: TcpProxy | None = None

    def cut(self) -> None:
        """Cuts the connection of the engine to durable."""
        assert self.proxy is not None
        self.proxy.cut()

    def flow(self) -> None:
        """Restores the connection of the engine to durable."""
        assert self.proxy is not None
        self.proxy.flow()

    async def reconnect(self) -> None:
        """Restores the connection of the engine to durable, and relays all changes."""
        self.flow()
        await self.relay_when_back()

    async def sign_in(
        self,
        person_id: int = PERSON,
        *,
        entitled: bool | None = True,
        until: datetime | None = None,
    ) -> None:
        """Saves a login; `entitled` is None if GitHub did not answer."""
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
        """Performs the last step of a login, based on `version` or on the present version."""
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
        stored = StoredEntitlement(facts, version or await self.version_of_entitlement(person_id))
        await self.people.save_login(profile, [] if entitled is None else [stored], replaces=None)

    async def version_of_entitlement(self, person_id: int = PERSON) -> str:
        """Returns the version of the entitlement on local."""
        reply = await self.local_store.run_script("load_entitlements", SPONSORABLE, person_id)
        [(version, _, _)] = cast("list[tuple[bytes, int, list[bytes]]]", reply)
        return version.decode()

    async def lapse(self, person_id: int = PERSON) -> None:
        """Saves a login whose sponsorship has just ended."""
        await self.sign_in(person_id, until=datetime.now(UTC) - timedelta(seconds=1))

    async def add(self, *items: str, person_id: int = PERSON) -> None:
        """Adds items as the service does."""
        await self.preferences.change(person_id, COLLECTION, add=items, remove=[])

    async def remove(self, *items: str, person_id: int = PERSON) -> None:
        """Removes items as the service does."""
        await self.preferences.change(person_id, COLLECTION, add=[], remove=items)

    async def items(self, person_id: int = PERSON) -> list[str]:
        """Returns the items as the service does."""
        return list((await self.preferences.load(person_id, COLLECTION)).items)

    async def add_person(self, *items: str, person_id: int = PERSON, entitled: bool = True) -> None:
        """Signs a person in and adds items."""
        await self.sign_in(person_id, entitled=entitled)
        if items:
            await self.add(*items, person_id=person_id)

    async def settle(
        self, *items: str, people: Sequence[int] = (PERSON,), entitled: bool = True
    ) -> None:
        """Signs people in, adds items for each, and relays everything to durable."""
        for person in people:
            await self.add_person(*items, person_id=person, entitled=entitled)
        await self.relay()

    async def relay(self) -> None:
        """Drains all dirty people until no person is dirty, at most ten times."""
        for _ in range(10):
            dirty = await self.dirty()
            if not dirty:
                return
            await self.engine.relay.drain(sorted(dirty))

    async def relay_when_back(self) -> None:
        """Waits until both servers answer, and drains until no person is dirty."""

        async def is_clean() -> bool:
            self.engine.hydrator._down_until = 0.0  # as if its wait after an outage were over
            with suppress(StoreUnavailableError):
                await self.compare()
                await self.relay()
                return not await self.dirty()
            return False

        await until(is_clean)

    async def dirty(self) -> set[int]:
        """Returns the people with changes that durable has not confirmed."""
        return {int(each) for each in await self.local.smembers(keys.DIRTY)}

    async def durable_items(self, person_id: int = PERSON) -> set[str]:
        """Returns the collection on durable."""
        return set(map(str, await self.durable.smembers(keys.preferences(person_id, COLLECTION))))

    async def local_items(self, person_id: int = PERSON) -> set[str]:
        """Returns the collection on local, as the application reads it."""
        return set(map(str, await self.local.smembers(keys.preferences(person_id, COLLECTION))))

    async def compare(self) -> None:
        """Compares the two servers, as the engine does at its start and after a restart of one."""
        await self.engine.open()

    async def evict(self, key: str | None = None) -> None:
        """Deletes a key on local, by default the collection, as an eviction does."""
        await self.local.delete(key or keys.preferences(PERSON, COLLECTION))

    async def read_for_fetch(self, token: str, person_id: int = PERSON) -> bytes:
        """Takes the lease and reads durable, which is the first half of a fetch."""
        await self.local.set(keys.lease(person_id), token)
        records = await pack_people(self.durable_store, [person_id], what="all", catalog=CATALOG)
        return records[0].content

    async def fill(self, token: str, content: bytes, person_id: int = PERSON) -> str:
        """Merges the content on local, which is the second half of a fetch; returns the reply."""
        reply = await self.local_store.run_script("merge", token, CATALOG.json, person_id, content)
        return cast("bytes", reply).decode()

    async def pack(self, *people: int) -> list[PersonRecord]:
        """Packs the records of people on local, as a relay does."""
        return await pack_people(
            self.local_store, people or [PERSON], what="entitled", catalog=CATALOG
        )

    async def apply(self, records: Sequence[PersonRecord]) -> list[tuple[int, str]]:
        """Applies records on durable, as a relay does; returns the count and answer of each."""
        return await apply_records(self.durable_store, records, catalog=CATALOG)

    def create_relay(self, durable: RedisStore | None = None) -> Relay:
        """Returns a relay like that of another replica."""
        return Relay(
            self.local_store,
            durable or self.durable_store,
            catalog=CATALOG,
            hydrator=self.engine.hydrator,
            incarnations=self.engine.incarnations,
        )

    async def dump(self, *names: str) -> dict[str, bytes]:
        """Returns dumps of keys on local, for `restore`."""
        return {name: cast("bytes", await self.local.dump(name)) for name in names}

    async def restore(self, dumps: Mapping[str, bytes]) -> None:
        """Restores older keys on local, as a restart on an older file does."""
        for name, dump in dumps.items():
            await self.local.restore(name, 0, dump, replace=True)

    async def count_durable_scripts(self) -> int:
        """Returns the number of scripts that durable has run."""
        statistics = cast(
            "Mapping[str, Mapping[str, int]]", await self.durable.info("commandstats")
        )
        return statistics.get("cmdstat_evalsha", {"calls": 0})["calls"]


def _create_client(url: str) -> Redis:
    """Returns a client that reconnects after a restart of its server."""
    retry = Retry(ExponentialBackoff(cap=0.1, base=0.01), 3)
    return Redis.from_url(url, decode_responses=True, retry=retry)


async def dump_all(store: RedisStore) -> dict[bytes, bytes]:
    """Returns every key of a server with its serialized value."""
    names = cast("list[bytes]", await store.run("KEYS", "*"))
    return {name: cast("bytes", await store.run("DUMP", name)) for name in names}


@dataclass
class OwnServer:
    """A Valkey for one test; it keeps its port and directory when it is restarted."""

    directory: Path
    port: int
    name: str = "own"
    is_stopped: bool = False
    _stack: AsyncExitStack | None = field(default=None, repr=False)
    _running: EmbeddedValkey | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The address for a Redis client."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def is_running(self) -> bool:
        """Whether there is a process; it may be stopped by SIGSTOP."""
        return self._running is not None

    async def start(self, **config: str) -> None:
        """Starts the server with the data on its disk, unless it runs."""
        if self._running is not None:
            return
        stack = AsyncExitStack()
        self._running = await stack.enter_async_context(
            run_valkey(
                self.directory,
                name=self.name,
                port=self.port,
                extra_config={
                    # A kill loses nothing without fsync: the kernel gets writes before replies.
                    "appendfsync": "no",
                    **{name.replace("_", "-"): value for name, value in config.items()},
                },
            )
        )
        self._stack = stack

    async def kill(self) -> None:
        """Ends the server by SIGKILL."""
        if self._running is None or self._stack is None:
            return
        os.kill(self._running.pid, signal.SIGKILL)
        await self._running.wait_closed()
        await self._stack.aclose()
        self._running, self._stack, self.is_stopped = None, None, False

    def stop(self) -> None:
        """Stops the server by SIGSTOP: the kernel accepts connections, but nothing answers."""
        if self.is_running:
            self._signal(signal.SIGSTOP)
            self.is_stopped = True

    def resume(self) -> None:
        """Continues the server by SIGCONT."""
        if self.is_running and self.is_stopped:
            self._signal(signal.SIGCONT)
        self.is_stopped = False

    def _signal(self, number: signal.Signals) -> None:
        if self._running is not None:
            os.kill(self._running.pid, number)

    def keep_copy(self) -> Path:
        """Copies the server's data, as a backup does; no write may be under way."""
        copy = self.directory.with_name(f"{self.directory.name}-copy")
        shutil.copytree(self.directory / "appendonlydir", copy)
        return copy

    async def come_back_older(self, copy: Path) -> None:
        """Kills the server, and starts it on the copy."""
        await self.kill()
        shutil.rmtree(self.directory / "appendonlydir")
        shutil.copytree(copy, self.directory / "appendonlydir")
        await self.start()


@asynccontextmanager
async def own_server(directory: Path, **config: str) -> AsyncIterator[OwnServer]:
    """Yields a running server that the test may kill, configure and restore."""
    start = _FIRST_PORT + os.getpid() * 17 % _PORTS
    server = OwnServer(directory, find_free_port(start))
    await server.start(**config)
    try:
        yield server
    finally:
        await server.kill()


@asynccontextmanager
async def open_pair(local_url: str, durable_url: str) -> AsyncIterator[Pair]:
    """Opens a replica for two servers, and compares these.

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
        )
        await pair.compare()
        yield pair


@asynccontextmanager
async def running_engine(pair: Pair) -> AsyncIterator[Supervisor]:
    """Runs all loops of a pair's engine; yields their supervisor."""
    async with open_supervisor() as supervisor:
        pair.engine.start(supervisor)
        yield supervisor


@asynccontextmanager
async def running_listener(pair: Pair) -> AsyncIterator[None]:
    """Runs only the two loops of the listener of a pair's engine."""
    async with open_supervisor() as supervisor:
        supervisor.start("listener", pair.engine.listener.listen)
        supervisor.start("notifications", pair.engine.listener.handle)
        yield


async def confirm_taken(
    relay: Relay, records: Sequence[PersonRecord], answers: Sequence[tuple[int, str]]
) -> None:
    """Confirms on local the records that durable applied, as a relay does."""
    applied = [
        (count, record)
        for record, (count, answer) in zip(records, answers, strict=True)
        if answer == "ok"
    ]
    await relay._confirm(applied)
