"""The messages of a chat as Anthropic's Messages API has them: a system text, turns, blocks."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from proxy import Untranslatable

_SYSTEM: Final = frozenset({"system", "developer"})
#: Of an assistant's message: what it said, and what tells nothing that a model would need again.
_SAID: Final = frozenset({"role", "content", "tool_calls", "refusal"})
_TOLD: Final = frozenset({"reasoning_content", "annotations"})
_DATA: Final = re.compile(r"data:(image/(?:gif|jpeg|png|webp));base64,([A-Za-z0-9+/]+=*)")
_DETAILS: Final = (None, "auto")

Blocks = list[dict[str, Any]]


def contents_of(messages: Iterable[Any]) -> tuple[Blocks, Blocks]:
    """The system text and the turns; raises ``Untranslatable`` for what neither can say."""
    system: Blocks = []
    turns: Blocks = []
    results: Blocks | None = None
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        role = message.get("role")
        if role == "tool":
            # What several tools answered is one turn.
            if results is None:
                results = []
                turns.append({"role": "user", "content": results})
            results.append(_result(message, place))
            continue
        results = None
        if role in _SYSTEM:
            _check_keys(message, {"role", "content"}, place)
            system += _texts(message.get("content"), place)
        elif role == "user":
            _check_keys(message, {"role", "content"}, place)
            turns.append({"role": "user", "content": _content(message.get("content"), place)})
        elif role == "assistant":
            turns.append({"role": "assistant", "content": _assistant(message, place)})
        else:
            _cannot(f"a message of the role {str(role)[:64]!r}", place, "write another role")
    return system, turns


def _cannot(what: str, place: str, remedy: str = "leave it out") -> NoReturn:
    raise Untranslatable(
        f"This model's provider has nothing like {what} at {place}: {remedy}.", place
    )


def _check_keys(value: Mapping[str, Any], known: Iterable[str], place: str) -> None:
    more = sorted(name for name in value.keys() - {*known} if value[name] is not None)
    if more:
        _cannot(repr(more[0][:64]), place)


def _result(message: Mapping[str, Any], place: str) -> dict[str, Any]:
    _check_keys(message, {"role", "content", "tool_call_id", "cache_control"}, place)
    made = {"type": "tool_result", "tool_use_id": message.get("tool_call_id")}
    if message.get("content") is not None:
        made["content"] = _content(message["content"], place)
    return _cached(made, message)


def _assistant(message: Mapping[str, Any], place: str) -> Any:
    _check_keys(message, _SAID | _TOLD, place)
    content, calls = message.get("content"), _list(message.get("tool_calls"), place)
    if isinstance(content, str) and not calls and message.get("refusal") is None:
        return content
    blocks = _texts(content, place)
    if message.get("refusal"):
        blocks.append({"type": "text", "text": message["refusal"]})
    return [*blocks, *(_call(call, f"{place}.tool_calls[{n}]") for n, call in enumerate(calls))]


def _call(call: Any, place: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        _cannot("a call of anything but a function", place)
    arguments = _arguments(function.get("arguments"), place)
    name = function.get("name")
    return {"type": "tool_use", "id": call.get("id"), "name": name, "input": arguments}


def _arguments(text: Any, place: str) -> Any:
    try:
        value = json.loads(text or "{}", object_pairs_hook=_object)
        # Neither half a character nor a number that JSON has not may go on.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Untranslatable(
            f"{place}.function.arguments is not a JSON object, as this model's provider needs it:"
            " send the arguments as the model wrote them, or {}.",
            f"{place}.function.arguments",
        )
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands there twice")
    return made


# -- content ---------------------------------------------------------------------------------------


def _content(content: Any, place: str) -> Any:
    if isinstance(content, str):
        return content
    return [_block(part, f"{place}.content[{n}]") for n, part in enumerate(_list(content, place))]


def _list(value: Any, place: str) -> Iterable[Any]:
    if not isinstance(value, list | tuple | None):
        _cannot("such a value", place, "send a text, or a list")
    return value or ()


def _texts(content: Any, place: str) -> Blocks:
    """Blocks of text, where nothing else may stand; one without any is refused, and says nothing."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    blocks = [_block(part, f"{place}.content[{n}]") for n, part in enumerate(_list(content, place))]
    for number, block in enumerate(blocks):
        if block["type"] != "text":
            _cannot("anything but text in this role", f"{place}.content[{number}]")
    return blocks


def _block(part: Any, place: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in ("text", "refusal"):
        _check_keys(part, {"type", kind, "cache_control"}, place)
        return _cached({"type": "text", "text": part.get(kind)}, part)
    if kind == "image_url":
        _check_keys(part, {"type", kind, "cache_control"}, place)
        return _cached({"type": "image", "source": _source(part.get(kind), place)}, part)
    return _cannot(f"a part of the type {str(kind)[:64]!r}", place, "send text, or image_url")


def _source(image: Any, place: str) -> dict[str, Any]:
    image = {"url": image} if isinstance(image, str) else image
    url = image.get("url") if isinstance(image, Mapping) else None
    if not isinstance(url, str):
        _cannot("an image without a url", place, "write image_url.url")
    if image.get("detail") not in _DETAILS:
        _cannot("the detail of an image", place)
    if url.startswith("https://"):
        return {"type": "url", "url": url}
    found = _DATA.fullmatch(url)
    if found is None:
        remedy = "write https://…, or data:image/TYPE;base64,… with gif, jpeg, png or webp"
        _cannot("this url of an image", place, remedy)
    return {"type": "base64", "media_type": found[1], "data": found[2]}


def _cached(block: dict[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """``block`` with the mark by which Anthropic keeps what stands before it, where the caller set one."""
    mark = part.get("cache_control")
    return block if mark is None else {**block, "cache_control": mark}
