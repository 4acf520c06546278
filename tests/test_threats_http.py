"""Hostile HTTP against the real server: no request is smuggled, none ends in a traceback."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.connection import says_more
from tests.e2e.stack import ALICE_KEY, Stack, configuration, running_stack
from tests.framing import BODY, CORPUS, HEADERS, SMUGGLED, chunked, raw_request
from tests.gateway import COMPLETION, PATIENCE, REPLY, Answer, encoded, read_answer, request_bytes
from tests.upstream import ScriptedUpstream, json_reply

#: Seconds of silence after which a caller believes that no more comes.
_QUIET: Final = 0.05
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d\d\d) ")


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(json_reply(REPLY)) as server:
        yield server


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("http")
    config = configuration({"main": f"{upstream.url}/v1"}, folder / "log.jsonl")
    config += "\n[limits]\nbody_bytes = 1048576\nclient_idle = 2\n"
    with running_stack(folder, config, front=False, threads=24) as running:
        yield running


@pytest.fixture
def port(stack: Stack, upstream: ScriptedUpstream) -> Iterator[int]:
    """The port of a server that writes no traceback during the test and works after it."""
    before = len(stack.logs()["gunicorn.log"])
    number = int(stack.direct.rsplit(":", 1)[1])
    upstream.requests.clear()
    yield number
    assert works(number)
    assert "Traceback" not in stack.logs()["gunicorn.log"][before:]


def talk(port: int, data: bytes) -> bytes:
    """Everything the server says to these bytes; a caller with nothing more to say then hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(data)
        said = b""
        while says_more(sock, _QUIET):
            piece = receive(sock)
            said += piece
            if not piece:
                return said
        sock.shutdown(socket.SHUT_WR)
        while piece := receive(sock):
            said += piece
        return said


def receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65_536)
    except ConnectionResetError:
        return b""


def ask(port: int, *headers: tuple[str, str], path: str = "/v1/completions") -> Answer:
    data = request_bytes("POST", path, [*HEADERS, *headers], BODY)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(data)
        return read_answer(sock)


def works(port: int) -> bool:
    return bool(ask(port).json() == REPLY)


def statuses(said: bytes) -> list[int]:
    """The status of each answer in ``said``."""
    return [int(match[1]) for match in _STATUS.finditer(said)]


# -- H1: framing ---------------------------------------------------------------------------------


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 300


@pytest.mark.parametrize("part", range(6))
def test_h1_no_framing_lets_a_second_request_through(
    port: int, upstream: ScriptedUpstream, part: int
) -> None:
    for data in CORPUS[part::6]:
        upstream.requests.clear()
        said = talk(port, data)
        codes = statuses(said)
        sent = len(upstream.requests)
        assert all(code == 200 or 400 <= code < 500 or code == 501 for code in codes), (data, said)
        # One call leaves for each answer (499: the caller had hung up by then), as it was sent.
        assert codes.count(200) <= sent <= codes.count(200) + codes.count(499) <= 1, (data, said)
        assert all(request.json() == COMPLETION for request in upstream.requests), data


@pytest.mark.parametrize("part", range(6))
def test_h1_what_follows_an_unclear_request_is_answered_once_or_never(
    port: int, upstream: ScriptedUpstream, part: int
) -> None:
    for data in CORPUS[part::6]:
        upstream.requests.clear()
        codes = statuses(talk(port, data + SMUGGLED))
        answered = codes.count(200) + codes.count(499)
        assert codes.count(200) <= len(upstream.requests) <= answered <= 2, data
        assert len(codes) <= 3, data


# -- J14, J15 on the real server ------------------------------------------------------------------


def test_j14_a_body_cut_by_the_caller_is_400_and_goes_nowhere(
    port: int, upstream: ScriptedUpstream
) -> None:
    for body in (BODY[:7], b"", BODY):
        data = raw_request(["Host: h", "Content-Length: 100"], body)
        assert statuses(talk(port, data)) in ([400], [])
    for cut in range(1, len(chunked())):
        data = raw_request(["Host: h", "Transfer-Encoding: chunked"], chunked()[:cut])
        assert statuses(talk(port, data)) in ([400], [])
    assert upstream.requests == []


def test_j15_blanks_in_chunks_are_counted(port: int, upstream: ScriptedUpstream) -> None:
    blanks = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    body = b"%x\r\n%b\r\n" % (len(BODY), BODY) + blanks * 32 + b"0\r\n\r\n"
    data = raw_request(["Host: h", "Transfer-Encoding: chunked"], body)
    assert statuses(talk(port, data)) == [413]
    assert upstream.requests == []


def test_a_chunked_body_is_read(port: int, upstream: ScriptedUpstream) -> None:
    data = raw_request(["Host: h", "Transfer-Encoding: chunked"], chunked())
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(data)
        assert read_answer(sock).json() == REPLY
    assert upstream.requests[-1].json() == COMPLETION


def test_an_announced_body_that_is_too_large_is_413_unread(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(raw_request(["Host: h", "Content-Length: 1000000000000"], b"{"))
        assert read_answer(sock).status == 413


# -- H2 to H8 -------------------------------------------------------------------------------------


def test_h2_a_header_that_came_twice_is_refused(port: int, upstream: ScriptedUpstream) -> None:
    for name in ("x-portkey-api-key", "Authorization", "x-api-key", "api-key", "Content-Type"):
        answer = ask(port, (name, "one-key-0123456789"), (name, "two-key-0123456789"))
        assert answer.status == (400 if name == "Content-Type" else 401), name
    other = ("x-api-key", "other-key-0123456789")
    assert ask(port, other).error["code"] == "ambiguous_credentials"
    assert upstream.requests == []


def test_h3_a_name_with_an_underscore_is_refused(port: int, upstream: ScriptedUpstream) -> None:
    for name in ("x_portkey_api_key", "x-portkey_api_key", "content_type", "authorization_"):
        assert ask(port, (name, "x")).status in {400, 403} or name == "authorization_"
    assert len(upstream.requests) <= 1


def test_h4_the_connection_header_takes_nothing_away(port: int, upstream: ScriptedUpstream) -> None:
    for value in ("authorization", "content-type, x-portkey-api-key", "close, content-length"):
        assert ask(port, ("Connection", value)).status == 200
    assert {r.header("authorization") for r in upstream.requests} == {
        "Bearer upstream-key-0123456789"
    }
    assert {r.header("connection") for r in upstream.requests} == {None}


BAD_VALUES: Final = ["a\rb", "a\nb", "a\x00b", "a\x7fb", "a\x1bb", "é", "\xe9", "\u2028", "Ā"]


@pytest.mark.parametrize("name", ["OpenAI-Organization", "OpenAI-Project", "Idempotency-Key"])
def test_h5_a_value_that_cannot_be_sent_on_is_400(
    port: int, upstream: ScriptedUpstream, name: str
) -> None:
    for value in BAD_VALUES:
        line = f"{name}: {value}"
        data = raw_request(["Host: h", line, f"Content-Length: {len(BODY)}"])
        codes = statuses(closing(port, data))
        assert codes == [400], value
    assert upstream.requests == []


def closing(port: int, data: bytes) -> bytes:
    """What the server says to a caller that stays until the answer has come."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(data)
        return sock.recv(65_536)


def test_h6_a_record_stays_one_line_and_small(port: int, stack: Stack) -> None:
    count = len(stack.records())
    text = "a\r\n\x1b[31m\u2028" + "b" * 400_000
    body = encoded({"model": text, "prompt": "p", "user": text})
    headers = [*HEADERS, ("x-portkey-metadata", '{"k": "\\r\\n\\u001b\\u2028"}')]
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(request_bytes("POST", "/v1/completions", headers, body))
        assert read_answer(sock).status == 200
    record = stack.wait_for_records(count + 1)[-1]
    assert record["model"] == text[:256]
    line = (stack.folder / "log.jsonl").read_bytes().splitlines()[-1]
    assert len(line) < 4096
    assert line.isascii()


@pytest.mark.parametrize("host", ["x", "x/v1/models", "x?a=b", "x#", "/", "healthz", "x/readyz?"])
def test_h7_the_host_decides_nothing(port: int, upstream: ScriptedUpstream, host: str) -> None:
    for path, codes in (("/v1/completions", [200]), ("/v1/nothing", [404])):
        data = request_bytes("POST", path, HEADERS, BODY, host=host)
        assert statuses(closing(port, data)) in (codes, [400])
    nobody = request_bytes("POST", "/v1/completions", HEADERS[:1], BODY, host=host)
    assert statuses(closing(port, nobody)) in ([401], [400])


@pytest.mark.parametrize(
    "path",
    [
        "//v1//completions",
        "/v1//completions",
        "/v1/completions/",
        "/v1/completions.",
        "/v1/completions;x",
        "/v1/./completions",
        "/v1/x/../completions",
        "/v1/%2e%2e/v1/completions",
        "/V1/Completions",
        "/v1/completions%00",
        "/v1/completions%0d%0a",
        "/v1%2fcompletions/",
        "/v1/chat",
        "/",
        "/static/x",
        "*",
    ],
)
def test_h7_another_spelling_is_another_url(
    port: int, upstream: ScriptedUpstream, path: str
) -> None:
    data = request_bytes("POST", path, HEADERS, BODY)
    assert statuses(closing(port, data)) in ([404], [400], [405])
    assert upstream.requests == []


def test_h7_an_absolute_uri_is_the_same_decision(port: int, upstream: ScriptedUpstream) -> None:
    data = request_bytes("POST", "http://elsewhere.example/v1/completions", HEADERS, BODY)
    assert statuses(closing(port, data)) in ([200], [400], [404])
    nobody = request_bytes("POST", "http://x/v1/completions", HEADERS[:1], BODY)
    assert statuses(closing(port, nobody)) in ([401], [400], [404])


def test_h7_no_header_overrides_the_method(port: int, upstream: ScriptedUpstream) -> None:
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        data = request_bytes("GET", "/v1/completions", [*HEADERS, (name, "POST")], BODY)
        assert statuses(closing(port, data)) == [405]
    assert upstream.requests == []


@pytest.mark.parametrize(
    "method", ["TRACE", "CONNECT", "OPTIONS", "PUT", "HEAD", "GET", "BREW", "post"]
)
def test_h8_other_methods_are_refused(port: int, upstream: ScriptedUpstream, method: str) -> None:
    said = closing(port, request_bytes(method, "/v1/completions", HEADERS, b""))
    assert statuses(said)[0] in {400, 405, 501}
    assert upstream.requests == []


def test_h8_oversized_heads_are_refused(port: int, upstream: ScriptedUpstream) -> None:
    length = f"Content-Length: {len(BODY)}"
    heads = {
        "200 headers": ["Host: h", *(f"X-{n}: 1" for n in range(200)), length],
        "9 kB header": ["Host: h", "X-Long: " + "a" * 9_000, length],
    }
    for lines in heads.values():
        assert statuses(closing(port, raw_request(lines)))[0] in {400, 431}
    assert statuses(closing(port, request_bytes("POST", "/" + "a" * 5_000, [], b""))) == [414]
    assert upstream.requests == []


def test_h8_expect_and_upgrade_are_not_followed(port: int, upstream: ScriptedUpstream) -> None:
    data = request_bytes("POST", "/v1/completions", [*HEADERS, ("Expect", "200-ok")], BODY)
    assert statuses(closing(port, data)) == [417]
    upgrade = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AA"),
    ]
    answer = ask(port, *upgrade)
    assert answer.status in {200, 400}
    assert answer.header("upgrade") is None


def test_h8_a_caller_may_wait_for_100_continue(port: int) -> None:
    headers = [*HEADERS, ("Expect", "100-continue"), ("Content-Length", str(len(BODY)))]
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(request_bytes("POST", "/v1/completions", headers, b""))
        assert sock.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n")
        sock.sendall(BODY)
        assert read_answer(sock).json() == REPLY


def test_h9_a_body_that_never_comes_frees_its_thread(port: int) -> None:
    data = raw_request(["Host: h", "Content-Length: 100"], b"{")
    with ExitStack() as stack:
        socks = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
            for _ in range(8)
        ]
        for sock in socks:
            sock.sendall(data)
        assert [read_answer(sock).status for sock in socks] == [400] * 8


def test_h10_only_what_the_server_in_front_wrote_counts_as_an_address(
    port: int, stack: Stack
) -> None:
    count = len(stack.records())
    spoof = [("Forwarded", "for=6.6.6.6"), ("X-Real-IP", "6.6.6.6"), ("Client-IP", "6.6.6.6")]
    assert ask(port, *spoof).status == 200
    assert ask(port, *spoof, ("X-Forwarded-For", "6.6.6.6, 10.1.2.3")).status == 200
    records = stack.wait_for_records(count + 2)
    assert [record["client"] for record in records[-2:]] == ["127.0.0.1", "10.1.2.3"]


def test_h11_the_caller_s_key_never_reaches_the_upstream(
    port: int, upstream: ScriptedUpstream
) -> None:
    assert works(port)
    assert all(ALICE_KEY not in repr(request) for request in upstream.requests)


def test_h12_a_key_counts_as_a_whole(port: int, upstream: ScriptedUpstream) -> None:
    near = [ALICE_KEY[:-1], ALICE_KEY + "0", ALICE_KEY[:19] + "x", ALICE_KEY.upper(), ALICE_KEY * 2]
    bodies = set()
    for key in [*near, "", "x", "Bearer", f"{ALICE_KEY} {ALICE_KEY}"]:
        headers = [HEADERS[0], ("Authorization", f"Bearer {key}")]
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            sock.sendall(request_bytes("POST", "/v1/completions", headers, BODY))
            answer = read_answer(sock)
            assert answer.status == 401
            bodies.add(answer.body)
    assert len(bodies) == 1
    assert upstream.requests == []


def test_unknown_urls_and_methods_write_no_record(port: int, stack: Stack, tmp_path: Path) -> None:
    count = len(stack.records())
    for method, path in (("POST", "/v1/nothing"), ("GET", "/v1/completions"), ("GET", "/healthz")):
        closing(port, request_bytes(method, path, HEADERS, b""))
    assert works(port)
    assert len(stack.wait_for_records(count + 1)) == count + 1
