"""The client of RedisGears."""

import time

import pytest
from pydantic import SecretStr

from sponsorsync.domain.errors import GearsError, GearsScriptError, StoreUnavailableError
from sponsorsync.gears.client import GearsClient, open_gears
from tests.support.gears import BROKEN, REQUIREMENT, registering_script
from tests.support.gears_engine import Gears

RUNS_LONG = """
import time

def work():
    for _ in range(1000):
        time.sleep(0.05)
        yield 'slow'

GB('PythonReader').run(work)
"""
RUNS = "GB('PythonReader').run(lambda: (str(n) for n in range(3)))"
FAILS_AS_IT_RUNS = "GB('PythonReader').map(lambda n: 1 / n).run(lambda: (n for n in range(1)))"


async def test_a_failing_script_is_reported_with_its_line(client: GearsClient) -> None:
    """Its exception is put on one line."""
    with pytest.raises(GearsScriptError) as caught:
        await client.upload(BROKEN, session="sponsorsync-x", description="1 x", requirements=[])

    assert caught.value.line == 6
    assert str(caught.value) == 'line 6: ValueError: it\'s "broken" in two lines'


async def test_a_syntax_error_is_reported_with_its_line(client: GearsClient) -> None:
    """RedisGears reports it without a traceback."""
    with pytest.raises(GearsScriptError, match="SyntaxError") as caught:
        await client.run("x = 1\ny = = 2\n")

    assert caught.value.line == 2


async def test_packages_that_cannot_be_installed_are_named(client: GearsClient) -> None:
    """The error says what the server needs for them."""
    with pytest.raises(GearsError, match=r"could not install no-such-package==1: .*PIP_FIND_LINKS"):
        await client.upload(
            registering_script("x"),
            session="sponsorsync-x",
            description="1 x",
            requirements=["no-such-package==1"],
        )


async def test_an_upload_may_take_longer_than_other_answers(client: GearsClient) -> None:
    """It may install packages."""
    slow = "import time\ntime.sleep(2.5)\n" + registering_script("x")

    await client.upload(
        slow, session="sponsorsync-x", description="1 x", requirements=[REQUIREMENT]
    )

    assert [each.session for each in await client.load_registrations()] == ["sponsorsync-x"]


async def test_an_upload_without_an_answer_ends_after_the_time_limit(gears: Gears) -> None:
    """A bad script can block a reply for ever."""
    async with open_gears(SecretStr(gears.url), upload_timeout_s=0.3) as client:
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            await client.run("import time\ntime.sleep(2)\n")


async def test_a_run_returns_records_and_faults(client: GearsClient) -> None:
    """A failure during the run is no error of the upload."""
    ran, failed = await client.run(RUNS), await client.run(FAILS_AS_IT_RUNS)

    assert (ran.records, ran.faults) == (("0", "1", "2"), ())
    assert failed.records == ()
    assert [str(fault) for fault in failed.faults] == [
        "line 1: ZeroDivisionError: division by zero"
    ]


async def test_a_long_run_is_awaited_and_dropped(client: GearsClient, gears: Gears) -> None:
    """Nothing of it stays in the server."""
    execution = await client.start(RUNS, requirements=[])
    results = await client.wait_for_results(execution, limit_s=10)
    await client.drop_execution(execution)
    await client.drop_execution(execution)

    assert results.records == ("0", "1", "2")
    assert await gears.run("RG.DUMPEXECUTIONS") == []
    with pytest.raises(GearsError, match="was restarted"):
        await client.wait_for_results(execution, limit_s=10)


async def test_a_run_beyond_the_limit_is_aborted(client: GearsClient, gears: Gears) -> None:
    """It would copy on without a reader of its counts."""
    execution = await client.start(RUNS_LONG, requirements=[])
    began = time.monotonic()
    with pytest.raises(GearsError, match="did not end within"):
        await client.wait_for_results(execution, limit_s=0.2)
    await client.drop_execution(execution)

    assert time.monotonic() - began < 5
    assert await gears.run("RG.DUMPEXECUTIONS") == []


async def test_a_registration_cannot_be_awaited(client: GearsClient) -> None:
    """It has no execution."""
    with pytest.raises(GearsError, match="registers something, or runs nothing"):
        await client.start(registering_script("x"), requirements=[])


async def test_unregistering_twice_is_fine(client: GearsClient) -> None:
    """Two replicas may do it at once."""
    text = registering_script("x")
    await client.upload(text, session="sponsorsync-x", description="1 x", requirements=[])
    [registration] = await client.load_registrations()

    assert registration.session == "sponsorsync-x"
    assert await client.unregister(registration.id) is True
    assert await client.unregister(registration.id) is False


async def test_the_number_of_threads_can_be_read(client: GearsClient) -> None:
    """They bound the number of concurrent fetches."""
    assert await client.load_execution_threads() >= 1
