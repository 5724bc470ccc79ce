"""The commands of RedisGears, with typed results and our own errors."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

from pydantic import SecretStr
from redis.exceptions import NoPermissionError, ResponseError

from sponsorsync.domain.errors import (
    GearsError,
    GearsScriptError,
    GearsUnsupportedError,
    StoreUnavailableError,
)
from sponsorsync.gears.replies import (
    Registration,
    Results,
    parse_fault,
    parse_registrations,
    parse_results,
    parse_version,
)
from sponsorsync.store.connect import Argument, RedisStore, Reply, create_store

OLDEST = (1, 2, 2)

# For one command at a time, and the renewal of a lock at the same time.
_POOL_SIZE = 2
_POLL_FIRST_S = 0.02
_POLL_LONGEST_S = 1.0
_ABORT_LIMIT_S = 10.0

# RedisGears' errors that do not come from a script.
_UNSATISFIED = "Could not satisfy requirements"
_RUNNING = "execution is still running"
_UNFINISHED = "can not drop a not yet finished execution"
_UNKNOWN_EXECUTION = "execution plan does not exist"
_UNKNOWN_REGISTRATION = "execution is not registered"


class GearsClient:
    """RedisGears on one server.

    Every method raises StoreUnavailableError if the server cannot serve, and GearsError if
    RedisGears refuses the command.

    Args of the constructor:
        store: For commands that the server answers at once.
        patient_store: The same server with a longer time-out, for uploads: the server may install
            packages before it answers.
    """

    def __init__(self, store: RedisStore, patient_store: RedisStore) -> None:
        self.store = store
        self._patient_store = patient_store

    async def load_version(self) -> tuple[int, int, int] | None:
        """Returns the version of the RedisGears module; None if the server has no such module."""
        try:
            return parse_version(await self.store.run("MODULE", "LIST"))
        except ResponseError:  # some managed servers do not know MODULE
            return None
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, NoPermissionError):
                raise GearsUnsupportedError(
                    "The local Redis does not permit its user to look for RedisGears; that takes "
                    "`+module|list`."
                ) from error
            raise

    async def require_version(self) -> tuple[int, int, int]:
        """Returns the version of the module.

        Raises:
            GearsUnsupportedError: Our scripts do not run on this server; the message says why.
        """
        version = await self.load_version()
        reason = explain_unsupported(version)
        if reason is not None or version is None:
            raise GearsUnsupportedError(f"The {self.store.name} Redis {reason}")
        return version

    async def load_registrations(self) -> tuple[Registration, ...]:
        """Returns all registrations: those of our scripts, and all others."""
        return parse_registrations(await _call(self.store, "RG.DUMPREGISTRATIONS"))

    async def upload(
        self, text: str, *, session: str, description: str, requirements: Sequence[str]
    ) -> None:
        """Runs a script that registers, in place of all registrations of the same session.

        If this fails, the old registrations stay live.

        Raises:
            GearsScriptError: The script failed.
        """
        named = ("ID", session, "DESCRIPTION", description, "UPGRADE")
        await self._execute(text, *named, requirements=requirements)

    async def run(self, text: str) -> Results:
        """Runs a short script, and returns its results.

        Raises:
            GearsScriptError: The script failed before it ran anything.
        """
        return parse_results(await self._execute(text))

    async def start(self, text: str, *, requirements: Sequence[str]) -> str:
        """Starts a long script; returns the id of its execution, for `wait_for_results`.

        Raises:
            GearsScriptError: The script failed before it ran anything.
        """
        reply = await self._execute(text, "UNBLOCKING", requirements=requirements)
        execution = cast("bytes", reply).decode()
        if execution == "OK":
            raise GearsError("The script registers something, or runs nothing.")
        return execution

    async def wait_for_results(self, execution: str, *, limit_s: float) -> Results:
        """Waits until an execution ends, and returns its results.

        Raises:
            GearsError: The execution did not end within the limit, or a restart has ended it.
        """
        deadline = time.monotonic() + limit_s
        pause_s = _POLL_FIRST_S
        while (results := await self._load_results(execution)) is None:
            if time.monotonic() > deadline:
                raise GearsError(f"The script did not end within {limit_s:.0f} s.")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_LONGEST_S)
        return results

    async def drop_execution(self, execution: str) -> None:
        """Aborts an execution if it still runs, and removes it and its results."""
        try:
            await _call(self.store, "RG.DROPEXECUTION", execution)
        except GearsError as error:
            if str(error) == _UNKNOWN_EXECUTION:
                return
            if not str(error).startswith(_UNFINISHED):
                raise
            # The script notices at its next step.
            await _call(self._patient_store, "RG.ABORTEXECUTION", execution)
            await self.wait_for_results(execution, limit_s=_ABORT_LIMIT_S)
            await _call(self.store, "RG.DROPEXECUTION", execution)

    async def unregister(self, registration: str) -> bool:
        """Removes a registration; returns whether there was one."""
        try:
            await _call(self.store, "RG.UNREGISTER", registration)
        except GearsError as error:
            if str(error) != _UNKNOWN_REGISTRATION:
                raise
            return False
        return True

    async def load_execution_threads(self) -> int:
        """Returns how many executions run side by side."""
        [threads] = cast("list[int]", await _call(self.store, "RG.CONFIGGET", "ExecutionThreads"))
        return threads

    async def _load_results(self, execution: str) -> Results | None:
        try:
            return parse_results(await _call(self.store, "RG.GETRESULTS", execution))
        except GearsError as error:
            if str(error) == _RUNNING:
                return None
            if str(error) == _UNKNOWN_EXECUTION:
                raise GearsError("The execution is gone: the server was restarted.") from None
            raise

    async def _execute(self, text: str, *options: str, requirements: Sequence[str] = ()) -> Reply:
        # The last argument: RedisGears takes everything after REQUIREMENTS as names of packages.
        packages = ("REQUIREMENTS", *requirements) if requirements else ()
        try:
            return await _call(self._patient_store, "RG.PYEXECUTE", text, *options, *packages)
        except GearsError as error:
            said = str(error)
            if said.startswith(_UNSATISFIED):
                raise GearsError(
                    f"The server could not install {', '.join(requirements)}: it needs access to "
                    "a package index, or PIP_NO_INDEX and PIP_FIND_LINKS in its environment. Its "
                    "log has the details."
                ) from None
            fault = parse_fault(said, source=text)
            raise GearsScriptError(fault.text, line=fault.line) from None


@asynccontextmanager
async def open_gears(url: SecretStr, *, upload_timeout_s: float) -> AsyncIterator[GearsClient]:
    """Yields a client for the local Redis; it connects at the first command.

    Args:
        url: redis://, rediss:// or unix:// address.
        upload_timeout_s: How long an upload may take, including the installation of packages.
    """
    store = create_store(url, name="local", pool_size=_POOL_SIZE)
    patient_store = create_store(
        url, name="local", pool_size=_POOL_SIZE, reply_timeout_s=upload_timeout_s
    )
    try:
        yield GearsClient(store, patient_store)
    finally:
        await patient_store.aclose()
        await store.aclose()


def format_version(version: tuple[int, int, int]) -> str:
    """Returns a version as text, such as '1.2.9'."""
    return ".".join(map(str, version))


def explain_unsupported(version: tuple[int, int, int] | None) -> str | None:
    """Returns why our scripts do not run on a version, as the end of a sentence; None if they do.

    Args:
        version: The module's version; None where there is no module.
    """
    if version is None:
        return (
            f"has no RedisGears: load the module, {format_version(OLDEST)} or newer, or use "
            "SPONSORSYNC_ENGINE=plain."
        )
    has = f"has RedisGears {format_version(version)}"
    wanted = f"use 1.2, from {format_version(OLDEST)} on, or SPONSORSYNC_ENGINE=plain."
    if version >= (2, 0, 0):
        return f"{has}, another product that runs JavaScript, and not Python: {wanted}"
    if version < (1, 2, 0):
        return f"{has}, which knows neither key misses nor the hooks on commands: {wanted}"
    if version < OLDEST:
        return f"{has}, which cannot put a script in the place of an older one: {wanted}"
    return None


async def _call(store: RedisStore, *command: Argument) -> Reply:
    try:
        return await store.run(*command)
    except ResponseError as error:
        raise GearsError(str(error)) from None
