"""Requests whose end two readers could see in different places: the corpus of the framing tests."""

import itertools
from collections.abc import Iterator
from typing import Final

from tests.e2e.stack import ALICE_KEY
from tests.gateway import COMPLETION, encoded, request_bytes

BODY: Final = encoded(COMPLETION)
AUTH: Final = ("Authorization", f"Bearer {ALICE_KEY}")
HEADERS: Final = [("Content-Type", "application/json"), AUTH]
SMUGGLED: Final = request_bytes("POST", "/v1/completions", HEADERS, BODY, host="smuggled")
_LENGTHS = ["{n}", " {n}", "{n} ", "0{n}", "+{n}", "-{n}", "-1", "{n},{n}", "{n}, 0"]
_LENGTHS += [
    "{n}.0",
    "0x{x}",
    "{n} 0",
    "",
    "{n}e0",
    "1_0",
    "९",
    "９" * 400,
    "{n};a",
    '"{n}"',
    "nan",
]
_CODINGS = ["chunked", " chunked", "chunked ", "Chunked", "CHUNKED", "xchunked", "chunked,"]
_CODINGS += [",chunked", "identity", "chunked, identity", "identity, chunked", "gzip", "chunked;a"]
_CODINGS += ["gzip, chunked", "chunked, chunked", '"chunked"', "\tchunked", "\x0bchunked", "chunk"]
_CODINGS += ["chu nked", "chunked\x00", "c\xe9hunked", ""]
_NAMES = [
    "Transfer-Encoding",
    "transfer-encoding",
    "Transfer_Encoding",
    "Transfer-Encoding ",
]
_NAMES += [
    " Transfer-Encoding",
    "Transfer-Encoding\t",
    "X-A: b\r\nTransfer-Encoding",
    "Foo\rTransfer-Encoding",
]
_CHUNKS = [
    "{x}",
    "0{x}",
    "0x{x}",
    "+{x}",
    "-{x}",
    " {x}",
    "{x} ",
    "{x};a=b",
    "{x};a\nb",
    "{x}\n",
]
_CHUNKS += ["{x},", "", "g", "ffffffffffffffffff", "{x}\x00", "{x};" + "a" * 9000, "१", "{x}\r"]
_ENDS = [
    "0\r\n\r\n",
    "0\n\n",
    "0\r\n",
    "",
    "00\r\n\r\n",
    "0;a\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
    "0\r\nX\r\n\r\n",
]
_ENDS += [
    "0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "-0\r\n\r\n",
    "0 \r\n\r\n",
]
_HOSTS = [
    "x",
    "",
    "x/",
    "x?a=b",
    "x#",
    "x/v1/models",
    "a@b",
    "x y",
    "x\ty",
    "[::1",
    "x:99999",
]
_HOSTS += [
    "x:y",
    "é",
    "x,y",
    "http://x/",
    "x\x00",
    "127.0.0.1:80:80",
    "x\\y",
    "%00",
    "x;y",
    "." * 300,
]


def fill(text: str) -> str:
    return text.replace("{n}", str(len(BODY))).replace("{x}", f"{len(BODY):x}")


def raw_request(lines: list[str], body: bytes = BODY) -> bytes:
    head = ["POST /v1/completions HTTP/1.1", *lines, *(f"{n}: {v}" for n, v in HEADERS), "", ""]
    return "\r\n".join(head).encode("utf-8", "surrogateescape") + body


def chunked(size: str = "{x}", end: str = "0\r\n\r\n", after: str = "\r\n") -> bytes:
    return fill(size).encode() + b"\r\n" + BODY + after.encode() + end.encode()


def corpus() -> Iterator[bytes]:
    """Requests whose end two readers could see in different places."""
    for length in _LENGTHS:
        yield raw_request(["Host: h", f"Content-Length: {fill(length)}"])
        yield raw_request(["Host: h", f"Content-Length: {fill(length)}", "Content-Length: 0"])
    for name, coding in itertools.product(_NAMES, _CODINGS):
        yield raw_request(["Host: h", f"{name}: {coding}"], chunked())
        yield raw_request(["Host: h", "Content-Length: 4", f"{name}: {coding}"], chunked())
    for size, end in itertools.product(_CHUNKS, _ENDS[:4]):
        yield raw_request(["Host: h", "Transfer-Encoding: chunked"], chunked(size, end))
    for end, after in itertools.product(_ENDS, ("\r\n", "\n", "", "x\r\n", "\r\n\r\n")):
        yield raw_request(["Host: h", "Transfer-Encoding: chunked"], chunked(end=end, after=after))
    for host in _HOSTS:
        yield raw_request([f"Host: {host}", f"Content-Length: {len(BODY)}"])
        yield raw_request(["Host: h", f"Host: {host}", f"Content-Length: {len(BODY)}"])
    yield raw_request([f"Content-Length: {len(BODY)}"])


CORPUS: Final = list(dict.fromkeys(corpus()))
