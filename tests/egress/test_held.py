"""An answer that is kept frees its connection, and reads as the answer itself would."""

import gzip
import socket

import pytest

from proxy.egress import Handle, hold
from proxy.errors import UpstreamError
from proxy.model import Timeouts
from tests.egress.conftest import Start
from tests.egress.servers import ok, says, silent

BUSY = b"HTTP/1.1 429 Busy\r\nRetry-After: 3\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 4\r\n\r\nbusy"


def halts(sock: socket.socket, request: bytes) -> None:
    """All but the last byte, then nothing."""
    sock.sendall(BUSY[:-1])
    silent(sock, request)


def test_a_held_answer_says_what_the_upstream_said(start: Start) -> None:
    sender = start(says(BUSY, then_close=False))
    reply = sender.send()
    held = hold(reply, 100)
    assert (held.status, held.header("Retry-After"), held.header("none")) == (429, "3", None)
    assert held.headers == reply.headers
    assert [value for name, value in held.headers if name == "x-a"] == ["1", "2"]
    assert (held.address, held.attempts, held.reused) == (reply.address, 1, False)
    assert (held.read(4), list(held.pieces()), held.read(100)) == (b"busy", [b"busy"], b"busy")
    assert held.waited == reply.waited
    held.close()
    assert held.read(100) == b"busy"


def test_its_connection_serves_the_next_call_at_once(start: Start) -> None:
    sender = start(says(BUSY, then_close=False))
    hold(sender.send(), 100)
    assert sender.send().reused
    assert sender.server.connections == 1


def test_an_encoded_body_is_held_decoded(start: Start) -> None:
    body = gzip.compress(b"busy")
    head = b"HTTP/1.1 503 X\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert hold(start(says(head + body)).send(), 100).read(100) == b"busy"


def test_a_body_that_is_larger_than_we_hold_is_not_held(start: Start) -> None:
    sender = start(says(ok(b"x" * 101), then_close=False))
    with pytest.raises(UpstreamError, match="too_large"):
        hold(sender.send(), 100)
    assert sender.server.gone.acquire(timeout=5)


def test_a_held_body_is_still_larger_than_a_smaller_limit(start: Start) -> None:
    held = hold(start(says(BUSY)).send(), 100)
    with pytest.raises(UpstreamError, match="too_large"):
        held.read(3)


def test_a_body_that_does_not_come_whole_is_not_held(start: Start) -> None:
    with pytest.raises(UpstreamError, match="cut"):
        hold(start(says(BUSY[:-1])).send(), 100)


def test_a_body_that_stops_coming_is_waited_for_as_long_as_any(start: Start) -> None:
    with pytest.raises(UpstreamError, match="timeout_idle"):
        hold(start(halts, timeouts=Timeouts(idle=0.1)).send(), 100)


def test_a_caller_that_hangs_up_meanwhile_ends_the_holding(start: Start) -> None:
    handle = Handle()
    reply = start(halts).send(handle=handle)
    handle.cancel("client_gone")
    with pytest.raises(UpstreamError) as caught:
        hold(reply, 100)
    assert caught.value.kind == "client_gone"
