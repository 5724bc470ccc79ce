"""The state of a thread that runs a script or a callback, and the text of its exceptions."""

from __future__ import annotations

import threading
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from tests.gears.host.sessions import Upload

_HOST: Final = Path(__file__).parent
_BUILDER: Final = _HOST / "builder.py"

UNSET: Final = object()


class error(Exception):  # noqa: N801, N818 - the engine's own name; scripts see it in tracebacks
    """The error that the engine's functions raise in scripts."""

    __module__ = "gears"


class forcestopped(Exception):  # noqa: N801, N818 - likewise
    """The error that is raised in an execution that is aborted."""

    __module__ = "gears"


@dataclass
class Command:
    """A client's command that registrations hooked; the client waits for all their executions.

    Attributes:
        arguments: The command as the client sent it.
        own_reply: The reply of the server, an undecoded RESP frame.
        reply: The reply that a callback gives instead.
        awaits: The number of executions that are not done.
        released: Set when all executions are done.
    """

    arguments: list[bytes]
    released: asyncio.Event
    own_reply: bytes = b""
    reply: object = UNSET
    awaits: int = 0

    def release(self) -> None:
        """Records that one execution is done with the command."""
        self.awaits -= 1
        if self.awaits == 0:
            self.released.set()


@dataclass
class Running(threading.local):
    """The state of the current thread.

    Attributes:
        upload: The upload whose script body runs here; None in a callback.
        command: The client's command whose reply this execution may replace.
        turns: How many nested blocks of this thread exclude other commands: a script's body, a sync
            callback, `atomic()`.
        in_event: Whether this is a sync callback, in which no event reaches a KeysReader.
    """

    upload: Upload | None = None
    command: Command | None = None
    turns: int = 0
    in_event: bool = False

    @contextmanager
    def entered(
        self,
        *,
        upload: Upload | None = None,
        command: Command | None = None,
        has_turn: bool = False,
    ) -> Iterator[None]:
        """Sets the state for a script's body or an execution; restores it at the end."""
        before = (self.upload, self.command, self.turns, self.in_event)
        self.upload, self.command, self.turns = upload, command, int(has_turn)
        self.in_event = has_turn and upload is None
        try:
            yield
        finally:
            self.upload, self.command, self.turns, self.in_event = before


RUNNING: Final = Running()


def describe(raised: BaseException) -> str:
    """Returns an exception as RedisGears replies it: the `str` of the list of traceback lines.

    In RedisGears the builder's Python frames look like frames of the script, so here they do too.
    """
    if raised.__traceback__ is None or isinstance(raised, SyntaxError):
        return f"Error type: {type(raised)}, Value: {raised}"
    told = traceback.TracebackException.from_exception(raised)
    each: traceback.TracebackException | None = told
    while each is not None:
        each.stack = traceback.StackSummary.from_list(_frames_of_script(list(each.stack)))
        each = each.__cause__ or each.__context__
    return str(list(told.format()))


def _frames_of_script(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Removes the host's frames before and after those of the script, except a builder's frame."""
    own = [_HOST in Path(frame.filename).parents for frame in frames]
    first = own.index(False) if False in own else len(frames)
    after = own.index(True, first) if True in own[first:] else len(frames)
    shown = frames[first:after]
    if after < len(frames) and Path(frames[after].filename) == _BUILDER:
        shown.append(
            traceback.FrameSummary("<string>", frames[after].lineno, frames[after].name, line="")
        )
    return shown
