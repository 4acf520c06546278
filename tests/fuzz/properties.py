"""What must hold for any bytes: shared by tests, which draw them, and fuzzers, which search for them."""

import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from proxy import ConfigError
from proxy.config import parse
from proxy.detect.engine import Engine
from proxy.errors import InvalidRequest
from proxy.jsonio import decode, encode
from proxy.sse import Event, EventReader, EventTooLarge
from tests.detect.material import DETECTORS, streamed

_DEPTH: Final = 64
_EVENT: Final = 256
_ENGINE: Final = Engine(DETECTORS)


def json_reader(data: bytes) -> None:
    """Bytes are refused in words, or mean what the standard library says and survive being written again."""
    try:
        value = decode(data, depth=_DEPTH)
    except InvalidRequest:
        return
    assert value == json.loads(data)
    again = encode(value)
    assert repr(decode(again, depth=_DEPTH)) == repr(value)
    assert encode(decode(again, depth=_DEPTH)) == again


def sse_parser(data: bytes) -> None:
    """No byte is lost, and neither events nor the refusal of a large one depend on where a stream is cut."""
    cuts, stream = _cut(data)
    whole = _read([stream])
    if whole is not None:
        events, rest = whole
        assert b"".join(event.raw for event in events) + rest == stream
    assert _read(_pieces(stream, cuts)) == whole


def _read(pieces: Iterable[bytes]) -> tuple[list[Event], bytes] | None:
    """The events and what is left; None where an event is too large."""
    reader, events = EventReader(_EVENT), list[Event]()
    try:
        for piece in pieces:
            events += reader.feed(piece)
    except EventTooLarge:
        return None
    return events, reader.rest()


def stream_redactor(data: bytes) -> None:
    """What is found in a stream is what is found in its whole text, and no character is lost."""
    cuts, rest = _cut(data)
    text = rest.decode("utf-8", "ignore")
    assert streamed(_ENGINE, list(_pieces(text, cuts))) == (text, _ENGINE.find(text))


def configuration(data: bytes) -> None:
    """A configuration is taken, or refused with a sentence that names the file."""
    try:
        document = tomllib.loads(data.decode("utf-8", "ignore"))
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    refusal = "outgate.toml"
    try:
        parse(document, "outgate.toml")
    except ConfigError as error:
        refusal = str(error)
    assert "outgate.toml" in refusal


def _cut(data: bytes) -> tuple[list[int], bytes]:
    """Lengths of pieces, told by the first bytes, and what is left to cut."""
    count = data[0] % 8 if data else 0
    return [length % 16 for length in data[1 : 1 + count]], data[1 + count :]


def _pieces(whole: Any, lengths: list[int]) -> Iterator[Any]:
    at = 0
    for length in lengths:
        yield whole[at : at + length]
        at += length
    yield whole[at:]


PROPERTIES: Final[Mapping[str, Callable[[bytes], None]]] = {
    "json": json_reader,
    "sse": sse_parser,
    "redactor": stream_redactor,
    "config": configuration,
}
#: Bytes to begin with, and words that a search may put together.
SEEDS: Final[Mapping[str, list[bytes]]] = {
    "json": [b'{"a":[1,-2.5e3,"\\u00e9",null,true],"b":{"c":""}}', b'"\\ud83d\\ude00"', b"[1e308]"],
    "sse": [b"\x02\x03\x05data: a\n\n: c\r\n\r\ndata:b\rdata: c\r\r", b"\x00\xef\xbb\xbfdata\n\n"],
    "redactor": [
        b"\x03\x04\x05\x06aws AKIALALEME. mail bob@mail.example card 4539 1488 0343 6467",
        "\x02\x03\x09-----BEGIN KEY-----\nAAAA\n-----END----- ssn １２３－45-6\u200b789".encode(),
    ],
    "config": [
        b'[upstreams.a]\nprovider = "openai"\nbase_url = "https://h/v1"\n[[routes]]\nupstreams = ["a"]\n',
        b'[policy.request]\nemail = "deny"\n[[plugins]]\nuse = "pii"\n[plugins.options]\nx = 1\n',
        b"[limits]\nbody_bytes = 1\n[audit]\ndirectory = '/x'\n[console]\n[store]\nurl = 'sqlite:///x'\n",
        b'[[policy.rules]]\n[teams.a]\n[[prices]]\nmodels = ["*"]\ninput = 1.0\nsince = 2026-01-01\n',
    ],
}
