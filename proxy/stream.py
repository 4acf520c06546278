"""A stream and a whole reply are two forms of one answer: this turns each into the other."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from proxy.model import Endpoint

_WHOLE: Final = {"completions": "text_completion", "chat": "chat.completion"}
_CHUNK: Final = {"completions": "text_completion", "chat": "chat.completion.chunk"}
_ENVELOPE: Final = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
# Strings that some servers repeat in every delta: the last one counts, they are never joined.
_NOT_JOINED: Final = frozenset({"id", "type", "role", "object", "format"})


class _Pieces(list[str]):
    """A string that still grows; joined once at the end, so that long replies stay linear."""


class _Calls(dict[int, dict[str, Any]]):
    """Tool calls that still grow, by their index."""


def assemble(endpoint: Endpoint, payloads: Iterable[Any]) -> dict[str, Any]:
    """The whole reply that the chunks of a stream say (OpenAI API reference, "Streaming").

    Texts and logprobs are joined per choice, tool calls by their index. What a server added of its
    own is joined if it is a list or a string of a delta, else the last value counts; padding
    (``obfuscation``) is left out, and so is what is no object (``data: null``).
    Raises ``KeyError`` for an endpoint that never streams.
    """
    whole: dict[str, Any] = {"object": _WHOLE[endpoint]}
    choices: dict[int, dict[str, Any]] = {}
    for payload in _objects(payloads):
        for choice in _objects(payload.get("choices")):
            _see_choice(choices.setdefault(_index(choice), {}), choice)
        for key, value in payload.items():
            if key not in ("choices", "object", "obfuscation"):
                _set(whole, key, value)
    if whole.get("usage", 0) is None:
        del whole["usage"]
    whole["choices"] = [_finished(endpoint, index, choices[index]) for index in sorted(choices)]
    return whole


def _objects(values: Any) -> Iterator[Mapping[str, Any]]:
    rows = values if isinstance(values, Iterable) else ()
    return (row for row in rows if isinstance(row, dict))


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _set(known: dict[str, Any], key: str, value: Any) -> None:
    """The last value counts, but null never takes one away."""
    if value is not None or key not in known:
        known[key] = value


def _see_choice(known: dict[str, Any], choice: Mapping[str, Any]) -> None:
    for key, value in choice.items():
        if key == "delta":
            _merge_into(
                known.setdefault("message", {}), value if isinstance(value, Mapping) else {}
            )
        elif key == "text" or isinstance(value, Mapping | list | tuple):
            known[key] = _merged(known.get(key), value)
        else:
            _set(known, key, value)


def _merge_into(known: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for key, value in delta.items():
        old = known.get(key)
        if key == "tool_calls" and value is not None:
            known[key] = _merged_calls(old, value)
        elif key in _NOT_JOINED or (key == "name" and old == [value]):
            _set(known, key, value if key in _NOT_JOINED else None)
        else:
            known[key] = _merged(old, value)


def _merged(old: Any, new: Any) -> Any:
    """``old`` with ``new`` behind it; ``old`` is ours, so it may be changed in place."""
    if new is None:
        return old
    if isinstance(new, Mapping):
        known = old if isinstance(old, dict) else {}
        _merge_into(known, new)
        return known
    if isinstance(new, str) and (old is None or isinstance(old, _Pieces)):
        pieces = _Pieces() if old is None else old
        pieces.append(new)
        return pieces
    if isinstance(new, list | tuple | str) and (old is None or isinstance(old, list)):
        return _longer(old, new)
    return new


def _longer(old: list[Any] | None, new: Any) -> list[Any]:
    """A list that grows; text before or behind a list of content parts becomes a part of it."""
    if isinstance(old, _Pieces):
        old = [{"type": "text", "text": "".join(old)}]
    items = [] if old is None else old
    items.extend([{"type": "text", "text": new}] if isinstance(new, str) else new)
    return items


def _merged_calls(old: Any, new: Any) -> _Calls:
    calls = old if isinstance(old, _Calls) else _Calls()
    for part in _objects(new):
        index = part.get("index")
        if not isinstance(index, int):
            # Servers that send whole calls leave the index out; a new id begins a new call.
            index = len(calls) if part.get("id") else max(calls, default=0)
        _merge_into(calls.setdefault(index, {}), {k: v for k, v in part.items() if k != "index"})
    return calls


def _finished(endpoint: Endpoint, index: int, known: dict[str, Any]) -> dict[str, Any]:
    choice: dict[str, Any] = {"finish_reason": None, **_joined(known), "index": index}
    if endpoint == "chat":
        choice["message"] = {"role": "assistant", "content": None, **choice.get("message", {})}
    else:
        choice["text"] = choice.get("text") or ""
    return choice


def _joined(value: Any) -> Any:
    if isinstance(value, _Pieces):
        return "".join(value)
    if isinstance(value, _Calls):
        return [_joined(value[index]) for index in sorted(value)]
    if isinstance(value, dict):
        return {key: _joined(item) for key, item in value.items()}
    return value


def explode(
    endpoint: Endpoint, body: Mapping[str, Any], *, include_usage: bool
) -> list[dict[str, Any]]:
    """The chunks that say the same as the whole reply ``body``.

    Each choice gets one chunk with its content and one with its finish reason. With
    ``include_usage`` a last chunk without choices carries the usage (``stream_options``).
    Raises ``KeyError`` for an endpoint that never streams.
    """
    envelope = {key: body[key] for key in _ENVELOPE if key in body}
    envelope["object"] = _CHUNK[endpoint]
    rest = {k: v for k, v in body.items() if k not in (*_ENVELOPE, "choices", "usage")}
    blank = {"usage": None} if include_usage else {}
    chunks = [
        {**envelope, "choices": [part], **blank}
        for choice in _objects(body.get("choices"))
        for part in _parts(endpoint, choice)
    ]
    if include_usage and body.get("usage") is not None:
        chunks.append({**envelope, "choices": [], "usage": body["usage"]})
    first = chunks[0] if chunks else {**envelope, "choices": [], **blank}
    return [{**rest, **first}, *chunks[1:]]


def _parts(endpoint: Endpoint, choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The content of a choice, then how it ended."""
    held = {"logprobs": choice["logprobs"]} if "logprobs" in choice else {}
    ended = {k: v for k, v in choice.items() if k not in ("message", "text", "logprobs")}
    index = ended["index"] = _index(choice)
    first: dict[str, Any] = {"text": choice.get("text") or ""}
    last: dict[str, Any] = {"text": ""}
    if endpoint == "chat":
        first, last = {"delta": _delta(choice.get("message") or {})}, {"delta": {}}
    yield {"index": index, **first, **held, "finish_reason": None}
    yield {**last, **dict.fromkeys(held), "finish_reason": None, **ended}


def _delta(message: Mapping[str, Any]) -> dict[str, Any]:
    delta = dict(message)
    if delta.get("tool_calls"):
        delta["tool_calls"] = [
            {**call, "index": index} for index, call in enumerate(_objects(delta["tool_calls"]))
        ]
    return delta


def _characters(choice: Mapping[str, Any]) -> int:
    """How much text a choice, whole or a chunk of one, says."""
    text = choice.get("text")
    said = choice.get("delta") or choice.get("message")
    if not isinstance(said, dict):
        return len(text) if isinstance(text, str) else 0
    spoken = sum(len(value) for key, value in said.items() if key != "role" and type(value) is str)
    return spoken + sum(_arguments(call) for call in _objects(said.get("tool_calls")))


def _arguments(call: Mapping[str, Any]) -> int:
    function = call.get("function")
    given = function.get("arguments") if isinstance(function, Mapping) else None
    return len(given) if isinstance(given, str) else 0


class StreamState:
    """What is known of a stream so far.

    ``finish_reasons`` has every choice that was seen by its index, with None while it goes on;
    ``usage`` is the upstream's last count, ``error`` the first error it told, both as they came;
    ``characters`` counts the text of all choices.
    """

    __slots__ = ("characters", "error", "finish_reasons", "usage")

    def __init__(self) -> None:
        self.characters = 0
        self.error: Any = None
        self.usage: Mapping[str, Any] | None = None
        self.finish_reasons: dict[int, str | None] = {}

    def see(self, payload: Any) -> None:
        """Take note of one chunk; what is no object says nothing."""
        if not isinstance(payload, dict):
            return
        if self.error is None:
            self.error = payload.get("error")
        if isinstance(usage := payload.get("usage"), dict):
            self.usage = usage
        for choice in _objects(payload.get("choices")):
            index = _index(choice)
            reason = choice.get("finish_reason")
            self.finish_reasons[index] = reason or self.finish_reasons.get(index)
            self.characters += _characters(choice)

    @property
    def complete(self) -> bool:
        """Whether every choice that was seen has ended, and at least one was."""
        return bool(self.finish_reasons) and all(self.finish_reasons.values())
