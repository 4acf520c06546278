"""Raw-socket upstreams on loopback that say exactly the bytes a test gives them."""

import contextlib
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from proxy.model import Limits, Timeouts, Upstream

Script = Callable[[socket.socket, bytes], None]


class Server:
    """Runs ``script(connection, request)`` for each request until it raises or closes the connection."""

    def __init__(
        self, script: Script, context: ssl.SSLContext | None = None, family: int = socket.AF_INET
    ) -> None:
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self._listener = socket.create_server((host, 0), family=family, backlog=256)
        self._context = context
        self._script = script
        self._open: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.connections = 0
        self.gone = threading.Semaphore(0)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            self._open.append(sock)
            while request := read_request(sock):
                self.requests.append(request)
                self._script(sock, request)
        except OSError:
            pass
        finally:
            sock.close()
            self.gone.release()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


def read_request(sock: socket.socket) -> bytes:
    """One request with its body; empty when the peer is gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line[15:])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ),
        0,
    )
    while len(body) < length:
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


@contextlib.contextmanager
def serving(
    script: Script, context: ssl.SSLContext | None = None, family: int = socket.AF_INET
) -> Iterator[Server]:
    server = Server(script, context, family)
    try:
        yield server
    finally:
        server.close()


def says(answer: bytes, *, then_close: bool = True) -> Script:
    """A script that answers every request with ``answer``."""

    def script(sock: socket.socket, _: bytes) -> None:
        sock.sendall(answer)
        if then_close:
            raise ConnectionAbortedError

    return script


def ok(body: bytes, *fields: bytes) -> bytes:
    """A complete 200 answer with a length."""
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def silent(sock: socket.socket, _: bytes) -> None:
    """A script that never answers; it returns when the other side is gone."""
    sock.recv(1)
    raise ConnectionAbortedError


def upstream_at(port: int, **changes: object) -> Upstream:
    """A private upstream on loopback."""
    settings: dict[str, object] = {
        "name": "test",
        "provider": "openai",
        "base_url": f"http://127.0.0.1:{port}/v1",
        "allow_private": True,
        "timeouts": Timeouts(connect=5, first_byte=10, idle=10, total=30),
    }
    return Upstream(**(settings | changes))  # type: ignore[arg-type]


LIMITS = Limits()


def run_apart(code: str) -> None:
    """Run a script in an interpreter of its own: it forks, and this process has too many threads for that."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def open_descriptors() -> int:
    """How many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
