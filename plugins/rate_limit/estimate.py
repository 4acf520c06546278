"""How many tokens a call may use, guessed before it is sent, and how many it used once it is over."""

from collections.abc import Mapping
from typing import Any, Final

from proxy import Call, Record

#: Characters of one token of English text, by the rule of thumb in OpenAI's guide to rate limits.
_CHARACTERS: Final = 4
#: The default of max_tokens of ``POST /v1/completions`` in the OpenAI API reference.
_COMPLETION: Final = 16
#: Parts whose text is data of another kind, and what one of them is taken for.
_MEDIA: Final = frozenset({"image_url", "input_audio", "file"})
_MEDIUM: Final = 1000
_FAILED: Final = 400
_ASKED: Final = ("prompt", "suffix", "input", "messages", "tools", "functions", "response_format")


def prompt_tokens(call: Call) -> int:
    """What is asked; a list of token ids counts as what it is."""
    if call.endpoint not in ("completions", "chat", "embeddings"):
        return 0
    characters = tokens = 0
    for name in _ASKED:
        value = call.body.get(name)
        if isinstance(value, str):
            characters += len(value)
        elif value is not None:
            found = _sizes(value)
            characters, tokens = characters + found[0], tokens + found[1]
    return tokens + -(-characters // _CHARACTERS)


def output_tokens(call: Call, assumed: int) -> int:
    """The most that may be answered; ``assumed`` where the call names no maximum."""
    if call.endpoint not in ("completions", "chat"):
        return 0
    body = call.body
    most = _count(body, "max_completion_tokens", "max_tokens")
    if most is None:
        most = _COMPLETION if call.endpoint == "completions" else assumed
    return most * max(_count(body, "n") or 1, _count(body, "best_of") or 1)


def used_tokens(record: Record, prompt: int) -> int:
    """What a call used: as the upstream counted it, else by the text; nothing if none answered."""
    if record.answered_by is not None:
        return 0
    usage = record.usage
    if usage is not None:
        counted = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
        return usage.total_tokens if usage.total_tokens is not None else counted
    if record.upstream_status is None or record.upstream_status >= _FAILED:
        return 0
    return prompt + -(-record.completion_characters // _CHARACTERS)


def _sizes(value: Any) -> tuple[int, int]:
    """Characters and token ids in a value, at any depth."""
    characters = tokens = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            characters += len(item)
        elif isinstance(item, int):
            tokens += 1
        elif isinstance(item, Mapping):
            tokens += _MEDIUM * len(_MEDIA & item.keys())
            waiting += [part for name, part in item.items() if name not in _MEDIA]
        elif isinstance(item, list | tuple):
            waiting += item
    return characters, tokens


def _count(body: Mapping[str, Any], *names: str) -> int | None:
    """The first of these that says a number above zero."""
    for name in names:
        value = body.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return None
