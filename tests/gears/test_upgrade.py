"""No write is lost when scripts are replaced or the server is killed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from sponsorsync.background import end_tasks
from sponsorsync.domain.errors import StoreUnavailableError
from sponsorsync.gears.client import GearsClient
from sponsorsync.gears.deploy import State, deploy
from sponsorsync.gears.scripts import REGISTERING, load_scripts
from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.store import keys
from tests.gears.conftest import REAL_DURABLE_URL
from tests.support.gears import CONFIG
from tests.support.gears_engine import Gears
from tests.support.scale import scale
from tests.support.sync import COLLECTION, PERSON, Pair, open_pair
from tests.support.waiting import until

PEOPLE = range(PERSON, PERSON + 20)
UPGRADES = scale(5)
LIMIT_S = 60


@pytest.fixture
async def scripted(
    own_gears: Gears, client: GearsClient, durable_server: EmbeddedValkey
) -> AsyncIterator[Pair]:
    """A pair of servers with entitled people, between which only the scripts send data."""
    durable_url = REAL_DURABLE_URL if own_gears.is_real else durable_server.url
    await deploy(client, load_scripts(REGISTERING, CONFIG), limit_s=LIMIT_S)
    async with open_pair(own_gears.url, durable_url) as pair:
        for person in PEOPLE:
            await pair.sign_in(person)
        yield pair


@pytest.mark.random
async def test_upgrading_every_script_under_load_loses_nothing(
    scripted: Pair, client: GearsClient
) -> None:
    """Old and new scripts may apply the same change; because of versions this does no harm."""
    async with _writing(scripted) as written:
        for number in range(UPGRADES):
            scripts = [
                replace(script, text=f"{script.text}# {number}\n")
                for script in load_scripts(REGISTERING, CONFIG)
            ]
            outcomes = await deploy(client, scripts, limit_s=LIMIT_S)
            assert {outcome.after for outcome in outcomes} == {State.UPLOADED}
            await _wait_for_more(written)
    await until(lambda: _is_clean(scripted), limit_s=LIMIT_S)

    await _check_all_arrived(scripted, written)


async def test_a_server_that_is_killed_under_load_loses_nothing(
    scripted: Pair, own_gears: Gears
) -> None:
    """The append-only file of the server has all writes and the registrations."""
    async with _writing(scripted) as written:
        for _ in range(3):
            await _wait_for_more(written)
            await own_gears.restart(kill=True)
            await scripted.compare()
    await until(lambda: _is_clean(scripted), limit_s=LIMIT_S)

    await _check_all_arrived(scripted, written)


async def test_a_replaced_script_breaks_no_other_script(
    scripted: Pair, client: GearsClient
) -> None:
    """Scripts once shared a client of durable, which called functions of the replaced script."""
    await scripted.add("a")
    await until(lambda: _is_clean(scripted))
    drain, fetch = (
        next(script for script in load_scripts(REGISTERING, CONFIG) if script.name == name)
        for name in ("write_behind", "fetch_on_keymiss")
    )
    await deploy(client, [fetch, replace(drain, text=f"{drain.text}#\n")], limit_s=LIMIT_S)
    await scripted.durable.client_kill_filter(_type="normal", skipme=True)
    await scripted.evict()

    found = await scripted.local.smembers(keys.preferences(PERSON, COLLECTION))
    assert set(found) == {"a"}


@asynccontextmanager
async def _writing(pair: Pair) -> AsyncIterator[list[tuple[int, str]]]:
    """Adds items continuously; yields the list of those that were confirmed."""
    written: list[tuple[int, str]] = []

    async def write() -> None:
        number = 0
        while True:
            person, item = PEOPLE[number % len(PEOPLE)], f"item-{number}"
            number += 1
            try:
                await pair.add(item, person_id=person)
            except StoreUnavailableError:
                await asyncio.sleep(0)
            else:
                written.append((person, item))

    task = asyncio.create_task(write())
    try:
        yield written
        assert not task.done(), task.exception()
    finally:
        await end_tasks(task)


async def _wait_for_more(written: list[tuple[int, str]]) -> None:
    wanted = len(written) + len(PEOPLE)

    async def has_grown() -> bool:
        return len(written) >= wanted

    await until(has_grown, limit_s=LIMIT_S)


async def _is_clean(pair: Pair) -> bool:
    # A person with a lease from before the kill has no outbox entry: only the sweep sends them.
    with suppress(StoreUnavailableError):
        await pair.engine.relay.sweep()
    return not await pair.dirty()


async def _check_all_arrived(pair: Pair, written: list[tuple[int, str]]) -> None:
    for person in PEOPLE:
        wanted = {item for each, item in written if each == person}
        assert wanted
        # An addition without an answer may also have been applied; then it is on both servers.
        assert wanted <= await pair.durable_items(person) == await pair.local_items(person)
    assert await pair.local.hlen(keys.DEAD_LETTERS) == 0
    assert (await pair.engine.verifier.run()).agrees
