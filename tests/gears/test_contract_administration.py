"""Behaviour that RedisGears 1.2.9 and our host share: registrations, sessions, executions."""

import json
from ast import literal_eval

import pytest
from redis.exceptions import ResponseError

from tests.support.gears_engine import Gears, as_dict

SLOW = """
import time
def f(r):
    while not execute('EXISTS', 'go'):
        time.sleep(0.01)
GB().foreach(f).count().run('a')
"""


async def test_a_registration_on_keys_is_dumped(gears: Gears) -> None:
    """`deploy-gears --status` shows prefix, commands, counters and last error from this reply."""
    await gears.upload(
        "GB(desc='captures').foreach(lambda r: r).register("
        "'user:*', eventTypes=['sadd'], keyTypes=['set'], commands=['smembers'], mode='sync')",
        *("ID", "one", "DESCRIPTION", "1.0 abc"),
    )
    (entry,) = await gears.run("RG.DUMPREGISTRATIONS")
    registration = as_dict(entry)
    data = as_dict(registration["RegistrationData"])

    assert list(registration) == [
        *("id", "reader", "desc", "RegistrationData", "PD", "ExecutionThreadPool"),
    ]
    assert (registration["reader"], registration["desc"]) == (b"KeysReader", b"captures")
    assert list(data) == [
        *("mode", "numTriggered", "numSuccess", "numFailures", "numAborted"),
        *("lastRunDurationMS", "totalRunDurationMS", "avgRunDurationMS", "lastError", "args"),
    ]
    assert data["mode"] == b"sync"
    assert (data["numTriggered"], data["lastError"]) == (0, None)
    assert as_dict(data["args"]) == {
        "regex": b"user:*",
        "eventTypes": [b"sadd"],
        "keyTypes": [b"set"],
        "hookCommands": [b"smembers"],
    }


async def test_a_registration_on_a_stream_is_dumped(gears: Gears) -> None:
    """The status of this registration tells whether the drain waits for durable."""
    await gears.upload(
        "GB('StreamReader').register('outbox', batch=100, duration=200, mode='async_local', "
        "onFailedPolicy='retry', onFailedRetryInterval=1, trimStream=False)"
    )
    (entry,) = await gears.run("RG.DUMPREGISTRATIONS")
    registration = as_dict(entry)
    data = as_dict(registration["RegistrationData"])

    assert (registration["reader"], registration["desc"]) == (b"StreamReader", None)
    assert list(data)[-2:] == ["args", "status"]
    assert data["status"] == b"OK"
    assert as_dict(data["args"]) == {
        "batchSize": 100,
        "durationMS": 200,
        "stream": b"outbox",
        "trimStream": 0,
        "onFailedPolicy": b"retry",
        "retryInterval": 1,
    }


async def test_counters_count(gears: Gears) -> None:
    """A registration has the numbers of its successes and failures so far."""
    await gears.upload("GB().foreach(lambda r: 1 // int(r['value'])).register('a', mode='sync')")
    for value in (1, 0, 1):
        await gears.client.set("a", value)
    (registration,) = await gears.registrations()
    data = registration["RegistrationData"]
    assert (data["numTriggered"], data["numSuccess"], data["numFailures"]) == (3, 2, 1)


async def test_the_sessions_text_is_neither_json_nor_python(gears: Gears) -> None:
    """No parser reads the text `PD`, so the service finds the session's name by a pattern."""
    await gears.upload("GB().register('a')", "ID", "one", "DESCRIPTION", "1.0")
    (registration,) = await gears.registrations()
    text = registration["PD"].decode()
    assert "'sessionName':'one'" in text
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(text)
    with pytest.raises(ValueError, match="malformed"):
        literal_eval(text)


async def test_a_session_is_dumped(gears: Gears) -> None:
    """The entry has the description, with the live version, and the ids of the registrations."""
    await gears.upload("GB().register('a')", "ID", "one", "DESCRIPTION", "1.0 abc")
    session = (await gears.sessions())["one"]
    assert list(session) == [
        *("ID", "sessionDescription", "refCount", "linked", "dead"),
        *("requirementInstallationNeeded", "requirements", "registrations"),
    ]
    assert session["sessionDescription"] == b"1.0 abc"
    assert session["registrations"] == [(await gears.registrations())[0]["id"]]
    assert session["dead"] == b"false"


async def test_a_session_without_a_description(gears: Gears) -> None:
    """A script that was uploaded without an id gets a random one, and no description."""
    await gears.upload("GB().register('a')")
    ((name, session),) = (await gears.sessions()).items()
    assert len(name) == 40
    assert session["sessionDescription"] is None


async def test_unregistering_removes_the_session(gears: Gears) -> None:
    """A deploy removes scripts that are no longer shipped by unregistering them."""
    await gears.upload("GB().foreach(lambda r: execute('INCR', 'n')).register('a', mode='sync')")
    (registration,) = await gears.registrations()
    assert await gears.run("RG.UNREGISTER", registration["id"]) == b"OK"
    await gears.client.set("a", 1)
    assert await gears.client.exists("n") == 0
    assert await gears.sessions() == {}
    with pytest.raises(ResponseError, match="execution is not registered"):
        await gears.run("RG.UNREGISTER", registration["id"])


async def test_an_execution_in_the_background(gears: Gears) -> None:
    """A snapshot starts an execution, polls it, reads its results and drops it."""
    await gears.client.set("a", 1)
    execution = await gears.upload(SLOW, "UNBLOCKING")
    assert isinstance(execution, bytes)
    with pytest.raises(ResponseError, match="execution is still running"):
        await gears.run("RG.GETRESULTS", execution)
    with pytest.raises(ResponseError, match="abort it first"):
        await gears.run("RG.DROPEXECUTION", execution)

    await gears.client.set("go", 1)

    assert await gears.run("RG.GETRESULTSBLOCKING", execution) == [[b"1"], []]
    assert await gears.run("RG.GETRESULTS", execution) == [[b"1"], []]
    assert await gears.run("RG.DROPEXECUTION", execution) == b"OK"
    with pytest.raises(ResponseError, match="execution plan does not exist"):
        await gears.run("RG.GETRESULTS", execution)


async def test_a_registration_is_answered_at_once_in_the_background_too(gears: Gears) -> None:
    """A registration makes no execution that could be polled."""
    assert await gears.upload("GB().register('a')", "UNBLOCKING") == b"OK"


async def test_an_execution_is_dumped(gears: Gears) -> None:
    """A snapshot reports the counts, errors and duration of its executions."""
    await gears.client.set("a", 1)
    execution = await gears.upload("GB().map(lambda r: 1 / 0).run('a')", "UNBLOCKING")
    await gears.run("RG.GETRESULTSBLOCKING", execution)
    ((_, _, _, plan),) = await gears.run("RG.GETEXECUTION", execution)
    facts = as_dict(plan)
    assert (facts["status"], facts["results"], len(facts["errors"])) == (b"done", 0, 1)
    assert b"ZeroDivisionError" in facts["errors"][0]
    assert {"total_duration", "read_duration", "steps"} <= set(facts)
    assert [execution, b"done"] in [each[1:4:2] for each in await gears.run("RG.DUMPEXECUTIONS")]


async def test_an_execution_can_be_aborted(gears: Gears) -> None:
    """A snapshot aborts its executions after a time limit."""
    await gears.client.set("a", 1)
    execution = await gears.upload(SLOW, "UNBLOCKING")
    assert await gears.run("RG.ABORTEXECUTION", execution) == b"OK"
    results, errors = await gears.run("RG.GETRESULTSBLOCKING", execution)
    assert results == []
    assert all(b"gears.forcestopped" in each for each in errors)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("GETRESULTS", "execution plan does not exist"),
        ("GETRESULTSBLOCKING", "execution plan does not exist"),
        ("GETEXECUTION", "execution plan does not exist"),
        ("DROPEXECUTION", "execution plan does not exist"),
        ("ABORTEXECUTION", "execution does not exist"),
    ],
)
async def test_unknown_executions(gears: Gears, command: str, message: str) -> None:
    """An execution is unknown after it was dropped, or after a restart of the server."""
    with pytest.raises(ResponseError, match=message):
        await gears.run(f"RG.{command}", "nonsense")


async def test_the_number_of_execution_threads_can_be_read_only(gears: Gears) -> None:
    """To follow the doctor's advice to use more threads, one has to restart the server."""
    (threads,) = await gears.run("RG.CONFIGGET", "ExecutionThreads")
    assert threads >= 3
    (reply,) = await gears.run("RG.CONFIGSET", "ExecutionThreads", "5")
    assert "not modifiable at runtime" in str(reply)


async def test_a_batch_of_filter_accumulate_and_map(gears: Gears) -> None:
    """Our batch scripts accumulate people, flush them in batches and return counts."""
    await gears.client.mset({f"user:{number}": number for number in range(250)})
    script = (
        "def add(total, r):\n"
        "    total = total or {'done': 0, 'waiting': []}\n"
        "    total['waiting'].append(r['key'])\n"
        "    return flush(total) if len(total['waiting']) == 100 else total\n"
        "def flush(total):\n"
        "    total['done'] += len(execute('MGET', *total['waiting']))\n"
        "    total['waiting'] = []\n"
        "    return total\n"
        "GB().filter(lambda r: not r['key'].endswith('0')).accumulate(add)"
        ".map(lambda t: flush(t)['done']).run('user:*', readValue=False)"
    )
    assert await gears.upload(script) == [[b"225"], []]
