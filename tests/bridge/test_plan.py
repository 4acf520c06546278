"""One completions body becomes chats, or is refused with what to do."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bridge.settings import CONTINUE, Bridge
from proxy.errors import InvalidRequest
from tests.bridge.chats import plan, strings


def bodies(bridge: Bridge | None = None, **body: Any) -> list[dict[str, Any]]:
    return [json.loads(part.body) for part in plan(bridge, **body).parts]


def test_a_prompt_becomes_the_message_of_a_user_and_the_default_limit_is_said() -> None:
    messages = [{"role": "user", "content": "Hello"}]
    assert bodies() == [{"model": "m", "max_tokens": 16, "messages": messages}]


@pytest.mark.parametrize("limit", [None, 7])
def test_a_limit_goes_under_the_name_of_the_model(limit: int | None) -> None:
    (body,) = bodies(model="gpt-5-nano", max_tokens=limit)
    assert body["max_completion_tokens"] == (limit or 16)
    assert "max_tokens" not in body


def test_what_a_chat_takes_too_goes_as_it_is() -> None:
    same: dict[str, Any] = {
        "temperature": 0.3, "top_p": 0.9, "stop": ["a"], "seed": 2**63 - 1, "user": "u", "frequency_penalty": None,
        "presence_penalty": 1, "logit_bias": {"5": 1}, "stream": True, "stream_options": {"include_usage": True},
        "top_k": 5, "reasoning_effort": "none",
    }  # fmt: skip
    (body,) = bodies(**same)
    assert {key: body[key] for key in same} == same


@pytest.mark.parametrize(
    ("logprobs", "said"),
    [(None, {}), (0, {"logprobs": True}), (3, {"logprobs": True, "top_logprobs": 3})],
)
def test_log_probabilities_are_asked_for_as_chats_have_them(
    logprobs: int | None, said: dict[str, Any]
) -> None:
    (body,) = bodies(logprobs=logprobs)
    assert {key: body[key] for key in ("logprobs", "top_logprobs") if key in body} == said


def test_each_prompt_is_a_chat_and_n_is_said_to_each() -> None:
    told = plan(prompt=["a", "b"], n=3)
    assert [(part.number, part.first, part.count) for part in told.parts] == [(0, 0, 3), (1, 3, 3)]
    assert [body["n"] for body in bodies(prompt=["a", "b"], n=3)] == [3, 3]
    assert "n" not in bodies(n=1)[0]


def test_for_a_server_that_ignores_n_each_choice_is_a_chat_with_a_seed_of_its_own() -> None:
    split = Bridge(split_n=True)
    told = plan(split, prompt=["a", "b"], n=2)
    assert [(part.first, part.count) for part in told.parts] == [(0, 1), (1, 1), (2, 1), (3, 1)]
    found = bodies(split, prompt=["a", "b"], n=2, seed=2**63 - 1)
    assert [body["seed"] for body in found] == [2**63 - 1, -(2**63)] * 2
    assert all("n" not in body for body in found)
    assert [body["seed"] for body in bodies(split, n=2, seed=None)] == [None, None]


def test_the_best_of_several_needs_their_log_probabilities() -> None:
    (body,) = bodies(best_of=4, n=2)
    assert (body["n"], body["logprobs"]) == (4, True)
    assert "top_logprobs" not in body
    assert plan(best_of=4, n=2).is_ranked
    assert not plan(best_of=0, n=2).is_ranked  # the OpenAI SDKs' own tests send 0
    assert "logprobs" not in bodies(best_of=2, n=2)[0]


def test_a_null_prompt_is_a_new_document() -> None:
    assert bodies(prompt=None)[0]["messages"] == [{"role": "user", "content": ""}]


def test_an_operator_may_have_the_model_told_to_continue() -> None:
    default, own = Bridge(message="continue"), Bridge(message="continue", system="Go on.")
    user = {"role": "user", "content": "Hello"}
    assert bodies(default)[0]["messages"] == [{"role": "system", "content": CONTINUE}, user]
    assert bodies(own)[0]["messages"] == [{"role": "system", "content": "Go on."}, user]


def test_a_suffix_is_filled_into_the_operators_text_in_one_pass() -> None:
    bridge = Bridge(suffix="{other} A: {prompt} B: {suffix} A: {prompt}")
    messages = bodies(bridge, prompt="{suffix}", suffix="{prompt}")[0]["messages"]
    text = "{other} A: {suffix} B: {prompt} A: {suffix}"
    assert messages == [{"role": "user", "content": text}]
    assert bodies(bridge, suffix="")[0]["messages"] == [{"role": "user", "content": "Hello"}]


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "tokens": ({"prompt": [1, 2]}, "prompt", "bridge_needs_tokenizer"),
    "token rows": ({"prompt": [[1], [2]]}, "prompt", "bridge_needs_tokenizer"),
    "no prompt": ({"prompt": []}, "prompt", "invalid_prompt"),
    "suffix": ({"suffix": "end"}, "suffix", "bridge_needs_suffix_template"),
    "echo with logprobs": ({"echo": True, "logprobs": 0}, "echo", "bridge_cannot"),
    "no tokens": ({"max_tokens": 0}, "max_tokens", "bridge_cannot"),
    "ranked stream": ({"best_of": 2, "stream": True}, "best_of", "invalid_value"),
    "best of fewer": ({"best_of": 1, "n": 2}, "best_of", "invalid_value"),
    "no choices": ({"n": 0}, "n", "integer_below_min_value"),
    "messages": ({"messages": []}, "messages", "bridge_cannot"),
    "tools": ({"tools": []}, "tools", "bridge_cannot"),
    "newer limit": ({"max_completion_tokens": 5}, "max_completion_tokens", "bridge_cannot"),
    "too many": ({"prompt": ["a"] * 129}, "prompt", "bridge_cannot"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_chat_can_give_is_refused_and_never_dropped(name: str) -> None:
    body, param, code = REFUSED[name]
    with pytest.raises(InvalidRequest) as caught:
        plan(**body)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)
    assert ":" in caught.value.message  # and then what to do


def test_the_most_chats_of_a_call_are_the_operators_to_set() -> None:
    assert len(plan(Bridge(parts=2), prompt=["a", "b"], n=100).parts) == 2
    with pytest.raises(InvalidRequest, match="would become 4 chats, and at most 3"):
        plan(Bridge(parts=3, split_n=True), prompt=["a", "b"], n=2)


_TEXTS = st.text(max_size=12)


@given(
    prompt=st.none() | _TEXTS | st.lists(_TEXTS, min_size=1, max_size=4),
    suffix=st.none() | _TEXTS,
    more=st.dictionaries(
        st.text("xyz", min_size=1, max_size=3), st.recursive(_TEXTS, st.lists, max_leaves=3)
    ),
    stop=st.none() | _TEXTS | st.lists(_TEXTS, max_size=3),
    n=st.integers(1, 3),
    split=st.booleans(),
    message=st.sampled_from(["user", "continue"]),
)
def test_every_text_of_a_chat_is_of_the_scanned_body_or_the_operators(  # noqa: PLR0917
    prompt: Any, suffix: Any, more: Any, stop: Any, n: int, split: bool, message: Any
) -> None:
    template = "A {prompt} B {suffix} C"
    bridge = Bridge(message=message, suffix=template, split_n=split)
    body = {"prompt": prompt, "suffix": suffix, "stop": stop, "n": n, "user": "u", **more}
    known = {*strings({"model": "m", **body}), CONTINUE, ""}
    prompts = prompt if isinstance(prompt, list) else [prompt or ""]
    known |= {
        template.replace("{prompt}", one).replace("{suffix}", suffix or "") for one in prompts
    }
    known |= {f"A {one} B {suffix} C" for one in prompts}
    known |= {"messages", "role", "content", "user", "system", "max_tokens", "logprobs", "n"}
    for one in bodies(bridge, **body):
        assert set(strings(one)) <= known


def test_the_digest_stands_for_the_bodies_of_all_chats() -> None:
    assert plan(prompt=["a", "b"]).digest == plan(prompt=["a", "b"]).digest
    assert plan(prompt=["a", "b"]).digest != plan(prompt=["b", "a"]).digest
