"""Executions pass records through a script's steps; those of one registration run in order."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from tests.gears.host.resp import Failure, Status, Value
from tests.gears.host.running import RUNNING, Command, describe, forcestopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor

    from tests.gears.host.sessions import Session

MS: Final = 1000


class Step(NamedTuple):
    """One operation that a script called on its builder."""

    kind: Literal["map", "flatmap", "filter", "foreach", "accumulate", "collect"]
    callback: Callable[..., Any] | None = None


def _map(callback: Callable[[object], object], records: Iterable[object]) -> Iterator[object]:
    for record in records:
        yield callback(record)


def _flatmap(callback: Callable[[object], object], records: Iterable[object]) -> Iterator[object]:
    for record in records:
        result = callback(record)
        # The engine reads a list from its end, and anything else as one record.
        yield from reversed(result) if isinstance(result, list) else (result,)


def _filter(callback: Callable[[object], object], records: Iterable[object]) -> Iterator[object]:
    for record in records:
        if callback(record):
            yield record


def _foreach(callback: Callable[[object], object], records: Iterable[object]) -> Iterator[object]:
    for record in records:
        callback(record)
        yield record


def _accumulate(
    callback: Callable[[object, object], object], records: Iterable[object]
) -> Iterator[object]:
    total, is_empty = None, True
    for record in records:
        total, is_empty = callback(total, record), False
    if not is_empty:
        yield total


_OPERATIONS: Final[dict[str, Callable[..., Iterator[object]]]] = {
    "map": _map,
    "flatmap": _flatmap,
    "filter": _filter,
    "foreach": _foreach,
    "accumulate": _accumulate,
    "collect": lambda _, records: iter(records),  # there is one shard
}


@dataclass
class Execution:
    """One run of a builder's steps over what its reader yields."""

    id: str
    session: Session
    steps: list[Step]
    read: Callable[[], Iterable[object]]
    is_registered: bool = False
    command: Command | None = None
    is_sync: bool = False
    on_done: Callable[[Execution], None] | None = None
    status: Literal["created", "running", "done", "aborted"] = "created"
    results: list[object] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    duration_s: float = 0.0
    done: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: int | None = None

    def run(self) -> None:
        """Runs the steps in the calling thread; then the event loop's thread calls `finish`."""
        if self.status == "aborted":
            return
        self.status, self._thread = "running", threading.get_ident()
        started = time.monotonic()
        try:
            with RUNNING.entered(command=self.command, has_turn=self.is_sync):
                records: Iterable[object] = self.read()
                for step in self.steps:
                    records = _OPERATIONS[step.kind](step.callback, records)
                for record in records:
                    self.results.append(record)
        except BaseException as raised:  # noqa: BLE001 - whatever a script raises, SystemExit too
            self.errors.append(describe(raised))
        finally:
            self._thread = None
            self.duration_s = time.monotonic() - started

    def finish(self) -> None:
        """Marks the execution as done, and wakes the clients that wait for it."""
        if self.status != "aborted":
            self.status = "done"
        if self.command is not None:
            self.command.release()
        if self.on_done is not None:
            self.on_done(self)
        self.done.set()

    def abort(self) -> None:
        """Ends the execution before it begins, or at its next line of Python."""
        if self.status == "created":
            self.status = "aborted"
        elif self._thread is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread), ctypes.py_object(forcestopped)
            )

    def reply(self) -> list[Value]:
        """Returns the reply for a client: the results and the errors."""
        return [[to_reply(each) for each in self.results], [each.encode() for each in self.errors]]


class Worker:
    """Runs executions one after the other, on a thread pool that it shares with other workers."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._waiting: deque[Execution] = deque()
        self._current: Execution | None = None

    def submit(self, execution: Execution) -> None:
        """Runs an execution as soon as all earlier ones are done."""
        self._waiting.append(execution)
        if self._current is None:
            self._start_next()

    def _start_next(self) -> None:
        self._current = self._waiting.popleft()
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._current.run)
        future.add_done_callback(self._end)

    def _end(self, _: asyncio.Future[None]) -> None:
        execution, self._current = self._current, None
        if self._waiting:
            self._start_next()
        if execution is not None:
            execution.finish()


def to_reply(value: object) -> Value:  # noqa: PLR0911 - one return for each type
    """Returns the reply for a value; sets, tuples, dicts and None become `PY RECORD`."""
    match value:
        case list():
            return [to_reply(item) for item in value]
        case int():
            return int(value)
        case float():
            return f"{value:f}".encode()
        case str() if len(value) > 1 and value[0] == "+":
            return Status(value[1:])
        case str() if len(value) > 1 and value[0] == "-":
            return Failure(value[1:])
        case str():
            return value.encode()
        case bytes():
            return value
        case _:
            return b"PY RECORD"
