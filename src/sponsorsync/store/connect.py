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
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sponsorsync.domain.errors import StoreConflictError, StoreError, StoreUnavailableError
from sponsorsync.store import keys
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


class IncarnationError(RedisConnectionError):
    """The server has been restarted, and its data have not been compared with the other's yet."""


class DemotedError(RedisConnectionError):
    """The server is a replica: it refuses writes, and what it returns may be old."""


_OTHER_NAME = "has a TLS certificate for another name than that in its address"
_READ_ONLY = "is read-only (a replica, or in the middle of a failover)"
# Subclasses come before their base classes.
_REASONS: tuple[tuple[type[RedisError], str], ...] = (
    (IncarnationError, "has just been restarted and is being compared with the other one"),
    (BusyLoadingError, "is still loading its data"),
    (AuthenticationError, "refuses our user or password"),
    (NoPermissionError, "does not permit its user what SponsorSync needs"),
    (ReadOnlyError, _READ_ONLY),
    (DemotedError, _READ_ONLY),
    (MasterDownError, "has lost its primary"),
    (ClusterDownError, "is a cluster that is down"),
    (OutOfMemoryError, "is out of memory"),
    (RedisTimeoutError, "did not answer in time"),
    (RedisConnectionError, "cannot be reached"),
)
# What the operating system or TLS says of a connection, by a part of its text.
_CONNECTION_WORDS = {
    "Hostname mismatch": _OTHER_NAME,
    "IP address mismatch": _OTHER_NAME,
    "certificate has expired": "has a TLS certificate that has expired",
    "CERTIFICATE_VERIFY_FAILED": "has a TLS certificate of an authority that is not trusted",
    "No such file": "cannot be reached: a file that its address names is missing",
    "Name or service not known": "cannot be reached: its host name is unknown",
    "Error 111 ": "cannot be reached: nothing listens at its address",
}
# States of the server that have no class in redis-py, by the beginning of the error.
_UNAVAILABLE_PREFIXES = {
    "MISCONF": "cannot save its data to disk and refuses writes",
    "BUSY ": "is busy with a script",
    "NOREPLICAS": "has too few replicas to take writes",
    "NOAUTH": "wants a user or a password",
    "DB index is out of range": "has no database of the number in its URL",
    "WRONGPASS": "refuses our user or password",
    # A command inside a script was refused: Redis 6.
    "The user executing the script": "does not permit its user what SponsorSync needs",
}
# Within a script an error comes wrapped, without its class. Redis 6.2: `ERR Error running script
# (call to f_…): @user_script:1: -MISCONF …`; Valkey 9: `user_script:93: ERR ACL failure in script`.
_UNAVAILABLE_WORDS = {
    "OOM ": "is out of memory",
    "READONLY ": _READ_ONLY,
    "MISCONF ": "cannot save its data to disk and refuses writes",
    "ACL failure in script": "does not permit its user what SponsorSync needs",
}
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
        [reply] = await self._run_calls([(name, arguments)])
        if isinstance(reply, RedisError):
            raise await self._translate(reply, of_script=True)
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
        replies: list[Reply | Exception] = []
        for reply in await self._run_calls(calls):
            if isinstance(reply, RedisError):
                replies.append(await self._translate(reply, of_script=True))
            else:
                replies.append(reply)
        return replies

    async def run(self, *command: Argument) -> Reply:
        """Runs one command."""
        async with self.translated_errors():
            reply = await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
            return cast("Reply", reply)

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
    async def translated_errors(self) -> AsyncIterator[None]:
        """Translates the errors of redis-py into those of `domain/errors.py`.

        A ResponseError that is no state of the server is the caller's, and passes unchanged.
        """
        try:
            yield
        except RedisError as error:
            raise await self._translate(error) from error

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
                texts = [(load_script(name), arguments) for name, arguments in calls]
                again = await self._send(
                    [("EVAL", texts[at][0], 0, *texts[at][1]) for at in unknown]
                )
                for at, reply in zip(unknown, again, strict=True):
                    replies[at] = reply
        return replies

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

    async def _translate(self, error: RedisError, *, of_script: bool = False) -> Exception:
        translated: Exception | None = self._classify(error)
        if isinstance(error, ReadOnlyError | MasterDownError) or "READONLY " in str(error):
            # A managed failover moves the name of the server to another one, and may leave the
            # connections to this one open.
            with suppress(RedisError, OSError):
                await self._client.connection_pool.disconnect()
        if translated is None and not await self._runs_scripts():
            translated = self._create_outage("refuses what it is asked")
        if translated is None and of_script:
            # The server is well, so the data that this script met are not.
            translated = self.create_conflict_error()
        if translated is None:
            return error
        translated.__cause__ = error  # for the log, also if it is raised later
        return translated

    def _create_outage(self, reason: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"The {self.name} Redis {reason}.")

    async def _runs_scripts(self) -> bool:
        """Whether the server runs a script that writes: tells its own faults from those of data.

        The texts of servers and proxies for 'not now' are no closed list.
        """
        try:
            await self._client.eval(_PROBE_SCRIPT, 1, keys.PROBE, str(keys.PROBE_TTL_MS))
        except RedisError:
            return False
        return True

    def _classify(self, error: RedisError) -> StoreError | None:
        """Returns the error of our tree; None for a text that is not known."""
        text = str(error)
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                if kind is RedisConnectionError:
                    reasons = (r for word, r in _CONNECTION_WORDS.items() if word in text)
                    return self._create_outage(next(reasons, reason))
                return self._create_outage(reason)
        if not isinstance(error, ResponseError):
            return self._create_outage("gave no usable answer")
        for prefix, reason in _UNAVAILABLE_PREFIXES.items():
            if text.startswith(prefix):
                return self._create_outage(reason)
        for word, reason in _UNAVAILABLE_WORDS.items():
            if word in text:
                return self._create_outage(reason)
        return self.create_conflict_error(text) if "WRONGTYPE" in text else None


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
