"""The commands `sponsorsync deploy-gears` and `snapshot --engine gears`."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from sponsorsync.commands.deploy_gears import choose_address
from sponsorsync.commands.doctor import examine
from sponsorsync.diagnostics import Level
from sponsorsync.domain.errors import InvalidInputError, SettingsError
from sponsorsync.gears.checks import examine_gears
from sponsorsync.gears.client import open_gears
from sponsorsync.sandbox.valkey import EmbeddedValkey
from sponsorsync.settings import Settings
from tests.gears.host.process import run_host
from tests.support.command import run_command
from tests.support.gears import BROKEN, failing_batch_script, registering_script, write_scripts
from tests.support.gears_engine import Gears
from tests.support.sync import own_server

NAMES = ["sponsorsync-fetch-on-keymiss", "sponsorsync-write-behind"]
PASSWORD = "pass/word @:?"


@dataclass
class Command:
    """The command line of an installation whose scripts the test may replace."""

    installed: Path
    folder: Path
    url: str

    async def run(self, *arguments: str, stdin: str = "", **environment: str) -> tuple[int, str]:
        """Returns the exit status, and standard output followed by standard error."""
        status, out, errors = await run_command(
            self.folder,
            self.url,
            self.url,
            *arguments,
            environment={"PYTHONPATH": str(self.installed), "COLUMNS": "200"} | environment,
            stdin=stdin,
        )
        return status, out + errors

    async def run_json(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Returns the exit status and the parsed output."""
        status, out = await self.run(*arguments, "--json")
        content: dict[str, Any] = json.loads(out)
        return status, content


@pytest.fixture
def command(own_installed: Path, tmp_path: Path, gears: Gears) -> Command:
    """The command line, for a server with RedisGears."""
    return Command(own_installed, tmp_path, gears.url)


async def test_a_deploy_reports_its_outcomes(command: Command, gears: Gears) -> None:
    """The first deploy uploads, the second changes nothing; both exit with status 0."""
    first = await command.run_json("deploy-gears")
    await gears.client.sadd("user:1:mnodes", "a")
    status, second = await command.run_json("deploy-gears")
    _, table = await command.run("deploy-gears")

    assert (first[0], status) == (0, 0)
    assert _states(first[1]) == dict.fromkeys(NAMES, ("absent", "uploaded"))
    assert _states(second) == dict.fromkeys(NAMES, ("same", "same"))
    assert second["version"] == "1.2.9"
    assert [each["successes"] for each in second["registrations"]] == [1, 1]
    assert all(name in table for name in NAMES)


async def test_a_deploy_beside_other_databases_is_refused(command: Command, gears: Gears) -> None:
    """The status shows it as well; the setting permits it."""
    async with Redis.from_url(gears.url.removesuffix("/0") + "/2") as other:
        await other.set("key", "of another program")
        refused = await command.run("deploy-gears")
        _, status = await command.run("deploy-gears", "--status")
        permitted = await command.run(
            "deploy-gears", SPONSORSYNC_GEARS_ALLOW_OTHER_DATABASES="true"
        )

    assert (refused[0], "keys in db2" in refused[1]) == (1, True)
    assert "keys in db2" in status
    assert permitted[0] == 0


async def test_a_dry_run_changes_nothing(command: Command, gears: Gears) -> None:
    """The exit status is 0 only if all scripts are live."""
    before = await command.run_json("deploy-gears", "--dry-run")
    sessions = await gears.sessions()
    await command.run("deploy-gears")
    after = await command.run_json("deploy-gears", "--dry-run")

    assert (before[0], after[0]) == (1, 0)
    assert _states(before[1]) == dict.fromkeys(NAMES, ("absent", "absent"))
    assert _states(after[1]) == dict.fromkeys(NAMES, ("same", "same"))
    assert sessions == {}
    assert before[1]["checks"] == []


async def test_the_status_checks_the_requirements_of_scripts(command: Command) -> None:
    """Scripts need a version, an append-only file, enough threads and durable's address."""
    before = await command.run_json("deploy-gears", "--status")
    await command.run("deploy-gears")
    status, after = await command.run_json("deploy-gears", "--status")

    assert (before[0], status) == (1, 0)
    assert [check["level"] for check in after["checks"]] == ["ok"] * 4
    assert "REDISENT_HOST" in after["checks"][3]["seen"]


async def test_a_broken_script_fails_the_deploy(command: Command, gears: Gears) -> None:
    """The error names the file and the line; the old script stays live."""
    await command.run("deploy-gears")
    write_scripts(_scripts_of(command), write_behind=BROKEN)
    status, out = await command.run("deploy-gears")

    assert status == 1
    assert "write_behind.py: line 6: ValueError" in " ".join(out.split())
    assert sorted(await gears.sessions()) == NAMES


async def test_a_removal_removes_all_our_scripts(command: Command, gears: Gears) -> None:
    """Scripts of other programs stay; a second removal finds no script."""
    await gears.upload(registering_script("x"), "ID", "theirs")
    await command.run("deploy-gears")
    status, removed = await command.run_json("deploy-gears", "--remove")
    again = await command.run_json("deploy-gears", "--remove")

    assert (status, again[0]) == (0, 0)
    assert {each["after"] for each in removed["scripts"]} == {"removed"}
    assert again[1]["scripts"] == []
    assert list(await gears.sessions()) == ["theirs"]


async def test_contradictory_options_are_refused(
    command: Command, local_server: EmbeddedValkey
) -> None:
    """The error is one line; so is that for a server without RedisGears."""
    answers = await asyncio.gather(
        command.run("deploy-gears", "--remove", "--status"),
        command.run("deploy-gears", "--url", "redis://:hunter2@localhost"),
        command.run("deploy-gears", "--url", local_server.url),
        command.run("deploy-gears", SPONSORSYNC_SPONSORABLES=""),
        command.run("snapshot", "--engine", "gears", "--dry-run"),
    )

    assert [status for status, _ in answers] == [1] * 5
    assert all(out.startswith("sponsorsync: ") and out.count("\n") == 1 for _, out in answers)
    assert "Only one of" in answers[0][1]
    assert "--password-stdin" in answers[1][1]
    assert "hunter2" not in answers[1][1]
    assert "no RedisGears" in answers[2][1]
    assert "SPONSORSYNC_SPONSORABLES" in answers[3][1]
    assert "--json only" in answers[4][1]


async def test_the_password_is_read_from_standard_input(command: Command, tmp_path: Path) -> None:
    """The password may have any characters; without it the server refuses the command."""
    (tmp_path / "own").mkdir()
    async with own_server(tmp_path / "own") as server, Redis.from_url(server.url) as client:
        await client.config_set("requirepass", PASSWORD)
        options = ("deploy-gears", "--host", "127.0.0.1", "--port", str(server.port))
        with_it = await command.run(*options, "--password-stdin", stdin=f"{PASSWORD}\n")
        without = await command.run(*options)

    assert "no RedisGears" in with_it[1]
    assert "refuses our user or password" in without[1]


async def test_a_snapshot_by_the_scripts_fails_if_one_person_failed(command: Command) -> None:
    """The exit status is 1, and the output has the person's error."""
    good = await command.run_json("snapshot", "--engine", "gears")
    write_scripts(_scripts_of(command), sync_sponsors=failing_batch_script("person 1: no hash"))
    bad = await command.run("snapshot", "--engine", "gears")

    assert (good[0], bad[0]) == (0, 1)
    assert good[1]["agrees"] is True
    assert [each["done"] for each in good[1]["scripts"]] == [3, 3, 3]
    assert "sync_sponsors: person 1: no hash" in bad[1]


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ({}, "redis://me:old@localhost:1/2"),
        ({"password": "new"}, "redis://me:new@localhost:1/2"),
        ({"host": "h"}, "redis://h:6379/0"),
        ({"host": "::1", "port": 1, "password": PASSWORD}, PASSWORD),
        ({"url": "rediss://me@h:1/0", "password": "p"}, "rediss://me:p@h:1/0"),
        ({"url": "unix:///run/r.sock", "password": "p"}, "unix://:p@/run/r.sock"),
    ],
)
def test_options_win_over_the_settings(options: dict[str, Any], address: str) -> None:
    """A password option is percent-encoded into the chosen address."""
    settings = Settings.model_construct(redis_url=SecretStr("redis://me:old@localhost:1/2"))
    quoted = "redis://:pass%2Fword%20%40%3A%3F@[::1]:1/0"
    defaults: dict[str, Any] = {"url": None, "host": None, "port": 6379, "password": None}

    chosen = choose_address(settings, **defaults | options).get_secret_value()

    assert chosen == (quoted if address == PASSWORD else address)


def test_exactly_one_address_is_required() -> None:
    """Two addresses would contradict each other."""
    nothing = Settings.model_construct()

    with pytest.raises(SettingsError, match="SPONSORSYNC_REDIS_URL"):
        choose_address(nothing, url=None, host=None, port=1, password=None)
    with pytest.raises(InvalidInputError, match="one of them"):
        choose_address(nothing, url="redis://h", host="h", port=1, password=None)


async def test_missing_requirements_of_scripts_are_found(tmp_path: Path) -> None:
    """The server has no address of durable, one thread and no append-only file."""
    async with (
        run_host(tmp_path, {}, threads=1) as host,
        open_gears(SecretStr(host.url), upload_timeout_s=60) as client,
    ):
        await client.store.run("CONFIG", "SET", "aof-use-rdb-preamble", "no")
        await client.store.run("CONFIG", "SET", "appendonly", "no")
        version, file, threads, environment = await examine_gears(client)

    assert [each.level for each in (version, file)] == [Level.OK, Level.ERROR]
    assert "appendonly yes and aof-use-rdb-preamble yes" in file.advice
    assert (threads.level, environment.level) == (Level.WARNING, Level.ERROR)
    assert "do not see REDISENT_HOST" in environment.seen


async def test_a_user_without_the_right_to_run_scripts_is_reported(gears: Gears) -> None:
    """A user may read the status but not upload."""
    if not gears.is_real:
        pytest.skip("Valkey knows no rg.pyexecute, so the host cannot take that right away")
    may = ("reset", "on", "nopass", "~*", "+@all", "-rg.pyexecute")
    await gears.client.execute_command("ACL", "SETUSER", "looker", *may)  # type: ignore[no-untyped-call]  # redis-py's
    address = gears.url.replace("://", "://looker:x@")
    async with open_gears(SecretStr(address), upload_timeout_s=60) as client:
        *_, environment = await examine_gears(client)
    await gears.client.execute_command("ACL", "DELUSER", "looker")  # type: ignore[no-untyped-call]  # redis-py's

    assert environment.level is Level.ERROR
    assert "does not permit" in environment.seen


async def test_the_doctor_checks_redisgears_where_it_is_used(
    gears: Gears, local_server: EmbeddedValkey, settings: Settings
) -> None:
    """The engine `auto` uses RedisGears only if the module is loaded, `plain` never."""
    found = {
        (engine, name): [
            (check.level, check.seen)
            for check in await examine(
                settings.model_copy(update={"engine": engine, "redis_url": SecretStr(url)})
            )
            if check.subject == "RedisGears"
        ]
        for engine in ("auto", "plain", "gears")
        for name, url in (("gears", gears.url), ("valkey", local_server.url))
    }

    assert len(found["auto", "gears"]) == len(found["gears", "gears"]) == 4
    assert found["auto", "valkey"] == found["plain", "gears"] == found["plain", "valkey"] == []
    [(level, seen)] = found["gears", "valkey"]
    assert level is Level.ERROR
    assert "has no RedisGears" in seen


def _scripts_of(command: Command) -> Path:
    return command.installed / "sponsorsync" / "gears" / "scripts"


def _states(content: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["session"]: (each["before"], each["after"]) for each in content["scripts"]}
