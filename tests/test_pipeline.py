import hashlib
import threading
from dataclasses import dataclass
from typing import Any, Final

import pytest

from proxy import Deny, Provider, hookimpl
from tests.egress.servers import open_descriptors
from tests.gateway import (
    COMPLETION,
    JSON,
    KEY,
    REPLY,
    STREAMED,
    UPSTREAM_KEY,
    bearer,
    chunk,
    encoded,
    gateway,
    refused,
)
from tests.upstream import ScriptedUpstream, hang_up, json_reply, silent, sse

_CLOSED: Final = "http://127.0.0.1:1/v1"


@dataclass(frozen=True)
class Chooser:
    """Chooses as ``what`` says."""

    what: str

    @hookimpl
    def providers(self) -> list[Provider]:
        return [Provider(name="bare", paths={})]

    @hookimpl
    def choose_upstream(self) -> Any:
        match self.what:
            case "raise":
                return 1 / 0
            case "garbage":
                return 7
            case "deny":
                return Deny("Not there.", code="unknown_route")
        return self.what


@dataclass(frozen=True)
class BadLog:
    """A log that cannot be written."""

    @hookimpl
    def log_exchange(self) -> None:
        raise OSError("full")


def choosing(what: str) -> dict[str, Any]:
    return {"use": "tests.test_pipeline:Chooser", "name": "chooser", "options": {"what": what}}


def entry(url: str, **more: Any) -> dict[str, Any]:
    credential = {"env": "TEST_UPSTREAM_KEY"}
    return {
        "provider": "openai_compatible",
        "base_url": url,
        "allow_private": True,
        "credential": credential,
        **more,
    }


def test_a_record_tells_a_whole_call() -> None:
    with gateway() as gate:
        gate.ask(COMPLETION, [*bearer(), ("x-stainless-retry-count", "2")])
        record = gate.record()
        sent = gate.upstream.requests[0].body
    assert (record.outcome, record.status, record.principal) == ("ok", 200, "alice")
    assert (record.endpoint, record.model, record.stream) == ("completions", "m", False)
    assert (record.upstream, record.upstream_status, record.attempts) == ("main", 200, 1)
    assert record.upstream_address == f"127.0.0.1:{gate.upstream.port}"
    assert record.digest == hashlib.sha256(sent).hexdigest()
    assert (record.bytes_in, record.bytes_sent) == (len(encoded(COMPLETION)), len(sent))
    assert (record.bytes_out, record.retry_count) == (len(encoded(REPLY)), 2)
    assert record.finish_reasons == ("stop",)
    assert record.policy == gate.pipeline.parts.digest[:16]
    assert record.seconds >= (record.upstream_seconds or 0) > 0


def test_a_record_of_a_call_without_a_body_has_no_digest() -> None:
    with gateway() as gate:
        gate.ask(path="/v1/models", method="GET")
        assert (gate.record().digest, gate.record().bytes_sent) == (None, 0)


def test_a_record_of_a_stream_counts_its_events() -> None:
    with gateway(sse([chunk("a"), chunk("", "stop"), "[DONE]"])) as gate:
        answer = gate.ask(STREAMED)
        record = gate.record()
    assert (record.stream, record.events, record.bytes_out) == (True, 3, len(answer.body))


def test_the_next_upstream_is_asked_when_one_cannot_be_reached() -> None:
    with ScriptedUpstream(json_reply(REPLY)) as second:
        upstreams = {"first": entry(_CLOSED), "second": entry(f"{second.url}/v1")}
        routes = [{"upstreams": ["first", "second"]}]
        with gateway(upstreams=upstreams, routes=routes) as gate:
            assert gate.ask(COMPLETION).json() == REPLY
            record = gate.record()
    assert (record.upstream, record.attempts) == ("second", 2)
    assert [(f.upstream, f.kind) for f in record.failures] == [("first", "connect")]


def test_when_no_upstream_is_left_the_caller_may_try_again() -> None:
    upstreams = {"first": entry(_CLOSED), "second": entry(_CLOSED)}
    with gateway(upstreams=upstreams, routes=[{"upstreams": ["first", "second"]}]) as gate:
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.error["code"]) == (502, "upstream_error")
        assert answer.header("x-should-retry") is None
        assert (gate.record().outcome, len(gate.record().failures)) == ("upstream_error", 2)


def test_a_call_that_was_sent_is_never_sent_again() -> None:
    for script in (hang_up(), silent()):
        with ScriptedUpstream(json_reply(REPLY)) as second, ScriptedUpstream(script) as first:
            short = {"first_byte": 0.2}
            upstreams = {
                "first": entry(f"{first.url}/v1", timeouts=short),
                "second": entry(f"{second.url}/v1"),
            }
            routes = [{"upstreams": ["first", "second"]}]
            with gateway(upstreams=upstreams, routes=routes) as gate:
                assert gate.ask(COMPLETION).status in {502, 504}
                assert gate.record().failures[0].upstream == "first"
            assert (len(first.requests), second.requests) == (1, [])


def test_a_model_without_a_route_is_404() -> None:
    routes = [{"upstreams": ["main"], "models": ["gpt-*"]}]
    with gateway(routes=routes) as gate:
        error = refused(gate.ask(COMPLETION), 404, "model_not_found")
        assert error["param"] == "model"
        assert gate.record().outcome == "denied"
        assert gate.upstream.requests == []


@pytest.mark.parametrize("model", ["..", "a/../b", "%2e%2e", "a/%2e%2e"])
def test_a_model_that_is_no_path_is_404_and_not_sent(model: str) -> None:
    with gateway() as gate:
        refused(gate.ask(path=f"/v1/models/{model}", method="GET"), 404)
        assert gate.upstream.requests == []


@pytest.mark.parametrize(
    ("what", "status", "code"),
    [
        ("raise", 502, "plugin_failed"),
        ("garbage", 502, "plugin_failed"),
        ("deny", 400, "unknown_route"),
        ("elsewhere", 502, "no_such_upstream"),
    ],
)
def test_a_choice_that_cannot_be_followed_sends_nothing(what: str, status: int, code: str) -> None:
    with gateway(plugins=[choosing(what)]) as gate:
        refused(gate.ask(COMPLETION), status, code)
        assert gate.record().outcome == "denied"
        assert gate.upstream.requests == []


def test_a_choice_that_failed_is_not_tried_for_ever() -> None:
    with gateway(plugins=[choosing("main")], upstream={"base_url": _CLOSED}) as gate:
        assert gate.ask(COMPLETION).status == 502
        assert len(gate.record().failures) == 1


def test_an_endpoint_the_provider_does_not_offer_is_404() -> None:
    with gateway(plugins=[choosing("main")], upstream={"provider": "bare"}) as gate:
        refused(gate.ask(COMPLETION), 404, "endpoint_not_offered")
        assert gate.upstream.requests == []


def test_the_caller_s_own_key_is_passed_only_where_the_operator_says_so() -> None:
    headers = [JSON, ("X-Portkey-Api-Key", KEY), ("Authorization", "Bearer sk-own-0123456789")]
    for allowed, status in ((True, 200), (False, 400)):
        with gateway(upstream={"pass_caller_credential": allowed}) as gate:
            assert gate.ask(COMPLETION, headers).status == status
            sent = [request.header("authorization") for request in gate.upstream.requests]
            assert sent == (["Bearer sk-own-0123456789"] if allowed else [])
            if allowed:
                gate.ask(COMPLETION)
                assert gate.upstream.requests[1].header("authorization") == f"Bearer {UPSTREAM_KEY}"


def test_an_upstream_without_a_credential_is_sent_none() -> None:
    bare = {"main": {k: v for k, v in entry("http://h/v1").items() if k != "credential"}}
    with ScriptedUpstream(json_reply(REPLY)) as server:
        bare["main"]["base_url"] = f"{server.url}/v1"
        with gateway(upstreams=bare) as gate:
            assert gate.ask(COMPLETION).status == 200
        assert server.requests[0].header("authorization") is None


def test_a_header_that_cannot_be_sent_is_500_and_sends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ODD_KEY", "sk-clé-0123456789")
    with gateway(upstream={"credential": {"env": "ODD_KEY"}}) as gate:
        refused(gate.ask(COMPLETION), 500, "internal_error")
        assert gate.record().outcome == "denied"
        assert gate.upstream.requests == []


def test_a_server_that_shows_no_socket_is_served_as_well() -> None:
    with gateway() as gate:
        answer = gate.app.test_client().post(
            "/v1/completions", json=COMPLETION, headers={"Authorization": f"Bearer {KEY}"}
        )
        assert answer.json == REPLY
        assert gate.record().outcome == "ok"


def test_a_required_log_that_fails_stops_the_next_call() -> None:
    bad = {"use": "tests.test_pipeline:BadLog", "name": "audit", "required": True}
    with gateway(plugins=[bad]) as gate:
        assert gate.ask(COMPLETION).status == 200
        gate.record()
        gate.upstream.wait_for(gate.settled)
        answer = gate.ask(COMPLETION)
        assert (answer.status, answer.error["code"]) == (503, "log_unavailable")
        assert len(gate.upstream.requests) == 1
        assert gate.ask(path="/readyz", method="GET").status == 503


def test_a_gateway_that_is_closed_leaves_no_connection_no_thread_and_no_descriptor() -> None:
    def call() -> None:
        with gateway() as gate:
            assert gate.ask(COMPLETION).status == 200

    call()
    before, threads = open_descriptors(), threading.active_count()
    call()
    assert (open_descriptors(), threading.active_count()) == (before, threads)
