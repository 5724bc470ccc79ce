"""Behaviour that RedisGears 1.2.9 and our host share: the environment and steps of scripts."""

from ast import literal_eval
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.support.gears_engine import Gears
from tests.support.waiting import until


async def evaluate(gears: Gears, expression: str, before: str = "") -> Any:  # noqa: ANN401
    """Runs a script; returns the value of an expression in it."""
    await gears.upload(f"{before}\nexecute('SET', 'result', repr({expression}))")
    return literal_eval((await gears.run("GET", "result")).decode())


async def error_of(gears: Gears, statement: str) -> str:
    """Returns the last line of the traceback of a statement that raises."""
    with pytest.raises(ResponseError) as refused:
        await gears.upload(statement)
    lines: list[str] = literal_eval(str(refused.value))
    return lines[-1].strip()


async def test_each_upload_has_its_own_globals(gears: Gears) -> None:
    """Two scripts may use the same global name."""
    await gears.upload("mine = 1\nGB().foreach(lambda r: mine).register('x*')")
    assert await evaluate(gears, "'mine' in globals()") is False


async def test_callbacks_share_their_scripts_globals(gears: Gears) -> None:
    """By a global, all callbacks of a script use one connection to durable."""
    await gears.upload(
        "seen = None\n"
        "def see(r):\n"
        "    global seen\n"
        "    seen = (seen or 0) + 1\n"
        "    execute('SET', 'seen', seen)\n"
        "GB().foreach(see).register('a', mode='sync')\n"
        "GB().foreach(see).register('b', mode='sync')\n"
    )
    for key in ("a", "b", "a"):
        await gears.client.set(key, 1)
    assert await gears.client.get("seen") == b"3"


async def test_replies_become_plain_values(gears: Gears) -> None:
    """HGETALL returns a list, not a dict, and nil is None."""
    await gears.client.hset("hash", "f", "v")
    await gears.client.sadd("set", "m")
    expression = """[
        execute('GET', 'nothing'), execute('SMEMBERS', 'set'), execute('HGETALL', 'hash'),
        execute('SMEMBERS', 'nothing'), execute('INCR', 'n'), execute('SET', 'a', 'b'),
        execute('PING'), execute('MGET', 'a', 'nothing'), execute(),
    ]"""
    assert await evaluate(gears, expression) == [
        *(None, ["m"], ["f", "v"], [], 1, "OK", "PONG", ["b", None], []),
    ]


async def test_values_that_are_not_utf8_are_bytearrays(gears: Gears) -> None:
    """As a bytearray, a script can pass on a binary value unchanged."""
    await evaluate(
        gears, "execute('SET', 'copy', execute('GET', 'raw'))", "execute('SET', 'raw', b'\\xff')"
    )
    assert await gears.client.get("copy") == b"\xff"
    assert await evaluate(gears, "type(execute('GET', 'raw')).__name__") == "bytearray"


async def test_arguments_become_text(gears: Gears) -> None:
    """None becomes the text 'None', so a script has to check for it first."""
    await gears.upload(
        "execute('RPUSH', 'l', None, 1, 1.5, 'ä', True, b'bytes', bytearray(b'array'))"
    )
    assert await gears.client.lrange("l", 0, -1) == [
        *(b"None", b"1", b"1.5", "ä".encode(), b"True", b"bytes", b"array"),
    ]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("execute('SADD', 'key')", "gears.error: Invalid argument"),
        ("execute('NOSUCH', 'key')", "gears.error: No such file or directory"),
        ("execute(1)", "gears.error: the given command must be a string"),
        ("execute('EVAL', 'return redis.error_reply(ARGV[1])', 0, 'OWN x')", "gears.error: OWN x"),
    ],
)
async def test_errors_raise(gears: Gears, statement: str, message: str) -> None:
    """An SADD without members raises too, so scripts have to check for items first."""
    assert await error_of(gears, statement) == message


async def test_a_wrong_type_raises(gears: Gears) -> None:
    """Our scripts recognize a wrong-type key by this error."""
    await gears.client.set("key", "value")
    assert (await error_of(gears, "execute('SADD', 'key', 'm')")).startswith(
        "gears.error: WRONGTYPE"
    )


async def test_the_error_of_the_engine_is_an_exception(gears: Gears) -> None:
    """The class of this error cannot be imported, so scripts catch `Exception`."""
    script = "try:\n  execute('SADD', 'k')\nexcept Exception as e:\n  name = str(type(e))"
    assert await evaluate(gears, "name", script) == "<class 'gears.error'>"


async def test_settings_come_by_configset(gears: Gears) -> None:
    """Any client can read these settings, so they must not be secrets."""
    assert await gears.run("RG.CONFIGSET", "sponsorables", "a,b") == [
        b"OK - value was saved in extra config dictionary"
    ]
    expression = "(configGet('sponsorables'), configGet('none'), gearsConfigGet('none', 'x'))"
    assert await evaluate(gears, expression) == ("a,b", None, "x")
    assert await gears.run("RG.CONFIGGET", "sponsorables") == [b"a,b"]


async def test_settings_are_gone_after_a_restart(own_gears: Gears) -> None:
    """Because of this loss, our scripts do not use such settings."""
    await own_gears.run("RG.CONFIGSET", "sponsorables", "a,b")
    await own_gears.restart()
    (reply,) = await own_gears.run("RG.CONFIGGET", "sponsorables")
    assert "Unsupported config parameter" in str(reply)


async def test_log_takes_text_and_a_level(gears: Gears) -> None:
    """`log` raises for a message that is not a str."""
    await gears.upload("log('quiet', level='debug')")
    assert await error_of(gears, "log(1)") == "gears.error: Log message must be a string"
    assert "Log level should be one of" in await error_of(gears, "log('x', level='loud')")


async def test_one_exception_ends_an_execution(gears: Gears) -> None:
    """An exception skips all later records, so our batch scripts catch those of single records."""
    await gears.client.mset({f"user:{number}": number for number in range(20)})
    script = (
        "def f(r):\n"
        "    execute('INCR', 'calls')\n"
        "    raise ValueError(r['key'])\n"
        "GB().foreach(f).run('user:*')"
    )

    results, errors = await gears.upload(script)

    assert (results, len(errors), await gears.client.get("calls")) == ([], 1, b"1")
    lines: list[str] = literal_eval(errors[0].decode())
    assert lines[1] == '  File "<string>", line 3, in f\n'
    assert lines[-1].startswith("ValueError: user:")


async def test_records_before_an_exception_are_results(gears: Gears) -> None:
    """Results and an error together mean that only some records were done."""
    await gears.client.mset({"user:1": "a", "user:2": "b"})
    script = (
        "seen = []\n"
        "def f(r):\n"
        "    if seen: raise ValueError('second')\n"
        "    seen.append(r)\n"
        "GB().foreach(f).run('user:*')"
    )
    results, errors = await gears.upload(script)
    assert (len(results), len(errors)) == (1, 1)


@pytest.mark.parametrize(
    ("steps", "results"),
    [
        ("map(lambda r: r['value'])", [b"a", b"b"]),
        ("filter(lambda r: r['value'] == 'b').map(lambda r: r['key'])", [b"user:2"]),
        ("count()", [b"2"]),
        ("accumulate(lambda a, r: (a or 0) + 1).map(lambda n: {'n': n})", [b"{'n': 2}"]),
        ("foreach(lambda r: 'ignored').map(lambda r: r['key'])", [b"user:1", b"user:2"]),
        ("filter(lambda r: False).count()", []),
        ("filter(lambda r: False).accumulate(lambda a, r: 1)", []),
        ("map(lambda r: 1).accumulate(lambda a, r: (a or 0) + r)", [b"2"]),
    ],
)
async def test_steps_of_a_builder(gears: Gears, steps: str, results: list[bytes]) -> None:
    """The steps behave like Python's; `accumulate` and `count` of no records give no result."""
    await gears.client.mset({"user:1": "a", "user:2": "b"})
    got, errors = await gears.upload(f"GB().{steps}.run('user:*')")
    assert (sorted(got), errors) == (results, [])


async def test_flatmap_yields_a_list_from_its_end(gears: Gears) -> None:
    """The order of a list is reversed, and a tuple is one record."""
    await gears.client.set("a", 1)
    assert (await gears.upload("GB().flatmap(lambda r: [1, 2, 3]).run('a')"))[0] == [
        *(b"3", b"2", b"1"),
    ]
    assert (await gears.upload("GB().flatmap(lambda r: (1, 2)).run('a')"))[0] == [b"(1, 2)"]


async def test_results_without_conversion_to_text(gears: Gears) -> None:
    """Numbers stay numbers, but a client cannot read dicts and None."""
    await gears.client.set("a", 1)
    value = "[1, 'text', b'bytes', None, {'a': 1}, 2.5, ['+fine']]"
    results, _ = await gears.upload(f"GB().map(lambda r: {value}).run('a', convertToStr=False)")
    assert results == [
        [1, b"text", b"bytes", b"PY RECORD", b"PY RECORD", b"2.500000", [b"fine"]],
    ]


async def test_a_python_reader_reads_a_generator(gears: Gears) -> None:
    """With a generator, a batch can read an index and need not scan all keys."""
    await gears.client.sadd("index", "1", "2")
    script = "def ids():\n    yield from execute('SMEMBERS', 'index')\nGB('PythonReader').run(ids)"
    results, _ = await gears.upload(script)
    assert sorted(results) == [b"1", b"2"]


async def test_a_python_reader_that_is_no_generator_never_ends(gears: Gears) -> None:
    """A client that waits for such a script needs a time limit."""
    script = "GB('PythonReader').accumulate(lambda a, r: 1).run(lambda: 1)"
    execution = await gears.upload(script, "UNBLOCKING")
    with pytest.raises(ResponseError, match="execution is still running"):
        await gears.run("RG.GETRESULTS", execution)
    assert await gears.run("RG.ABORTEXECUTION", execution) == b"OK"
    await gears.run("RG.GETRESULTSBLOCKING", execution)


async def test_no_command_runs_within_atomic(gears: Gears) -> None:
    """In an atomic block, a script's earlier reads are still valid when it writes."""
    script = (
        "import time\n"
        "def f(r):\n"
        "    with atomic():\n"
        "        execute('SET', 'begun', 1)\n"
        "        time.sleep(0.1)\n"
        "        execute('SET', 'ended', 1)\n"
        "GB().foreach(f).register('a', mode='async_local')"
    )
    await gears.upload(script)
    seen = []

    async def is_over() -> bool:
        seen.append(await gears.client.mget("begun", "ended"))
        return seen[-1] == [b"1", b"1"]

    await gears.client.set("a", 1)
    await until(is_over)

    assert [b"1", None] not in seen
