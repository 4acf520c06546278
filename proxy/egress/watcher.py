"""Ends calls from outside: the client has hung up, time is over, or the process drains."""

import contextlib
import heapq
import itertools
import logging
import math
import os
import select
import socket
import threading
import time
from typing import Final

from proxy.egress.handle import Handle, Reason, Watch

_log: Final = logging.getLogger("outgate.egress")
# Half-close counts as gone: a client that will not speak again is rarely still listening.
_GONE: Final = (
    getattr(select, "EPOLLRDHUP", 0)
    | getattr(select, "EPOLLHUP", 0)
    | getattr(select, "EPOLLERR", 0)
)
_AFTER_A_FAULT: Final = 0.1
_SLACK: Final = 64


class Watcher:
    """One thread per process that cancels handles.

    The thread starts with the first ``watch`` in a process, so a watcher made before a fork is safe
    to use after it. Without epoll (macOS), or with ``hangups=False``, only deadlines are kept.
    """

    def __init__(self, *, hangups: bool = hasattr(select, "epoll")) -> None:
        self._hangups = hangups
        self._loops: dict[int, _Loop] = {}

    def watch(self, handle: Handle, client: socket.socket | None, deadline: float | None) -> None:
        """Cancel ``handle`` when ``client`` hangs up (also half) or ``deadline`` passes.

        ``deadline`` is in monotonic seconds. A client whose socket is closed already counts as gone.
        Watching a handle again replaces the earlier watch.
        """
        self.unwatch(handle)
        self._loop().watch(handle, client, deadline)

    def unwatch(self, handle: Handle) -> None:
        """Stop watching; call it in ``finally``. Handles that are not watched are ignored."""
        watch = handle.watch
        if watch is not None:
            handle.watch = None
            self._loop().unwatch(watch)

    def drain(self, deadline: float) -> None:
        """Cancel every call, watched now or later, at ``deadline`` (monotonic seconds) at the latest."""
        self._loop().drain(deadline)

    def close(self) -> None:
        """End this process's thread, and with it every watch; a later ``watch`` starts another."""
        loop = self._loops.pop(os.getpid(), None)
        if loop is not None:
            loop.close()

    def _loop(self) -> "_Loop":
        pid = os.getpid()
        loop = self._loops.get(pid)
        if loop is None:
            # setdefault is atomic; a lock might be held by a thread that did not survive the fork.
            loop = self._loops.setdefault(pid, _Loop(hangups=self._hangups))
            for other in [key for key in list(self._loops) if key != pid]:
                self._loops.pop(other).abandon()
        return loop


class _Loop:
    """The state and the thread of a watcher in one process."""

    def __init__(self, *, hangups: bool) -> None:
        self._hangups = hangups
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._epoll: select.epoll | None = None
        self._wake: tuple[socket.socket, ...] = ()
        self._clients: dict[int, Watch] = {}
        self._active: set[Watch] = set()
        self._heap: list[tuple[float, int, Watch, Reason]] = []
        self._numbers = itertools.count()
        self._drain: float | None = None
        self._sleeps_until = float("inf")
        self._closing = False

    def watch(self, handle: Handle, client: socket.socket | None, deadline: float | None) -> None:
        fd = self._duplicate(handle, client) if client is not None and self._hangups else None
        watch = Watch(handle, fd, deadline)
        handle.watch = watch
        with self._lock:
            self._start()
            self._active.add(watch)
            self._schedule(watch)
            if fd is not None and self._epoll is not None:
                self._clients[fd] = watch
                self._epoll.register(fd, _GONE | select.EPOLLONESHOT)

    def unwatch(self, watch: Watch) -> None:
        with self._lock:
            if watch not in self._active:
                return
            self._active.discard(watch)
            watch.active = False
            self._forget(watch)
            if len(self._heap) > 2 * len(self._active) + _SLACK:
                self._heap = [item for item in self._heap if item[2].active]
                heapq.heapify(self._heap)

    def drain(self, deadline: float) -> None:
        with self._lock:
            self._start()
            self._drain = deadline
            for watch in self._active:
                self._schedule(watch)

    def close(self) -> None:
        with self._lock:
            for watch in list(self._active):
                watch.active = False
                self._forget(watch)
            self._active.clear()
            self._closing = True
            thread = self._thread
            self._ring()
        if thread is not None:
            thread.join()
            self.abandon()

    def abandon(self) -> None:
        """Close what the loop holds; in a forked child, that leaves the parent's epoll set as it is."""
        for fd in self._clients:
            os.close(fd)
        if self._epoll is not None:
            self._epoll.close()
        for end in self._wake:
            end.close()

    def _duplicate(self, handle: Handle, client: socket.socket) -> int | None:
        # A number of our own: the client's may be closed and given to a stranger while we watch it.
        try:
            return os.dup(client.fileno())
        except OSError as error:
            if client.fileno() == -1:
                handle.cancel("client_gone")
            else:
                _log.warning("a client's hang-up will not be noticed: %s", error.strerror)
            return None

    def _forget(self, watch: Watch) -> None:
        if watch.fd is not None and self._epoll is not None:
            del self._clients[watch.fd]
            with contextlib.suppress(OSError):
                self._epoll.unregister(watch.fd)
            os.close(watch.fd)

    def _schedule(self, watch: Watch) -> None:
        due, reason = watch.deadline, "deadline"
        if self._drain is not None and (due is None or self._drain < due):
            due, reason = self._drain, "draining"
        if due is not None:
            heapq.heappush(self._heap, (due, next(self._numbers), watch, reason))  # type: ignore[misc]
            if due < self._sleeps_until:
                self._sleeps_until = due
                self._ring()

    def _ring(self) -> None:
        """Have the thread look at what there is, if it runs."""
        for end in self._wake[1:]:
            with contextlib.suppress(BlockingIOError):
                end.send(b".")

    def _start(self) -> None:
        if self._thread is not None:
            return
        self._wake = socket.socketpair()
        for end in self._wake:
            end.setblocking(False)
        if self._hangups:
            self._epoll = select.epoll()
            self._epoll.register(self._wake[0], select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="outgate-watcher", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            try:
                self._step()
            except Exception:  # noqa: BLE001 - see below
                # Without this thread no deadline holds: report, breathe, go on.
                _log.exception("the watcher met a fault and goes on")
                time.sleep(_AFTER_A_FAULT)

    def _step(self) -> None:
        for fd in self._sleep():
            self._hung_up(fd)
        for handle, reason in self._due():
            handle.cancel(reason)

    def _sleep(self) -> list[int]:
        """The descriptors with something to say, after at most the time to the next deadline."""
        with self._lock:
            self._sleeps_until = self._heap[0][0] if self._heap else float("inf")
            seconds = max(0.0, self._sleeps_until - time.monotonic()) if self._heap else None
        wake = self._wake[0]
        if self._epoll is not None:
            fds = [fd for fd, _ in self._epoll.poll(seconds)]
        else:
            poll = select.poll()  # unlike select.select, it takes a descriptor of any number
            poll.register(wake, select.POLLIN)
            fds = [
                fd for fd, _ in poll.poll(None if seconds is None else math.ceil(seconds * 1000))
            ]
        with contextlib.suppress(BlockingIOError):
            wake.recv(4096)
        return fds

    def _hung_up(self, fd: int) -> None:
        with self._lock:
            watch = self._clients.get(fd)
            # The event may be of an earlier owner of this number: ask the socket itself again.
            if watch is None or not _is_gone(fd):
                return
        watch.handle.cancel("client_gone")

    def _due(self) -> list[tuple[Handle, Reason]]:
        found: list[tuple[Handle, Reason]] = []
        now = time.monotonic()
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                _, _, watch, reason = heapq.heappop(self._heap)
                if watch.active:
                    found.append((watch.handle, reason))
        return found


def _is_gone(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    return bool(poll.poll(0))
