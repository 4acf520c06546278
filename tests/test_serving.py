"""When a thread stays with its connection; all else that the worker does is seen from outside, in ``tests/e2e``."""

import socket
from typing import Final

import pytest
from gunicorn.config import Config
from gunicorn.workers.gthread import TConn

from proxy.serving import DrainingWorker

_THREADS: Final = 4
_REQUEST: Final = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"


def stays(
    *, sends: bytes = b"", sent_ahead: bytes = b"", alive: bool = True, connections: int = 1
) -> bool:
    """Whether the thread that has just answered reads on in the connection of a caller who ``sends`` this."""
    config = Config()
    config.set("threads", _THREADS)
    worker = DrainingWorker.__new__(DrainingWorker)
    worker.cfg, worker.alive, worker.nr_conns = config, alive, connections
    caller, ours = socket.socketpair()
    with caller, ours:
        conn = TConn(config, ours, ("127.0.0.1", 1), ("127.0.0.1", 2))
        conn.init()
        conn.parser.unreader.unread(sent_ahead)
        caller.sendall(sends)
        return worker._has_another(conn)


def test_a_thread_stays_for_the_next_request() -> None:
    assert stays(sends=_REQUEST)
    assert stays(sends=_REQUEST, connections=_THREADS - 1)


@pytest.mark.parametrize("connections", [_THREADS, _THREADS + 1])
def test_a_thread_goes_where_another_connection_may_need_it(connections: int) -> None:
    assert not stays(sends=_REQUEST, connections=connections)


def test_a_thread_goes_where_nothing_comes() -> None:
    assert not stays()


def test_a_thread_goes_when_its_process_ends() -> None:
    assert not stays(sends=_REQUEST, alive=False)


def test_what_was_read_ahead_is_left_to_the_main_thread() -> None:
    assert not stays(sends=_REQUEST, sent_ahead=_REQUEST)
