"""Cuts a byte stream into server-sent events and keeps every byte of them."""

import re
from typing import Final

from msgspec import Struct

from proxy.errors import UpstreamError

DONE: Final = b"[DONE]"

_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
# A line end and the blank line behind it. After CR the blank line is complete with the next CR;
# after LF or CRLF a CR may be the first half of a CRLF, so the byte behind it decides.
_EVENT_END: Final = re.compile(rb"\n(?:\n|\r\n|\r(?=[^\n]))|\r\r")
_LOOK_BACK: Final = 2


class Event(Struct, frozen=True):
    """One block of a stream: ``raw`` is every byte of it, with the blank line that ends it.

    ``data`` is the payload as the HTML standard joins it, or None where no line carries data
    (a comment, a lone blank line).
    """

    raw: bytes
    data: bytes | None


class EventTooLarge(UpstreamError):
    """One event is longer than the limit, or never ends."""

    def __init__(self, limit: int) -> None:
        super().__init__("too_large", f"an event is longer than {limit} bytes", bytes_received=True)


class EventReader:
    """Splits what the upstream sends into events, wherever the network cut it.

    The events and ``rest()``, put together again, are exactly the bytes that were fed. Lines end
    with LF, CRLF or CR (HTML standard, "Server-sent events"); text is never decoded, so separators
    such as U+2028 inside a payload split nothing.
    """

    __slots__ = ("_buffer", "_first", "_limit", "_returns", "_seen", "_skip")

    def __init__(self, limit: int) -> None:
        """``limit`` is the most bytes one event may have."""
        self._limit = limit
        self._buffer = bytearray()
        # Whether the stream uses CR: asked once for each piece, or many short events would take quadratic time.
        self._returns = False
        self._seen = 0
        self._skip = 0
        self._first = True

    def feed(self, piece: bytes) -> list[Event]:
        """The events that ``piece`` completes.

        Raises ``EventTooLarge``; the stream is then over, and so are events that stood in the same
        piece before the long one.
        """
        self._buffer += piece
        self._returns = self._returns or b"\r" in piece
        events = []
        while end := self._end():
            raw = bytes(self._buffer[:end])
            del self._buffer[:end]
            events.append(self._event(raw))
        if len(self._buffer) > self._limit:
            raise EventTooLarge(self._limit)
        return events

    def rest(self) -> bytes:
        """The bytes of an event that has not ended; a stream that ends here was cut."""
        return bytes(self._buffer)

    def _end(self) -> int:
        """Where the first event of the buffer ends, or 0 while it has not ended."""
        buffer, start = self._buffer, self._skip
        if self._skip and buffer and not buffer.startswith(b"\n"):
            start = self._skip = 0
        if len(buffer) <= start:
            return 0
        if buffer[start] in b"\r\n":
            return start + 1
        seen = max(start, self._seen)
        self._seen = max(start, len(buffer) - _LOOK_BACK)
        if not self._returns:
            found = buffer.find(b"\n\n", seen)
            return found + 2 if found >= 0 else 0
        match = _EVENT_END.search(buffer, seen)
        return match.end() if match else 0

    def _event(self, raw: bytes) -> Event:
        if len(raw) > self._limit:
            raise EventTooLarge(self._limit)
        # Behind a blank line that ends with CR, an LF is the second half of its line end.
        skip, self._skip = self._skip, int(raw.endswith(b"\r"))
        self._seen = 0
        block = raw[skip:]
        if self._first:
            self._first = False
            block = block.removeprefix(_BOM)
        return Event(raw, _data(block))


def _data(block: bytes) -> bytes | None:
    # Nearly every event of an LLM is one data line: no need to split it.
    if block.startswith(b"data: ") and block.find(b"\n") == len(block) - 2 and b"\r" not in block:
        return block[6:-2]
    values = [_value(line) for line in _LINE_END.split(block)]
    found = [value for value in values if value is not None]
    return b"\n".join(found) if found else None


def _value(line: bytes) -> bytes | None:
    field, _, value = line.partition(b":")
    return value.removeprefix(b" ") if field == b"data" else None


def encode_event(data: bytes) -> bytes:
    """``data`` (one line, as compact JSON is) as an event of its own."""
    return b"data: " + data + b"\n\n"
