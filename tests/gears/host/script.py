"""The functions that scripts call, such as `execute`, under RedisGears' names."""

from __future__ import annotations

import builtins
import logging
from typing import TYPE_CHECKING, Any, Final

from tests.gears.host.resp import Failure, Status, Value
from tests.gears.host.running import RUNNING, UNSET, error

if TYPE_CHECKING:
    from types import TracebackType

    from tests.gears.host.engine import Engine

HASHTAG: Final = "06S"  # its hash slot is 0
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "verbose": logging.INFO,
    "notice": logging.INFO,
    "warning": logging.WARNING,
}
_log: Final = logging.getLogger("gears")
_NO_COMMAND: Final = "Can not get command ctx"


def to_python(value: Value) -> Any:  # noqa: ANN401 - a script gets values of any type
    """Returns a reply as the value that a script gets."""
    match value:
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return bytearray(value)
        case Status(text) | Failure(text):
            return text
        case list():
            return [to_python(item) for item in value]
        case _:
            return value


def to_argument(value: object) -> bytes:
    """Returns an argument as bytes: bytes unchanged, any other value by `str`, also None."""
    return bytes(value) if isinstance(value, (bytes, bytearray)) else str(value).encode()


class Atomic:
    """Context of `with atomic():`, which excludes other commands; the host sends no MULTI."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> None:
        if RUNNING.turns == 0:
            self._engine.wait(self._engine.take_turn())
        RUNNING.turns += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        frames: TracebackType | None,
    ) -> None:
        RUNNING.turns -= 1
        if RUNNING.turns == 0:
            self._engine.wait(self._engine.end_turn())


class Functions:
    """The functions for scripts, bound to one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def execute(self, *arguments: object) -> object:
        """Runs a command on the server; returns None for nil, and raises an error reply."""
        if not arguments:
            return []
        if not isinstance(arguments[0], str):
            raise error("the given command must be a string")
        reply = self._engine.wait(
            self._engine.call(
                [to_argument(each) for each in arguments],
                has_turn=RUNNING.turns > 0,
                in_event=RUNNING.in_event,
            )
        )
        if isinstance(reply, Failure):
            raise error(_sentence(reply.text))
        return to_python(reply)

    def atomic(self) -> Atomic:
        """Returns a context in which no other command runs."""
        return Atomic(self._engine)

    def config_get(self, key: str) -> str | None:
        """Returns a value that was set by RG.CONFIGSET, or None."""
        return self._engine.config.get(key)

    def gears_config_get(self, key: str, default: str | None = None) -> str | None:
        """Returns a value that was set by RG.CONFIGSET, or the default."""
        value = self.config_get(key)
        return default if value is None else value

    def log(self, message: object, level: str = "notice") -> None:
        """Writes to the server's log; the host's is standard error."""
        if not isinstance(message, str):
            raise error("Log message must be a string")
        if level not in _LEVELS:
            raise error("Log level should be one of the following : debug,verbose,notice,warning")
        _log.log(_LEVELS[level], "GEARS: %s", message)

    def override_reply(self, reply: object) -> None:
        """Sets the reply for the client whose command was hooked; sent after the execution."""
        if RUNNING.command is None:
            raise error(_NO_COMMAND)
        if RUNNING.command.reply is not UNSET:
            raise error("Can only override reply once")
        RUNNING.command.reply = reply

    def get_command(self) -> list[str]:
        """Returns the hooked command of the client, with its arguments."""
        if RUNNING.command is None:
            raise error(_NO_COMMAND)
        return [each.decode() for each in RUNNING.command.arguments]

    def hashtag(self) -> str:
        """Returns a hash tag with which keys are on this shard."""
        return HASHTAG

    def install(self, **more: object) -> None:
        """Adds the functions to Python's builtins: scripts share these, but not their globals."""
        names = {
            "execute": self.execute,
            "atomic": self.atomic,
            "configGet": self.config_get,
            "gearsConfigGet": self.gears_config_get,
            "log": self.log,
            "override_reply": self.override_reply,
            "get_command": self.get_command,
            "hashtag": self.hashtag,
        }
        for name, value in (names | more).items():
            setattr(builtins, name, value)


def _sentence(text: str) -> str:
    """Returns an error of the server as RedisGears words it: some errors as texts of `errno`."""
    if text.startswith("ERR wrong number of arguments"):
        return "Invalid argument"
    if text.startswith("ERR unknown command"):
        return "No such file or directory"
    return text
