"""The one way to a Redis: typed replies, small time-outs, and errors of our own tree."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sponsorsync.domain.errors import StoreConflictError, StoreUnavailableError
from sponsorsync.store.scripts import load_script

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import SecretStr
    from redis.commands.core import AsyncScript

Argument: TypeAlias = bytes | str | int
Reply: TypeAlias = "bytes | int | list[Reply] | dict[bytes, bytes] | None"

# redis-py's own ten retries take 3.9 s to say that a server is gone. One quick retry gets over a
# connection that the server closed while it lay idle; whatever takes longer is for the caller.
_RETRIES = 1
_RETRY_BASE_S = 0.01
_RETRY_CAP_S = 0.05
_CONNECT_TIMEOUT_S = 1.0
_SOCKET_TIMEOUT_S = 3.0
_POOL_WAIT_S = 3.0

# Most telling first: several of these are subclasses of others.
_REASONS: tuple[tuple[type[RedisError], str], ...] = (
    (BusyLoadingError, "is still loading its data"),
    (AuthenticationError, "refuses our user or password"),
    (NoPermissionError, "does not permit its user what SponsorSync needs"),
    (ReadOnlyError, "is read-only (a replica, or in the middle of a failover)"),
    (OutOfMemoryError, "is out of memory"),
    (RedisTimeoutError, "did not answer in time"),
    (RedisConnectionError, "cannot be reached"),
)
# What redis-py has no class for; each is a state of the server, not a fault of the data.
_UNAVAILABLE_PREFIXES = {
    "MISCONF": "cannot save its data to disk and refuses writes",
    "CLUSTERDOWN": "is a cluster that is down",
    "MASTERDOWN": "has lost its primary",
    "BUSY": "is busy with a script",
    "NOREPLICAS": "has too few replicas to take writes",
    "NOAUTH": "wants a user or a password",
    "WRONGPASS": "refuses our user or password",
}


class RedisStore:
    """One Redis, with replies of known types.

    Every method raises StoreUnavailableError when the server cannot serve at the moment (then
    nothing was half done: a change is one script) and StoreConflictError when a key holds a type
    that is not ours.
    """

    def __init__(self, client: Redis, *, name: str) -> None:
        self._client = client
        self._name = name
        self._scripts: dict[str, AsyncScript] = {}

    async def run_script(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Reply:
        """Runs a script of `store/lua` in one round trip (two when the server saw it never)."""
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self._client.register_script(load_script(name))
        with self._translated_errors():
            return cast("Reply", await script(keys=list(keys), args=list(arguments)))

    async def run(self, *command: Argument) -> Reply:
        """Runs one command."""
        with self._translated_errors():
            reply = await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
            return cast("Reply", reply)

    async def run_together(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Runs several commands at one moment (MULTI), in one round trip."""
        async with self._client.pipeline(transaction=True) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            with self._translated_errors():
                return cast("list[Reply]", await pipeline.execute())

    async def ping(self) -> None:
        """Returns when the server answers."""
        await self.run("PING")

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._client.aclose()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise self._translate(error) from error

    def _translate(self, error: RedisError) -> Exception:
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                return StoreUnavailableError(f"The {self._name} Redis {reason}.")
        if not isinstance(error, ResponseError):
            return StoreUnavailableError(f"The {self._name} Redis gave no usable answer.")
        text = str(error)
        for prefix, reason in _UNAVAILABLE_PREFIXES.items():
            if text.startswith(prefix):
                return StoreUnavailableError(f"The {self._name} Redis {reason}.")
        # Within a script OOM and READONLY come wrapped, without their class.
        for kind, word in ((OutOfMemoryError, "OOM "), (ReadOnlyError, "READONLY ")):
            if word in text:
                return self._translate(kind(text))
        if "WRONGTYPE" in text:
            return StoreConflictError(
                f"A key in the {self._name} Redis holds data of another kind, so nothing was "
                "changed. The operator's log names it."
            )
        return error


def create_store(url: SecretStr, *, name: str, pool_size: int) -> RedisStore:
    """Returns a client that has not connected yet.

    Args:
        url: redis://, rediss:// or unix:// address.
        name: How messages call this server: 'local' or 'durable'.
        pool_size: Connections at most. Who comes when all are in use waits for one, for a bounded
            time; redis-py's default pool would raise at once.
    """
    pool = BlockingConnectionPool.from_url(
        url.get_secret_value(),
        max_connections=pool_size,
        timeout=_POOL_WAIT_S,
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        retry=Retry(ExponentialBackoff(cap=_RETRY_CAP_S, base=_RETRY_BASE_S), _RETRIES),
        client_name="sponsorsync",
    )
    return RedisStore(Redis.from_pool(pool), name=name)
