from typing import Any

import pytest

from proxy import ConfigError
from proxy.testing import harness

HOSTILE = [
    "{{7*7}}",
    "{0.__class__}",
    "{principal.__class__}",
    "{principal}",
    "{model}",
    "%(x)s",
    "%s",
    "${x}",
    "$principal",
    "<%= 7 %>",
    "\\1 \\g<0> \\n",
    "{{principal}}",
    "\x00\u2028é😀",
]


def sent(params: dict[str, Any], endpoint: Any = "completions", **options: Any) -> Any:
    loaded = harness("prompt_template", **options)
    allowed = loaded.given(caller="alice", config={"parameters": {"unscannable": "allow"}})
    result = allowed.call(endpoint, **params)
    assert result.denied is None
    return result.body


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("mid", "<mid>"),
        ("", "<>"),
        (["a", "b"], ["<a>", "<b>"]),
        ([], []),
        ([1, 2], [1, 2]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        (None, None),
    ],
)
def test_text_stands_around_every_text_prompt_and_token_arrays_stay(
    prompt: Any, expected: Any
) -> None:
    assert sent({"prompt": prompt}, prefix="<", suffix=">")["prompt"] == expected


def test_the_callers_own_suffix_and_stop_stay_what_they_are() -> None:
    params = {"prompt": "p", "suffix": "theirs", "stop": ["x"], "echo": True}
    body = sent(params, prefix="a ", suffix=" z")
    assert body == {**params, "model": "test-model", "prompt": "a p z"}


def test_only_the_operators_template_is_filled_in() -> None:
    body = sent({"prompt": "{principal} {model}"}, prefix="[{principal}/{model}] ")
    assert body["prompt"] == "[alice/test-model] {principal} {model}"


def test_what_was_filled_in_is_not_filled_again() -> None:
    body = sent({"model": "{principal}{model}"}, prefix="{model}|{principal}|")
    assert body["prompt"] == "{principal}{model}|alice|Hello"
    loaded = harness("prompt_template", prefix="{principal} ").given(caller="{model}")
    assert loaded.completions().body["prompt"] == "{model} Hello"


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_a_caller_writes_is_ever_evaluated(text: str) -> None:
    params = {"prompt": [text, f"a{text}b"], "model": text, "user": text, "metadata": {text: text}}
    body = sent(params, prefix="{principal}: ")
    assert body == {**params, "prompt": [f"alice: {text}", f"alice: a{text}b"]}


@pytest.mark.parametrize("text", HOSTILE)
def test_the_operators_template_knows_two_names_and_evaluates_nothing(text: str) -> None:
    expected = text.replace("{principal}", "alice").replace("{model}", "test-model")
    assert sent({}, prefix=text)["prompt"] == f"{expected}Hello"


def test_a_system_text_comes_first_in_a_chat_and_nowhere_else() -> None:
    messages = [{"role": "system", "content": "theirs"}, {"role": "user", "content": "hi"}]
    options = {"system": "You help {principal}.", "prefix": "<"}
    body = sent({"messages": messages}, "chat", **options)
    assert body["messages"] == [{"role": "system", "content": "You help alice."}, *messages]
    assert sent({}, **options)["prompt"] == "<Hello"
    assert sent({}, prefix="<", endpoint="chat")["messages"] == [
        {"role": "user", "content": "Hello"}
    ]


def test_embeddings_stay_as_they_are() -> None:
    body = sent({"input": "x"}, "embeddings", prefix="<", defaults={"user": "u"})
    assert body == {"model": "test-model", "input": "x"}


def test_defaults_fill_what_is_absent_or_null() -> None:
    options = {"defaults": {"max_tokens": 8, "temperature": 0.5, "user": "u"}}
    body = sent({"max_tokens": None, "temperature": 0}, **options)
    assert (body["max_tokens"], body["temperature"], body["user"]) == (8, 0, "u")


@pytest.mark.parametrize(
    ("given", "cap", "expected"),
    [
        (9, 8, 8),
        (8, 8, 8),
        (7, 8, 7),
        (9, 8.5, 8),
        (2**62, 8, 8),
        (1.5, 1, 1.0),
        (0.5, 1, 0.5),
    ],
)
def test_a_cap_is_an_upper_bound_that_keeps_the_type(given: Any, cap: Any, expected: Any) -> None:
    name = "temperature" if isinstance(given, float) else "max_tokens"
    found = sent({name: given}, caps={name: cap})[name]
    assert (found, type(found)) == (expected, type(expected))


def test_a_cap_leaves_absent_parameters_absent_and_holds_for_defaults_too() -> None:
    assert "n" not in sent({}, caps={"n": 4})
    assert sent({"n": None}, caps={"n": 4})["n"] is None
    assert sent({}, defaults={"n": 9}, caps={"n": 4})["n"] == 4
    assert sent({"echo": True}, caps={"echo": 0})["echo"] is True


def test_a_call_that_needs_no_change_gets_none() -> None:
    result = harness("prompt_template", caps={"n": 4}).completions()
    (verdict,) = (v for v in result.record.verdicts if v.hook == "rewrite_request")
    assert verdict.verdict == "pass"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to do"),
        ({"defaults": {"model": "m"}}, "'model' cannot have"),
        ({"caps": {"stream": 1}}, "'stream' cannot have"),
        ({"defaults": {"prompt": "p"}}, "'prompt' cannot have"),
        ({"caps": {"messages": 1}}, "'messages' cannot have"),
        ({"prefx": "<"}, "Did you mean 'prefix'"),
        ({"caps": {"n": "4"}}, "caps"),
    ],
)
def test_options_that_mean_nothing_stop_the_start(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        harness("prompt_template", **options)
