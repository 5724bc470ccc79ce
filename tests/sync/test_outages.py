"""What a server says when it cannot serve buries nobody; what it says of data buries only one."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from sponsorsync import background
from sponsorsync.background import open_supervisor
from sponsorsync.domain.account import NO_VERSION
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.redis_pair import open_redis_pair
from sponsorsync.settings import Settings
from sponsorsync.store import keys
from sponsorsync.sync import engine as engine_module
from sponsorsync.sync import listener as listener_module
from tests.support.outages import (
    DURABLE_OUTAGES,
    OUTAGES,
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
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from tests.support.outages import Outage

OTHER = PERSON + 1
LOOPS = {"incarnations", "sweep", "retention", "relay", "listener", "notifications"}


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A server that may be spoiled."""
    async with own_server(tmp_path / "own") as server:
        yield server


@pytest.fixture
async def admin(own: OwnServer) -> AsyncIterator[Redis]:
    """An operator's connection to it, who stays permitted whatever happens."""
    async with open_admin(own) as client:
        yield client


@pytest.fixture
async def on_own_local(
    own: OwnServer, durable_server: EmbeddedValkey, durable: Redis
) -> AsyncIterator[Pair]:
    """A pair whose local may be spoiled."""
    assert await durable.ping()  # it is empty
    async with open_pair(own.url, durable_server.url) as pair:
        yield pair


@pytest.fixture
async def on_own_durable(
    own: OwnServer, local_server: EmbeddedValkey, local: Redis
) -> AsyncIterator[Pair]:
    """A pair whose durable may be spoiled."""
    assert await local.ping()  # it is empty
    async with open_pair(local_server.url, own.url) as pair:
        yield pair


@pytest.mark.parametrize("outage", DURABLE_OUTAGES)
async def test_durables_outage_makes_no_dead_letter_and_loses_nothing(
    outage: Outage, own: OwnServer, admin: Redis, on_own_durable: Pair
) -> None:
    """No data are at fault; afterwards both servers are equal."""
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


# Out of memory, a server goes on with a script that began by removing something.
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
    """A writer gets an error that names local and the reason; nothing was written."""
    await fill_with_ballast(admin)
    pair = on_own_local
    await pair.settle("a")
    before = await dump_all(pair.local_store)
    async with outage(own, admin):
        with pytest.raises(StoreUnavailableError, match="local Redis") as refusal:
            await write(pair)
        assert refusal.value.retry_after_s > 0
    await until(lambda: _is_compared(pair))

    incarnation = keys.INCARNATIONS.encode()  # names the incarnation, which may be another
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
    """Loops that try again sooner than those of a service."""
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
    """It does not end, and detects by itself that durable is back."""
    await fill_with_ballast(admin)
    pair = on_own_durable
    async with running_engine(pair) as engine:
        async with outage(own, admin):
            await pair.save_login()
            await until(lambda: _has_met_an_outage(pair))
        await until(lambda: _is_clean(pair))

        assert await pair.durable.exists(keys.user_details(PERSON)) == 1
        assert {loop.name for loop in engine.list_loops()} == LOOPS


@pytest.mark.usefixtures("short_rests")
@pytest.mark.parametrize("outage", [each for each in OUTAGES if each is not be_out_of_memory])
async def test_the_engine_goes_on_by_itself_after_locals_outage(
    outage: Outage, own: OwnServer, admin: Redis, on_own_local: Pair
) -> None:
    """Its loops all need local, and none of them ends."""
    await fill_with_ballast(admin)
    pair = on_own_local
    async with running_engine(pair) as engine:
        await pair.sign_in()
        async with outage(own, admin):
            await until(lambda: _has_met_an_outage(pair))
        await until(lambda: _is_changed(pair))
        await until(lambda: _is_clean(pair))

        assert await pair.durable_items() == {"a"}
        assert {loop.name for loop in engine.list_loops()} == LOOPS


@pytest.mark.usefixtures("short_rests")
async def test_none_of_the_engines_loops_ends_with_an_outage(
    own: OwnServer, admin: Redis, on_own_local: Pair
) -> None:
    """Each logs that it waits, and goes on."""
    pair = on_own_local
    async with running_engine(pair) as engine:
        await pair.sign_in()
        with capture_logs() as logs:

            async def have_all_said_so() -> bool:
                said = {entry["event"] for entry in logs}
                return said >= {
                    "relay_waits",
                    "comparison_waits",
                    "loop_waits",
                    "listener_rests",
                }

            async with refuse_connections(own, admin):
                await until(have_all_said_so)
        await until(lambda: _is_changed(pair))
        await until(lambda: _is_clean(pair))

        assert {loop.name for loop in engine.list_loops()} == LOOPS


async def test_a_start_is_no_outage(
    local_server: EmbeddedValkey,
    local: Redis,
    durable_server: EmbeddedValkey,
    durable: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gates are closed until the servers were compared, and the loops wait for that."""
    assert await local.ping()
    assert await durable.ping()

    async def has_group() -> bool:
        return bool(await local.exists(keys.OUTBOX))

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
        await until(has_group)
        failures = [loop.failures for loop in supervisor.list_loops()]

    assert failures == [0] * len(LOOPS)
    assert engine.relay.counts.outages == 0


@pytest.mark.usefixtures("short_rests")
async def test_no_error_ends_the_relay(pair: Pair) -> None:
    """An entry that it cannot read ended it for good, while the service said that it is ready."""

    async def has_failed() -> bool:
        return bool(relay.failures)

    async with running_engine(pair) as engine:
        [relay] = [loop for loop in engine.list_loops() if loop.name == "relay"]
        await pair.local.xadd(keys.OUTBOX, {"u": "no number"})
        await until(has_failed)
        failed = relay.status, relay.last_error
        await pair.sign_in()
        await until(lambda: _is_clean(pair))

    assert failed == ("failing", "ValueError")
    assert relay.failures == 1
    assert await pair.durable.exists(keys.user_details(PERSON)) == 1


@pytest.mark.usefixtures("short_rests")
async def test_no_error_ends_the_sweep(pair: Pair) -> None:
    """It fails as long as what it cannot read is there, and takes the people afterwards."""

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
        await until(lambda: _is_clean(pair))

    assert failed == ("failing", "JSONDecodeError")
    assert sweep.status == "running"


async def _has_met_an_outage(pair: Pair) -> bool:
    return pair.engine.relay.counts.outages > 0


async def _is_clean(pair: Pair) -> bool:
    return not await pair.dirty()


async def _is_changed(pair: Pair) -> bool:
    with suppress(StoreUnavailableError):
        await pair.add("a")
        return True
    return False


async def test_a_local_out_of_memory_still_answers_readers(
    own: OwnServer, admin: Redis, on_own_local: Pair
) -> None:
    """What is known there is read without a write."""
    pair = on_own_local
    await pair.sign_in()
    await pair.add("a")
    async with be_out_of_memory(own, admin):
        assert await pair.items() == ["a"]
