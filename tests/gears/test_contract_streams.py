"""How RedisGears 1.2.9 reads streams for a registration; the host has to do the same."""

from __future__ import annotations

from ast import literal_eval
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.gears.conftest import Gears

DRAIN = """
def collect(batch, r):
    batch = batch or []
    batch.append(r)
    return batch

def push(batch):
    {body}

GB('StreamReader').accumulate(collect).foreach(push).register(
    prefix='outbox', batch=3, duration=50, mode='async_local', onFailedPolicy='retry',
    onFailedRetryInterval=1, trimStream=False, convertToStr=False, collect=False
)
"""
WRITE_DOWN = "execute('RPUSH', 'batches', repr([r['value'] for r in batch]))"


async def drain_by(gears: Gears, body: str, *options: str) -> None:
    """Uploads a drain whose body has a `batch`."""
    await gears.upload(DRAIN.format(body=body), *options)


async def batches(gears: Gears) -> list[list[dict[str, str]]]:
    """Returns what was written down."""
    written = await gears.run("LRANGE", "batches", 0, -1)
    return [literal_eval(each.decode()) for each in written]


async def drained(gears: Gears, count: int) -> list[dict[str, str]]:
    """Returns the values of all entries when there are so many."""

    async def are_there() -> bool:
        return sum(map(len, await batches(gears))) >= count

    await until(are_there)
    return [value for batch in await batches(gears) for value in batch]


async def status_of(gears: Gears) -> dict[str, Any]:
    """Returns the data of the one registration."""
    (registration,) = await gears.registrations()
    return dict(registration["RegistrationData"])


def people(*ids: int) -> list[dict[str, str]]:
    """Returns the values of entries."""
    return [{"u": str(each)} for each in ids]


async def add(gears: Gears, *ids: int) -> list[bytes]:
    """Adds entries as the service does."""
    pipeline = gears.client.pipeline(transaction=True)
    for each in ids:
        pipeline.execute_command("XADD", "outbox", "*", "u", each)
    return list(await pipeline.execute())


async def test_a_record_has_key_id_and_value(gears: Gears) -> None:
    """The id is what the drain deletes afterwards."""
    await drain_by(gears, "execute('RPUSH', 'batches', repr(batch))")
    (entry,) = await add(gears, 1)

    async def is_there() -> bool:
        return bool(await batches(gears))

    await until(is_there)
    assert await batches(gears) == [
        [{"key": "outbox", "id": entry.decode(), "value": {"u": "1"}}],
    ]


async def test_a_batch_is_one_call_after_accumulate(gears: Gears) -> None:
    """So it is one pipeline to durable."""
    await drain_by(gears, WRITE_DOWN)
    await add(gears, *range(6))
    assert await drained(gears, 6) == people(*range(6))
    assert max(map(len, await batches(gears))) == 3


async def test_a_batch_that_is_not_full_goes_after_its_duration(gears: Gears) -> None:
    """Nobody waits for others to change something."""
    await drain_by(gears, WRITE_DOWN)
    await add(gears, *range(3))
    await drained(gears, 3)
    await add(gears, 4)
    assert await drained(gears, 4) == people(0, 1, 2, 4)


async def test_entries_from_before_the_registration_are_read(gears: Gears) -> None:
    """The outbox filled up while nothing was registered."""
    await add(gears, *range(5))
    await drain_by(gears, WRITE_DOWN)
    assert await drained(gears, 5) == people(*range(5))


async def test_without_trim_entries_stay(gears: Gears) -> None:
    """The drain deletes them itself, which an upgrade cannot disturb."""
    await drain_by(gears, WRITE_DOWN)
    await add(gears, 1, 2, 3)
    await drained(gears, 3)
    assert await gears.client.xlen("outbox") == 3


async def test_a_failure_is_tried_again_from_the_batchs_first_record(gears: Gears) -> None:
    """Durable was away: nothing is lost, nothing overtakes, and the status says so meanwhile."""
    body = "if not execute('EXISTS', 'up'): raise OSError('durable is down')\n    " + WRITE_DOWN
    await drain_by(gears, body)
    await add(gears, *range(4))

    async def is_waiting() -> bool:
        return bool((await status_of(gears))["status"] == b"WAITING_FOR_RETRY_ON_FAILURE")

    await until(is_waiting)
    assert b"OSError: durable is down" in (await status_of(gears))["lastError"]
    await add(gears, 4)
    await gears.client.set("up", 1)
    assert await drained(gears, 5) == people(*range(5))
    assert (await status_of(gears))["status"] == b"OK"


async def test_an_entry_that_always_fails_blocks_the_stream(gears: Gears) -> None:
    """So the script stores data errors as dead letters; a deleted entry comes without a value."""
    body = "assert {'u': 'poison'} not in [r['value'] for r in batch]\n    " + WRITE_DOWN
    await drain_by(gears, body)
    await add(gears, 1)
    poison = await gears.client.xadd("outbox", {"u": "poison"})
    await add(gears, 2)

    async def has_failed_again() -> bool:
        return int((await status_of(gears))["numFailures"]) > 1

    await until(has_failed_again)
    assert {"u": "2"} not in [value for batch in await batches(gears) for value in batch]
    await gears.client.xdel("outbox", poison)

    values = await drained(gears, 3)

    assert sorted(map(str, values)) == sorted(map(str, [*people(1, 2), {}]))


async def test_a_sync_callbacks_entry_wakes_the_reader(gears: Gears) -> None:
    """How a captured write reaches durable."""
    await drain_by(gears, WRITE_DOWN)
    await gears.upload(
        "GB().foreach(lambda r: execute('XADD', 'outbox', '*', 'u', r['key']))"
        ".register('user:*', mode='sync')"
    )
    await gears.client.sadd("user:1", "a")
    assert await drained(gears, 1) == [{"u": "user:1"}]


async def test_the_stream_may_be_gone_and_come_again(gears: Gears) -> None:
    """FLUSHALL takes the group with the stream."""
    await drain_by(gears, WRITE_DOWN)
    await add(gears, 1)
    await drained(gears, 1)
    await gears.client.flushall()
    await add(gears, 2, 3, 4)
    assert await drained(gears, 3) == people(2, 3, 4)


async def test_an_upgrade_loses_nothing(gears: Gears) -> None:
    """What was in flight may come twice, which versions make harmless."""
    body = WRITE_DOWN + "\n    execute('XDEL', 'outbox', *[r['id'] for r in batch])"
    await drain_by(gears, body, "ID", "drain")
    for start in range(0, 60, 20):
        await add(gears, *range(start, start + 20))
        await drain_by(gears, body, "ID", "drain", "UPGRADE")

    async def are_all_there() -> bool:
        values = [value for batch in await batches(gears) for value in batch]
        return all(each in values for each in people(*range(60)))

    await until(are_all_there)

    async def is_empty() -> bool:
        return await gears.client.xlen("outbox") == 0

    await until(is_empty)


async def test_entries_in_flight_at_a_kill_are_read_again(own_gears: Gears) -> None:
    """They stay pending until the batch is done."""
    body = (
        "import time\n"
        "    while execute('EXISTS', 'held'):\n"
        "        time.sleep(0.01)\n"
        "    " + WRITE_DOWN
    )
    await own_gears.client.set("held", 1)
    await drain_by(own_gears, body)
    await add(own_gears, *range(5))

    async def is_pending() -> bool:
        groups = await own_gears.client.xinfo_groups("outbox")
        return bool(groups and groups[0]["pending"] == 3)

    await until(is_pending)
    await own_gears.restart(kill=True)
    await own_gears.client.delete("held")
    assert await drained(own_gears, 5) == people(*range(5))


async def test_a_run_reads_a_stream_once(gears: Gears) -> None:
    """For looking at an outbox by hand."""
    (entry,) = await add(gears, 1)
    results, _ = await gears.upload("GB('StreamReader').run('outbox')")
    assert results == [
        str({"key": "outbox", "id": entry.decode(), "value": {"u": "1"}}).encode(),
    ]


@pytest.mark.parametrize(
    ("policy", "values", "status"),
    [("continue", people(2), b"OK"), ("abort", [], b"ABORTED")],
)
async def test_other_policies_lose_or_stop(
    gears: Gears, policy: str, values: list[dict[str, str]], status: bytes
) -> None:
    """Why ours is 'retry'."""
    body = "assert batch[0]['value'] != {'u': '1'}\n    " + WRITE_DOWN
    script = DRAIN.format(body=body).replace("'retry'", repr(policy)).replace("batch=3", "batch=1")
    await gears.upload(script)
    await add(gears, 1, 2)

    async def is_over() -> bool:
        data = await status_of(gears)
        return data["numFailures"] == 1 and [v for b in await batches(gears) for v in b] == values

    await until(is_over)
    assert (await status_of(gears))["status"] == status


async def test_trimming_removes_read_entries(gears: Gears) -> None:
    """The default; not ours, since it loses entries at an upgrade."""
    await gears.upload(DRAIN.format(body=WRITE_DOWN).replace("trimStream=False, ", ""))
    await add(gears, 1, 2, 3)

    async def is_trimmed() -> bool:
        return await gears.client.xlen("outbox") == 0

    await until(is_trimmed)
    assert await drained(gears, 3) == people(1, 2, 3)
