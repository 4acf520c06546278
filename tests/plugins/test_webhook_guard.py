"""A call passes only where the company's policy service says so, and every other answer of it is a refusal."""

import hashlib
import hmac
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from plugins.webhook_guard import WebhookGuard
from proxy import ConfigError, Secret, testing
from proxy.testing import Harness, PluginFailed
from tests.gateway import COMPLETION, REPLY, STREAMED, chunk, gateway
from tests.ports import free_address
from tests.receivers import certificates
from tests.upstream import (
    Connection,
    Event,
    Received,
    Script,
    ScriptedUpstream,
    Wait,
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
    stream,
)


def harness(plugin: str, **options: Any) -> Harness:
    """Without what is looked at unasked: each of those calls would ask the service."""
    return testing.harness(plugin, **options).given(checks=False)


KEY = "signing-key-0123456789"
ALLOWED = json_reply({"verdict": "allow"})
DENIED = json_reply({"verdict": "deny"})


def guard(service: ScriptedUpstream, **options: Any) -> Harness:
    return harness("webhook_guard", url=f"{service.url}/judge", **{"retries": 0, **options})


def test_a_call_passes_or_is_refused_as_the_service_says() -> None:
    told = {"verdict": "deny", "message": "No plans.", "code": "no_plans", "param": "messages"}
    with ScriptedUpstream(ALLOWED, json_reply(told), ALLOWED) as service:
        guarded = guard(service)
        assert guarded.chat().denied is None
        denied = guarded.chat().denied
        assert guarded.chat().denied is None
    assert denied is not None
    assert (denied.message, denied.code, denied.param) == ("No plans.", "no_plans", "messages")
    assert denied.status == 400
    assert service.connections == 1


@pytest.mark.parametrize(
    "wording",
    [
        {},
        {"message": None, "code": None, "param": None},
        {"message": " ", "code": "", "param": 7},
        {"message": ["x"], "code": {"a": 1}, "param": []},
        {"code": "line\nbreak"},
        {"code": "x" * 65},
    ],
)
def test_a_refusal_is_never_lost_over_its_wording(wording: dict[str, Any]) -> None:
    with ScriptedUpstream(json_reply({"verdict": "deny", **wording})) as service:
        denied = guard(service).given(on_error="allow").completions().denied
    assert denied is not None
    assert denied.message == "Refused by the company's policy service."
    assert (denied.code, denied.param) == ("content_policy_violation", None)


def test_the_service_is_told_who_calls_and_every_text() -> None:
    with ScriptedUpstream(ALLOWED) as service:
        guarded = guard(service).given(caller="zoë", groups=("hr", "eu"))
        told = guarded.completions(prompt=["a", "b"], metadata={"k": "v"}, stream=True)
    (asked,) = service.requests
    assert (asked.method, asked.path) == ("POST", "/judge")
    assert asked.header("content-type") == "application/json"
    found = asked.json()
    texts = found.pop("texts")
    assert found == {
        "phase": "request", "id": told.record.id, "endpoint": "completions", "principal": "zoë",
        "groups": ["hr", "eu"], "model": "test-model", "stream": True,
    }  # fmt: skip
    assert {"place": ["prompt", 1], "text": "b", "is_key": False} in texts
    assert {"place": ["metadata", "k"], "text": "k", "is_key": True} in texts
    assert {"place": ["metadata", "k"], "text": "v", "is_key": False} in texts


def test_what_is_sent_is_the_operators_choice() -> None:
    with ScriptedUpstream(ALLOWED) as service:
        guard(service, send="body").completions(prompt="Grüße")
        guard(service, send="facts").completions(prompt="Grüße")
    body, facts = (request.json() for request in service.requests)
    assert body["body"]["prompt"] == "Grüße"
    assert "texts" not in body
    assert set(facts) == {"phase", "id", "endpoint", "principal", "groups", "model", "stream"}


def test_a_question_is_signed_over_its_time_and_its_body(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedUpstream(ALLOWED) as service:
        headers = {"Authorization": Secret("Bearer in-token-0123456789")}
        plugin = WebhookGuard(service.url, secret=Secret(KEY), headers=headers)
        monkeypatch.setenv("GUARD_KEY", KEY)
        monkeypatch.setenv("GUARD_AUTHORIZATION", "Bearer in-token-0123456789")
        options = {
            "secret": {"env": "GUARD_KEY"},
            "headers": {"Authorization": {"env": "GUARD_AUTHORIZATION"}},
        }
        guard(service, **options).completions()
    (asked,) = service.requests
    moment = asked.header("x-outgate-timestamp") or ""
    assert abs(int(moment) - time.time()) < 300
    mac = hmac.new(KEY.encode(), f"{moment}.".encode() + asked.body, hashlib.sha256).hexdigest()
    assert asked.header("x-outgate-signature") == f"v1={mac}"
    assert asked.header("authorization") == "Bearer in-token-0123456789"
    assert KEY not in repr(plugin)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (json_reply({"verdict": "maybe"}), "no verdict"),
        (json_reply({"verdict": "Allow"}), "no verdict"),
        (json_reply({"verdict": True}), "no verdict"),
        (json_reply({"verdict": ["allow"]}), "no verdict"),
        (json_reply({"verdict": {"allow": 1}}), "no verdict"),
        (json_reply({"verdict": None}), "no verdict"),
        (json_reply({"Verdict": "allow"}), "no verdict"),
        (json_reply({}), "no verdict"),
        (json_reply({"verdict": "allow", "id": "another"}), "another call"),
        (json_reply("allow"), "no object"),
        (json_reply([{"verdict": "allow"}]), "no object"),
        (json_reply(None), "no object"),
        (reply(200, body=b""), "no JSON"),
        (reply(200, body=b"allow"), "no JSON"),
        (reply(200, body=b'{"verdict": "allow"'), "no JSON"),
        (reply(200, body=b'{"verdict": "allow"} {"verdict": "deny"}'), "no JSON"),
        (reply(200, body=b'{"verdict": "deny", "verdict": "allow"}'), "no JSON"),
        (reply(200, body=b'{"verdict": "\xff"}'), "no JSON"),
        (reply(200, body=b"[" * 60_000), "no JSON"),
        *(
            (json_reply({"verdict": "allow"}, status), f"it answered {status}")
            for status in (201, 202, 204, 301, 302, 307, 400, 401, 403, 404, 429, 500, 502, 503)
        ),
        (huge(200_000), "no answer, OSError"),
        (huge(200_000, framing="length"), "no answer, OSError"),
        (huge(200_000, framing="close"), "no answer, OSError"),
        (reply(200, body=b'{"verdict": "allow"}' + b" " * 70_000), "no answer, OSError"),
        (garbage(), "no answer, OSError"),
        (raw(b'{"verdict": "allow"}'), "no answer, OSError"),
        (raw(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000), "no answer, OSError"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200), "no answer, OSError"),
        (raw(b'HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\n{"verdict": "allow"}'), "no answer, OSError"),
        (raw(b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n14\r\n{"verdict": "allow"}\r\n'), "OSError"),
        (raw(b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{"verdict": "allow"}\r\n'), "no answer"),
        (hang_up(), "no answer, "),
        (rst(), "no answer, ConnectionResetError"),
    ],
)  # fmt: skip
def test_whatever_is_no_verdict_refuses_the_call(script: Script, why: str) -> None:
    with (
        ScriptedUpstream(script) as service,
        pytest.raises(PluginFailed, match=rf"is unavailable: .*\(.*{why}.*\)"),
    ):
        guard(service).completions()


def test_an_answer_that_is_cut_anywhere_never_lets_a_call_pass() -> None:
    whole = reply(200, [("content-type", "application/json")], b'{"verdict": "allow"}')
    length = len(b"HTTP/1.1 200 Scripted\r\ncontent-type: application/json\r\n") + len(
        b'content-length: 20\r\n\r\n{"verdict": "allow"}'
    )
    with ScriptedUpstream(*(cut_after(end, whole) for end in range(length)), whole) as service:
        guarded = guard(service)
        for _ in range(length):
            with pytest.raises(PluginFailed, match="is unavailable"):
                guarded.completions()
        assert guarded.completions().denied is None


@pytest.mark.parametrize(
    "script",
    [
        silent(),
        slow(ALLOWED, gap=0.05),
        after_continues(1, silent()),
        after_continues(1_000_000, silent()),
        cut_after(30, silent()),
    ],
)
def test_a_service_that_is_too_slow_refuses_the_call_in_time(script: Script) -> None:
    with ScriptedUpstream(script) as service:
        guarded = guard(service, timeout=0.3)
        began = time.process_time()
        with pytest.raises(PluginFailed, match="it did not answer in time"):
            guarded.completions()
        assert time.process_time() - began < 20
        assert len(service.requests) == 1


@pytest.mark.parametrize(
    "script",
    [
        stream([b'{"verdict"', b': "allow"}']),
        stream([b'{"verdict": "allow"}'], framing="close"),
        close_unannounced(ALLOWED),
        after_continues(3, ALLOWED),
        json_reply({"verdict": "allow", "because": "of rule 7"}, headers=[("Connection", "close")]),
    ],
)
def test_an_answer_may_come_in_every_form_that_http_has(script: Script) -> None:
    with ScriptedUpstream(script) as service:
        guarded = guard(service)
        for _ in range(3):
            assert guarded.completions(prompt="x" * 100_000).denied is None


def test_no_redirect_is_followed() -> None:
    with ScriptedUpstream(ALLOWED) as elsewhere:
        moved = reply(307, [("Location", elsewhere.url)])
        with ScriptedUpstream(moved) as service, pytest.raises(PluginFailed, match="answered 307"):
            guard(service).completions()
        assert elsewhere.requests == []


def test_connections_that_fail_are_tried_again_and_answers_are_not() -> None:
    with ScriptedUpstream(rst(), hang_up(), ALLOWED) as service:
        assert guard(service, retries=2).completions().denied is None
        assert len(service.requests) == 3
    with ScriptedUpstream(rst(), rst(), ALLOWED) as service, pytest.raises(PluginFailed):
        guard(service, retries=1).completions()
    for final in (json_reply({}, 503), garbage(), cut_after(20, ALLOWED)):
        with ScriptedUpstream(final, ALLOWED) as service:
            with pytest.raises(PluginFailed):
                guard(service, retries=5).completions()
            assert len(service.requests) == 1


def test_calls_at_once_are_judged_at_once() -> None:
    def when_all_are_there(connection: Connection, request: Received) -> None:
        connection.wait()
        ALLOWED(connection, request)

    with ScriptedUpstream(when_all_are_there) as service:
        guarded = guard(service, timeout=30)
        calls = [threading.Thread(target=guarded.completions) for _ in range(8)]
        for call in calls:
            call.start()
        service.wait_for(lambda: len(service.requests) == 8)
        service.release()
        for call in calls:
            call.join()


def test_over_https_the_service_is_verified_and_may_ask_for_a_certificate(tmp_path: Path) -> None:
    ours = certificates(tmp_path)
    cert, key = ours.client(tmp_path)
    with ScriptedUpstream(ALLOWED, tls=ours.server()) as service:
        guarded = guard(service, ca_bundle=ours.bundle, client_cert=cert, client_key=key)
        for _ in range(2):
            assert guarded.completions(prompt="x" * 500_000).denied is None
        with pytest.raises(PluginFailed, match="SSLCertVerificationError"):
            guard(service).completions()
        assert len({request.connection for request in service.requests}) == 1


def test_replies_are_judged_where_the_operator_wants_it() -> None:
    with ScriptedUpstream(ALLOWED, ALLOWED, ALLOWED, DENIED) as service:
        guarded = guard(service, replies=True, send="body")
        assert guarded.respond(REPLY).reply == REPLY
        denied = guarded.respond(REPLY).denied
    assert denied is not None
    asked = service.requests[3].json()
    assert (asked["phase"], asked["status"], asked["body"]) == ("reply", 200, REPLY)
    assert [request.json()["phase"] for request in service.requests[:2]] == ["request", "reply"]


def test_streams_are_held_back_only_where_replies_are_judged() -> None:
    with ScriptedUpstream(ALLOWED) as service:
        assert guard(service).parts.chain.rewrite_response == ()
        assert guard(service, replies=True).parts.chain.rewrite_response


def test_a_stream_is_judged_as_a_whole_before_any_of_it_is_shown() -> None:
    pieces: list[Event | Wait] = [chunk("Project "), chunk("Bluebird", "stop"), "[DONE]"]
    with ScriptedUpstream(ALLOWED, ALLOWED, ALLOWED, DENIED) as service:
        plugin = {"use": "webhook_guard", "options": {"url": service.url, "replies": True}}
        with gateway(sse(pieces), plugins=[plugin]) as gate:
            assert b"Bluebird" in gate.ask(STREAMED).body
            answered = gate.ask(STREAMED)
    assert b"Bluebird" not in answered.body
    assert b"content_policy_violation" in answered.body
    assert "Project Bluebird" in [text["text"] for text in service.requests[1].json()["texts"]]


def test_a_caller_is_told_to_come_again_and_nothing_leaves_while_the_service_is_away() -> None:
    url = f"http://{free_address()}/judge"
    with gateway(plugins=[{"use": "webhook_guard", "options": {"url": url}}]) as gate:
        answered = gate.ask(COMPLETION)
        assert (answered.status, answered.error["code"]) == (503, "state_unavailable")
        assert answered.header("retry-after")
        assert gate.upstream.requests == []


def test_while_the_service_is_away_calls_pass_if_the_operator_wrote_so() -> None:
    options = {"url": f"http://{free_address()}/judge"}
    plugin = {"use": "webhook_guard", "on_error": "allow", "options": options}
    with gateway(plugins=[plugin]) as gate:
        assert gate.ask(COMPLETION).status == 200


def test_nothing_the_service_says_beside_a_verdict_reaches_the_caller() -> None:
    script = reply(500, body=json.dumps({"error": "hunter2 at 10.1.2.3"}).encode())
    with ScriptedUpstream(script) as service:
        plugin = {"use": "webhook_guard", "options": {"url": service.url}}
        with gateway(plugins=[plugin]) as gate:
            assert b"hunter2" not in gate.ask(COMPLETION).body


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "'url' is missing"),
        ({"url": "http://policy.example/"}, "allow_http = true"),
        ({"url": "https://u:p@policy.example/"}, "no user name or password"),
        ({"url": "https://h", "headers": {"Host": Secret("x" * 9)}}, "cannot be set here"),
        ({"url": "https://h", "secret": Secret("too short")}, "can be guessed"),
        ({"url": "https://h", "secret": "in-the-open-0123456789"}, "a secret never stands"),
        ({"url": "https://h", "timeout": 0}, "timeout = 0"),
        ({"url": "https://h", "retries": -1}, "retries = -1"),
        ({"url": "https://h", "most_bytes": 0}, "most_bytes = 0"),
        ({"url": "https://h", "send": "everything"}, "'texts'"),
        ({"url": "https://h", "ca_bundle": "/nowhere.pem"}, "ca_bundle cannot be used"),
    ],
)
def test_options_that_will_not_do_stop_the_start(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        harness("webhook_guard", **options)
