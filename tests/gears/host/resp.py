"""The protocol of Redis: frames off a connection as they came, and values to and from bytes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Sequence

# An inline command or the first line of a frame; what follows such a line may be of any size.
LINE_LIMIT = 1 << 16

_RESP3 = 3


@dataclass(frozen=True)
class Status:
    """A line such as OK."""

    text: str


@dataclass(frozen=True)
class Failure:
    """An error reply, the code before its sentence included."""

    text: str


Value: TypeAlias = (
    "int | float | bytes | Status | Failure | Sequence[Value] | dict[bytes, Value] | None"
)


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Returns the next whole frame, byte for byte.

    Raises:
        EOFError: The other side has closed.
    """
    line = await reader.readuntil(b"\r\n")
    kind = line[:1]
    if kind in b"$=!":
        size = int(line[1:-2])
        return line if size < 0 else line + await reader.readexactly(size + 2)
    if kind in b"*~>%|":
        count = int(line[1:-2]) * (2 if kind in b"%|" else 1)
        # Attributes stand before the frame that they are about.
        count += kind == b"|"
        return line + b"".join([await read_frame(reader) for _ in range(count)])
    return line


async def read_request(reader: asyncio.StreamReader) -> list[bytes]:
    """Returns the next command of a client, which may have been typed by hand; [] for a blank line.

    Raises:
        EOFError: The client has closed.
    """
    line = await reader.readuntil(b"\r\n")
    if not line.startswith(b"*"):
        return [part.encode() for part in shlex.split(line.decode())]
    parts = [await read_frame(reader) for _ in range(int(line[1:-2]))]
    return [part[part.index(b"\r\n") + 2 : -2] for part in parts]


def encode_command(parts: Iterable[bytes]) -> bytes:
    """Returns a command as clients send it."""
    return encode(list(parts))


def encode(value: Value, protocol: int = 2) -> bytes:  # noqa: PLR0911 - one for each type
    """Returns a value as the engine replies it: in RESP3 nil, doubles and maps differ."""
    match value:
        case None:
            return b"_\r\n" if protocol == _RESP3 else b"$-1\r\n"
        case Status(text):
            return b"+%b\r\n" % text.encode()
        case Failure(text):
            return b"-%b\r\n" % text.replace("\r", " ").replace("\n", " ").encode()
        case int():
            return b":%d\r\n" % value
        case float():
            number = f"{value:.17g}".encode()
            return b",%b\r\n" % number if protocol == _RESP3 else encode(number)
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
        case dict():
            flat = [each for pair in value.items() for each in pair]
            frame = encode(flat, protocol)
            return (
                b"%%%d\r\n%b" % (len(value), frame.partition(b"\r\n")[2])
                if protocol == _RESP3
                else frame
            )
        case _:
            items = [encode(item, protocol) for item in value]
            return b"*%d\r\n%b" % (len(items), b"".join(items))


def decode(frame: bytes) -> Value:
    """Returns the value of a whole RESP2 frame."""
    return _decode_at(frame, 0)[0]


def _decode_at(frame: bytes, start: int) -> tuple[Value, int]:
    end = frame.index(b"\r\n", start)
    kind, rest, after = frame[start : start + 1], frame[start + 1 : end], end + 2
    match kind:
        case b"+":
            return Status(rest.decode()), after
        case b"-":
            return Failure(rest.decode(errors="replace")), after
        case b":":
            return int(rest), after
        case b"$":
            size = int(rest)
            return (None, after) if size < 0 else (frame[after : after + size], after + size + 2)
        case b"*":
            if int(rest) < 0:
                return None, after
            items: list[Value] = []
            for _ in range(int(rest)):
                item, after = _decode_at(frame, after)
                items.append(item)
            return items, after
    raise ValueError(f"not RESP2: {kind!r}")
