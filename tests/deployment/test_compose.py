"""compose.yaml and its examples, checked without Docker: their text, and a real Valkey."""

import json
import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from jsonschema import Draft7Validator
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError

from sponsorsync.sandbox import valkey
from sponsorsync.settings import Settings, load_settings, variable_of
from sponsorsync.sync.listener import NEEDED_FLAGS, parse_flags
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
SCHEMA = Path(__file__).with_name("compose-spec.json")
COMPOSE_FILES = ["compose.yaml", "compose.durable.yaml"]
EXAMPLES = [".env.example", ".env.gears.example"]
# Variables that Compose itself reads or sets.
NAMES_OF_COMPOSE = {"COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME"}
SECRET_NAME = re.compile(r"(PWD|PASSWORD|SECRET|TOKEN)$")
PASSWORD = "correct-horse-battery-staple"


def read(name: str) -> str:
    """Returns the text of a file of the checkout."""
    return (ROOT / name).read_text()


def load(name: str) -> dict[str, Any]:
    """Returns a Compose file without replacing its variables."""
    loaded: dict[str, Any] = yaml.safe_load(read(name))
    return loaded


def load_services() -> dict[str, dict[str, Any]]:
    """Returns the services of all Compose files."""
    return {
        name: service
        for file in COMPOSE_FILES
        for name, service in load(file).get("services", {}).items()
    }


def parse_arguments(command: list[str]) -> dict[str, str]:
    """Returns `--name value` pairs as the settings of a configuration file."""
    pairs = zip(command[::2], command[1::2], strict=True)
    return {name.removeprefix("--"): value or '""' for name, value in pairs}


@asynccontextmanager
async def run_server(config: str) -> AsyncIterator[str]:
    """Runs the embedded Valkey with a complete configuration; yields the path of its socket.

    On a TCP port another server could be first, and would answer in its place.
    """
    with (
        tempfile.TemporaryDirectory() as name
    ):  # short: a socket's path has at most a hundred bytes
        folder = Path(name)
        path = folder / "socket"
        own = config.replace("dir /data", "dir .") + f"port 0\nunixsocket {path}\n"
        (folder / valkey.CONFIG_FILE).write_text(own)
        with valkey._open_lock(folder) as lock, (folder / valkey.LOG_FILE).open("ab") as log:
            async with valkey._watched_process(folder, lock, log, valkey.DEFAULT_LIMITS.stop_s):
                await until(lambda: is_healthy(str(path)))
                yield str(path)


async def is_healthy(path: str) -> bool:
    """Returns whether the health check of durable succeeds."""
    try:
        async with Redis(unix_socket_path=path, username="health", password="") as client:
            return bool(await client.ping())
    except RedisError:
        return False


SERVICES = load_services()


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes settings from the environment, since they would override the examples."""
    for name in {variable_of(field) for field in Settings.model_fields} & os.environ.keys():
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_the_compose_files_match_the_specification(name: str) -> None:
    """Compose's own schema finds a misspelt key."""
    validator = Draft7Validator(json.loads(SCHEMA.read_text()))

    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(load(name))]

    assert errors == []


def test_the_durable_side_is_included_with_its_own_variables() -> None:
    """Otherwise Compose would look for `REDISENT_PWD` in `.env`, which does not contain it."""
    included = load("compose.yaml")["include"]

    assert included == [{"path": "compose.durable.yaml", "env_file": ".env.gears"}]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_for_this_machine_only(name: str) -> None:
    """A port without an address is open to the network, despite most firewalls."""
    ports = SERVICES[name].get("ports", [])

    assert [port for port in ports if not str(port).startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", [name for name in SERVICES if name.startswith("local")])
def test_no_port_of_local_is_published(name: str) -> None:
    """Local has no password, and RG.PYEXECUTE on it can read durable's password."""
    assert "ports" not in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_a_health_check(name: str) -> None:
    """Other services wait until a service is healthy, and `docker compose ps` shows its state."""
    is_in_image = "build" in SERVICES[name] and "\nHEALTHCHECK " in read("Dockerfile")

    assert "test" in SERVICES[name].get("healthcheck", {}) or is_in_image


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "image" in service])
def test_images_are_pinned(name: str) -> None:
    """`latest` of RedisGears is another product; that of a database may change the file format."""
    tag = SERVICES[name]["image"].rpartition(":")[2]

    assert re.match(r"\d+\.\d+\.\d+", tag)


@pytest.mark.parametrize("name", [*COMPOSE_FILES, *EXAMPLES, "Dockerfile"])
def test_there_is_no_password_in_it(name: str) -> None:
    """A password in a public file would be a default that everybody knows."""
    text = read(name)
    assigned = dict(re.findall(r"^[ #]*([A-Z_]+) *[:=] *(.*)$", text, re.MULTILINE))
    on_command_lines = re.findall(r"(?:requirepass|masterauth|--pass|-a)[ ,]+(\S+)", text)
    in_addresses = re.findall(r"://[^/\s]*@", text)

    secrets = {name: value for name, value in assigned.items() if SECRET_NAME.search(name)}
    assert set(secrets.values()) <= {""}
    assert [word for word in on_command_lines if word != "''" and not word.startswith("'${")] == []
    assert in_addresses == []


def test_nothing_starts_without_a_password_of_durable() -> None:
    """Compose stops at `:?` with a message, before it creates any container."""
    used = re.findall(r"\$\{REDISENT_PWD(..)", "".join(read(name) for name in COMPOSE_FILES))

    assert used == [":?"]


def test_nothing_starts_without_a_choice_of_redises() -> None:
    """Each Redis has a profile, so Compose demands that profiles are chosen."""
    without_profile = [name for name, service in SERVICES.items() if "profiles" not in service]

    assert without_profile == ["sponsorsync"]
    assert load("compose.yaml")["x-profiles"].startswith("${COMPOSE_PROFILES?")


def test_there_are_never_two_locals() -> None:
    """Both variants of local have one container name, and Compose refuses to start both."""
    names = {SERVICES[name]["container_name"] for name in ("local", "local-plain")}

    assert len(names) == 1
    assert SERVICES["local-plain"]["networks"] == {"default": {"aliases": ["local"]}}


def test_only_services_that_need_the_password_get_it() -> None:
    """The service and the scripts in local send the password; durable's configuration has it."""
    readers = {
        name for name, service in SERVICES.items() if ".env.gears" in str(service.get("env_file"))
    }

    assert readers == {"sponsorsync", "local"}


def test_every_variable_is_known() -> None:
    """Compose does not report a misspelt variable."""
    known = {variable_of(field) for field in Settings.model_fields} | NAMES_OF_COMPOSE
    text = "".join(read(name) for name in COMPOSE_FILES)
    used = set(re.findall(r"\$\{([A-Za-z_]+)", text)) | set(SERVICES["sponsorsync"]["environment"])

    assert used - known == set()
    assert {name for file in EXAMPLES for name in dotenv_values(ROOT / file)} - known == set()


def test_the_examples_are_settings() -> None:
    """The service can read a copy of both example files."""
    settings = load_settings(env_files=tuple(str(ROOT / name) for name in EXAMPLES))

    assert settings.durable_address is not None
    assert settings.durable_address.get_secret_value() == "redis://durable:6379/0"
    assert settings.origin == "http://127.0.0.1:8000"


def test_the_examples_name_existing_services() -> None:
    """The profiles and the host of durable are those of services in the Compose files."""
    profiles = (dotenv_values(ROOT / ".env.example")["COMPOSE_PROFILES"] or "").split(",")
    host = dotenv_values(ROOT / ".env.gears.example")["REDISENT_HOST"]

    chosen = [
        name for name, service in SERVICES.items() if {*service.get("profiles", [])} & {*profiles}
    ]
    assert chosen == ["local", "durable"]
    assert host == "durable"


def test_real_settings_stay_out_of_the_repository_and_the_image() -> None:
    """The repository has the example files only; the image has no such file."""
    ignored = read(".gitignore").splitlines()
    into_image = [line for line in read(".dockerignore").splitlines() if line.startswith("!")]

    assert {".env", ".env.gears"} <= set(ignored)
    assert [line for line in ignored if line.startswith(".env") and "*" in line] == []
    assert "*" in read(".dockerignore").splitlines()
    assert [line for line in into_image if ".env" in line] == []


def test_local_with_gears_is_local_without_and_the_module() -> None:
    """Without the module, `auto` uses the engine for a plain Redis on the same server settings."""
    gears, plain = SERVICES["local"]["command"], SERVICES["local-plain"]["command"]

    module = gears.index("--loadmodule")

    assert gears[:module] == plain
    assert gears[module + 2 :: 2] == ["Plugin", "ExecutionThreads"]


async def test_a_server_accepts_the_arguments_of_local(tmp_path: Path) -> None:
    """A real server starts with these arguments, and has the options that the service needs."""
    arguments = parse_arguments(SERVICES["local-plain"]["command"])

    async with (
        valkey.run_valkey(tmp_path, name="local", extra_config=arguments) as server,
        Redis.from_url(server.url, decode_responses=True) as client,
    ):
        config = await client.config_get("*")

    assert config["appendonly"] == "yes"
    assert config["aof-use-rdb-preamble"] == "yes"
    assert config["maxmemory-policy"] == "noeviction"
    assert parse_flags({b"": (config["notify-keyspace-events"] or "").encode()}) >= NEEDED_FLAGS


async def test_durable_serves_only_clients_with_the_password() -> None:
    """A real server runs the configuration; the user of the health check may only ping."""
    config = load("compose.durable.yaml")["configs"]["durable-conf"]["content"]
    config = re.sub(r"\$\{REDISENT_PWD[^}]*\}", PASSWORD, config)

    async with (
        run_server(config) as path,
        Redis(unix_socket_path=path, retry=Retry(NoBackoff(), 0)) as nobody,
        Redis(unix_socket_path=path, username="health", password="") as health,
        Redis(unix_socket_path=path, password=PASSWORD, decode_responses=True) as owner,
    ):
        with pytest.raises(RedisError, match="already authenticated"):
            await nobody.ping()
        assert await health.ping()
        with pytest.raises(NoPermissionError):
            await health.info()
        assert (await owner.config_get("appendfsync"))["appendfsync"] == "always"
