"""What goes over one connection: in both directions at once, within its time, whatever the other side does."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from proxy import Connection


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    connection.lend(time.monotonic() + 30)
    with theirs:
        yield connection, theirs
    connection.close()


def test_lines_and_bytes_are_read_in_order(ends: tuple[Connection, socket.socket]) -> None:
    connection, theirs = ends
    theirs.sendall(b"one\ntwo\nthree")
    assert connection.readline() == b"one\n"
    assert connection.read(2) == b"tw"
    assert connection.readline(100) == b"o\n"
    theirs.shutdown(socket.SHUT_WR)
    assert connection.read(100) == b"three"
    assert connection.readline() == b""
    assert connection.read(1) == b""


def test_a_line_that_is_too_long_is_cut(ends: tuple[Connection, socket.socket]) -> None:
    connection, theirs = ends
    theirs.sendall(b"x" * 100 + b"\n")
    assert connection.readline(10) == b"x" * 10
    assert connection.readline(90) == b"x" * 90
    assert connection.readline(90) == b"\n"


def test_both_sides_may_talk_at_once(ends: tuple[Connection, socket.socket]) -> None:
    connection, theirs = ends
    size = 8 * 1024 * 1024

    def echo() -> None:
        left = size
        while left:
            data = theirs.recv(65536)
            theirs.sendall(data)
            left -= len(data)

    thread = threading.Thread(target=echo)
    thread.start()
    connection.sendall(b"a" * size)
    assert connection.read(size) == b"a" * size
    thread.join()


def test_what_was_said_before_a_hang_up_is_heard(ends: tuple[Connection, socket.socket]) -> None:
    connection, theirs = ends
    theirs.sendall(b"no\n")
    theirs.close()
    connection.keep = True
    connection.sendall(b"a" * 8 * 1024 * 1024)
    assert connection.readline() == b"no\n"
    assert not connection.may_stay()


def test_a_hang_up_without_a_word_is_told(ends: tuple[Connection, socket.socket]) -> None:
    connection, theirs = ends
    theirs.close()
    with pytest.raises(ConnectionError):
        connection.sendall(b"a" * 8 * 1024 * 1024)
    assert not connection.answered


@pytest.mark.parametrize("size", [0, 1])
def test_silence_ends_with_the_time(ends: tuple[Connection, socket.socket], size: int) -> None:
    connection, theirs = ends
    theirs.sendall(b"x" * size)
    connection.lend(time.monotonic() + 0.1)
    with pytest.raises(TimeoutError):
        connection.readline()
    with pytest.raises(TimeoutError):
        connection.read(2)


def test_who_does_not_listen_is_not_waited_for(ends: tuple[Connection, socket.socket]) -> None:
    connection, _ = ends
    connection.lend(time.monotonic() + 0.1)
    with pytest.raises(TimeoutError):
        connection.sendall(b"a" * 8 * 1024 * 1024)


def test_one_that_dribbles_is_not_waited_for(ends: tuple[Connection, socket.socket]) -> None:
    connection, theirs = ends
    ends_now = threading.Event()

    def dribble() -> None:
        while not ends_now.wait(0.02):
            theirs.sendall(b".")

    thread = threading.Thread(target=dribble)
    thread.start()
    connection.lend(time.monotonic() + 0.2)
    with pytest.raises(TimeoutError):
        connection.read(1_000_000)
    ends_now.set()
    thread.join()


def test_a_connection_is_alive_while_nothing_comes_unasked(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, theirs = ends
    connection.keep = True
    assert connection.may_stay()
    assert connection.is_alive()
    theirs.sendall(b"surprise")
    assert not connection.is_alive()


def test_a_connection_that_nobody_holds_any_more_is_closed() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    del connection, ours
    with theirs:
        assert theirs.recv(1) == b""
