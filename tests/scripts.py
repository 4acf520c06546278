"""What the scripted upstream can do: replies, streams, and every fault we know of."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from tests.connection import Connection, Received

Headers = Sequence[tuple[str, str]]
Framing = Literal["length", "chunked", "close"]
Event = bytes | str | Mapping[str, Any]

_PIECE: Final = 65_536


class Wait:
    """Among the events of a stream: nothing is sent until the test calls ``release``."""


WAIT: Final = Wait()


Script = Callable[[Connection, Received], None]


def _head(status: int, headers: Headers) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def raw(data: bytes, *, keep: bool = False) -> Script:
    """Exactly these bytes, then the end of the connection unless ``keep``."""

    def play(connection: Connection, _: Received) -> None:
        connection.send(data)
        if not keep:
            connection.hang_up()

    return play


def reply(
    status: int = 200, headers: Headers = (), body: bytes = b"", *, framing: Framing = "length"
) -> Script:
    """One whole reply, sent at once."""
    if framing != "length":
        return stream([body], status=status, headers=headers, framing=framing)
    length = ("content-length", str(len(body)))
    return raw(_head(status, [*headers, length]) + body, keep=True)


def json_reply(value: Any, status: int = 200, headers: Headers = ()) -> Script:
    """One whole JSON reply."""
    kind = ("content-type", "application/json")
    return reply(status, [kind, *headers], json.dumps(value).encode())


def stream(
    pieces: Iterable[bytes | Wait],
    *,
    gap: float = 0,
    status: int = 200,
    headers: Headers = (),
    framing: Framing = "chunked",
) -> Script:
    """A reply whose pieces are sent one by one, ``gap`` seconds apart.

    Framing "close" ends it by closing; "length" expects a content-length among the headers.
    """
    told: Headers = {
        "chunked": [("transfer-encoding", "chunked")],
        "close": [("connection", "close")],
        "length": [],
    }[framing]
    pieces = pieces if isinstance(pieces, Repeated) else list(pieces)

    def play(connection: Connection, _: Received) -> None:
        connection.send(_head(status, [*headers, *told]))
        for number, piece in enumerate(pieces):
            if isinstance(piece, Wait):
                connection.wait()
                continue
            if gap and number:
                connection.pause(gap)
            connection.send(
                b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece
            )
        if framing == "chunked":
            connection.send(b"0\r\n\r\n")
        elif framing == "close":
            connection.hang_up()

    return play


def sse_event(event: Event) -> bytes:
    """Bytes stay as they are, text becomes the data of an event, and so does JSON."""
    if isinstance(event, bytes):
        return event
    data = event if isinstance(event, str) else json.dumps(event)
    return f"data: {data}\n\n".encode()


def sse(
    events: Iterable[Event | Wait],
    *,
    gap: float = 0,
    headers: Headers = (),
    framing: Framing = "chunked",
) -> Script:
    """A stream of server-sent events; add ``"[DONE]"`` yourself where it belongs."""
    pieces = [event if isinstance(event, Wait) else sse_event(event) for event in events]
    kind = ("content-type", "text/event-stream")
    return stream(pieces, gap=gap, headers=[kind, *headers], framing=framing)


class Repeated:
    """The same piece again and again, without ever being in memory as a whole."""

    def __init__(self, piece: bytes, times: int) -> None:
        self.piece = piece
        self.times = times

    def __iter__(self) -> Iterator[bytes]:
        return (self.piece for _ in range(self.times))


def huge(size: int, *, kind: str = "application/json", framing: Framing = "chunked") -> Script:
    """A JSON string of at least ``size`` bytes that does not end."""
    pieces = Repeated(b'"' + b"a" * (_PIECE - 1), -(-size // _PIECE))
    headers = [("content-type", kind)]
    if framing == "length":
        headers.append(("content-length", str(pieces.times * _PIECE)))
    return stream(pieces, headers=headers, framing=framing)


def garbage(data: bytes = b"\x00\xff\xfenot http at all\r\n\r\n") -> Script:
    """Bytes that are no HTTP reply, then the end of the connection."""
    return raw(data)


def silent() -> Script:
    """Nothing, until released; then the end of the connection."""

    def play(connection: Connection, _: Received) -> None:
        connection.wait()
        connection.hang_up()

    return play


def hang_up() -> Script:
    """The end of the connection, without a byte."""
    return raw(b"")


def rst() -> Script:
    """A reset, without a byte."""
    return cut_after(0, raw(b""), reset=True)


def cut_after(count: int, script: Script, *, reset: bool = False) -> Script:
    """Only the first ``count`` bytes of another script, head included, then the end."""

    def play(connection: Connection, request: Received) -> None:
        write, left = connection.write, count

        def limited(data: bytes) -> None:
            nonlocal left
            write(data[:left])
            left -= len(data)
            if left <= 0:
                connection.hang_up(reset=reset)

        connection.write = limited
        script(connection, request)
        connection.hang_up(reset=reset)

    return play


def rst_after(count: int, script: Script) -> Script:
    """The first ``count`` bytes of another script, then a reset."""
    return cut_after(count, script, reset=True)


def slow(script: Script, *, gap: float = 0.01, piece: int = 1) -> Script:
    """Another script, sent ``piece`` bytes at a time with ``gap`` seconds between."""

    def play(connection: Connection, request: Received) -> None:
        write = connection.write

        def dribble(data: bytes) -> None:
            for start in range(0, len(data), piece):
                write(data[start : start + piece])
                connection.pause(gap)

        connection.write = dribble
        script(connection, request)
        connection.write = write

    return play


def close_unannounced(script: Script) -> Script:
    """A reply that does not say "connection: close", and a connection that closes after it."""

    def play(connection: Connection, request: Received) -> None:
        script(connection, request)
        connection.hang_up()

    return play


def after_continues(count: int, script: Script) -> Script:
    """Another script after ``count`` times "100 Continue"."""

    def play(connection: Connection, request: Received) -> None:
        for _ in range(count):
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        script(connection, request)

    return play
