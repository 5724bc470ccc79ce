"""A server that comes back older than it was never wins over what is newer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.store import keys
from tests.support.sync import (
    COLLECTION,
    PERSON,
    OwnServer,
    Pair,
    open_pair,
    own_server,
    running_engine,
    running_listener,
)
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from sponsorsync.sandbox.valkey import EmbeddedValkey
    from tests.support.proxy import TcpProxy

OTHER = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)


@pytest.fixture
async def own_local(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A local Redis that can come back older."""
    async with own_server(tmp_path / "local") as server:
        yield server


@pytest.fixture
async def own_durable(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A durable Redis that can come back older."""
    async with own_server(tmp_path / "durable") as server:
        yield server


@pytest.fixture
async def aging(own_local: OwnServer, durable: Redis, way: TcpProxy) -> AsyncIterator[Pair]:
    """A pair whose local can come back older, and whose way to durable can be cut."""
    async with open_pair(own_local.url, f"redis://127.0.0.1:{way.port}/0") as opened:
        opened.durable = durable
        yield opened


@pytest.fixture
async def restorable(
    local_server: EmbeddedValkey, local: Redis, own_durable: OwnServer
) -> AsyncIterator[Pair]:
    """A pair whose durable can come back older."""
    assert await local.ping()
    async with open_pair(local_server.url, own_durable.url) as opened:
        yield opened


async def _has_listener(pair: Pair) -> bool:
    return await pair.local.pubsub_numpat() > 0


async def _come_back_older_while_durable_is_away(
    pair: Pair, server: OwnServer, copy: Path, way: TcpProxy
) -> None:
    """Restarts local on the copy; it is looked at, and durable cannot be asked."""
    way.cut()
    await server.come_back_older(copy)
    with pytest.raises(StoreUnavailableError):
        await pair.compare()


# ------------------------------------------------------------------ local came back older


async def test_a_local_that_is_not_compared_serves_no_command(
    aging: Pair, own_local: OwnServer
) -> None:
    """Neither a read nor a write."""
    await aging.sign_in()
    await aging.add("a")
    await own_local.come_back_older(own_local.keep_copy())

    with pytest.raises(StoreUnavailableError, match="compared"):
        await aging.items()
    with pytest.raises(StoreUnavailableError, match="compared"):
        await aging.add("b")
    assert await aging.here() == {"a"}


async def test_newer_data_of_durable_win_over_an_older_local(
    aging: Pair, own_local: OwnServer
) -> None:
    """Also before the first write, which would send the old state as the newest."""
    await aging.settle("a", "b")
    copy = own_local.keep_copy()
    await aging.remove("a")
    await aging.add("c")
    await aging.relay()
    await own_local.come_back_older(copy)
    assert await aging.here() == {"a", "b"}
    await aging.compare()
    assert await aging.here() == {"b", "c"}
    await aging.add("d")
    await aging.relay()

    assert await aging.kept() == {"b", "c", "d"}
    assert await aging.here() == {"b", "c", "d"}


async def test_an_older_local_sends_its_unsent_changes(aging: Pair, own_local: OwnServer) -> None:
    """Data that are dirty there and not newer on durable are no loss."""
    await aging.sign_in()
    await aging.relay()
    await aging.add("a")
    await own_local.come_back_older(own_local.keep_copy())
    await aging.relay_when_back()

    assert await aging.kept() == {"a"}


async def test_a_write_to_an_older_local_waits_while_durable_is_away(
    aging: Pair, own_local: OwnServer, way: TcpProxy
) -> None:
    """The set seems known, and is not what it was."""
    await aging.settle("a", "b")
    copy = own_local.keep_copy()
    await aging.remove("a")
    await aging.add("c")
    await aging.relay()
    await _come_back_older_while_durable_is_away(aging, own_local, copy, way)
    change = await aging.preferences.change(PERSON, COLLECTION, add=["d"], remove=["b"])

    assert change.is_pending
    assert await aging.here() == {"a", "b"}
    way.flow()
    await aging.relay_when_back()
    assert await aging.kept() == {"c", "d"}
    assert await aging.items() == ["c", "d"]


async def test_another_login_does_not_hide_that_local_is_older(
    aging: Pair, own_local: OwnServer, way: TcpProxy
) -> None:
    """Its version is later than all on durable; the state at the start counts."""
    await aging.settle("a", "b")
    copy = own_local.keep_copy()
    await aging.remove("a")
    await aging.relay()
    await _come_back_older_while_durable_is_away(aging, own_local, copy, way)
    await aging.sign_in(OTHER)
    with pytest.raises(StoreUnavailableError):
        await aging.compare()  # once more, as the engine does every second
    way.flow()
    await aging.relay_when_back()

    assert await aging.here() == {"b"}
    await aging.add("c")
    await aging.relay()
    assert await aging.kept() == {"b", "c"}


async def test_a_login_that_only_an_older_local_takes_for_a_join_sends_nothing_old(
    aging: Pair, own_local: OwnServer, way: TcpProxy
) -> None:
    """They had joined, and removed something, after what local remembers."""
    await aging.sign_in(entitled=False)
    await aging.add("a", "b")
    await aging.relay()
    copy = own_local.keep_copy()
    await aging.sign_in()
    await aging.remove("a")
    await aging.relay()
    await _come_back_older_while_durable_is_away(aging, own_local, copy, way)
    await aging.sign_in()
    way.flow()
    await aging.relay_when_back()

    assert await aging.kept() == {"b"}
    assert await aging.items() == ["b"]
    assert await aging.local.smembers(keys.sponsors("maintainer")) == {str(PERSON)}


async def test_a_join_before_the_comparison_sends_the_sets(
    aging: Pair, own_local: OwnServer, way: TcpProxy
) -> None:
    """The join is evaluated afterwards, and not lost."""
    await aging.settle("a", "b")
    await aging.lapse()
    await aging.add("c")
    await aging.remove("a")
    await aging.relay()
    assert await aging.kept() == {"b"}
    copy = own_local.keep_copy()
    await _come_back_older_while_durable_is_away(aging, own_local, copy, way)
    await aging.sign_in()
    way.flow()
    await aging.relay_when_back()

    assert await aging.kept() == {"b", "c"}
    assert await aging.here() == {"b", "c"}


async def test_an_account_that_was_deleted_does_not_come_back_with_an_older_local(
    aging: Pair, own_local: OwnServer
) -> None:
    """Durable has its deletion's version."""
    await aging.settle("a")
    copy = own_local.keep_copy()
    await aging.people.delete_account(PERSON)
    await aging.relay()
    await own_local.come_back_older(copy)
    await aging.compare()

    assert await aging.local.exists(SET, keys.user_details(PERSON)) == 0
    assert (await aging.people.load_account(PERSON)).profile is None


async def test_an_older_local_without_an_epoch_is_compared_too(
    aging: Pair, own_local: OwnServer, way: TcpProxy
) -> None:
    """It had been flushed, and written to, just before the copy was made."""
    await aging.local.flushall()
    await aging.settle("a", "b")
    copy = own_local.keep_copy()
    await aging.remove("a")
    await aging.relay()
    await _come_back_older_while_durable_is_away(aging, own_local, copy, way)
    await aging.add("c")
    way.flow()
    await aging.relay_when_back()

    assert await aging.kept() == {"b", "c"}


async def test_a_foreign_write_to_an_older_local_sends_nothing_old(
    aging: Pair, own_local: OwnServer, way: TcpProxy
) -> None:
    """The listener waits for the comparison, too."""
    await aging.settle("a", "b")
    copy = own_local.keep_copy()
    await aging.remove("a")
    await aging.relay()
    await _come_back_older_while_durable_is_away(aging, own_local, copy, way)
    async with running_listener(aging):
        await until(lambda: _has_listener(aging))
        await aging.local.sadd(SET, "c")
        way.flow()
        await aging.relay_when_back()
        await aging.add("d")
    await aging.relay()

    assert "a" not in await aging.kept()
    assert await aging.kept() == await aging.here()


async def test_a_wrong_type_key_does_not_stop_the_comparison(
    aging: Pair, own_local: OwnServer
) -> None:
    """Otherwise everyone's changes would wait for ever."""
    await aging.settle("a", "b", people=(PERSON, OTHER))
    copy = own_local.keep_copy()
    for person in (PERSON, OTHER):
        await aging.remove("a", person_id=person)
    await aging.relay()
    await own_local.come_back_older(copy)
    await aging.durable.delete(SET)
    await aging.durable.set(SET, "foreign")
    await aging.compare()

    assert aging.engine.incarnations.is_local_verified
    assert await aging.items(OTHER) == ["b"]


# ------------------------------------------------------------------ durable came back older


async def test_an_older_durable_gets_later_confirmed_changes_again(
    restorable: Pair, own_durable: OwnServer
) -> None:
    """No person is dirty, and only local has them."""
    await restorable.settle("a")
    copy = own_durable.keep_copy()
    await restorable.remove("a")
    await restorable.add("b")
    await restorable.sign_in(OTHER)
    await restorable.add("c", person_id=OTHER)
    await restorable.relay()
    await own_durable.come_back_older(copy)
    assert await restorable.kept() == {"a"}
    await restorable.compare()
    assert await restorable.dirty() == {PERSON, OTHER}
    await restorable.relay()

    assert await restorable.kept() == {"b"}
    assert await restorable.kept(OTHER) == {"c"}


async def test_a_durable_that_is_not_compared_is_not_fetched_from(
    restorable: Pair, own_durable: OwnServer
) -> None:
    """A fill from an older state has to come after local's newer data."""
    await restorable.settle("a")
    await restorable.evict()
    await own_durable.come_back_older(own_durable.keep_copy())

    with pytest.raises(StoreUnavailableError):
        await restorable.items()
    await restorable.relay_when_back()
    assert await restorable.items() == ["a"]


async def test_a_restart_without_a_loss_sends_nothing_again(
    restorable: Pair, own_durable: OwnServer
) -> None:
    """Its counter is unchanged."""
    await restorable.settle("a")
    await own_durable.kill()
    await own_durable.start()
    await restorable.compare()

    assert await restorable.dirty() == set()
    assert await restorable.items() == ["a"]


async def test_a_durable_that_is_flushed_under_an_open_connection_gets_everyone_again(
    pair: Pair,
) -> None:
    """The next drain detects it by the counter."""
    await pair.settle("a")
    await pair.durable.flushall()
    await pair.sign_in(OTHER)
    await pair.relay()

    assert await pair.kept() == {"a"}
    assert await pair.durable.exists(keys.user_details(OTHER)) == 1


async def test_a_person_with_an_unknown_entitlement_is_sent_again_to_an_older_durable(
    pair: Pair,
) -> None:
    """They are dirty all the time, and the sweep does not send the same twice."""
    await pair.sign_in(entitled=None)
    await pair.relay()
    for _ in range(2):
        await pair.engine.relay.sweep()
    assert await pair.durable.exists(keys.user_details(PERSON)) == 1
    await pair.durable.flushall()
    await pair.sign_in(OTHER)
    await pair.engine.relay.drain([OTHER])
    for _ in range(2):
        await pair.engine.relay.sweep()

    assert await pair.durable.exists(keys.user_details(PERSON)) == 1


# ------------------------------------------------------------------ local was flushed


async def test_after_a_flush_the_engine_brings_sponsors_back_by_itself(pair: Pair) -> None:
    """The application reads the sets directly, and cannot ask."""
    await pair.settle("a", people=(PERSON, OTHER))
    async with running_engine(pair):
        await until(lambda: _has_listener(pair))  # so the comparison at the start is over
        await pair.local.flushall()

        async def is_back() -> bool:  # looks at no set: the listener would restore that
            entitled = await pair.local.smembers(keys.sponsors("maintainer"))
            return entitled == {str(PERSON), str(OTHER)}

        await until(is_back)
        assert await pair.here() == await pair.here(OTHER) == {"a"}
