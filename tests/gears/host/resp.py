"""RESP, the protocol of Redis: splits a connection into frames, encodes and decodes values."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Sequence

_CHUNK = 1 << 18
_RESP3 = 3


@dataclass(frozen=True)
class Status:
    """A status reply such as OK."""

    text: str


@dataclass(frozen=True)
class Failure:
    """An error reply; the text includes the code, such as ERR."""

    text: str


Value: TypeAlias = (
    "int | float | bytes | Status | Failure | Sequence[Value] | dict[bytes, Value] | None"
)


class Frames:
    """Splits the bytes of a connection into frames, which are whole replies or commands."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._data = bytearray()

    async def next(self) -> bytes:
        """Returns the next whole frame.

        Raises:
            EOFError: The other side has closed.
        """
        while (end := _end_of_frame(self._data, 0)) is None:
            await self._read_more()
        return self._take(end)

    async def next_request(self) -> list[bytes]:
        """Returns the next command, in RESP or as a line of text; [] for a blank line.

        Raises:
            EOFError: The client has closed.
        """
        while b"\r\n" not in self._data:
            await self._read_more()
        if self._data.startswith(b"*"):
            return cast("list[bytes]", decode(await self.next()))
        line = self._take(self._data.index(b"\r\n") + 2)
        return [part.encode() for part in shlex.split(line.decode())]

    def _take(self, end: int) -> bytes:
        taken = bytes(self._data[:end])
        del self._data[:end]
        return taken

    async def _read_more(self) -> None:
        more = await self._reader.read(_CHUNK)
        if not more:
            raise EOFError
        self._data += more


def _end_of_frame(data: bytearray, start: int) -> int | None:
    """Returns the index at which a frame ends; None if the frame is incomplete."""
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, rest, at = data[start : start + 1], data[start + 1 : line_end], line_end + 2
    if kind in b"$=!":
        end = at if rest == b"-1" else at + int(rest) + 2
        return end if end <= len(data) else None
    if kind in b"*~>%|":
        count = int(rest) * (2 if kind in b"%|" else 1)
        # Attributes precede their frame.
        for _ in range(count + (kind == b"|")):
            end_of_item = _end_of_frame(data, at)
            if end_of_item is None:
                return None
            at = end_of_item
    return at


def encode_command(parts: Iterable[bytes]) -> bytes:
    """Returns the bytes of a command, as a client sends it."""
    return encode(list(parts))


def encode(value: Value, protocol: int = 2) -> bytes:  # noqa: PLR0911 - one return for each type
    """Returns the bytes of a reply; in RESP3, nil, doubles and maps differ from RESP2."""
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
