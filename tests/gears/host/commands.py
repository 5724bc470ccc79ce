"""The commands of RedisGears, and MODULE LIST, with their replies."""

from __future__ import annotations

import importlib.metadata
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.gears.host.executions import MS, Execution
from tests.gears.host.resp import Failure, Status, Value
from tests.gears.host.sessions import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.gears.host.engine import Engine

VERSION: Final = 10209
_OK: Final = Status("OK")
_ID: Final = re.compile(r"[A-Za-z0-9_-]*")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


class _Refused(Exception):  # noqa: N818 - it carries a reply
    """Raised for a refused command; its text is the error reply."""


@dataclass
class _Options:
    """The options that follow the script in RG.PYEXECUTE."""

    id: str = ""
    description: str | None = None
    replaced_id: str | None = None
    is_blocking: bool = True
    upgrades: bool = False
    requirements: list[str] = field(default_factory=list)


class Commands:
    """Answers the commands RG.* and MODULE LIST."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._answers: dict[str, Callable[[list[bytes]], Awaitable[Value]]] = {
            "MODULE": self._list_modules,
            "RG.PYEXECUTE": self._execute,
            "RG.DUMPREGISTRATIONS": self._dump_registrations,
            "RG.UNREGISTER": self._unregister,
            "RG.PYDUMPSESSIONS": self._dump_sessions,
            "RG.PYDUMPREQS": self._dump_requirements,
            "RG.GETRESULTS": self._get_results,
            "RG.GETRESULTSBLOCKING": self._get_results_blocking,
            "RG.GETEXECUTION": self._get_execution,
            "RG.DROPEXECUTION": self._drop_execution,
            "RG.ABORTEXECUTION": self._abort_execution,
            "RG.DUMPEXECUTIONS": self._dump_executions,
            "RG.CONFIGGET": self._get_config,
            "RG.CONFIGSET": self._set_config,
        }

    def knows(self, arguments: list[bytes]) -> bool:
        """Returns whether `answer` handles a command; MODULE only with LIST."""
        name = _name(arguments)
        if name == "MODULE":
            return arguments[1:2] != [] and arguments[1].upper() == b"LIST"
        return name in self._answers

    async def answer(self, arguments: list[bytes]) -> Value:
        """Returns the reply to a command."""
        try:
            return await self._answers[_name(arguments)](arguments[1:])
        except _Refused as refusal:
            return Failure(str(refusal))
        except IndexError:
            name = _name(arguments).lower()
            return Failure(f"ERR wrong number of arguments for '{name}' command")

    async def _list_modules(self, _: list[bytes]) -> Value:
        return [{b"name": b"rg", b"ver": VERSION, b"path": b"redisgears.so", b"args": []}]

    # RG.PYEXECUTE

    async def _execute(self, arguments: list[bytes]) -> Value:
        script, options = arguments[0], _parse_options(arguments[1:])
        replaced = self._find_replaced(options)
        self._install(options.requirements)
        session = Session(
            options.id or secrets.token_hex(20), options.description, options.requirements
        )
        upload, failure = await self._engine.upload(script, session, replaced)
        if failure is not None:
            return Failure(failure)
        execution = upload.execution
        if upload.registrations or execution is None:
            return _OK
        if not options.is_blocking:
            return execution.id.encode()
        await execution.done.wait()
        self._engine.drop_execution(execution)
        return execution.reply()

    def _find_replaced(self, options: _Options) -> Session | None:
        sessions = self._engine.sessions
        present = sessions.get(options.id)
        if options.replaced_id is not None:
            if present is not None:
                raise _Refused(
                    f"Can not replace an existing session {options.id} with {options.replaced_id}"
                )
            if options.replaced_id not in sessions:
                raise _Refused(
                    f"Can not replace with {options.replaced_id}, session does not exists."
                )
            return sessions[options.replaced_id]
        if present is not None and not options.upgrades:
            raise _Refused(f"Session {options.id} already exists")
        return present

    def _install(self, requirements: list[str]) -> None:
        """Accepts packages that the host's Python has, in any version."""
        for each in requirements:
            name = _NAME.match(each)
            try:
                importlib.metadata.distribution(name[0] if name else each)
            except (importlib.metadata.PackageNotFoundError, ValueError):
                raise _Refused(
                    "Could not satisfy requirements (look at redis log file for more information)"
                ) from None

    # Registrations and sessions

    async def _dump_registrations(self, _: list[bytes]) -> Value:
        return [each.dump() for each in self._engine.registrations]

    async def _unregister(self, arguments: list[bytes]) -> Value:
        wanted = arguments[0].decode()
        for each in self._engine.registrations:
            if each.id == wanted:
                await self._engine.unregister(each)
                return _OK
        return Failure("execution is not registered")

    async def _dump_sessions(self, arguments: list[bytes]) -> Value:
        sessions = self._engine.sessions
        options = [each.decode() for each in arguments]
        is_verbose = options[:1] == ["VERBOSE"]
        if is_verbose:
            del options[0]
        if options[:1] == ["SESSIONS"]:
            return [
                sessions[each].dump(verbose=is_verbose)
                if each in sessions
                else f"Session {each} does not exists".encode()
                for each in options[1:]
            ]
        if options:
            return Failure(f"Unknown option {options[0]}")
        return [sessions[each].dump(verbose=is_verbose) for each in sorted(sessions)]

    async def _dump_requirements(self, _: list[bytes]) -> Value:
        held = sorted(
            {each for session in self._engine.sessions.values() for each in session.requirements}
        )
        return [
            [
                *(b"GearReqVersion", 2, b"Name", each.encode(), b"IsDownloaded", b"yes"),
                *(b"IsInstalled", b"yes", b"CompiledOs", b"host", b"Wheels", []),
            ]
            for each in held
        ]

    # Executions

    def _find_execution(self, arguments: list[bytes]) -> Execution:
        execution = self._engine.executions.get(arguments[0].decode())
        if execution is None:
            raise _Refused("execution plan does not exist")
        return execution

    async def _get_results(self, arguments: list[bytes]) -> Value:
        execution = self._find_execution(arguments)
        if not execution.done.is_set():
            return Failure("execution is still running")
        return execution.reply()

    async def _get_results_blocking(self, arguments: list[bytes]) -> Value:
        execution = self._find_execution(arguments)
        await execution.done.wait()
        return execution.reply()

    async def _get_execution(self, arguments: list[bytes]) -> Value:
        execution = self._find_execution(arguments)
        is_done = execution.done.is_set()
        plan: list[Value] = [
            *(b"status", execution.status.encode(), b"shards_received", 0),
            *(b"shards_completed", 0, b"results", len(execution.results) if is_done else -1),
            *(b"errors", [each.encode() for each in execution.errors] if is_done else []),
            *(b"total_duration", int(execution.duration_s * MS), b"read_duration", 0),
            b"steps",
            [
                [b"type", step.kind.encode(), b"duration", 0, b"name", step.kind.encode()]
                for step in reversed(execution.steps)
            ],
        ]
        shard = execution.id.partition("-")[0].encode()
        return [[b"shard_id", shard, b"execution_plan", plan]]

    async def _drop_execution(self, arguments: list[bytes]) -> Value:
        execution = self._find_execution(arguments)
        if not execution.done.is_set():
            return Failure("can not drop a not yet finished execution, abort it first.")
        self._engine.drop_execution(execution)
        return _OK

    async def _abort_execution(self, arguments: list[bytes]) -> Value:
        execution = self._engine.executions.get(arguments[0].decode())
        if execution is None:
            return Failure("execution does not exist")
        execution.abort()
        return _OK

    async def _dump_executions(self, _: list[bytes]) -> Value:
        return [
            [
                *(b"executionId", each.id.encode(), b"status", each.status.encode()),
                *(b"registered", int(each.is_registered)),
            ]
            for each in self._engine.executions.values()
        ]

    # Settings

    async def _get_config(self, arguments: list[bytes]) -> Value:
        return [self._setting(each.decode()) for each in arguments]

    def _setting(self, name: str) -> Value:
        if name == "ExecutionThreads":
            return self._engine.threads
        value = self._engine.config.get(name)
        if value is None:
            return Failure(f"(error) Unsupported config parameter: {name}")
        return value.encode()

    async def _set_config(self, arguments: list[bytes]) -> Value:
        replies: list[Value] = []
        names = [each.decode() for each in arguments]
        for name, value in zip(names[::2], [*names[1::2], None], strict=False):
            if value is None:
                replies.append(Failure(f"(error) Value was not given to {name}"))
            elif name == "ExecutionThreads":
                replies.append(Failure(f"(error) Config value {name} not modifiable at runtime"))
            else:
                self._engine.config[name] = value
                replies.append(Status("OK - value was saved in extra config dictionary"))
        return replies


def _name(arguments: list[bytes]) -> str:
    return arguments[0].decode(errors="replace").upper()


def _parse_options(arguments: list[bytes]) -> _Options:
    options = _Options()
    rest = [each.decode() for each in arguments]
    while rest:
        option, spelled = rest[0].upper(), rest.pop(0)
        match option:
            case "UNBLOCKING":
                options.is_blocking = False
            case "UPGRADE":
                options.upgrades = True
            case "FORCE_REINSTALL_REQUIREMENTS":
                pass  # there is nothing to install
            case "ID" | "DESCRIPTION" | "REPLACE_WITH":
                if not rest:
                    raise _Refused(f"{option} is missing")
                _take_value(options, option, rest.pop(0))
            case "REQUIREMENTS":
                options.requirements, rest = rest, []
            case _:
                raise _Refused(f"Unknown arguments were given: {spelled}")
    return options


def _take_value(options: _Options, option: str, value: str) -> None:
    match option:
        case "ID":
            if not _ID.fullmatch(value):
                raise _Refused("ID must be compose of: ['A'-'Z' | 'a'-'z' | '0' - '9' | '-' | '_']")
            options.id = value
        case "DESCRIPTION":
            options.description = value
        case _:
            options.replaced_id = value
