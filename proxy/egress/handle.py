"""Ends one call from outside: whoever waits in its socket, or for its next try, wakes up at once."""

import contextlib
import socket
import threading
from typing import Literal, TypeAlias

from proxy.errors import OutgateError

Reason: TypeAlias = Literal["client_gone", "deadline", "draining"]


class Cancelled(OutgateError):
    """The call was ended before its next step; ``reason`` says by what."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Handle:
    """Lets another thread end one call's upstream connection.

    ``reason`` is None until the call is cancelled; the first one stays. ``watch`` is the watcher's.
    """

    __slots__ = ("_lock", "_parts", "_sock", "_woken", "reason", "watch")

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._parts: list[Handle] = []
        self._woken: threading.Event | None = None
        self.watch: Watch | None = None

    def part(self) -> "Handle":
        """A handle of its own for a part of this call, which is cancelled with it."""
        with self._lock:
            self._parts.append(made := Handle())
            made.reason = self.reason
        return made

    def attach(self, sock: socket.socket) -> None:
        """Name the socket the call now depends on, in place of any earlier one.

        Raises ``Cancelled`` when the call was cancelled already; the socket is shut down.
        """
        with self._lock:
            self._sock = sock
            if self.reason is not None:
                _shut(sock)
                raise Cancelled(self.reason)

    def detach(self) -> None:
        """Forget the socket: from here on it may belong to another call."""
        with self._lock:
            self._sock = None

    def cancel(self, reason: Reason) -> None:
        """End the call: a thread that waits in the attached socket wakes up at once."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
                for part in self._parts:
                    part.cancel(reason)
                if self._sock is not None:
                    _shut(self._sock)
                if self._woken is not None:
                    self._woken.set()

    def pause(self, seconds: float) -> None:
        """Wait before the next try; raises ``Cancelled`` as soon as the call is cancelled."""
        with self._lock:
            self._woken = woken = threading.Event()
            reason = self.reason
        if reason is None and woken.wait(seconds):
            reason = self.reason
        if reason is not None:
            raise Cancelled(reason)

    def set_read_timeout(self, seconds: float) -> None:
        """The longest silence, in seconds, that a read on the attached socket bears."""
        with self._lock:
            if self._sock is not None:
                self._sock.settimeout(seconds)


class Watch:
    """What the watcher knows of one handle; ``fd`` is its own duplicate of the client's socket."""

    __slots__ = ("active", "deadline", "fd", "handle")

    def __init__(self, handle: Handle, fd: int | None, deadline: float | None) -> None:
        self.handle = handle
        self.fd = fd
        self.deadline = deadline
        self.active = True


def _shut(sock: socket.socket) -> None:
    # The base-class method: SSLSocket.shutdown would drop the TLS state under the feet of a reader.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
