from typing import Any

import pytest

from proxy import ConfigError
from proxy.testing import harness


def refused(endpoint: Any, params: dict[str, Any], **options: Any) -> tuple[str, str | None] | None:
    open_ = {"parameters": {"unscannable": "allow"}}
    denied = harness("caps", **options).given(config=open_).call(endpoint, **params).denied
    return None if denied is None else (denied.message, denied.param)


@pytest.mark.parametrize(
    ("endpoint", "params", "options", "param"),
    [
        ("completions", {"prompt": "x" * 101}, {"characters": 110}, None),
        ("completions", {"prompt": ["a", "b", "c"]}, {"prompts": 2}, "prompt"),
        ("completions", {"prompt": [1, 2, 3]}, {"tokens": 2}, "prompt"),
        ("completions", {"prompt": [[1, 2], [3]]}, {"tokens": 2}, "prompt"),
        ("completions", {"n": 5}, {"choices": 4}, "n"),
        ("completions", {"best_of": 5}, {"choices": 4}, "best_of"),
        ("completions", {"max_tokens": 20}, {"output_tokens": 19}, "max_tokens"),
        ("completions", {}, {"output_tokens": 15}, "max_tokens"),
        ("chat", {"messages": [{"role": "user", "content": "a"}] * 3}, {"messages": 2}, "messages"),
        ("chat", {"max_completion_tokens": 9}, {"output_tokens": 8}, "max_completion_tokens"),
        ("chat", {}, {"output_tokens": 8}, "max_tokens"),
        ("embeddings", {"input": ["a", "b", "c"]}, {"prompts": 2}, "input"),
        ("embeddings", {"input": [1, 2, 3]}, {"tokens": 2}, "input"),
    ],
)
def test_what_is_more_than_its_cap_is_refused_with_the_parameter(
    endpoint: str, params: dict[str, Any], options: dict[str, int], param: str | None
) -> None:
    told = refused(endpoint, params, **options)
    assert told is not None
    assert told[1] == param
    raised = {name: cap + 5 for name, cap in options.items()}
    if params or "prompt" in endpoint:
        assert refused(endpoint, params, **raised) is None


@pytest.mark.parametrize("prompt", ["", None, [], "x", [[1]], ["x"]])
def test_every_form_of_a_prompt_passes_below_the_caps(prompt: Any) -> None:
    caps = {"characters": 100, "prompts": 2, "tokens": 2, "choices": 1, "output_tokens": 16}
    assert refused("completions", {"prompt": prompt}, **caps) is None


def test_a_call_without_a_body_has_nothing_to_count() -> None:
    assert refused("models", {}, characters=1, prompts=1, choices=1, output_tokens=1) is None


def test_a_refusal_says_how_much_there_was_and_may_be() -> None:
    told = refused("completions", {"n": 5}, choices=4)
    assert told == ("This call has 5 choices, and 4 are allowed: send less.", "n")


@pytest.mark.parametrize("options", [{}, {"characters": 0}, {"tokens": -1}])
def test_caps_that_cap_nothing_or_everything_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"no cap is set|above zero"):
        harness("caps", **options)
