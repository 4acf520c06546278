"""The spans of a call as a collector reads them: whose they are, what they say, and what they never say."""

from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from plugins.otel import Otel, _parsed
from proxy import ConfigError, Secret, Undelivered
from proxy.testing import harness
from tests.gateway import CHOICE, COMPLETION, REPLY, STREAMED, Gateway, bearer, chunk, gateway
from tests.ports import free_address
from tests.receivers import HttpReceiver, http_receiver
from tests.records import PATIENCE, eventually, full, record
from tests.upstream import json_reply, sse

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"


def requests(receiver: HttpReceiver) -> list[ExportTraceServiceRequest]:
    return [ExportTraceServiceRequest.FromString(post.body) for post in receiver.posts]


def spans(receiver: HttpReceiver) -> list[Span]:
    return [
        span
        for request in requests(receiver)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def said(attributes: Any) -> dict[str, Any]:
    found = {}
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        if kind == "array_value":
            value = [item.string_value for item in value.values]
        found[attribute.key] = value
    return found


def traced(url: str, **options: Any) -> dict[str, Any]:
    return {"use": "otel", "options": {"endpoint": f"{url}/v1/traces", **options}}


def both(receiver: HttpReceiver, count: int = 1) -> tuple[Span, Span]:
    """The two spans of the last call."""
    eventually(lambda: len(spans(receiver)) >= 2 * count)
    served, asked = spans(receiver)[-2:]
    return served, asked


def told(gate: Gateway) -> str | None:
    """What the upstream was told of the trace."""
    value: str | None = gate.upstream.requests[-1].header("traceparent")
    return value


def test_a_call_is_a_span_for_the_caller_and_one_for_the_upstream() -> None:
    reply = {**REPLY, "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
    with http_receiver() as collector:
        plugin = traced(collector.url, providers={"main": "openai"}, attributes={"region": "eu"})
        with gateway(json_reply(reply), plugins=[plugin]) as gate:
            gate.ask(COMPLETION)
            call = gate.record()
            served, asked = both(collector)
        (post,) = collector.posts
        (resource,) = requests(collector)[0].resource_spans
    assert post.path == "/v1/traces"
    assert post.headers["content-type"] == "application/x-protobuf"
    assert said(resource.resource.attributes) == {"service.name": "outgate", "region": "eu"}
    assert (served.name, served.kind) == ("POST /v1/completions", Span.SPAN_KIND_SERVER)
    assert (asked.name, asked.kind) == ("text_completion m", Span.SPAN_KIND_CLIENT)
    assert served.trace_id == asked.trace_id
    assert (served.parent_span_id, asked.parent_span_id) == (b"", served.span_id)
    assert served.start_time_unix_nano < asked.start_time_unix_nano < asked.end_time_unix_nano
    assert asked.end_time_unix_nano == served.end_time_unix_nano
    about = said(served.attributes)
    assert about["http.response.status_code"] == 200
    assert (about["outgate.call.id"], about["outgate.principal"]) == (call.id, "alice")
    about = said(asked.attributes)
    assert about["gen_ai.operation.name"] == "text_completion"
    assert about["gen_ai.provider.name"] == "openai"
    assert about["gen_ai.request.model"] == "m"
    assert about["gen_ai.response.finish_reasons"] == ["stop"]
    assert (about["gen_ai.usage.input_tokens"], about["gen_ai.usage.output_tokens"]) == (7, 3)
    assert about["network.peer.address"] == "127.0.0.1"
    assert about["network.peer.port"] > 0
    assert "error.type" not in about
    assert asked.status.code == asked.status.STATUS_CODE_UNSET
    assert bytes.fromhex(call.notes["traceparent"].split("-")[1]) == served.trace_id


def test_the_trace_of_the_caller_is_continued_to_an_upstream_that_is_trusted() -> None:
    with http_receiver() as collector:
        plugins = [traced(collector.url)]
        with gateway(plugins=plugins, upstream={"trace": True}) as gate:
            gate.ask(COMPLETION, [*bearer(), ("traceparent", SAMPLED), ("tracestate", "a=secret")])
            served, asked = both(collector)
            assert told(gate) == f"00-{TRACE}-{asked.span_id.hex()}-01"
            assert gate.upstream.requests[0].header("tracestate") is None
    assert served.trace_id.hex() == asked.trace_id.hex() == TRACE
    assert served.parent_span_id.hex() == PARENT


@pytest.mark.parametrize("plugins", [True, False])
def test_an_upstream_that_is_not_marked_learns_of_no_trace(plugins: bool) -> None:
    with http_receiver() as collector:
        listed = [traced(collector.url)] if plugins else []
        with gateway(plugins=listed, upstream={"trace": not plugins}) as gate:
            gate.ask(COMPLETION, [*bearer(), ("traceparent", SAMPLED)])
            gate.record()
            assert told(gate) is None


def test_a_stream_says_how_long_its_first_chunk_took() -> None:
    script = sse([chunk("a"), chunk("", "stop"), "[DONE]"], gap=0.1)
    with http_receiver() as collector, gateway(script, plugins=[traced(collector.url)]) as gate:
        gate.ask(STREAMED)
        _, asked = both(collector)
    about = said(asked.attributes)
    assert about["gen_ai.request.stream"] is True
    seconds = (asked.end_time_unix_nano - asked.start_time_unix_nano) / 1e9
    assert 0 < about["gen_ai.response.time_to_first_chunk"] < seconds


def test_a_call_that_was_refused_is_one_span_that_says_why() -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"word": "Hello"}}}
    with http_receiver() as collector:
        with gateway(plugins=[traced(collector.url), guard]) as gate:
            gate.ask(COMPLETION, [*bearer(), ("traceparent", SAMPLED)])
            gate.ask(COMPLETION, [("content-type", "application/json")])
            gate.record(2)
            eventually(lambda: len(spans(collector)) == 2)
        refused, unknown = (said(span.attributes) for span in spans(collector))
        assert spans(collector)[0].trace_id.hex() == TRACE
    assert refused["outgate.outcome"] == unknown["outgate.outcome"] == "denied"
    assert refused["outgate.findings"] == ["word=deny"]
    assert unknown["outgate.code"] == "invalid_api_key"


def test_an_upstream_that_fails_is_an_error_of_its_span() -> None:
    with http_receiver() as collector:
        with gateway(json_reply({"error": {}}, 429), plugins=[traced(collector.url)]) as gate:
            gate.ask(COMPLETION)
            _, asked = both(collector)
        assert said(asked.attributes)["error.type"] == "429"
        assert asked.status.code == asked.status.STATUS_CODE_ERROR
        sink = Otel(f"{collector.url}/v1/traces")
        sink.log_exchange(full(status=502, outcome="upstream_error", code="upstream_error"), False)
        served, asked = both(collector, 2)
    assert served.status.code == served.status.STATUS_CODE_ERROR
    assert said(served.attributes)["error.type"] == "upstream_error"
    assert said(asked.attributes)["error.type"] == "connect"
    (event,) = asked.events
    assert said(event.attributes) == {"outgate.upstream": "spare", "error.type": "connect"}


def test_an_upstream_that_answers_for_another_is_no_error() -> None:
    with http_receiver() as collector:
        Otel(f"{collector.url}/v1/traces").log_exchange(full(), required=False)
        _, asked = both(collector)
    assert "error.type" not in said(asked.attributes)
    assert [event.name for event in asked.events] == ["outgate.upstream_failed"]


def test_no_content_and_no_key_is_in_any_span() -> None:
    body = {"model": "m", "prompt": "CaNaRy-prompt", "user": "CaNaRy-user"}
    reply = {**REPLY, "choices": [{**CHOICE, "text": "CaNaRy-reply"}]}
    with http_receiver() as collector:
        headers = {"x-key": Secret("CaNaRy-collector-key")}
        plugin = traced(collector.url, headers=headers)
        with gateway(json_reply(reply), plugins=[plugin]) as gate:
            gate.ask(body, [*bearer(), ("x-extra", "CaNaRy-header"), ("baggage", "a=CaNaRy")])
            both(collector)
        assert not any(b"CaNaRy" in post.body for post in collector.posts)
        assert {post.headers["x-key"] for post in collector.posts} == {"CaNaRy-collector-key"}


# -- which calls are traced --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\n",
        f" 00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}x-{PARENT}-01",
        None,
        7,
    ],
)
def test_what_is_no_traceparent_is_not_continued(header: Any) -> None:
    assert _parsed(header) is None


def test_a_later_version_may_say_more() -> None:
    assert _parsed(f"01-{TRACE}-{PARENT}-03-more") == (TRACE, PARENT, True)
    assert _parsed(f"00-{TRACE}-{PARENT}-00") == (TRACE, PARENT, False)


def test_what_the_caller_says_of_sampling_counts_and_is_passed_on() -> None:
    with http_receiver() as collector:
        with gateway(plugins=[traced(collector.url)], upstream={"trace": True}) as gate:
            gate.ask(COMPLETION, [*bearer(), ("traceparent", SAMPLED[:-1] + "0")])
            assert (told(gate) or "").endswith("-00")
            gate.ask(COMPLETION, [*bearer(), ("traceparent", SAMPLED)])
            both(collector)
        assert len(spans(collector)) == 2


def test_a_caller_that_is_not_believed_continues_nothing() -> None:
    with (
        http_receiver() as collector,
        gateway(plugins=[traced(collector.url, accept=False)]) as gate,
    ):
        gate.ask(COMPLETION, [*bearer(), ("traceparent", SAMPLED)])
        served, _ = both(collector)
    assert served.trace_id.hex() != TRACE
    assert served.parent_span_id == b""


def test_a_share_of_the_calls_is_traced() -> None:
    some = Otel("http://127.0.0.1:9/v1/traces", share=0.5)
    chosen = sum(some._is_chosen(f"{number:032x}") for number in range(0, 2**56, 2**46))
    assert chosen == 512
    none = Otel("http://127.0.0.1:9/v1/traces", share=0.0)
    none.log_exchange(record(), required=True)
    assert none._outbox.waiting == 0


def test_many_calls_go_in_few_posts_and_every_span_has_an_id_of_its_own() -> None:
    with http_receiver() as collector:
        sink = Otel(f"{collector.url}/v1/traces")
        for number in range(300):
            sink.log_exchange(full(id=f"req_{number}"), required=False)
        assert sink._outbox.flush(PATIENCE)
    found = spans(collector)
    assert len(found) == len({span.span_id for span in found}) == 600
    assert len(collector.posts) < 40


@pytest.mark.parametrize("model", ["\ud800", "\x00", "m" * 10_000])
def test_no_name_breaks_a_span(model: str) -> None:
    with http_receiver() as collector:
        sink = Otel(f"{collector.url}/v1/traces")
        sink.log_exchange(full(model=model, upstream_address="[::1]:443"), required=False)
        assert sink._outbox.flush(PATIENCE)
        (_, asked) = spans(collector)
    assert said(asked.attributes)["network.peer.address"] == "::1"


def test_while_a_required_collector_is_away_it_says_so_and_what_waits_arrives_later() -> None:
    port = int(free_address().rpartition(":")[2])
    sink = Otel(f"http://127.0.0.1:{port}/v1/traces")
    sink.log_exchange(record(), required=True)
    eventually(lambda: sink._outbox.fault)
    with pytest.raises(Undelivered):
        sink.log_exchange(record(), required=True)
    with http_receiver(port=port) as collector:
        collector.first = [503, 400]
        eventually(lambda: not sink._outbox.waiting)
        assert sink._outbox.dropped <= 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"endpoint": "http://collector.example:4318/v1/traces"}, "allow_http = true"),
        ({"endpoint": "collector:4318"}, "https://host"),
        ({"endpoint": "http://127.0.0.1:4318", "share": 2.0}, "a number from 0 to 1"),
        (
            {"endpoint": "http://127.0.0.1:4318", "headers": {"a b": Secret("x" * 9)}},
            "not the name",
        ),
        ({}, "'endpoint' is missing"),
    ],
)
def test_options_that_will_not_do_stop_the_start(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        harness("otel", **options)
