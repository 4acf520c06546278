"""Connections to a service that is asked about calls: kept open, and shared by the threads of a process."""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final, TypeVar

from msgspec import Struct

from proxy.connection import Connection, left
from proxy.errors import ConfigError
from proxy.posting import LOOPBACK, tls_context

T = TypeVar("T")
_WEB: Final = MappingProxyType({"http": 80, "https": 443})
#: Seconds between two attempts to reach a service.
_PAUSE: Final = 0.05


class Where(Struct, frozen=True):
    """The parts of a service's URL."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Pool:
    """The connections of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.idle: list[Connection] = []
        self.lent = 0
        self.changed = threading.Condition()


class Connections:
    """Connections to the host of ``url``, for questions of several threads; ``limit`` of them per process.

    ``ports`` are the schemes that ``url`` may have, the plain one first, with the ports that go without saying.
    Raises ``ConfigError`` for any other URL, and for a plain one that leaves this machine, unless ``allow_plain``.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_bundle: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        allow_plain: bool = False,
        plain_option: str = "allow_http",
        ports: Mapping[str, int] = _WEB,
        limit: int = 64,
    ) -> None:
        self.where = _parsed(url, ports)
        self.limit = limit
        plain, secure = ports
        if self.where.scheme == plain and self.where.host not in LOOPBACK and not allow_plain:
            raise ConfigError(
                f"url: calls would cross the network in plain text: write {secure}://, or {plain_option} = true"
            )
        self._context = (
            tls_context(ca_bundle, client_cert, client_key) if self.where.scheme == secure else None
        )
        self._pool = _Pool()

    def ask(self, question: Callable[[Connection], T], *, seconds: float, retries: int = 0) -> T:
        """What ``question`` makes of a connection, ``seconds`` from now at the latest; raises ``OSError``.

        A connection that was kept and died is replaced once; ``retries`` more follow where the service cannot be
        reached or hangs up before it says anything. What it says, and its silence, is final.
        """
        deadline = time.monotonic() + seconds
        kept = True
        with self._place(deadline) as pool:
            while True:
                connection = self._idle(pool) if kept else None
                try:
                    connection = connection or self._opened(deadline)
                    connection.lend(deadline)
                    return question(connection)
                except ConnectionError:
                    if connection is not None and connection.answered:
                        raise
                    if connection is None or not connection.reused:
                        retries -= 1
                        if retries < 0:
                            raise
                        time.sleep(min(_PAUSE, left(deadline)))
                    kept = False
                finally:
                    if connection is not None and connection.may_stay():
                        pool.idle.append(connection)

    @contextmanager
    def _place(self, deadline: float) -> Iterator[_Pool]:
        """One of ``limit`` places."""
        if self._pool.pid != os.getpid():
            self._pool = _Pool()
        pool = self._pool
        with pool.changed:
            if not pool.changed.wait_for(lambda: pool.lent < self.limit, left(deadline)):
                raise TimeoutError("all connections are in use")
            pool.lent += 1
        try:
            yield pool
        finally:
            with pool.changed:
                pool.lent -= 1
                pool.changed.notify()

    def _idle(self, pool: _Pool) -> Connection | None:
        while True:
            try:
                connection = pool.idle.pop()
            except IndexError:
                return None
            if connection.is_alive():
                return connection
            connection.close()

    def _opened(self, deadline: float) -> Connection:
        host, port = self.where.host, self.where.port
        fault: OSError = ConnectionRefusedError("it has no address")
        for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind)
            try:
                sock.settimeout(left(deadline))
                sock.connect(address)
                # Head and body go apart; the second must not wait for the first to be confirmed.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._context is not None:
                    sock.settimeout(left(deadline))
                    sock = self._context.wrap_socket(sock, server_hostname=host)
            except OSError as error:
                sock.close()
                fault = error
            else:
                return Connection(sock)
        raise fault


def _parsed(url: str, ports: Mapping[str, int]) -> Where:
    from proxy.egress.addresses import (
        parse_base_url,
    )  # loads the HTTP client, which most commands do without

    scheme, _, rest = url.partition("://")
    plain, secure = ports
    web = {plain: "http", secure: "https"}.get(scheme, "none")
    try:
        base = parse_base_url(f"{web}://{rest}", allow_http=True)
    except ConfigError as error:
        told = str(error).replace("a base URL", "this URL").replace("https://", f"{secure}://")
        raise ConfigError(f"url: {told}") from None
    said = re.match(r"(\[[^]]*\]|[^:/]*):", rest)
    return Where(scheme, base.host, base.port if said else ports[scheme], base.path)
