"""Connections that go only to checked addresses, write a request at once, and can be cut from outside."""

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from msgspec import Struct
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool

from proxy.egress.addresses import Address, format_address, lookup, resolve
from proxy.egress.attempt import Attempt, here
from proxy.egress.outbound import open_tunnel
from proxy.egress.reader import StrictResponse
from proxy.egress.tls_faults import refuses_us
from proxy.errors import UpstreamError

_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)


class Pin(Struct, frozen=True):
    """What a connection may connect to: ``via_proxy`` means its host is the operator's own proxy."""

    allow_private: bool = False
    via_proxy: bool = False

    def addresses(self, host: str, port: int) -> list[Address]:
        """The addresses of ``host`` that a socket may connect to."""
        if self.via_proxy:
            return lookup(host, port)
        return resolve(host, port, allow_private=self.allow_private)


class RawAnswer:
    """An answer whose ``head`` was read strictly, and the connection its body comes over.

    It has what urllib3's pool asks of a response, and sets on it: nothing is decoded or read ahead.
    """

    retries: object = None
    version_string, length_remaining = "HTTP/1.1", None  # for urllib3's log
    _pool: HTTPConnectionPool | None = None
    _connection: "Pinned | None" = None

    def __init__(self, head: StrictResponse) -> None:
        self.head = head
        self.status = head.status
        self.headers = head.headers
        self.reason = head.reason

    def hold(self, pool: HTTPConnectionPool, connection: "Pinned") -> None:
        """Give ``connection`` back to ``pool`` when the answer is released, as ``urlopen`` arranges it."""
        self._pool = pool
        self._connection = connection

    def read1(self, most: int) -> bytes:
        """What is there of the body, at least a byte, until its end; raises ``OSError`` or ``HTTPException``."""
        piece: bytes = self.head.read1(most)
        if self.head.isclosed():
            self.release_conn()
        return piece

    def close(self) -> None:
        """Read no more: the connection of a body that has not ended serves nobody else."""
        self.head.close()
        if self._connection is not None:
            self._connection.close()

    def __del__(self) -> None:
        """Nobody holds the answer any more, closed or not."""
        if self._connection is not None:
            self.close()

    def release_conn(self) -> None:
        """Give the connection back, once."""
        pool, connection, self._connection = self._pool, self._connection, None
        if pool is not None and connection is not None:
            pool._put_conn(connection)  # type: ignore[arg-type]  # noqa: SLF001 - as urllib3's own response does


class Pinned(HTTPConnection):
    """The part that plain and TLS connections share."""

    response_class = StrictResponse
    # Set by http.client; the type stubs leave them out.
    _method: str | None
    _output: Callable[[bytes], None]
    _tunnel_headers: Mapping[str, str]

    def __init__(self, *args: Any, pin: Pin, **options: Any) -> None:
        super().__init__(*args, **options)
        self.pin = pin
        self.idle_since = 0.0
        self._address = ""
        self._attempt: Attempt | None = None
        self._guard: socket.socket | None = None
        self._body = b""

    @property
    def address(self) -> str:
        """``ip:port`` of the other end, of the outbound proxy where there is one."""
        return self._address

    def connect(self) -> None:
        """Connect, through a tunnel and with TLS as configured; a cancel ends it at any point."""
        self._attempt = attempt = here.attempt
        attempt.reused = False
        try:
            super().connect()
        finally:
            attempt.handle.detach()
            self._drop_guard()

    def _new_conn(self) -> socket.socket:
        """A TCP connection to the first checked address that takes it, within the connect timeout."""
        to = "outbound proxy" if self.pin.via_proxy else "upstream"
        here.attempt.awaits = f"the connection to the {to}"
        addresses = self.pin.addresses(self.host, self.port or 0)
        by = time.monotonic() + here.attempt.timeouts.connect
        for left in range(len(addresses), 0, -1):
            # Each address gets its share, so that a silent first one does not use up the time of all.
            seconds = max(0.001, (by - time.monotonic()) / left)
            try:
                return self._connect_to(addresses[-left], seconds)
            except OSError:
                if left == 1 or here.attempt.handle.reason is not None:
                    raise
        raise UpstreamError("resolve", f"the name {self.host!r} has no address")

    def _connect_to(self, address: Address, seconds: float) -> socket.socket:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            self._guard_with(sock)
            for option in _OPTIONS:
                sock.setsockopt(*option)
            sock.settimeout(seconds)
            sock.connect(address.sockaddr)
            self._address = _checked_peer(sock, address)
            sock.settimeout(here.attempt.timeouts.connect)
        except BaseException:
            sock.close()
            raise
        return sock

    def _tunnel(self) -> None:
        """``http.client``'s own reads for as long as the proxy likes, and quotes it."""
        attempt = here.attempt
        attempt.awaits = "the tunnel through the outbound proxy"
        name = f"[{self._tunnel_host}]" if ":" in (self._tunnel_host or "") else self._tunnel_host
        target = f"{name}:{self._tunnel_port}"
        open_tunnel(self.sock, target, self._tunnel_headers, attempt.timeouts.connect)
        self.sock.settimeout(attempt.timeouts.connect)
        attempt.awaits = "the TLS handshake"

    def _guard_with(self, sock: socket.socket) -> None:
        # A duplicate, because the TLS layer takes the descriptor out of ``sock`` before it shakes hands.
        self._drop_guard()
        self._guard = sock.dup()
        here.attempt.handle.attach(self._guard)

    def _drop_guard(self) -> None:
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> None:
        """Send head and body in one write. ``headers`` are complete and checked; nothing is added."""
        self._attempt = attempt = here.attempt
        if self.sock is None:
            self.connect()
        attempt.address = self._address
        attempt.expect_answer()
        attempt.handle.attach(self.sock)
        self.sock.settimeout(attempt.timeouts.first_byte)
        self.putrequest(method, url, skip_host=True, skip_accept_encoding=True)
        lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
        self._output("\r\n".join(lines).encode("ascii"))
        self._body = body or b""
        self.endheaders()

    def send(self, data: Any) -> None:
        """Write ``data`` and, once, the body that waits for its head."""
        body, self._body = self._body, b""
        super().send(data + body if body else data)

    def getresponse(self) -> "RawAnswer":  # type: ignore[override]
        """The answer, its head read; urllib3's own second pass over the headers is left out."""
        head = cast(StrictResponse, http.client.HTTPConnection.getresponse(self))
        return RawAnswer(head)

    def rest(self) -> None:
        """Go back to the pool; a connection whose call was cancelled does not."""
        self.idle_since = time.monotonic()
        if self._attempt is not None and self._attempt.handle.reason is not None:
            self.close()
        self._attempt = None

    def close(self) -> None:
        """Close the socket; an answer that is being read keeps it until its end."""
        attempt = self._attempt
        if attempt is not None and not attempt.answered:
            attempt.handle.detach()
        super().close()


class PinnedConnection(Pinned):
    """A plain connection, for upstreams with ``allow_private`` and for the way to a proxy."""


class PinnedTLSConnection(Pinned, HTTPSConnection):
    """A TLS connection: name checks and SNI use the configured host, whatever address is connected to."""

    def _new_conn(self) -> socket.socket:
        """See ``Pinned``; the handshake comes next, or the tunnel says that it does."""
        sock = super()._new_conn()
        here.attempt.awaits = "the TLS handshake"
        return sock

    def send(self, data: Any) -> None:
        """Write ``data``; where the upstream hangs up over it, an alert that it left behind says why."""
        try:
            super().send(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            self._hear_alert()
            raise

    def _hear_alert(self) -> None:
        # TLS 1.3: our certificate is judged after the handshake, while the request is on its way already.
        self.sock.settimeout(0)
        try:
            self.sock.recv(1)
        except OSError as error:
            if refuses_us(error):
                raise


def _checked_peer(sock: socket.socket, address: Address) -> str:
    """``ip:port`` at the other end, which must be the one that was checked."""
    peer = sock.getpeername()
    if peer[:2] != address.sockaddr[:2]:
        raise UpstreamError(
            "refused_address", "the connection leads to another address than the checked one"
        )
    return format_address(peer)
