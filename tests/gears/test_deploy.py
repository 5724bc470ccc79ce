"""A deploy can be repeated, never harms live scripts, and runs in one replica at a time."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from pydantic import SecretStr

from sponsorsync.domain.errors import GearsError, GearsUnsupportedError
from sponsorsync.gears.client import GearsClient, open_gears
from sponsorsync.gears.deploy import ScriptOutcome, State, deploy, load_states, remove, restore
from sponsorsync.gears.scripts import GearsScript
from sponsorsync.store import keys
from sponsorsync.store.connect import RedisStore, Reply
from tests.support.gears import BROKEN, RUNS_NOTHING, load_registering, registering_script
from tests.support.gears_engine import Gears
from tests.support.waiting import until

LIMIT_S = 30
LOCKED = """import threading
CONFIG = {}
lock = threading.Lock()
GB("KeysReader").foreach(lambda record: record).register("user:*")

GB("KeysReader").foreach(lambda record: lock.acquire()).register("user:*")
"""
NAMES = ["sponsorsync-fetch-on-keymiss", "sponsorsync-write-behind"]


@pytest.fixture
async def other(gears: Gears) -> AsyncIterator[GearsClient]:
    """The client of another replica."""
    async with open_gears(SecretStr(gears.url), upload_timeout_s=60) as opened:
        yield opened


@pytest.fixture
def scripts(tmp_path: Path) -> tuple[GearsScript, ...]:
    """Minimal texts of both scripts that register callbacks."""
    return load_registering(tmp_path / "scripts")


async def test_deploying_makes_all_live(
    client: GearsClient, gears: Gears, scripts: tuple[GearsScript, ...]
) -> None:
    """The live scripts have our names, our release and their hash, and they run."""
    before = _states(await load_states(client, scripts))
    outcomes = await deploy(client, scripts, limit_s=LIMIT_S)
    await gears.client.sadd("user:1:mnodes", "a")

    assert before == dict.fromkeys(NAMES, ("absent", "absent"))
    assert _states(outcomes) == dict.fromkeys(NAMES, ("absent", "uploaded"))
    assert all(outcome.is_settled for outcome in outcomes)
    live = {each.session: each.session_description for each in await client.load_registrations()}
    assert live == {script.session: script.description for script in scripts}
    assert await gears.client.get("counted:write_behind") == b"1"


async def test_deploying_twice_changes_nothing(
    client: GearsClient, gears: Gears, scripts: tuple[GearsScript, ...]
) -> None:
    """The registrations are not replaced, so they keep their counters."""
    await deploy(client, scripts, limit_s=LIMIT_S)
    await gears.client.sadd("user:1:mnodes", "a")
    before = await client.load_registrations()

    outcomes = await deploy(client, scripts, limit_s=LIMIT_S)

    assert _states(outcomes) == dict.fromkeys(NAMES, ("same", "same"))
    assert await client.load_registrations() == before
    assert [registration.successes for registration in before] == [1, 1]


async def test_a_changed_script_replaces_the_older_one(
    client: GearsClient, gears: Gears, tmp_path: Path
) -> None:
    """The script that did not change is not uploaded again."""
    await deploy(client, load_registering(tmp_path / "old"), limit_s=LIMIT_S)
    changed = load_registering(
        tmp_path / "new", write_behind=registering_script("changed", more="# more\n")
    )

    outcomes = await deploy(client, changed, limit_s=LIMIT_S)
    await gears.client.sadd("user:1:mnodes", "a")

    assert _states(outcomes) == {NAMES[0]: ("same", "same"), NAMES[1]: ("older", "uploaded")}
    assert len(await client.load_registrations()) == 2
    assert await gears.client.get("counted:changed") == b"1"
    assert await gears.client.exists("counted:write_behind") == 0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (BROKEN, 'write_behind.py: line 6: ValueError: it\'s "broken" in two lines'),
        ("CONFIG = {}\nx = = 1\n", "write_behind.py: line 2: SyntaxError"),
        ("CONFIG = {}\nGB('NoReader').register()\n", "write_behind.py: line 2: "),
        (LOCKED, "write_behind.py: line 6: gears.error: Error occured when serialized"),
    ],
    ids=["raises", "no python", "no such reader", "the second registration fails"],
)
async def test_a_broken_script_leaves_the_old_one_live(
    client: GearsClient, gears: Gears, tmp_path: Path, text: str, error: str
) -> None:
    """The error names the line; the other script is updated."""
    await deploy(client, load_registering(tmp_path / "old"), limit_s=LIMIT_S)
    broken = load_registering(
        tmp_path / "new",
        fetch_on_keymiss=registering_script("changed"),
        write_behind=text,
    )

    outcomes = await deploy(client, broken, limit_s=LIMIT_S)
    await gears.client.sadd("user:1:mnodes", "a")

    assert _states(outcomes) == {NAMES[0]: ("older", "uploaded"), NAMES[1]: ("older", "failed")}
    assert str(outcomes[1].error).startswith(error)
    assert await gears.client.get("counted:write_behind") == b"1"
    assert await gears.client.exists(keys.DEPLOYING) == 0


async def test_a_script_that_registers_nothing_has_failed(
    client: GearsClient, tmp_path: Path
) -> None:
    """RedisGears replies OK to such a script, but nothing is live."""
    scripts = load_registering(tmp_path / "scripts", write_behind=RUNS_NOTHING)

    outcomes = await deploy(client, scripts, limit_s=LIMIT_S)

    assert _states(outcomes)[NAMES[1]] == ("absent", "failed")
    assert outcomes[1].error == "write_behind.py: it ran, and registered nothing"


async def test_a_script_of_an_older_release_is_removed(
    client: GearsClient, gears: Gears, scripts: tuple[GearsScript, ...]
) -> None:
    """Scripts of other programs stay."""
    text = registering_script("x")
    for session in ("sponsorsync-of-old", "theirs"):
        await client.upload(text, session=session, description="1 x", requirements=[])
    seen = _states(await load_states(client, scripts))

    outcomes = await deploy(client, scripts, limit_s=LIMIT_S)

    assert seen["sponsorsync-of-old"] == ("older", "older")
    assert _states(outcomes)["sponsorsync-of-old"] == ("older", "removed")
    assert sorted(await gears.sessions()) == [*NAMES, "theirs"]


async def test_all_of_ours_can_be_removed(
    client: GearsClient, gears: Gears, scripts: tuple[GearsScript, ...]
) -> None:
    """`remove` removes all scripts with our names; a second call finds no script."""
    await client.upload(
        registering_script("x"), session="theirs", description="1 x", requirements=[]
    )
    await deploy(client, scripts, limit_s=LIMIT_S)

    outcomes, again = await remove(client), await remove(client)

    assert {outcome.session: outcome.after for outcome in outcomes} == dict.fromkeys(
        NAMES, State.REMOVED
    )
    assert again == []
    assert list(await gears.sessions()) == ["theirs"]


async def test_restoring_leaves_scripts_of_another_release_alone(
    client: GearsClient, gears: Gears, tmp_path: Path, scripts: tuple[GearsScript, ...]
) -> None:
    """Replicas of the other release may just be replacing our scripts."""
    newer = load_registering(tmp_path / "new", write_behind=registering_script("newer"))
    await deploy(client, newer, limit_s=LIMIT_S)
    [lost] = (await gears.sessions())[NAMES[0]]["registrations"]
    await client.unregister(lost.decode())

    outcomes = await restore(client, scripts, limit_s=LIMIT_S)

    assert _states(outcomes) == {NAMES[0]: ("absent", "uploaded"), NAMES[1]: ("older", "older")}


async def test_of_two_replicas_one_uploads(
    client: GearsClient, other: GearsClient, scripts: tuple[GearsScript, ...]
) -> None:
    """The second replica waits for the first, and uploads nothing."""
    first, second = await asyncio.gather(
        deploy(client, scripts, limit_s=LIMIT_S), deploy(other, scripts, limit_s=LIMIT_S)
    )

    ends = {outcome.after for outcome in first}, {outcome.after for outcome in second}
    assert sorted(ends, key=sorted) == [{State.SAME}, {State.UPLOADED}]
    assert await client.store.run("EXISTS", keys.DEPLOYING) == 0


async def test_the_lock_of_a_dead_uploader_expires(
    client: GearsClient, gears: Gears, scripts: tuple[GearsScript, ...]
) -> None:
    """The lock expires; otherwise no replica could deploy again."""
    await gears.client.set(keys.DEPLOYING, "another", px=300)

    outcomes = await deploy(client, scripts, limit_s=LIMIT_S)

    assert {outcome.after for outcome in outcomes} == {State.UPLOADED}


async def test_waiting_for_another_uploader_has_a_limit(
    client: GearsClient, gears: Gears, scripts: tuple[GearsScript, ...]
) -> None:
    """A start of the service must not hang; the other replica keeps its lock."""
    await gears.client.set(keys.DEPLOYING, "another")

    with pytest.raises(GearsError, match="SPONSORSYNC_GEARS_TIMEOUT_S"):
        await deploy(client, scripts, limit_s=0.3)

    assert await gears.client.get(keys.DEPLOYING) == b"another"


async def test_an_uploader_keeps_the_lock_until_the_end(
    client: GearsClient, gears: Gears, tmp_path: Path
) -> None:
    """The lock is held during the whole upload, and released at its end."""
    slow = "import time\nCONFIG = {}\ntime.sleep(1)\n"
    scripts = load_registering(
        tmp_path / "scripts",
        write_behind=slow + registering_script("x").replace("CONFIG", "_"),
    )
    work = asyncio.create_task(deploy(client, scripts, limit_s=LIMIT_S))

    await until(lambda: gears.client.exists(keys.DEPLOYING))
    ttl_ms = await gears.client.pttl(keys.DEPLOYING)
    await work

    assert 0 < ttl_ms <= keys.DEPLOYING_TTL_MS
    assert await gears.client.exists(keys.DEPLOYING) == 0


class _Forgetful:
    """A RedisGears that lost a session at a restart, so an upgrade does not replace it."""

    name = "local"

    def __init__(self, session: str, store: RedisStore) -> None:
        self.ids = ["0-1"]
        self.create_lock = store.create_lock
        self.translated_errors = store.translated_errors
        self._session = session
        self._description = "0.0.1 of-old"

    async def run(self, *command: str) -> Reply:
        """Answers the commands of a deploy."""
        match command[0]:
            case "RG.PYEXECUTE":
                self.ids.append("0-2")
                self._description = command[command.index("DESCRIPTION") + 1]
            case "RG.UNREGISTER":
                self.ids.remove(command[1])
            case "MODULE":
                return cast("Reply", [{b"name": b"rg", b"ver": 10_209}])
            case "RG.DUMPREGISTRATIONS":
                return cast("Reply", [self._dump(each) for each in self.ids])
        return b"OK"

    def _dump(self, registration: str) -> list[object]:
        names = f"{{'sessionName':'{self._session}', 'sessionDescription':'{self._description}', "
        counts = dict.fromkeys(
            ("numTriggered", "numSuccess", "numFailures", "numAborted", "lastRunDurationMS"), 0
        )
        data: dict[str, object] = {"mode": "sync", **counts, "lastError": None, "args": []}
        flat = [part for name, value in data.items() for part in (name.encode(), value)]
        entry = {"id": registration, "reader": "KeysReader", "desc": None, "PD": names}
        fields = [part for name, value in entry.items() for part in (name.encode(), value)]
        return [*fields, b"RegistrationData", flat]


async def test_registrations_of_a_lost_session_are_replaced(
    scripts: tuple[GearsScript, ...], local_store: RedisStore
) -> None:
    """If the old registrations stayed live, each write would be captured twice."""
    [script] = [script for script in scripts if script.name == "write_behind"]
    server = _Forgetful(script.session, local_store)
    client = GearsClient(cast("RedisStore", server), cast("RedisStore", server))

    outcomes = await deploy(client, [script], limit_s=LIMIT_S)

    assert _states(outcomes) == {script.session: ("older", "uploaded")}
    assert server.ids == ["0-2"]


class _Answers:
    """A server with one module, which answers only the command MODULE LIST."""

    name = "local"

    def __init__(self, module: bytes, version: int) -> None:
        self._module = {b"name": module, b"ver": version}

    async def run(self, *command: str) -> Reply:
        """Answers MODULE LIST."""
        assert command == ("MODULE", "LIST")
        return cast("Reply", [self._module])


@pytest.mark.parametrize(
    ("module", "version", "word"),
    [
        (b"rg", 10_009, "RedisGears 1.0.9, which knows neither"),
        (b"rg", 10_200, "RedisGears 1.2.0, which cannot"),
        (b"rg", 10_201, "RedisGears 1.2.1, which cannot"),
        (b"redisgears_2", 20_011, "RedisGears 2.0.11, another product"),
        (b"search", 20_011, "no RedisGears"),
    ],
)
async def test_nothing_is_sent_to_an_unsupported_server(
    scripts: tuple[GearsScript, ...], module: bytes, version: int, word: str
) -> None:
    """Each operation fails with an error that names the version and the reason."""
    store = cast("RedisStore", _Answers(module, version))
    client = GearsClient(store, store)

    for work in (
        deploy(client, scripts, limit_s=1),
        restore(client, scripts, limit_s=1),
        remove(client),
    ):
        with pytest.raises(GearsUnsupportedError, match=word):
            await work


async def test_a_redis_without_the_module_is_refused(
    local_server: object, local_store: RedisStore, scripts: tuple[GearsScript, ...]
) -> None:
    """The check works on a real server too."""
    assert local_server is not None
    client = GearsClient(local_store, local_store)

    with pytest.raises(GearsUnsupportedError, match="The local Redis has no RedisGears"):
        await deploy(client, scripts, limit_s=1)


def _states(outcomes: list[ScriptOutcome]) -> dict[str, tuple[str, str]]:
    return {each.session: (str(each.before), str(each.after)) for each in outcomes}
