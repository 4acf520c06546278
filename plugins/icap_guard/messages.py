"""Messages of ICAP (RFC 3507): how a call becomes one, and how an answer is read, in bounds and without guessing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from proxy import Connection

_STATUS = re.compile(rb"ICAP/1\.[0-9] ([0-9]{3})(?: [^\r\n]*)?\r?\n\Z")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*([^\r\n]*?)[ \t]*\r?\n\Z")
_PART = re.compile(r"(req-hdr|res-hdr|req-body|res-body|opt-body|null-body)=([0-9]{1,6})\Z")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n\Z")
_LONGEST_LINE = 8192
_MOST_FIELDS = 100
_MOST_HEAD = 65536
_CHUNK = 65536


class Garbled(OSError):
    """An answer that RFC 3507 does not know."""


@dataclass(frozen=True)
class Message:
    """What is to be judged: the heads of an HTTP request and perhaps its response, and the body of the last."""

    heads: tuple[bytes, ...]
    body: bytes

    @property
    def encapsulated(self) -> str:
        """Where each part begins (RFC 3507 section 4.4.1)."""
        names = ("req-hdr", "res-hdr")[: len(self.heads)]
        starts = [sum(map(len, self.heads[:number])) for number in range(len(self.heads) + 1)]
        body = "req-body" if len(self.heads) == 1 else "res-body"
        return ", ".join(
            f"{name}={start}" for name, start in zip((*names, body), starts, strict=True)
        )


@dataclass(frozen=True)
class Head:
    """The first part of an answer."""

    status: int
    fields: Mapping[str, str]

    def parts(self) -> list[tuple[str, int]]:
        """What the answer encapsulates, in order, and where each begins."""
        text = self.fields.get("encapsulated", "null-body=0")
        found = [_PART.match(part.strip()) for part in text.split(",")]
        parts = [(one[1], int(one[2])) for one in found if one]
        starts = [start for _, start in parts]
        if (
            len(parts) != len(found)
            or starts != sorted(starts)
            or starts[0]
            or starts[-1] > _MOST_HEAD
        ):
            raise Garbled("its Encapsulated cannot be read")
        return parts

    def number(self, name: str) -> int | None:
        """A field that holds a number, or None."""
        text = self.fields.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004


def head(line: str, fields: Mapping[str, str]) -> bytes:
    """A first line and fields, of ICAP or of HTTP."""
    lines = [line, *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def chunked(body: bytes, *, end: bytes = b"0\r\n\r\n") -> bytes:
    """A body in chunks."""
    pieces = [body[start : start + _CHUNK] for start in range(0, len(body), _CHUNK)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def read_head(connection: Connection) -> Head:
    """The head of the next answer; raises ``ConnectionError`` when there is none, ``Garbled`` when it is none."""
    line = connection.readline(_LONGEST_LINE)
    if not line:
        raise ConnectionResetError("it hung up")
    status = _STATUS.match(line)
    if status is None:
        raise Garbled("what it said is not ICAP")
    fields: dict[str, str] = {}
    for name, value in _fields(connection):
        if fields.setdefault(name, value) != value:
            raise Garbled(f"it said {name} twice")
    return Head(int(status[1]), fields)


def _fields(connection: Connection) -> Iterator[tuple[str, str]]:
    for _ in range(_MOST_FIELDS):
        line = connection.readline(_LONGEST_LINE)
        if line in (b"\r\n", b"\n"):
            return
        field = _FIELD.match(line)
        if field is None:
            raise Garbled("a header of it cannot be read")
        yield field[1].decode("ascii").lower(), field[2].decode("latin-1")
    raise Garbled("it has too many headers")


def exactly(connection: Connection, count: int) -> bytes:
    """So many bytes."""
    data = connection.read(count)
    if len(data) != count:
        raise Garbled("its answer was cut")
    return data


def is_body(connection: Connection, body: bytes) -> bool:
    """Whether the chunked body that comes is this one; it is read to its end only if so."""
    place = 0
    while size := _chunk(connection):
        if size > len(body) - place:
            return False
        if exactly(connection, size + 2) != body[place : place + size] + b"\r\n":
            return False
        place += size
    if connection.readline(_LONGEST_LINE) not in (b"\r\n", b"\n"):
        # Who sends trailers has more to say than that all is well.
        raise Garbled("its answer was cut, or has trailers")
    return place == len(body)


def _chunk(connection: Connection) -> int:
    size = _SIZE.match(connection.readline(_LONGEST_LINE))
    if size is None:
        raise Garbled("a chunk of it cannot be read")
    return int(size[1], 16)


def split(parts: Sequence[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Each head that is encapsulated, with its length."""
    for (name, start), (_, end) in pairwise(parts):
        yield name, end - start
