import json
from typing import Any, cast

import pytest

from proxy.demo import chat, messages
from proxy.demo.refusals import Refused
from tests.demo.conftest import Site

Json = dict[str, Any]
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
            },
        },
    },
}


def ask(**body: Any) -> Json:
    return chat.whole(messages.read({"model": "gpt-4o-mini", "messages": HELLO} | body))


def chunks(**body: Any) -> list[Json]:
    asked = {"model": "gpt-4o-mini", "messages": HELLO, "stream": True} | body
    return list(chat.streamed(messages.read(asked), 0))


def test_a_plain_reply_has_the_documented_shape() -> None:
    reply = ask(n=2, logprobs=True, top_logprobs=3, max_tokens=5)
    assert reply["object"] == "chat.completion"
    assert [choice["index"] for choice in reply["choices"]] == [0, 1]
    for choice in reply["choices"]:
        content = choice["logprobs"]["content"]
        assert choice["message"]["role"] == "assistant"
        assert "".join(one["token"] for one in content) == choice["message"]["content"]
        assert all(bytes(one["bytes"]).decode() == one["token"] for one in content)
        assert all(len(one["top_logprobs"]) == 3 for one in content)
    assert reply["usage"]["total_tokens"] == sum(list(reply["usage"].values())[:2])


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"n": 3, "max_completion_tokens": 9},
        {"logprobs": True},
        {"stop": ["e ", "."]},
        {"response_format": {"type": "json_object"}, "logprobs": True},
        {"temperature": 0, "seed": 2**60},
    ],
)
def test_a_stream_tells_exactly_what_the_whole_reply_tells(extra: Json) -> None:
    whole = ask(**extra)
    *parts, last = chunks(**extra, stream_options={"include_usage": True})
    assert (last["choices"], last["usage"]) == ([], whole["usage"])
    for wanted in whole["choices"]:
        mine = [part["choices"][0] for part in parts]
        mine = [one for one in mine if one["index"] == wanted["index"]]
        assert mine[0]["delta"]["role"] == "assistant"
        text = "".join(one["delta"].get("content", "") for one in mine)
        assert text == wanted["message"]["content"]
        assert [one["finish_reason"] for one in mine[:-1]] == [None] * (len(mine) - 1)
        assert mine[-1]["finish_reason"] == wanted["finish_reason"]
        scored = [token for one in mine for token in (one["logprobs"] or {}).get("content", [])]
        assert scored == (wanted["logprobs"] or {}).get("content", [])


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_a_forced_tool_is_called_with_arguments_of_its_schema(choice: Any) -> None:
    [answer] = ask(tools=[WEATHER], tool_choice=choice, stop="c")["choices"]
    [call] = answer["message"]["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    assert set(arguments) == {"city", "unit"}
    assert arguments["unit"] == "celsius"
    assert answer["message"]["content"] is None
    assert answer["finish_reason"] == "tool_calls"


def test_a_tool_call_is_streamed_in_pieces() -> None:
    extra = {"tools": [WEATHER], "tool_choice": "required"}
    [wanted] = ask(**extra)["choices"]
    first, *rest, last = [chunk["choices"][0] for chunk in chunks(**extra)]
    assert first["delta"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": ""}
    pieces = [one["delta"]["tool_calls"][0]["function"]["arguments"] for one in rest]
    assert len(pieces) > 3
    assert "".join(pieces) == wanted["message"]["tool_calls"][0]["function"]["arguments"]
    assert last["finish_reason"] == "tool_calls"


def test_tools_that_are_not_forced_leave_a_text() -> None:
    for choice in ({}, {"tool_choice": "auto"}, {"tool_choice": "none"}):
        assert ask(tools=[WEATHER], **choice)["choices"][0]["message"]["content"] is not None


def test_a_response_format_is_kept() -> None:
    plain = ask(response_format={"type": "json_object"})["choices"][0]
    assert list(json.loads(plain["message"]["content"])) == ["reply"]
    assert plain["finish_reason"] == "stop"
    schema = {"type": "object", "properties": {"size": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    made = ask(response_format=form)["choices"][0]["message"]["content"]
    assert json.loads(made) == {"size": 1}


def test_json_that_just_fits_is_finished_and_longer_json_is_cut() -> None:
    form = {"response_format": {"type": "json_object"}}
    size = ask(**form)["usage"]["completion_tokens"]
    assert ask(**form, max_tokens=size)["choices"][0]["finish_reason"] == "stop"
    assert ask(**form, max_tokens=size - 1)["choices"][0]["finish_reason"] == "length"


def test_parts_are_read_and_what_is_no_text_is_counted() -> None:
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "x"}}]
    line = messages._rendered([{"role": "user", "content": parts}, {"role": "assistant"}])
    assert line == "user: Look [image_url]\nassistant: \nassistant:"


def test_obfuscation_is_added_when_asked_for() -> None:
    assert all("obfuscation" in one for one in chunks(stream_options={"include_obfuscation": True}))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "king"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"]}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": ["x"]}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"function": {"name": "no"}}}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": 3}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"stream_options": {}}, "stream_options"),
    ],
)
def test_a_wrong_value_is_refused_by_name(body: Json, param: str) -> None:
    with pytest.raises(Refused) as refused:
        ask(**body)
    assert (refused.value.status, refused.value.param) == (400, param)


def test_the_python_client_chats(site: Site) -> None:
    sdk = site.sdk()
    whole = sdk.chat.completions.create(model="gpt-4o-mini", messages=cast("Any", HELLO), seed=1)
    stream = sdk.chat.completions.create(
        model="gpt-4o-mini",
        messages=cast("Any", HELLO),
        seed=1,
        stream=True,
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == whole.choices[0].message.content
    assert whole.usage
