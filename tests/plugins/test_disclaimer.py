from typing import Any

import pytest

from proxy import ConfigError
from proxy.testing import harness

NOTE = "Written by a language model."


def shown(choice: dict[str, Any], endpoint: Any = "completions", **options: Any) -> Any:
    params = options.pop("params", {})
    plugin = harness("disclaimer", text=NOTE, **options)
    reply = plugin.respond({"choices": [choice]}, endpoint, **params).reply
    return reply["choices"][0]


def test_every_choice_that_ends_of_itself_says_who_wrote_it() -> None:
    assert shown({"text": "Hi.", "finish_reason": "stop"})["text"] == f"Hi.\n\n{NOTE}"
    message = {"role": "assistant", "content": "Hi."}
    chat = shown(
        {"message": message, "finish_reason": "stop"}, "chat", place="before", separator=" "
    )
    assert chat["message"]["content"] == f"{NOTE} Hi."


@pytest.mark.parametrize(
    "choice",
    [
        {"text": "Hi", "finish_reason": "length"},
        {"message": {"content": None, "tool_calls": []}, "finish_reason": "tool_calls"},
        {"message": {"content": ""}, "finish_reason": "stop"},
    ],
)
def test_what_is_cut_or_calls_tools_stays_as_it_is(choice: dict[str, Any]) -> None:
    assert shown(choice, "chat") == choice


def test_json_that_was_asked_for_stays_json() -> None:
    choice = {"message": {"content": "{}"}, "finish_reason": "stop"}
    params = {"response_format": {"type": "json_object"}}
    assert shown(choice, "chat", params=params) == choice


def test_an_error_is_passed_on_as_it_is() -> None:
    error = {"error": {"message": "no"}}
    assert harness("disclaimer", text=NOTE).respond(error).reply == error


@pytest.mark.parametrize("options", [{"text": " "}, {"text": "x", "place": "middle"}])
def test_a_text_or_a_place_that_is_none_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"text is empty|before"):
        harness("disclaimer", **options)
