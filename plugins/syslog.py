"""One syslog message for each call (RFC 5424): over TLS (RFC 5425), TCP (RFC 6587, counted) or UDP (RFC 5426)."""

import contextlib
import os
import re
import select
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from proxy import ConfigError, Outbox, Record, hookimpl, record_line, tls_context

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::([0-9]{1,5}))?\Z")
_PORTS = {"tls": 6514, "tcp": 601, "udp": 514}
_NAME = re.compile(r"[!-~]{1,48}\Z")
_LONGEST_HOST = 255
#: RFC 5424 section 6.2.1; those that a service may use.
_FACILITIES = {
    "user": 1, "daemon": 3, "auth": 4, "authpriv": 10, "audit": 13, "local0": 16, "local1": 17,
    "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23,
}  # fmt: skip
_ERROR, _WARNING, _NOTICE, _INFORMATIONAL = 3, 4, 5, 6
_SEVERITIES = {"ok": _INFORMATIONAL, "client_gone": _INFORMATIONAL, "denied": _NOTICE}
_SERVER_ERROR = 500
#: What a datagram can do without, the least needed first.
_SPARED = (
    "verdicts",
    "notes",
    "failures",
    "findings",
    "groups",
    "finish_reasons",
    "upstream_request_id",
)
Transport = Literal["tls", "tcp", "udp"]
Facility = Literal[
    "user", "daemon", "auth", "authpriv", "audit", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
]  # fmt: skip


@dataclass(frozen=True)
class Syslog:
    """``address`` is ``host`` or ``host:port``; the message is the record as JSON.

    Messages wait in memory, ``most`` of them, while the receiver is away. Over UDP nobody knows what arrived, and
    a record that is larger than ``datagram_bytes`` goes without its details.
    """

    address: str
    transport: Transport = "tls"
    facility: Facility = "local0"
    app_name: str = "outgate"
    hostname: str | None = None
    ca_bundle: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    timeout: float = 5.0
    datagram_bytes: int = 2048
    most: int = 10_000
    _outbox: Outbox = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """An address or a name that no message can carry stops the start."""
        found = _ADDRESS.match(self.address)
        if found is None:
            raise ConfigError(f'address {self.address!r}: write "host" or "host:port"')
        for name in filter(None, (self.app_name, self.hostname)):
            if not _NAME.match(name):
                raise ConfigError(
                    f"{name!r}: a name is 1 to 48 printable ASCII characters, no blanks"
                )
        certificates = self.ca_bundle or self.client_cert or self.client_key
        if certificates and self.transport != "tls":
            raise ConfigError(
                f'transport {self.transport!r} knows no certificates: write "tls", or remove them'
            )
        context = (
            tls_context(self.ca_bundle, self.client_cert, self.client_key)
            if self.transport == "tls"
            else None
        )
        where = found[1].strip("[]"), int(found[2] or _PORTS[self.transport])
        line = _Line(where, context, self.timeout, datagrams=self.transport == "udp")
        object.__setattr__(self, "_outbox", Outbox("syslog", line.send, most=self.most))

    @hookimpl
    def log_exchange(self, record: Record, required: bool) -> None:
        """Put the message into the queue; while the receiver is away, a required sink raises ``Undelivered``."""
        self._outbox.put(self._message(record), must=required)

    def _message(self, record: Record) -> bytes:
        severity = _SEVERITIES.get(record.outcome, _WARNING)
        if record.status >= _SERVER_ERROR and record.outcome == "denied":
            severity = _ERROR
        priority = _FACILITIES[self.facility] * 8 + severity
        host = (self.hostname or socket.gethostname() or "-")[:_LONGEST_HOST]
        head = (
            f"<{priority}>1 {record.time} {host} {self.app_name} {os.getpid()} {record.outcome} - "
        )
        text = head.encode("ascii", "replace") + record_line(record).rstrip()
        if self.transport != "udp":
            return b"%d %s" % (len(text), text)
        spared = iter(_SPARED)
        while len(text) > self.datagram_bytes and (name := next(spared, None)):
            record = _without(record, name)
            text = head.encode("ascii", "replace") + record_line(record).rstrip()
        return text[: self.datagram_bytes]


class _Line:
    """The connection to the receiver, used by one thread and made anew when it is found dead."""

    def __init__(
        self,
        where: tuple[str, int],
        context: ssl.SSLContext | None,
        timeout: float,
        *,
        datagrams: bool,
    ) -> None:
        self._where = where
        self._context = context
        self._timeout = timeout
        self._datagrams = datagrams
        self._socket: socket.socket | None = None
        self._pid = 0

    def send(self, messages: Sequence[bytes]) -> None:
        """Send all of them; raises ``OSError``, after which some may have arrived."""
        if self._pid != os.getpid() or self._is_dead():
            self._close()
        try:
            if self._socket is None:
                self._socket, self._pid = self._connected(), os.getpid()
            if self._datagrams:
                for message in messages:
                    self._socket.send(message)
            else:
                self._socket.sendall(b"".join(messages))
        except OSError:
            self._close()
            raise

    def _connected(self) -> socket.socket:
        host, port = self._where
        if self._datagrams:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            found = socket.socket(family, kind)
            # Connected, so that a machine where nobody listens can say so.
            found.connect(address)
            return found
        plain = socket.create_connection(self._where, self._timeout)
        if self._context is None:
            return plain
        try:
            return self._context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise

    def _is_dead(self) -> bool:
        """Whether the receiver hung up: what is written then is taken, and lost.

        A receiver sends nothing but TLS's own messages, so whatever else can be read is the end.
        """
        if self._socket is None or self._datagrams:
            return False
        poll = select.poll()  # unlike select.select, it takes a descriptor of any number
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(0):
            return False
        self._socket.settimeout(0)
        try:
            return not self._socket.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            return True
        finally:
            self._socket.settimeout(self._timeout)

    def _close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
        self._socket = None


def _without(record: Record, name: str) -> Record:
    empty: dict[str, Any] = {"notes": {}, "upstream_request_id": None}
    return msgspec.structs.replace(record, **{name: empty.get(name, ())})
