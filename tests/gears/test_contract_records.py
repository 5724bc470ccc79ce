"""Behaviour that RedisGears 1.2.9 and our host share: events of keys and their records."""

import asyncio
from ast import literal_eval
from typing import Any

import pytest

from tests.support.gears_engine import Gears
from tests.support.waiting import until, until_equal

SEE = "GB().foreach(lambda r: execute('RPUSH', 'seen', repr(r)))"


async def see(gears: Gears, options: str, build: str = SEE) -> None:
    """Registers a callback that saves each record."""
    await gears.upload(f"{build}.register({options})")


async def seen(gears: Gears) -> list[Any]:
    """Returns the saved records."""
    records = await gears.run("LRANGE", "seen", 0, -1)
    return [literal_eval(record.decode()) for record in records]


async def wait_for(gears: Gears, count: int) -> list[Any]:
    """Waits until so many records are saved; returns them."""
    await until_equal(lambda: gears.client.llen("seen"), count)
    return await seen(gears)


@pytest.mark.parametrize(
    ("command", "kind", "value"),
    [
        ("SET user:1 text", "string", "text"),
        ("HSET user:1 field text", "hash", {"field": "text"}),
        ("RPUSH user:1 a b", "list", ["a", "b"]),
        ("SADD user:1 a", "set", None),
        ("ZADD user:1 1 a", "zset", None),
        ("XADD user:1 * f v", "unknown", None),
    ],
)
async def test_a_record_has_event_key_type_and_value(
    gears: Gears, command: str, kind: str, value: object
) -> None:
    """Records of sets have no value, so scripts have to call SMEMBERS."""
    await see(gears, "'user:*', mode='sync'")
    await gears.run(*command.split())
    assert (await seen(gears))[0] == {
        "event": command.partition(" ")[0].lower(),
        "key": "user:1",
        "type": kind,
        "value": value,
    }


async def test_without_values_a_record_is_event_and_key(gears: Gears) -> None:
    """The capture does not need the value, and saves the time to read it."""
    await see(gears, "'user:*', mode='sync', readValue=False")
    await gears.client.sadd("user:1", "a")
    assert await seen(gears) == [{"event": "sadd", "key": "user:1"}]


async def test_a_run_has_no_event(gears: Gears) -> None:
    """A record of `run` has the event None, so a callback can serve `run` and `register`."""
    await gears.client.set("user:1", "a")
    results, _ = await gears.upload("GB().run('user:*')")
    assert literal_eval(results[0].decode()) == {
        "event": None,
        "key": "user:1",
        "type": "string",
        "value": "a",
    }
    results, _ = await gears.upload("GB().run('user:*', readValue=False)")
    assert literal_eval(results[0].decode()) == {"event": None, "key": "user:1"}


async def test_a_run_takes_a_glob(gears: Gears) -> None:
    """By a glob, a batch script can read one collection of all people."""
    await gears.client.mset({"user:1:a": 1, "user:2:a": 1, "user:1:b": 1})
    results, _ = await gears.upload("GB().map(lambda r: r['key']).run('us?r:*:a')")
    assert sorted(results) == [b"user:1:a", b"user:2:a"]


async def test_a_registration_takes_a_key_or_a_prefix(gears: Gears) -> None:
    """Only a trailing asterisk makes a prefix; any other one is literal."""
    await see(gears, "'us*:2', mode='sync', readValue=False")
    await see(gears, "'user:1', mode='sync', readValue=False")
    await see(gears, "'other:*', mode='sync', readValue=False")
    for key in ("user:2", "user:1", "user:11", "other:1"):
        await gears.client.set(key, 1)
    assert [record["key"] for record in await seen(gears)] == ["user:1", "other:1"]


@pytest.mark.parametrize(
    ("before", "commands", "events"),
    [
        ("SADD a 1", "SREM a 1", ["srem a", "del a"]),
        ("SADD a 1", "SADD a 1", []),
        ("SADD a 1", "SREM a 2", []),
        ("", "DEL a", []),
        ("SADD a 1", "DEL a", ["del a"]),
        ("SADD a 1", "UNLINK a", ["del a"]),
        ("SET a 1", "GETDEL a", ["del a"]),
        ("SADD a 1 2", "SPOP a", ["spop a"]),
        ("SADD a 1", "SPOP a", ["spop a", "del a"]),
        ("SADD a 1", "SUNIONSTORE ab a", ["sunionstore ab"]),
        ("SADD a 1", "COPY a ab", ["copy_to ab"]),
        ("SADD a 1", "RENAME a ab", ["rename_from a", "rename_to ab"]),
        ("SADD a 1", "SET a 1", ["set a"]),
        ("SADD a 1", "MOVE a 1", ["move_from a", "move_to a"]),
        ("SADD a 1", "SINTERSTORE a a b", ["del a"]),
        ("SADD a 1", "FLUSHDB", []),
    ],
)
async def test_events_of_commands(
    gears: Gears, before: str, commands: str, events: list[str]
) -> None:
    """By these events the capture tells a removal of the last item from a loss or no change."""
    if before:
        await gears.run(*before.split())
    build = "GB().foreach(lambda r: execute('RPUSH', 'seen', r['event'] + ' ' + r['key']))"
    await see(gears, "'a*', mode='sync', readValue=False", build)

    await gears.run(*commands.split())

    assert [each.decode() for each in await gears.run("LRANGE", "seen", 0, -1)] == events


async def test_events_of_other_databases_are_equal(gears: Gears) -> None:
    """A record does not name the database, and the callback writes to database 0."""
    await see(gears, "'a*', mode='sync', readValue=False")
    async with gears.connect(single_connection_client=True) as elsewhere:
        await elsewhere.select(1)
        await elsewhere.sadd("a", "1")

    assert await seen(gears) == [{"event": "sadd", "key": "a"}]


async def test_a_pop_with_a_count_notifies_before_it_is_done(gears: Gears) -> None:
    """The callback sees the size before the pop; a `del` follows if all items were popped."""
    if not gears.is_real:
        pytest.skip("the host runs callbacks after the command")
    save = "execute('RPUSH', 'seen', r['event'] + ' ' + str(execute('SCARD', r['key'])))"
    build = f"GB().foreach(lambda r: {save})"
    await see(gears, "'a', mode='sync', readValue=False", build)
    await gears.client.sadd("a", "1", "2", "3")
    for command in ("SPOP a 1", "SPOP a", "SPOP a 2"):
        await gears.run(*command.split())

    events = [each.decode() for each in await gears.run("LRANGE", "seen", 0, -1)]
    assert events == ["sadd 3", "spop 3", "spop 1", "spop 1", "del 0"]


async def test_events_of_restore_and_smove(gears: Gears) -> None:
    """Another program may change a set by these commands."""
    await gears.client.sadd("a", "1")
    content = await gears.run("DUMP", "a")
    await see(gears, "'a*', mode='sync', readValue=False")

    await gears.client.restore("ab", 0, content)
    await gears.client.smove("a", "other", "1")

    assert [(each["event"], each["key"]) for each in await seen(gears)] == [
        *(("restore", "ab"), ("srem", "a"), ("del", "a")),
    ]


async def test_an_expiry_is_an_event(gears: Gears) -> None:
    """The server expires a key without a command; to the capture this is a loss."""
    await see(gears, "'a*', mode='sync', eventTypes=['expired']")
    await gears.client.set("a", 1, px=20)
    assert await wait_for(gears, 1) == [
        {"event": "expired", "key": "a", "type": "empty", "value": None}
    ]


async def test_a_key_that_is_gone_is_empty(gears: Gears) -> None:
    """The record of a deleted key has the type `empty`, not the former type."""
    await gears.client.sadd("a", "1")
    await see(gears, "'a*', mode='sync'")
    await gears.client.srem("a", "1")
    empty = {"key": "a", "type": "empty", "value": None}
    assert await seen(gears) == [{"event": "srem", **empty}, {"event": "del", **empty}]


async def test_key_types_exclude_missing_keys(gears: Gears) -> None:
    """The capture needs `del` events, so it does not filter by type."""
    await see(gears, "'a*', mode='sync', keyTypes=['set'], readValue=False")
    await gears.client.set("ab", 1)
    await gears.client.sadd("a", "1", "2")
    await gears.client.delete("a")
    assert [record["event"] for record in await seen(gears)] == ["sadd"]


async def test_event_types_filter_events(gears: Gears) -> None:
    """The capture names the events of sets; RedisGears accepts unknown names."""
    await see(gears, "'a*', mode='sync', eventTypes=['srem', 'nonsense'], readValue=False")
    await gears.client.sadd("a", "1", "2")
    await gears.client.srem("a", "1")
    assert [record["event"] for record in await seen(gears)] == ["srem"]


async def test_all_events_are_the_default_and_a_str_is_its_letters(gears: Gears) -> None:
    """A str in place of a list is no error; without `eventTypes`, keymiss is included."""
    await gears.upload("GB().register('a*')")
    await gears.upload("GB().register('b*', eventTypes='sadd', unknown=1)")
    first, second = await gears.registrations()
    assert (first["RegistrationData"]["mode"], first["args"]["eventTypes"]) == (b"async", None)
    assert second["args"]["eventTypes"] == [b"s", b"a", b"d", b"d"]
    await gears.client.get("a")

    async def is_triggered() -> bool:
        return bool((await gears.registrations())[0]["RegistrationData"]["numTriggered"] == 1)

    await until(is_triggered)


@pytest.mark.parametrize("mode", ["async", "async_local"])
async def test_a_later_callback_sees_the_value_of_its_own_time(gears: Gears, mode: str) -> None:
    """An async callback reads the value when it runs; only sync callbacks see each state."""
    build = (
        "import time\n"
        "def f(r):\n"
        "    while not execute('EXISTS', 'go'):\n"
        "        time.sleep(0.01)\n"
        "    execute('RPUSH', 'seen', repr(r))\n"
        "GB().foreach(f)"
    )
    await see(gears, f"'a*', mode='{mode}'", build)
    await gears.client.set("ab", 1)  # its callback waits
    await gears.client.set("a", 1)
    await gears.client.set("a", 2)
    await gears.client.set("go", 1)
    records = await wait_for(gears, 3)
    assert [record["value"] for record in records] == ["1", "2", "2"]


async def test_sync_runs_before_the_writer_has_its_reply(gears: Gears) -> None:
    """Every write that a client got a reply for has been captured."""
    await see(gears, "'a*', mode='sync'")
    pipeline = gears.client.pipeline(transaction=False)
    for number in (1, 2, 3):
        pipeline.execute_command("SET", "a", number)
        pipeline.execute_command("LLEN", "seen")
    assert (await pipeline.execute())[1::2] == [1, 2, 3]
    assert [record["value"] for record in await seen(gears)] == ["1", "2", "3"]


async def test_sync_blocks_the_whole_server(gears: Gears) -> None:
    """No client sees a write before its capture; a slow callback delays all clients."""
    build = (
        "import time\n"
        "def f(r):\n"
        "    execute('SET', 'begun', 1)\n"
        "    time.sleep(0.1)\n"
        "    execute('SET', 'ended', 1)\n"
        "GB().foreach(f)"
    )
    await see(gears, "'a', mode='sync'", build)
    states = []

    async def is_over() -> bool:
        states.append(await gears.client.mget("begun", "ended"))
        return states[-1] == [b"1", b"1"]

    async with gears.connect() as writer:
        await asyncio.gather(writer.set("a", 1), until(is_over))

    assert [b"1", None] not in states


async def test_an_error_never_reaches_the_writer(gears: Gears) -> None:
    """The registration counts the error and stores its text."""
    await gears.upload("GB().foreach(lambda r: 1 / 0).register('a', mode='sync')")
    assert await gears.client.set("a", 1) is True
    (registration,) = await gears.registrations()
    data = registration["RegistrationData"]
    assert (data["numTriggered"], data["numSuccess"], data["numFailures"]) == (1, 0, 1)
    assert b"ZeroDivisionError: division by zero" in data["lastError"]


CALLS: dict[str, list[tuple[str | int, ...]]] = {
    "command": [("SADD", "user:1", "a")],
    "lua": [("EVAL", "return redis.call('SADD', KEYS[1], 'a')", 1, "user:1")],
    "script": [("RG.PYEXECUTE", "execute('SADD', 'user:1', 'a')")],
    "script's lua": [
        ("RG.PYEXECUTE", "execute('EVAL', 'return redis.call(\"SADD\", KEYS[1], 1)', 1, 'user:1')")
    ],
    "atomic": [("RG.PYEXECUTE", "with atomic():\n    execute('SADD', 'user:1', 'a')")],
    "transaction": [("MULTI",), ("SADD", "user:1", "a"), ("EXEC",)],
}


@pytest.mark.parametrize("way", CALLS)
async def test_writes_of_all_kinds_are_captured(gears: Gears, way: str) -> None:
    """The application may write in any of these ways."""
    await see(gears, "'user:*', mode='sync', readValue=False")
    async with gears.connect(single_connection_client=True) as writer:
        for command in CALLS[way]:
            await writer.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's
    assert await seen(gears) == [{"event": "sadd", "key": "user:1"}]


async def test_each_write_within_lua_is_an_event(gears: Gears) -> None:
    """The capture runs once for each write, also within one script."""
    await see(gears, "'user:*', mode='sync', readValue=False")
    await gears.client.eval(
        "redis.call('SADD', KEYS[1], 'a') redis.call('SADD', KEYS[1], 'b')", 1, "user:1"
    )
    assert len(await seen(gears)) == 2


async def test_a_sync_callback_sees_a_key_that_lua_sets_and_deletes(gears: Gears) -> None:
    """Our scripts suppress the capture with such a key."""
    build = "GB().foreach(lambda r: execute('RPUSH', 'seen', execute('EXISTS', 'quiet')))"
    await see(gears, "'user:*', mode='sync', readValue=False", build)
    await gears.client.eval(
        "redis.call('SADD', KEYS[1], 'a')"
        "redis.call('SET', KEYS[2], '1', 'PX', 1000)"
        "redis.call('SADD', KEYS[1], 'b')"
        "redis.call('DEL', KEYS[2])"
        "redis.call('SADD', KEYS[1], 'c')",
        *(2, "user:1", "quiet"),
    )
    assert await gears.client.lrange("seen", 0, -1) == [b"0", b"1", b"0"]
    assert await gears.client.exists("quiet") == 0


async def test_other_registrations_writes_are_captured(gears: Gears) -> None:
    """Without suppression, the capture would take fetched data for a foreign write."""
    await see(gears, "'user:*', mode='sync', eventTypes=['sadd'], readValue=False")
    await gears.upload(
        "GB().foreach(lambda r: execute('SADD', r['key'], 'a'))"
        ".register('user:*', mode='async_local', eventTypes=['keymiss'])"
    )
    await gears.client.smembers("user:1")
    assert await wait_for(gears, 1) == [{"event": "sadd", "key": "user:1"}]


async def test_writes_of_a_sync_callback_are_not_captured(gears: Gears) -> None:
    """While a sync callback runs, no KeysReader gets events."""
    await see(gears, "'marked', mode='sync', readValue=False")
    await see(gears, "'marked', mode='async_local', readValue=False")
    await gears.upload(
        "GB().foreach(lambda r: execute('SET', 'marked', 1)).register('a', mode='sync')"
    )
    await gears.client.set("a", 1)
    assert await gears.client.get("marked") == b"1"
    assert [each["RegistrationData"]["numTriggered"] for each in await gears.registrations()] == [
        *(0, 0, 1),
    ]


async def test_executions_of_one_registration_are_serial(gears: Gears) -> None:
    """A slow fetch delays all other fetches of the same registration."""
    build = (
        "import time\n"
        "def f(r):\n"
        "    execute('RPUSH', 'seen', '\"begin\"')\n"
        "    time.sleep(0.05)\n"
        "    execute('RPUSH', 'seen', '\"end\"')\n"
        "GB().foreach(f)"
    )
    await see(gears, "'user:*', mode='async_local'", build)
    await gears.client.mset({"user:1": 1, "user:2": 1, "user:3": 1})
    assert await wait_for(gears, 6) == ["begin", "end"] * 3


async def test_different_registrations_run_concurrently(gears: Gears) -> None:
    """Our script registers many prefixes, so that fetches run at once."""
    script = (
        "import time\n"
        "def meet(r):\n"
        "    execute('INCR', 'here')\n"
        "    for _ in range(500):\n"
        "        if execute('GET', 'here') == '3':\n"
        "            execute('RPUSH', 'seen', repr({'met': r['key']}))\n"
        "            return\n"
        "        time.sleep(0.01)\n"
        "for prefix in 'abc':\n"
        "    GB().foreach(meet).register(prefix + '*', mode='async_local')"
    )
    await gears.upload(script)
    await gears.client.mset({"a1": 1, "b1": 1, "c1": 1})
    assert len(await wait_for(gears, 3)) == 3
