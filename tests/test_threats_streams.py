"""Faults in streams: a stream that is not complete never looks complete, on the wire or in the record."""

import contextlib
import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from proxy import Record
from tests.gateway import COMPLETION, PATIENCE, STREAMED, Gateway, chunk, encoded, gateway
from tests.upstream import (
    WAIT,
    Event,
    Repeated,
    Script,
    cut_after,
    huge,
    raw,
    rst_after,
    silent,
    slow,
    sse,
    sse_event,
    stream,
)

_KIND: Final = ("content-type", "text/event-stream")
_DONE: Final = b"data: [DONE]\n\n"
_TOKENS: Final[list[Event]] = [chunk(f"token {n}") for n in range(5)]
_WHOLE: Final[list[Event]] = [*_TOKENS, chunk("", "stop"), "[DONE]"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Gateway]:
    timeouts = {"idle": 0.4, "first_byte": 10, "total": 20}
    with gateway(upstream={"timeouts": timeouts}, limits={"reply_bytes": 8 * 1024 * 1024}) as gate:
        yield gate


@pytest.fixture
def gate(shared: Gateway) -> Gateway:
    shared.records.clear()
    return shared


def broken(gate: Gateway, script: Script) -> tuple[Record, bytes]:
    """The record and the body of a stream that breaks: an error event at its end, no [DONE] in it."""
    gate.upstream.play(script)
    answer = gate.ask(STREAMED)
    assert answer.status == 200
    assert b"[DONE]" not in answer.body
    assert answer.body.endswith(b"\n\n")
    last = answer.body.rpartition(b"data: ")[2]
    assert json.loads(last)["error"]["type"] == "server_error"
    record = gate.record()
    assert (record.outcome, record.status, record.bytes_out) == ("truncated", 200, len(answer.body))
    assert record.failures[-1].upstream == "main"
    gate.records.clear()
    return record, answer.body


_FRAMINGS: Final = ("chunked", "close")


@pytest.mark.parametrize("framing", _FRAMINGS)
@pytest.mark.parametrize("end", [cut_after, rst_after])
def test_t5_a_stream_cut_anywhere_is_told_as_truncated(
    gate: Gateway, framing: Any, end: Callable[[int, Script], Script]
) -> None:
    script = sse(_TOKENS, framing=framing)
    for count in (200, 450, 700):
        record, body = broken(gate, end(count, script))
        assert record.code == "upstream_truncated"
        assert sse_event(_TOKENS[1])[:-9] not in body[: len(sse_event(_TOKENS[0]))]
    gate.upstream.wait_for(lambda: gate.upstream.open_connections == 0)


def test_a_cut_in_the_head_is_an_ordinary_error(gate: Gateway) -> None:
    gate.upstream.play(cut_after(30, sse(_WHOLE)))
    assert (gate.ask(STREAMED).status, gate.record().outcome) == (502, "upstream_error")


def test_t5_a_stream_that_ends_without_its_last_event_is_truncated(gate: Gateway) -> None:
    broken(gate, sse(_TOKENS))
    broken(gate, sse([]))
    broken(gate, sse([b": only a comment\n\n"]))
    broken(gate, sse([*_TOKENS, chunk("a", "stop", 0), chunk("b", None, 1)]))


@pytest.mark.parametrize("framing", _FRAMINGS)
def test_a_last_event_cut_in_the_middle_is_truncated(gate: Gateway, framing: Any) -> None:
    events = [*_TOKENS, chunk("", "stop"), sse_event({"usage": 1, "choices": []})[:-4]]
    broken(gate, sse(events, framing=framing))


@pytest.mark.parametrize("tail", [b"data: [DONE]", b"data:[DONE]\n", b"data: [DONE]\r\n"])
def test_a_done_without_its_blank_line_is_a_complete_stream(gate: Gateway, tail: bytes) -> None:
    gate.upstream.play(sse([*_TOKENS, tail]))
    body = gate.ask(STREAMED).body
    assert body.startswith(b"".join(map(sse_event, _TOKENS)) + tail)
    assert body.endswith(b"\n\n")
    assert gate.record().outcome == "ok"


def test_a_stream_without_done_is_complete_when_every_choice_is(gate: Gateway) -> None:
    gate.upstream.play(sse([*_TOKENS, chunk("", "stop")]))
    assert not gate.ask(STREAMED).body.endswith(_DONE)
    assert gate.record().outcome == "ok"


def test_t5_silence_ends_the_stream(gate: Gateway) -> None:
    record, _ = broken(gate, sse([*_TOKENS, WAIT]))
    assert record.code == "upstream_timeout"
    assert record.failures[0].kind == "timeout_idle"
    gate.upstream.wait_for(lambda: gate.upstream.open_connections == 0)


def test_t5_a_stream_that_never_ends_meets_its_deadline() -> None:
    script = stream(Repeated(sse_event(_TOKENS[0]), 10**6), gap=0.02, headers=[_KIND])
    with gateway(script, upstream={"timeouts": {"total": 0.4}}) as gate:
        record, _ = broken(gate, script)
        assert record.failures[0].kind == "deadline"
        gate.upstream.wait_for(lambda: gate.upstream.open_connections == 0)


def test_t9_an_error_of_the_upstream_in_mid_stream_is_passed_and_recorded(gate: Gateway) -> None:
    error = sse_event({"error": {"message": "boom", "type": "server_error"}})
    gate.upstream.play(sse([*_TOKENS, error]))
    assert gate.ask(STREAMED).body == b"".join(map(sse_event, _TOKENS)) + error
    assert gate.record().outcome == "upstream_error"


@pytest.mark.parametrize("after", [b"data: more\n\n", _DONE, b"\x00garbage", b": c\n\n" * 100])
def test_t5_nothing_behind_done_is_passed(gate: Gateway, after: bytes) -> None:
    for pieces in ([*_WHOLE, after], [*_WHOLE[:-1], _DONE + after]):
        gate.upstream.play(sse(pieces))
        body = gate.ask(STREAMED).body
        assert body.endswith(_DONE)
        assert body.count(b"[DONE]") == 1
        assert gate.record().outcome == "ok"
        gate.records.clear()


@pytest.mark.parametrize(
    "bad",
    [b"zz\r\n", b"5\r\nabcdefgh\r\n", b"-1\r\n", b"\xff\xff", b"0\r\nbad trailer\r\n\r\n"],
)
def test_t5_broken_framing_in_mid_stream_is_told(gate: Gateway, bad: bytes) -> None:
    event = sse_event(_TOKENS[0])
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    _, body = broken(gate, raw(head + b"%x\r\n%b\r\n" % (len(event), event) + bad))
    assert body.startswith(event)


def test_t4_an_endless_line_is_cut_off(gate: Gateway) -> None:
    for framing in _FRAMINGS:
        record, _ = broken(gate, huge(64 * 1024 * 1024, kind=_KIND[1], framing=framing))
        assert record.failures[0].kind == "too_large"
        assert record.bytes_out < 1024


def test_t4_comments_without_end_are_cut_off() -> None:
    for comment in (b":\n\n", b":\r\r"):
        comments = stream(Repeated(comment * 2_000, 100), headers=[_KIND])
        with gateway(comments, limits={"reply_bytes": 60_000}) as small:
            record, _ = broken(small, comments)
            assert record.failures[0].kind == "too_large"


def test_t4_an_event_just_below_the_limit_passes(gate: Gateway) -> None:
    event = sse_event(chunk("x" * (1024 * 1024 - 200)))
    gate.upstream.play(sse([event, chunk("", "stop"), "[DONE]"]))
    assert gate.ask(STREAMED).body.startswith(event)


def test_t2_t3_bytes_that_are_no_text_pass_untouched(gate: Gateway) -> None:
    event = "data: {'text': '\u2028\u0085\x0b\x1c'}\n\n".encode() + b"data: \xff\xfe\xed\xa0\n\n"
    gate.upstream.play(slow(sse([event, "[DONE]"]), gap=0))
    assert gate.ask(STREAMED).body == event + _DONE


def test_a_payload_of_any_shape_harms_nobody(gate: Gateway) -> None:
    shapes: list[Any] = [None, 1, "x", [], [[]], {"choices": 1}, {"choices": [1, {"index": "a"}]}]
    shapes += [{"usage": 3, "error": None}, {"usage": {"total_tokens": "9", "prompt_tokens": True}}]
    shapes += [{"choices": [{"index": 0, "finish_reason": ["x" * 9000]}]}]
    deep = b"data: " + b"[" * 100_000 + b"]" * 100_000 + b"\n\n"
    gate.upstream.play(sse([*map(encoded_event, shapes), deep, "[DONE]"]))
    gate.ask(STREAMED)
    record = gate.record()
    assert record.outcome == "ok"
    assert all(len(reason) <= 256 for reason in record.finish_reasons)


def encoded_event(value: Any) -> bytes:
    return b"data: " + encoded(value) + b"\n\n"


def test_an_error_status_is_never_taken_for_a_stream(gate: Gateway) -> None:
    gate.upstream.play(stream([b"no event"], status=429, headers=[_KIND]))
    answer = gate.ask(STREAMED)
    assert (answer.status, answer.body) == (429, b"no event")


# -- T6: the caller goes -------------------------------------------------------------------------


def fin(sock: socket.socket) -> None:
    sock.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def half(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)


_WAYS: Final = {"FIN": fin, "RST": reset, "half-close": half}
_MOMENTS: Final[dict[str, tuple[Script, bytes]]] = {
    "before headers": (silent(), b""),
    "on silence": (sse([*_TOKENS, WAIT]), b"token 4"),
    "before the first event": (sse([WAIT]), b"\r\n\r\n"),
    "in mid-stream": (
        stream(Repeated(sse_event(_TOKENS[0]), 10**6), gap=0.005, headers=[_KIND]),
        b"token 0",
    ),
}


@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("moment", _MOMENTS)
def test_t6_a_caller_that_goes_ends_the_upstream_call(way: str, moment: str) -> None:
    script, seen = _MOMENTS[moment]
    with gateway(script) as gate:
        sock = gate.send(STREAMED)
        gate.upstream.wait_for(lambda: len(gate.upstream.requests) == 1)
        data = b""
        while seen not in data:
            data += sock.recv(65_536)
        started = time.monotonic()
        _WAYS[way](sock)
        gate.upstream.wait_for(lambda: gate.upstream.open_connections == 0)
        assert time.monotonic() - started < PATIENCE
        record = gate.record()
        assert record.outcome == "client_gone"
        assert record.status == (499 if moment == "before headers" else 200)
        sock.close()


def test_t6_a_caller_that_goes_ends_a_whole_call_as_well() -> None:
    for script in (silent(), cut_after_wait()):
        with gateway(script) as gate:
            sock = gate.send(COMPLETION)
            gate.upstream.wait_for(lambda: len(gate.upstream.requests) == 1)
            sock.close()
            gate.upstream.wait_for(lambda: gate.upstream.open_connections == 0)
            assert (gate.record().outcome, gate.record().status) == ("client_gone", 499)


def cut_after_wait() -> Script:
    kind = ("content-type", "application/json")
    return stream([b'{"a":', WAIT, b"1}"], headers=[kind])


def test_many_callers_that_go_leave_one_record_each_and_no_connection() -> None:
    with gateway(sse([*_TOKENS, WAIT])) as gate:
        socks = [gate.send(STREAMED) for _ in range(40)]
        gate.upstream.wait_for(lambda: len(gate.upstream.requests) == 40)
        for number, sock in enumerate(socks):
            (reset if number % 2 else fin)(sock)
        gate.upstream.wait_for(lambda: gate.upstream.open_connections == 0)
        assert gate.record(40).outcome == "client_gone"
        assert len({record.id for record in gate.records}) == 40


def test_t7_a_caller_that_never_reads_frees_its_thread() -> None:
    flood = stream(Repeated(b"data: " + b"x" * 60_000 + b"\n\n", 10**5), headers=[_KIND])
    with gateway(flood, limits={"client_idle": 0.3}) as gate:
        sock = gate.send(STREAMED)
        gate.upstream.wait_for(lambda: gate.upstream.open_connections == 1)
        gate.upstream.wait_for(lambda: gate.upstream.open_connections == 0)
        assert gate.record().outcome == "client_gone"
        sock.close()


def test_drained_streams_end_with_an_event_and_new_calls_are_refused() -> None:
    with gateway(sse([*_TOKENS, WAIT])) as gate, gate.send(STREAMED) as sock:
        response = http.client.HTTPResponse(sock)
        response.begin()
        response.read1()
        gate.pipeline.drain(0.05)
        with contextlib.closing(response):
            last = response.read().split(b"\n\n")[-2]
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "draining"
        assert (gate.record().outcome, gate.record().code) == ("truncated", "draining")
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.error["code"]) == (503, "draining")
        assert answer.header("retry-after") == "1"
        ready = gate.ask(path="/readyz", method="GET")
        assert (ready.status, ready.json()["reasons"]) == (503, ["draining"])
        assert gate.ask(path="/healthz", method="GET").status == 200
