"""The service's client for RedisGears."""

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
    """The error has the exception's text on one line."""
    with pytest.raises(GearsScriptError) as caught:
        await client.upload(BROKEN, session="sponsorsync-x", description="1 x", requirements=[])

    assert caught.value.line == 6
    assert str(caught.value) == 'line 6: ValueError: it\'s "broken" in two lines'


async def test_a_syntax_error_is_reported_with_its_line(client: GearsClient) -> None:
    """RedisGears replies a syntax error without a traceback."""
    with pytest.raises(GearsScriptError, match="SyntaxError") as caught:
        await client.run("x = 1\ny = = 2\n")

    assert caught.value.line == 2


async def test_packages_that_cannot_be_installed_are_named(client: GearsClient) -> None:
    """The error also says what the server needs to install packages."""
    with pytest.raises(GearsError, match=r"could not install no-such-package==1: .*PIP_FIND_LINKS"):
        await client.upload(
            registering_script("x"),
            session="sponsorsync-x",
            description="1 x",
            requirements=["no-such-package==1"],
        )


async def test_an_upload_may_take_longer_than_other_answers(client: GearsClient) -> None:
    """During an upload the server may install packages."""
    slow = "import time\ntime.sleep(2.5)\n" + registering_script("x")

    await client.upload(
        slow, session="sponsorsync-x", description="1 x", requirements=[REQUIREMENT]
    )

    assert [each.session for each in await client.load_registrations()] == ["sponsorsync-x"]


async def test_an_upload_without_an_answer_ends_after_the_time_limit(gears: Gears) -> None:
    """A faulty script may never let the server reply."""
    async with open_gears(SecretStr(gears.url), upload_timeout_s=0.3) as client:
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            await client.run("import time\ntime.sleep(2)\n")


async def test_a_run_returns_records_and_faults(client: GearsClient) -> None:
    """A script that fails while it runs was still uploaded, so the client raises no error."""
    ran, failed = await client.run(RUNS), await client.run(FAILS_AS_IT_RUNS)

    assert (ran.records, ran.faults) == (("0", "1", "2"), ())
    assert failed.records == ()
    assert [str(fault) for fault in failed.faults] == [
        "line 1: ZeroDivisionError: division by zero"
    ]


async def test_a_long_run_is_awaited_and_dropped(client: GearsClient, gears: Gears) -> None:
    """After the drop no execution is left on the server; a second drop is harmless."""
    execution = await client.start(RUNS, requirements=[])
    results = await client.wait_for_results(execution, limit_s=10)
    await client.drop_execution(execution)
    await client.drop_execution(execution)

    assert results.records == ("0", "1", "2")
    assert await gears.run("RG.DUMPEXECUTIONS") == []
    with pytest.raises(GearsError, match="was restarted"):
        await client.wait_for_results(execution, limit_s=10)


async def test_a_run_beyond_the_limit_is_aborted(client: GearsClient, gears: Gears) -> None:
    """A script that is not aborted would go on copying, although nothing reads its counts."""
    execution = await client.start(RUNS_LONG, requirements=[])
    began = time.monotonic()
    with pytest.raises(GearsError, match="did not end within"):
        await client.wait_for_results(execution, limit_s=0.2)
    await client.drop_execution(execution)

    assert time.monotonic() - began < 5
    assert await gears.run("RG.DUMPEXECUTIONS") == []


async def test_a_registration_cannot_be_awaited(client: GearsClient) -> None:
    """A script that only registers callbacks has no execution."""
    with pytest.raises(GearsError, match="registers something, or runs nothing"):
        await client.start(registering_script("x"), requirements=[])


async def test_unregistering_twice_is_fine(client: GearsClient) -> None:
    """Two replicas may unregister the same script at once."""
    text = registering_script("x")
    await client.upload(text, session="sponsorsync-x", description="1 x", requirements=[])
    [registration] = await client.load_registrations()

    assert registration.session == "sponsorsync-x"
    assert await client.unregister(registration.id) is True
    assert await client.unregister(registration.id) is False


async def test_the_number_of_threads_can_be_read(client: GearsClient) -> None:
    """The number of threads limits the number of concurrent fetches."""
    assert await client.load_execution_threads() >= 1
