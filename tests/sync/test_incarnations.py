"""A server that restarts in an older state never overwrites newer data.

After a restart or a flush, the engine compares the two servers before it relies on their data.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.store import keys
from tests.support.proxy import TcpProxy
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

OTHER = PERSON + 1
SET = keys.preferences(PERSON, COLLECTION)


@dataclass
class Aging:
    """A pair whose local can restart on an older copy, and whose link to durable can be cut."""

    pair: Pair
    server: OwnServer

    async def come_back_older(self, copy: Path) -> None:
        """Restarts local on an earlier copy of its data."""
        await self.server.come_back_older(copy)

    async def come_back_older_without_durable(self, copy: Path) -> None:
        """Restarts local on an earlier copy while durable is down, so the comparison fails."""
        self.pair.cut()
        await self.server.come_back_older(copy)
        with pytest.raises(StoreUnavailableError):
            await self.pair.compare()

    async def lose_removal_without_durable(self) -> None:
        """Settles {a, b}, relays the removal of a, and restarts local on the state before."""
        await self.pair.settle("a", "b")
        copy = self.server.keep_copy()
        await self.pair.remove("a")
        await self.pair.relay()
        await self.come_back_older_without_durable(copy)


@pytest.fixture
async def aging(tmp_path: Path, durable: Redis, proxy: TcpProxy) -> AsyncIterator[Aging]:
    """A pair whose local can restart on an older copy."""
    async with (
        own_server(tmp_path / "local") as server,
        open_pair(server.url, f"redis://127.0.0.1:{proxy.port}/0") as opened,
    ):
        opened.durable, opened.proxy = durable, proxy
        yield Aging(opened, server)


@pytest.fixture
async def own_durable(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A durable Redis that can restart on an older copy."""
    async with own_server(tmp_path / "durable") as server:
        yield server


@pytest.fixture
async def restorable(
    local_server: EmbeddedValkey, local: Redis, own_durable: OwnServer
) -> AsyncIterator[Pair]:
    """A pair whose durable can restart on an older copy."""
    assert await local.ping()
    async with open_pair(local_server.url, own_durable.url) as opened:
        yield opened


async def _has_listener(pair: Pair) -> bool:
    return await pair.local.pubsub_numpat() > 0


async def test_a_local_that_is_not_compared_serves_no_command(aging: Aging) -> None:
    """After a restart local may have an older state, until it is compared with durable."""
    pair = aging.pair
    await pair.add_person("a")
    await aging.come_back_older(aging.server.keep_copy())

    with pytest.raises(StoreUnavailableError, match="compared"):
        await pair.items()
    with pytest.raises(StoreUnavailableError, match="compared"):
        await pair.add("b")
    assert await pair.local_items() == {"a"}


async def test_newer_data_of_durable_win_over_an_older_local(aging: Aging) -> None:
    """The merge comes before the first write, which would send the old state as the newest."""
    pair = aging.pair
    await pair.settle("a", "b")
    copy = aging.server.keep_copy()
    await pair.remove("a")
    await pair.add("c")
    await pair.relay()
    await aging.come_back_older(copy)
    assert await pair.local_items() == {"a", "b"}
    await pair.compare()
    assert await pair.local_items() == {"b", "c"}
    await pair.add("d")
    await pair.relay()

    assert await pair.durable_items() == {"b", "c", "d"}
    assert await pair.local_items() == {"b", "c", "d"}


async def test_an_older_local_sends_its_unsent_changes(aging: Aging) -> None:
    """The person is dirty in the older state too, and durable has nothing newer."""
    pair = aging.pair
    await pair.settle()
    await pair.add("a")
    await aging.come_back_older(aging.server.keep_copy())
    await pair.relay_when_back()

    assert await pair.durable_items() == {"a"}


async def test_a_write_to_an_older_local_waits_while_durable_is_down(aging: Aging) -> None:
    """Local has the set, but in an outdated state, so the change waits for the merge."""
    pair = aging.pair
    await pair.settle("a", "b")
    copy = aging.server.keep_copy()
    await pair.remove("a")
    await pair.add("c")
    await pair.relay()
    await aging.come_back_older_without_durable(copy)
    change = await pair.preferences.change(PERSON, COLLECTION, add=["d"], remove=["b"])

    assert change.is_pending
    assert await pair.local_items() == {"a", "b"}
    await pair.reconnect()
    assert await pair.durable_items() == {"c", "d"}
    assert await pair.items() == ["c", "d"]


async def test_another_login_does_not_hide_that_local_is_older(aging: Aging) -> None:
    """The login gets the latest version on local, but its state at the restart decides."""
    pair = aging.pair
    await aging.lose_removal_without_durable()
    await pair.sign_in(OTHER)
    with pytest.raises(StoreUnavailableError):
        await pair.compare()  # once more, as the engine does every second
    await pair.reconnect()

    assert await pair.local_items() == {"b"}
    await pair.add("c")
    await pair.relay()
    assert await pair.durable_items() == {"b", "c"}


async def test_a_login_that_only_an_older_local_sees_as_a_join_sends_nothing_old(
    aging: Aging,
) -> None:
    """Durable has a join and a removal of an item that are missing in local's older state."""
    pair = aging.pair
    await pair.settle("a", "b", entitled=False)
    copy = aging.server.keep_copy()
    await pair.sign_in()
    await pair.remove("a")
    await pair.relay()
    await aging.come_back_older_without_durable(copy)
    await pair.sign_in()
    await pair.reconnect()

    assert await pair.durable_items() == {"b"}
    assert await pair.items() == ["b"]
    assert await pair.local.smembers(keys.sponsors("maintainer")) == {str(PERSON)}


async def test_a_join_before_the_comparison_sends_the_sets(aging: Aging) -> None:
    """The relay recognizes the join only after the comparison, and then sends all sets."""
    pair = aging.pair
    await pair.settle("a", "b")
    await pair.lapse()
    await pair.add("c")
    await pair.remove("a")
    await pair.relay()
    assert await pair.durable_items() == {"b"}
    copy = aging.server.keep_copy()
    await aging.come_back_older_without_durable(copy)
    await pair.sign_in()
    await pair.reconnect()

    assert await pair.durable_items() == {"b", "c"}
    assert await pair.local_items() == {"b", "c"}


async def test_an_older_local_restores_no_deleted_account(aging: Aging) -> None:
    """Durable has the version of the deletion, which is newer than local's account."""
    pair = aging.pair
    await pair.settle("a")
    copy = aging.server.keep_copy()
    await pair.people.delete_account(PERSON)
    await pair.relay()
    await aging.come_back_older(copy)
    await pair.compare()

    assert await pair.local.exists(SET, keys.user_details(PERSON)) == 0
    assert (await pair.people.load_account(PERSON)).profile is None


async def test_an_older_local_without_an_incarnation_is_compared_too(aging: Aging) -> None:
    """The copy was made just after a flush, before the engine saved an incarnation again."""
    pair = aging.pair
    await pair.local.flushall()
    await aging.lose_removal_without_durable()
    await pair.add("c")
    await pair.reconnect()

    assert await pair.durable_items() == {"b", "c"}


async def test_a_foreign_write_to_an_older_local_sends_nothing_old(aging: Aging) -> None:
    """The listener marks the write of another program only after the comparison."""
    pair = aging.pair
    await aging.lose_removal_without_durable()
    async with running_listener(pair):
        await until(lambda: _has_listener(pair))
        await pair.local.sadd(SET, "c")
        await pair.reconnect()
        await pair.add("d")
    await pair.relay()

    assert "a" not in await pair.durable_items()
    assert await pair.durable_items() == await pair.local_items()


async def test_a_wrong_type_key_does_not_stop_the_comparison(aging: Aging) -> None:
    """A failed comparison would make the changes of all people wait."""
    pair = aging.pair
    await pair.settle("a", "b", people=(PERSON, OTHER))
    copy = aging.server.keep_copy()
    for person in (PERSON, OTHER):
        await pair.remove("a", person_id=person)
    await pair.relay()
    await aging.come_back_older(copy)
    await pair.durable.set(SET, "foreign")
    await pair.compare()

    assert pair.engine.incarnations.is_local_verified
    assert await pair.items(OTHER) == ["b"]


async def test_an_older_durable_gets_later_confirmed_changes_again(
    restorable: Pair, own_durable: OwnServer
) -> None:
    """No person is dirty, and now only local has the changes."""
    await restorable.settle("a")
    copy = own_durable.keep_copy()
    await restorable.remove("a")
    await restorable.add("b")
    await restorable.sign_in(OTHER)
    await restorable.add("c", person_id=OTHER)
    await restorable.relay()
    await own_durable.come_back_older(copy)
    assert await restorable.durable_items() == {"a"}
    await restorable.compare()
    assert await restorable.dirty() == {PERSON, OTHER}
    await restorable.relay()

    assert await restorable.durable_items() == {"b"}
    assert await restorable.durable_items(OTHER) == {"c"}


async def test_nothing_is_fetched_from_a_durable_that_is_not_compared(
    restorable: Pair, own_durable: OwnServer
) -> None:
    """Durable may be older than local, whose newer data have to be sent before a fetch."""
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
    """Durable's count of applied records shows that it lost nothing."""
    await restorable.settle("a")
    await own_durable.kill()
    await own_durable.start()
    await restorable.compare()

    assert await restorable.dirty() == set()
    assert await restorable.items() == ["a"]


async def test_a_durable_that_is_flushed_under_an_open_connection_gets_everything_again(
    pair: Pair,
) -> None:
    """The next drain detects the flush: durable's count of applied records went back."""
    await pair.settle("a")
    await pair.durable.flushall()
    await pair.sign_in(OTHER)
    await pair.relay()

    assert await pair.durable_items() == {"a"}
    assert await pair.durable.exists(keys.user_details(OTHER)) == 1


async def test_a_person_with_an_unknown_entitlement_is_sent_again_to_an_older_durable(
    pair: Pair,
) -> None:
    """The person stays dirty, but the sweep does not send a state that durable already has."""
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


async def test_the_engine_restores_sponsors_after_a_flush(pair: Pair) -> None:
    """The application reads sponsors' sets without the service, so no read would fetch them."""
    await pair.settle("a", people=(PERSON, OTHER))
    async with running_engine(pair):
        await until(lambda: _has_listener(pair))  # the first comparison is over
        await pair.local.flushall()

        async def is_back() -> bool:  # reads no set: the listener would restore it
            entitled = await pair.local.smembers(keys.sponsors("maintainer"))
            return entitled == {str(PERSON), str(OTHER)}

        await until(is_back)
        assert await pair.local_items() == await pair.local_items(OTHER) == {"a"}


async def test_a_restarted_service_compares_at_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service refuses requests until it has compared, so it does not wait for a request."""
    await pair.engine.open()
    comparisons: list[None] = []
    open_gates = pair.engine.open

    async def count() -> None:
        comparisons.append(None)
        await open_gates()

    async def has_compared() -> bool:
        return bool(comparisons)

    monkeypatch.setattr(pair.engine, "open", count)
    async with running_engine(pair):
        await until(has_compared)
