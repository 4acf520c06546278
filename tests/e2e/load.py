"""Many callers at once, the upstream they load, and what the kernel says of a worker."""

import asyncio
import contextlib
import json
import re
import socket
import struct
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.e2e.stack import ALICE_KEY, PATIENCE, Stack, running

_TEXT: Final = re.compile(rb'"text": ?"[^"]')
_STAMP: Final = re.compile(rb'"text": ?" ([a-p]{16})"')
_DIGITS: Final = bytes.maketrans(b"abcdefghijklmnop", b"0123456789abcdef")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]+)\r\n")
_LAST_CHUNK: Final = b"0\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: ([0-9]+)", re.IGNORECASE)
# More reads than a short reply needs: it is a stream then, and not looked at again and again.
_FEW: Final = 4
_DONE: Final = b"data: [DONE]\n\n"
_NANO: Final = 1e9
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class LoadUpstream:
    """The upstream of the benchmark in a process of its own, so that it shares nobody's interpreter lock."""

    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def state(self) -> dict[str, int]:
        """``open`` connections and ``calls`` so far."""
        with _OPENER.open(f"{self.url}/state", timeout=PATIENCE) as answer:
            found: dict[str, int] = json.loads(answer.read())
            return found


@contextmanager
def running_upstream(folder: Path) -> Iterator[LoadUpstream]:
    log = folder / "upstream.log"
    with running([sys.executable, "bench/upstream.py"], log, {}):
        eventually(lambda: log.read_text().endswith("\n"))
        yield LoadUpstream(log.read_text().strip())


def eventually(holds: Callable[[], Any], patience: float = PATIENCE) -> float:
    """Wait until ``holds()``; returns the seconds that took, raises ``TimeoutError``."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > patience:
            raise TimeoutError(f"not within {patience} s")
        time.sleep(0.02)
    return time.monotonic() - started


def call(model: str, *, stream: bool = True, path: str = "/v1/completions") -> bytes:
    """A request as alice sends it."""
    body = json.dumps({"model": model, "prompt": "x", "stream": stream}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: load\r\nauthorization: Bearer {ALICE_KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: load\r\n\r\n".encode()


def address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


@dataclass(slots=True)
class Stream:
    """What one caller received: every read with its moment, and how the connection ended."""

    reads: list[tuple[int, bytes]] = field(default_factory=list)
    sent: int = 0
    fault: str | None = None

    @property
    def data(self) -> bytes:
        return b"".join(piece for _, piece in self.reads)

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        """What the chunks that came hold."""
        data, found = self.data.partition(b"\r\n\r\n")[2], []
        while (size := _CHUNK.match(data)) and (length := int(size[1], 16)):
            found.append(data[size.end() : size.end() + length])
            data = data[size.end() + length + 2 :]
        return b"".join(found)

    @property
    def events(self) -> int:
        return len(_TEXT.findall(self.body))

    @property
    def is_framed(self) -> bool:
        """Whether the reply ended as HTTP ends one, and was not cut."""
        return b"".join(piece for _, piece in self.reads[-2:]).endswith(b"\r\n" + _LAST_CHUNK)

    @property
    def is_whole(self) -> bool:
        """Whether this is a reply with a length, and all of it came."""
        if len(self.reads) > _FEW:
            return False
        head, _, body = self.data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return length is not None and len(body) >= int(length[1])

    @property
    def is_done(self) -> bool:
        return self.is_framed and self.body.endswith(_DONE)

    @property
    def error(self) -> dict[str, Any] | None:
        """The error of the last event, if that is what it holds."""
        last = self.body.removesuffix(b"\n\n").rpartition(b"\n\n")[2].removeprefix(b"data: ")
        with contextlib.suppress(ValueError):
            found: dict[str, Any] | None = json.loads(last).get("error")
            return found
        return None

    def first_byte(self) -> float:
        """Seconds from the request to the first event."""
        return next((at - self.sent) / _NANO for at, piece in self.reads if b"data:" in piece)

    def delays(self) -> list[float]:
        """Seconds from the upstream's write to this caller's read, for each event."""
        return [
            (at - int(stamp.translate(_DIGITS), 16)) / _NANO
            for at, piece in self.reads
            for stamp in _STAMP.findall(piece)
        ]


async def _receive(where: tuple[str, int], request: bytes, stream: Stream) -> None:
    try:
        reader, writer = await asyncio.open_connection(*where)
    except OSError as error:
        stream.fault = str(error)
        return
    stream.sent = time.monotonic_ns()
    writer.write(request)
    try:
        while piece := await reader.read(65_536):
            stream.reads.append((time.monotonic_ns(), piece))
            # The last chunk often comes by itself.
            if (piece.endswith(_LAST_CHUNK) and stream.is_framed) or stream.is_whole:
                break
    except OSError as error:
        stream.fault = str(error)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def receive(
    url: str, requests: Sequence[bytes], meanwhile: Callable[[Sequence[Stream]], None]
) -> list[Stream]:
    """Send all requests at once and read every answer to its end; ``meanwhile`` runs in a thread beside it."""
    streams = [Stream() for _ in requests]

    async def everything() -> None:
        # The first that fails ends them all.
        async with asyncio.timeout(2 * PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(meanwhile, streams))
            for request, stream in zip(requests, streams, strict=True):
                group.create_task(_receive(address(url), request, stream))

    asyncio.run(everything())
    return streams


def begun(streams: Sequence[Stream]) -> bool:
    """Whether every stream has had its first event."""
    return all(any(b"data:" in piece for _, piece in stream.reads) for stream in streams)


class Caller:
    """One connection that is used byte by byte."""

    def __init__(self, url: str) -> None:
        self.socket = socket.create_connection(address(url), timeout=PATIENCE)
        self.data = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, request: bytes) -> None:
        self.data = b""
        self.socket.sendall(request)

    def read(self) -> bool:
        """One read; whether the connection goes on."""
        piece = self.socket.recv(65_536)
        self.data += piece
        return bool(piece)

    def read_until(self, text: bytes) -> None:
        while text not in self.data:
            if not self.read():
                raise ConnectionError(f"closed before {text!r}: {self.data[-500:]!r}")

    def exchange(self, request: bytes) -> bytes:
        """The answer to a request whose answer has a length."""
        self.send(request)
        self.read_until(b"\r\n\r\n")
        head, _, body = self.data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length is not None, self.data
        while len(body) < int(length[1]) and self.read():
            body = self.data.partition(b"\r\n\r\n")[2]
        return self.data

    def hang_up(self, *, reset: bool = False) -> None:
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


def ask(url: str, request: bytes) -> bytes:
    """The answer to one request on a connection of its own."""
    with Caller(url) as caller:
        return caller.exchange(request)


def workers(stack: Stack) -> list[int]:
    """The process ids of gunicorn's workers."""
    pid = stack.gunicorn.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory(pid: int) -> dict[str, int]:
    """``Pss`` and ``Rss`` of a process, in bytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {
        name: int(size) * 1024
        for name, size in re.findall(r"^(Pss|Rss): +(\d+) kB", text, re.MULTILINE)
    }


def sockets_to(pid: int, port: int) -> int:
    """How many TCP sockets of a process lead to a port, in whatever state."""
    own = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            own.add(str(link.readlink()))
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(row[2].endswith(f":{port:04X}") and f"socket:[{row[9]}]" in own for row in rows)


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
