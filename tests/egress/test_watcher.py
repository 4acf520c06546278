import contextlib
import logging
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from proxy.egress import Cancelled, Handle, Watcher
from proxy.egress.handle import Reason
from proxy.errors import UpstreamError
from proxy.model import Timeouts
from tests.egress.conftest import Start
from tests.egress.servers import open_descriptors, run_apart, silent

LATER = 3600.0


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def cancelled(handle: Handle) -> Reason | None:
    """The handle's reason, given time to come."""
    by = time.monotonic() + 10
    while handle.reason is None and time.monotonic() < by:
        time.sleep(0.001)
    return handle.reason


def test_the_first_reason_wins() -> None:
    handle = Handle()
    handle.cancel("client_gone")
    handle.cancel("deadline")
    assert handle.reason == "client_gone"


def test_a_part_is_cancelled_with_its_call_and_without_it() -> None:
    whole = Handle()
    first, second = whole.part(), whole.part()
    first.cancel("draining")
    assert (whole.reason, second.reason) == (None, None)
    whole.cancel("deadline")
    assert (first.reason, second.reason) == ("draining", "deadline")
    assert whole.part().reason == "deadline"


def test_a_cancel_wakes_a_reader() -> None:
    with pair() as (ours, _):
        handle = Handle()
        handle.attach(ours)
        threading.Timer(0.05, handle.cancel, ["deadline"]).start()
        assert ours.recv(1) == b""


def test_attaching_to_a_cancelled_handle_shuts_the_socket_and_raises() -> None:
    with pair() as (ours, theirs):
        handle = Handle()
        handle.cancel("draining")
        with pytest.raises(Cancelled) as caught:
            handle.attach(ours)
        assert caught.value.reason == "draining"
        assert theirs.recv(1) == b""


def test_a_detached_socket_is_left_alone() -> None:
    with pair() as (ours, theirs):
        handle = Handle()
        handle.attach(ours)
        handle.detach()
        handle.cancel("client_gone")
        handle.set_read_timeout(1)
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"
        assert ours.gettimeout() is None


def test_cancelling_a_closed_socket_is_harmless() -> None:
    with pair() as (ours, _):
        handle = Handle()
        handle.attach(ours)
        ours.close()
        handle.cancel("client_gone")
    assert handle.reason == "client_gone"


@pytest.mark.parametrize("way", ["close", "half-close", "reset", "before"])
def test_a_client_that_leaves_is_noticed(way: str) -> None:
    watcher, handle = Watcher(), Handle()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted, client:
            if way == "before":
                client.close()
            watcher.watch(handle, accepted, None)
            if way == "half-close":
                client.shutdown(socket.SHUT_WR)
            elif way == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                client.close()
            else:
                client.close()
            assert cancelled(handle) == "client_gone"
            watcher.unwatch(handle)


def test_a_client_whose_socket_is_closed_counts_as_gone() -> None:
    watcher, handle = Watcher(), Handle()
    with pair() as (ours, _):
        ours.close()
        watcher.watch(handle, ours, None)
    assert handle.reason == "client_gone"
    watcher.unwatch(handle)


def test_a_client_that_speaks_or_stays_is_not_gone() -> None:
    watcher, handle, other = Watcher(), Handle(), Handle()
    with pair() as (ours, theirs):
        watcher.watch(handle, ours, None)
        theirs.sendall(b"pipelined")
        watcher.watch(other, None, time.monotonic() + 0.05)
        assert cancelled(other) == "deadline"
        assert handle.reason is None
        watcher.unwatch(handle)


def test_one_client_may_have_several_calls() -> None:
    watcher = Watcher()
    handles = [Handle() for _ in range(5)]
    with pair() as (ours, theirs):
        for handle in handles:
            watcher.watch(handle, ours, None)
        watcher.unwatch(handles[0])
        theirs.close()
        assert [cancelled(handle) for handle in handles[1:]] == ["client_gone"] * 4
        assert handles[0].reason is None


def test_deadlines_come_in_their_order_whatever_the_order_of_watching() -> None:
    watcher = Watcher()
    now = time.monotonic()
    late, soon, never = Handle(), Handle(), Handle()
    watcher.watch(never, None, now + LATER)
    watcher.watch(late, None, now + 0.2)
    watcher.watch(soon, None, now + 0.05)
    assert cancelled(soon) == "deadline"
    assert cancelled(late) == "deadline"
    assert never.reason is None


def test_an_unwatched_handle_is_never_cancelled() -> None:
    watcher, handle, other = Watcher(), Handle(), Handle()
    with pair() as (ours, theirs):
        now = time.monotonic()
        watcher.watch(handle, ours, now + 0.02)
        watcher.unwatch(handle)
        watcher.unwatch(handle)
        theirs.close()
        watcher.watch(other, None, now + 0.1)
        assert cancelled(other) == "deadline"
    assert handle.reason is None


def test_watching_again_replaces_the_earlier_watch() -> None:
    watcher, handle = Watcher(), Handle()
    before = open_descriptors()
    with pair() as (ours, _):
        watcher.watch(handle, ours, time.monotonic() + 0.05)
        watcher.watch(handle, ours, None)
        time.sleep(0.15)
        assert handle.reason is None
        watcher.unwatch(handle)
    # What stays is the watcher's own: an epoll and a pair to wake it.
    assert open_descriptors() <= before + 3


def test_a_reused_descriptor_does_not_cancel_its_new_owner() -> None:
    watcher = Watcher()
    for _ in range(300):
        old, new = Handle(), Handle()
        with pair() as (ours, theirs), pair() as (second, _):
            watcher.watch(old, ours, None)
            theirs.close()
            # Leaving and reuse of the number race with the event on its way to the thread.
            watcher.unwatch(old)
            watcher.watch(new, second, None)
            watcher.unwatch(new)
            assert new.reason is None


def test_an_event_of_an_earlier_owner_is_checked_at_the_socket() -> None:
    watcher, handle = Watcher(), Handle()
    with pair() as (ours, _):
        watcher.watch(handle, ours, None)
        loop = watcher._loop()
        assert handle.watch is not None
        assert handle.watch.fd is not None
        loop._hung_up(handle.watch.fd)
        loop._hung_up(10**6)
        assert handle.reason is None
        watcher.unwatch(handle)


def test_draining_ends_calls_of_now_and_later_unless_they_end_before() -> None:
    watcher = Watcher()
    now = time.monotonic()
    watched, unbounded, sooner, later = Handle(), Handle(), Handle(), Handle()
    watcher.watch(watched, None, now + LATER)
    watcher.watch(unbounded, None, None)
    watcher.watch(sooner, None, now + 0.05)
    watcher.drain(now + 0.2)
    watcher.watch(later, None, None)
    found = [cancelled(handle) for handle in (watched, unbounded, sooner, later)]
    assert found == ["draining", "draining", "deadline", "draining"]


def test_draining_may_come_before_the_first_call() -> None:
    watcher, handle = Watcher(), Handle()
    watcher.drain(time.monotonic())
    watcher.watch(handle, None, None)
    assert cancelled(handle) == "draining"


def test_finished_calls_do_not_pile_up() -> None:
    watcher = Watcher()
    for _ in range(2000):
        handle = Handle()
        watcher.watch(handle, None, time.monotonic() + LATER)
        watcher.unwatch(handle)
    assert len(watcher._loop()._heap) < 200


def test_a_closed_watcher_leaves_no_thread_and_no_descriptor_and_may_be_used_again() -> None:
    with pair() as (ours, _):
        before, threads = open_descriptors(), threading.active_count()
        watcher, handle = Watcher(), Handle()
        for _ in range(2):
            watcher.watch(handle, ours, time.monotonic() + LATER)
            watcher.close()
        watcher.close()
        assert (open_descriptors(), threading.active_count()) == (before, threads)
        assert handle.reason is None


def test_without_epoll_deadlines_hold() -> None:
    watcher, early, late = Watcher(hangups=False), Handle(), Handle()
    with pair() as (ours, theirs):
        theirs.close()
        watcher.watch(late, ours, time.monotonic() + 0.3)
        watcher.watch(early, None, time.monotonic() + 0.05)
        assert (cancelled(early), cancelled(late)) == ("deadline", "deadline")
        watcher.unwatch(late)


def test_a_full_descriptor_table_costs_only_the_hang_up(caplog: pytest.LogCaptureFixture) -> None:
    watcher, handle, warm = Watcher(), Handle(), Handle()
    watcher.watch(warm, None, time.monotonic() + LATER)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pair() as (ours, _):
        lowest_free = os.dup(ours.fileno())
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            watcher.watch(handle, ours, time.monotonic() + 0.05)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert cancelled(handle) == "deadline"
    assert "hang-up will not be noticed" in caplog.text


def test_the_thread_outlives_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Handle):
        def cancel(self, reason: Reason) -> None:
            raise ZeroDivisionError(reason)

    watcher, broken, handle = Watcher(), Broken(), Handle()
    with caplog.at_level(logging.ERROR, "outgate.egress"):
        watcher.watch(broken, None, time.monotonic())
        watcher.watch(handle, None, time.monotonic() + 0.05)
        assert cancelled(handle) == "deadline"
    assert "goes on" in caplog.text


def test_a_forked_child_watches_for_itself_and_leaves_the_parent_alone() -> None:
    run_apart("""
        import os, socket, sys, time
        from proxy.egress import Handle, Watcher
        from tests.egress.test_watcher import LATER, cancelled, pair

        watcher, handle = Watcher(), Handle()
        timer, timed = Watcher(hangups=False), Handle()
        with pair() as (ours, theirs):
            watcher.watch(handle, ours, time.monotonic() + LATER)
            timer.watch(timed, None, time.monotonic() + LATER)
            pid = os.fork()
            if pid == 0:
                theirs.close()
                mine = Handle()
                with pair() as (own, other):
                    watcher.watch(mine, own, None)
                    watcher.unwatch(handle)
                    other.close()
                    assert cancelled(mine) == "client_gone"
                late = Handle()
                timer.watch(late, None, time.monotonic())
                sys.exit(0 if cancelled(late) == "deadline" else 2)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert handle.reason is None
            theirs.close()
            assert cancelled(handle) == "client_gone"
            watcher.unwatch(handle)
    """)


def head_then_silence(sock: socket.socket, request: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    silent(sock, request)


def open_then_silence(sock: socket.socket, request: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\na")
    silent(sock, request)


@pytest.mark.parametrize("reason", ["client_gone", "deadline", "draining"])
def test_a_call_without_an_answer_ends_for_its_reason(start: Start, reason: Reason) -> None:
    sender, handle, watcher = start(silent), Handle(), Watcher()
    with pair() as (ours, theirs):
        end = time.monotonic() + (0.1 if reason == "deadline" else LATER)
        watcher.watch(handle, ours, end)
        if reason == "client_gone":
            threading.Timer(0.1, theirs.close).start()
        if reason == "draining":
            watcher.drain(time.monotonic() + 0.1)
        with pytest.raises(UpstreamError) as caught:
            sender.send(handle=handle)
        watcher.unwatch(handle)
    assert (caught.value.kind, caught.value.bytes_received) == (reason, False)
    assert sender.server.gone.acquire(timeout=5)


@pytest.mark.parametrize("script", [head_then_silence, open_then_silence])
def test_a_client_that_leaves_in_mid_stream_ends_the_upstream(start: Start, script: object) -> None:
    sender, handle, watcher = start(script), Handle(), Watcher()  # type: ignore[arg-type]
    with pair() as (ours, theirs):
        watcher.watch(handle, ours, None)
        pieces = sender.send(handle=handle).pieces()
        assert next(pieces) == b"a"
        threading.Timer(0.1, theirs.close).start()
        with pytest.raises(UpstreamError) as caught:
            next(pieces)
        watcher.unwatch(handle)
    assert (caught.value.kind, caught.value.bytes_received) == ("client_gone", True)
    assert sender.server.gone.acquire(timeout=5)


def test_a_trickle_below_every_timeout_ends_at_the_deadline(start: Start) -> None:
    def script(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            time.sleep(0.02)
            sock.sendall(b"x")

    sender, handle, watcher = start(script), Handle(), Watcher()
    watcher.watch(handle, None, time.monotonic() + 0.3)
    with pytest.raises(UpstreamError) as caught:
        sender.send(handle=handle).read(10**6)
    assert caught.value.kind == "deadline"


def test_a_call_that_was_cancelled_before_sends_nothing(start: Start) -> None:
    sender, handle = start(silent), Handle()
    handle.cancel("client_gone")
    with pytest.raises(UpstreamError, match="client_gone"):
        sender.send(handle=handle)
    assert sender.server.connections == 0


def test_a_call_can_be_cancelled_while_it_connects(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        sender, handle = start(silent, base_url=base, timeouts=Timeouts(connect=60)), Handle()
        threading.Timer(0.1, handle.cancel, ["client_gone"]).start()
        with pytest.raises(UpstreamError, match="client_gone"):
            sender.send(handle=handle)
        for filler in fillers:
            filler.close()


def test_a_late_cancel_does_not_hit_the_connections_next_call(start: Start) -> None:
    def script(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    sender, first = start(script), Handle()
    sender.send(handle=first).read(9)
    first.cancel("client_gone")
    reply = sender.send()
    assert (reply.read(9), reply.reused, reply.attempts) == (b"{}", True, 1)


def test_a_connection_whose_call_was_cancelled_is_not_used_again(start: Start) -> None:
    def script(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    sender, handle = start(script), Handle()
    reply = sender.send(handle=handle)
    handle.cancel("client_gone")
    with contextlib.suppress(UpstreamError):
        reply.read(9)
    reply.close()
    assert not sender.send().reused


def test_the_platform_has_what_hang_up_watching_needs() -> None:
    assert hasattr(select, "epoll")
