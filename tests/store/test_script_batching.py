"""Script batching: scripts called in one event-loop iteration share a round trip.

A script that fails raises only for its own caller.
"""

import asyncio
from typing import cast

import pytest
from redis.asyncio import Redis

from sponsorsync.domain.errors import StoreConflictError, StoreUnavailableError
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore, Reply
from sponsorsync.store.script_batching import ScriptBatching
from tests.store.conftest import ProxiedStore


async def test_scripts_of_one_turn_take_one_round_trip(local: Redis, proxied: ProxiedStore) -> None:
    """Each caller gets the reply to its own call."""
    for number in range(20):
        await local.hset(keys.user_details(number), "user_login", f"login-{number}")
    batching = ScriptBatching(proxied.store)
    await _call(batching, 0)  # loads the script
    before = proxied.proxy.round_trips

    replies = await asyncio.gather(*(_call(batching, number) for number in range(20)))

    logins = [cast("list[bytes]", reply)[2] for reply in replies]
    assert logins == [b"login-%d" % number for number in range(20)]
    assert proxied.proxy.round_trips - before == 1


async def test_a_script_that_the_server_does_not_know_is_loaded_for_all_callers(
    local: Redis, local_store: RedisStore
) -> None:
    """After a restart the server has lost all scripts; each caller of the batch gets a reply."""
    batching = ScriptBatching(local_store)
    await local.script_flush()

    replies = await asyncio.gather(*(_call(batching, number) for number in range(3)))

    assert replies == [_unknown(number) for number in range(3)]


async def test_cancelling_a_caller_does_not_cancel_the_others(local_store: RedisStore) -> None:
    """A request that is cancelled must not fail others, even if it was the first of the batch."""
    batching = ScriptBatching(local_store)
    tasks = [asyncio.create_task(_call(batching, number)) for number in range(3)]
    await asyncio.sleep(0)  # all have called; nothing has been sent yet

    tasks[0].cancel()
    tasks[2].cancel()
    replies = await asyncio.gather(*tasks, return_exceptions=True)

    assert replies[1] == _unknown(1)
    assert isinstance(replies[0], asyncio.CancelledError)
    assert isinstance(replies[2], asyncio.CancelledError)


async def test_an_error_of_one_call_does_not_fail_the_others(
    local: Redis, local_store: RedisStore
) -> None:
    """A wrong-type key of one person must not fail the requests of others."""
    await local.set(keys.user_details(1), "of another program")
    batching = ScriptBatching(local_store)

    replies = await asyncio.gather(
        *(_call(batching, number) for number in range(3)), return_exceptions=True
    )

    assert [replies[0], replies[2]] == [_unknown(0), _unknown(2)]
    assert isinstance(replies[1], StoreConflictError)
    assert "WRONGTYPE" in str(replies[1].__cause__)


async def test_an_outage_fails_all_callers_of_a_turn_only(proxied: ProxiedStore) -> None:
    """Calls in the next event-loop iteration are sent again."""
    batching = ScriptBatching(proxied.store)
    proxied.proxy.cut()
    failed = await asyncio.gather(
        *(_call(batching, number) for number in range(3)), return_exceptions=True
    )
    proxied.proxy.flow()

    reply = await _call(batching, 7)

    assert [type(each) for each in failed] == [StoreUnavailableError] * 3
    assert reply == _unknown(7)


async def test_a_batch_waits_for_a_reply_as_long_as_the_store(proxied: ProxiedStore) -> None:
    """The store's time-out applies to the batch, and fails all callers."""
    batching = ScriptBatching(proxied.store)
    await _call(batching, 0)
    proxied.proxy.stall()

    with pytest.raises(StoreUnavailableError, match="did not answer in time"):
        await asyncio.gather(*(_call(batching, number) for number in range(2)))


async def _call(batching: ScriptBatching, person_id: int) -> Reply:
    return await batching.run_script("load_caller", "", person_id, "", "maintainer")


def _unknown(person_id: int) -> Reply:
    """Returns the reply about a person without stored data."""
    return [b"ok", b"%d" % person_id, b"", []]
