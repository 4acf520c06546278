"""One completion out of whole chats."""

from typing import Any

import pytest

from proxy.bridge.whole import completion
from proxy.errors import InvalidRequest, UpstreamError
from tests.bridge.chats import USAGE, chat, choice, plan, scored, token


def texts(made: dict[str, Any]) -> list[str]:
    assert [one["index"] for one in made["choices"]] == list(range(len(made["choices"])))
    return [one["text"] for one in made["choices"]]


def test_one_chat_is_one_completion() -> None:
    made = completion(plan(), [chat("Hi", system_fingerprint="fp_1", citations=["c"])])
    assert made.pop("created") > 1
    assert made == {
        "id": "cmpl-1",
        "object": "text_completion",
        "model": "m-1",
        "choices": [{"text": "Hi", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "system_fingerprint": "fp_1",
        "citations": ["c"],
        "usage": USAGE,
    }


def test_choices_stand_at_prompt_times_n_plus_i_whatever_the_order_of_a_reply() -> None:
    replies = [chat(choice("b", 1), choice("a", 0)), chat("c", "d")]
    made = completion(plan(prompt=["x", "y"], n=2), replies)
    assert texts(made) == ["a", "b", "c", "d"]
    assert made["usage"]["total_tokens"] == 10


def test_echo_is_the_callers_prompt() -> None:
    made = completion(plan(prompt=["x", "y"], echo=True), [chat("a"), chat("b")])
    assert texts(made) == ["xa", "yb"]


def test_the_best_are_those_with_the_highest_mean_and_the_first_of_equals() -> None:
    chances = {"a": [-9.0, -9.0], "b": [-1.0, -2.0], "c": [-1.0], "d": [-1.5]}
    given = [
        choice(text, at, logprobs=scored(*(token("t", chance) for chance in values)))
        for at, (text, values) in enumerate(chances.items())
    ]
    made = completion(plan(best_of=4, n=3), [chat(*given)])
    assert texts(made) == ["c", "b", "d"]
    assert all(one["logprobs"] is None for one in made["choices"])


def test_without_log_probabilities_the_best_is_not_guessed() -> None:
    with pytest.raises(InvalidRequest, match="leave out best_of") as caught:
        completion(plan(best_of=2), [chat("a", "b")])
    assert (caught.value.param, caught.value.code) == ("best_of", "bridge_cannot")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("max_tokens", "length"),
        ("end_turn", "stop"), ("tool_calls", "stop"), ("its own", "its own"), (None, None),
    ],
)  # fmt: skip
def test_finish_reasons_are_those_of_completions(reason: str | None, told: str | None) -> None:
    made = completion(plan(), [chat(choice("a", finish=reason))])
    assert made["choices"][0]["finish_reason"] == told


MESSAGES: dict[str, tuple[Any, str]] = {
    "nothing": ({"content": None}, ""),
    "no message": (None, ""),
    "a refusal": ({"content": None, "refusal": "I must not."}, "I must not."),
    "parts": (
        {"content": [{"type": "thinking", "text": "Hm"}, {"type": "text", "text": "Hi"}, 1]},
        "Hi",
    ),
    "reasoning": ({"content": "Hi", "reasoning_content": "Hm"}, "Hi"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_text_is_what_the_message_says(name: str) -> None:
    message, text = MESSAGES[name]
    assert texts(completion(plan(), [chat(choice("", message=message))])) == [text]


def test_what_a_server_adds_to_a_choice_stays_and_takes_no_place() -> None:
    made = completion(plan(), [chat({**choice("a"), "stop_reason": 5, "text": "other"})])
    assert made["choices"][0]["stop_reason"] == 5
    assert texts(made) == ["a"]


@pytest.mark.parametrize("given", [(), ("a",), ("a", "b", "c"), (choice("a", 1), choice("b", 5))])
def test_other_choices_than_were_asked_for_are_no_answer(given: Any) -> None:
    with pytest.raises(UpstreamError, match="choices came where 2 were asked for"):
        completion(plan(n=2), [chat(*given)])


def test_the_model_is_the_callers_where_the_upstream_names_none() -> None:
    reply = chat("a")
    del reply["model"], reply["usage"]
    made = completion(plan(), [reply])
    assert made["model"] == "m"
    assert "usage" not in made
