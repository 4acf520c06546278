"""Connections are kept, shared within bounds, replaced when they die, and never cross a fork."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from proxy import ConfigError, Connection, Connections
from tests.ports import free_address

Talk = Callable[[socket.socket], None]


def echo(sock: socket.socket) -> None:
    while line := sock.recv(4096):
        sock.sendall(line)


def once(sock: socket.socket) -> None:
    sock.sendall(sock.recv(4096))


def mute(sock: socket.socket) -> None:
    sock.recv(4096)


def chatter(sock: socket.socket) -> None:
    while line := sock.recv(4096):
        sock.sendall(line + b"and more\n")


@contextmanager
def service(*talks: Talk) -> Iterator[tuple[str, list[socket.socket]]]:
    """The n-th connection is served by the n-th talk, later ones by the last."""
    taken: list[socket.socket] = []

    def serve(sock: socket.socket, talk: Talk) -> None:
        with sock, suppress(OSError):
            talk(sock)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            taken.append(sock)
            talk = talks[min(len(taken), len(talks)) - 1]
            threading.Thread(target=serve, args=(sock, talk), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
        listener.shutdown(socket.SHUT_RDWR)


def said(connection: Connection) -> bytes:
    connection.sendall(b"hello\n")
    line = connection.readline()
    if not line:
        raise ConnectionResetError
    connection.keep = True
    return line


def test_one_connection_serves_question_after_question() -> None:
    with service(echo) as (url, taken):
        line = Connections(url)
        assert [line.ask(said, seconds=10) for _ in range(5)] == [b"hello\n"] * 5
        assert len(taken) == 1


def test_one_that_was_not_said_to_be_kept_is_not() -> None:
    def curt(connection: Connection) -> None:
        said(connection)
        connection.keep = False

    with service(echo) as (url, taken):
        line = Connections(url)
        line.ask(curt, seconds=10)
        line.ask(curt, seconds=10)
        assert len(taken) == 2


def test_one_that_said_more_than_was_asked_is_not_used_again() -> None:
    with service(chatter) as (url, taken):
        line = Connections(url)
        for number in range(1, 4):
            assert line.ask(said, seconds=10) == b"hello\n"
            time.sleep(0.01)
            assert len(taken) == number


def test_a_connection_that_died_meanwhile_is_replaced_without_counting_as_a_retry() -> None:
    with service(once, mute, echo) as (url, taken):
        line = Connections(url)
        assert line.ask(said, seconds=10) == b"hello\n"
        with pytest.raises(ConnectionError):
            line.ask(said, seconds=10)
        assert line.ask(said, seconds=10) == b"hello\n"
        assert len(taken) == 3


def test_who_hangs_up_without_a_word_is_asked_again_as_often_as_allowed() -> None:
    with service(mute, mute, echo) as (url, taken):
        assert Connections(url).ask(said, seconds=10, retries=2) == b"hello\n"
        assert len(taken) == 3
    with service(mute, mute, echo) as (url, taken):
        with pytest.raises(ConnectionError):
            Connections(url).ask(said, seconds=10, retries=1)
        assert len(taken) == 2


def test_who_said_anything_is_not_asked_again() -> None:
    def half(connection: Connection) -> None:
        connection.sendall(b"hello\n")
        connection.readline()
        raise ConnectionResetError

    with service(echo) as (url, taken):
        with pytest.raises(ConnectionError):
            Connections(url).ask(half, seconds=10, retries=5)
        assert len(taken) == 1


def test_nobody_there_is_told_after_the_last_attempt() -> None:
    with pytest.raises(ConnectionRefusedError):
        Connections(f"http://{free_address()}").ask(said, seconds=10, retries=2)


def test_the_time_counts_for_all_attempts_together() -> None:
    with pytest.raises(OSError, match=r"time is over|refused"):
        Connections(f"http://{free_address()}").ask(said, seconds=0.2, retries=10_000)


def test_no_more_connections_than_the_limit_are_open_at_once() -> None:
    with service(echo) as (url, taken):
        line = Connections(url, limit=2)
        asking = [threading.Thread(target=lambda: line.ask(said, seconds=30)) for _ in range(20)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert 1 <= len(taken) <= 2


def test_who_finds_all_connections_in_use_waits_no_longer_than_it_may() -> None:
    held, done = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        held.set()
        done.wait(30)

    with service(echo) as (url, _):
        line = Connections(url, limit=1)
        thread = threading.Thread(target=lambda: line.ask(hold, seconds=60))
        thread.start()
        held.wait(30)
        with pytest.raises(TimeoutError, match="all connections are in use"):
            line.ask(said, seconds=0.1)
        done.set()
        thread.join()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_uses_none_of_its_parents_connections() -> None:
    with service(echo) as (url, taken):
        line = Connections(url)
        line.ask(said, seconds=10)
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            try:
                os.write(write, line.ask(said, seconds=10))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 100) == b"hello\n"
        assert line.ask(said, seconds=10) == b"hello\n"
        assert len(taken) == 2
        os.close(read)
        os.close(write)


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("icap://127.0.0.1/srv", "127.0.0.1", 1344, "/srv", "127.0.0.1:1344"),
        ("icap://[::1]:80/srv/", "::1", 80, "/srv", "[::1]:80"),
        ("icaps://DLP.example/a:b", "dlp.example", 11344, "/a:b", "dlp.example:11344"),
        ("icaps://dlp.example:443", "dlp.example", 443, "", "dlp.example:443"),
    ],
)
def test_a_url_of_another_scheme_has_its_own_ports(
    url: str, host: str, port: int, path: str, authority: str
) -> None:
    where = Connections(url, ports={"icap": 1344, "icaps": 11344}).where
    assert (where.host, where.port, where.path, where.authority) == (host, port, path, authority)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://host/", "this URL is https://host"),
        ("host", "this URL is https://host"),
        ("https://user:pass@host/", "no user name or password"),
        ("https://host/?key=1", "no query"),
        ("https://2130706433/", "a number in disguise"),
        ("http://policy.example/", "allow_http = true"),
    ],
)
def test_a_url_that_will_not_do_is_refused_without_repeating_it(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        Connections(url)
    assert "pass@" not in str(caught.value)


def test_plain_text_to_another_machine_is_the_operators_to_allow() -> None:
    options: Any = {"ports": {"icap": 1344, "icaps": 11344}}
    with pytest.raises(ConfigError, match="write icaps://"):
        Connections("icap://dlp.example", **options)
    assert Connections("icap://dlp.example", allow_plain=True, **options).where.port == 1344
