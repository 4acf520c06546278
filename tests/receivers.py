"""Real receivers of records on loopback: syslog over UDP, TCP and TLS, and HTTP with or without TLS."""

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trustme

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True)
class Certificates:
    """An authority in a file, and what its servers and clients show."""

    authority: trustme.CA
    bundle: str

    def server(self, name: str = LOOPBACK) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(context)
        return context

    def client(self, folder: Path) -> tuple[str, str]:
        """Files with a client's certificate and key."""
        leaf = self.authority.issue_cert("client@example.org")
        certificate, key = folder / "client.pem", folder / "client.key"
        leaf.cert_chain_pems[0].write_to_path(str(certificate))
        leaf.private_key_pem.write_to_path(str(key))
        return str(certificate), str(key)


def certificates(folder: Path) -> Certificates:
    authority = trustme.CA()
    bundle = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    return Certificates(authority, str(bundle))


class SyslogServer:
    """Takes messages over TCP (TLS with a context), told apart by their counts, or over UDP."""

    def __init__(
        self, *, port: int = 0, context: ssl.SSLContext | None = None, datagrams: bool = False
    ) -> None:
        self.messages: list[bytes] = []
        self.connections = 0
        self.peers: list[dict[str, Any] | None] = []
        self.faults: list[str] = []
        self._context = context
        self._open: list[socket.socket] = []
        if datagrams:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((LOOPBACK, port))
        else:
            self._socket = socket.create_server((LOOPBACK, port))
        self.port: int = self._socket.getsockname()[1]
        self.address = f"{LOOPBACK}:{self.port}"
        self._ends = False
        work = self._receive if datagrams else self._accept
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def has(self, count: int) -> bool:
        """Whether so many messages came."""
        return len(self.messages) == count

    def hang_up(self) -> None:
        """Close every connection; new ones are taken."""
        while self._open:
            sock = self._open.pop()
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def close(self) -> None:
        self._ends = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._socket.type == socket.SOCK_DGRAM:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
                waker.sendto(b"", (LOOPBACK, self.port))
        self._thread.join(10)
        self._socket.close()
        self.hang_up()

    def _receive(self) -> None:
        while not self._ends:
            try:
                data = self._socket.recv(65536)
            except OSError:
                return
            if data:
                self.messages.append(data)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._context is not None:
                wrapped = self._context.wrap_socket(sock, server_side=True)
                self.peers.append(wrapped.getpeercert())
                sock = wrapped
            self._open.append(sock)
            with sock.makefile("rb") as stream:
                while count := _count(stream):
                    self.messages.append(stream.read(count))
        except (OSError, ValueError) as error:
            self.faults.append(type(error).__name__)
        finally:
            sock.close()


def _count(stream: Any) -> int:
    """RFC 6587 section 3.4.1: digits and a blank before each message."""
    digits = b""
    while (byte := stream.read(1)) not in (b"", b" "):
        digits += byte
    return int(digits) if digits else 0


@dataclass
class Post:
    """What was posted."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class HttpReceiver:
    """Keeps what is posted and answers with ``status``, or with the statuses in ``first`` before."""

    url: str
    posts: list[Post] = field(default_factory=list)
    status: int = 200
    first: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def http_receiver(context: ssl.SSLContext | None = None, port: int = 0) -> Iterator[HttpReceiver]:
    """A receiver that runs until the block ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.posts.append(Post(self.path, dict(self.headers.items()), body))
            self.send_response(found.first.pop(0) if found.first else found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer((LOOPBACK, port), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if context is None else "https"
    found = HttpReceiver(f"{scheme}://{LOOPBACK}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
