"""GearsBuilder, with which a script names a reader and steps, and then runs or registers them."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

import cloudpickle

from tests.gears.host.executions import Step
from tests.gears.host.registrations import KeysRegistration, Registration, StreamRegistration
from tests.gears.host.running import RUNNING, describe, error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.gears.host.engine import Engine

_READERS = ("KeysReader", "StreamReader", "PythonReader")
_KEY_TYPES = ("empty", "string", "list", "hash", "set", "zset", "module", "stream")


class GearsBuilder:
    """A reader and the steps that its records pass; scripts also call the class `GB`."""

    engine: ClassVar[Engine]

    def __init__(
        self,
        reader: str = "KeysReader",
        defaultArg: str = "*",  # noqa: N803 - the engine's name
        desc: str | None = None,
    ) -> None:
        if reader not in _READERS:
            raise error("The given reader does not exists")
        self._reader = reader
        self._default = defaultArg
        self._desc = desc
        self._steps: list[Step] = []

    def map(self, callback: Callable[[Any], object]) -> GearsBuilder:
        """Replaces each record by the result of the callback."""
        return self._then(Step("map", callback))

    def flatmap(self, callback: Callable[[Any], object]) -> GearsBuilder:
        """Replaces each record by the items of the callback's list."""
        return self._then(Step("flatmap", callback))

    def filter(self, callback: Callable[[Any], object]) -> GearsBuilder:
        """Keeps the records for which the callback returns a true value."""
        return self._then(Step("filter", callback))

    def foreach(self, callback: Callable[[Any], object]) -> GearsBuilder:
        """Calls the callback with each record, and leaves the record unchanged."""
        return self._then(Step("foreach", callback))

    def accumulate(self, callback: Callable[[Any, Any], object]) -> GearsBuilder:
        """Reduces all records to one: the callback gets its last result, or None, and a record."""
        return self._then(Step("accumulate", callback))

    def count(self) -> GearsBuilder:
        """Reduces all records to their number; without records there is no result."""
        return self.accumulate(lambda total, _: 1 + (total or 0))

    def collect(self) -> GearsBuilder:
        """Collects the records of all shards; the host has only one shard."""
        return self._then(Step("collect"))

    def run(self, arg: Any = None, **options: Any) -> None:  # noqa: ANN401 - the script's values
        """Runs the steps once over present data; the reply to the upload has the results."""
        self._convert(options)
        upload = RUNNING.upload
        if upload is None:
            raise NotImplementedError("the host runs no execution from within a callback")
        if upload.execution is not None:
            raise error("Can not run more then 1 executions in a single script")
        pattern = arg or self._default
        if self._reader == "PythonReader" and not isinstance(pattern, FunctionType):
            raise error("pyreader argument must be a function")
        if self._reader != "PythonReader" and not isinstance(pattern, str):
            raise error("regex argument must be a string")
        upload.execution = self.engine.create_execution(
            upload.session, self._steps, self._source(pattern, options)
        )

    def register(self, prefix: str = "*", **options: Any) -> str:  # noqa: ANN401 - likewise
        """Registers the steps for events of keys with a prefix; returns the registration's id."""
        self._convert(options)
        upload = RUNNING.upload
        if upload is None:
            raise NotImplementedError("the host registers nothing from within a callback")
        mode = options.get("mode", "async")
        if mode not in ("async", "async_local", "sync"):
            raise error("unknown execution mode")
        make = {"KeysReader": self._keys, "StreamReader": self._stream}.get(self._reader)
        if make is None:
            raise error("given reader does not exists or does not support register")
        arguments = make(mode, options)
        for step in self._steps:
            if id(step.callback) not in upload.serializable:
                _check_serializable(step)
                upload.serializable[id(step.callback)] = step.callback
        registration: Registration = arguments.pop("kind")(
            engine=self.engine,
            id=self.engine.next_id("registration"),
            session=upload.session,
            desc=self._desc,
            steps=self._steps,
            mode=mode,
            prefix=prefix,
            **arguments,
        )
        upload.registrations.append(registration)
        return registration.id

    def _then(self, step: Step) -> GearsBuilder:
        self._steps.append(step)
        return self

    def _convert(self, options: dict[str, Any]) -> None:
        if options.pop("convertToStr", True):
            self.map(str)
        if options.pop("collect", True):
            self.collect()

    def _source(self, pattern: Any, options: dict[str, Any]) -> Callable[[], Iterable[object]]:  # noqa: ANN401
        engine = self.engine
        if self._reader == "PythonReader":
            return lambda: engine.read_python(pattern)
        if self._reader == "StreamReader":
            start = options.get("fromId", "0-0")
            return lambda: engine.read_stream(pattern, start)
        is_exact, reads_value = options.get("noScan", False), options.get("readValue", True)
        return lambda: engine.scan_keys(pattern, is_exact=is_exact, reads_value=reads_value)

    def _keys(self, _: str, options: dict[str, Any]) -> dict[str, Any]:
        key_types = _names(options, "keyTypes", "key type")
        if not set(key_types or ()) <= set(_KEY_TYPES):
            raise error("unknown key type")
        commands = _names(options, "commands", "command type") or None
        for command in commands or ():
            self._check_hook(command)
        return {
            "kind": KeysRegistration,
            "event_types": _names(options, "eventTypes", "event type"),
            "key_types": key_types,
            "commands": commands,
            "reads_value": options.get("readValue", True),
        }

    def _check_hook(self, command: str) -> None:
        facts = self.engine.wait(self.engine.find_command(command))
        if facts is None:
            raise error("bad reply on COMMAND command")
        if facts.flags & {"noscript", "blocking"}:  # "noscript" in Redis, "blocking" in Valkey
            raise error("Can not hook a command which are not allowed inside a script")
        if "movablekeys" in facts.flags:
            raise error("Can not hook a command with moveable keys by key prefix")
        if facts.first_key <= 0:
            raise error("Can not hook a command by key prefix with none positive first key")

    def _stream(self, mode: str, options: dict[str, Any]) -> dict[str, Any]:
        policy = options.get("onFailedPolicy", "continue").lower()
        if policy not in ("continue", "abort", "retry"):
            raise error("onFailedPolicy must be Continue/Abort/Retry")
        if mode == "sync":
            raise NotImplementedError("the host runs no StreamReader in mode sync")
        return {
            "kind": StreamRegistration,
            "batch": int(options.get("batch", 1)),
            "duration_ms": int(options.get("duration", 0)),
            "on_failed": policy,
            "retry_interval_s": int(options.get("onFailedRetryInterval", 1)),
            "trims": options.get("trimStream", True),
        }


def _names(options: dict[str, Any], option: str, what: str) -> list[str] | None:
    """Returns the list of names in an option; a str is taken as the list of its letters."""
    given = options.get(option)
    if given is None:
        return None
    names = list(given)
    if not all(isinstance(each, str) for each in names):
        raise error(f"given {what} is not string")
    return names


def _check_serializable(step: Step) -> None:
    if step.callback is None:
        return
    try:
        cloudpickle.dumps(step.callback)
    except Exception as raised:  # noqa: BLE001 - whatever a value of the script's raises
        raise error(
            "Error occured when serialized a python callback, "
            f"callback={step.callback.__name__} error={describe(raised)}"
        ) from None
