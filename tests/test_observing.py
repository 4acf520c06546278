"""Plugins are shown complete answers of upstreams, as they were said, when the caller has all of it."""

import json
import logging
from dataclasses import dataclass
from typing import Any, Final

import pytest

from proxy import Call, Record, Reply, hookimpl
from proxy.model import Principal
from proxy.observing import MOST, Observation
from proxy.sse import Event, encode_event
from proxy.steps import Running, Step
from tests.gateway import COMPLETION, REPLY, STREAMED, UPSTREAM_KEY, chunk, gateway, refused
from tests.records import eventually
from tests.upstream import WAIT, cut_after, json_reply, reply, slow, sse

GUARD: Final = {"use": "regex_guard", "options": {"patterns": {"codename": "BLUEBIRD"}}}
USAGE: Final = {**chunk(""), "choices": [], "usage": REPLY["usage"]}
EVENTS: Final[list[Any]] = [chunk("a BLUE"), chunk("BIRD", "stop"), USAGE, "[DONE]"]
_told: list[tuple[str, Any]] = []


@dataclass(frozen=True)
class Watcher:
    """Keeps what it is shown, or fails."""

    name: str
    fails: bool = False
    returns: Any = None

    @hookimpl
    def observe_response(self, call: Call, reply: Reply) -> Any:
        assert reply.status == 200
        if self.fails:
            raise ValueError("no")
        _told.append((self.name, (call.body, reply.body)))
        return self.returns

    @hookimpl
    def log_exchange(self, record: Record) -> None:
        _told.append((self.name, record.outcome))


def watcher(name: str = "watcher", **options: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {key: options.pop(key) for key in ("when", "mode") if key in options}
    return {
        "use": f"{__name__}:Watcher",
        "name": name,
        "options": {"name": name, **options},
        **entry,
    }


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    _told.clear()


def shown() -> list[Any]:
    return [body for _, seen in _told if isinstance(seen, tuple) for body in [seen[1]]]


def test_a_whole_reply_is_shown_after_the_record() -> None:
    with gateway(plugins=[watcher()]) as gate:
        gate.ask(COMPLETION)
        eventually(lambda: len(_told) == 2)
    assert _told == [("watcher", "ok"), ("watcher", (COMPLETION, REPLY))]


@pytest.mark.parametrize("policy", [{}, {"response": {"codename": "redact"}}])
def test_a_stream_is_shown_as_the_reply_that_it_says(policy: Any) -> None:
    with gateway(sse(EVENTS), plugins=[watcher(), GUARD], policy=policy) as gate:
        answer = gate.ask(STREAMED)
        eventually(lambda: bool(shown()))
    assert (b"[CODENAME]" in answer.body) == bool(policy)
    (body,) = shown()
    assert body["choices"][0]["text"] == "a BLUEBIRD", "as the upstream said it"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == REPLY["usage"]
    assert b"usage" not in answer.body


def test_it_is_shown_before_other_plugins_change_it() -> None:
    stamps = {"use": "tests.test_answering:Stamps"}
    for script, body in ((json_reply(REPLY), COMPLETION), (sse(EVENTS), STREAMED)):
        _told.clear()
        with gateway(script, plugins=[watcher(), stamps]) as gate:
            assert b"stamped" in gate.ask(body).body
            eventually(lambda: bool(shown()))
        assert "system_fingerprint" not in shown()[0]


def test_nothing_is_held_back_for_it() -> None:
    script = sse([chunk("first"), WAIT, chunk("last", "stop"), "[DONE]"])
    with gateway(script, plugins=[watcher()]) as gate:
        with gate.send(STREAMED) as sock:
            seen = b""
            while b"first" not in seen:
                seen += sock.recv(65_536)
            gate.upstream.release()
            while b"[DONE]" not in seen:
                seen += sock.recv(65_536)
        eventually(lambda: bool(shown()))


ASKED: Final = {"request": {"*": "allow"}, "response": {"codename": "deny"}}


@pytest.mark.parametrize(
    ("script", "body", "settings"),
    [
        (json_reply({"error": {"message": "no"}}, 400), COMPLETION, {}),
        (json_reply(REPLY, 201), COMPLETION, {}),
        (cut_after(300, sse([chunk("a" * 300)])), STREAMED, {}),
        (sse([chunk("a"), {"error": {"message": "no"}}, "[DONE]"]), STREAMED, {}),
        (json_reply({**REPLY, "id": "a BLUEBIRD"}), COMPLETION, {"policy": ASKED}),
        (sse(EVENTS), STREAMED, {"policy": ASKED}),
        (json_reply({**REPLY, "pad": "x" * MOST}), COMPLETION, {}),
        (sse([chunk("x" * 900_000), *([chunk("x" * 900_000)] * 4), chunk("", "stop"), "[DONE]"]), STREAMED, {}),
        (json_reply(REPLY), {**COMPLETION, "prompt": "BLUEBIRD"}, {"policy": {"request": {"*": "mask"}}}),
        (sse(EVENTS), {**STREAMED, "prompt": "BLUEBIRD"}, {"policy": {"request": {"*": "mask"}}}),
    ],
    ids=[
        "an error", "another status", "a cut stream", "an error in a stream", "denied", "denied stream",
        "too large", "too large a stream", "masked", "masked stream",
    ],
)  # fmt: skip
def test_what_is_not_shown(script: Any, body: Any, settings: Any) -> None:
    with gateway(script, json_reply(REPLY), plugins=[watcher(), GUARD], **settings) as gate:
        gate.ask(body)
        gate.record(1)
        gate.ask({**COMPLETION, "user": "after"})
        eventually(lambda: bool(shown()))
    assert [seen[0].get("user") for _, seen in _told if isinstance(seen, tuple)] == ["after"]


def test_what_a_caller_did_not_wait_for_is_not_shown() -> None:
    many = [chunk("x" * 65_000)] * 40
    script = slow(sse([*many, chunk("", "stop"), "[DONE]"]), piece=65_536)
    with gateway(script, plugins=[watcher()]) as gate:
        with gate.send(STREAMED) as sock:
            sock.recv(100)
        assert gate.record().outcome == "client_gone"
    assert shown() == []


def test_what_a_plugin_answered_is_not_shown() -> None:
    answers = {"use": "tests.test_answering:Answers", "options": {"do": "answer"}}
    with gateway(plugins=[answers, watcher()]) as gate:
        gate.ask(COMPLETION)
        gate.record()
    assert shown() == []


def test_a_plugin_that_fails_changes_nothing_for_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    plugins = [watcher("broken", fails=True), watcher("chatty", returns=True), watcher("last")]
    with gateway(plugins=plugins) as gate:
        answer = gate.ask(COMPLETION)
        eventually(lambda: any(name == "last" and seen != "ok" for name, seen in _told))
        assert gate.record().outcome == "ok"
    assert answer.json() == REPLY
    assert "plugin broken: observe_response raised ValueError" in caplog.text
    assert "plugin chatty: observe_response returned bool, not None" in caplog.text


def test_only_the_calls_it_concerns_are_shown_to_a_plugin() -> None:
    with gateway(plugins=[watcher(when={"models": ["other"]}), watcher("all")]) as gate:
        gate.ask(COMPLETION)
        eventually(lambda: bool(shown()))
    assert [name for name, seen in _told if seen != "ok"] == ["all"]


def test_the_companys_key_is_never_shown_however_it_is_cut() -> None:
    half = len(UPSTREAM_KEY) // 2
    pieces: list[Any] = [chunk(UPSTREAM_KEY[:half]), chunk(UPSTREAM_KEY[half:], "stop"), "[DONE]"]
    for script, body in ((json_reply({**REPLY, "id": UPSTREAM_KEY}), COMPLETION), (sse(pieces), STREAMED)):  # fmt: skip
        _told.clear()
        with gateway(script, plugins=[watcher()]) as gate:
            gate.ask(body)
            eventually(lambda: bool(shown()))
        assert UPSTREAM_KEY not in str(shown())
        assert "[credential]" in str(shown())


def test_a_reply_that_only_lenient_readers_take_is_not_shown() -> None:
    odd = reply(200, [("content-type", "application/json")], b'{"choices": [], "id": 1, "id": 2}')
    with gateway(odd, json_reply(REPLY), plugins=[watcher()]) as gate:
        assert gate.ask(COMPLETION).status == 200
        gate.record(1)
        gate.ask(COMPLETION)
        eventually(lambda: bool(shown()))
    assert shown() == [REPLY]


def test_a_monitored_one_is_told_as_any() -> None:
    with gateway(plugins=[watcher(mode="monitor")]) as gate:
        gate.ask(COMPLETION)
        eventually(lambda: bool(shown()))


def test_a_strangers_call_is_shown_to_nobody() -> None:
    with gateway(plugins=[watcher()]) as gate:
        refused(gate.ask(COMPLETION, [("Content-Type", "application/json")]), 401)
        gate.record()
    assert shown() == []


def test_what_an_upstream_said_that_was_asked_in_vain_is_forgotten() -> None:
    call = Call(id="1", endpoint="completions", body=COMPLETION, principal=Principal("a"))
    step = Step(
        plugin="p",
        hook="observe_response",
        function=lambda reply: _told.append(("p", (None, reply.body))),
        arguments=("reply",),
    )
    seen = Observation([step], call, 64)

    def events(text: str) -> list[Event]:
        data = json.dumps(chunk(text, "stop")).encode()
        return [Event(encode_event(data), data)]

    for text in ("cut", "whole"):
        assert len(list(seen.stream(200, iter([events(text)]), bytes))) == 1
    seen.tell(Running())
    assert [body["choices"][0]["text"] for body in shown()] == ["whole"]
    seen.whole(500, b"{}")
    seen.tell(Running())
    assert len(shown()) == 1
