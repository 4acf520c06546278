"""Reads `POST /v1/chat/completions` requests: messages, tools, response format."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.demo import reading
from proxy.demo.completions import Tokens, fits, sampling
from proxy.demo.instance import instance
from proxy.demo.models import chosen, text_model
from proxy.demo.reading import Rule, Streaming
from proxy.demo.refusals import Refused, wrong_type
from proxy.demo.textmodel import Sampling, dice

RULES: Mapping[str, Rule] = dict(reading.SAMPLING) | {
    "logprobs": Rule(bool),
    "top_logprobs": Rule(int, 0, 20),
    "max_tokens": Rule(int, 1),
    "max_completion_tokens": Rule(int, 1),
    "tools": Rule(list),
    "response_format": Rule(dict),
}
_ROLES = frozenset({"developer", "system", "user", "assistant", "tool", "function"})
#: The API has no default; this keeps a demo reply readable.
_DEFAULT_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat request, read and checked.

    `script` is the text to answer with, where the request leaves no other choice than JSON of a
    certain form; `tool` names the function whose arguments the script is.
    """

    model: str
    prompt: Tokens
    n: int
    top: int | None
    limit: int
    stops: tuple[str, ...]
    seed: int | None
    sampling: Sampling
    streaming: Streaming | None
    script: str | None
    tool: str | None


def read(body: Mapping[str, Any]) -> Conversation:
    """The conversation in a body. Raises Refused (400, 404) for what the API would refuse."""
    model = chosen(body, "chat")
    prompt = text_model().tokenizer.encode(_rendered(body.get("messages")))
    found = reading.checked(body, RULES)
    limit = found.get("max_completion_tokens", found.get("max_tokens"))
    fits([prompt], limit or 0)
    tool = _forced(body.get("tool_choice"), _functions(found.get("tools", [])))
    return Conversation(
        model,
        prompt,
        found.get("n", 1),
        _top(found),
        limit or _DEFAULT_TOKENS,
        reading.stops(body),
        found.get("seed"),
        sampling(found),
        reading.streaming(found),
        _script(tool, found.get("response_format", {}), prompt),
        None if tool is None else tool["name"],
    )


def _rendered(messages: object) -> str:
    """The messages as the text that the model continues."""
    if messages is None:
        raise Refused("Missing required parameter: 'messages'.", param="messages")
    if not isinstance(messages, list) or not messages:
        raise wrong_type("messages", "a non-empty array of objects", messages)
    lines = [_line(message, f"messages[{place}]") for place, message in enumerate(messages)]
    return "\n".join([*lines, "assistant:"])


def _line(message: object, place: str) -> str:
    if not isinstance(message, dict):
        raise wrong_type(place, "an object", message)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise Refused(
            f"Invalid value: '{role}'. Supported values are: {', '.join(sorted(_ROLES))}.",
            param=f"{place}.role",
            code="invalid_value",
        )
    return f"{role}: {_content(message.get('content'), f'{place}.content')}"


def _content(content: object, place: str) -> str:
    """A message's text; of parts that are no text the model sees only that they are there."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise wrong_type(place, "a string or an array of objects", content)
    return " ".join(str(part.get("text", f"[{part.get('type')}]")) for part in content)


def _top(found: Mapping[str, Any]) -> int | None:
    """How many alternatives to list for each token; None for no log-probabilities at all."""
    if found.get("logprobs"):
        return int(found.get("top_logprobs", 0))
    if "top_logprobs" in found:
        raise Refused(
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
            param="top_logprobs",
        )
    return None


def _functions(tools: list[Any]) -> list[dict[str, Any]]:
    found = [tool.get("function") if isinstance(tool, dict) else None for tool in tools]
    functions = [one for one in found if isinstance(one, dict) and isinstance(one.get("name"), str)]
    if len(functions) < len(tools):
        raise Refused("Every tool needs a function with a name.", param="tools")
    return functions


def _forced(choice: object, functions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The function that `tool_choice` demands, if it demands one."""
    if choice in (None, "auto", "none"):
        return None
    if choice == "required" and functions:
        return functions[0]
    named = choice.get("function") if isinstance(choice, dict) else None
    name = named.get("name") if isinstance(named, dict) else None
    found = next((one for one in functions if one["name"] == name), None)
    if found is None:
        raise Refused("Invalid 'tool_choice': no such tool in 'tools'.", param="tool_choice")
    return found


def _script(tool: dict[str, Any] | None, form: Mapping[str, Any], prompt: Tokens) -> str | None:
    """The JSON text that a forced tool call or a response format demands."""
    if tool is not None:
        return json.dumps(_made(tool.get("parameters", {"type": "object"}), prompt))
    kind = form.get("type", "text")
    if kind == "json_object":
        return json.dumps({"reply": _sentence(prompt, 0)})
    if kind == "json_schema":
        wanted = form.get("json_schema")
        return json.dumps(_made(wanted.get("schema") if isinstance(wanted, dict) else {}, prompt))
    if kind != "text":
        raise Refused(
            f"Invalid value: '{kind}'.", param="response_format.type", code="invalid_value"
        )
    return None


def _made(schema: object, prompt: Tokens) -> Any:
    counter = iter(range(1_000_000))
    return instance(schema, lambda: _sentence(prompt, next(counter), words=2))


def _sentence(prompt: Tokens, number: int, words: int = 12) -> str:
    steps = text_model().write(prompt, words, Sampling(), dice(prompt, number))
    return "".join(step.text for step in steps).strip(" .,") or "harbour"
