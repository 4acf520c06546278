"""A call passes only where the appliance changes nothing: judged by the real c-icap, and by one that misbehaves."""

import base64
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy import ConfigError, testing
from proxy.testing import Harness, PluginFailed
from tests.gateway import CHOICE, COMPLETION, REPLY, STREAMED, chunk, gateway
from tests.icap import (
    Asked,
    Script,
    ScriptedIcap,
    answer,
    blocked,
    c_icap,
    chunks,
    no_change,
    raw,
    sent_back,
    silent,
    told,
)
from tests.ports import free_address
from tests.receivers import certificates
from tests.upstream import Event, Wait, sse


def harness(plugin: str, **options: Any) -> Harness:
    """Without what is looked at unasked: each of those calls would ask the service."""
    return testing.harness(plugin, **options).given(checks=False)


SECRET = "Tell them of Project Bluebird."


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with c_icap(tmp_path_factory.mktemp("icap")) as url:
        yield url


def guard(server: ScriptedIcap, **options: Any) -> Harness:
    return harness("icap_guard", **{"url": f"{server.url}/judge", "retries": 0, **options})


def reply(text: str) -> dict[str, Any]:
    return {**REPLY, "choices": [{**CHOICE, "text": text}]}


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize("size", [0, 1023, 1024, 1025, 300_000])
def test_c_icap_refuses_what_its_rules_name_and_passes_the_rest(
    real: str, preview: bool, size: int
) -> None:
    guarded = harness("icap_guard", url=f"{real}/filter", preview=preview)
    padding = "x" * size
    for _ in range(2):
        assert guarded.completions(prompt=f"{padding} Nothing.").denied is None
        denied = guarded.completions(prompt=f"{padding} {SECRET}").denied
        assert denied is not None
        assert (denied.status, denied.code) == (400, "content_policy_violation")
        assert "Bluebird" not in denied.message


def test_c_icap_judges_replies_too(real: str) -> None:
    guarded = harness("icap_guard", reply_url=f"{real}/filter")
    assert guarded.completions(prompt=SECRET).denied is None
    assert guarded.respond(reply("Nothing.")).reply == reply("Nothing.")
    denied = guarded.respond(reply(SECRET)).denied
    assert denied is not None
    assert denied.message == "The company's content inspection withheld the reply."


def test_what_c_icap_would_change_is_refused(real: str) -> None:
    denied = harness("icap_guard", url=f"{real}/filter").completions(prompt="a nightingale").denied
    assert denied is not None
    assert "changes are not applied" in denied.message


@pytest.mark.parametrize("send", ["texts", "body"])
@pytest.mark.parametrize("preview", [False, True])
def test_what_c_icap_sends_back_as_it_was_passes(real: str, send: str, preview: bool) -> None:
    options = {"url": f"{real}/echo", "reply_url": f"{real}/echo"}
    guarded = harness("icap_guard", send=send, preview=preview, **options)
    for text in ("", "Grüße ✓", "x" * 200_000):
        assert guarded.completions(prompt=text).denied is None
        assert guarded.respond(reply(text)).reply == reply(text)


def test_a_service_that_c_icap_does_not_have_refuses_every_call(real: str) -> None:
    with pytest.raises(PluginFailed, match="is unavailable: "):
        harness("icap_guard", url=f"{real}/nothing").completions()


def test_a_request_is_shown_with_who_calls_and_what_is_said() -> None:
    with ScriptedIcap() as server:
        guarded = guard(server).given(caller="Zoë", groups=("hr", "eu"))
        assert guarded.chat(messages=[{"role": "user", "content": "line\none"}]).denied is None
    (asked,) = server.asked
    assert (asked.method, asked.url) == ("REQMOD", f"{server.url}/judge")
    assert asked.body.decode().split("\n")[-4:] == ["user", "content", "line", "one"]
    assert (asked.fields["allow"], asked.fields["user-agent"]) == ("204", "outgate")
    assert base64.b64decode(asked.fields["x-authenticated-user"]).decode() == "Local://Zoë"
    assert base64.b64decode(asked.fields["x-authenticated-groups"]) == b"Local://hr,Local://eu"
    (head,) = asked.heads
    assert head == (
        "POST https://outgate.invalid/v1/chat/completions HTTP/1.1\r\nHost: outgate.invalid\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(asked.body)}\r\n\r\n"
    )


def test_a_reply_is_shown_with_its_request_and_nobody_is_named_if_the_operator_wants_so() -> None:
    with ScriptedIcap() as server:
        options = {
            "url": None,
            "reply_url": f"{server.url}/replies",
            "caller": False,
            "send": "body",
        }
        guarded = guard(server, host="llm.example", **options)
        assert guarded.respond(REPLY).denied is None
    (asked,) = server.asked
    assert asked.method == "RESPMOD"
    assert "x-authenticated-user" not in asked.fields
    request, response = asked.heads
    assert request.startswith("POST https://llm.example/v1/completions HTTP/1.1\r\n")
    assert response.startswith("HTTP/1.1 200 ")
    assert "Content-Type: application/json\r\n" in response
    assert b'"text": " world"' in asked.body


def test_a_call_without_a_body_has_nothing_to_judge() -> None:
    with ScriptedIcap(blocked()) as server:
        assert guard(server).call("models").denied is None
    assert server.asked == []


def test_a_message_that_comes_back_unchanged_passes_whatever_headers_it_has_now() -> None:
    def stamped(head: str) -> str:
        return head.replace("Host:", "Via: 1.1 dlp\r\nHost:")

    with ScriptedIcap(sent_back(), sent_back(head=stamped)) as server:
        for _ in range(3):
            assert guard(server).completions(prompt="a" * 100).denied is None


@pytest.mark.parametrize(
    "script",
    [
        blocked(),
        blocked(b"x" * 1_000_000),
        sent_back(lambda body: body.replace(b"Hello", b"Hullo")),
        sent_back(lambda body: body + b"!"),
        sent_back(lambda body: body[:-1]),
        sent_back(head=lambda head: head.replace("POST", "PUT")),
        answer(200, {"Encapsulated": "req-hdr=0, null-body=21"}, b"GET / HTTP/1.1\r\nA: b\r\n\r\n"),
    ],
)
def test_a_page_of_its_own_and_any_change_refuse_the_call(script: Script) -> None:
    with ScriptedIcap(script) as server:
        denied = guard(server).completions().denied
    assert denied is not None
    assert denied.code == "content_policy_violation"
    assert "bluebird" not in denied.message


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
PARTS = {"Encapsulated": f"res-hdr=0, res-body={len(HEAD)}"}


@pytest.mark.parametrize(
    "script",
    [
        raw(b""),
        raw(b"\r\n"),
        raw(b"I"),
        raw(b"SSH-2.0-nothing\r\n"),
        raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
        raw(b"ICAP/1.0 204"),
        raw(b"ICAP/1.0 204 No\r\n"),
        raw(b"ICAP/1.0 204 No\r\nISTag: x\r\n"),
        raw(b"ICAP/1.0 204 No\r\nno header\r\n\r\n"),
        raw(b"ICAP/1.0 204 No\r\nA: b\r\n folded\r\n\r\n"),
        raw(b"ICAP/1.0 204 No\r\nISTag: x\r\nISTag: y\r\n\r\n"),
        raw(b"ICAP/1.0 204 " + b"x" * 100_000),
        raw(b"ICAP/1.0 204 No\r\n" + b"A: b\r\n" * 200 + b"\r\n"),
        answer(204, PARTS, HEAD + chunks(b"blocked")),
        answer(200),
        answer(200, {"Encapsulated": "null-body=0"}),
        answer(200, {"Encapsulated": "res-body=0"}, chunks(b"blocked")),
        answer(200, {"Encapsulated": "opt-body=0, req-body=4"}, b"abcd"),
        answer(200, {"Encapsulated": "req-hdr=9, req-body=4"}, b"abcd"),
        answer(200, {"Encapsulated": "req-hdr=0, req-body=99999999"}, b"abcd"),
        answer(200, {"Encapsulated": "req-hdr=0, something=4"}, b"abcd"),
        answer(200, {"Encapsulated": "nonsense"}),
        *(
            answer(status)
            for status in (100, 201, 206, 302, 400, 403, 404, 408, 418, 500, 503, 999)
        ),
    ],
)
def test_garbage_and_every_other_answer_refuse_the_call(script: Script) -> None:
    with (
        ScriptedIcap(script) as server,
        pytest.raises(PluginFailed, match="is unavailable: "),
    ):
        guard(server).completions()


def test_an_answer_that_is_cut_anywhere_never_lets_a_call_pass() -> None:
    whole: list[bytes] = []

    class Tape:
        def sendall(self, data: bytes) -> None:
            whole.append(data)

    def record(_: Any, asked: Asked) -> None:
        sent_back()(Tape(), asked)  # type: ignore[arg-type]
        raise ConnectionResetError

    with ScriptedIcap(record) as server, pytest.raises(PluginFailed):
        guard(server).completions()
    cuts = [raw(whole[0][:end]) for end in range(1, len(whole[0]))]
    with ScriptedIcap(*cuts, raw(whole[0])) as server:
        guarded = guard(server)
        for _ in cuts:
            with pytest.raises(PluginFailed, match="it gave no verdict"):
                guarded.completions()
        assert guarded.completions().denied is None


@pytest.mark.parametrize("stage", ["options", "answer", "head", "body", "continue"])
def test_silence_at_any_stage_refuses_the_call_in_time(stage: str) -> None:
    def half(data: bytes) -> Script:
        def play(sock: Any, asked: Asked) -> None:
            sock.sendall(data)
            silent()(sock, asked)

        return play

    scripts = {
        "answer": silent(),
        "head": half(b"ICAP/1.0 200 OK\r\nISTag:"),
        "body": half(b"ICAP/1.0 200 OK\r\nEncapsulated: req-hdr=0, req-body=9\r\n\r\nPOST"),
        "continue": half(b"ICAP/1.0 100 Continue\r\n\r\n"),
    }
    options = silent() if stage == "options" else told(Preview=1)
    with ScriptedIcap(scripts.get(stage, no_change()), options=options) as server:
        guarded = guard(server, timeout=0.2, preview=stage == "continue")
        with pytest.raises(PluginFailed, match="it did not answer in time"):
            guarded.completions()


@pytest.mark.parametrize("scheme", ["icap", "icaps"])
def test_a_host_that_says_nothing_is_not_waited_for_too_long(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        guarded = harness("icap_guard", url=url, timeout=0.2)
        for size in (1, 1_900_000):
            with pytest.raises(PluginFailed, match="it did not answer in time"):
                guarded.completions(prompt="x" * size)


def test_an_answer_that_comes_before_all_was_said_counts() -> None:
    with ScriptedIcap(blocked(), options=told(Preview=0)) as server:
        assert guard(server, preview=True).completions(prompt="x" * 1_000_000).denied is not None


@pytest.mark.parametrize("length", [0, 3, 4, 5, 100_000])
def test_a_preview_is_followed_by_the_rest_where_it_is_asked_for(length: int) -> None:
    def asks(sock: Any, asked: Asked) -> None:
        if not asked.is_whole:
            sock.sendall(b"ICAP/1.0 100 Continue\r\n\r\n")
            asked.read_rest()
        no_change()(sock, asked)

    with ScriptedIcap(asks, options=told(Preview=length)) as server:
        body = guard(server, preview=True, send="body").completions(prompt="abc").body
    (asked,) = server.asked
    assert asked.body.startswith(b'{"')
    assert b'"abc"' in asked.body
    assert asked.fields["preview"] == str(min(length, len(asked.body)))
    assert body["prompt"] == "abc"


def test_without_preview_all_is_shown_although_the_service_would_take_less() -> None:
    with ScriptedIcap(options=told(Preview=1)) as server:
        guard(server).completions(prompt="abcdef")
    assert "preview" not in server.asked[0].fields
    assert b"abcdef" in server.asked[0].body


def test_a_service_that_offers_no_preview_is_shown_all() -> None:
    with ScriptedIcap() as server:
        guard(server, preview=True).completions(prompt="abcdef")
    assert "preview" not in server.asked[0].fields


def test_the_rest_is_asked_for_once() -> None:
    with (
        ScriptedIcap(
            raw(b"ICAP/1.0 100 Continue\r\n\r\n" * 2, keep=True), options=told(Preview=1)
        ) as server,
        pytest.raises(PluginFailed, match="it gave no verdict"),
    ):
        guard(server, preview=True).completions()


def test_one_connection_serves_many_calls_and_is_asked_about_itself_once() -> None:
    with ScriptedIcap() as server:
        guarded = guard(server)
        for _ in range(5):
            assert guarded.completions().denied is None
    assert (server.connections, server.options, len(server.asked)) == (1, 1, 5)


def test_after_a_change_of_its_rules_the_service_is_asked_about_itself_again() -> None:
    with ScriptedIcap(no_change(), no_change('"two"'), options=told(Options_TTL=3600)) as server:
        guarded = guard(server)
        for expected in (1, 1, 2):
            assert guarded.completions().denied is None
            assert server.options == expected


def test_what_a_service_says_of_itself_counts_as_long_as_it_says() -> None:
    with ScriptedIcap(options=told(Options_TTL="soon")) as server:
        guarded = guard(server)
        guarded.completions()
        guarded.completions()
    assert server.options == 1


@pytest.mark.parametrize(
    "options",
    [told(Methods="RESPMOD"), told(Methods=""), answer(404), answer(200), raw(b""), raw(b"?\r\n")],
)
def test_a_service_that_does_not_offer_what_is_asked_for_refuses_calls(options: Script) -> None:
    with (
        ScriptedIcap(options=options) as server,
        pytest.raises(PluginFailed, match="it gave no verdict"),
    ):
        guard(server).completions()
    assert server.asked == []


def test_options_with_a_body_are_understood_and_the_connection_is_not_kept() -> None:
    script = answer(200, {"Methods": "REQMOD", "Encapsulated": "opt-body=0"}, chunks(b"any"))
    with ScriptedIcap(options=script) as server:
        assert guard(server).completions().denied is None
    assert server.connections == 2


def test_a_connection_that_died_meanwhile_is_replaced_without_a_word() -> None:
    with ScriptedIcap() as server:
        guarded = guard(server)
        for _ in range(4):
            assert guarded.completions().denied is None
            server.hang_up()
    assert len(server.asked) == 4


def test_a_service_that_closes_after_each_answer_without_saying_so_is_asked_again() -> None:
    with ScriptedIcap(raw(b"ICAP/1.0 204 No\r\n\r\n")) as server:
        guarded = guard(server)
        for _ in range(4):
            assert guarded.completions().denied is None


def test_a_service_that_says_it_closes_is_believed() -> None:
    with ScriptedIcap(answer(204, {"Connection": "close"})) as server:
        guarded = guard(server)
        guarded.completions()
        guarded.completions()
    assert server.connections == 2


def test_more_connections_than_the_service_takes_are_never_made() -> None:
    most, now, lock = 0, 0, threading.Lock()

    def count(sock: Any, asked: Asked) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.02)
        with lock:
            now -= 1
        no_change()(sock, asked)

    with ScriptedIcap(count, options=told(Max_Connections=2)) as server:
        guarded = guard(server, connections=8)
        guarded.completions()
        calls = [threading.Thread(target=guarded.completions) for _ in range(12)]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
        assert (len(server.asked), server.connections) == (13, 2)
    assert most <= 2


def test_over_tls_the_service_is_verified_and_may_ask_for_a_certificate(tmp_path: Path) -> None:
    ours = certificates(tmp_path)
    context = ours.server()
    context.verify_mode = ssl.CERT_REQUIRED
    ours.authority.configure_trust(context)
    cert, key = ours.client(tmp_path)
    options = {"ca_bundle": ours.bundle, "client_cert": cert, "client_key": key}
    with ScriptedIcap(sent_back(), context=context) as server:
        guarded = guard(server, **options)
        for _ in range(2):
            assert guarded.completions(prompt="x" * 500_000).denied is None
        with pytest.raises(PluginFailed, match="it gave no verdict"):
            guard(server).completions()
    assert server.connections == 2


def test_a_caller_is_told_to_come_again_and_nothing_leaves_while_the_appliance_is_away() -> None:
    url = f"icap://{free_address()}/judge"
    with gateway(plugins=[{"use": "icap_guard", "options": {"url": url}}]) as gate:
        answered = gate.ask(COMPLETION)
        assert (answered.status, answered.error["code"]) == (503, "state_unavailable")
        assert answered.header("retry-after")
        assert gate.upstream.requests == []
        with ScriptedIcap(port=int(url.split(":")[2].removesuffix("/judge"))):
            assert gate.ask(COMPLETION).status == 200


def test_while_the_appliance_is_away_calls_pass_if_the_operator_wrote_so() -> None:
    plugin = {
        "use": "icap_guard",
        "on_error": "allow",
        "options": {"url": f"icap://{free_address()}/"},
    }
    with gateway(plugins=[plugin]) as gate:
        assert gate.ask(COMPLETION).status == 200


def test_a_stream_is_judged_as_a_whole_before_any_of_it_is_shown() -> None:
    pieces: list[Event | Wait] = [chunk("Project "), chunk("Bluebird", "stop"), "[DONE]"]
    with ScriptedIcap(no_change(), blocked()) as server:
        plugin = {"use": "icap_guard", "options": {"reply_url": f"{server.url}/replies"}}
        with gateway(sse(pieces), plugins=[plugin]) as gate:
            assert b"Bluebird" in gate.ask(STREAMED).body
            answered = gate.ask(STREAMED)
    assert b"Bluebird" not in answered.body
    assert b"content_policy_violation" in answered.body
    assert b"Project Bluebird" in server.asked[0].body


def test_streams_are_not_held_back_where_no_replies_are_judged() -> None:
    with ScriptedIcap() as server:
        assert guard(server).parts.chain.rewrite_response == ()


@pytest.mark.parametrize(
    ("options", "told_so"),
    [
        ({}, "write url = "),
        ({"url": "http://dlp.example/"}, "this URL is icaps://host"),
        ({"url": "icap://dlp.example/"}, "allow_plain = true"),
        ({"url": "icaps://u:p@dlp.example/"}, "no user name or password"),
        ({"url": "icap://127.0.0.1", "host": "a b"}, "write a host name"),
        ({"url": "icap://127.0.0.1", "timeout": 0}, "timeout = 0"),
        ({"url": "icap://127.0.0.1", "connections": 0}, "connections = 0"),
        ({"url": "icap://127.0.0.1", "retries": -1}, "retries = -1"),
        ({"url": "icap://127.0.0.1", "send": "facts"}, "'texts'"),
        ({"url": "icaps://h", "ca_bundle": "/nowhere.pem"}, "ca_bundle cannot be used"),
    ],
)
def test_options_that_will_not_do_stop_the_start(options: dict[str, Any], told_so: str) -> None:
    with pytest.raises(ConfigError, match=told_so):
        harness("icap_guard", **options)
