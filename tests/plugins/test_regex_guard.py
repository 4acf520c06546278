from typing import Any

import pytest

from proxy import ConfigError
from proxy.testing import Harness, harness

SECRET = "E-123456"
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {"p": {"enum": ["v"]}}},
    },
}


@pytest.fixture
def guard() -> Harness:
    return harness("regex_guard", patterns={"employee-id": r"\bE-[0-9]{6}\b"})


@pytest.mark.parametrize(
    "params",
    [
        {"prompt": f"see {SECRET}."},
        {"prompt": ["clean", SECRET]},
        {"suffix": SECRET},
        {"stop": SECRET},
        {"stop": ["x", SECRET]},
        {"user": SECRET},
        {"model": SECRET},
        {"metadata": {"k": SECRET}},
        {"metadata": {SECRET: "v"}},
        {"logit_bias": {SECRET: 1}},
        {"guided_json": {"a": [{"b": {"c": SECRET}}]}},
        {SECRET: 1},
    ],
)
def test_it_refuses_on_every_surface_of_a_completion(
    guard: Harness, params: dict[str, Any]
) -> None:
    assert guard.completions(**params).denied is not None
    assert guard.completions(**params).body is None


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": SECRET},
        {"role": "system", "content": SECRET},
        {"role": "user", "content": "x", "name": SECRET},
        {"role": "user", "content": [{"type": "text", "text": SECRET}]},
        {"role": "tool", "tool_call_id": SECRET, "content": "x"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "f", "arguments": f'{{"id": "{SECRET}"}}'}}],
        },
    ],
)
def test_it_refuses_in_every_part_of_every_message(guard: Harness, message: dict[str, Any]) -> None:
    last = {"role": "user", "content": "hi"}
    assert guard.chat(messages=[message, last]).denied is not None
    assert guard.chat(messages=[last, message]).denied is not None


@pytest.mark.parametrize("found", ["f", "d", "v", "p", "object"])
def test_it_refuses_in_every_part_of_a_tool(found: str) -> None:
    guard = harness("regex_guard", patterns={"word": f"^{found}$"})
    assert guard.chat(tools=[TOOL]).denied is not None
    assert guard.chat().denied is None


def test_the_refusal_names_the_kind_and_the_place_but_never_the_text(guard: Harness) -> None:
    result = guard.completions(prompt=["clean", f"see {SECRET}"])
    assert result.denied is not None
    assert result.denied.status == 400
    assert result.denied.code == "content_policy_violation"
    assert result.denied.param == "prompt[1]"
    assert "employee-id" in result.denied.message
    assert SECRET not in repr(result)
    (finding,) = result.record.findings
    assert (finding.kind, finding.place, finding.plugin, finding.action) == (
        "employee-id", "prompt[1]", "regex_guard", "deny",
    )  # fmt: skip
    assert result.record.denied_by == "regex_guard"


def test_what_is_clean_passes_unchanged(guard: Harness) -> None:
    for prompt in ("E-12345", "E-1234567", "plain", "", ["a", "b"]):
        result = guard.completions(prompt=prompt)
        assert result.denied is None
        assert result.body["prompt"] == prompt


def test_in_monitor_mode_it_notes_and_changes_nothing(guard: Harness) -> None:
    result = guard.given(mode="monitor").completions(prompt=SECRET)
    assert result.denied is None
    assert result.body["prompt"] == SECRET
    assert [finding.action for finding in result.record.findings] == ["monitor"]


@pytest.mark.parametrize(
    ("action", "prompt", "findings"),
    [
        ("allow", f"a {SECRET} b {SECRET}", []),
        ("monitor", f"a {SECRET} b {SECRET}", ["monitor", "monitor"]),
        ("redact", "a [EMPLOYEE-ID] b [EMPLOYEE-ID]", ["redact", "redact"]),
    ],
)
def test_the_policy_decides_what_becomes_of_a_finding(
    guard: Harness, action: str, prompt: str, findings: list[str]
) -> None:
    config = {"policy": {"request": {"employee-id": action}}}
    result = guard.given(config=config).completions(prompt=f"a {SECRET} b {SECRET}")
    assert result.body["prompt"] == prompt
    assert [finding.action for finding in result.record.findings] == findings


def test_a_key_that_would_have_to_be_redacted_is_refused(guard: Harness) -> None:
    config = {"policy": {"request": {"*": "redact"}}}
    assert guard.given(config=config).completions(metadata={SECRET: "v"}).denied is not None


def test_replies_are_redacted_where_the_policy_says_so(guard: Harness) -> None:
    config = {"policy": {"response": {"employee-id": "redact"}}}
    choices = [{"text": "clean"}, {"text": f"it is {SECRET}", "logprobs": None}]
    reply = guard.given(config=config).respond({"choices": choices}).reply
    assert reply["choices"] == [
        {"text": "clean"},
        {"text": "it is [EMPLOYEE-ID]", "logprobs": None},
    ]
    assert guard.respond({"choices": choices}).reply == {"choices": choices}


def test_replies_are_refused_where_the_policy_says_so(guard: Harness) -> None:
    config = {"policy": {"response": {"*": "deny"}}}
    result = guard.given(config=config).respond({"choices": [{"text": SECRET}]})
    assert result.denied is not None
    assert result.reply is None
    assert SECRET not in repr(result.denied)


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        (r"foo(?!bar)", "looks ahead"),
        (r"(?<=x)y", "looks behind"),
        (r"(a)\1", "spell out what may repeat"),
        (r"a++", "repeats possessively"),
        (r"a{5000}", "1000"),
        (r"(", "cannot be used"),
        (r"end\Z", r"\\z"),
    ],
)
def test_a_pattern_that_re2_refuses_stops_the_start_and_says_what_works(
    pattern: str, remedy: str
) -> None:
    with pytest.raises(ConfigError, match=remedy) as caught:
        harness("regex_guard", patterns={"k": pattern})
    assert pattern in str(caught.value).replace("\\\\", "\\")


@pytest.mark.parametrize("options", [{}, {"patterns": {}}, {"patterns": {"k": ""}}])
def test_a_guard_that_guards_nothing_stops_the_start(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="none of them empty"):
        harness("regex_guard", **options)


def test_an_evil_pattern_on_a_long_text_is_only_work_not_a_hang() -> None:
    guard = harness("regex_guard", patterns={"evil": r"^(a{1,30}){1,30}$"})
    assert guard.completions(prompt="a" * 200_000 + "!").denied is None
