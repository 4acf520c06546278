"""The load: raw sockets and one selector in one thread, so that it costs less than what it measures."""

import json
import re
import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import Final

from upstream import moment

_LENGTH: Final = re.compile(rb"\r\ncontent-length: ?([0-9]+)", re.IGNORECASE)
_EVENT: Final = re.compile(rb'"(?:text|content)": ?"([^"]*)"')
_STAMP: Final = re.compile(rb" ([a-p]{16})")
_HEAD_END: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_PROMPT_BYTES: Final = 900
#: Seconds between the beginnings of two streams.
_APART: Final = 0.005
_LONGEST_EVENT: Final = 1024
_NANO: Final = 1e9


def request(
    model: str, key: str, *, stream: bool, size: int = _PROMPT_BYTES, headers: str = ""
) -> bytes:
    """A call with a prompt of so many bytes; ``headers`` are lines that go with it."""
    body = {"model": model, "prompt": "lorem ipsum " * (size // 12), "max_tokens": 100}
    data = json.dumps({**body, "temperature": 0.5, "stream": stream}).encode()
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    head = (
        "POST /v1/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        f"{headers}{authorization}content-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


@dataclass(slots=True)
class Caller:
    """One connection that sends the next call when it has the answer to the last."""

    sock: socket.socket
    started: float = 0.0
    buffer: bytes = b""
    shown: bytes = b""
    total: int = 0
    chunked: bool = False

    def send(self, data: bytes) -> None:
        """Begin a call."""
        self.buffer, self.total = b"", 0
        self.started = time.perf_counter()
        self.sock.sendall(data)

    def receive(self) -> bool:
        """Read what came; whether the answer is complete."""
        piece = self.sock.recv(65_536)
        if not piece:
            raise ConnectionError(f"the target closed the connection: {self.buffer[:300]!r}")
        self.buffer += piece
        if not self.total:
            end = self.buffer.find(_HEAD_END)
            if end < 0:
                return False
            if not self.buffer.startswith(b"HTTP/1.1 200 "):
                raise ConnectionError(f"not answered: {self.buffer[:500]!r}")
            length = _LENGTH.search(self.buffer, 0, end)
            self.chunked = length is None
            self.total = end + len(_HEAD_END) + (int(length[1]) if length else 0)
        if self.chunked:
            return self.buffer.endswith(_LAST_CHUNK)
        return len(self.buffer) >= self.total


def _connect(
    address: tuple[str, int], count: int
) -> tuple[selectors.DefaultSelector, list[Caller]]:
    selector = selectors.DefaultSelector()
    callers = []
    for _ in range(count):
        sock = socket.create_connection(address, timeout=30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        callers.append(Caller(sock))
        selector.register(sock, selectors.EVENT_READ, callers[-1])
    return selector, callers


def complete(
    address: tuple[str, int], data: bytes, concurrency: int, seconds: float
) -> list[float]:
    """Whole calls for some time; returns how long each took, in seconds."""
    selector, callers = _connect(address, concurrency)
    times: list[float] = []
    until = time.perf_counter() + seconds
    for caller in callers:
        caller.send(data)
    active = concurrency
    while active:
        for ready, _ in selector.select(30):
            if not ready.data.receive():
                continue
            now = time.perf_counter()
            times.append(now - ready.data.started)
            if now < until:
                ready.data.send(data)
            else:
                active -= 1
    _close(selector, callers)
    return times


@dataclass(slots=True)
class Streams:
    """What many streams brought: events, delays and first events in seconds."""

    events: int = 0
    complete: int = 0
    seconds: float = 0.0
    delays: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)


def stream(address: tuple[str, int], data: bytes, concurrency: int) -> Streams:
    """Streams that begin one after the other, read to their ends; events carry the moment they were sent."""
    selector, callers = _connect(address, concurrency)
    waiting = list(callers)
    begun: dict[socket.socket, int] = {}
    started = time.perf_counter()
    found = Streams()
    while selector.get_map():
        if waiting and time.perf_counter() - started >= _APART * len(begun):
            caller = waiting.pop()
            caller.send(data)
            begun[caller.sock] = time.monotonic_ns()
        for ready, _ in selector.select(_APART / 2 if waiting else 30):
            piece = ready.data.sock.recv(65_536)
            now = time.monotonic_ns()
            text = ready.data.buffer + piece
            # Who searches a stream may hold a part of a word back until it knows the rest.
            shown = ready.data.shown + b"".join(_EVENT.findall(text))
            stamps = _STAMP.findall(shown)
            if stamps and (since := begun[ready.data.sock]):
                found.firsts.append((now - since) / _NANO)
                begun[ready.data.sock] = 0
            found.events += len(stamps)
            found.delays += [(now - moment(stamp)) / _NANO for stamp in stamps]
            ready.data.shown = _STAMP.split(shown)[-1]
            # A read may end within an event: what follows the last whole one is looked at again.
            ready.data.buffer = _EVENT.split(text)[-1][-_LONGEST_EVENT:]
            if text.endswith(_LAST_CHUNK) or not piece:
                found.complete += bool(piece)
                selector.unregister(ready.fileobj)
    found.seconds = time.perf_counter() - started
    _close(selector, callers)
    return found


def _close(selector: selectors.DefaultSelector, callers: list[Caller]) -> None:
    selector.close()
    for caller in callers:
        caller.sock.close()
