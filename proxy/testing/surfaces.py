"""Every form in which a text reaches a plugin, and every form in which a reply comes: what a plugin must bear."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from proxy.model import Endpoint
from proxy.testing.rehearsal import Answering
from proxy.testing.replies import Answer, streamed, text_chunks, text_reply, whole

#: Marks, scripts in both directions, what is drawn as one and what is drawn as nothing.
UNICODE: Final = "naïve 東京 שלום \u202emirrored\u202c 👩‍👩‍👧 e\u0301 \u200b\ufeff \x00 \U0010ffff"
LONG: Final = "All work and no play. " * 4_700  # 100 kB
_CALL: Final = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look_up", "arguments": '{"query": "weather", "days": [1, 2]}'},
}
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks something up.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
    },
}
_IMAGE: Final = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


class Surface(Struct, frozen=True):
    """One call, by the name that a report gives it; ``answering`` is there where a reply is the point of it."""

    name: str
    endpoint: Endpoint
    params: Mapping[str, Any]
    answering: Answering | None = None


def surfaces(*, replies: bool) -> Iterator[Surface]:
    """Every surface; with ``replies`` also those that matter to who is shown replies."""
    for name, prompt in _PROMPTS.items():
        yield Surface(f"a completion with {name}", "completions", {"prompt": prompt})
    for name, params in _COMPLETIONS.items():
        yield Surface(f"a completion with {name}", "completions", params)
    for name, messages in _MESSAGES.items():
        yield Surface(f"a chat with {name}", "chat", {"messages": messages})
    for name, params in _CHATS.items():
        yield Surface(f"a chat with {name}", "chat", params)
    for name, prompt in _PROMPTS.items():
        yield Surface(f"embeddings of {name}", "embeddings", {"input": prompt})
    yield Surface("the list of models", "models", {})
    yield Surface("one model", "model", {"model": "test-model"})
    if replies:
        yield from _replies()


_PROMPTS: Final[Mapping[str, Any]] = {
    "a prompt": "Hello",
    "an empty prompt": "",
    "unicode": UNICODE,
    "a prompt of 100 kB": LONG,
    "a list of prompts": ["Hello", "", UNICODE],
    "an empty list of prompts": [],
    "token numbers": [9906, 1917],
    "lists of token numbers": [[9906], [1917, 0]],
}
_COMPLETIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "every text parameter": {
        "suffix": "The end.",
        "stop": ["\n", "END"],
        "user": "user-1",
        "logit_bias": {"50256": -100},
    },
    "a single stop": {"stop": "\n", "suffix": None},
    "stream": {"stream": True, "stream_options": {"include_usage": True}},
    "parameters that a server added": {"guided_json": {"deep": [{"er": "text"}]}, "top_k": 40},
}
_MESSAGES: Final[Mapping[str, Any]] = {
    "a message": [{"role": "user", "content": "Hello"}],
    "no message": [],
    "an empty message": [{"role": "user", "content": ""}],
    "a message without content": [{"role": "assistant"}, {"role": "assistant", "content": None}],
    "content parts": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    "an image": [{"role": "user", "content": [{"type": "text", "text": "Look:"}, _IMAGE]}],
    "a tool call": [
        {"role": "assistant", "content": None, "tool_calls": [_CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ],
    "a function call of old": [
        {"role": "assistant", "content": None, "function_call": _CALL["function"]},
        {"role": "function", "name": "look_up", "content": "sunny"},
    ],
    "unicode": [{"role": "user", "name": "zoë", "content": UNICODE}],
    "a message of 100 kB": [{"role": "user", "content": LONG}],
}
_CHATS: Final[Mapping[str, Mapping[str, Any]]] = {
    "tools": {"tools": [_TOOL], "tool_choice": "auto", "metadata": {"team": "research"}},
    "a JSON schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
    "stream": {"stream": True},
}


def _replies() -> Iterator[Surface]:
    for endpoint in ("completions", "chat"):
        stream = streamed(text_chunks(endpoint, ["Hel", "lo"]))
        yield _replied(f"a reply to {endpoint}", endpoint, whole(text_reply(endpoint, "Hello")))
        yield _replied(f"a reply to {endpoint} in unicode", endpoint, _text(endpoint, UNICODE))
        yield _replied(f"a reply to {endpoint} of 100 kB", endpoint, _text(endpoint, LONG))
        yield _replied(f"a reply to {endpoint} without a choice", endpoint, _choices(endpoint))
        yield _replied(f"a streamed reply to {endpoint}", endpoint, stream, stream=True)
    silent = {"role": "assistant", "content": None, "tool_calls": [_CALL]}
    choice = {"index": 0, "message": silent, "finish_reason": "tool_calls"}
    yield _replied("a reply that calls a tool", "chat", _choices("chat", choice))
    vector = {"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}
    yield _replied("embeddings", "embeddings", whole({"object": "list", "data": [vector]}))
    yield _replied("models", "models", whole({"object": "list", "data": [{"id": "test-model"}]}))
    for status in (400, 429, 500):
        error = {"message": "No.", "type": "server_error", "param": None, "code": None}
        yield _replied(f"an error {status}", "completions", whole({"error": error}, status))
    yield _replied("an error in a form of its own", "chat", whole({"detail": "Not Found"}, 404))


def _replied(name: str, endpoint: Endpoint, answer: Answer, **params: Any) -> Surface:
    return Surface(f"{name} (as reply)", endpoint, params, lambda _: answer)


def _text(endpoint: Endpoint, text: str) -> Answer:
    return whole(text_reply(endpoint, text))


def _choices(endpoint: Endpoint, *choices: Any) -> Answer:
    return whole({**text_reply(endpoint, ""), "choices": list(choices)})
