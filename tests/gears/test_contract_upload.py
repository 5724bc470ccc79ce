"""Behaviour that RedisGears 1.2.9 and our host share: uploads."""

import os

import pytest
from redis.exceptions import ResponseError

from tests.support.gears_engine import Gears

REGISTERS = "GB().register('user:*')"


async def refusal_of(gears: Gears, script: str, *options: str) -> str:
    """Returns the error reply to an upload."""
    with pytest.raises(ResponseError) as refused:
        await gears.upload(script, *options)
    return str(refused.value)


@pytest.mark.parametrize("script", [REGISTERS, "answer = 42", ""])
@pytest.mark.parametrize("options", [(), ("UNBLOCKING",), ("FORCE_REINSTALL_REQUIREMENTS",)])
async def test_a_script_that_runs_nothing_answers_ok(
    gears: Gears, script: str, options: tuple[str, ...]
) -> None:
    """OK does not tell whether the script registered anything."""
    assert await gears.upload(script, *options) == b"OK"


async def test_a_script_that_runs_answers_results_and_errors(gears: Gears) -> None:
    """The service reads the counts of a batch script from the results."""
    await gears.client.mset({"user:1": "a", "user:2": "b", "other": "c"})

    results, errors = await gears.upload("GB().map(lambda r: r['value']).run('user:*')")

    assert (sorted(results), errors) == ([b"a", b"b"], [])


async def test_a_script_that_registers_and_runs_loses_its_result(gears: Gears) -> None:
    """Because a registration hides the result, our scripts either register callbacks or run."""
    assert await gears.upload(f"{REGISTERS}\nGB().count().run('*')", "ID", "both") == b"OK"
    assert list(await gears.sessions()) == ["both"]


async def test_an_execution_keeps_its_session_until_it_is_dropped(gears: Gears) -> None:
    """The session's id stays in use after its registrations are removed."""
    await gears.upload(f"{REGISTERS}\nGB().count().run('*')", "ID", "both")
    ((_, registration, *_),) = await gears.run("RG.DUMPREGISTRATIONS")
    ((_, execution, *_),) = await gears.run("RG.DUMPEXECUTIONS")
    await gears.run("RG.GETRESULTSBLOCKING", execution)

    await gears.run("RG.UNREGISTER", registration)
    before = list(await gears.sessions())
    await gears.run("RG.DROPEXECUTION", execution)

    assert (before, list(await gears.sessions())) == (["both"], [])


async def test_a_script_can_run_only_one_execution(gears: Gears) -> None:
    """A batch over keys of two patterns needs two scripts."""
    message = await refusal_of(gears, "GB().run('a*')\nGB().run('b*')")
    assert "gears.error: Can not run more then 1 executions in a single script" in message


async def test_uploads_without_an_id_register_twice(gears: Gears) -> None:
    """An id prevents this, so our deploy always gives one."""
    await gears.upload(REGISTERS)
    await gears.upload(REGISTERS)
    assert len(await gears.registrations()) == 2


async def test_an_id_cannot_be_used_twice(gears: Gears) -> None:
    """Without UPGRADE, one of two concurrent deploys fails."""
    await gears.upload(REGISTERS, "ID", "one")
    assert await refusal_of(gears, REGISTERS, "ID", "one") == "Session one already exists"


async def test_an_upgrade_replaces_and_may_be_the_first(gears: Gears) -> None:
    """A deploy can use the same command whether or not the script is live."""
    for _ in range(3):
        assert await gears.upload(REGISTERS, "ID", "one", "UPGRADE") == b"OK"
    assert len(await gears.registrations()) == 1
    assert list(await gears.sessions()) == ["one"]


async def test_a_failed_upgrade_keeps_the_old_one(gears: Gears) -> None:
    """A broken new script leaves the old one live."""
    await gears.upload(REGISTERS, "ID", "one")
    before = await gears.run("RG.DUMPREGISTRATIONS")

    await refusal_of(gears, f"{REGISTERS}\nraise ValueError('broken')", "ID", "one", "UPGRADE")

    assert await gears.run("RG.DUMPREGISTRATIONS") == before


async def test_an_upgrade_without_registrations_removes_nothing(gears: Gears) -> None:
    """An empty script cannot replace a live one, which has to be unregistered."""
    await gears.upload(REGISTERS, "ID", "one")
    await gears.upload("", "ID", "one", "UPGRADE")
    assert len(await gears.registrations()) == 1


async def test_replace_with_gives_a_new_id(gears: Gears) -> None:
    """REPLACE_WITH replaces a live script by one with another id."""
    await gears.upload(REGISTERS, "ID", "old")

    assert await gears.upload(REGISTERS, "ID", "new", "REPLACE_WITH", "old") == b"OK"

    assert list(await gears.sessions()) == ["new"]
    assert len(await gears.registrations()) == 1
    assert await refusal_of(gears, REGISTERS, "ID", "x", "REPLACE_WITH", "old") == (
        "Can not replace with old, session does not exists."
    )


async def test_a_session_without_registrations_is_not_kept(gears: Gears) -> None:
    """A batch script that ran leaves no session."""
    await gears.client.set("user:1", "a")
    await gears.upload("GB().run('user:*')", "ID", "batch")
    await gears.upload("answer = 42", "ID", "nothing")
    assert await gears.sessions() == {}


async def test_ids_have_no_dots(gears: Gears) -> None:
    """The version of a script cannot be in its id, so it is in its description."""
    assert await gears.upload(REGISTERS, "ID", "sponsorsync-write_behind-1") == b"OK"
    assert (await refusal_of(gears, REGISTERS, "ID", "v1.2")).startswith("ID must be compose of")


async def test_a_script_registers_all_or_nothing(gears: Gears) -> None:
    """If one registration of a script is refused, none becomes live."""
    await refusal_of(gears, f"{REGISTERS}\nGB().register('x*', commands=['smember'])")
    assert await gears.registrations() == []


async def test_registrations_outlive_flushall(gears: Gears) -> None:
    """After FLUSHALL the scripts have to restore the data."""
    await gears.upload("GB().foreach(lambda r: execute('INCR', 'n')).register('a', mode='sync')")
    await gears.client.flushall()
    await gears.client.set("a", 1)
    assert await gears.client.get("n") == b"1"


@pytest.mark.parametrize("kill", [True, False])
async def test_registrations_outlive_the_process(own_gears: Gears, *, kill: bool) -> None:
    """After a crash or a restart the scripts are still registered."""
    script = (
        "step = 2\nGB().foreach(lambda r: execute('INCRBY', 'n', step)).register('a', mode='sync')"
    )
    await own_gears.upload(script, "ID", "one", "DESCRIPTION", "1.0")
    before = await own_gears.registrations()

    await own_gears.restart(kill=kill)

    await own_gears.client.set("a", 1)
    assert await own_gears.client.get("n") == b"2"
    assert [each["id"] for each in await own_gears.registrations()] == [
        each["id"] for each in before
    ]
    assert (await own_gears.sessions())["one"]["sessionDescription"] == b"1.0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("FOO",), "Unknown arguments were given: FOO"),
        (("ID",), "ID is missing"),
        (("DESCRIPTION",), "DESCRIPTION is missing"),
    ],
)
async def test_options_are_checked(gears: Gears, options: tuple[str, ...], message: str) -> None:
    """A RedisGears without UPGRADE refuses it as an unknown argument."""
    assert await refusal_of(gears, REGISTERS, *options) == message


async def test_all_arguments_after_requirements_are_requirements(gears: Gears) -> None:
    """No option can follow REQUIREMENTS, so our deploy gives it last."""
    message = await refusal_of(gears, REGISTERS, "REQUIREMENTS", "no-such-package", "ID", "one")
    assert message.startswith("Could not satisfy requirements")
    assert await gears.sessions() == {}


async def test_requirements_are_listed_while_in_use(gears: Gears) -> None:
    """`deploy-gears --status` shows the packages of live scripts."""
    await gears.upload(REGISTERS, "ID", "one", "REQUIREMENTS", "redis==5.0.8")
    names = [requirement[3] for requirement in await gears.run("RG.PYDUMPREQS")]
    assert b"redis==5.0.8" in names
    assert (await gears.sessions())["one"]["requirements"] == [b"redis==5.0.8"]


async def test_an_exception_is_answered_as_the_list_of_its_traceback(gears: Gears) -> None:
    """A deploy parses the line of the error from this text."""
    message = await refusal_of(gears, "def f():\n    raise KeyError('x')\n\nf()")
    assert message == str(
        [
            "Traceback (most recent call last):\n",
            '  File "<string>", line 4, in <module>\n',
            '  File "<string>", line 2, in f\n',
            "KeyError: 'x'\n",
        ]
    )


async def test_a_frame_of_the_builder_looks_like_the_script(gears: Gears) -> None:
    """The last frame named `<string>` may be the builder's, so its line is not the script's."""
    message = await refusal_of(gears, "\nGB().register('x', mode='nonsense')")
    lines: list[str] = eval(message)  # noqa: S307 - of our own engine
    assert lines[1] == '  File "<string>", line 2, in <module>\n'
    assert lines[2].startswith('  File "<string>", line ')
    assert lines[2].endswith(", in register\n")
    assert lines[3:] == ["gears.error: unknown execution mode\n"]


async def test_a_syntax_error_has_no_traceback(gears: Gears) -> None:
    """The reply to a syntax error is text of another form."""
    assert await refusal_of(gears, "x x") == (
        "Error type: <class 'SyntaxError'>, Value: invalid syntax (<string>, line 1)"
    )


async def test_a_callback_that_cannot_be_pickled_cannot_be_registered(gears: Gears) -> None:
    """An open connection in a global variable would fail the upload."""
    message = await refusal_of(
        gears,
        "import threading\n"
        "lock = threading.Lock()\n"
        "def f(r):\n"
        "    lock.acquire()\n"
        "GB().foreach(f).register('user:*')",
    )
    lines: list[str] = eval(message)  # noqa: S307 - of our own engine
    assert lines[1] == '  File "<string>", line 5, in <module>\n'
    assert "Error occured when serialized a python callback, callback=f error=[" in lines[-1]
    assert "pickle" in lines[-1]
    assert "_thread.lock" in lines[-1]


async def test_nothing_is_uploaded_inside_a_transaction(gears: Gears) -> None:
    """Several uploads cannot be one transaction, so scripts are uploaded one by one."""
    pipeline = gears.client.pipeline(transaction=True)
    pipeline.execute_command("RG.PYEXECUTE", REGISTERS)
    (reply,) = await pipeline.execute(raise_on_error=False)
    assert "Can not run gears inside a multi exec" in str(reply)
    assert await gears.registrations() == []


async def test_the_module_is_called_rg(gears: Gears) -> None:
    """The service looks for this name to choose the engine."""
    (facts,) = await gears.run("MODULE", "LIST")
    assert (facts[b"name"], facts[b"ver"]) == (b"rg", 10209)


async def test_scripts_have_the_servers_environment(
    gears: Gears, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Durable's address and password come from the environment of the server."""
    monkeypatch.setitem(os.environ, "REDISENT_OF_THE_UPLOADER", "1")
    await gears.upload("import os\nexecute('SET', 'names', ' '.join(os.environ))")
    names = (await gears.run("GET", "names")).split()
    assert b"PATH" in names
    assert b"REDISENT_OF_THE_UPLOADER" not in names


async def test_scripts_find_durable(gears: Gears) -> None:
    """The host's environment names durable, and the package redis can be imported."""
    if gears.is_real:
        pytest.skip("a real engine's environment is not ours")
    await gears.upload(
        "import os, redis\n"
        "durable = redis.Redis(os.environ['REDISENT_HOST'], int(os.environ['REDISENT_PORT']))\n"
        "durable.set('from', 'script')"
    )
    assert await gears.durable.get("from") == "script"
