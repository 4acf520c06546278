"""One connection to a service that is asked about calls: whatever it does, nobody waits beyond the deadline."""

import contextlib
import select
import socket
import ssl
import time
import weakref
from typing import Final

_PIECE: Final = 16 * 1024
#: What a service may say before it has heard the whole question.
_MOST_AHEAD: Final = 64 * 1024 * 1024
#: Seconds; routers forget a connection that is silent for longer, and tell nobody.
_LONGEST_IDLE: Final = 30.0
_WAITS: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def left(deadline: float) -> float:
    """Seconds until ``deadline``; raises ``TimeoutError`` where there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("its time is over")
    return seconds


class Connection:
    """One connection, lent to one thread for one question; every wait raises ``TimeoutError`` at the deadline.

    Whoever asks sets ``keep`` when the answer was read to its end and the service leaves the connection open.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.keep = False
        self.reused = False
        #: Whether anything came in answer to this question.
        self.answered = False
        self._socket = sock
        # Also where nobody asks the service any more, and its connections are forgotten.
        self._end = weakref.finalize(self, sock.close)
        self._deadline = 0.0
        self._since = 0.0
        self._waiting = bytearray()
        self._broken = False

    def sendall(self, data: bytes) -> None:
        """Send all of it, and take what comes meanwhile: a service may answer before it heard everything."""
        view = memoryview(data)
        self._socket.settimeout(0)
        try:
            while view:
                try:
                    view = view[self._socket.send(view[:_PIECE]) :]
                except _WAITS:
                    self._wait()
                    self._take()
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self._broken = True
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                self._take()
            if not self._waiting:
                raise ConnectionResetError("it hung up before it heard everything") from None

    def readline(self, most: int = -1) -> bytes:
        """A line with its end; shorter where it ends at ``most`` bytes, or with the connection."""
        while (end := self._waiting.find(b"\n")) < 0 and not 0 <= most <= len(self._waiting):
            if not self._more():
                break
        length = end + 1 if end >= 0 else len(self._waiting)
        return self._taken(length if most < 0 else min(length, most))

    def read(self, count: int) -> bytes:
        """So many bytes; fewer where the connection ends."""
        while len(self._waiting) < count and self._more():
            pass
        return self._taken(count)

    def close(self) -> None:
        """End it."""
        self.keep = False
        self._broken = True
        with contextlib.suppress(OSError):
            self._end()

    def lend(self, deadline: float) -> None:
        """Let it be used until ``deadline`` (monotonic)."""
        self.keep = self.answered = False
        self._deadline = deadline

    def may_stay(self) -> bool:
        """Whether another question can go over it; ends it if not."""
        if self.keep and not self._broken and not self._waiting:
            self.reused, self._since = True, time.monotonic()
            return True
        self.close()
        return False

    def is_alive(self) -> bool:
        """Whether nothing came since it was used last: what comes unasked is its end, or answers no question."""
        if time.monotonic() - self._since > _LONGEST_IDLE:
            return False
        self._socket.settimeout(0)
        try:
            self._socket.recv(1)
        except _WAITS:
            return True
        except OSError:
            return False
        return False

    def _more(self) -> bool:
        self._socket.settimeout(self._left())
        try:
            data = self._socket.recv(_PIECE)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            data = b""
        return self._keep(data)

    def _take(self) -> None:
        """What is there already."""
        try:
            data = self._socket.recv(_PIECE)
        except _WAITS:
            return
        if not self._keep(data) or len(self._waiting) > _MOST_AHEAD:
            raise ConnectionResetError("it hung up, or talks without end")

    def _keep(self, data: bytes) -> bool:
        self._waiting += data
        self.answered = self.answered or bool(data)
        return bool(data)

    def _taken(self, count: int) -> bytes:
        data = bytes(self._waiting[:count])
        del self._waiting[:count]
        return data

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLOUT)
        if not poll.poll(self._left() * 1000):
            raise TimeoutError("it does not listen")

    def _left(self) -> float:
        return left(self._deadline)
