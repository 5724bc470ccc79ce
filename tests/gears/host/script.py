"""The engine's functions, under the engine's names, for every script."""

from __future__ import annotations

import builtins
import logging
from typing import TYPE_CHECKING, Any, Final

from tests.gears.host.resp import Failure, Status, Value
from tests.gears.host.running import RUNNING, UNSET, error

if TYPE_CHECKING:
    from types import TracebackType

    from tests.gears.host.engine import Engine

HASHTAG: Final = "06S"  # of the first slot, which a server without a cluster has
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "verbose": logging.INFO,
    "notice": logging.INFO,
    "warning": logging.WARNING,
}
_log: Final = logging.getLogger("gears")
_NO_COMMAND: Final = "Can not get command ctx"


def to_python(value: Value) -> Any:  # noqa: ANN401 - what the script gets is of any type
    """Returns a reply as a script sees it."""
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
    """Returns what goes to the server: bytes as they are, of all else its `str`, of None too."""
    return bytes(value) if isinstance(value, (bytes, bytearray)) else str(value).encode()


class Atomic:
    """`with atomic():` no other command comes between; the host adds no MULTI around them."""

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
    """The engine's functions, bound to one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def execute(self, *arguments: object) -> object:
        """Runs a command on the server; a nil is None, an error is raised."""
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
        """Returns a context that has the server to itself."""
        return Atomic(self._engine)

    def config_get(self, key: str) -> str | None:
        """Returns what was set with RG.CONFIGSET, for names that are no settings of the engine."""
        return self._engine.config.get(key)

    def gears_config_get(self, key: str, default: str | None = None) -> str | None:
        """Returns the same, or a default."""
        value = self.config_get(key)
        return default if value is None else value

    def log(self, message: object, level: str = "notice") -> None:
        """Writes to the server's log, which is the host's standard error."""
        if not isinstance(message, str):
            raise error("Log message must be a string")
        if level not in _LEVELS:
            raise error("Log level should be one of the following : debug,verbose,notice,warning")
        _log.log(_LEVELS[level], "GEARS: %s", message)

    def override_reply(self, reply: object) -> None:
        """Answers the client whose command was hooked, when the execution is done."""
        if RUNNING.command is None:
            raise error(_NO_COMMAND)
        if RUNNING.command.reply is not UNSET:
            raise error("Can only override reply once")
        RUNNING.command.reply = reply

    def get_command(self) -> list[str]:
        """Returns the client's command and its arguments."""
        if RUNNING.command is None:
            raise error(_NO_COMMAND)
        return [each.decode() for each in RUNNING.command.arguments]

    def hashtag(self) -> str:
        """Returns a tag whose keys are on this shard."""
        return HASHTAG

    def install(self, **more: object) -> None:
        """Puts the engine's names where every script finds them, its own globals being its own."""
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
    """Returns the server's error in the engine's words, which come from errno first."""
    if text.startswith("ERR wrong number of arguments"):
        return "Invalid argument"
    if text.startswith("ERR unknown command"):
        return "No such file or directory"
    return text
