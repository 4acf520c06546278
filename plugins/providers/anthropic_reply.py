"""What Anthropic's Messages API answers, as OpenAI would say it: whole, in events, and errors."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

Chunks: TypeAlias = Iterable[Mapping[str, Any]]

#: Anthropic's reasons to stop; one that is not known here is passed on as it is.
_REASONS: Final = {
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "stop",
    "refusal": "content_filter",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
}
#: What each kind of delta adds, by the names that Anthropic and the chat have for it.
_DELTAS: Final = {
    "text_delta": ("text", "content"),
    "thinking_delta": ("thinking", "reasoning_content"),
}
_CACHE: Final = ("cache_creation_input_tokens", "cache_read_input_tokens")


def finish_of(message: Mapping[str, Any]) -> str | None:
    """The finish reason for the reason that a message gives."""
    reason = message.get("stop_reason")
    return _REASONS.get(reason, reason) if isinstance(reason, str) else None


def said(content: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The message that blocks of content make. Signatures of thinking are the provider's own and stay there."""
    blocks = list(content)
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    thoughts = [block["thinking"] for block in blocks if block["type"] == "thinking"]
    calls = [_call(block) for block in blocks if block["type"] == "tool_use"]
    message: dict[str, Any] = {
        "role": "assistant", "content": "".join(texts) if texts else None, "refusal": None,
    }  # fmt: skip
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    return {**message, "tool_calls": calls} if calls else message


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": block["name"], "arguments": _json(block["input"])}
    return {"id": block["id"], "type": "function", "function": function}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def usage_of(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The usage; Anthropic counts what was written to its cache and read from it beside the rest of the prompt."""
    written, read = (usage.get(name) or 0 for name in _CACHE)
    prompt = (usage.get("input_tokens") or 0) + written + read
    completion = usage.get("output_tokens") or 0
    told = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": read},
    }
    return {**told, **{name: usage[name] for name in _CACHE if usage.get(name) is not None}}


def error_of(payload: Any) -> dict[str, Any]:
    """The error that an answer or an event tells; nothing where it is none of Anthropic's."""
    error = payload.get("error") if isinstance(payload, Mapping) else None
    if not isinstance(error, Mapping):
        return {}
    kind = error.get("type")
    told = {"message": error.get("message"), "type": kind, "code": kind}
    return {name: value for name, value in told.items() if isinstance(value, str)}


class Reading:
    """Reads one stream: message_start, the deltas of one block after the other, message_delta, message_stop."""

    def __init__(self) -> None:
        self.done = False
        self._usage: dict[str, Any] = {}
        #: The number of each tool call among all of them, by the number of its block.
        self._calls: dict[int, int] = {}
        self._has_arguments: set[int] = set()
        self._read: Mapping[str, Callable[[Mapping[str, Any]], Chunks]] = {
            "message_start": self._start,
            "content_block_start": self._begin,
            "content_block_delta": self._delta,
            "content_block_stop": self._end,
            "message_delta": self._finish,
            "message_stop": self._stop,
            "error": self._fail,
        }

    def chunks(self, event: str, payload: Mapping[str, Any]) -> Chunks:
        """What an event comes to; pings and events of a later time are nothing."""
        read = self._read.get(payload.get("type") or event)
        return () if read is None else read(payload)

    def _start(self, payload: Mapping[str, Any]) -> Chunks:
        message = payload["message"]
        self._count(message.get("usage"))
        opening = {"role": "assistant", "content": ""}
        yield {"id": message["id"], "model": message["model"], "choices": [{"delta": opening}]}

    def _begin(self, payload: Mapping[str, Any]) -> Chunks:
        index, block = payload["index"], payload["content_block"]
        if block["type"] == "tool_use":
            number = self._calls[index] = len(self._calls)
            function = {"name": block["name"], "arguments": ""}
            call = {"index": number, "id": block["id"], "type": "function", "function": function}
            yield _adds({"tool_calls": [call]})
            if block.get("input"):
                yield self._argues(index, _json(block["input"]))
        for key, name in _DELTAS.values():
            if block["type"] == key and block.get(key):
                yield _adds({name: block[key]})

    def _delta(self, payload: Mapping[str, Any]) -> Chunks:
        index, delta = payload["index"], payload["delta"]
        kind = delta["type"]
        if kind in _DELTAS:
            key, name = _DELTAS[kind]
            yield _adds({name: delta[key]})
        elif kind == "input_json_delta" and delta["partial_json"]:
            yield self._argues(index, delta["partial_json"])

    def _end(self, payload: Mapping[str, Any]) -> Chunks:
        index = payload["index"]
        if index in self._calls and index not in self._has_arguments:
            yield self._argues(index, "{}")  # a call without arguments is told by silence

    def _finish(self, payload: Mapping[str, Any]) -> Chunks:
        self._count(payload.get("usage"))
        if (reason := finish_of(payload["delta"])) is not None:
            yield {"choices": [{"finish_reason": reason}]}

    def _stop(self, _payload: Mapping[str, Any]) -> Chunks:
        self.done = True
        yield {"choices": [], "usage": usage_of(self._usage)}

    def _fail(self, payload: Mapping[str, Any]) -> Chunks:
        yield {"error": {"type": "server_error", **error_of(payload)}}

    def _argues(self, index: int, arguments: str) -> Mapping[str, Any]:
        self._has_arguments.add(index)
        call = {"index": self._calls[index], "function": {"arguments": arguments}}
        return _adds({"tool_calls": [call]})

    def _count(self, usage: Any) -> None:
        """Each count is of all that came so far, and one that is left out has not changed."""
        if isinstance(usage, Mapping):
            self._usage |= {name: value for name, value in usage.items() if value is not None}


def _adds(delta: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"choices": [{"delta": delta}]}
