"""The settings of gunicorn, each with its reason; ``gunicorn.conf.py`` and ``outgate serve`` use them."""

import contextlib
import errno
import os
import resource
import select
import signal
import socket
import time
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from proxy import reloading, upgrading

wsgi_app = "wsgi:app"
# Never public: a few half-open requests stop a thread-based worker for good. nginx stands in front.
bind = os.environ.get("OUTGATE_BIND", "127.0.0.1:8000")
workers = int(os.environ.get("OUTGATE_WORKERS", "2"))
# A stream holds a thread to its end; calls above threads − 16 are refused at once.
threads = int(os.environ.get("OUTGATE_THREADS", "128"))
# Each call needs three descriptors: the caller's, the watcher's own of it, the upstream's; without them
# calls that were accepted would fail.
worker_connections = max(
    threads, min(4 * threads, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 64) // 3)
)
# The main thread's heartbeat, not a limit on requests.
timeout = 60
# The longest drain: streams are ended three seconds before it, because what is killed cannot record.
graceful_timeout = int(os.environ.get("OUTGATE_DRAIN_SECONDS", "45"))
# Longer than nginx's upstream keepalive_timeout (60), so that nginx is the one that closes.
keepalive = 75
# Recycling workers would cut long streams.
max_requests = 0
limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190
forwarded_allow_ips = "127.0.0.1"
# x_portkey_api_key beside x-portkey-api-key is an attack, not a typo.
header_map = "refuse"
# On by default since gunicorn 25.1: a socket that can reload and shut down.
control_socket_disable = True
# Connections and plugins belong to one process: nothing is loaded before the fork.
preload_app = False
# The parser that the tests cover; "auto" would switch to another one when it is installed.
http_parser = "python"
sendfile = False
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108, PTH112 - a heartbeat file on disk can stall
# Where the number of the main process stands, for whoever sends it signals; ".2" is added for a second one.
pidfile = os.environ.get("OUTGATE_PID_FILE") or None
# The exchange log is the record; gunicorn's own would hold query strings and referers.
accesslog = None
# Threads kept for health checks and refusals.
RESERVED_THREADS = 16
#: Descriptors that no new connection may take.
SPARE_DESCRIPTORS = 8
#: Milliseconds in which the next request on a connection finds its thread still there.
LINGER_MS = 5
#: Seconds between the end of the last stream and gunicorn's kill.
LAST_SECONDS = 3
#: Seconds; no call is as long, and ``timeouts.total`` ends each.
LONGEST_REST = 7 * 24 * 3600


class DrainingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's thread worker, which on SIGTERM has its streams end in words before it is killed."""

    #: Whether it takes nothing new because another main process serves, and lets its calls run to their end.
    resting = False

    def init_signals(self) -> None:
        """As gunicorn's, and one more: that of an upgrade."""
        self.drain_seconds = max(self.cfg.graceful_timeout - LAST_SECONDS, 0)
        super().init_signals()
        signal.signal(upgrading.REST, self.handle_rest)
        signal.siginterrupt(upgrading.REST, False)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to drain; called in the main thread, between any two of its steps."""
        is_first = self.booted and (self.alive or self.resting)
        if self.resting:
            self.method_queue.defer(lambda: self._cap_keepalive(time.monotonic() + 1))
        # Before it drains, so that no second signal does so in between.
        self.resting = False
        super().handle_exit(sig, frame)
        if is_first:
            pipeline = self.app.callable.extensions["outgate"]
            pipeline.drain(self.drain_seconds)

    def is_parent_alive(self) -> bool:
        """As gunicorn's; whose main process was killed drains as if it had been told to."""
        is_alive: bool = super().is_parent_alive()
        if not is_alive:
            self.handle_exit(signal.SIGTERM, None)
        return is_alive

    def _cap_keepalive(self, deadline: float) -> None:
        """Have idle connections end soon, but at rest: there nginx hangs up first.

        So it cannot happen that it sends a call into a connection that is closed at that moment.
        """
        if not self.resting:
            super()._cap_keepalive(deadline)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End every call now, in words; what does not end is cut.

        gunicorn's own would wait for the threads, and they for their calls.
        """
        if not self.booted:
            super().handle_quit(sig, frame)
        self.resting = False
        self.cfg.set("graceful_timeout", LAST_SECONDS)
        signal.alarm(2 * LAST_SECONDS)
        # Not here: this may have come between the steps of another signal's handler, which holds locks.
        self.method_queue.defer(self._end_everything)
        super().handle_exit(sig, frame)

    def _end_everything(self) -> None:
        self.app.callable.extensions["outgate"].drain(0)
        self.murder_keepalived(force=True)

    def handle_rest(self, sig: int, frame: Any) -> None:
        """Take no new connections; every call inside has the time that its own limits give it."""
        if self.alive and self.booted:
            self.resting = True
            self.cfg.set("graceful_timeout", LONGEST_REST)
        super().handle_exit(sig, frame)

    def accept(self, listener: Any) -> None:
        """Take a connection, as long as descriptors are left; else the one that was idle longest makes room.

        gunicorn's own accept would raise, and end the worker with all of its streams.
        """
        if _descriptors_left():
            super().accept(listener)
        elif idle := self.keepalived_conns or self.pending_conns:
            # It is closed in this turn of the loop; the caller waits in the kernel's queue.
            idle[0].timeout = 0
        else:
            time.sleep(0.02)

    def handle(self, conn: Any) -> Any:
        """Serve one request, and those that follow at once; whoever is to hang up is waited for in this thread.

        gunicorn waits up to two seconds in the thread that takes connections: a few callers who do
        not read would stop them all, health checks included.
        """
        goes_on = super().handle(conn)
        while goes_on is True and self._has_another(conn):
            goes_on = super().handle(conn)
        if not goes_on:
            _await_hang_up(conn.sock)
        return goes_on

    def _has_another(self, conn: Any) -> bool:
        """Whether the next request on a connection comes within a moment, while there is a thread for each of them.

        To hand a connection to the main thread and back takes longer than many a request.
        """
        sent_ahead = conn.parser.unreader.buf.getvalue()
        if sent_ahead or not self.alive or self.nr_conns >= self.cfg.threads:
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(LINGER_MS))

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Serve one request; a caller who does not read is one who has gone, and no fault to log."""
        try:
            return super().handle_request(req, conn)
        except TimeoutError as error:
            raise BrokenPipeError(errno.EPIPE, "the caller does not read") from error

    def set_accept_enabled(self, enabled: bool) -> None:
        """Once it stops, close this process's share of the listening sockets.

        While one process holds them the kernel lets callers connect, and they would wait for an answer
        that nobody gives. After SIGHUP the new workers hold them, and no connection is refused.
        """
        super().set_accept_enabled(enabled)
        if not self.alive and not enabled:
            for listener in self.sockets:
                listener.close()


def _await_hang_up(sock: socket.socket) -> None:
    """Say that no more comes and give the peer a second to read it, as RFC 9112 section 9.6 asks."""
    deadline = time.monotonic() + 1
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            if not sock.recv(65_536):
                break
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RD)  # what gunicorn's own wait then sees is the end


def _descriptors_left() -> bool:
    """Whether there are enough for one more connection and for all that its call opens."""
    try:
        lowest = os.dup(0)
    except OSError:
        return False
    os.close(lowest)
    return lowest < resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS


# Threads carry as many concurrent streams as greenlets do, and leave select.epoll for the watcher.
worker_class = DrainingWorker


def on_starting(server: Any) -> None:
    """Keep the configuration that serves: a reload with a broken file changes nothing; so does a failed upgrade."""
    reloading.install(server)
    upgrading.install(server)


def pre_exec(server: Any) -> None:
    """Have the new main process started as this one was."""
    upgrading.prepare(server)


def on_exit(server: Any) -> None:
    """Leave nothing behind."""
    reloading.remove(alone=upgrading.is_alone(server))


def post_worker_init(worker: Any) -> None:
    """Fit the application to this worker's threads, unless the operator set ``limits.concurrent_calls``."""
    pipeline = worker.app.callable.extensions["outgate"]
    if pipeline.parts.config.limits.concurrent_calls is None:
        pipeline.gate.capacity = max(1, worker.cfg.threads - RESERVED_THREADS)


def worker_exit(_server: Any, worker: Any) -> None:
    """Leave records and state whole: the last call of this process is over."""
    if (app := getattr(worker.app, "callable", None)) is not None:
        app.extensions["outgate"].close()
