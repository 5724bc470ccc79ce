"""Checks whether a server has the module, the configuration and the environment for the scripts."""

from typing import cast

from redis.exceptions import ResponseError

from sponsorsync.diagnostics import Diagnostic, Level
from sponsorsync.domain.errors import (
    GearsError,
    GearsUnsupportedError,
    StoreError,
    StoreUnavailableError,
)
from sponsorsync.gears.client import GearsClient, explain_unsupported, format_version

_SUBJECT = "RedisGears"
_FEW_THREADS = 3
_VARIABLES = (
    "REDISENT_HOST",
    "REDISENT_PORT",
    "REDISENT_USER",
    "REDISENT_PWD",
    "REDISENT_TLS",
    "REDISENT_CA",
)
# A script that returns the names of the variables that are set where scripts run, but no values.
_NAME_THOSE_SET = f"""
import os

def name_those_set():
    for name in {_VARIABLES!r}:
        if os.environ.get(name):
            yield name

GearsBuilder('PythonReader').run(name_those_set)
"""


async def examine_gears(client: GearsClient) -> list[Diagnostic]:
    """Checks a server with a tiny script; changes nothing.

    Raises:
        StoreUnavailableError: The server does not answer.
    """
    version = await client.load_version()
    reason = explain_unsupported(version)
    if reason is not None or version is None:
        return [Diagnostic(_SUBJECT, Level.ERROR, f"the local Redis {reason}")]
    return [
        Diagnostic(_SUBJECT, Level.OK, f"version {format_version(version)}"),
        await _examine_file(client),
        await _examine_threads(client),
        await _examine_environment(client),
        *await _examine_hooks(client),
        *await _examine_databases(client),
    ]


async def require_environment(client: GearsClient) -> None:
    """Checks that scripts have durable's address in their environment.

    Raises:
        GearsError: REDISENT_HOST is not set there; the scripts would answer with errors.
        StoreUnavailableError: The server does not answer.
    """
    if "REDISENT_HOST" not in (await client.run(_NAME_THOSE_SET)).records:
        raise GearsError(
            "Scripts do not see REDISENT_HOST: start the Redis server with it in its environment "
            "(`.env.gears`)."
        )


async def require_database_0(client: GearsClient, *, allows_others: bool) -> None:
    """Checks that all data are in database 0, where RedisGears runs each execution.

    The command that a hook answers runs there too: a read in another database would get the answer
    of database 0, also for keys of other programs.

    Args:
        client: The server.
        allows_others: Whether other databases may have keys.

    Raises:
        GearsUnsupportedError: Our own data are in another database.
        GearsError: Another database has keys.
        StoreUnavailableError: The server does not answer.
    """
    own = client.store.database
    if own != 0:
        raise GearsUnsupportedError(
            f"RedisGears runs scripts in database 0, and SPONSORSYNC_REDIS_URL names database "
            f"{own}: use database 0, or SPONSORSYNC_ENGINE=plain."
        )
    keyspace = cast("dict[str, object]", await client.store.run("INFO", "keyspace"))
    others = ", ".join(sorted(name for name in keyspace if name != "db0"))
    if others and not allows_others:
        raise GearsError(
            f"The local Redis has keys in {others}, where hooks would answer reads with the data "
            "of db0: move them to another server, or set "
            "SPONSORSYNC_GEARS_ALLOW_OTHER_DATABASES=true if no program reads keys there that "
            "begin like ours."
        )


async def _examine_databases(client: GearsClient) -> list[Diagnostic]:
    try:
        await require_database_0(client, allows_others=False)
    except GearsError as error:
        return [Diagnostic(_SUBJECT, Level.WARNING, str(error))]
    return []


async def _examine_file(client: GearsClient) -> Diagnostic:
    missing = []
    for name in ("appendonly", "aof-use-rdb-preamble"):
        try:
            reply = await client.store.run("CONFIG", "GET", name)
        except (StoreError, ResponseError):
            advice = "Check that it has `appendonly yes` and `aof-use-rdb-preamble yes`."
            return Diagnostic(_SUBJECT, Level.WARNING, f"the server does not show {name}", advice)
        if cast("dict[bytes, bytes]", reply) != {name.encode(): b"yes"}:
            missing.append(f"{name} yes")
    if missing:
        advice = f"Set {' and '.join(missing)}: else a restart can lose every registration."
        return Diagnostic(_SUBJECT, Level.ERROR, "registrations may not outlive a restart", advice)
    return Diagnostic(_SUBJECT, Level.OK, "registrations outlive a restart (AOF with RDB preamble)")


async def _examine_threads(client: GearsClient) -> Diagnostic:
    try:
        threads = await client.load_execution_threads()
    except GearsError as error:
        return Diagnostic(_SUBJECT, Level.WARNING, f"does not show ExecutionThreads: {error}")
    text = f"ExecutionThreads {threads}: as many misses are fetched side by side"
    if threads < _FEW_THREADS:
        advice = "Load the module with ExecutionThreads 12: the other misses wait meanwhile."
        return Diagnostic(_SUBJECT, Level.WARNING, text, advice)
    return Diagnostic(_SUBJECT, Level.OK, text)


async def _examine_environment(client: GearsClient) -> Diagnostic:
    try:
        names = (await client.run(_NAME_THOSE_SET)).records
    except (GearsError, StoreUnavailableError) as error:
        advice = "Its Python does not run, or the user lacks `+rg.pyexecute`."
        return Diagnostic(_SUBJECT, Level.ERROR, str(error), advice)
    if "REDISENT_HOST" not in names:
        advice = (
            "Start the Redis server with REDISENT_HOST and the others in its environment "
            "(`.env.gears`): scripts have no other way to durable."
        )
        return Diagnostic(_SUBJECT, Level.ERROR, "scripts do not see REDISENT_HOST", advice)
    return Diagnostic(_SUBJECT, Level.OK, f"scripts see {', '.join(names)}")


async def _examine_hooks(client: GearsClient) -> list[Diagnostic]:
    """Returns a warning about reads in transactions, if scripts answer commands."""
    live = await client.load_registrations()
    commands = sorted({command for each in live for command in each.commands})
    if not commands:
        return []
    advice = (
        "Read collections outside of MULTI (in redis-py: pipeline(transaction=False)), or set "
        "SPONSORSYNC_GEARS_HOOK_COLLECTIONS=false: two of these in a transaction end the server."
    )
    text = f"answers {', '.join(commands)} of keys that are missing"
    return [Diagnostic(_SUBJECT, Level.WARNING, text, advice)]
