"""Parses the replies of RedisGears. Pure: bytes in, values out.

Most replies are flat lists of names and values, as in RedisGears 1.2.9. Replies that come from
Redis itself, such as MODULE LIST's, are maps over RESP3.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from pydantic import Field

from sponsorsync.domain.errors import GearsError
from sponsorsync.reports import FrozenReport
from sponsorsync.store.connect import Reply

_FRAME = re.compile(r'\s*File "<string>", line (?P<line>\d+), in (?P<name>\S+)')
_SYNTAX_ERROR = re.compile(
    r"Error type: <class '(?P<kind>\w+)'>, "
    r"Value: (?P<text>.*?)( \(<string>, line (?P<line>\d+)\))?",
    re.DOTALL,
)
# The error of a callback that cannot be pickled: a traceback within an exception's text.
_NESTED = re.compile(r"(?P<text>.* error=)(?P<lines>\[.*\])\s*", re.DOTALL)
_LONGEST_FAULT = 500
# The session in the field `PD`, whose text is neither JSON nor Python; our names have no quote.
_SESSION = re.compile(r"\{'sessionName':'(?P<name>[^']*)', 'sessionDescription':'(?P<about>[^']*)'")
# The names of the modules RedisGears 1 and RedisGears 2, which is another product.
_MODULES = (b"rg", b"redisgears_2")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a script failed.

    Attributes:
        text: The exception, on one line.
        line: The number of the script's last line in the traceback, from 1; None if unknown.
    """

    text: str
    line: int | None

    def __str__(self) -> str:
        """Returns the fault as one line for people."""
        return self.text if self.line is None else f"line {self.line}: {self.text}"


class Registration(FrozenReport):
    """A registration of a script, with the counts of its runs."""

    id: str = Field(description="RedisGears' id of it.")
    session: str = Field(
        examples=["sponsorsync-write-behind"],
        description="The name of the upload; random characters if it had none.",
    )
    session_description: str = Field(description="The release that uploaded it, and a hash.")
    reader: str = Field(examples=["StreamReader"])
    description: str = Field(description="The script's text; may be empty.")
    source: str = Field(
        examples=["sponsorsync:outbox"], description="Prefix of keys, or the stream."
    )
    mode: str = Field(examples=["async_local"])
    triggered: int = Field(description="Runs since it was registered.")
    successes: int
    failures: int
    aborted: int
    last_duration_ms: int
    status: str | None = Field(description="A StreamReader's status, such as 'OK'; else null.")
    last_error: str | None = Field(
        description="The error of the last failed run; null if none failed."
    )
    commands: tuple[str, ...] = Field(
        default=(), description="The commands whose misses it answers."
    )


@dataclass(frozen=True, slots=True)
class Results:
    """Results of an execution: its records as text, and its errors."""

    records: tuple[str, ...]
    faults: tuple[Fault, ...]


def parse_version(reply: Reply) -> tuple[int, int, int] | None:
    """Returns RedisGears' version in a reply to MODULE LIST; None if it is not loaded."""
    for module in map(_as_map, cast("list[Reply]", reply)):
        if module["name"] in _MODULES:
            number = cast("int", module["ver"])
            return number // 10_000, number // 100 % 100, number % 100
    return None


def parse_registrations(reply: Reply) -> tuple[Registration, ...]:
    """Parses a reply to RG.DUMPREGISTRATIONS.

    The session of each registration is read from this reply, too. RG.PYDUMPSESSIONS cannot be used:
    it loses a session that is registered again while its unregistered predecessor is still in use,
    as happens to each StreamReader when a server reads its append-only file.
    """
    return tuple(_parse_registration(each) for each in cast("list[Reply]", reply))


def parse_results(reply: Reply) -> Results:
    """Parses a reply to RG.GETRESULTS, or to RG.PYEXECUTE of a script that calls `run`.

    Raises:
        GearsError: The reply has no results: the script does not call `run`, or also `register`.
    """
    match reply:
        case [list(records), list(faults)]:
            return Results(
                records=tuple(map(_text, records)),
                faults=tuple(parse_fault(_text(fault)) for fault in faults),
            )
    raise GearsError("RedisGears gave no results: the script runs nothing, or registers as well.")


def parse_fault(message: str, *, source: str | None = None) -> Fault:
    """Parses an error of a script: the Python literal of a traceback's lines, or plain text.

    Args:
        message: The error text of RedisGears.
        source: The script's text, if known. Tracebacks name both the script and RedisGears' own
            Python `<string>`; only the names of the script's functions distinguish the two.
    """
    if syntax_error := _SYNTAX_ERROR.fullmatch(message):
        line = syntax_error["line"]
        text = f"{syntax_error['kind']}: {syntax_error['text']}"
        return Fault(_on_one_line(text), int(line) if line else None)
    entries = _parse_entries(message)
    frames = [found for found in map(_FRAME.match, entries) if found]
    own = [
        int(frame["line"])
        for frame in frames
        if source is None or frame["name"].startswith("<") or f"def {frame['name']}(" in source
    ]
    text = entries[-1]
    if nested := _NESTED.fullmatch(text):
        text = nested["text"] + _parse_entries(nested["lines"])[-1]
    return Fault(_on_one_line(text), own[-1] if own else None)


def parse_counts(results: Results) -> Mapping[str, Any]:
    """Parses the one record of a batch script: `done`, `skipped`, `failed`, `errors`.

    If no key matched the script's pattern, there is no record, and all counts are zero.

    Raises:
        GearsError: The script ended with an error, or returned something else.
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
        raise GearsError("The script did not return its counts in one record.") from None


def _parse_entries(message: str) -> list[str]:
    """Returns the lines of a traceback in a message; any other message as its only line."""
    with suppress(ValueError, SyntaxError):
        entries = ast.literal_eval(message)
        if isinstance(entries, list) and entries:
            return list(map(str, entries))
    return [message]


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


def _text(value: Any) -> str:  # noqa: ANN401 - any value of a reply
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value)
