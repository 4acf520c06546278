"""A call's handle: cancelled from outside, it wakes whoever waits, in a socket or for the next try."""

import socket
import threading
import time

import pytest

from proxy.egress import Cancelled, Handle

LONG = 600.0


def test_a_pause_ends_after_its_time() -> None:
    handle = Handle()
    handle.pause(0.0)
    started = time.monotonic()
    handle.pause(0.05)
    assert time.monotonic() - started >= 0.05
    assert handle.reason is None


def test_a_cancel_wakes_a_pause_at_once() -> None:
    handle = Handle()
    started = time.monotonic()
    threading.Timer(0.05, handle.cancel, ["client_gone"]).start()
    with pytest.raises(Cancelled) as caught:
        handle.pause(LONG)
    assert caught.value.reason == "client_gone"
    assert time.monotonic() - started < LONG


def test_a_call_that_was_cancelled_does_not_pause() -> None:
    handle = Handle()
    handle.cancel("draining")
    handle.cancel("deadline")
    for _ in range(2):
        with pytest.raises(Cancelled) as caught:
            handle.pause(LONG)
        assert caught.value.reason == "draining"


def test_a_pause_of_a_part_ends_with_the_whole() -> None:
    handle = Handle()
    part = handle.part()
    threading.Timer(0.05, handle.cancel, ["deadline"]).start()
    with pytest.raises(Cancelled):
        part.pause(LONG)


def test_a_handle_can_pause_again_and_again() -> None:
    handle = Handle()
    for _ in range(3):
        handle.pause(0.001)
    threading.Timer(0.05, handle.cancel, ["deadline"]).start()
    with pytest.raises(Cancelled):
        handle.pause(LONG)


def test_a_cancel_shuts_the_socket_that_is_attached_and_no_other() -> None:
    first, one = socket.socketpair()
    second, two = socket.socketpair()
    with first, one, second, two:
        handle = Handle()
        handle.attach(first)
        handle.attach(second)
        handle.cancel("deadline")
        assert two.recv(1) == b""
        first.sendall(b"x")
        assert one.recv(1) == b"x"


def test_a_socket_that_was_let_go_is_left_alone() -> None:
    mine, other = socket.socketpair()
    with mine, other:
        handle = Handle()
        handle.attach(mine)
        handle.detach()
        handle.cancel("deadline")
        mine.sendall(b"x")
        assert other.recv(1) == b"x"


def test_a_call_that_was_cancelled_takes_no_socket() -> None:
    mine, other = socket.socketpair()
    with mine, other:
        handle = Handle()
        handle.cancel("client_gone")
        with pytest.raises(Cancelled):
            handle.attach(mine)
        assert other.recv(1) == b""
