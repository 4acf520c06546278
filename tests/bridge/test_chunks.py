"""One stream out of the chunks of several chats: the same as the whole, however they are interleaved."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bridge.chunks import Chunks
from proxy.bridge.whole import completion
from proxy.errors import UpstreamError
from proxy.stream import assemble, explode
from tests.bridge.chats import USAGE, chat, choice, delta, plan, scored, token

_LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
_WORDS = st.lists(st.text(max_size=4), max_size=5)


def chunks_of(words: list[str], index: int) -> list[dict[str, Any]]:
    """A choice as a stream says it, token by token."""
    parts = [delta(word, index=index) for word in words]
    for part, word in zip(parts, words, strict=True):
        part["choices"][0]["logprobs"] = scored(token(word, -1, bytes=list(word.encode())))
    return [delta("", index=index, role="assistant"), *parts, delta(finish="length", index=index)]


@given(
    words=st.lists(st.lists(_WORDS, min_size=2, max_size=2), min_size=1, max_size=3),
    echo=st.booleans(),
    data=st.data(),
)
def test_any_interleaving_of_the_parts_is_the_whole_result(
    words: list[list[list[str]]], echo: bool, data: st.DataObject
) -> None:
    more = {"echo": True} if echo else {"logprobs": 0}
    made = plan(
        prompt=[f"p{number}" for number in range(len(words))],
        n=2, stream=True, stream_options={"include_usage": True}, **more,
    )  # fmt: skip
    replies = [
        chat(*(
            choice("".join(one), at, "length", logprobs=scored(
                *(token(word, -1, bytes=list(word.encode())) for word in one)
            ))
            for at, one in enumerate(both)
        ))
        for both in words
    ]  # fmt: skip
    queues = [
        [chunks_of(one, at) for at, one in enumerate(both)]
        + [[{**delta(), "choices": [], "usage": USAGE}]]
        for both in words
    ]
    bridge = Chunks(made)
    told: list[dict[str, Any]] = []
    while live := [(part, queue) for part, both in enumerate(queues) for queue in both if queue]:
        number, queue = live[data.draw(st.integers(0, len(live) - 1))]
        told += bridge.of(made.parts[number], queue.pop(0))
    for part in made.parts:
        bridge.end(part, done=False)
    told += bridge.last()
    whole = completion(made, replies)
    streamed = assemble("completions", told)
    for one in streamed["choices"]:
        # No token at all: a stream has no chunk that could say so.
        if one.get("logprobs") is None and not echo:
            one["logprobs"] = {key: [] for key in _LISTS}
    assert streamed | {"created": 0} == whole | {"created": 0}


def test_usage_is_null_in_every_chunk_and_told_in_the_last() -> None:
    bridge = Chunks(made := plan(stream_options={"include_usage": True}, stream=True))
    (first,) = bridge.of(
        made.parts[0], {**delta("a"), "system_fingerprint": "fp", "obfuscation": "x"}
    )
    assert (first["usage"], first["system_fingerprint"], first["obfuscation"]) == (None, "fp", "x")
    assert bridge.of(made.parts[0], {**delta(), "choices": [], "usage": USAGE}) == []
    (last,) = bridge.last()
    assert (last["choices"], last["usage"], last["system_fingerprint"]) == ([], USAGE, "fp")
    assert "obfuscation" not in last


@pytest.mark.parametrize("asked", [True, False])
def test_usage_is_not_told_where_nobody_asked_or_a_part_did_not_tell(asked: bool) -> None:
    bridge = Chunks(made := plan(prompt=["a", "b"], stream_options={"include_usage": asked}))
    (chunk,) = bridge.of(made.parts[0], {**delta("a"), "usage": USAGE})
    assert ("usage" in chunk) is asked
    if not asked:
        bridge.of(made.parts[1], {**delta("b"), "usage": USAGE})
    assert bridge.last() == []


def test_a_whole_reply_said_as_chunks_is_the_same() -> None:
    bridge = Chunks(made := plan(stream=True))
    reply = chat("Hi")
    told = [
        one
        for piece in explode("chat", reply, include_usage=True)
        for one in bridge.of(made.parts[0], piece)
    ]
    assert [one["choices"][0]["text"] for one in told] == ["Hi", ""]
    assert told[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_choice_that_was_not_asked_for_is_no_answer() -> None:
    bridge = Chunks(made := plan())
    with pytest.raises(UpstreamError, match="a choice 1 came where 1 were asked for"):
        bridge.of(made.parts[0], delta("a", index=1))


def test_a_part_that_says_it_is_over_must_have_said_every_choice() -> None:
    bridge = Chunks(made := plan(n=2))
    bridge.of(made.parts[0], delta("a", "stop"))
    with pytest.raises(UpstreamError, match=r"1 choices came where 2 .*split_n = true"):
        bridge.end(made.parts[0], done=True)
    with pytest.raises(UpstreamError, match="ended without its last event"):
        bridge.end(made.parts[0], done=False)


def test_reasoning_is_a_sign_of_life_and_no_text() -> None:
    bridge = Chunks(made := plan())
    thought = delta(reasoning_content="Hm")
    assert bridge.of(made.parts[0], thought) == []
    assert bridge.is_alive(thought)
    assert not bridge.is_alive(delta("", role="assistant"))
