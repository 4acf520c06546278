"""What the upstream gets is what the caller said, and what the caller gets is what the upstream said."""

import http.client
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy import Reply, hookimpl
from tests.gateway import (
    COMPLETION,
    KEY,
    REPLY,
    STREAMED,
    UPSTREAM_KEY,
    Gateway,
    bearer,
    chunk,
    encoded,
    gateway,
    refused,
)
from tests.scripts import Framing
from tests.upstream import WAIT, json_reply, reply, sse, sse_event, stream

# Every parameter of the reference in every form it has, and null where null is legal.
FORMS: dict[str, list[Any]] = {
    "model": ["gpt-3.5-turbo-instruct", "ft:davinci-002:org::id", "模型/ü"],
    "prompt": ["", "text", "<|endoftext|>", [], ["a", ""], None, "\u2028\u0085\0😀\ufeff"],
    "best_of": [0, 1, 20, None],
    "echo": [True, False, None],
    "frequency_penalty": [-2, 0.0, 1.5, None],
    "logit_bias": [{}, {"50256": -100}, {"foo": 0}, {"1": 0.5}, None],
    "logprobs": [0, 5, 20, None],
    "max_tokens": [0, 16, 2**31, None],
    "n": [1, 128, None],
    "presence_penalty": [2, -0.1, 1e-7, None],
    "seed": [0, 2**53 + 1, -(2**63), 2**63 - 1, 2**64 - 1, None],
    "stop": ["\n", ["a"], ["a", "b", "c", "d"], [], None],
    "stream": [False, None],
    "stream_options": [{}, {"include_usage": True}, {"include_obfuscation": False, "x": 1}, None],
    "suffix": ["", "end", None],
    "temperature": [0, 1, 2, 0.1, 5, None],
    "top_p": [0, 1.0, 0.30000000000000004, None],
    "user": ["", "alice"],
}
UNKNOWN: dict[str, Any] = {
    "top_k": 40,
    "min_p": 0.05,
    "ignore_eos": False,
    "structured_outputs": {"json": {"type": "object", "required": ["a"], "x": [[[None]]]}},
    "cache_salt": "s",
    "n_probs": 2**63,
    "": "empty name",
    "ключ": ["значение"],
    "null": None,
    "1e400": 1.7976931348623157e308,
}

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


_FRAMINGS: Final[list[Framing]] = ["chunked", "close"]


def typed(value: Any) -> Any:
    """A value in a form that tells 1 from 1.0 and True, and one order of keys from another."""
    if isinstance(value, dict):
        return [(key, typed(item)) for key, item in value.items()]
    return [typed(item) for item in value] if isinstance(value, list) else repr(value)


@pytest.fixture(scope="module")
def shared() -> Iterator[Gateway]:
    with gateway() as gate:
        yield gate


@pytest.fixture
def gate(shared: Gateway) -> Gateway:
    shared.upstream.play(json_reply(REPLY))
    return shared


def received(gate: Gateway, body: Any) -> Any:
    """The body as the upstream got it."""
    answer = gate.ask(body)
    assert answer.status == 200, answer.body
    return gate.upstream.requests[-1].json()


@pytest.mark.parametrize("name", FORMS)
def test_every_parameter_reaches_the_upstream_exactly(gate: Gateway, name: str) -> None:
    for value in FORMS[name]:
        body = {**COMPLETION, name: value}
        assert typed(received(gate, body)) == typed(body)


def test_all_parameters_together_keep_their_order_and_their_nulls(gate: Gateway) -> None:
    for number in range(7):
        body = {name: forms[number % len(forms)] for name, forms in reversed(FORMS.items())}
        assert typed(received(gate, {**body, **UNKNOWN})) == typed({**body, **UNKNOWN})


def test_nothing_is_added(gate: Gateway) -> None:
    assert received(gate, COMPLETION) == COMPLETION
    assert gate.upstream.requests[0].body == b'{"model":"m","prompt":"Hello"}'


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.text().map("x-{}".format), _JSON, max_size=5))
def test_unknown_names_reach_the_upstream_exactly(shared: Gateway, extra: dict[str, Any]) -> None:
    shared.upstream.play(json_reply(REPLY))
    body = {**COMPLETION, **extra}
    assert typed(received(shared, body)) == typed(body)


@pytest.mark.parametrize("prompt", [[1212, 318], [[1], [2, 3]], [0], [2**53 + 1, 2**63]])
def test_token_arrays_pass_exactly_where_the_operator_allows_them(prompt: list[Any]) -> None:
    with gateway(parameters={"unscannable": "allow"}) as gate:
        assert typed(received(gate, {"model": "m", "prompt": prompt})["prompt"]) == typed(prompt)


def test_chat_and_embeddings_reach_their_own_routes_exactly(gate: Gateway) -> None:
    parts = [{"type": "text", "text": "a"}]
    chat = {"model": "m", "messages": [{"role": "user", "content": parts}], "tools": [], "n": None}
    embed = {"input": ["a", "b"], "model": "m", "dimensions": 2**40}
    for path, body in (("/v1/chat/completions", chat), ("/embeddings", embed)):
        assert gate.ask(body, path=path).status == 200
        assert typed(gate.upstream.requests[-1].json()) == typed(body)
    assert [r.path for r in gate.upstream.requests] == ["/v1/chat/completions", "/v1/embeddings"]


def test_the_models_are_asked_for_without_a_body(gate: Gateway) -> None:
    for path, sent in (("/v1/models", "/v1/models"), ("/models/a%2Fb:c%20", "/v1/models/a/b:c%20")):
        assert gate.ask(path=path, method="GET").json() == REPLY
        request = gate.upstream.requests[-1]
        assert (request.method, request.path, request.body) == ("GET", sent, b"")
        assert request.header("content-type") is None
        assert request.header("content-length") is None


def test_the_upstream_gets_exactly_the_listed_headers(gate: Gateway) -> None:
    theirs = [
        ("Cookie", "session=1"),
        ("X-Portkey-Provider", "openai"),
        ("X-Portkey-Trace-Id", "t"),
        ("X-Stainless-Lang", "python"),
        ("User-Agent", "OpenAI/Python"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip, br"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Connection", "x-portkey-provider"),
        ("OpenAI-Organization", "org-1"),
        ("OpenAI-Project", "proj_1"),
        ("OpenAI-Beta", "x=v1"),
        ("Idempotency-Key", "i-1"),
        ("X-Whatever", "w"),
    ]
    assert gate.ask(COMPLETION, [*bearer(), *theirs]).status == 200
    request = gate.upstream.requests[0]
    assert {name.lower().decode(): value.decode() for name, value in request.headers} == {
        "host": f"127.0.0.1:{gate.upstream.port}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "accept-encoding": "identity",
        "user-agent": "outgate",
        "authorization": f"Bearer {UPSTREAM_KEY}",
        "content-length": str(len(request.body)),
        "openai-organization": "org-1",
        "openai-project": "proj_1",
        "openai-beta": "x=v1",
        "idempotency-key": "i-1",
    }
    assert KEY.encode() not in repr(request).encode()


def test_the_operator_can_pass_further_headers_both_ways() -> None:
    lists = {"pass_headers": ["X-Tenant"], "reply_headers": ["X-Cost"]}
    script = json_reply(REPLY, headers=[("X-Cost", "3"), ("X-Other", "4"), ("Set-Cookie", "a=b")])
    with gateway(script, upstream=lists) as gate:
        answer = gate.ask(COMPLETION, [*bearer(), ("X-Tenant", "t1")])
        assert gate.upstream.requests[0].header("x-tenant") == "t1"
    assert answer.header("x-cost") == "3"
    assert answer.header("x-other") is None
    assert answer.header("set-cookie") is None


KEPT = [
    ("Content-Type", "application/json; charset=utf-8"),
    ("Retry-After", "7"),
    ("Retry-After-Ms", "7000"),
    ("X-Should-Retry", "true"),
    ("X-Request-Id", "req-upstream"),
    ("OpenAI-Processing-Ms", "12"),
    ("OpenAI-Version", "2020-10-01"),
    ("X-RateLimit-Remaining-Tokens", "9"),
    ("X-RateLimit-Reset-Requests", "1m30s"),
]


@pytest.mark.parametrize("body", [b'{"error": {"code": 3}} \n', b"<html>no \xff</html>", b""])
def test_status_headers_and_body_of_an_error_are_the_upstream_s(gate: Gateway, body: bytes) -> None:
    for status in (400, 401, 403, 404, 408, 409, 413, 418, 422, 429, 451, 499, 500, 502, 503, 599):
        gate.upstream.play(reply(status, [*KEPT, ("Set-Cookie", "s=1"), ("Server", "up")], body))
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.body) == (status, body)
        for name, value in KEPT:
            assert answer.header(name.lower()) == value
        assert answer.header("set-cookie") is None


def test_a_whole_reply_is_passed_byte_for_byte(gate: Gateway) -> None:
    oddities = [
        b' {"choices" :[ ],"choices":[1e5, 1.0, "\\u00e9"]}\n\n',
        b'{"a": NaN, "b": [-Infinity]}',
        b'{"text": "half a pair \\ud83d"}',
        b'{"n": 123456789012345678901234567890}',
        "{\"é\": '\u2028'}".replace("'", '"').encode(),
    ]
    for body in oddities:
        for framing in ("length", "chunked", "close"):
            gate.upstream.play(reply(200, KEPT[:1], body, framing=framing))
            assert gate.ask(COMPLETION).body == body


def test_a_stream_that_was_asked_for_may_be_answered_by_json(gate: Gateway) -> None:
    answer = gate.ask(STREAMED)
    assert (answer.header("content-type"), answer.json()) == ("application/json", REPLY)


def test_a_stream_that_was_not_asked_for_is_passed_all_the_same(gate: Gateway) -> None:
    gate.upstream.play(sse([chunk("a", "stop"), "[DONE]"]))
    answer = gate.ask(COMPLETION)
    assert answer.header("content-type") == "text/event-stream"
    assert answer.body.endswith(b"data: [DONE]\n\n")


ODD_STREAM = b"".join(
    [
        b"\xef\xbb\xbf: ping\n\n",
        b"data: null\n\n",
        b"event: message\r\nid: 7\r\ndata:" + encoded(chunk("é\u2028x")) + b"\r\n\r\n",
        b": \xff comment\r\r",
        b"data: " + json.dumps(chunk("日本"), ensure_ascii=False).encode() + b"\n\n\n",
        b"retry: 10\n\n",
        b"data: " + encoded(chunk("", "length")) + b"\n\n",
        b"data: " + encoded({**chunk(""), "choices": [], "usage": REPLY["usage"]}) + b"\n\n",
        b"data: [DONE]\n\n",
    ]
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(1, len(ODD_STREAM) - 1), max_size=12, unique=True), st.data())
def test_a_stream_cut_anywhere_arrives_byte_for_byte(
    shared: Gateway, cuts: list[int], data: st.DataObject
) -> None:
    ends = [0, *sorted(cuts), len(ODD_STREAM)]
    pieces = [ODD_STREAM[a:b] for a, b in itertools.pairwise(ends)]
    kind = ("content-type", "text/event-stream; charset=utf-8")
    framing = data.draw(st.sampled_from(_FRAMINGS))
    shared.upstream.play(stream(pieces, headers=[kind], framing=framing))
    answer = shared.ask(STREAMED)
    assert answer.body == ODD_STREAM
    assert answer.header("content-type") == kind[1]


def test_each_event_is_delivered_before_the_next_is_sent(gate: Gateway) -> None:
    events = [sse_event(chunk(f"token {number}")) for number in range(20)]
    script = [part for event in events for part in (WAIT, event)]
    gate.upstream.play(sse([*script, WAIT, chunk("", "stop"), "[DONE]"]))
    with gate.send(STREAMED) as sock:
        response = http.client.HTTPResponse(sock)
        response.begin()  # the head comes before any event
        for event in events:
            gate.upstream.release(1)
            assert response.read1() == event
        gate.upstream.release(1)
        assert response.read().endswith(b"data: [DONE]\n\n")


@dataclass(frozen=True)
class Onlooker:
    """Looks at every reply; with ``fingerprint`` it changes each of them."""

    fingerprint: str | None = None

    @hookimpl
    def rewrite_response(self, reply: Reply) -> Reply | None:
        if self.fingerprint is None:
            return None
        return reply.with_body(system_fingerprint=self.fingerprint)


def onlooker(**options: Any) -> dict[str, Any]:
    return {"use": "tests.test_fidelity:Onlooker", "options": options}


def test_a_buffered_stream_that_nobody_changed_is_replayed_byte_for_byte() -> None:
    kind = ("content-type", "text/event-stream")
    with gateway(stream([ODD_STREAM], headers=[kind]), plugins=[onlooker()]) as gate:
        assert gate.ask(STREAMED).body == ODD_STREAM
        assert (gate.record().outcome, gate.record().finish_reasons) == ("ok", ("length",))


@pytest.mark.parametrize("usage", [True, False])
def test_a_buffered_stream_that_was_changed_is_a_valid_stream(usage: bool) -> None:
    body = {**STREAMED, "stream_options": {"include_usage": usage}}
    kind = ("content-type", "text/event-stream")
    plugins = [onlooker(fingerprint="f")]
    with gateway(stream([ODD_STREAM], headers=[kind]), plugins=plugins) as gate:
        answer = gate.ask(body)
    *blocks, done, end = answer.body.split(b"\n\n")
    payloads = [json.loads(block.removeprefix(b"data: ")) for block in blocks]
    assert (done, end) == (b"data: [DONE]", b"")
    assert {payload["system_fingerprint"] for payload in payloads} == {"f"}
    choices = [choice for payload in payloads for choice in payload["choices"]]
    assert "".join(choice["text"] for choice in choices) == "é\u2028x日本"
    assert choices[-1]["finish_reason"] == "length"
    assert (payloads[-1].get("usage") == REPLY["usage"]) is usage


def test_a_reply_that_was_changed_is_whole_and_json() -> None:
    with gateway(plugins=[onlooker(fingerprint="f")]) as gate:
        answer = gate.ask(COMPLETION)
        assert answer.json() == {**REPLY, "system_fingerprint": "f"}
        assert answer.header("content-length") == str(len(answer.body))


def test_an_error_nobody_can_read_keeps_its_status_but_not_its_body() -> None:
    script = reply(429, [("Content-Type", "text/html"), ("Retry-After", "3")], b"<b>slow down</b>")
    with gateway(script, plugins=[onlooker()]) as gate:
        answer = gate.ask(COMPLETION)
    assert (answer.status, answer.header("retry-after")) == (429, "3")
    assert answer.header("content-type") == "application/json"
    assert answer.error["code"] == "upstream_error"


def test_success_that_nobody_can_read_is_502_while_somebody_must() -> None:
    for body in (b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":"\\ud800"}'):
        script = reply(200, KEPT[:1], body)
        with gateway(script, plugins=[onlooker()]) as gate:
            answer = gate.ask(COMPLETION)
            assert (answer.status, answer.error["code"]) == (502, "upstream_error")


def test_a_deny_is_400_before_anything_was_sent() -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"codename": "Bluebird"}}}
    with gateway(plugins=[guard]) as gate:
        for body in (COMPLETION, STREAMED):
            error = refused(gate.ask({**body, "prompt": "on Bluebird"}), 400)
            assert error["code"] == "content_policy_violation"
            assert error["param"] == "prompt"
            assert "Bluebird" not in error["message"]
        assert gate.upstream.requests == []
        assert gate.record(2).denied_by == "regex_guard"
