"""Hostile upstreams and addresses, end to end: one fixed answer, and nothing of theirs comes through."""

import os
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.app import create_app
from proxy.config import parse
from proxy.errors import ConfigError
from tests.gateway import (
    COMPLETION,
    REPLY,
    STREAMED,
    UPSTREAM_KEY,
    Answer,
    Gateway,
    chunk,
    document,
    encoded,
    gateway,
)
from tests.upstream import (
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
    silent,
    slow,
    sse,
)

_OK = b"HTTP/1.1 200 OK\r\n"
_TYPE = b"Content-Type: application/json\r\n"
_BODY = encoded(REPLY)
_KIND = [("content-type", "application/json")]
_SECRET = "INTERNAL-TEXT"


def head(*lines: bytes, status: bytes = _OK) -> bytes:
    return status + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest.fixture(scope="module")
def shared() -> Iterator[Gateway]:
    limits = {"reply_bytes": 1024 * 1024}
    with gateway(limits=limits, upstream={"timeouts": {"first_byte": 5, "idle": 5}}) as gate:
        yield gate


@pytest.fixture
def gate(shared: Gateway) -> Gateway:
    shared.records.clear()
    return shared


def failed(gate: Gateway, script: Script, body: Any = COMPLETION) -> Answer:
    """The answer of a call whose upstream plays ``script``; it is 502 or 504 and holds nothing of it."""
    gate.upstream.play(script)
    answer = gate.ask(body)
    assert answer.status in {502, 504}, (answer.status, answer.body[:200])
    assert answer.error["type"] == "server_error"
    assert _SECRET.encode() not in answer.body
    assert gate.record().outcome == "upstream_error"
    assert gate.record().status == answer.status
    gate.records.clear()
    return answer


NOT_HTTP = {
    "nothing": hang_up(),
    "reset": rst(),
    "garbage": garbage(),
    "HTTP/0.9": raw(b"<html>" + _SECRET.encode() + b"</html>"),
    "HTTP/2.0": raw(b"HTTP/2.0 200 OK\r\n\r\n"),
    "status 999": raw(head(status=b"HTTP/1.1 999 X\r\n")),
    "status 101": raw(head(b"Upgrade: h2c", status=b"HTTP/1.1 101 Switching Protocols\r\n")),
    "no status": raw(head(status=b"HTTP/1.1\r\n")),
    "70 kB header": raw(head(b"X-Long: " + b"a" * 70_000, b"Content-Length: 2") + b"{}"),
    "201 headers": raw(head(*[b"X-%d: 1" % n for n in range(201)], b"Content-Length: 2") + b"{}"),
    "obs-fold": raw(head(b"X-A: 1", b" folded", b"Content-Length: 2") + b"{}"),
    "no colon": raw(head(b"nonsense", b"Content-Length: 2") + b"{}"),
    "NUL in header": raw(head(b"X-A: a\0b", b"Content-Length: 2") + b"{}"),
    "bad chunk": raw(head(b"Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n"),
    "long chunk": raw(head(b"Transfer-Encoding: chunked") + b"2\r\n{}}}\r\n0\r\n\r\n"),
    "2000 continues": after_continues(2000, json_reply(REPLY)),
    "length and chunked": raw(
        head(b"Content-Length: 2", b"Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n"
    ),
    "two lengths": raw(head(b"Content-Length: 2", b"Content-Length: 3") + b"{}"),
    "negative length": raw(head(b"Content-Length: -1") + b"{}"),
    "length +2": raw(head(b"Content-Length: +2") + b"{}"),
    "gzip, chunked": raw(head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n"),
    "unknown coding": raw(head(b"Content-Encoding: br", b"Content-Length: 2") + b"{}"),
    "broken gzip": raw(head(b"Content-Encoding: gzip", b"Content-Length: 2") + b"{}"),
}


@pytest.mark.parametrize("name", NOT_HTTP)
@pytest.mark.parametrize("body", [COMPLETION, STREAMED], ids=["whole", "stream"])
def test_s7_what_is_not_http_is_one_fixed_502(gate: Gateway, name: str, body: Any) -> None:
    assert failed(gate, NOT_HTTP[name], body).status == 502


def test_the_gateway_works_after_every_one_of_them(gate: Gateway) -> None:
    for script in NOT_HTTP.values():
        gate.upstream.play(script)
        gate.ask(COMPLETION)
        gate.upstream.play(json_reply(REPLY))
        assert gate.ask(COMPLETION).json() == REPLY


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_s5_a_redirect_is_never_followed(gate: Gateway, status: int) -> None:
    with ScriptedUpstream(json_reply(REPLY)) as other:
        answer = failed(gate, reply(status, [("Location", f"{other.url}/{_SECRET}")]))
        assert answer.error["code"] == "upstream_redirect"
        assert other.requests == []
        assert len(gate.upstream.requests) == 1


NOT_JSON = {
    "html": reply(200, [("content-type", "text/html")], f"<p>{_SECRET}</p>".encode()),
    "an array": reply(200, _KIND, b'["x"]'),
    "a string": reply(200, _KIND, b'"x"'),
    "null": reply(200, _KIND, b"null"),
    "empty": reply(200, _KIND, b""),
    "no content": raw(head(status=b"HTTP/1.1 204 No Content\r\n")),
    "cut JSON": reply(200, _KIND, _BODY[:-5], framing="close"),
    "a stream that is not called one": reply(200, _KIND, b"data: [DONE]\n\n"),
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_success_without_a_json_object_is_502(gate: Gateway, name: str) -> None:
    failed(gate, NOT_JSON[name])


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_s8_a_whole_reply_cut_anywhere_is_never_taken_for_whole(
    gate: Gateway, framing: Any
) -> None:
    script = reply(200, _KIND, _BODY, framing=framing)
    for count in (0, 1, 20, 60, len(_BODY) // 2, len(_BODY)):
        answer = failed(gate, cut_after(count, script))
        assert answer.status == 502
        assert answer.header("x-should-retry") is None


def test_s9_a_byte_now_and_then_does_not_outlive_the_deadline() -> None:
    timeouts = {"first_byte": 30, "idle": 30, "total": 0.4}
    for script in (slow(json_reply(REPLY), gap=0.1), silent()):
        with gateway(script, upstream={"timeouts": timeouts}) as gate:
            answer = gate.ask(COMPLETION)
            assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
            assert gate.record().failures[0].kind == "deadline"
            gate.upstream.wait_for(lambda: gate.upstream.open_connections == 0)


def test_an_upstream_that_says_nothing_is_504() -> None:
    for key in ("first_byte", "idle"):
        script = silent() if key == "first_byte" else cut_wait()
        with gateway(script, upstream={"timeouts": {key: 0.2}}) as gate:
            assert gate.ask(COMPLETION).status == 504
            assert gate.record().failures[0].kind == f"timeout_{key}"
            gate.upstream.wait_for(lambda: gate.upstream.open_connections == 0)


def cut_wait() -> Script:
    """Half a reply, then silence."""

    def play(connection: Any, _: Any) -> None:
        connection.send(head(b"Content-Length: 100") + b'{"a":')
        connection.wait()

    return play


def test_a_body_above_the_limit_is_502_and_memory_stays_small(gate: Gateway) -> None:
    for framing in ("length", "chunked", "close"):
        failed(gate, huge(64 * 1024 * 1024, framing=framing))
    zeros = zlib.compress(b" " * (256 * 1024 * 1024), 9)
    failed(gate, reply(200, [*_KIND, ("content-encoding", "deflate")], zeros))


def test_a_compressed_reply_is_unpacked(gate: Gateway) -> None:
    headers = [*_KIND, ("content-encoding", "deflate")]
    gate.upstream.play(reply(200, headers, zlib.compress(_BODY)))
    answer = gate.ask(COMPLETION)
    assert (answer.body, answer.header("content-encoding")) == (_BODY, None)


def test_a_kept_connection_that_died_is_replaced_once(gate: Gateway) -> None:
    gate.upstream.play(close_unannounced(json_reply(REPLY)))
    for _ in range(20):
        assert gate.ask(COMPLETION).status == 200
    assert len(gate.upstream.requests) == 20


HOSTS = [
    "127.0.0.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "192.0.0.192",
    "169.254.169.254",
    "10.0.0.1",
    "0.0.0.0",
    "localhost",
]


@pytest.mark.parametrize("host", HOSTS)
def test_s1_s2_s3_a_private_address_is_never_connected_to(host: str) -> None:
    with gateway() as real:
        url = f"https://{host}:{real.upstream.port}/v1"
        with gateway(upstream={"base_url": url, "allow_private": False}) as gate:
            answer = gate.ask(COMPLETION)
            assert (answer.status, answer.error["code"]) == (502, "upstream_error")
            assert gate.record().failures[0].kind == "refused_address"
        assert real.upstream.connections == 0
        assert host.strip("[]") not in answer.error["message"]


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://0/",
        "https://①②⑦.⓪.⓪.①/",
        "https://127。0。0。1/",
        "https://127.0.0.1\\@good.example/",
        "https://good.example\\@127.0.0.1/",
        "https://user:pw@good.example/",
        "https://good.example#@127.0.0.1/",
        "https://good.example?@127.0.0.1/",
        "https://good.example%2f@127.0.0.1/",
        "https://good.example\t/",
        "https://good.example\0/",
        "https://good.example／x/",
        "https://[fe80::1%25lo]/",
        "http+unix://%2Fvar%2Frun/",
        "file:///etc/passwd",
    ],
)
def test_s1_s4_a_base_url_two_parsers_could_read_differently_stops_the_start(url: str) -> None:
    settings = document("http://unused", "none", upstream={"base_url": url, "allow_private": False})
    with pytest.raises(ConfigError):
        create_app(parse(settings))


def test_s6_the_environment_changes_nothing(tmp_path: Any, monkeypatch: Any) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password stolen\n")
    netrc.chmod(0o600)
    with ScriptedUpstream(json_reply(REPLY)) as trap, gateway() as gate:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, trap.url)
        for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"):
            monkeypatch.setenv(name, os.devnull)
        monkeypatch.setenv("NETRC", str(netrc))
        assert gate.ask(COMPLETION).json() == REPLY
        assert gate.upstream.requests[0].header("authorization") == f"Bearer {UPSTREAM_KEY}"
        assert trap.connections == 0


def test_cookies_of_one_answer_are_not_sent_with_the_next(gate: Gateway) -> None:
    gate.upstream.play(json_reply(REPLY, headers=[("Set-Cookie", "tenant=alice; Path=/")]))
    assert gate.ask(COMPLETION).header("set-cookie") is None
    gate.ask(COMPLETION)
    assert [request.header("cookie") for request in gate.upstream.requests] == [None, None]


def test_h11_no_header_of_the_caller_chooses_where_the_company_s_key_goes(gate: Gateway) -> None:
    with ScriptedUpstream(json_reply(REPLY)) as other:
        gate.upstream.play(sse([chunk("", "stop"), "[DONE]"]))
        for name in ("Host", "X-Portkey-Custom-Host", "X-Forwarded-Host", "Forwarded", "Origin"):
            headers = [
                ("Content-Type", "application/json"),
                ("Authorization", "Bearer caller-key-0123456789"),
                (name, other.url),
            ]
            gate.ask(COMPLETION, headers)
        assert other.connections == 0
