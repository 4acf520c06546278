import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.egress import Egress, Handle
from proxy.errors import UpstreamError
from tests.egress.conftest import Start
from tests.egress.servers import LIMITS, Server, ok, says, upstream_at

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"Content-Length: 2\r\n\r\n{}"

REFUSED_HEADS = {
    "no http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "http 0.9": b"<html>hello</html>\n",
    "http 2": b"HTTP/2.0 200 OK\r\n\r\n",
    "http 1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "status 999": b"HTTP/1.1 999 What\r\n\r\n",
    "status 600": b"HTTP/1.1 600 What\r\n\r\n",
    "status 20": b"HTTP/1.1 20 OK\r\n\r\n",
    "status in words": b"HTTP/1.1 two OK\r\n\r\n",
    "status with a plus": b"HTTP/1.1 +20 OK\r\n\r\n",
    "two blanks": b"HTTP/1.1  200 OK\r\n\r\n",
    "protocol switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    "2,000 interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 2000 + OK + HELLO,
    "11 interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 11 + OK + HELLO,
    "201 fields": OK + b"X-A: 1\r\n" * 200 + HELLO,
    "70 kB field": OK + b"X-A: " + b"a" * 70_000 + b"\r\n" + HELLO,
    "70 kB status line": b"HTTP/1.1 200 " + b"a" * 70_000 + b"\r\n" + HELLO,
    "head over 256 KiB": OK + (b"X-A: " + b"a" * 60_000 + b"\r\n") * 5 + HELLO,
    "folded field": OK + b"X-A: 1\r\n folded\r\n" + HELLO,
    "field without colon": OK + b"nonsense\r\n" + HELLO,
    "field without name": OK + b": 1\r\n" + HELLO,
    "blank before colon": OK + b"Content-Length : 2\r\n\r\n{}",
    "nul in a value": OK + b"X-A: a\0b\r\n" + HELLO,
    "bare cr in a value": OK + b"X-A: a\rContent-Length: 3\r\n" + HELLO,
    "length and chunked": OK
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "negative length": OK + b"Content-Length: -1\r\n\r\n{}",
    "length with a plus": OK + b"Content-Length: +2\r\n\r\n{}",
    "length list": OK + b"Content-Length: 2, 2\r\n\r\n{}",
    "two lengths": OK + b"Content-Length: 2\r\n" + HELLO,
    "endless length": OK + b"Content-Length: 9999999999999999999\r\n\r\n{}",
    "empty length": OK + b"Content-Length:\r\n\r\n{}",
    "gzip, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity coding": OK + b"Transfer-Encoding: identity\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}
REFUSED_BODIES = {
    "size not hexadecimal": CHUNKED + b"x\r\n{}\r\n0\r\n\r\n",
    "size with a plus": CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n",
    "size with 0x": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "size with an underscore": CHUNKED + b"0_2\r\n{}\r\n0\r\n\r\n",
    "endless size": CHUNKED + b"F" * 16 + b"\r\n{}\r\n0\r\n\r\n",
    "70 kB extension": CHUNKED + b"2;" + b"a" * 70_000 + b"\r\n{}\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"2\r\n{}garbage\r\n0\r\n\r\n",
    "bad trailer": CHUNKED + b"2\r\n{}\r\n0\r\nnonsense\r\n\r\n",
    "endless trailer": CHUNKED + b"2\r\n{}\r\n0\r\n" + b"X-A: 1\r\n" * 300 + b"\r\n",
}
ACCEPTED = {
    "ten interim answers": b"HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\n" * 10 + OK + HELLO,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" + OK + HELLO,
    "200 fields": OK + b"X-A: 1\r\n" * 199 + HELLO,
    "no reason": b"HTTP/1.1 200\r\n" + HELLO,
    "empty reason": b"HTTP/1.1 200 \r\n" + HELLO,
    "bare lf": (OK + HELLO).replace(b"\r\n", b"\n"),
    "latin-1 value": OK + b"X-A: caf\xe9\r\n" + HELLO,
    "http 1.0 with length": b"HTTP/1.0 200 OK\r\n" + HELLO,
    "http 1.0 to its end": b"HTTP/1.0 200 OK\r\n\r\n{}",
    "to its end": OK + b"\r\n{}",
    "chunked": CHUNKED + b'1\r\n{\r\n01;name="v"\r\n}\r\n000\r\n\r\n',
    "chunked with a trailer": CHUNKED + b"2\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n",
    "chunked in capitals": OK + b"transfer-encoding: CHUNKED\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("answer", REFUSED_HEADS.values(), ids=REFUSED_HEADS)
def test_a_head_that_is_not_understood_is_a_protocol_error(start: Start, answer: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        start(says(answer)).send()
    assert (caught.value.kind, caught.value.bytes_received) == ("protocol", True)


@pytest.mark.parametrize("answer", REFUSED_BODIES.values(), ids=REFUSED_BODIES)
def test_a_framing_that_is_not_understood_is_a_protocol_error(start: Start, answer: bytes) -> None:
    reply = start(says(answer)).send()
    with pytest.raises(UpstreamError) as caught:
        reply.read(1000)
    assert caught.value.kind == "protocol"


@pytest.mark.parametrize("answer", ACCEPTED.values(), ids=ACCEPTED)
def test_what_rfc_9112_allows_is_read(start: Start, answer: bytes) -> None:
    assert start(says(answer)).send().read(1000) == b"{}"


@pytest.mark.parametrize("cut", [5, 17, 20, 30])
def test_a_head_that_ends_too_early_is_cut(start: Start, cut: int) -> None:
    with pytest.raises(UpstreamError) as caught:
        start(says((OK + HELLO)[:cut])).send()
    assert (caught.value.kind, caught.value.bytes_received) == ("cut", True)


def test_a_204_has_no_body_and_keeps_its_connection(start: Start) -> None:
    sender = start(says(b"HTTP/1.1 204 No Content\r\n\r\n", then_close=False))
    assert [sender.send().read(10) for _ in range(2)] == [b"", b""]
    assert sender.server.connections == 1


@pytest.mark.parametrize(
    ("head", "connections"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", 2),
        (b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\n", 2),
        (b"HTTP/1.1 200 OK\r\nConnection: disclosed\r\n", 1),
        (b"HTTP/1.0 200 OK\r\n", 2),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", 1),
    ],
)
def test_the_upstream_decides_whether_a_connection_lives_on(
    start: Start, head: bytes, connections: int
) -> None:
    sender = start(says(head + HELLO, then_close=False))
    assert [sender.send().read(10) for _ in range(2)] == [b"{}", b"{}"]
    assert sender.server.connections == connections


@settings(max_examples=60, deadline=None)
@given(noise=st.binary(max_size=60), cut=st.integers(0, 60))
def test_no_noise_in_an_answer_raises_anything_but_an_upstream_error(
    noise: bytes, cut: int
) -> None:
    whole = CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"
    server = Server(says(whole[:cut] + noise + whole[cut:]))
    upstream = upstream_at(server.port)
    egress = Egress([upstream], LIMITS)
    try:
        egress.send(upstream, "GET", "/models", None, {}, Handle()).read(10_000)
    except UpstreamError as error:
        assert error.kind in {"protocol", "cut", "redirect", "encoding"}  # noqa: PT017
    finally:
        egress.close()
        server.close()


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.binary(min_size=1, max_size=200), max_size=8))
def test_a_body_is_the_same_however_it_was_chunked(parts: list[bytes]) -> None:
    body = b"".join(parts)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    for answer in (CHUNKED + chunks + b"0\r\n\r\n", ok(body)):
        server = Server(says(answer))
        upstream = upstream_at(server.port)
        egress = Egress([upstream], LIMITS)
        reply = egress.send(upstream, "GET", "/models", None, {}, Handle())
        assert reply.read(10_000) == body
        egress.close()
        server.close()
