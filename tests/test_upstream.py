import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection, IncompleteRead

import pytest
import trustme

from tests.upstream import (
    WAIT,
    Event,
    Script,
    ScriptedUpstream,
    after_continues,
    close_unannounced,
    cut_after,
    garbage,
    hang_up,
    huge,
    json_reply,
    raw,
    reply,
    rst,
    rst_after,
    silent,
    slow,
    sse,
    stream,
)


@contextmanager
def client(upstream: ScriptedUpstream) -> Iterator[HTTPConnection]:
    with closing(HTTPConnection("127.0.0.1", upstream.port, timeout=10)) as connection:
        yield connection


def get(connection: HTTPConnection) -> HTTPResponse:
    connection.request("GET", "/")
    return connection.getresponse()


@contextmanager
def talk(upstream: ScriptedUpstream, request: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=10) as sock:
        sock.sendall(request)
        yield sock


def drain(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65_536), b""))


def test_a_request_is_recorded_byte_for_byte() -> None:
    head = b"POST /v1/x?y=%20 HTTP/1.1\r\nHost: h\r\nX-Two: a\r\nx-two:  b\xff \r\n"
    head += b"Content-Length: 3\r\n\r\n"
    with ScriptedUpstream() as upstream, talk(upstream, head + b"a\x00c") as sock:
        sock.recv(100)
        (request,) = upstream.requests
    assert (request.method, request.path, request.body) == ("POST", "/v1/x?y=%20", b"a\x00c")
    assert (b"X-Two", b"a") in request.headers
    assert request.header_values("x-two") == ["a", "b\xff"]
    assert request.header("absent") is None
    assert request.connection == 1


def test_a_chunked_request_is_recorded_whole() -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with (
        ScriptedUpstream() as upstream,
        talk(upstream, head + b"2\r\n[1\r\n1;x=y\r\n]\r\n0\r\n\r\n") as sock,
    ):
        sock.recv(100)
        assert upstream.requests[0].json() == [1]


def test_a_connection_is_kept_alive() -> None:
    with ScriptedUpstream(json_reply({"ok": True})) as upstream, client(upstream) as connection:
        assert get(connection).read() == b'{"ok": true}'
        assert get(connection).read() == b'{"ok": true}'
        assert [request.connection for request in upstream.requests] == [1, 1]
        assert upstream.open_connections == 1
        connection.close()
        upstream.wait_for(lambda: upstream.open_connections == 0)
    assert upstream.connections == 1


def test_the_nth_request_is_answered_by_the_nth_script() -> None:
    scripts = json_reply({}, 500), json_reply({}, 429, [("retry-after", "1")]), json_reply({})
    with ScriptedUpstream(*scripts) as upstream, client(upstream) as connection:
        statuses = []
        for _ in range(4):
            answer = get(connection)
            answer.read()
            statuses.append(answer.status)
    assert statuses == [500, 429, 200, 200]


def test_other_scripts_can_be_played_while_it_runs() -> None:
    with ScriptedUpstream(json_reply(1)) as upstream, client(upstream) as connection:
        assert get(connection).read() == b"1"
        upstream.play(json_reply(2), json_reply(3))
        assert upstream.requests == []
        assert [get(connection).read() for _ in range(3)] == [b"2", b"3", b"3"]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_body_comes_whole_in_every_framing(framing: str) -> None:
    script = reply(200, [("x-a", "b")], b"hello", framing=framing)  # type: ignore[arg-type]
    with ScriptedUpstream(script) as upstream, client(upstream) as connection:
        answer = get(connection)
        assert (answer.read(), answer.getheader("x-a")) == (b"hello", "b")


def test_events_come_as_data_lines() -> None:
    events: list[Event] = [b": raw\r\n\r\n", "text", {"a": 1}, "[DONE]"]
    with ScriptedUpstream(sse(events, gap=0.001)) as upstream, client(upstream) as connection:
        answer = get(connection)
        assert answer.getheader("content-type") == "text/event-stream"
        assert answer.read() == b': raw\r\n\r\ndata: text\n\ndata: {"a": 1}\n\ndata: [DONE]\n\n'


def test_a_waiting_stream_goes_on_when_released() -> None:
    with (
        ScriptedUpstream(sse(["a", WAIT, "b", WAIT, "c"])) as upstream,
        client(upstream) as connection,
    ):
        answer = get(connection)
        assert answer.read1() == b"data: a\n\n"
        upstream.release(1)
        assert answer.read1() == b"data: b\n\n"
        upstream.release()
        assert answer.read() == b"data: c\n\n"


def test_a_silent_upstream_notices_that_its_client_is_gone() -> None:
    with ScriptedUpstream(silent()) as upstream:
        with talk(upstream, b"GET / HTTP/1.1\r\n\r\n"):
            upstream.wait_for(lambda: len(upstream.requests) == 1)
        upstream.wait_for(lambda: upstream.open_connections == 0)


def test_a_slow_stream_notices_that_its_client_is_gone() -> None:
    with ScriptedUpstream(sse(["a", "b"], gap=600)) as upstream:
        with talk(upstream, b"GET / HTTP/1.1\r\n\r\n") as sock:
            sock.recv(10)
        upstream.wait_for(lambda: upstream.open_connections == 0)


def test_a_silent_upstream_ends_the_connection_when_released() -> None:
    with ScriptedUpstream(silent()) as upstream, talk(upstream, b"GET / HTTP/1.1\r\n\r\n") as sock:
        upstream.release()
        assert drain(sock) == b""


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        (raw(b"abc"), b"abc"),
        (garbage(b"\x00"), b"\x00"),
        (hang_up(), b""),
        (cut_after(8, json_reply({})), b"HTTP/1.1"),
        (slow(raw(b"abc"), gap=0.001), b"abc"),
        (
            after_continues(2, raw(b"x")),
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nx",
        ),
    ],
)
def test_faults_are_sent_to_the_byte(script: Script, seen: bytes) -> None:
    with ScriptedUpstream(script) as upstream, talk(upstream, b"GET / HTTP/1.1\r\n\r\n") as sock:
        assert drain(sock) == seen


def test_a_cut_longer_than_the_reply_still_ends_the_connection() -> None:
    script = cut_after(10_000, json_reply({}))
    with ScriptedUpstream(script) as upstream, talk(upstream, b"GET / HTTP/1.1\r\n\r\n") as sock:
        assert drain(sock).endswith(b"{}")


def test_a_cut_stream_is_seen_as_incomplete() -> None:
    script = cut_after(100, sse(["a" * 200], headers=[("x", "y" * 10)]))
    with ScriptedUpstream(script) as upstream, client(upstream) as connection:
        answer = get(connection)
        with pytest.raises(IncompleteRead):
            answer.read()


@pytest.mark.parametrize("script", [rst(), rst_after(8, json_reply({}))])
def test_a_reset_is_a_reset(script: Script) -> None:
    with ScriptedUpstream(script) as upstream, talk(upstream, b"GET / HTTP/1.1\r\n\r\n") as sock:
        upstream.wait_for(lambda: upstream.connections == 1 and upstream.open_connections == 0)
        with pytest.raises(ConnectionResetError):
            drain(sock)


def test_a_connection_can_close_without_having_said_so() -> None:
    with (
        ScriptedUpstream(close_unannounced(json_reply({}))) as upstream,
        talk(upstream, b"GET / HTTP/1.1\r\n\r\n") as sock,
    ):
        answer = drain(sock)
    assert answer.endswith(b"{}")
    assert b"connection" not in answer.lower()


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_huge_reply_is_as_large_as_asked(framing: str) -> None:
    script = huge(1_000_000, framing=framing)  # type: ignore[arg-type]
    with ScriptedUpstream(script) as upstream, client(upstream) as connection:
        assert len(get(connection).read()) >= 1_000_000


def test_a_stream_can_promise_more_than_it_sends() -> None:
    script = close_unannounced(stream([b"ab"], headers=[("content-length", "9")], framing="length"))
    with ScriptedUpstream(script) as upstream, client(upstream) as connection:
        answer = get(connection)
        with pytest.raises(IncompleteRead):
            answer.read()


def test_waiting_in_vain_says_what_was_seen() -> None:
    with (
        ScriptedUpstream() as upstream,
        pytest.raises(TimeoutError, match="0 requests, 0 connections"),
    ):
        upstream.wait_for(lambda: False, timeout=0.1)


def test_many_connections_are_served_at_once_and_all_end_with_the_server() -> None:
    before = set(threading.enumerate())
    with ScriptedUpstream(silent()) as upstream:
        socks = [socket.create_connection(("127.0.0.1", upstream.port)) for _ in range(50)]
        for sock in socks:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        upstream.wait_for(lambda: len(upstream.requests) == 50)
        assert upstream.open_connections == 50
    for sock in socks:
        sock.close()
    assert upstream.open_connections == 0
    assert set(threading.enumerate()) <= before


def test_it_speaks_tls() -> None:
    authority = trustme.CA()
    server, trusting = (
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(),
    )
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(trusting)
    with ScriptedUpstream(json_reply([1]), tls=server) as upstream:
        assert upstream.url.startswith("https://")
        connection = HTTPSConnection("127.0.0.1", upstream.port, context=trusting, timeout=10)
        with closing(connection):
            assert get(connection).read() == b"[1]"


def test_a_client_that_refuses_our_certificate_leaves_nothing_open() -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server)
    with ScriptedUpstream(tls=server) as upstream:
        connection = HTTPSConnection("127.0.0.1", upstream.port, timeout=10)
        with closing(connection), pytest.raises(ssl.SSLError):
            connection.request("GET", "/")
    assert upstream.open_connections == 0
    assert upstream.requests == []


def test_it_listens_on_ipv6_too() -> None:
    with ScriptedUpstream(host="::1") as upstream:
        assert upstream.url == f"http://[::1]:{upstream.port}"
        with closing(HTTPConnection("::1", upstream.port, timeout=10)) as connection:
            assert get(connection).read() == b"{}"
