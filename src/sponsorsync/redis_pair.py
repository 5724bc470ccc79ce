"""Opens the two Redis servers, the sync engine between them, and local's RedisGears.

The service uses it, and so do commands that work on the same data, such as `sponsorsync verify`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from sponsorsync.domain.errors import NoDurableError, SettingsError, StoreUnavailableError
from sponsorsync.domain.preferences import PreferenceRules
from sponsorsync.gears.batch import BatchSummary, run_batch
from sponsorsync.gears.client import GearsClient, open_gears
from sponsorsync.gears.scripts import BATCH, GearsConfig, load_scripts
from sponsorsync.settings import Settings
from sponsorsync.store.connect import Gate, RedisStore, create_store
from sponsorsync.store.entitlements import EntitlementStore
from sponsorsync.store.people import PeopleStore
from sponsorsync.store.preferences import PreferenceStore
from sponsorsync.sync.engine import SyncEngine
from sponsorsync.sync.hydrate import Hydrator
from sponsorsync.sync.shared_database import refuse_shared_server

# Enough for the comparison of the two servers, which sends few commands, one after the other.
_UNGATED_POOL_SIZE = 2


@dataclass(frozen=True, slots=True)
class RedisPair:
    """The two servers, and the sync engine between them, whose loops do not run yet.

    `durable` and `engine` are None if no durable Redis is configured. `ungated` are stores of the
    same servers without gates, by the environment variable of each server's address. (A gate
    refuses connections to a restarted server until the two servers have been compared.)
    """

    local: RedisStore
    durable: RedisStore | None
    engine: SyncEngine | None
    ungated: Mapping[str, RedisStore]

    @property
    def fetcher(self) -> Hydrator | None:
        """The hydrator, which fetches missing data from durable; None without a durable."""
        return self.engine.hydrator if self.engine else None


async def check_servers(redis_pair: RedisPair, settings: Settings) -> None:
    """Raises SettingsError if a server is a cluster of several shards, or if it is both servers.

    A server that is down is not checked: it may come up later.
    """
    for variable, store in redis_pair.ungated.items():
        try:
            reason = await store.find_cluster()
        except StoreUnavailableError:
            continue
        if reason is not None:
            raise SettingsError(
                f"{variable}: the server {reason}, which is not supported yet; it should be a "
                "server, or database, of one shard"
            )
    if redis_pair.durable is not None:
        local, durable = redis_pair.ungated.values()
        with suppress(StoreUnavailableError):
            await refuse_shared_server(
                local, durable, allows_two_databases=settings.allow_shared_server
            )


async def open_redis_pair(stack: AsyncExitStack, settings: Settings) -> RedisPair:
    """Returns the pair of servers, without connecting yet; the stack closes the connections.

    Raises:
        SettingsError: No local Redis is configured.
    """
    local_url = _require_local(settings)

    def open_store(
        name: str, url: SecretStr, gate: Gate | None, pool_size: int = settings.redis_pool_size
    ) -> RedisStore:
        store = create_store(url, name=name, pool_size=pool_size, gate=gate)
        stack.push_async_callback(store.aclose)
        return store

    durable_url = settings.durable_address
    if durable_url is None:
        local = open_store("local", local_url, None)
        return RedisPair(
            local=local, durable=None, engine=None, ungated={"SPONSORSYNC_REDIS_URL": local}
        )
    gates = (Gate(), Gate())
    local = open_store("local", local_url, gates[0])
    durable = open_store("durable", durable_url, gates[1])
    ungated = {
        "SPONSORSYNC_REDIS_URL": open_store("local", local_url, None, _UNGATED_POOL_SIZE),
        "SPONSORSYNC_DURABLE_URL": open_store("durable", durable_url, None, _UNGATED_POOL_SIZE),
    }
    ungated_local, ungated_durable = ungated.values()
    engine = SyncEngine(
        local,
        durable,
        ungated=(ungated_local, ungated_durable),
        gates=gates,
        catalog=settings.catalog,
        retention=timedelta(days=settings.retention_days),
        may_configure=settings.manage_notifications,
        drains=settings.engine != "gears",
    )
    return RedisPair(local=local, durable=durable, engine=engine, ungated=ungated)


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[SyncEngine]:
    """Opens both Redises and yields the engine between them without starting its loops.

    Raises:
        SettingsError: A setting that the engine needs is missing.
        NoDurableError: No durable Redis is configured.
    """
    settings.require_for_sync()
    async with AsyncExitStack() as stack:
        redis_pair = await open_redis_pair(stack, settings)
        if redis_pair.engine is None:
            raise NoDurableError
        yield redis_pair.engine


def create_people(settings: Settings, redis_pair: RedisPair) -> PeopleStore:
    """Returns the store of people on local."""
    return PeopleStore(
        redis_pair.local,
        catalog=settings.catalog,
        session_life=timedelta(days=settings.session_days),
        fetcher=redis_pair.fetcher,
    )


def create_entitlements(
    settings: Settings, redis_pair: RedisPair, people: PeopleStore
) -> EntitlementStore:
    """Returns the store of entitlements on local."""
    return EntitlementStore(
        redis_pair.local, people, catalog=settings.catalog, fetcher=redis_pair.fetcher
    )


def create_preferences(settings: Settings, redis_pair: RedisPair) -> PreferenceStore:
    """Returns the store of preferences on local."""
    rules = PreferenceRules(
        collections=settings.collections,
        max_items=settings.max_items,
        max_item_bytes=settings.max_item_bytes,
        max_batch=settings.max_batch,
    )
    return PreferenceStore(redis_pair.local, rules, redis_pair.fetcher)


def open_local_gears(settings: Settings) -> AbstractAsyncContextManager[GearsClient]:
    """Opens a client of local's RedisGears; it has no gate, since it pushes and fetches no data.

    Raises:
        SettingsError: No local Redis is configured.
    """
    return open_gears(_require_local(settings), upload_timeout_s=settings.gears_timeout_s)


def configure_scripts(settings: Settings) -> GearsConfig:
    """Returns the configuration of the scripts for RedisGears; it holds no secret."""
    return GearsConfig(
        settings.catalog,
        hook_profiles=settings.gears_hook_profiles,
        hook_collections=(
            settings.engine == "gears"
            if settings.gears_hook_collections is None
            else settings.gears_hook_collections
        ),
    )


async def run_scripts_snapshot(settings: Settings, *, folder: Path | None) -> BatchSummary:
    """Copies everyone to durable with the batch scripts in `folder`; None: those of this release.

    Raises:
        GearsError: The scripts cannot be loaded, or the server does not run them.
    """
    scripts = load_scripts(BATCH, configure_scripts(settings), folder=folder)
    async with open_local_gears(settings) as client:
        return await run_batch(client, scripts)


def _require_local(settings: Settings) -> SecretStr:
    if settings.redis_url is None:
        raise SettingsError("SPONSORSYNC_REDIS_URL is not set; it should be redis://host:6379/0")
    return settings.redis_url
