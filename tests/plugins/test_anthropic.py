"""Chats over Anthropic's Messages API: what it is sent, and what becomes of its answers, whole, streamed and cut."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import BadRequestError, InternalServerError, OpenAI

from plugins.providers.anthropic import Messages, provider
from proxy import Untranslatable
from proxy.dialect_reply import Asked, TranslatedReply
from proxy.errors import UpstreamError
from proxy.jsonio import encode
from proxy.stream import assemble
from tests.bridge.chats import strings
from tests.dialects import Heard
from tests.gateway import KEY, UPSTREAM_KEY, Gateway, gateway, refused
from tests.upstream import Script, cut_after, json_reply, reply, sse

MODEL: Final = "claude-sonnet-4-5"
USAGE: Final = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 4,
    "output_tokens": 7,
    "service_tier": "standard",
}
ASKED: Final = Asked("chatcmpl-own", MODEL, usage=True)
TOOL: Final[Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}


def message(*content: Mapping[str, Any], stop: str = "end_turn", **more: Any) -> dict[str, Any]:
    """A whole answer of the Messages API."""
    return {
        "id": "msg_01", "type": "message", "role": "assistant", "model": MODEL, "content": list(content),
        "stop_reason": stop, "stop_sequence": None, "usage": USAGE, **more,
    }  # fmt: skip


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def use(
    arguments: Mapping[str, Any], name: str = "weather", call: str = "toolu_1"
) -> dict[str, Any]:
    return {"type": "tool_use", "id": call, "name": name, "input": dict(arguments)}


def named(payload: Mapping[str, Any]) -> bytes:
    """An event as Anthropic sends it: its name stands above its data, too."""
    return f"event: {payload['type']}\ndata: {json.dumps(payload)}\n\n".encode()


def told(whole: Mapping[str, Any], *, piece: int = 3) -> Iterator[bytes]:
    """The stream that says a whole message."""
    opening = {**whole, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
    yield named({"type": "message_start", "message": opening})
    for index, block in enumerate(whole["content"]):
        yield named({"type": "content_block_start", "index": index, "content_block": _begun(block)})
        yield named({"type": "ping"})
        for delta in _deltas(block, piece):
            yield named({"type": "content_block_delta", "index": index, "delta": delta})
        yield named({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    counted = {"output_tokens": whole["usage"]["output_tokens"]}
    yield named({"type": "message_delta", "delta": ended, "usage": counted})
    yield named({"type": "message_stop"})


def _begun(block: Mapping[str, Any]) -> dict[str, Any]:
    kind = block["type"]
    return {**block, **({"input": {}} if kind == "tool_use" else {kind: ""})}


def _deltas(block: Mapping[str, Any], piece: int) -> Iterator[dict[str, Any]]:
    kind = block["type"]
    if kind == "tool_use":
        raw = json.dumps(block["input"], separators=(",", ":"), ensure_ascii=False)
        yield {"type": "input_json_delta", "partial_json": ""}
        for part in _cut(raw, piece) if block["input"] else ():
            yield {"type": "input_json_delta", "partial_json": part}
    else:
        for part in _cut(block[kind], piece):
            yield {"type": f"{kind}_delta", kind: part}
    if kind == "thinking":
        yield {"type": "signature_delta", "signature": "c2ln"}


def _cut(value: str, piece: int) -> list[str]:
    return [value[at : at + piece] for at in range(0, len(value), piece)]


# -- what is sent ----------------------------------------------------------------------------------


def body(**chat: Any) -> Any:
    given = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **chat}
    return Messages().request(given)


def test_a_plain_chat_is_a_message_with_a_limit() -> None:
    assert body() == {
        "model": MODEL,
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert body(max_tokens=5)["max_tokens"] == body(max_completion_tokens=5)["max_tokens"] == 5
    assert Messages(max_tokens=9).request({"messages": []})["max_tokens"] == 9


def test_parameters_have_the_names_of_the_messages_api() -> None:
    sent = body(
        temperature=0.5, top_p=0.9, top_k=3, stop="END", user="u-1", stream=True, service_tier="auto",
        thinking={"type": "enabled", "budget_tokens": 1024}, stream_options={"include_usage": True},
    )  # fmt: skip
    del sent["messages"], sent["max_tokens"], sent["model"]
    assert sent == {
        "stream": True,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
    }
    assert body(stop=["a", "b"])["stop_sequences"] == ["a", "b"]
    assert body(metadata={"user_id": "u-2"})["metadata"] == {"user_id": "u-2"}


def test_what_asks_for_nothing_needs_no_counterpart() -> None:
    idle = {
        "n": 1, "frequency_penalty": 0, "presence_penalty": 0.0, "logprobs": False, "logit_bias": {}, "seed": None,
        "response_format": {"type": "text"}, "modalities": ["text"], "store": False, "stop": None, "tools": None,
        "parallel_tool_calls": True,
    }  # fmt: skip
    assert body(**idle) == body()


@pytest.mark.parametrize(
    ("chat", "param", "words"),
    [
        ({"n": 2}, "n", "send the call several times"),
        ({"seed": 1}, "seed", "leave it out"),
        ({"logprobs": True}, "logprobs", "leave it out"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "leave it out"),
        ({"frequency_penalty": 0.1}, "frequency_penalty", "leave it out"),
        ({"temperature": 1.5}, "temperature", "a number from 0 to 1"),
        ({"response_format": {"type": "json_object"}}, "response_format", "a tool call"),
        ({"functions": []}, "functions", "write tools"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "output_config"),
        ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers", "leave it out"),
        ({"service_tier": "flex"}, "service_tier", "leave it out"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "send one of them"),
        ({"metadata": {"team": "a"}}, "metadata", "no metadata but user_id"),
        ({"metadata": {"user_id": "a"}, "user": "b"}, "user", "send one of them"),
        (
            {"stream_options": {"include_obfuscation": True}},
            "stream_options",
            "include_obfuscation",
        ),
        ({"metadata": {"user_id": {}}, "user": "b"}, "user", "send one of them"),
        ({"tool_choice": {"type": "custom"}}, "tool_choice", "auto, none, required"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "no function"),
        ({"tools": [{**TOOL, "x": 1}]}, "tools[0]", "'x' of tools[0]"),
    ],
)
def test_what_the_messages_api_has_not_is_refused_by_name(
    chat: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(Untranslatable) as caught:
        body(**chat)
    assert caught.value.param == param
    assert words in caught.value.message


def test_system_and_developer_messages_are_the_system_text_block_by_block() -> None:
    sent = body(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": [{**text("Be kind."), "cache_control": {"type": "ephemeral"}}]},
        ]
    )  # fmt: skip
    assert sent["system"] == [
        text("Be brief."),
        {**text("Be kind."), "cache_control": {"type": "ephemeral"}},
    ]
    assert sent["messages"] == [{"role": "user", "content": "Hi"}]


def test_a_text_of_nothing_is_no_block() -> None:
    empty = [{"role": "system", "content": ""}, {"role": "user", "content": "Hi"}]
    assert "system" not in body(messages=empty)


def test_tools_their_calls_and_their_results_go_both_ways() -> None:
    arguments = '{"town":"Ulm","days":[1,2.5]}'
    call = {
        "id": "toolu_1",
        "type": "function",
        "function": {"name": "weather", "arguments": arguments},
    }
    empty = {"id": "toolu_2", "type": "function", "function": {"name": "weather", "arguments": ""}}
    sent = body(
        tools=[{**TOOL, "function": {**TOOL["function"], "strict": True}}],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
        messages=[
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "tool_calls": [call, empty], "refusal": None, "annotations": []},
            {"role": "tool", "tool_call_id": "toolu_1", "content": "Sun"},
            {"role": "tool", "tool_call_id": "toolu_2", "content": [text("Rain")]},
            {"role": "user", "content": "Thanks"},
        ],
    )  # fmt: skip
    assert sent["tools"] == [
        {
            "name": "weather",
            "description": "The weather of a town.",
            "input_schema": {"type": "object", "properties": {"town": {"type": "string"}}},
            "strict": True,
        }
    ]
    assert sent["tool_choice"] == {
        "type": "tool",
        "name": "weather",
        "disable_parallel_tool_use": True,
    }
    asked, called, answered, thanked = sent["messages"]
    assert called["content"] == [use({"town": "Ulm", "days": [1, 2.5]}), use({}, call="toolu_2")]
    assert answered == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sun"},
            {"type": "tool_result", "tool_use_id": "toolu_2", "content": [text("Rain")]},
        ],
    }
    assert (asked["content"], thanked["content"]) == ("Weather?", "Thanks")


@pytest.mark.parametrize(
    ("choice", "kind"), [("auto", "auto"), ("none", "none"), ("required", "any")]
)
def test_a_choice_among_tools_has_another_name(choice: str, kind: str) -> None:
    assert body(tool_choice=choice)["tool_choice"] == {"type": kind}
    alone = body(tool_choice=choice, parallel_tool_calls=False)["tool_choice"]
    assert alone.get("disable_parallel_tool_use", False) is (choice != "none")


def test_images_are_blocks_by_their_address_or_their_data() -> None:
    parts = [
        text("What is it?"),
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "auto"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    sent = body(messages=[{"role": "user", "content": parts}])["messages"][0]["content"]
    assert sent == [
        text("What is it?"),
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
        },
    ]


def image(value: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": [{"type": "image_url", "image_url": value}]}


@pytest.mark.parametrize(
    ("sent", "place", "words"),
    [
        ({"role": "function", "content": "x"}, "", "of the role 'function'"),
        ({"role": "user", "content": "x", "name": "bob"}, "", "'name'"),
        ({"role": "user", "content": 5}, "", "send a text, or a list"),
        ({"role": "user", "content": ["x"]}, ".content[0]", "of the type 'None'"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, ".content[0]", "input_audio"),
        (image("https://x", "system"), ".content[0]", "anything but text"),
        (image("http://x"), ".content[0]", "write https://"),
        (image("data:text/html;base64,AA"), ".content[0]", "this url of an image"),
        (image({"url": "https://x", "detail": "low"}), ".content[0]", "the detail"),
        (image({}), ".content[0]", "without a url"),
        ({"role": "assistant", "tool_calls": [{"type": "custom"}]}, ".tool_calls[0]", "a function"),
        ({"role": "assistant", "tool_calls": 5}, "", "a list"),
    ],
)
def test_a_message_that_cannot_be_said_is_refused_by_its_place(
    sent: dict[str, Any], place: str, words: str
) -> None:
    with pytest.raises(Untranslatable) as caught:
        body(messages=[sent])
    assert caught.value.param == f"messages[0]{place}"
    assert words in caught.value.message


@pytest.mark.parametrize(
    "arguments",
    ["[1]", "{", '{"a":1,"a":2}', '{"a":NaN}', '{"a":1e999}', '{"a":"\\ud800"}', "[" * 9999, 5],
)
def test_arguments_that_are_no_strict_object_are_refused(arguments: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(Untranslatable, match="is not a JSON object"):
        body(messages=[{"role": "assistant", "tool_calls": [call]}])


TEXTS: Final = st.text(max_size=8)
PARTS: Final = st.one_of(TEXTS, st.lists(st.builds(text, TEXTS), max_size=3))
CALLS: Final = st.builds(
    lambda name, town: {
        "id": name,
        "type": "function",
        "function": {"name": name, "arguments": json.dumps({"town": town}, ensure_ascii=False)},
    },
    TEXTS,
    st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cc", "Cs"]), max_size=8),
)
MESSAGES: Final = st.lists(
    st.one_of(
        st.builds(
            lambda role, content: {"role": role, "content": content},
            st.sampled_from(["system", "developer", "user", "assistant"]),
            PARTS,
        ),
        st.builds(
            lambda content, calls: {"role": "assistant", "content": content, "tool_calls": calls},
            PARTS,
            st.lists(CALLS, max_size=2),
        ),
        st.builds(lambda call, said: {"role": "tool", "tool_call_id": call, "content": said}, TEXTS, PARTS),
    ),
    max_size=5,
)  # fmt: skip


@given(messages=MESSAGES, stop=st.one_of(TEXTS, st.lists(TEXTS)), user=TEXTS, model=TEXTS)
def test_every_text_that_is_sent_was_scanned_or_is_a_word_of_the_dialect(
    messages: list[Any], stop: Any, user: str, model: str
) -> None:
    chat = {"model": model, "messages": messages, "stop": stop, "user": user, "tools": [TOOL]}
    dialect = Messages()
    known = {*strings(chat), *dialect.words}
    # What a call's arguments say stands in them as it is, where no escape is needed.
    arguments = [one for one in strings(chat) if one.startswith("{")]
    for one in strings(dialect.request(chat)):
        assert one in known or any(f'"{one}"' in given for given in arguments)


# -- what comes back -------------------------------------------------------------------------------


def translated(pieces: list[bytes], media: str = "text/event-stream") -> TranslatedReply:
    return TranslatedReply(Heard(pieces, media), Messages(), ASKED, 1 << 20)  # type: ignore[arg-type]


def whole(value: Mapping[str, Any]) -> Any:
    return json.loads(translated([encode(value)], "application/json").read(1 << 20))


def payloads(data: bytes) -> list[Any]:
    blocks = [block for block in data.decode().split("\n\n") if block.startswith("data: ")]
    return [block if block == "data: [DONE]" else json.loads(block[6:]) for block in blocks]


def test_a_message_is_a_chat_with_its_usage() -> None:
    answer = whole(message(text("Hello "), text("there")))
    created = answer.pop("created")
    assert isinstance(created, int)
    assert answer == {
        "id": "msg_01",
        "object": "chat.completion",
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 17,
            "completion_tokens": 7,
            "total_tokens": 24,
            "prompt_tokens_details": {"cached_tokens": 4},
            "cache_creation_input_tokens": 3,
            "cache_read_input_tokens": 4,
        },
    }


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("of_a_later_time", "of_a_later_time"),
    ],
)
def test_reasons_to_stop_have_openais_names(reason: str, finish: str) -> None:
    assert whole(message(text("x"), stop=reason))["choices"][0]["finish_reason"] == finish


def test_thinking_is_reasoning_and_a_call_is_a_tool_call() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    answer = whole(message(thought, hidden, use({"town": "Ulm"}), stop="tool_use"))
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "Hm.",
        "tool_calls": [
            {
                "id": "toolu_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"town":"Ulm"}'},
            }
        ],
    }


BLOCKS: Final = st.one_of(
    st.builds(text, st.text(min_size=1, max_size=12)),
    st.builds(
        lambda said: {"type": "thinking", "thinking": said, "signature": "s"},
        st.text(min_size=1, max_size=12),
    ),
    st.builds(use, st.dictionaries(st.text(max_size=4), st.text(max_size=6), max_size=3)),
)


@given(st.lists(BLOCKS, max_size=4), st.integers(1, 5), st.lists(st.integers(0, 4000)))
def test_a_stream_says_what_the_whole_says_wherever_it_is_cut(
    blocks: list[dict[str, Any]], piece: int, cuts: list[int]
) -> None:
    said = message(*blocks)
    data = b"".join(told(said, piece=piece))
    marks = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    shown = b"".join(translated([data[a:b] for a, b in pairwise(marks)]).pieces())
    *chunks, done = payloads(shown)
    assert done == "data: [DONE]"
    assembled, expected = assemble("chat", chunks), whole(said)
    for one in (assembled, expected):
        one["choices"][0]["message"].pop("refusal", None)
        del one["created"]
    if expected["choices"][0]["message"]["content"] is None:
        expected["choices"][0]["message"]["content"] = ""  # an opening chunk has it
    assert assembled == expected
    assert {chunk["id"] for chunk in chunks} == {"msg_01"}


@given(st.integers(0, 10_000))
def test_a_stream_that_is_cut_never_ends_well(at: int) -> None:
    data = b"".join(told(message(text("Hello there"), use({"town": "Ulm"}))))
    shown: list[bytes] = []
    with pytest.raises(UpstreamError, match="cut"):
        shown.extend(translated([data[: at % len(data)]]).pieces())
    assert b"[DONE]" not in b"".join(shown)


def test_an_error_in_a_stream_is_an_error_and_no_end() -> None:
    error = {"type": "overloaded_error", "message": "Overloaded"}
    events = [*told(message(text("Hello")))][:4]
    events += [named({"type": "error", "error": error}), named({"type": "message_stop"})]
    *_, last = payloads(b"".join(translated(events).pieces()))
    assert last == {
        "error": {
            "message": "Overloaded",
            "type": "overloaded_error",
            "param": None,
            "code": "overloaded_error",
        }
    }


def test_a_block_that_begins_with_its_content_loses_none_of_it() -> None:
    opening, *_, counted, ended = told(message(text("x"), stop="tool_use"))
    blocks = [text("Hello"), use({"town": "Ulm"})]
    events = [opening]
    for index, block in enumerate(blocks):
        events.append(
            named({"type": "content_block_start", "index": index, "content_block": block})
        )
        events.append(named({"type": "content_block_stop", "index": index}))
    *chunks, _ = payloads(b"".join(translated([*events, counted, ended]).pieces()))
    said = assemble("chat", chunks)["choices"][0]["message"]
    assert said["content"] == "Hello"
    assert said["tool_calls"][0]["function"]["arguments"] == '{"town":"Ulm"}'


def test_pings_are_comments_and_events_of_a_later_time_are_signs_of_life() -> None:
    first, *rest = told(message(text("x")))
    later = named({"type": "of_a_later_time"})
    pieces = list(translated([first, named({"type": "ping"}), later, *rest]).pieces())
    assert pieces[1:3] == [b": ping\n\n"] * 2


# -- behind a gateway ------------------------------------------------------------------------------

UPSTREAM: Final = {"provider": "anthropic"}
PLUGINS: Final = [{"use": "providers"}]
CHAT: Final[dict[str, Any]] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}


def gate_to(*scripts: Script, **sections: Any) -> Any:
    return gateway(*scripts, plugins=PLUGINS, upstream=UPSTREAM, **sections)


def client(gate: Gateway) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{gate.port}/v1", api_key=KEY, max_retries=0)


def streamed(said: Mapping[str, Any]) -> Script:
    return sse([*told(said)])


def test_a_chat_of_the_openai_sdk_is_answered_by_the_messages_api() -> None:
    with gate_to(json_reply(message(text("Hello")), headers=[("request-id", "req_up")])) as gate:
        with client(gate) as openai:
            answer = openai.chat.completions.create(**CHAT)
        record = gate.record()
        (request,) = gate.upstream.requests
    assert answer.choices[0].message.content == "Hello"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 24
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.header("x-api-key") == UPSTREAM_KEY
    assert request.header("anthropic-version") == "2023-06-01"
    assert request.header("authorization") is None
    assert request.json() == {**CHAT, "max_tokens": 4096}
    assert (record.outcome, record.bridged, record.finish_reasons) == ("ok", 0, ("stop",))
    assert record.upstream_request_id == "req_up"
    assert record.usage is not None
    assert record.usage.cached_tokens == 4


def test_the_record_has_the_digest_of_what_was_sent() -> None:
    with gate_to(json_reply(message(text("Hello")))) as gate:
        gate.ask(CHAT, path="/v1/chat/completions")
        record, (request,) = gate.record(), gate.upstream.requests
    assert record.bridged_digest == hashlib.sha256(request.body).hexdigest()
    assert record.digest == hashlib.sha256(encode(CHAT)).hexdigest()


def test_a_stream_of_the_openai_sdk_has_its_tool_calls_and_its_usage() -> None:
    said = message(text("Let me see."), use({"town": "Ulm"}), stop="tool_use")
    with gate_to(streamed(said)) as gate, client(gate) as openai:
        with openai.chat.completions.stream(
            **CHAT, tools=[TOOL], stream_options={"include_usage": True}
        ) as stream:
            final = stream.get_final_completion()
        record = gate.record()
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    (call,) = calls
    assert final.choices[0].message.content == "Let me see."
    assert (call.id, call.function.arguments) == ("toolu_1", '{"town":"Ulm"}')
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.usage is not None
    assert final.usage.total_tokens == 24
    assert (record.outcome, record.stream) == ("ok", True)


def test_usage_comes_only_where_it_was_asked_for() -> None:
    with gate_to(streamed(message(text("Hello")))) as gate:
        answer = gate.ask({**CHAT, "stream": True}, path="/v1/chat/completions")
    *chunks, done = payloads(answer.body)
    assert done == "data: [DONE]"
    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)


def test_an_error_keeps_its_status_and_its_words() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    headers = [("retry-after", "7")]
    with gate_to(json_reply(error, 529, headers)) as gate:
        answer = gate.ask(CHAT, path="/v1/chat/completions")
        with client(gate) as openai, pytest.raises(InternalServerError, match="Overloaded"):
            openai.chat.completions.create(**CHAT)
    assert (answer.status, answer.header("retry-after")) == (529, "7")
    assert answer.error["code"] == "overloaded_error"


def test_an_error_of_whoever_stands_before_the_provider_is_told_by_its_status() -> None:
    page = reply(502, [("content-type", "text/html")], b"<html>Bad gateway</html>")
    with gate_to(page) as gate:
        answer = gate.ask(CHAT, path="/v1/chat/completions")
    assert (answer.status, answer.error["message"]) == (502, "The upstream answered 502.")
    assert answer.header("content-type") == "application/json"


def test_a_call_that_cannot_be_said_is_refused_before_anything_is_sent() -> None:
    with gate_to() as gate:
        with client(gate) as openai, pytest.raises(BadRequestError, match="nothing like 'seed'"):
            openai.chat.completions.create(**CHAT, seed=5)
        assert gate.record().code == "not_in_the_dialect"
        assert not gate.upstream.requests


def test_a_cut_stream_is_a_cut_stream() -> None:
    data = [*told(message(text("Hello there")))]
    with gate_to(sse(data[:-1])) as gate:
        answer = gate.ask({**CHAT, "stream": True}, path="/v1/chat/completions")
        assert gate.record().outcome == "truncated"
    *_, last = payloads(answer.body)
    assert last["error"]["code"] == "upstream_truncated"
    with gate_to(cut_after(900, sse(data))) as gate:
        answer = gate.ask({**CHAT, "stream": True}, path="/v1/chat/completions")
        assert gate.record().outcome == "truncated"


def test_completions_go_over_the_bridge_and_in_the_dialect() -> None:
    def by_kind() -> Script:
        def play(connection: Any, request: Any) -> None:
            asked = request.json()
            said = message(text(f"[{asked['messages'][-1]['content']}]"), stop="max_tokens")
            (streamed(said) if asked.get("stream") else json_reply(said))(connection, request)

        return play

    with gate_to(by_kind()) as gate, client(gate) as openai:
        answer = openai.completions.create(model=MODEL, prompt=["a", "b"], n=2, stop="\n")
        assert [one.text for one in answer.choices] == ["[a]", "[a]", "[b]", "[b]"]
        assert {one.finish_reason for one in answer.choices} == {"length"}
        assert answer.usage is not None
        assert answer.usage.total_tokens == 4 * 24
        sent = gate.upstream.requests[0].json()
        assert (sent["max_tokens"], sent["stop_sequences"]) == (16, ["\n"])
        texts = {0: "", 1: ""}
        for chunk in openai.completions.create(model=MODEL, prompt=["a", "b"], stream=True):
            for one in chunk.choices:
                texts[one.index] += one.text
        assert texts == {0: "[a]", 1: "[b]"}
        refused(gate.ask({"model": MODEL, "prompt": "a", "seed": 1}), 400, "not_in_the_dialect")
        assert gate.records[0].bridged == 4


@pytest.mark.parametrize("stream", [False, True])
def test_policy_looks_at_what_is_sent_and_at_what_comes_back(stream: bool) -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"ticket": "TICKET-[0-9]{4}"}}}
    policy = {"request": {"ticket": "mask"}, "response": {"ticket": "redact"}}
    said = message(text("It is TICKET-1234."), use({"id": "TICKET-5678"}), stop="tool_use")
    scripts = streamed(said) if stream else json_reply(said)
    chat = {**CHAT, "messages": [{"role": "user", "content": "See TICKET-9999"}], "stream": stream}
    with gateway(scripts, plugins=[*PLUGINS, guard], upstream=UPSTREAM, policy=policy) as gate:
        answer = gate.ask(chat, path="/v1/chat/completions")
        sent = gate.upstream.requests[0].body
    assert b"TICKET-9999" not in sent
    assert b"TICKET-1234" not in answer.body
    assert b"TICKET-5678" not in answer.body
    assert answer.body.count(b"[TICKET]") == 2


def test_what_only_shows_when_arguments_are_read_is_judged_before_it_is_sent() -> None:
    guard = {"use": "regex_guard", "options": {"patterns": {"ticket": "TICKET-[0-9]{4}"}}}
    hidden = json.dumps({"id": "TICKET-9999"}).replace("TICK", "\\u0054\\u0049\\u0043\\u004b")
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": hidden}}
    chat = {**CHAT, "messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    for action in ("deny", "mask", "redact"):
        with gateway(
            json_reply(message(text("x"))),
            plugins=[*PLUGINS, guard],
            upstream=UPSTREAM,
            policy={"request": {"ticket": action}},
        ) as gate:
            answer = gate.ask(chat, path="/v1/chat/completions")
            assert answer.status == (400 if action == "deny" else 200)
            assert not any(b"TICKET-9999" in request.body for request in gate.upstream.requests)


def test_the_provider_says_what_people_need_to_know() -> None:
    made = provider()
    assert set(made.paths) == {"chat"}
    assert all(quirk.endswith(".") for quirk in made.quirks)
