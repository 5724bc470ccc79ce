"""An outage of a server makes no dead letter and loses nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from structlog.testing import capture_logs

from sponsorsync import background
from sponsorsync.background import open_supervisor
from sponsorsync.domain.account import NO_VERSION
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.redis_pair import open_redis_pair
from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.sync import engine as engine_module
from sponsorsync.sync import listener as listener_module
from tests.support.outages import (
    DURABLE_OUTAGES,
    OUTAGES,
    Outage,
    be_out_of_memory,
    fill_with_ballast,
    open_admin,
    refuse_connections,
)
from tests.support.sync import (
    PERSON,
    OwnServer,
    Pair,
    dump_all,
    open_pair,
    own_server,
    running_engine,
)
from tests.support.waiting import until, until_equal

OTHER = PERSON + 1
LOOPS = {"incarnations", "sweep", "retention", "relay", "listener", "notifications"}


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A server that the test may break."""
    async with own_server(tmp_path / "own") as server:
        yield server


@pytest.fixture
async def admin(own: OwnServer) -> AsyncIterator[Redis]:
    """An operator's connection to this server, which keeps all permissions."""
    async with open_admin(own) as client:
        yield client


@pytest.fixture
async def on_own_local(
    own: OwnServer, durable_server: EmbeddedValkey, durable: Redis
) -> AsyncIterator[Pair]:
    """A pair whose local the test may break."""
    assert await durable.ping()  # the fixture has emptied it
    async with open_pair(own.url, durable_server.url) as pair:
        yield pair


@pytest.fixture
async def on_own_durable(
    own: OwnServer, local_server: EmbeddedValkey, local: Redis
) -> AsyncIterator[Pair]:
    """A pair whose durable the test may break."""
    assert await local.ping()  # the fixture has emptied it
    async with open_pair(local_server.url, own.url) as pair:
        yield pair


@pytest.mark.parametrize("outage", DURABLE_OUTAGES)
async def test_durables_outage_makes_no_dead_letter_and_loses_nothing(
    outage: Outage, own: OwnServer, admin: Redis, on_own_durable: Pair
) -> None:
    """An outage is no fault of a person's data, so no person becomes a dead letter."""
    await fill_with_ballast(admin)
    pair = on_own_durable
    await pair.settle("a")
    async with outage(own, admin):
        await pair.add("b")
        await pair.save_login(OTHER)
        with pytest.raises(StoreUnavailableError, match="durable"):
            await pair.engine.relay.drain([OTHER])
        assert await pair.local.hlen(keys.DEAD_LETTERS) == 0
        assert await pair.dirty() == {PERSON, OTHER}
    await pair.relay_when_back()

    assert await pair.durable_items() == {"a", "b"}
    assert await pair.durable.exists(keys.user_details(OTHER)) == 1
    assert await pair.local.hlen(keys.DEAD_LETTERS) == 0


async def _add(pair: Pair) -> None:
    await pair.add("c")


async def _first_login(pair: Pair) -> None:
    await pair.save_login(OTHER, version=NO_VERSION)


async def _delete(pair: Pair) -> None:
    await pair.people.delete_account(PERSON)


# A server that is out of memory does not refuse a script whose first write is a removal.
LOCAL_OUTAGES = [(outage, _add) for outage in OUTAGES] + [
    (outage, write)
    for outage in OUTAGES
    for write in (_first_login, _delete)
    if outage is not be_out_of_memory
]


@pytest.mark.parametrize(("outage", "write"), LOCAL_OUTAGES)
async def test_locals_outage_is_reported_and_leaves_nothing_half_done(
    outage: Outage,
    write: Callable[[Pair], Awaitable[None]],
    own: OwnServer,
    admin: Redis,
    on_own_local: Pair,
) -> None:
    """The writer gets an error that names local and the reason, and no key changes."""
    await fill_with_ballast(admin)
    pair = on_own_local
    await pair.settle("a")
    before = await dump_all(pair.local_store)
    async with outage(own, admin):
        with pytest.raises(StoreUnavailableError, match="local Redis") as refusal:
            await write(pair)
        assert refusal.value.retry_after_s > 0
    await until(lambda: _is_compared(pair))

    incarnation = keys.INCARNATIONS.encode()  # a restart changes it
    after = await dump_all(pair.local_store)
    assert {**after, incarnation: b""} == {**before, incarnation: b""}
    await pair.add("d")
    await pair.relay()
    assert await pair.durable_items() == {"a", "d"}


async def _is_compared(pair: Pair) -> bool:
    with suppress(StoreUnavailableError):
        await pair.compare()
        return True
    return False


@pytest.fixture
def short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the waits of the loops, so that the test is fast."""
    for module, constants in (
        (engine_module, ("_REST_S", "_SWEEP_S", "_WATCH_S")),
        (listener_module, ("_REST_S",)),
        (background, ("_BACKOFF_FIRST_S",)),
    ):
        for name in constants:
            monkeypatch.setattr(module, name, 0.1)


@pytest.mark.usefixtures("short_rests")
@pytest.mark.parametrize("outage", DURABLE_OUTAGES)
async def test_the_engine_goes_on_by_itself_after_durables_outage(
    outage: Outage, own: OwnServer, admin: Redis, on_own_durable: Pair
) -> None:
    """The loops of the engine keep running, and detect that durable is back."""
    await fill_with_ballast(admin)
    pair = on_own_durable
    async with running_engine(pair) as engine:
        async with outage(own, admin):
            await pair.save_login()
            await until(lambda: _has_met_an_outage(pair))
        await until_equal(pair.dirty, set())

        assert await pair.durable.exists(keys.user_details(PERSON)) == 1
        assert {loop.name for loop in engine.list_loops()} == LOOPS


@pytest.mark.usefixtures("short_rests")
@pytest.mark.parametrize("outage", [each for each in OUTAGES if each is not be_out_of_memory])
async def test_the_engine_goes_on_by_itself_after_locals_outage(
    outage: Outage, own: OwnServer, admin: Redis, on_own_local: Pair
) -> None:
    """All loops of the engine need local; they wait for it and do not end."""
    await fill_with_ballast(admin)
    pair = on_own_local
    async with running_engine(pair) as engine:
        await pair.sign_in()
        async with outage(own, admin):
            await until(lambda: _has_met_an_outage(pair))
        await until(lambda: _is_changed(pair))
        await until_equal(pair.dirty, set())

        assert await pair.durable_items() == {"a"}
        assert {loop.name for loop in engine.list_loops()} == LOOPS


@pytest.mark.usefixtures("short_rests")
async def test_each_loop_logs_that_it_waits_for_the_end_of_an_outage(
    own: OwnServer, admin: Redis, on_own_local: Pair
) -> None:
    """An operator reads the reason in the log; no loop ends."""
    pair = on_own_local
    async with running_engine(pair) as engine:
        await pair.sign_in()
        with capture_logs() as logs:

            async def have_all_logged() -> bool:
                waits = {"relay_waits", "comparison_waits", "loop_waits", "listener_rests"}
                return waits <= {entry["event"] for entry in logs}

            async with refuse_connections(own, admin):
                await until(have_all_logged)
        await until(lambda: _is_changed(pair))
        await until_equal(pair.dirty, set())

        assert {loop.name for loop in engine.list_loops()} == LOOPS


async def test_a_start_counts_as_no_outage(
    local_server: EmbeddedValkey,
    local: Redis,
    durable_server: EmbeddedValkey,
    durable: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loops wait for the first comparison of the servers, and count no failure meanwhile."""
    assert await local.ping()
    assert await durable.ping()

    settings = Settings.model_construct(
        redis_url=SecretStr(local_server.url), durable_url=SecretStr(durable_server.url)
    )
    async with AsyncExitStack() as stack:
        engine = (await open_redis_pair(stack, settings)).engine
        assert engine is not None
        compare = engine.open

        async def compare_slowly() -> None:
            await asyncio.sleep(0.5)
            await compare()

        monkeypatch.setattr(engine, "open", compare_slowly)
        supervisor = await stack.enter_async_context(open_supervisor())
        engine.start(supervisor)
        await until(lambda: local.exists(keys.OUTBOX))
        failures = [loop.failures for loop in supervisor.list_loops()]

    assert failures == [0] * len(LOOPS)
    assert engine.relay.counts.outages == 0


@pytest.mark.usefixtures("short_rests")
async def test_no_error_ends_the_relay(pair: Pair) -> None:
    """An unreadable entry of the outbox once ended it for good, with the service still ready."""

    async def has_failed() -> bool:
        return bool(relay.failures)

    async with running_engine(pair) as engine:
        [relay] = [loop for loop in engine.list_loops() if loop.name == "relay"]
        await pair.local.xadd(keys.OUTBOX, {"u": "no number"})
        await until(has_failed)
        failed = relay.status, relay.last_error
        await pair.sign_in()
        await until_equal(pair.dirty, set())

    assert failed == ("failing", "ValueError")
    assert relay.failures == 1
    assert await pair.durable.exists(keys.user_details(PERSON)) == 1


@pytest.mark.usefixtures("short_rests")
async def test_no_error_ends_the_sweep(pair: Pair) -> None:
    """The sweep fails while a dead letter is unreadable, and sends dirty people afterwards."""

    async def has_failed() -> bool:
        return bool(sweep.failures)

    await pair.sign_in()
    await pair.local.delete(keys.OUTBOX)  # so nothing wakes the relay
    await pair.local.hset(keys.DEAD_LETTERS, str(OTHER), "no JSON")
    async with running_engine(pair) as engine:
        [sweep] = [loop for loop in engine.list_loops() if loop.name == "sweep"]
        await until(has_failed)
        failed = sweep.status, sweep.last_error
        await pair.local.delete(keys.DEAD_LETTERS)
        await until_equal(pair.dirty, set())

    assert failed == ("failing", "JSONDecodeError")
    assert sweep.status == "running"


async def _has_met_an_outage(pair: Pair) -> bool:
    return pair.engine.relay.counts.outages > 0


async def _is_changed(pair: Pair) -> bool:
    with suppress(StoreUnavailableError):
        await pair.add("a")
        return True
    return False


async def test_a_local_out_of_memory_still_answers_readers(
    own: OwnServer, admin: Redis, on_own_local: Pair
) -> None:
    """Reading a set that local has writes nothing."""
    pair = on_own_local
    await pair.add_person("a")
    async with be_out_of_memory(own, admin):
        assert await pair.items() == ["a"]
