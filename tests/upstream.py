"""A real HTTP/1.1 server on loopback that answers as a test tells it to, faults included.

A script is a callable that acts on the connection once a request was read whole:

    with ScriptedUpstream(json_reply({"ok": True}), cut_after(10, sse(["a", "b"]))) as upstream:
        ...  # the first request is answered in full, every later one is cut after 10 bytes
    assert upstream.requests[0].header("authorization") == "Bearer sk-1"

``cut_after``, ``rst_after``, ``slow`` and ``close_unannounced`` change how another one is played.
"""

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from tests.connection import Connection, HangUp, Received
from tests.scripts import (
    WAIT,
    Event,
    Repeated,
    Script,
    Wait,
    after_continues,
    close_unannounced,
    cut_after,
    garbage,
    hang_up,
    huge,
    json_reply,
    raw,
    reply,
    rst,
    rst_after,
    silent,
    slow,
    sse,
    sse_event,
    stream,
)

__all__ = [
    "WAIT",
    "Connection",
    "Event",
    "Received",
    "Repeated",
    "Script",
    "ScriptedUpstream",
    "Wait",
    "after_continues",
    "close_unannounced",
    "cut_after",
    "garbage",
    "hang_up",
    "huge",
    "json_reply",
    "raw",
    "reply",
    "rst",
    "rst_after",
    "silent",
    "slow",
    "sse",
    "sse_event",
    "stream",
]


class ScriptedUpstream:
    """The server: the n-th request is answered by the n-th script, later ones by the last.

    ``requests`` holds what was received, in order; ``connections`` counts all that were accepted,
    ``open_connections`` those that neither side has closed.
    """

    def __init__(
        self, *scripts: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self._scripts = scripts or (json_reply({}),)
        self._host = host
        self._tls = tls
        self._changed = threading.Condition()
        self._open: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._gate, self._gate_in = -1, -1
        self.connections = 0
        self.requests: list[Received] = []

    @property
    def url(self) -> str:
        """Scheme, host and port, without a path."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def open_connections(self) -> int:
        with self._changed:
            return len(self._open)

    def wait_for(self, predicate: Callable[[], bool], timeout: float = 10) -> None:
        """Until ``predicate`` holds; looked at after every request, opening and closing."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not predicate():
                # A predicate may also look at what we do not know of, hence the short steps.
                self._changed.wait(0.05)
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"not within {timeout} s: {len(self.requests)} requests,"
                        f" {self.connections} connections, {len(self._open)} of them open"
                    )

    def play(self, *scripts: Script) -> None:
        """Forget the requests so far and answer the coming ones by these scripts."""
        with self._changed:
            self._scripts = scripts
            self.requests.clear()

    def release(self, waiters: int | None = None) -> None:
        """Let some of those that wait go on; without a number all, now and later."""
        if waiters is not None:
            os.write(self._gate_in, b"." * waiters)
        elif self._gate_in >= 0:
            os.close(self._gate_in)
            self._gate_in = -1

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listener = socket.create_server((self._host, 0), family=family, backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._gate, self._gate_in = os.pipe()
        os.set_blocking(self._gate, False)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self.release()
        # Closing a listener wakes nobody who waits in accept; a connection does, on every system.
        socket.create_connection((self._host, self.port)).close()
        with self._changed:
            for connection in self._open:
                connection.interrupt()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()
        os.close(self._gate)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._stopping:
                sock.close()
                return
            with self._changed:
                self.connections += 1
                number = self.connections
            self._start(self._serve, sock, number)

    def _serve(self, sock: socket.socket, number: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
        except OSError:
            sock.close()
            return
        connection = Connection(sock, number, self._gate)
        with self._changed:
            self._open.add(connection)
            self._changed.notify_all()
        reset = False
        try:
            self._converse(connection)
        except HangUp as end:
            reset = end.reset
        except OSError:
            pass
        finally:
            connection.close(reset=reset)
            with self._changed:
                self._open.discard(connection)
                self._changed.notify_all()

    def _converse(self, connection: Connection) -> None:
        while (request := connection.read_request()) and not self._stopping:
            with self._changed:
                self.requests.append(request)
                script = self._scripts[min(len(self.requests), len(self._scripts)) - 1]
                self._changed.notify_all()
            script(connection, request)
