"""The same call, answered by a completions route and over the bridge by the chat route of the same model.

The demo upstream has both, and is as certain at any temperature as at 0: the same text gets the same answer.
To its chat model a prompt is a line of a conversation; its completions model is given that line.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bridge.conftest import Server

MODEL: Final = "demo-instruct"
PROMPTS: Final = ("The old bridge", "The best ink comes", "In the harbour", "", "Ж 漢 é")
#: What every call makes new.
_NEW: Final = ("id", "created", "obfuscation")


def as_chat(prompt: Any) -> Any:
    """A prompt as the demo's chat model reads it."""
    if isinstance(prompt, list):
        return [as_chat(one) for one in prompt]
    return f"user: {prompt or ''}\nassistant:"


def asked(**parameters: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A call over the bridge, and the one a completions model is given."""
    body = {"model": MODEL, "prompt": PROMPTS[0], "temperature": 0, **parameters}
    return body, {**body, "prompt": as_chat(body["prompt"])}


def comparable(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in _NEW}


def by_choice(chunks: list[dict[str, Any]]) -> dict[int, list[Any]]:
    """The chunks of each choice that say something, in their order."""
    found = defaultdict(list)
    for chunk in chunks:
        for choice in chunk["choices"]:
            # "No tokens in this chunk" is said by null, or by empty lists.
            scores = choice["logprobs"]
            held = scores if scores and scores["tokens"] else None
            if choice["text"] or held or choice["finish_reason"]:
                found[choice["index"]].append({**choice, "logprobs": held})
    return dict(found)


def same(native: Server, bridged: Server, **parameters: Any) -> Any:
    """The answer of both, which must be one."""
    over, direct = asked(**parameters)
    answer = bridged.ask(over)
    assert comparable(answer) == comparable(native.ask(direct))
    return answer


def same_stream(native: Server, bridged: Server, **parameters: Any) -> list[dict[str, Any]]:
    over, direct = asked(**parameters)
    told, wanted = bridged.stream(over), native.stream(direct)
    assert by_choice(told) == by_choice(wanted)
    assert len({chunk["id"] for chunk in told}) == 1
    for one, other in ((told, wanted), (wanted, told)):
        keys = {tuple(sorted(comparable(chunk))) for chunk in other}
        assert all(tuple(sorted(comparable(chunk))) in keys for chunk in one)
    assert [c.get("usage") for c in told[-1:]] == [c.get("usage") for c in wanted[-1:]]
    return told


PLAIN: Final[list[dict[str, Any]]] = [
    {},
    {"max_tokens": 1},
    {"max_tokens": 40, "stop": "."},
    {"max_tokens": 40, "stop": [" the", "zzz"]},
    {"n": 3, "temperature": 1, "seed": 7},
    {"prompt": list(PROMPTS)},
    {"prompt": list(PROMPTS), "n": 2, "temperature": 0.7, "max_tokens": 5},
    {"prompt": None},
    {"logprobs": 0},
    {"logprobs": 3, "max_tokens": 6, "stop": "e"},
    {"logprobs": 5, "prompt": list(PROMPTS), "n": 2, "temperature": 1},
    {
        "presence_penalty": 1.5,
        "frequency_penalty": -1,
        "top_p": 0.4,
        "temperature": 2,
        "seed": 2**62,
    },
    {"logit_bias": {"17": 80}},
    {"user": "someone", "n": None, "stop": None, "logprobs": None, "best_of": None, "echo": None},
]
WHOLE: Final[list[dict[str, Any]]] = [
    {"best_of": 5, "temperature": 1, "seed": 3},
    {"best_of": 6, "n": 2, "temperature": 1.4, "logprobs": 2, "prompt": list(PROMPTS)},
    {"best_of": 0},
    {"suffix": ""},
]


@pytest.mark.parametrize("parameters", PLAIN + WHOLE, ids=str)
def test_a_call_over_the_bridge_is_answered_as_without_it(
    native: Server, bridged: Server, parameters: dict[str, Any]
) -> None:
    same(native, bridged, **parameters)


@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("parameters", PLAIN, ids=str)
def test_a_stream_over_the_bridge_says_the_same_choice_by_choice(
    native: Server, bridged: Server, parameters: dict[str, Any], usage: bool
) -> None:
    chunks = same_stream(native, bridged, **parameters, stream_options={"include_usage": usage})
    assert bool(chunks[-1].get("usage")) is usage


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    prompt=st.lists(st.sampled_from(PROMPTS), min_size=1, max_size=4) | st.sampled_from(PROMPTS),
    n=st.integers(1, 3),
    max_tokens=st.integers(1, 24),
    temperature=st.sampled_from([0, 0.5, 1.3]),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    logprobs=st.none() | st.integers(0, 5),
    stop=st.none() | st.lists(st.sampled_from([".", "e", " the", "in"]), min_size=1, max_size=4),
    stream=st.booleans(),
)
def test_whatever_is_asked_for_both_ways_agree(
    native: Server, bridged: Server, stream: bool, **parameters: Any
) -> None:
    (same_stream if stream else same)(native, bridged, **parameters)


@pytest.mark.parametrize("prompt", [PROMPTS[0], list(PROMPTS)], ids=["one", "several"])
def test_echo_puts_the_callers_own_prompt_before_each_choice(
    native: Server, bridged: Server, prompt: Any
) -> None:
    over, direct = asked(prompt=prompt, n=2, temperature=1, seed=1)
    prompts = [one for one in (prompt if isinstance(prompt, list) else [prompt]) for _ in range(2)]
    plain = [choice["text"] for choice in native.ask(direct)["choices"]]
    wanted = [before + text for before, text in zip(prompts, plain, strict=True)]
    assert [choice["text"] for choice in bridged.ask({**over, "echo": True})["choices"]] == wanted
    parts = by_choice(bridged.stream({**over, "echo": True}))
    assert ["".join(part["text"] for part in parts[index]) for index in sorted(parts)] == wanted
    assert all(parts[index][0]["text"] == before for index, before in enumerate(prompts) if before)


@pytest.mark.parametrize(
    "parameters",
    [{"temperature": 3}, {"stop": ["a", "b", "c", "d", "e"]}, {"model": "no-such"}, {"logit_bias": {"x": 1}},
     {"stream_options": {}}],
    ids=str,
)  # fmt: skip
def test_what_the_model_refuses_it_refuses_over_the_bridge_too(
    native: Server, bridged: Server, parameters: dict[str, Any]
) -> None:
    same(native, bridged, **parameters)
    assert "error" in bridged.ask({**asked(**parameters)[0], "prompt": ["a", "b"]})
