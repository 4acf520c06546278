"""A stream and a whole reply say the same, in both directions."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.frozen import freeze
from proxy.stream import StreamState, assemble, explode

patient = settings(deadline=None)  # the machine may be busy

texts = st.text(max_size=10)
reasons = st.none() | st.sampled_from(["stop", "length", "content_filter", "tool_calls"])
usages = st.fixed_dictionaries(
    {
        "prompt_tokens": st.integers(0),
        "completion_tokens": st.integers(0),
        "total_tokens": st.integers(0),
    }
)
envelopes = {"id": texts, "created": st.integers(0), "model": texts}
extras = {"system_fingerprint": st.none() | texts, "timings": st.dictionaries(texts, st.integers())}
text_logprobs = st.none() | st.fixed_dictionaries(
    {
        "tokens": st.lists(texts, max_size=3),
        "token_logprobs": st.lists(st.none() | st.floats(-9, 0), max_size=3),
        "top_logprobs": st.none()
        | st.lists(st.none() | st.dictionaries(texts, st.floats(-9, 0)), max_size=3),
        "text_offset": st.lists(st.integers(0), max_size=3),
    }
)
chat_logprobs = st.none() | st.fixed_dictionaries(
    {
        "content": st.none()
        | st.lists(st.fixed_dictionaries({"token": texts, "index": st.integers()}), max_size=3),
        "refusal": st.none() | st.lists(st.fixed_dictionaries({"token": texts}), max_size=2),
    }
)
calls = st.fixed_dictionaries(
    {
        "id": texts,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": texts, "arguments": texts}),
    }
)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | texts},
    optional={
        "refusal": st.none() | texts,
        "tool_calls": st.none() | st.lists(calls, max_size=3),
        "function_call": st.fixed_dictionaries({"name": texts, "arguments": texts}),
        "reasoning_content": st.none() | texts,
        "annotations": st.lists(st.dictionaries(texts, st.integers()), max_size=2),
        "audio": st.none()
        | st.fixed_dictionaries({"id": texts, "data": texts, "expires_at": st.integers()}),
    },
)


def numbered(choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**choice, "index": index} for index, choice in enumerate(choices)]


def bodies(kind: str, choice: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    choices = st.lists(
        st.fixed_dictionaries(
            {"finish_reason": reasons, **choice},
            optional={
                "stop_reason": st.none() | st.integers() | texts,
                "token_ids": st.lists(st.integers()),
            },
        ),
        max_size=4,
    ).map(numbered)
    required = {"object": st.just(kind), "choices": choices, **envelopes}
    return st.fixed_dictionaries(required, optional={**extras, "usage": usages})


completions = bodies("text_completion", {"text": texts, "logprobs": text_logprobs})
chats = bodies("chat.completion", {"message": messages, "logprobs": chat_logprobs})


@patient
@given(completions)
def test_an_exploded_completion_assembles_to_itself(body: dict[str, Any]) -> None:
    assert assemble("completions", explode("completions", body, include_usage=True)) == body


@patient
@given(chats)
def test_an_exploded_chat_assembles_to_itself(body: dict[str, Any]) -> None:
    assert assemble("chat", explode("chat", freeze(body), include_usage=True)) == body


@patient
@given(chats, st.randoms(use_true_random=False))
def test_choices_may_come_in_any_order(body: dict[str, Any], random: Any) -> None:
    chunks = explode("chat", {**body, "timings": None}, include_usage=True)
    queues = [[chunk] for chunk in chunks if not chunk["choices"]]
    queues.extend(
        [c for c in chunks if c["choices"] and c["choices"][0]["index"] == index]
        for index in range(len(body["choices"]))
    )
    mixed = []
    while queues := [queue for queue in queues if queue]:
        mixed.append(random.choice(queues).pop(0))
    assert assemble("chat", mixed) == {**body, "timings": None}


@patient
@given(st.lists(texts, max_size=6), st.lists(texts, max_size=6))
def test_pieces_of_text_and_of_tool_arguments_are_joined_in_order(
    said: list[str], arguments: list[str]
) -> None:
    def chunk(delta: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    head = {"index": 1, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    chunks = [chunk({"role": "assistant", "content": ""}), chunk({"tool_calls": [head]})]
    chunks += [chunk({"content": piece, "reasoning": piece}) for piece in said]
    chunks += [
        chunk({"tool_calls": [{"index": 1, "function": {"arguments": a}}]}) for a in arguments
    ]
    message = assemble("chat", chunks)["choices"][0]["message"]
    assert message["content"] == message.get("reasoning", "") == "".join(said)
    assert message["tool_calls"] == [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "".join(arguments)}}
    ]


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields}]}


def message(*chunks: dict[str, Any]) -> Any:
    return assemble("chat", chunks)["choices"][0]["message"]


def test_a_role_name_id_and_type_that_are_repeated_are_taken_once() -> None:
    call = {
        "index": 0,
        "id": "c1",
        "type": "function",
        "function": {"name": "look", "arguments": "x"},
    }
    again = {**call, "id": None}
    assert message(
        *[delta(role="assistant", tool_calls=[call])] * 2, delta(tool_calls=[again])
    ) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "xxx"}}
        ],
    }


def test_a_name_in_pieces_is_joined() -> None:
    first = {"index": 0, "function": {"name": "get_"}}
    second = {"index": 0, "function": {"name": "weather"}}
    calls = message(delta(tool_calls=[first]), delta(tool_calls=[second]))["tool_calls"]
    assert calls[0]["function"]["name"] == "get_weather"


def test_tool_calls_without_an_index_are_told_apart_by_their_id() -> None:
    chunks = [
        delta(tool_calls=[{"id": "a", "function": {"arguments": "1"}}]),
        delta(tool_calls=[{"function": {"arguments": "2"}}]),
        delta(tool_calls=[{"id": "b", "function": {"arguments": "3"}}]),
        delta(tool_calls=None),
    ]
    calls = message(*chunks)["tool_calls"]
    assert [call["function"]["arguments"] for call in calls] == ["12", "3"]


def test_tool_calls_are_in_the_order_of_their_index() -> None:
    calls = message(delta(tool_calls=[{"index": 1, "id": "b"}, {"index": 0, "id": "a"}]))[
        "tool_calls"
    ]
    assert calls == [{"id": "a"}, {"id": "b"}]


def test_content_in_two_forms_becomes_a_list_of_parts() -> None:
    parts = [{"type": "thinking", "thinking": "hm"}]
    said = {"type": "text", "text": "yes"}
    assert message(delta(content=parts), delta(content="yes"))["content"] == [*parts, said]
    assert message(delta(content="yes"), delta(content=parts))["content"] == [said, *parts]


def test_a_value_that_changes_its_kind_is_the_last_one() -> None:
    assert message(delta(score=1), delta(score=2))["score"] == 2
    assert message(delta(score="a"), delta(score={"b": "c"}))["score"] == {"b": "c"}


def test_what_is_no_object_is_passed_over() -> None:
    payloads = [None, "x", {"choices": None}, {"choices": "no"}, {"choices": [None, {"delta": 1}]}]
    assert assemble("chat", payloads)["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
    }


def test_a_choice_without_text_has_an_empty_one() -> None:
    body = assemble("completions", [{"choices": [{"finish_reason": "stop"}]}])
    assert body["choices"] == [{"text": "", "finish_reason": "stop", "index": 0}]


def test_padding_and_empty_usage_are_left_out_and_the_error_is_kept() -> None:
    chunks = [
        {"id": "1", "obfuscation": "xx", "usage": None, "choices": []},
        {"id": None, "error": {"message": "no"}},
    ]
    assert assemble("completions", chunks) == {
        "id": "1",
        "object": "text_completion",
        "error": {"message": "no"},
        "choices": [],
    }


def test_logprobs_are_joined_in_the_order_of_the_chunks() -> None:
    def chunk(token: str, offset: int) -> dict[str, Any]:
        held = {"tokens": [token], "text_offset": [offset], "top_logprobs": None}
        return {"choices": [{"index": 0, "text": token, "logprobs": held}]}

    last = {"choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]}
    choice = assemble("completions", [chunk("a", 0), chunk("b", 1), last])["choices"][0]
    assert choice["logprobs"] == {"tokens": ["a", "b"], "text_offset": [0, 1], "top_logprobs": None}
    assert (choice["text"], choice["finish_reason"]) == ("ab", "stop")


def test_usage_has_a_chunk_of_its_own_when_it_is_asked_for() -> None:
    choice = {"index": 0, "text": "a", "logprobs": None, "finish_reason": "stop"}
    body = {"object": "text_completion", "choices": [choice], "usage": {"total_tokens": 3}}
    *chunks, last = explode("completions", body, include_usage=True)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert (last["choices"], last["usage"]) == ([], {"total_tokens": 3})
    assert all("usage" not in chunk for chunk in explode("completions", body, include_usage=False))


def test_chunks_are_of_the_kind_that_clients_expect() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    chunks = explode(
        "chat", {"object": "chat.completion", "choices": [choice]}, include_usage=False
    )
    assert [chunk["object"] for chunk in chunks] == ["chat.completion.chunk"] * 2
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "stop"]
    assert json.loads(json.dumps(chunks)) == chunks


def test_a_body_without_choices_still_gives_one_chunk() -> None:
    assert explode("completions", {"id": "1"}, include_usage=False) == [
        {"id": "1", "object": "text_completion", "choices": []}
    ]


def test_an_endpoint_that_never_streams_is_an_error() -> None:
    with pytest.raises(KeyError):
        assemble("embeddings", [])
    with pytest.raises(KeyError):
        explode("models", {}, include_usage=False)


def test_a_long_reply_is_assembled_in_linear_time() -> None:
    chunk = {"choices": [{"index": 0, "text": "x" * 100, "logprobs": {"tokens": ["x"]}}]}
    choice = assemble("completions", [chunk] * 50_000)["choices"][0]
    assert len(choice["text"]) == 5_000_000
    assert len(choice["logprobs"]["tokens"]) == 50_000


def test_a_stream_is_complete_when_every_choice_that_was_seen_has_ended() -> None:
    state = StreamState()
    complete = [state.complete]
    for choices in (
        [{"index": 0, "finish_reason": None}, {"index": 1, "finish_reason": "stop"}],
        [{"index": 0, "finish_reason": "length"}],
        [{"index": 0, "finish_reason": None}],
    ):
        state.see({"choices": choices})
        complete.append(state.complete)
    assert complete == [False, False, True, True]
    assert state.finish_reasons == {0: "length", 1: "stop"}


def test_usage_and_the_first_error_are_noted() -> None:
    state = StreamState()
    for payload in (
        None,
        {"usage": None, "error": None},
        {"usage": {"total_tokens": 3}, "choices": []},
        {"error": {"message": "first"}},
        {"error": {"message": "second"}, "usage": None},
    ):
        state.see(payload)
    assert state.usage == {"total_tokens": 3}
    assert state.error == {"message": "first"}
    assert not state.complete
