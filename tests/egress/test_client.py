import gzip
import os
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from proxy.egress import Egress, Handle
from proxy.errors import ConfigError, UpstreamError
from proxy.model import Limits, Timeouts, Upstream
from proxy.secret import Secret
from tests.egress.conftest import Start
from tests.egress.servers import LIMITS, ok, open_descriptors, says, serving, silent, upstream_at
from tests.ports import free_port

QUICK = Timeouts(connect=5, first_byte=0.3, idle=0.3, total=30)


def echo(sock: socket.socket, request: bytes) -> None:
    sock.sendall(ok(request.partition(b"\r\n\r\n")[2]))


def test_a_request_is_sent_exactly_as_given_plus_three_headers(start: Start) -> None:
    sender = start(echo)
    reply = sender.send(
        b'{"a":1}', {"authorization": "Bearer k", "content-type": "application/json"}
    )
    assert (reply.status, reply.read(100), reply.reused, reply.attempts) == (
        200,
        b'{"a":1}',
        False,
        1,
    )
    assert reply.address == f"127.0.0.1:{sender.server.port}"
    assert sender.server.requests == [
        b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nauthorization: Bearer k\r\n"
        b"content-type: application/json\r\nAccept-Encoding: identity\r\nContent-Length: 7\r\n\r\n"
        b'{"a":1}' % sender.server.port
    ]


def test_a_request_without_a_body_has_no_length(start: Start) -> None:
    sender = start(echo)
    sender.send(None, {}, method="GET", path="/models").read(10)
    assert b"content-length" not in sender.server.requests[0].lower()
    sender.send(b"").read(10)
    assert b"Content-Length: 0\r\n" in sender.server.requests[1]


def test_head_and_body_leave_in_one_write(start: Start) -> None:
    seen: list[bytes] = []

    def script(sock: socket.socket, request: bytes) -> None:
        seen.append(request)
        sock.sendall(ok(b""))

    sender = start(script)
    body = os.urandom(2 * 1024 * 1024)
    sender.send(body).close()
    assert seen[0].endswith(body)


def test_a_connection_whose_answer_was_read_is_used_again(start: Start) -> None:
    sender = start(echo)
    assert [sender.send().read(9) for _ in range(3)] == [b"{}"] * 3
    assert sender.server.connections == 1
    assert sender.send().reused


def test_a_connection_whose_answer_was_not_read_is_closed(start: Start) -> None:
    sender = start(says(ok(b"x" * 100_000), then_close=False))
    reply = sender.send()
    reply.close()
    reply.close()
    assert sender.server.gone.acquire(timeout=5)
    assert sender.send().read(100_000) == b"x" * 100_000
    assert sender.server.connections == 2


def test_a_stream_left_at_its_last_chunk_gives_its_connection_back(start: Start) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nDONE\r\n0\r\n\r\n"
    sender = start(says(chunked, then_close=False))
    for _ in range(2):
        reply = sender.send()
        assert next(reply.pieces()) == b"DONE"
        reply.close()
    assert sender.server.connections == 1


def test_a_stream_left_with_more_to_come_is_closed(start: Start) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nDONE\r\n4\r\nmore\r\n"
    sender = start(says(chunked, then_close=False))
    reply = sender.send()
    assert next(reply.pieces()) == b"DONE"
    reply.close()
    assert sender.server.gone.acquire(timeout=5)


def test_headers_keep_order_and_repeats(start: Start) -> None:
    sender = start(says(ok(b"", b"X-A: 1", b"x-b:\t2 ", b"X-A: 3"), then_close=False))
    reply = sender.send()
    assert reply.headers == (("content-length", "0"), ("x-a", "1"), ("x-b", "2"), ("x-a", "3"))
    assert (reply.header("X-a"), reply.header("x-c")) == ("1", None)
    reply.close()


@pytest.mark.parametrize("head", [b"Transfer-Encoding: chunked", b"Connection: close"])
def test_each_piece_is_given_as_soon_as_it_comes(start: Start, head: bytes) -> None:
    step = threading.Semaphore(0)
    chunked = b"chunked" in head

    def script(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        for number in range(5):
            text = b"event %d" % number
            sock.sendall(b"%x\r\n%s\r\n" % (len(text), text) if chunked else text)
            # The next piece is only written once the reader has this one.
            assert step.acquire(timeout=10)
        sock.sendall(b"0\r\n\r\n" if chunked else b"")
        if not chunked:
            raise ConnectionAbortedError

    reply = start(script).send()
    seen = []
    for piece in reply.pieces():
        seen.append(piece)
        step.release()
    assert seen == [b"event %d" % number for number in range(5)]


def test_a_large_body_comes_in_bounded_pieces(start: Start) -> None:
    body = os.urandom(1_000_000)
    reply = start(says(ok(body), then_close=False)).send()
    pieces = list(reply.pieces())
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= 64 * 1024


@pytest.mark.parametrize(
    ("answer", "received"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", b"short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", b"short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nshort", b"short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort", b"short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\n", b"short"),
    ],
)
def test_a_body_that_ends_too_early_is_cut(start: Start, answer: bytes, received: bytes) -> None:
    reply = start(says(answer)).send()
    seen = b""
    with pytest.raises(UpstreamError) as caught:  # noqa: PT012
        for piece in reply.pieces():
            seen += piece
    assert (caught.value.kind, caught.value.bytes_received, seen) == ("cut", True, received)


def test_a_body_over_the_limit_is_refused(start: Start) -> None:
    known = start(says(ok(b"x" * 101), then_close=False))
    unknown = start(says(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101))
    for sender in (known, unknown):
        with pytest.raises(UpstreamError) as caught:
            sender.send().read(100)
        assert caught.value.kind == "too_large"
    assert unknown.send().read(101) == b"x" * 101


def test_a_stream_over_reply_bytes_is_refused(start: Start) -> None:
    sender = start(says(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101))
    egress = Egress([sender.upstream], Limits(reply_bytes=100))
    reply = egress.send(sender.upstream, "GET", "/models", None, {}, Handle())
    with pytest.raises(UpstreamError, match="too_large"):
        list(reply.pieces())


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_never_followed(start: Start, status: int) -> None:
    target = start(echo)
    location = b"Location: http://127.0.0.1:%d/steal" % target.server.port
    sender = start(says(b"HTTP/1.1 %d Go\r\n%s\r\nContent-Length: 0\r\n\r\n" % (status, location)))
    with pytest.raises(UpstreamError) as caught:
        sender.send()
    assert caught.value.kind == "redirect"
    assert target.server.connections == 0


def test_error_answers_are_answers(start: Start) -> None:
    sender = start(says(b"HTTP/1.1 429 Slow Down\r\nContent-Length: 2\r\nRetry-After: 3\r\n\r\n{}"))
    reply = sender.send()
    assert (reply.status, reply.header("retry-after"), reply.read(9)) == (429, "3", b"{}")


def test_cookies_of_one_call_are_not_sent_with_the_next(start: Start) -> None:
    sender = start(says(ok(b"", b"Set-Cookie: tenant=a"), then_close=False))
    for _ in range(2):
        sender.send().close()
    assert b"cookie" not in sender.server.requests[1].lower()


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "raw deflate"])
def test_an_asked_for_nothing_compression_is_undone_all_the_same(start: Start, coding: str) -> None:
    text = b"data: {}\n\n" * 1000
    raw = zlib.compressobj(wbits=-15)
    coded = {
        "gzip": gzip.compress(text),
        "x-gzip": gzip.compress(text),
        "deflate": zlib.compress(text),
        "raw deflate": raw.compress(text) + raw.flush(),
    }[coding]
    name = coding.rpartition(" ")[2].encode()
    assert start(says(ok(coded, b"Content-Encoding: " + name))).send().read(100_000) == text


@pytest.mark.parametrize(
    ("coding", "body", "kind"),
    [
        (b"br", b"x", "encoding"),
        (b"gzip, gzip", gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), "encoding"),
        (b"gzip", b"not gzip at all", "encoding"),
        (b"gzip", gzip.compress(b"x", mtime=0) + b"more", "encoding"),
        (b"gzip", gzip.compress(b"x" * 1000, mtime=0)[:-6], "cut"),
        (b"deflate", zlib.compress(b"x" * 1000)[:-6], "cut"),
    ],
)
def test_a_compression_that_is_not_understood_is_refused(
    start: Start, coding: bytes, body: bytes, kind: str
) -> None:
    reply = start(says(ok(body, b"Content-Encoding: " + coding))).send()
    with pytest.raises(UpstreamError) as caught:
        reply.read(10_000)
    assert caught.value.kind == kind


def test_a_compressed_stream_is_undone_however_it_is_cut(start: Start) -> None:
    coded = gzip.compress(b"data: 1\n\n", mtime=0)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in coded) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert start(says(head + chunks)).send().read(100) == b"data: 1\n\n"


def test_trailing_bytes_in_a_later_piece_are_refused(start: Start) -> None:
    coded = gzip.compress(b"x", mtime=0)
    chunks = b"%x\r\n%s\r\n1\r\ny\r\n0\r\n\r\n" % (len(coded), coded)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(UpstreamError, match="encoding"):
        start(says(head + chunks)).send().read(10)


def test_an_empty_body_needs_no_decoder(start: Start) -> None:
    assert start(says(ok(b"", b"Content-Encoding: gzip"))).send().read(10) == b""


def test_a_decompression_bomb_costs_bounded_memory(start: Start) -> None:
    bomb = gzip.compress(bytes(200 * 1024 * 1024), 9)
    reply = start(says(ok(bomb, b"Content-Encoding: gzip"))).send()
    tracemalloc.start()
    try:
        size = 0
        with pytest.raises(UpstreamError, match="too_large"):  # noqa: PT012
            for piece in reply.pieces():
                size += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size <= LIMITS.reply_bytes
    assert peak < 4 * 1024 * 1024


def test_silence_before_the_head_is_a_first_byte_timeout(start: Start) -> None:
    with pytest.raises(UpstreamError) as caught:
        start(silent, timeouts=QUICK).send()
    assert (caught.value.kind, caught.value.bytes_received) == ("timeout_first_byte", False)


def test_a_head_that_trickles_is_a_first_byte_timeout(start: Start) -> None:
    def script(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            time.sleep(0.05)
            sock.sendall(b"X-A: 1\r\n")

    with pytest.raises(UpstreamError) as caught:
        start(script, timeouts=QUICK).send()
    assert (caught.value.kind, caught.value.bytes_received) == ("timeout_first_byte", True)


def test_silence_in_the_body_is_an_idle_timeout(start: Start) -> None:
    def script(sock: socket.socket, request: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        silent(sock, request)

    pieces = start(script, timeouts=QUICK).send().pieces()
    assert next(pieces) == b"abc"
    with pytest.raises(UpstreamError, match="timeout_idle"):
        next(pieces)


def test_nobody_listening_is_a_connect_error() -> None:
    upstream = upstream_at(free_port())
    with pytest.raises(UpstreamError) as caught:
        Egress([upstream], LIMITS).send(upstream, "GET", "/models", None, {}, Handle())
    assert (caught.value.kind, caught.value.detail) == (
        "connect",
        "the connection to the upstream failed: Connection refused",
    )


def test_a_listener_that_does_not_take_the_call_is_a_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        upstream = upstream_at(address[1], timeouts=Timeouts(connect=0.3))
        with pytest.raises(UpstreamError, match="timeout_connect"):
            Egress([upstream], LIMITS).send(upstream, "GET", "/models", None, {}, Handle())
        for filler in fillers:
            filler.close()


def test_a_private_address_is_refused_unless_allowed(start: Start) -> None:
    sender = start(echo)
    upstream = Upstream(
        name="x", provider="openai", base_url=f"https://localhost:{sender.server.port}"
    )
    with pytest.raises(UpstreamError, match="refused_address"):
        Egress([upstream], LIMITS).send(upstream, "GET", "/models", None, {}, Handle())
    assert sender.server.connections == 0


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0b", "a\x7fb", "é", "Ā", "\u2028", "a\tb"])
def test_a_header_that_could_split_a_request_is_refused_before_anything_is_sent(
    start: Start, value: str
) -> None:
    sender = start(echo)
    for headers in ({"x-a": value}, {f"x{value}": "a"}):
        with pytest.raises(ValueError, match="header") as caught:
            sender.send(headers=headers)
        assert value not in str(caught.value)
    assert sender.server.connections == 0


@pytest.mark.parametrize("name", ["", "Host", "content-length", "Transfer-Encoding", "connection"])
def test_framing_headers_are_not_the_callers_to_set(start: Start, name: str) -> None:
    with pytest.raises(ValueError, match="not the caller's"):
        start(echo).send(headers={name: "x"})


@pytest.mark.parametrize(
    "path",
    [
        "",
        "models",
        "/a b",
        "/a\r\nb",
        "/é",
        "/a#b",
        "/a\\b",
        "/..",
        "/a/../b",
        "/%2e%2E/a",
        "/.",
        "/a/..?b",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(start: Start, path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        start(echo).send(path=path)


def test_a_method_is_a_plain_word(start: Start) -> None:
    with pytest.raises(ValueError, match="method"):
        start(echo).send(method="GET /x")


def test_only_configured_upstreams_are_sent_to(start: Start) -> None:
    sender = start(echo)
    for stranger in (upstream_at(1), upstream_at(1, name="other")):
        with pytest.raises(UpstreamError, match="not a configured upstream"):
            sender.egress.send(stranger, "GET", "/models", None, {}, Handle())


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": "http://user:hunter2@127.0.0.1/"},
        {"base_url": "https://api.example", "ca_bundle": "/nonexistent.pem"},
        {"base_url": "https://api.example", "client_cert": "/nonexistent.pem"},
        {"outbound_proxy": Secret("socks5://hunter2@h:1")},
        {"outbound_proxy": Secret("http://hunter2@h:99999999")},
    ],
)
def test_a_bad_upstream_stops_the_start_and_shows_no_secret(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="'test'") as caught:
        Egress([upstream_at(1, **changes)], LIMITS)
    assert "hunter2" not in str(caught.value)


def test_the_adapter_takes_only_requests_made_for_it(start: Start) -> None:
    sender = start(echo)
    sender.send().close()
    (adapter,) = sender.egress._adapters.values()
    with pytest.raises(TypeError, match="PinnedRequest"):
        adapter.send(requests.Request("GET", "http://127.0.0.1/").prepare())


def test_a_dead_pooled_connection_is_replaced_once(start: Start) -> None:
    number = iter(range(100))

    def script(sock: socket.socket, request: bytes) -> None:
        # The first connection dies on its second request, before any byte of an answer.
        if next(number) == 1:
            raise ConnectionAbortedError
        echo(sock, request)

    sender = start(script)
    sender.send().read(9)
    reply = sender.send(b"again")
    assert (reply.read(9), reply.attempts, reply.reused) == (b"again", 2, False)
    assert sender.server.connections == 2


def test_a_second_death_is_told_and_not_tried_again(start: Start) -> None:
    number = iter(range(100))

    def script(sock: socket.socket, request: bytes) -> None:
        if next(number) >= 1:
            raise ConnectionAbortedError
        echo(sock, request)

    sender = start(script)
    sender.send().read(9)
    with pytest.raises(UpstreamError) as caught:
        sender.send()
    assert (caught.value.kind, caught.value.bytes_received) == ("cut", False)
    assert len(sender.server.requests) == 3


def test_a_fresh_connection_that_dies_is_not_tried_again(start: Start) -> None:
    sender = start(says(b""))
    with pytest.raises(UpstreamError, match="before it answered"):
        sender.send()
    assert len(sender.server.requests) == 1


def test_a_connection_that_died_after_one_byte_is_not_tried_again(start: Start) -> None:
    number = iter(range(100))

    def script(sock: socket.socket, request: bytes) -> None:
        if next(number):
            sock.sendall(b"H")
            raise ConnectionAbortedError
        echo(sock, request)

    sender = start(script)
    sender.send().read(9)
    with pytest.raises(UpstreamError) as caught:
        sender.send()
    assert (caught.value.kind, caught.value.bytes_received) == ("cut", True)
    assert len(sender.server.requests) == 2


def test_answers_of_many_threads_are_never_mixed(start: Start) -> None:
    sender = start(echo)
    before = open_descriptors()

    def calls(thread: int) -> int:
        right = 0
        for number in range(50):
            body = b"%d-%d" % (thread, number)
            right += sender.send(body).read(100) == body
        return right

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(calls, range(32))) == 32 * 50
    assert sender.server.connections <= 32 + 2
    sender.egress.close()
    for _ in range(sender.server.connections):
        assert sender.server.gone.acquire(timeout=10)
    assert open_descriptors() <= before


def test_aborted_calls_leak_no_sockets(start: Start) -> None:
    sender = start(says(ok(b"x" * 500_000), then_close=False))
    before = open_descriptors()
    for _ in range(50):
        sender.send().close()
    for _ in range(50):
        assert sender.server.gone.acquire(timeout=10)
    assert open_descriptors() <= before


def test_ipv6_upstreams_are_reached_and_named() -> None:
    with serving(echo, family=socket.AF_INET6) as server:
        upstream = upstream_at(0, base_url=f"http://[::1]:{server.port}/v1")
        egress = Egress([upstream], LIMITS)
        reply = egress.send(upstream, "POST", "/completions", b"six", {}, Handle())
        assert (reply.read(9), reply.address) == (b"six", f"[::1]:{server.port}")
        assert b"Host: [::1]:%d\r\n" % server.port in server.requests[0]
        egress.close()


def test_the_timeouts_of_one_request_hold_instead_of_the_upstreams(start: Start) -> None:
    sender = start(silent, timeouts=Timeouts(connect=5, first_byte=3600, idle=3600, total=3600))
    with pytest.raises(UpstreamError) as caught:
        sender.send(timeouts=QUICK)
    assert caught.value.kind == "timeout_first_byte"


def test_the_timeouts_of_one_request_say_how_long_its_body_may_be_silent(start: Start) -> None:
    def script(sock: socket.socket, request: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nso")
        silent(sock, request)

    sender = start(script, timeouts=Timeouts(connect=5, first_byte=3600, idle=3600, total=3600))
    with pytest.raises(UpstreamError, match="timeout_idle"):
        sender.send(timeouts=QUICK).read(9)


def test_a_signature_sees_the_request_as_it_leaves_and_gives_its_headers(start: Start) -> None:
    sender = start(echo)
    seen: list[object] = []

    def sign(
        method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Mapping[str, str]:
        seen.extend((method, url, dict(headers), body))
        return {"x-kept": headers["x-kept"], "authorization": "signed"}

    sender.send(b"{}", {"x-kept": "1", "x-left": "2"}, path="/a?b=c", sign=sign).read(9)
    url = f"http://127.0.0.1:{sender.server.port}/v1/a?b=c"
    assert seen == ["POST", url, {"x-kept": "1", "x-left": "2"}, b"{}"]
    (request,) = sender.server.requests
    assert b"\r\nx-kept: 1\r\nauthorization: signed\r\n" in request
    assert b"x-left" not in request


@pytest.mark.parametrize(
    "headers", [{"Host": "elsewhere.example"}, {"content-length": "0"}, {"x-a": "a\r\nb: c"}]
)
def test_a_signature_cannot_frame_the_request_anew(start: Start, headers: dict[str, str]) -> None:
    sender = start(echo)
    with pytest.raises(ValueError, match="header"):
        sender.send(sign=lambda *_: headers)
    assert sender.server.connections == 0


def test_nothing_is_sent_when_the_signature_is_refused(start: Start) -> None:
    def sign(*_: object) -> Mapping[str, str]:
        raise ValueError("no key for this region")

    sender = start(echo)
    with pytest.raises(ValueError, match="this region"):
        sender.send(sign=sign)
    assert sender.server.connections == 0
