"""Connections to a Redis: typed replies, short time-outs, and errors of our own tree."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias, cast

from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.lock import Lock
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sponsorsync.domain.errors import StoreConflictError, StoreUnavailableError
from sponsorsync.store import keys
from sponsorsync.store.scripts import load_script

Argument: TypeAlias = bytes | str | int
Reply: TypeAlias = bytes | int | list["Reply"] | dict[bytes, bytes] | None
ScriptCall: TypeAlias = tuple[str, Sequence[Argument]]
"""A script's name and its arguments."""

# redis-py's own ten retries take 3.9 s until they report that a server is gone. One quick retry
# covers a connection that the server closed while it was idle.
_RETRIES = 1
_RETRY_BASE_S = 0.01
_RETRY_CAP_S = 0.05
_CONNECT_TIMEOUT_S = 1.0
_SOCKET_TIMEOUT_S = 2.0
_POOL_WAIT_S = 3.0


class IncarnationError(RedisConnectionError):
    """The server has another incarnation than the one that was compared."""


# Subclasses come before their base classes.
_REASONS: tuple[tuple[type[RedisError], str], ...] = (
    (IncarnationError, "has just been restarted and is being compared with the other one"),
    (BusyLoadingError, "is still loading its data"),
    (AuthenticationError, "refuses our user or password"),
    (NoPermissionError, "does not permit its user what SponsorSync needs"),
    (ReadOnlyError, "is read-only (a replica, or in the middle of a failover)"),
    (OutOfMemoryError, "is out of memory"),
    (RedisTimeoutError, "did not answer in time"),
    (RedisConnectionError, "cannot be reached"),
)
# States of the server that have no class in redis-py, by the beginning of the error.
_UNAVAILABLE_PREFIXES = {
    "MISCONF": "cannot save its data to disk and refuses writes",
    "CLUSTERDOWN": "is a cluster that is down",
    "MASTERDOWN": "has lost its primary",
    "BUSY ": "is busy with a script",
    "NOREPLICAS": "has too few replicas to take writes",
    "NOAUTH": "wants a user or a password",
    "DB index is out of range": "has no database of the number in its URL",
    "WRONGPASS": "refuses our user or password",
    # A command inside a script was refused: Redis 7 and Valkey, then Redis 6.
    "ACL failure in script": "does not permit its user what SponsorSync needs",
    "The user executing the script": "does not permit its user what SponsorSync needs",
}


class Gate:
    """Admits connections to the approved incarnation of a server only.

    A restarted server may have come back older. Each new connection therefore first asks for the
    incarnation; connecting fails until `sync/incarnations.py` has compared and approved that one.
    """

    def __init__(self) -> None:
        self._approved: str | None = None
        self.refused = asyncio.Event()

    def open_for(self, run_id: str) -> None:
        """Admits this incarnation and no other."""
        self._approved = run_id
        self.refused.clear()

    async def admit(self, connection: AbstractConnection) -> None:
        """Finishes the handshake of a new connection (redis-py's `redis_connect_func`)."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        reply = cast("Reply", await connection.read_response())
        if parse_run_id(reply) != self._approved:
            self.refused.set()
            raise IncarnationError("has just been restarted and is being compared")


class RedisStore:
    """One Redis, with replies of known types; messages call it `name`: 'local' or 'durable'.

    Every method raises StoreUnavailableError if the server cannot serve at the moment (nothing is
    half done then: each change is one script) and StoreConflictError for a wrong-type key.
    """

    def __init__(self, client: Redis, *, name: str) -> None:
        self._client = client
        self.name = name
        self._scripts: dict[str, AsyncScript] = {}

    async def run_script(self, name: str, *arguments: Argument) -> Reply:
        """Runs a script of `store/lua` in one round trip; two if the server does not know it."""
        with self.translated_errors():
            return cast("Reply", await self._script(name)(args=list(arguments)))

    async def run_scripts(
        self, name: str, argument_lists: Sequence[Sequence[Argument]]
    ) -> list[Reply]:
        """Runs a script several times; see `run_calls`."""
        return await self.run_calls([(name, arguments) for arguments in argument_lists])

    async def run_calls(self, calls: Sequence[ScriptCall]) -> list[Reply]:
        """Runs scripts in one round trip; two or three more if the server does not know one.

        The unknown script then runs after the others. Raises the first error after all have run.
        """
        replies = await self.try_calls(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return cast("list[Reply]", replies)

    async def try_calls(self, calls: Sequence[ScriptCall]) -> list[Reply | Exception]:
        """Does the same, but returns the error of a call in place of its reply.

        A single call raises its error.
        """
        if len(calls) == 1:
            name, arguments = calls[0]
            return [await self.run_script(name, *arguments)]
        with self.translated_errors():
            replies = await self._evaluate(calls)
            unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                # These did not run. Checking beforehand would take a round trip each time.
                for name in {calls[at][0] for at in unknown}:
                    await self._client.script_load(self._script(name).script)
                again = await self._evaluate([calls[at] for at in unknown])
                for at, reply in zip(unknown, again, strict=True):
                    replies[at] = reply
        return [
            self._translate(reply) if isinstance(reply, RedisError) else reply for reply in replies
        ]

    async def run(self, *command: Argument) -> Reply:
        """Runs one command."""
        with self.translated_errors():
            reply = await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
            return cast("Reply", reply)

    async def run_together(
        self, commands: Sequence[Sequence[Argument]], *, is_atomic: bool = True
    ) -> list[Reply]:
        """Runs several commands in one round trip, in a MULTI if `is_atomic`."""
        async with self._client.pipeline(transaction=is_atomic) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            with self.translated_errors():
                return cast("list[Reply]", await pipeline.execute())

    def open_pubsub(self) -> PubSub:
        """Returns a connection for a subscription; the caller closes it."""
        return self._client.pubsub()

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Translates errors of redis-py into those of our own tree."""
        try:
            yield
        except RedisError as error:
            raise self._translate(error) from error

    def create_lock(self, key: str, *, ttl_ms: int) -> Lock:
        """Returns redis-py's lock, whose errors `hold_lock` translates."""
        return Lock(self._client, key, timeout=ttl_ms / 1000, thread_local=False)

    async def find_cluster(self) -> str | None:
        """Returns why the server cannot run our scripts, which use keys of any slot; or None.

        A proxy before several shards (Redis Enterprise) refuses two keys of different slots.
        """
        info = cast("dict[str, object]", await self.run("INFO", "cluster"))
        if info.get("cluster_enabled") == 1:
            return "is a cluster"
        try:
            await self.run("EVAL", "return 1", 2, keys.APPLIED, keys.PEOPLE)
        except ResponseError as error:
            if "CROSSSLOT" in str(error).upper():
                return "spreads its keys over several shards"
            raise
        return None

    async def load_run_id(self) -> str:
        """Returns the id of the server's incarnation: each start has another."""
        return parse_run_id(await self.run("INFO", "server"))

    async def check_writable(self) -> None:
        """Writes a key: a server that is full or read-only still answers a PING."""
        await self.run("SET", keys.PROBE, "1", "PX", keys.PROBE_TTL_MS)

    def create_conflict_error(self, sentence: str | None = None) -> StoreConflictError:
        """Returns the error for a wrong-type key; `sentence` names it for the log."""
        error = StoreConflictError(
            f"A key in the {self.name} Redis holds data of another kind, so nothing was "
            "changed. The operator's log names it."
        )
        if sentence is not None:
            error.__cause__ = ResponseError(sentence)
        return error

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._client.aclose()

    async def _evaluate(self, calls: Sequence[ScriptCall]) -> list[Reply | RedisError]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for name, arguments in calls:
                pipeline.execute_command("EVALSHA", self._script(name).sha, 0, *arguments)
            return await pipeline.execute(raise_on_error=False)

    def _script(self, name: str) -> AsyncScript:
        if name not in self._scripts:
            self._scripts[name] = self._client.register_script(load_script(name))
        return self._scripts[name]

    def _translate(self, error: RedisError) -> Exception:
        translated = self._classify(error)
        translated.__cause__ = error  # for the log, also if it is raised later
        return translated

    def _classify(self, error: RedisError) -> Exception:
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                return StoreUnavailableError(f"The {self.name} Redis {reason}.")
        if not isinstance(error, ResponseError):
            return StoreUnavailableError(f"The {self.name} Redis gave no usable answer.")
        text = str(error)
        for prefix, reason in _UNAVAILABLE_PREFIXES.items():
            if text.startswith(prefix):
                return StoreUnavailableError(f"The {self.name} Redis {reason}.")
        # Within a script OOM and READONLY come wrapped, without their class.
        for kind, word in ((OutOfMemoryError, "OOM "), (ReadOnlyError, "READONLY ")):
            if word in text:
                return self._classify(kind(text))
        if "WRONGTYPE" in text:
            return self.create_conflict_error(text)
        return error


def parse_run_id(reply: Reply) -> str:
    """Returns the `run_id` in a reply to INFO, which is text or was parsed by redis-py.

    Returns '' if the server (a proxy, say) has none: its restarts then go unnoticed, and only
    APPLIED shows that durable came back older.
    """
    if isinstance(reply, dict):
        return str(cast("dict[str, str]", reply).get("run_id", ""))
    lines = cast("bytes", reply).decode().splitlines()
    return next((line.partition(":")[2] for line in lines if line.startswith("run_id:")), "")


def create_store(
    url: SecretStr,
    *,
    name: str,
    pool_size: int,
    gate: Gate | None = None,
    reply_timeout_s: float = _SOCKET_TIMEOUT_S,
) -> RedisStore:
    """Returns a client, not yet connected, for a redis://, rediss:// or unix:// address.

    If all connections of the pool are in use, a caller waits for one, for a bounded time; redis-
    py's default pool would raise at once. `gate` decides which incarnation of the server is used.
    """
    pool = BlockingConnectionPool.from_url(
        url.get_secret_value(),
        max_connections=pool_size,
        timeout=_POOL_WAIT_S,
        socket_timeout=reply_timeout_s,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        # No retry after a time-out: that would double the load of a slow server.
        retry=Retry(
            ExponentialBackoff(cap=_RETRY_CAP_S, base=_RETRY_BASE_S),
            _RETRIES,
            supported_errors=(RedisConnectionError,),
        ),
        client_name="sponsorsync",
        redis_connect_func=None if gate is None else gate.admit,
    )
    return RedisStore(Redis.from_pool(pool), name=name)
