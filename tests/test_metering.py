"""A stream says what it cost, and a caller who did not ask for that does not see it."""

from dataclasses import dataclass
from typing import Any

import pytest

from proxy import Admission, Call, Reply, hookimpl
from proxy.metering import unasked
from proxy.sse import Event
from tests.gateway import STREAMED, Gateway, chunk, gateway
from tests.scripts import sse

COST = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
}
PLAIN = [chunk("a"), chunk("b", "stop")]
TOLD = [{**event, "usage": None} for event in PLAIN]
LAST = {**chunk(""), "choices": [], "usage": COST}


@dataclass(frozen=True)
class Meter:
    """A plugin that wants to know what calls cost."""

    @hookimpl
    def admit(self, call: Call) -> Admission | None:
        assert call.body["stream_options"]["include_usage"] is True
        return None


METER = {"use": f"{__name__}:Meter"}
GRANTS = {"use": "tests.test_admission:Grants"}
MARKED = {"use": f"{__name__}:Reviewer"}


@dataclass(frozen=True)
class Reviewer:
    """A plugin for which streams are buffered."""

    @hookimpl
    def rewrite_response(self, reply: Reply) -> None:
        assert reply.body["usage"]["total_tokens"] == COST["total_tokens"]


def events_of(gate: Gateway, body: Any = STREAMED) -> list[str]:
    answer = gate.ask(body)
    assert answer.status == 200
    return [line for line in answer.body.decode().split("\n\n") if line]


@pytest.mark.parametrize("more", [(), (MARKED,)], ids=["passed", "buffered"])
def test_usage_is_asked_for_and_hidden(more: tuple[dict[str, str], ...]) -> None:
    with gateway(sse([*TOLD, LAST, "[DONE]"]), plugins=[METER, *more]) as gate:
        events = events_of(gate)
        sent = gate.upstream.requests[0].json()
        record = gate.record()
    assert sent == {**STREAMED, "stream_options": {"include_usage": True}}
    assert not any("usage" in event for event in events)
    assert events[-1] == "data: [DONE]"
    assert record.usage is not None
    assert (record.usage.total_tokens, record.usage.cached_tokens) == (5, 1)


def test_usage_is_kept_under_a_policy_that_reviews_the_stream() -> None:
    keywords = {"use": "regex_guard", "options": {"patterns": {"codename": "BLUEBIRD"}}}
    policy = {"response": {"*": "redact"}, "request": {"*": "allow"}}
    with gateway(sse([*TOLD, LAST, "[DONE]"]), plugins=[METER, keywords], policy=policy) as gate:
        events = events_of(gate)
        record = gate.record()
    assert not any("usage" in event for event in events)
    assert record.usage is not None
    assert record.completion_characters == len("ab")


def test_a_caller_who_asks_sees_every_byte() -> None:
    body = {**STREAMED, "stream_options": {"include_usage": True}}
    with gateway(sse([*TOLD, LAST, "[DONE]"]), plugins=[METER]) as gate:
        events = events_of(gate, body)
        assert gate.upstream.requests[0].json() == body
    assert sum('"total_tokens"' in event for event in events) == 1
    assert all("usage" in event for event in events[:-1])


def test_other_stream_options_are_kept() -> None:
    body = {**STREAMED, "stream_options": {"include_obfuscation": False, "include_usage": False}}
    with gateway(sse([*PLAIN, "[DONE]"]), plugins=[METER]) as gate:
        events_of(gate, body)
        options = gate.upstream.requests[0].json()["stream_options"]
    assert options == {"include_obfuscation": False, "include_usage": True}


def test_the_operator_may_switch_it_off() -> None:
    with gateway(sse([*PLAIN, "[DONE]"]), plugins=[GRANTS], metering={"ask_usage": False}) as gate:
        events_of(gate)
        assert gate.upstream.requests[0].json() == STREAMED


def test_nothing_is_added_where_no_plugin_meters() -> None:
    with gateway(sse([*PLAIN, "[DONE]"])) as gate:
        events_of(gate)
        assert gate.upstream.requests[0].json() == STREAMED


def test_usage_beside_choices_was_not_asked_by_us_and_stays() -> None:
    payload = {**chunk("a"), "usage": COST}
    event = Event(b"data: x\n\n", b"x")
    assert unasked(event, payload) == (event, payload)


def test_an_event_that_is_no_object_stays() -> None:
    event = Event(b": ping\n\n", None)
    assert unasked(event, None) == (event, None)


def test_text_of_tool_calls_and_reasoning_is_counted() -> None:
    arguments = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}
    said = [{"role": "assistant", "content": "abc"}, {"reasoning_content": "de"}, arguments]
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in said]
    events[-1]["choices"][0]["finish_reason"] = "stop"
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with gateway(sse([*events, "[DONE]"])) as gate:
        assert gate.ask(body, path="/v1/chat/completions").status == 200
        assert gate.record().completion_characters == len("abcde{}")
