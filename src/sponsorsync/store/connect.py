"""Connections to a Redis: typed replies, short time-outs, and the errors of domain/errors.py."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias, cast

from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.lock import Lock
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from sponsorsync.domain.errors import StoreConflictError, StoreUnavailableError
from sponsorsync.store import keys
from sponsorsync.store.redis_errors import (
    DemotedError,
    IncarnationError,
    find_outage,
    is_demotion,
    is_known,
    is_wrong_type,
)
from sponsorsync.store.scripts import load_script

Argument: TypeAlias = bytes | str | int
Reply: TypeAlias = bytes | int | list["Reply"] | dict[bytes, bytes] | None
ScriptCall: TypeAlias = tuple[str, Sequence[Argument]]
"""A script's name and its arguments."""

# By default redis-py retries ten times, and reports only after 3.9 s that a server is gone. One
# quick retry is enough for a connection that the server closed while it was idle.
_RETRIES = 1
_RETRY_BASE_S = 0.01
_RETRY_CAP_S = 0.05
_CONNECT_TIMEOUT_S = 1.0
_SOCKET_TIMEOUT_S = 2.0
_POOL_WAIT_S = 3.0
_PROBE_SCRIPT = "return redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])"


class Gate:
    """Admits connections only to the approved incarnation of a server.

    Each start of a server is a new incarnation, whose data may be older than before; and a server
    that was demoted still answers reads. So each new connection asks for the incarnation and the
    role. It fails with a replica, and until `sync/incarnations.py` has compared the data of that
    incarnation and approved it.
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
        await connection.send_command("INFO")
        reply = cast("Reply", await connection.read_response())
        if parse_info(reply, "role") == "slave":
            raise DemotedError("is a replica")
        if parse_info(reply, "run_id") != self._approved:
            self.refused.set()
            raise IncarnationError("has just been restarted and is being compared")


class RedisStore:
    """One Redis, with typed replies; `name`, 'local' or 'durable', names it in error messages.

    Every method raises StoreUnavailableError if the server cannot serve at the moment (nothing is
    half done then: each change is one script) and StoreConflictError for a wrong-type key.
    """

    def __init__(self, client: Redis, *, name: str) -> None:
        self._client = client
        self.name = name
        self._hashes: dict[str, str] = {}

    @property
    def database(self) -> int:
        """The number of the database in the server's address."""
        return int(self._client.connection_pool.connection_kwargs.get("db") or 0)

    async def run_script(self, name: str, *arguments: Argument) -> Reply:
        """Runs a script of `store/lua` in one round trip; two if the server does not know it."""
        async with self.translated_errors(of_script=True):
            try:
                reply = await self._execute("EVALSHA", self._hash(name), 0, *arguments)
            except NoScriptError:
                # EVAL cannot meet a second SCRIPT FLUSH.
                reply = await self._execute("EVAL", load_script(name), 0, *arguments)
            return reply

    async def run_scripts(
        self, name: str, argument_lists: Sequence[Sequence[Argument]]
    ) -> list[Reply]:
        """Runs a script once for each list of arguments; see `run_calls`."""
        return await self.run_calls([(name, arguments) for arguments in argument_lists])

    async def run_calls(self, calls: Sequence[ScriptCall]) -> list[Reply]:
        """Runs scripts in one round trip; two if the server has not loaded them all.

        Scripts that were not loaded run after the others. Raises the first error after all have
        run.
        """
        replies = await self.try_calls(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return cast("list[Reply]", replies)

    async def try_calls(self, calls: Sequence[ScriptCall]) -> list[Reply | Exception]:
        """Does what `run_calls` does, but returns the error of a call in place of its reply.

        If there is only one call, raises its error.
        """
        if len(calls) == 1:
            name, arguments = calls[0]
            return [await self.run_script(name, *arguments)]
        replies = await self._run_calls(calls)
        is_well = await self._is_well([each for each in replies if isinstance(each, RedisError)])
        return [
            self._translate(each, is_well=is_well, of_script=True)
            if isinstance(each, RedisError)
            else each
            for each in replies
        ]

    async def run(self, *command: Argument) -> Reply:
        """Runs one command."""
        async with self.translated_errors():
            return await self._execute(*command)

    async def run_together(
        self, commands: Sequence[Sequence[Argument]], *, is_atomic: bool = True
    ) -> list[Reply]:
        """Runs several commands in one round trip, in a MULTI if `is_atomic`."""
        async with self._client.pipeline(transaction=is_atomic) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            async with self.translated_errors():
                return cast("list[Reply]", await pipeline.execute())

    def open_pubsub(self) -> PubSub:
        """Returns a connection for a subscription; the caller closes it."""
        return self._client.pubsub()

    @asynccontextmanager
    async def translated_errors(self, *, of_script: bool = False) -> AsyncIterator[None]:
        """Translates the errors of redis-py into those of `domain/errors.py`.

        A ResponseError that is no state of the server is the caller's, and passes unchanged.
        """
        try:
            yield
        except RedisError as error:
            is_well = await self._is_well([error])
            raise self._translate(error, is_well=is_well, of_script=of_script) from error

    def create_lock(self, key: str, *, ttl_ms: int) -> Lock:
        """Returns redis-py's lock, whose errors `hold_lock` translates."""
        return Lock(self._client, key, timeout=ttl_ms / 1000, thread_local=False)

    async def find_cluster(self) -> str | None:
        """Returns the reason if the server is a cluster, which cannot run our scripts; else None.

        Our scripts use keys of any hash slot. A proxy before several shards (Redis Enterprise) does
        not call itself a cluster, but refuses keys of different slots.
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
        """Returns the id of the server's incarnation, which is new after each start.

        Returns '' if the server (a proxy, say) has none: its restarts then go unnoticed, and only
        a lower value of APPLIED shows that durable has come back older.
        """
        return parse_info(await self.run("INFO", "server"), "run_id")

    async def check_writable(self) -> None:
        """Raises an error unless the server accepts writes; a full server still answers PING."""
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

    async def _run_calls(self, calls: Sequence[ScriptCall]) -> list[Reply | RedisError]:
        async with self.translated_errors():
            replies = await self._send(
                [("EVALSHA", self._hash(name), 0, *arguments) for name, arguments in calls]
            )
            unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                # These did not run. EVAL cannot meet a second SCRIPT FLUSH.
                texts = {calls[at][0]: load_script(calls[at][0]) for at in unknown}
                again = await self._send(
                    [("EVAL", texts[calls[at][0]], 0, *calls[at][1]) for at in unknown]
                )
                for at, reply in zip(unknown, again, strict=True):
                    replies[at] = reply
        return replies

    async def _execute(self, *command: Argument) -> Reply:
        reply = await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        return cast("Reply", reply)

    async def _send(self, commands: Sequence[Sequence[Argument]]) -> list[Reply | RedisError]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)

    def _hash(self, name: str) -> str:
        if name not in self._hashes:
            text = load_script(name).encode()
            self._hashes[name] = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        return self._hashes[name]

    async def _is_well(self, errors: Sequence[RedisError]) -> bool:
        """Returns whether the server is well, as far as these errors do not tell.

        Asks it at most once, and leaves a server that was demoted: a managed failover moves the
        name to another server, and may leave the connections to this one open.
        """
        if any(is_demotion(error) for error in errors):
            with suppress(RedisError, OSError):
                await self._client.connection_pool.disconnect()
        return all(is_known(error) for error in errors) or await self._runs_scripts()

    def _translate(self, error: RedisError, *, is_well: bool, of_script: bool) -> Exception:
        translated: Exception
        reason = find_outage(error)
        if reason is None and not is_known(error) and not is_well:
            reason = "refuses what it is asked"
        if reason is not None:
            translated = StoreUnavailableError(f"The {self.name} Redis {reason}.")
        elif is_wrong_type(error) or of_script:
            # The server is well, so the data that this command met are not.
            translated = self.create_conflict_error()
        else:
            return error
        translated.__cause__ = error  # for the log, also if it is raised later
        return translated

    async def _runs_scripts(self) -> bool:
        """Whether the server runs a script that writes: tells its own faults from those of data.

        The texts of servers and proxies for 'not now' are no closed list.
        """
        try:
            await self._client.eval(_PROBE_SCRIPT, 1, keys.PROBE, str(keys.PROBE_TTL_MS))
        except RedisError:
            return False
        return True


def parse_info(reply: Reply, field: str) -> str:
    """Returns one field of a reply to INFO, which is text or was parsed by redis-py; '' if missing.

    Servers send the sections `server` and `replication` with a plain INFO.
    """
    if isinstance(reply, dict):
        return str(cast("dict[str, str]", reply).get(field, ""))
    lines = cast("bytes", reply).decode().splitlines()
    return next((line.partition(":")[2] for line in lines if line.startswith(f"{field}:")), "")


def create_store(
    url: SecretStr,
    *,
    name: str,
    pool_size: int,
    gate: Gate | None = None,
    reply_timeout_s: float = _SOCKET_TIMEOUT_S,
) -> RedisStore:
    """Returns a client, not yet connected, for a redis://, rediss:// or unix:// address.

    If all connections of the pool are in use, a caller waits for one for a limited time; the
    default pool of redis-py would raise an error at once. `gate` decides which incarnation of the
    server is used.
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
