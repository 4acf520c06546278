"""Requests that two readers of HTTP could take apart differently, generated rule by rule of RFC 9112.

Each payload is one request (or what is left of one) as bytes. Its own prompt is ``Hello``, that of a second
request hidden in its body is ``Shout``; both have five letters, so that a test can number them in place.
"""

import itertools
from collections.abc import Iterator
from typing import Final

from tests.framing import AUTH, BODY, CORPUS, HEADERS, chunked, raw_request
from tests.gateway import request_bytes

HIDDEN: Final = request_bytes(
    "POST", "/v1/completions", HEADERS, BODY.replace(b"Hello", b"Shout"), host="hidden"
)
_LENGTH: Final = f"Content-Length: {len(BODY)}"
_CHUNKED: Final = "Transfer-Encoding: chunked"
#: What some reader somewhere takes for a blank, a line end or nothing.
_ODD: Final = [*map(chr, (*range(0x20), 0x20, 0x7F)), "\x85", "\xa0", "\xad", "\xff"]
_ENDS: Final = ("\n", "\r", "\r\r\n", "\n\r", "\r\n\r", "\x85", "\u2028", "\x0b")
_TOKENS: Final = '"(),/:;<=>?@[\\]{}é'


def _head(*lines: str, start: str = "POST /v1/completions HTTP/1.1", end: str = "\r\n") -> bytes:
    parts = [start, "Host: h", *lines, *(f"{name}: {value}" for name, value in HEADERS), "", ""]
    return end.join(parts).encode("latin-1", "replace")


def _codings() -> Iterator[bytes]:
    """The header that says chunked, with an odd character anywhere, beside a length and without one."""
    for odd in _ODD:
        for line in (
            f"{odd}Transfer-Encoding: chunked",
            f"Transfer-Encoding{odd}: chunked",
            f"Transfer{odd}Encoding: chunked",
            f"Transfer-Encoding:{odd}chunked",
            f"Transfer-Encoding: chunked{odd}",
            f"Transfer-Encoding: chu{odd}nked",
            f"X: y{odd}Transfer-Encoding: chunked",
        ):
            body = chunked() + HIDDEN
            yield _head(line) + body
            yield _head(line, f"Content-Length: {len(body)}") + body
            yield _head("Content-Length: 5", line) + body


def _lengths() -> Iterator[bytes]:
    """Lengths with an odd character anywhere, and pairs of lengths."""
    size = str(len(BODY))
    for odd in _ODD:
        for line in (
            f"Content-Length{odd}: {size}",
            f"Content-Length:{odd}{size}",
            f"Content-Length: {size}{odd}",
            f"Content-Length: {size[0]}{odd}{size[1:]}",
            f"{odd}Content-Length: {size}",
        ):
            yield _head(line) + BODY + HIDDEN
    values = (size, "0", f"0{size}", "1", f"{size}, {size}", "-1", "", "x", str(2**64), "9" * 40)
    for first, second in itertools.product(values, repeat=2):
        yield _head(f"Content-Length: {first}", f"Content-Length: {second}") + BODY


def _chunks() -> Iterator[bytes]:
    """Chunk sizes and their ends with an odd character anywhere, and sizes that lie."""
    size = f"{len(BODY):x}"
    for odd in _ODD:
        for text in (
            f"{odd}{size}",
            f"{size}{odd}",
            f"{size[0]}{odd}{size[1:]}",
            f"{size};a={odd}",
        ):
            line = text.encode("latin-1")
            yield _head(_CHUNKED) + line + b"\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN
        last = f"0{odd}".encode("latin-1")
        yield _head(_CHUNKED) + chunked(end="") + last + b"\r\n\r\n" + HIDDEN
    for shift in (-2, -1, 1, 2, 2**16, 2**31, 2**32, 2**63, 2**64):
        line = f"{len(BODY) + shift:x}".encode()
        yield _head(_CHUNKED) + line + b"\r\n" + BODY + b"\r\n0\r\n\r\n" + HIDDEN
    for end in _ENDS:
        line_end = end.encode("utf-8")
        parts = [size.encode(), BODY, b"0", b"", b""]
        for at in range(4):
            joined = b"".join(
                part + (line_end if index == at else b"\r\n")
                for index, part in enumerate(parts[:-1])
            )
            yield _head(_CHUNKED) + joined + HIDDEN


def _trailers() -> Iterator[bytes]:
    for line in (
        "X: y", "Content-Length: 5", "Content-Length: 0", _CHUNKED, "Host: other", "Authorization: Bearer x",
        "Transfer-Encoding: identity", "Connection: close", "no colon", ": no name", " folded", "X : y", "X\x00: y",
        "X: " + "a" * 9000, "Trailer: X", "Content-Type: text/plain",
    ):  # fmt: skip
        for end in ("\r\n\r\n", "\n\n", "\r\n", "\r\r\n\r\n"):
            tail = f"0\r\n{line}{end}"
            yield _head(_CHUNKED) + chunked(end=tail) + HIDDEN


def _lines() -> Iterator[bytes]:
    """Heads whose lines end otherwise, as a whole and in one place."""
    for end in _ENDS:
        yield _head(_LENGTH, end=end) + BODY
        head = _head(_LENGTH)
        places = [at for at in range(len(head)) if head[at : at + 2] == b"\r\n"]
        for at in places:
            yield head[:at] + end.encode("utf-8") + head[at + 2 :] + BODY
    for folded in (" ", "\t", "  ", " \t "):
        yield _head(f"X: a\r\n{folded}b", _LENGTH) + BODY
        yield _head(f"{_CHUNKED}\r\n{folded}, identity") + chunked() + HIDDEN
        yield _head(f"Content-Length:\r\n{folded}{len(BODY)}") + BODY
    for before in ("\r\n", "\n", "\r\n\r\n", "\r", " ", "\x00", "\r\n" * 20):
        yield before.encode() + raw_request(["Host: h", _LENGTH])


def _starts() -> Iterator[bytes]:
    """First lines that are none, or not quite."""
    path = "/v1/completions"
    lines = [
        f"POST {path} HTTP/{v}"
        for v in ("0.9", "1.0", "1.2", "1.10", "2.0", "3", "1", "1.1 ", "11")
    ]
    lines += [
        f"POST {path} {v}"
        for v in ("http/1.1", "HTTP/1,1", "HTTP/-1.1", "HTTPS/1.1", "", "XTP/1.1")
    ]
    lines += [
        f"POST {path}",
        f"POST  {path} HTTP/1.1",
        f"POST\t{path}\tHTTP/1.1",
        f"{path} HTTP/1.1",
        "POST",
    ]
    lines += [
        f"{m} {path} HTTP/1.1"
        for m in ("post", "P OST", "POST:", "PO\x00ST", "", "é", "P" * 200, "PRI")
    ]
    lines += [
        f"POST {p} HTTP/1.1"
        for p in ("*", "", "?", "#", "//h/v1", "http:", "http://", "//", "\\", "/\x7f")
    ]
    lines += [f"POST {path}{odd} HTTP/1.1" for odd in _ODD]
    lines += [f"POST {path} HTTP/1.1{odd}" for odd in _ODD]
    for line in dict.fromkeys(lines):
        yield _head(_LENGTH, start=line) + BODY


def _fields() -> Iterator[bytes]:
    """Header fields that are none, or mean something to the connection."""
    for sign in _TOKENS:
        yield _head(f"X{sign}Y: z", _LENGTH) + BODY
        yield _head(f"X: {sign}", _LENGTH) + BODY
    for line in (
        "no colon", ": no name", "", " : x", "X:", "X:: y", "X" * 300 + ": y", "X: " + "y" * 9000, "Host: h2",
        "HOST: h", "Connection: close", "Connection: keep-alive, close", "Connection: content-length", "Connection: x",
        "Connection: transfer-encoding", "Keep-Alive: timeout=1", "Proxy-Connection: close", "Upgrade: websocket",
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings", "TE: trailers",
        "Expect: 100-continue", "Expect: 200-ok", "Expect: ", "Trailer: Content-Length", "Content-Encoding: chunked",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http", "Content_Length: 0", "Transfer_Encoding: chunked",
        "Sec-WebSocket-Key: x", "HTTP2-Settings: AAMAAABkAAQAAP__", "Content-Length-X: 0", "Max-Forwards: 0",
        "Range: bytes=0-0", "If-None-Match: *", "Cookie: a\x00b", "Alt-Svc: h2", ":method: GET", ":path: /readyz",
    ):  # fmt: skip
        yield _head(line, _LENGTH) + BODY
        yield _head(_CHUNKED, line) + chunked() + HIDDEN
    for count in (64, 65, 101, 200):
        yield _head(*(f"X-{number}: y" for number in range(count)), _LENGTH) + BODY


def _cuts() -> Iterator[bytes]:
    """Requests that end early, at every twelfth byte."""
    for whole in (raw_request(["Host: h", _LENGTH]), _head(_CHUNKED) + chunked()):
        yield from (whole[:end] for end in range(1, len(whole), 12))


def cases() -> Iterator[bytes]:
    yield from CORPUS
    yield from _codings()
    yield from _lengths()
    yield from _chunks()
    yield from _trailers()
    yield from _lines()
    yield from _starts()
    yield from _fields()
    yield from _cuts()


CASES: Final = list(dict.fromkeys(cases()))


def numbered(payload: bytes, number: int) -> bytes:
    """The payload with prompts that are nobody else's: ``H`` and ``S`` with the number."""
    return payload.replace(b"Hello", b"H%04d" % number).replace(b"Shout", b"S%04d" % number)


def marker(number: int) -> bytes:
    """The request that follows on the same connection, with prompt ``M`` and the number."""
    body = BODY.replace(b"Hello", b"M%04d" % number)
    return request_bytes("POST", "/v1/completions", [HEADERS[0], AUTH], body, host="marker")
