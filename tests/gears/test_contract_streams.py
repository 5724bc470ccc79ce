"""Behaviour that RedisGears 1.2.9 and our host share: registrations on streams."""

from ast import literal_eval
from typing import Any

import pytest

from tests.support.gears_engine import Gears
from tests.support.waiting import until, until_equal

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
    """Registers a callback like our drain, with `body` as its code.

    `body` handles the list `batch` of a batch's records.
    """
    await gears.upload(DRAIN.format(body=body), *options)


async def batches(gears: Gears) -> list[list[dict[str, str]]]:
    """Returns the saved batches."""
    written = await gears.run("LRANGE", "batches", 0, -1)
    return [literal_eval(each.decode()) for each in written]


async def drained(gears: Gears, count: int) -> list[dict[str, str]]:
    """Waits until so many entries are saved; returns their values."""

    async def are_there() -> bool:
        return sum(map(len, await batches(gears))) >= count

    await until(are_there)
    return [value for batch in await batches(gears) for value in batch]


async def status_of(gears: Gears) -> dict[str, Any]:
    """Returns the data of the only registration."""
    (registration,) = await gears.registrations()
    return dict(registration["RegistrationData"])


def people(*ids: int) -> list[dict[str, str]]:
    """Returns the values of entries of these people."""
    return [{"u": str(each)} for each in ids]


async def add(gears: Gears, *ids: int) -> list[bytes]:
    """Adds entries for these people, as the service does; returns the ids of the entries."""
    pipeline = gears.client.pipeline(transaction=True)
    for each in ids:
        pipeline.execute_command("XADD", "outbox", "*", "u", each)
    return list(await pipeline.execute())


async def test_a_record_has_key_id_and_value(gears: Gears) -> None:
    """The drain needs the id to delete the entry."""
    await drain_by(gears, "execute('RPUSH', 'batches', repr(batch))")
    (entry,) = await add(gears, 1)
    await until(lambda: batches(gears))
    assert await batches(gears) == [
        [{"key": "outbox", "id": entry.decode(), "value": {"u": "1"}}],
    ]


async def test_a_batch_is_one_call_after_accumulate(gears: Gears) -> None:
    """The drain sends such a batch to durable in one pipeline."""
    await drain_by(gears, WRITE_DOWN)
    await add(gears, *range(6))
    assert await drained(gears, 6) == people(*range(6))
    assert max(map(len, await batches(gears))) == 3


async def test_a_batch_that_is_not_full_runs_after_its_duration(gears: Gears) -> None:
    """A single change must not wait for others to fill the batch."""
    await drain_by(gears, WRITE_DOWN)
    await add(gears, *range(3))
    await drained(gears, 3)
    await add(gears, 4)
    assert await drained(gears, 4) == people(0, 1, 2, 4)


async def test_entries_from_before_the_registration_are_read(gears: Gears) -> None:
    """The outbox may have entries before the drain is registered."""
    await add(gears, *range(5))
    await drain_by(gears, WRITE_DOWN)
    assert await drained(gears, 5) == people(*range(5))


async def test_without_trim_entries_stay(gears: Gears) -> None:
    """The drain itself deletes entries that it has sent, which is safe during an upgrade."""
    await drain_by(gears, WRITE_DOWN)
    await add(gears, 1, 2, 3)
    await drained(gears, 3)
    assert await gears.client.xlen("outbox") == 3


async def test_a_failure_is_retried_from_the_first_record_of_the_batch(gears: Gears) -> None:
    """During an outage of durable no entry is lost or reordered; the status shows the retry."""
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
    """So that no person blocks the others, our drain makes dead letters and does not raise."""
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
    """In this way the capture passes a write to the drain."""
    await drain_by(gears, WRITE_DOWN)
    await gears.upload(
        "GB().foreach(lambda r: execute('XADD', 'outbox', '*', 'u', r['key']))"
        ".register('user:*', mode='sync')"
    )
    await gears.client.sadd("user:1", "a")
    assert await drained(gears, 1) == [{"u": "user:1"}]


async def test_a_stream_is_read_again_after_flushall(gears: Gears) -> None:
    """FLUSHALL deletes the group with the stream."""
    await drain_by(gears, WRITE_DOWN)
    await add(gears, 1)
    await drained(gears, 1)
    await gears.client.flushall()
    await add(gears, 2, 3, 4)
    assert await drained(gears, 3) == people(2, 3, 4)


async def test_an_upgrade_loses_no_entry(gears: Gears) -> None:
    """Entries may be read by both drains; because of versions this does no harm."""
    body = WRITE_DOWN + "\n    execute('XDEL', 'outbox', *[r['id'] for r in batch])"
    await drain_by(gears, body, "ID", "drain")
    for start in range(0, 60, 20):
        await add(gears, *range(start, start + 20))
        await drain_by(gears, body, "ID", "drain", "UPGRADE")

    async def are_all_there() -> bool:
        values = [value for batch in await batches(gears) for value in batch]
        return all(each in values for each in people(*range(60)))

    await until(are_all_there)
    await until_equal(lambda: gears.client.xlen("outbox"), 0)


async def test_entries_in_flight_at_a_kill_are_read_again(own_gears: Gears) -> None:
    """Entries stay pending in the consumer group until their batch is done."""
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
    """An operator can inspect the outbox in this way."""
    (entry,) = await add(gears, 1)
    results, _ = await gears.upload("GB('StreamReader').run('outbox')")
    assert results == [
        str({"key": "outbox", "id": entry.decode(), "value": {"u": "1"}}).encode(),
    ]


@pytest.mark.parametrize(
    ("policy", "values", "status"),
    [("continue", people(2), b"OK"), ("abort", [], b"ABORTED")],
)
async def test_other_policies_lose_entries_or_stop(
    gears: Gears, policy: str, values: list[dict[str, str]], status: bytes
) -> None:
    """Our drain must neither skip entries nor stop, so it uses the policy 'retry'."""
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
    """Trimming is the default, but loses entries at an upgrade."""
    await gears.upload(DRAIN.format(body=WRITE_DOWN).replace("trimStream=False, ", ""))
    await add(gears, 1, 2, 3)
    await until_equal(lambda: gears.client.xlen("outbox"), 0)
    assert await drained(gears, 3) == people(1, 2, 3)
