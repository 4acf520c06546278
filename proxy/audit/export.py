"""Checkpoints on their way off the machine: to files, syslog servers and URLs, each with a bounded queue of its own.

What is sent is one signed entry of the checkpoint log, as it stands there; it names segments and digests, nothing else.
"""

import contextlib
import http.client
import logging
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import certifi

from proxy.audit.checkpoint import Stored
from proxy.audit.segment import write_whole
from proxy.audit.table import ExportEntry, syslog_target

log: Final = logging.getLogger("outgate.audit")
_MOST_WAITING: Final = 1000
_TIMEOUT: Final = 5.0
_LONGEST_PAUSE: Final = 300.0
#: RFC 5424: facility 13 (log audit), severity 5 (notice).
_PRIORITY: Final = 13 * 8 + 5
_NIL: Final = "-"


class Exporter:
    """One target. ``send`` raises ``OSError`` (or an HTTP error) when an entry did not arrive."""

    def __init__(self, label: str, send: Callable[[bytes], None]) -> None:
        self.label = label
        self.failures = 0
        self.dropped = 0
        self._send = send
        self._queue: deque[bytes] = deque()
        self._not_before = 0.0
        self._pause = 1.0

    def put(self, line: bytes) -> None:
        """Queue an entry; the oldest goes when there are too many."""
        self._queue.append(line)
        if len(self._queue) > _MOST_WAITING:
            self._queue.popleft()
            self.dropped += 1

    def pump(self, *, at_once: bool = False) -> None:
        """Send what waits, unless the last failure was just now; never raises."""
        while self._queue and (at_once or time.monotonic() >= self._not_before):
            try:
                self._send(self._queue[0])
            except (OSError, http.client.HTTPException) as error:
                self._failed(error)
                return
            self._queue.popleft()
            self._pause = 1.0

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self._not_before = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        reason = getattr(error, "strerror", None) or type(error).__name__
        log.error(
            "audit: a checkpoint did not reach %s: %s; waiting: %d",
            self.label,
            reason,
            len(self._queue),
        )


class Exporters:
    """All targets of ``audit.export``."""

    def __init__(self, entries: tuple[ExportEntry, ...]) -> None:
        self.all = [Exporter(entry.label, sender(entry)) for entry in entries]

    def put(self, stored: Stored) -> None:
        """Queue an entry for every target."""
        for exporter in self.all:
            exporter.put(stored.line)

    def pump(self, *, at_once: bool = False) -> None:
        """Send what waits."""
        for exporter in self.all:
            exporter.pump(at_once=at_once)


def sender(entry: ExportEntry) -> Callable[[bytes], None]:
    """The function that sends to one target."""
    if entry.file is not None:
        path = entry.file
        return lambda line: _to_file(path, line)
    if entry.syslog is not None:
        target = syslog_target(entry.syslog, "syslog")
        return lambda line: _to_syslog(*target, entry.ca_bundle, line)
    return lambda line: _to_url(entry, line)


def _to_file(path: str, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        write_whole(descriptor, b"\n" + line)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _to_syslog(transport: str, host: str, port: int, ca_bundle: str | None, line: bytes) -> None:
    wall = datetime.now(UTC).isoformat(timespec="milliseconds")
    head = f"<{_PRIORITY}>1 {wall} {socket.gethostname() or _NIL} outgate {os.getpid()} checkpoint {_NIL} "
    message = head.encode("ascii", "replace") + line
    if transport == "udp":
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, proto) as sock:
            sock.sendto(message, address)
        return
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection((host, port), _TIMEOUT))
        if transport == "tls":
            sock = stack.enter_context(_tls(ca_bundle).wrap_socket(sock, server_hostname=host))
        # RFC 6587 section 3.4.1: the length, a blank, the message.
        sock.sendall(b"%d %b" % (len(message), message))


def _to_url(entry: ExportEntry, line: bytes) -> None:
    parts = urlsplit(entry.url or "")
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = _tls(entry.ca_bundle)
        connection = http.client.HTTPSConnection(
            host, parts.port, timeout=_TIMEOUT, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=_TIMEOUT)
    headers = {"content-type": "application/json", "user-agent": "outgate"}
    if entry.token is not None:
        headers["authorization"] = f"Bearer {entry.token.reveal()}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with contextlib.closing(connection):
        connection.request("POST", path, body=line, headers=headers)
        status = connection.getresponse().status
        # A redirect is no success: it is never followed.
        if not 200 <= status < 300:  # noqa: PLR2004
            raise OSError(0, f"status {status}")


def _tls(ca_bundle: str | None) -> ssl.SSLContext:
    """The configured authorities or certifi's; what the environment says does not count."""
    return ssl.create_default_context(cafile=ca_bundle or certifi.where())
