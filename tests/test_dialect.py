"""What a plugin that brings a dialect may count on, and what it cannot break: behind a running gateway."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from proxy import Dialect, Interpreter, Provider, Untranslatable, hookimpl
from proxy.dialect_reply import Asked, TranslatedReply
from proxy.egress import hold
from proxy.frozen import FrozenDict
from tests.bridge.chats import chat
from tests.bridge.test_crossing import CLOSED, events
from tests.dialects import Heard
from tests.gateway import gateway, refused
from tests.upstream import WAIT, json_reply, sse

CHAT: Final[dict[str, Any]] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
PATH: Final = "/v1/chat/completions"


@dataclass
class Listener:
    """Reads ``{"say": …}`` and ``{"over": true}``."""

    done: bool = False

    def chunks(self, event: str, payload: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        if "wrong" in payload:
            yield {"error": {"message": payload["wrong"]}}
        if "say" in payload:
            yield {"choices": [{"delta": {"content": f"{event}{payload['say']}"}}]}
        if "over" in payload:
            self.done = True
            yield {"choices": [{"finish_reason": "stop"}]}
            yield {"usage": {"total_tokens": 3}}


@dataclass(frozen=True)
class Plain:
    """One text asked, one text answered."""

    words: frozenset[str] = field(default=frozenset({"ask"}))

    def request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if body.get("seed") is not None:
            raise Untranslatable("There is no seed here: leave it out.", "seed")
        said = body["messages"][-1]["content"]
        return {"ask": said.upper() if body.get("user") == "loud" else said}

    def reply(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = {"role": "assistant", "content": payload["say"]}
        return {"choices": [{"message": answer, "finish_reason": "stop"}]}

    def error(self, status: int, payload: Any) -> Mapping[str, Any]:
        return {"message": payload["wrong"], "code": f"own_{status}"}

    def stream(self) -> Interpreter:
        return Listener()


@dataclass(frozen=True)
class Acme:
    """A provider that speaks plainly."""

    @hookimpl
    def providers(self) -> Iterator[Provider]:
        paths = FrozenDict(chat="/say", embeddings="/embeddings")
        yield Provider(name="acme", paths=paths, dialect=Plain())


SPOKEN: Final[dict[str, Any]] = {
    "plugins": [{"use": "tests.test_dialect:Acme"}],
    "upstream": {"provider": "acme"},
}


def test_a_dialect_is_an_object_with_these_members() -> None:
    assert isinstance(Plain(), Dialect)
    assert not isinstance(object(), Dialect)


# -- what is sent ----------------------------------------------------------------------------------


def test_a_chat_is_sent_and_answered_in_the_dialect() -> None:
    with gateway(json_reply({"say": "Hello"}), **SPOKEN) as gate:
        answer = gate.ask(CHAT, path=PATH).json()
        assert gate.upstream.requests[0].json() == {"ask": "Hi"}
        assert answer["choices"][0]["message"]["content"] == "Hello"
        assert answer["object"] == "chat.completion"
        assert answer["id"] == gate.record().id.replace("req_", "chatcmpl-")
        assert answer["model"] == "m"


def test_other_endpoints_are_not_translated() -> None:
    embedded = {"object": "list", "data": []}
    with gateway(json_reply(embedded), **SPOKEN) as gate:
        body = {"model": "m", "input": "x"}
        assert gate.ask(body, path="/v1/embeddings").json() == embedded
        assert gate.upstream.requests[0].json() == body
        assert gate.record().bridged_digest is None


def test_what_a_dialect_cannot_say_is_told_in_its_words() -> None:
    with gateway(**SPOKEN) as gate:
        error = refused(gate.ask({**CHAT, "seed": 1}, path=PATH), 400, "not_in_the_dialect")
        assert (error["message"], error["param"]) == (
            "There is no seed here: leave it out.",
            "seed",
        )
        assert not gate.upstream.requests


def test_a_dialect_that_fails_sends_nothing() -> None:
    with gateway(**SPOKEN) as gate:
        refused(gate.ask({"model": "m", "messages": []}, path=PATH), 500, "plugin_failed")
        assert not gate.upstream.requests


def test_a_text_that_a_dialect_makes_is_judged_as_all_others_are() -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"loud": "SHOUT[A-Z]{1,9}"}}}
    plugins = [*SPOKEN["plugins"], guard]
    body = {"model": "m", "messages": [{"role": "user", "content": "shouting"}]}
    for action in ("deny", "mask", "redact"):
        policy = {"request": {"loud": action}}
        with gateway(
            json_reply({"say": "x"}), plugins=plugins, upstream=SPOKEN["upstream"], policy=policy
        ) as gate:
            assert gate.ask(body, path=PATH).status == 200
            assert refused(gate.ask({**body, "user": "loud"}, path=PATH), 400)
            assert gate.record(2).outcome == "denied"
            assert len(gate.upstream.requests) == 1


# -- what comes back -------------------------------------------------------------------------------


def test_a_stream_is_translated_event_by_event() -> None:
    told: list[Any] = [{"say": "a"}, b'event: b\ndata: {"say": "c"}\n\n', {"over": True}]
    asked = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    with gateway(sse(told), **SPOKEN) as gate:
        *chunks, done = events(gate.ask(asked, path=PATH))
        assert gate.record().outcome == "ok"
    assert done == "[DONE]"
    said = [one["choices"][0]["delta"].get("content") for one in chunks[:-1]]
    assert said == ["a", "bc", None]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], {"total_tokens": 3})
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


@pytest.mark.parametrize("last", [[], ["[DONE]"]])
def test_without_the_dialects_own_end_a_stream_is_cut(last: list[Any]) -> None:
    with gateway(sse([{"say": "a"}, *last]), **SPOKEN) as gate:
        *_, told = events(gate.ask({**CHAT, "stream": True}, path=PATH))
        assert told["error"]["code"] == "upstream_truncated"
        assert gate.record().outcome == "truncated"


def test_an_error_in_a_stream_ends_it() -> None:
    with gateway(sse([{"say": "a"}, {"wrong": "Too hot."}, {"say": "b"}]), **SPOKEN) as gate:
        first, told = events(gate.ask({**CHAT, "stream": True}, path=PATH))
        assert gate.record().outcome == "upstream_error"
    assert first["choices"][0]["delta"] == {"content": "a"}
    assert told["error"] == {
        "message": "Too hot.",
        "type": "server_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize("event", ["no json", "[1]"])
def test_an_event_that_is_no_object_breaks_the_stream_after_what_came(event: str) -> None:
    with gateway(sse([{"say": "a"}, event]), **SPOKEN) as gate:
        first, told = events(gate.ask({**CHAT, "stream": True}, path=PATH))
        assert gate.record().outcome == "truncated"
    assert first["choices"][0]["delta"] == {"content": "a"}
    assert told["error"]["code"] == "upstream_error"


@pytest.mark.parametrize("body", [{"other": 1}, ["say"], {"say": float("nan")}])
def test_an_answer_that_a_dialect_cannot_read_is_no_answer(body: Any) -> None:
    with gateway(json_reply(body), **SPOKEN) as gate:
        answer = gate.ask(CHAT, path=PATH)
        assert (answer.status, answer.error["code"]) == (502, "upstream_error")


@pytest.mark.parametrize(
    ("script", "message", "code"),
    [
        (json_reply({"wrong": "Too much."}, 429), "Too much.", "own_429"),
        (json_reply([], 503), "The upstream answered 503.", None),
        (json_reply({"wrong": 5}, 400), "The upstream answered 400.", "own_400"),
    ],
)
def test_an_error_has_its_status_and_openais_shape(
    script: Any, message: str, code: str | None
) -> None:
    with gateway(script, **SPOKEN) as gate:
        answer = gate.ask(CHAT, path=PATH)
        assert (answer.error["message"], answer.error["code"]) == (message, code)
        assert answer.status == gate.record().upstream_status


def test_an_answer_that_is_held_is_held_in_openais_words() -> None:
    heard: Any = Heard([b'{"say": "Hello"}'])
    held = hold(TranslatedReply(heard, Plain(), Asked("c", "m", usage=False), 99), 999)  # type: ignore[arg-type]
    assert b'"content":"Hello"' in held.read(999)
    assert held.header("x-request-id") == "req_up"
    assert held.header("content-length") is None


def test_an_upstream_asked_later_gets_the_chat_as_it_came() -> None:
    spoken = {"provider": "acme", "base_url": CLOSED, "allow_private": True}
    with gateway(json_reply(chat("Hello"))) as other:
        plain = {
            "provider": "openai_compatible",
            "base_url": f"{other.upstream.url}/v1",
            "allow_private": True,
        }
        with gateway(
            plugins=SPOKEN["plugins"],
            upstreams={"spoken": spoken, "plain": plain},
            routes=[{"upstreams": ["spoken", "plain"]}],
        ) as gate:
            assert gate.ask(CHAT, path=PATH).json() == chat("Hello")
            record = gate.record()
        assert other.upstream.requests[0].json() == CHAT
    assert (record.upstream, record.bridged_digest) == ("plain", None)


def test_a_caller_that_hangs_up_ends_the_stream_beneath() -> None:
    with gateway(sse([{"say": "a"}, WAIT, {"over": True}]), **SPOKEN) as gate:
        with gate.send({**CHAT, "stream": True}, path=PATH) as sock:
            assert sock.recv(1)
            gate.upstream.wait_for(lambda: gate.upstream.open_connections == 1)
        gate.upstream.wait_for(gate.settled)
        assert gate.record().outcome == "client_gone"


def test_completions_cross_into_the_dialect() -> None:
    with gateway(json_reply({"say": "Hello"}), **SPOKEN) as gate:
        answer = gate.ask({"model": "m", "prompt": ["a", "b"]}).json()
        assert [one["text"] for one in answer["choices"]] == ["Hello", "Hello"]
        assert sorted(request.json()["ask"] for request in gate.upstream.requests) == ["a", "b"]
        assert gate.record().bridged == 2
        gate.upstream.play(sse([{"say": "a"}, {"over": True}]))
        *chunks, done = events(gate.ask({"model": "m", "prompt": "a", "stream": True}))
        assert done == "[DONE]"
        assert json.dumps(chunks).count('"text": "a"') == 1
