"""Reads what chats say, leniently: servers differ, and what is missing says nothing."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

#: Why a choice ended, in the three words that completions have; others are passed on as they are.
_ENDINGS: Final = {
    "end_turn": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "function_call": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "refusal": "content_filter",
    "stop_sequence": "stop",
    "tool_calls": "stop",
}
#: Of a chat's choice: what becomes something else. The rest is the server's own and stays.
_TRANSLATED: Final = frozenset({"delta", "finish_reason", "index", "logprobs", "message", "text"})
#: Of a delta: what is no sign that a model is at work.
_OPENING: Final = frozenset({"content", "refusal", "role"})


def objects(values: Any) -> Iterator[Mapping[str, Any]]:
    """The objects among ``values``, if that is a list."""
    rows = values if isinstance(values, list | tuple) else ()
    return (row for row in rows if isinstance(row, Mapping))


def error_of(payload: Mapping[str, Any]) -> Any:
    """The error that a reply or a chunk tells instead of choices; some servers do so with the status 200."""
    return None if payload.get("choices") else payload.get("error")


def said(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message of a choice, or what a chunk adds to it."""
    found = choice.get("message") or choice.get("delta")
    return found if isinstance(found, Mapping) else {}


def text_of(choice: Mapping[str, Any]) -> str:
    """The text of a choice: what its message says, or its own where it is a completion's."""
    return choice["text"] if is_completion(choice) else _spoken(said(choice))


def is_completion(choice: Mapping[str, Any]) -> bool:
    """Whether a choice is that of a completion: some routes for completions answer so, some as chats do."""
    return not said(choice) and isinstance(choice.get("text"), str)


def _spoken(message: Mapping[str, Any]) -> str:
    """The text that a message says: its content, the text parts of it, and a refusal."""
    content, refusal = message.get("content"), message.get("refusal")
    if not isinstance(content, str):
        content = "".join(_texts(content))
    return content + refusal if isinstance(refusal, str) else content


def _texts(parts: Any) -> Iterable[str]:
    for part in objects(parts):
        text = part.get("text")
        if part.get("type") == "text" and isinstance(text, str):
            yield text


def ending(choice: Mapping[str, Any]) -> Any:
    """The finish reason of a completion for that of a chat; None while the choice goes on."""
    reason = choice.get("finish_reason")
    return _ENDINGS.get(reason, reason) if isinstance(reason, str) else None


def extras(choice: Mapping[str, Any]) -> dict[str, Any]:
    """What a server added to a choice of its own."""
    return {key: value for key, value in choice.items() if key not in _TRANSLATED}


def is_thinking(choice: Mapping[str, Any]) -> bool:
    """Whether a chunk without text tells that something goes on: reasoning, for one."""
    return any(value is not None for key, value in said(choice).items() if key not in _OPENING)


def index_of(choice: Mapping[str, Any]) -> int:
    """Which of a chat's choices this is."""
    index = choice.get("index")
    return index if type(index) is int else 0
