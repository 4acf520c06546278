"""The server's end of one connection in tests: reads a request, writes anything."""

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

# Where the system cannot tell a hang-up without reading, any readable byte counts as one.
_HUNG_UP: Final = getattr(select, "POLLRDHUP", select.POLLIN) | select.POLLHUP | select.POLLERR


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived; header names and values are the bytes that were on the wire."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    connection: int

    def header(self, name: str) -> str | None:
        values = self.header_values(name)
        return values[0] if values else None

    def header_values(self, name: str) -> list[str]:
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]

    def json(self) -> Any:
        return json.loads(self.body)


def says_more(sock: socket.socket, seconds: float) -> bool:
    """Whether something can be read, its end included; unlike ``select.select``, of any number of descriptors."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class HangUp(Exception):
    """Ends the connection at once; with ``reset`` the peer sees RST instead of FIN."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class Connection:
    """The server's end of one connection, as scripts use it."""

    def __init__(self, sock: socket.socket, number: int, gate: int) -> None:
        self.number = number
        self.write: Callable[[bytes], None] = sock.sendall
        self._socket = sock
        self._file = sock.makefile("rb")
        self._gate = gate

    def send(self, data: bytes) -> None:
        self.write(data)

    def hang_up(self, *, reset: bool = False) -> NoReturn:
        raise HangUp(reset=reset)

    def pause(self, seconds: float) -> None:
        """Let time pass; ends the connection as soon as the peer does."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._socket.fileno() in self._ready([], left):
                self.hang_up()

    def wait(self) -> None:
        """Until the test releases us; ends the connection as soon as the peer does."""
        while True:
            ready = self._ready([self._gate], None)
            if self._socket.fileno() in ready:
                self.hang_up()
            # Another waiter may have been faster.
            with contextlib.suppress(BlockingIOError):
                os.read(self._gate, 1)
                return

    def _ready(self, more: list[int], seconds: float | None) -> set[int]:
        poll = select.poll()
        poll.register(self._socket, _HUNG_UP)
        for descriptor in more:
            poll.register(descriptor, select.POLLIN)
        return {fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)}

    def read_request(self) -> Received | None:
        """The next request, or None when the peer has closed the connection."""
        line = self._file.readline()
        if not line.endswith(b"\n"):
            return None
        method, path, _ = line.decode("latin-1").split(" ", 2)
        headers = list(self._read_headers())
        return Received(method, path, headers, self._read_body(headers), self.number)

    def _read_headers(self) -> Iterator[tuple[bytes, bytes]]:
        while (line := self._file.readline()) not in {b"\r\n", b"\n", b""}:
            name, _, value = line.partition(b":")
            yield name, value.strip(b" \t\r\n")

    def _read_body(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        values = {name.lower(): value for name, value in headers}
        if values.get(b"transfer-encoding", b"").lower() == b"chunked":
            return b"".join(self._read_chunks())
        return self._file.read(int(values.get(b"content-length", b"0")))

    def _read_chunks(self) -> Iterator[bytes]:
        while size := int(self._file.readline().split(b";")[0], 16):
            yield self._file.read(size)
            self._file.readline()
        list(self._read_headers())

    def close(self, *, reset: bool = False) -> None:
        with contextlib.suppress(OSError):
            if reset:
                linger = struct.pack("ii", 1, 0)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            else:
                self._socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()

    def interrupt(self) -> None:
        """End the connection from another thread."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
