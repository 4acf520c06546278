"""Reads the head and the framing of an upstream's answer strictly: what is not understood is refused."""

import http.client
import re
from collections.abc import Callable
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import Final, TypeAlias

from proxy.egress.attempt import Attempt, here

Fields: TypeAlias = list[tuple[str, str]]

_LINE: Final = 65536
_HEAD: Final = 4 * _LINE
_FIELDS: Final = 200
_INTERIM: Final = 10
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([^\x00\r\n]*))?\r?\n")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00\r\n]*)?\r?\n")
_SWITCHING: Final = 101
_FINAL: Final = 200
_OLD: Final = 10
_LENGTH: Final = re.compile(r"[0-9]{1,18}")


class Malformed(HTTPException):
    """The upstream's bytes are not HTTP/1.1 (RFC 9112); the text never holds those bytes."""


class StrictResponse(http.client.HTTPResponse):
    """``http.client``'s response with a light, strict reader (RFC 9112 sections 4 to 7).

    Refused: more than 200 fields, lines over 64 KiB, heads over 256 KiB, more than 10 interim
    answers, status 101 and beyond 599, folded lines, control characters, Content-Length together
    with Transfer-Encoding or twice or not a number, any transfer coding but ``chunked``.
    """

    fields: tuple[tuple[str, str], ...] = ()
    attempt: Attempt | None = None
    # Set by http.client; the type stubs leave them out.
    _method: str | None
    _safe_read: Callable[[int], bytes]

    def begin(self) -> None:
        """Read the head; called once, by ``http.client``."""
        self._wait_for_first_byte()
        for _ in range(_INTERIM + 1):
            minor, status, reason = self._status()
            fields = self._fields()
            if status == _SWITCHING or status >= _FINAL:
                break
        else:
            raise Malformed("too many interim answers")
        if status == _SWITCHING:
            raise Malformed("the upstream switched protocols")
        self._accept(minor, status, reason, fields)

    def _wait_for_first_byte(self) -> None:
        if not self.fp.peek(1):
            raise RemoteDisconnected("the upstream closed the connection before it answered")
        here.attempt.received = True

    def _line(self) -> bytes:
        line: bytes = self.fp.readline(_LINE + 1)
        if len(line) > _LINE:
            raise Malformed("a line is longer than 64 KiB")
        if not line.endswith(b"\n"):
            raise IncompleteRead(b"")
        return line

    def _status(self) -> tuple[int, int, str]:
        match = _STATUS.fullmatch(self._line())
        if match is None:
            raise Malformed(
                "the status line is not HTTP/1.0 or HTTP/1.1 with a status from 100 to 599"
            )
        return int(match[1]), int(match[2]), (match[3] or b"").decode("latin-1")

    def _fields(self) -> Fields:
        fields: Fields = []
        size = 0
        attempt = here.attempt
        while True:
            line = self._line()
            attempt.check_head_time()
            if line in (b"\r\n", b"\n"):
                return fields
            size += len(line)
            if len(fields) == _FIELDS or size > _HEAD:
                raise Malformed("the head has more than 200 fields or 256 KiB")
            fields.append(_field(line))

    def _accept(self, minor: int, status: int, reason: str, fields: Fields) -> None:
        """Set what ``http.client`` and urllib3 read from a response that has begun."""
        self.fields = tuple(fields)
        self.version = _OLD + minor
        self.code = self.status = status
        self.reason = reason
        self.headers = self.msg = dict(fields)  # type: ignore[assignment]
        self.chunked = _is_chunked(self.version, fields)
        self.chunk_left = None
        self.length = _length(fields, chunked=self.chunked)
        if status in (204, 304) or self._method == "HEAD":
            self.length = 0
        self.will_close = _closes(self.version, fields) or not (
            self.chunked or self.length is not None
        )
        self.attempt = here.attempt
        self.attempt.answered = True

    def read1(self, n: int = -1) -> bytes:
        """What is there of the body, at least a byte, until its end; a cut raises ``IncompleteRead``."""
        if self.isclosed():
            return b""
        if self.chunked:
            return super().read1(n)
        length = self.length
        piece: bytes = self.fp.read1(n if length is None else min(n, length))
        if length is not None:
            if length and not piece:
                raise IncompleteRead(b"")
            self.length = length - len(piece)
        if not (piece and self.length != 0):
            self._close_conn()
        return piece

    def _get_chunk_left(self) -> int | None:
        """The bytes left in the chunk, None at the end; reads the next size when needed."""
        left: int | None = self.chunk_left
        if left:
            return left
        if left == 0 and (end := self._safe_read(2)) != b"\r\n":
            raise Malformed("a chunk is longer than its size") if end else IncompleteRead(b"")
        match = _CHUNK.fullmatch(self._line())
        if match is None:
            raise Malformed("a chunk's size is not a hexadecimal number")
        self.chunk_left = int(match[1], 16) or None
        if self.chunk_left is None:
            self._trailer()
            self._close_conn()
        return self.chunk_left

    def _trailer(self) -> None:
        for _ in range(_FIELDS + 1):
            line = self._line()
            if line in (b"\r\n", b"\n"):
                return
            _field(line)
        raise Malformed("the trailer has more than 200 fields")

    def _close_conn(self) -> None:
        # First, so that a late cancel cannot hit the connection's next call.
        if self.attempt is not None:
            self.attempt.handle.detach()
        super()._close_conn()  # type: ignore[misc]


def _field(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    value = value.strip(b" \t\r\n")
    if not colon or not _NAME.fullmatch(name) or _CONTROL.search(value):
        raise Malformed("a field is folded, has no name, or holds control characters")
    return name.lower().decode("ascii"), value.decode("latin-1")


def _all(fields: Fields, name: str) -> list[str]:
    return [value for key, value in fields if key == name]


def _is_chunked(version: int, fields: Fields) -> bool:
    codings = _all(fields, "transfer-encoding")
    if codings and (version == _OLD or [coding.lower() for coding in codings] != ["chunked"]):
        raise Malformed("the transfer coding is not 'chunked'")
    return bool(codings)


def _length(fields: Fields, *, chunked: bool) -> int | None:
    lengths = _all(fields, "content-length")
    if not lengths:
        return None
    if chunked or len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise Malformed("Content-Length comes twice, with Transfer-Encoding, or is not a number")
    return int(lengths[0])


def _closes(version: int, fields: Fields) -> bool:
    tokens = {
        token.strip().lower() for value in _all(fields, "connection") for token in value.split(",")
    }
    return "close" in tokens or (version == _OLD and "keep-alive" not in tokens)
