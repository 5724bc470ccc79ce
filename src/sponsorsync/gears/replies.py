"""What RedisGears answers, as values. Pure: bytes in, values out.

Its replies are flat lists of names and values; some that come from Redis itself are maps over
RESP3. What is told here of their shapes is what RedisGears 1.2.9 answered.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field

from sponsorsync.domain.errors import GearsError
from sponsorsync.reports import FrozenReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sponsorsync.store.connect import Reply

_FRAME = re.compile(r'\s*File "<string>", line (?P<line>\d+), in (?P<name>\S+)')
_SYNTAX_ERROR = re.compile(
    r"Error type: <class '(?P<kind>\w+)'>, "
    r"Value: (?P<text>.*?)( \(<string>, line (?P<line>\d+)\))?",
    re.DOTALL,
)
# What a callback that cannot be pickled is told by: a traceback within an exception's text.
_NESTED = re.compile(r"(?P<text>.* error=)(?P<lines>\[.*\])\s*", re.DOTALL)
_LONGEST_FAULT = 500
# Of `PD`, which is neither JSON nor Python; the names allow no quote in them, and ours have none.
_SESSION = re.compile(r"\{'sessionName':'(?P<name>[^']*)', 'sessionDescription':'(?P<about>[^']*)'")
# RedisGears 2 is another product, and calls itself so.
_MODULES = (b"rg", b"redisgears_2")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a script failed.

    Attributes:
        text: The exception, on one line.
        line: The last line of the script that it went through, from 1; None where none is told.
    """

    text: str
    line: int | None

    def __str__(self) -> str:
        """Returns it as people read it."""
        return self.text if self.line is None else f"line {self.line}: {self.text}"


class Registration(FrozenReport):
    """A registration of a script, and how often it came to which end."""

    id: str = Field(description="RedisGears' own.")
    session: str = Field(
        examples=["sponsorsync-write-behind"],
        description="The name of the upload; some random characters where it had none.",
    )
    session_description: str = Field(description="The release that uploaded it, and a hash.")
    reader: str = Field(examples=["StreamReader"])
    description: str = Field(description="The script's own words; may be empty.")
    source: str = Field(examples=["sponsorsync:outbox"], description="Prefix of keys, or stream.")
    mode: str = Field(examples=["async_local"])
    triggered: int = Field(description="Runs since it was registered.")
    successes: int
    failures: int
    aborted: int
    last_duration_ms: int
    status: str | None = Field(description="Of a StreamReader, such as 'OK'; else null.")
    last_error: str | None = Field(description="Why a run failed last; null while none did.")
    commands: tuple[str, ...] = Field(
        default=(), description="The commands whose misses it answers."
    )


@dataclass(frozen=True, slots=True)
class Results:
    """What an execution left: its records as text, and why parts of it failed."""

    records: tuple[str, ...]
    faults: tuple[Fault, ...]


def parse_version(reply: Reply) -> tuple[int, int, int] | None:
    """Returns RedisGears' version in an answer to MODULE LIST; None where it is not loaded."""
    modules = [_as_map(module) for module in cast("list[Reply]", reply)]
    for module in modules:
        if module["name"] in _MODULES:
            number = cast("int", module["ver"])
            return number // 10_000, number // 100 % 100, number % 100
    return None


def parse_registrations(reply: Reply) -> tuple[Registration, ...]:
    """Returns what RG.DUMPREGISTRATIONS answers.

    Which session each belongs to is read there as well: RG.PYDUMPSESSIONS forgets a session that is
    registered again while somebody still holds the one that was unregistered before, as happens to
    each StreamReader when a server reads its append-only file.
    """
    return tuple(_parse_registration(each) for each in cast("list[Reply]", reply))


def parse_results(reply: Reply) -> Results:
    """Returns what RG.GETRESULTS, or RG.PYEXECUTE with a `run`, answers.

    Raises:
        GearsError: It is something else: the script runs nothing, or registers as well.
    """
    match reply:
        case [list(records), list(faults)]:
            return Results(
                records=tuple(map(_text, records)),
                faults=tuple(parse_fault(_text(fault)) for fault in faults),
            )
    raise GearsError("RedisGears gave no results: the script runs nothing, or registers as well.")


def parse_fault(said: str, *, source: str | None = None) -> Fault:
    """Returns what is told of an exception: the Python literal of a traceback's lines, or text.

    Args:
        said: By RedisGears.
        source: The script, where it is known. RedisGears' own Python says `<string>` of itself as
            well; only by what the script defines can the two be told apart.
    """
    if syntax_error := _SYNTAX_ERROR.fullmatch(said):
        line = syntax_error["line"]
        text = f"{syntax_error['kind']}: {syntax_error['text']}"
        return Fault(_on_one_line(text), int(line) if line else None)
    entries = _parse_entries(said)
    frames = [found for found in map(_FRAME.match, entries) if found]
    own = [
        int(frame["line"]) for frame in frames if source is None or _is_of(frame["name"], source)
    ]
    text = entries[-1]
    if nested := _NESTED.fullmatch(text):
        text = nested["text"] + _parse_entries(nested["lines"])[-1]
    return Fault(_on_one_line(text), own[-1] if own else None)


def parse_counts(results: Results) -> Mapping[str, Any]:
    """Returns the one record of a batch script: `done`, `skipped`, `failed`, `errors`.

    Where no key is of the script's kind it has left none.

    Raises:
        GearsError: It ended with an error, or left something else.
    """
    if results.faults:
        raise GearsError(str(results.faults[0]))
    if not results.records:
        return {"done": 0, "skipped": {}, "failed": 0, "errors": []}
    try:
        [record] = results.records
        counts = json.loads(record)
        return {
            "done": int(counts["done"]),
            "skipped": {str(why): int(many) for why, many in counts["skipped"].items()},
            "failed": int(counts["failed"]),
            "errors": [str(error) for error in counts["errors"]],
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise GearsError("The script did not leave its counts in one record.") from None


def _parse_entries(said: str) -> list[str]:
    """Returns the lines of a traceback; what is none, as one line."""
    try:
        entries = ast.literal_eval(said)
    except (ValueError, SyntaxError):
        return [said]
    return [str(entry) for entry in entries] if isinstance(entries, list) and entries else [said]


def _is_of(name: str, source: str) -> bool:
    return name.startswith("<") or f"def {name}(" in source


def _on_one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_FAULT]


def _parse_registration(reply: Reply) -> Registration:
    registration = _as_map(reply)
    session = _SESSION.match(_text(registration["PD"]))
    data = _as_map(registration["RegistrationData"])
    arguments = _as_map(data["args"])
    source = next((arguments[n] for n in ("regex", "stream", "trigger") if n in arguments), b"")
    error = _text(data["lastError"])
    return Registration(
        id=_text(registration["id"]),
        session=session["name"] if session else "",
        session_description=session["about"] if session else "",
        reader=_text(registration["reader"]),
        description=_text(registration["desc"]),
        source=_text(source),
        mode=_text(data["mode"]),
        triggered=int(data["numTriggered"]),
        successes=int(data["numSuccess"]),
        failures=int(data["numFailures"]),
        aborted=int(data["numAborted"]),
        last_duration_ms=int(data["lastRunDurationMS"]),
        status=_text(data["status"]) if "status" in data else None,
        last_error=str(parse_fault(error)) if error else None,
        commands=tuple(map(_text, arguments.get("hookCommands") or ())),
    )


def _as_map(reply: Reply) -> dict[str, Any]:
    if isinstance(reply, dict):
        return {_text(name): value for name, value in reply.items()}
    flat = cast("Sequence[Reply]", reply)
    return {_text(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _text(value: Any) -> str:  # noqa: ANN401 - whatever stands in a reply
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value)
