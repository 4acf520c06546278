"""Checks the parameters of a body: types always, limits only when strict."""

import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, NoReturn

from proxy.errors import InvalidRequest, nearest
from proxy.model import Endpoint
from proxy.param_tables import STEERING, STREAM_OPTIONS, TABLES, Kind, Param, markdown
from proxy.texts import Place, place_name

__all__ = ["STEERING", "Param", "check", "markdown", "unknown", "unscannable", "unsendable"]

_NONE: Final[Mapping[str, Param]] = {}
_SCALARS: Final[Mapping[str, frozenset[type]]] = {
    "string": frozenset({str}),
    "integer": frozenset({int}),
    "number": frozenset({int, float}),
    "boolean": frozenset({bool}),
}


def _all(values: Any, test: Callable[[Any], bool]) -> bool:
    return isinstance(values, list | tuple) and all(map(test, values))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return type(value) is int  # True is an int to Python, not to JSON


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


# The Python types that settle it at once: nearly every value is a scalar of the right type.
_QUICK: Final = {
    param.types: frozenset().union(*(_SCALARS.get(kind, ()) for kind in param.types))
    for table in (*TABLES.values(), STREAM_OPTIONS)
    for param in table.values()
}

_IS: Final[Mapping[Kind, Callable[[Any], bool]]] = {
    "string": _is_text,
    "integer": _is_integer,
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "object": _is_object,
    "[string]": lambda value: _all(value, _is_text),
    "[integer]": lambda value: _all(value, _is_integer),
    "[[integer]]": lambda value: _all(value, lambda row: bool(row) and _all(row, _is_integer)),
    "[object]": lambda value: _all(value, _is_object),
    "{string: number}": lambda value: _is_object(value) and all(map(_is_number, value.values())),
}


def _fold(name: str) -> str:
    """The name as a reader takes it that ignores case and width."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


_FOLDED: Final = {
    endpoint: {_fold(name): name for name in table} for endpoint, table in TABLES.items()
}


def check(
    endpoint: Endpoint, body: Any, *, strict: bool = False, steering: Collection[str] = STEERING
) -> None:
    """Refuse a body that this endpoint cannot take; raises ``InvalidRequest``.

    Always: required parameters, JSON types, names that differ from a known one only in case or
    width, names in ``steering`` by which a body would choose hosts or credentials. With ``strict``
    also ranges, rules between parameters and unknown names, as the OpenAI API reference has them.
    """
    if not isinstance(body, dict):
        _refuse("The request body must be a JSON object.", None, "invalid_type")
    table = TABLES.get(endpoint, _NONE)
    _check_required(table, body)
    for name, value in body.items():
        param = table.get(name)
        if param is None:
            _check_unknown(endpoint, name, strict, steering)
        else:
            _check_type(param, value, name)
            if strict:
                _check_limits(param, value)
    _check_stream_options(endpoint, body, strict)
    if strict:
        _check_rules(endpoint, body)


def unsendable(endpoint: Endpoint, body: Mapping[str, Any]) -> str | None:
    """Why a body cannot be sent to an endpoint, or None: for what callers send elsewhere and a plugin puts into it."""
    try:
        check(endpoint, body)
    except InvalidRequest as error:
        return error.message
    return None


def _check_required(table: Mapping[str, Param], body: Mapping[str, Any]) -> None:
    if "model" in table and body.get("model") in (None, ""):
        _refuse("You must provide a model parameter.", "model", "missing_required_parameter")
    if "prompt" in table and "prompt" not in body:
        _refuse("You must provide a prompt.", "prompt", "invalid_prompt")
    for name in ("messages", "input"):
        if name in table and name not in body:
            message = f"Missing required parameter: '{name}'."
            _refuse(message, name, "missing_required_parameter")


def _check_type(param: Param, value: Any, path: str) -> None:
    if type(value) in _QUICK[param.types]:
        return
    if value is None:
        if param.nullable:
            return
    elif any(_IS[kind](value) for kind in param.types):
        return
    wanted = " or ".join([*param.types, "null"] if param.nullable else param.types)
    code = "invalid_prompt" if param.name == "prompt" else "invalid_type"
    got = _kind(value)
    if got == "an array" and any(kind.startswith("[") for kind in param.types):
        got = "an array with other items"
    _refuse(f"Invalid type for '{path}': expected {wanted}, but got {got}.", path, code)


def _kind(value: Any) -> str:
    """What a value is, in the words of JSON; never the value itself."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "a boolean"
    if isinstance(value, int | float):
        return "an integer" if isinstance(value, int) else "a decimal number"
    if isinstance(value, list | tuple):
        return "an array"
    return "a string" if isinstance(value, str) else "an object"


def _check_unknown(endpoint: Endpoint, name: str, strict: bool, steering: Collection[str]) -> None:
    shown, folded = name[:64], _fold(name)
    known = _FOLDED.get(endpoint, {}).get(folded)
    if known is not None:
        remedy = f" Write it as '{known}'."
    elif folded in steering or name in steering:
        remedy = " The operator chooses the upstream, a request does not."
    elif strict:
        remedy = nearest(name, TABLES.get(endpoint, _NONE))
    else:
        return
    _refuse(f"Unknown parameter: {shown!r}.{remedy}", shown, "unknown_parameter")


def _check_stream_options(endpoint: Endpoint, body: Mapping[str, Any], strict: bool) -> None:
    options = body.get("stream_options")
    if not isinstance(options, dict) or "stream_options" not in TABLES.get(endpoint, _NONE):
        return
    for name, value in options.items():
        param = STREAM_OPTIONS.get(_fold(name))
        path = f"stream_options.{name[:64]}"
        if param is not None and param.name != name:
            message = f"Unknown parameter: '{path}'. Write it as '{param.name}'."
            _refuse(message, path, "unknown_parameter")
        elif param is not None:
            _check_type(param, value, path)
        elif strict:
            _refuse(f"Unknown parameter: '{path}'.", path, "unknown_parameter")


def _check_limits(param: Param, value: Any) -> None:
    if param.most is not None and isinstance(value, list | tuple) and len(value) > param.most:
        message = f"Invalid '{param.name}': array too long. Expected at most {param.most} items."
        _refuse(message, param.name, "array_above_max_length")
    numbers = value.values() if isinstance(value, Mapping) else [value]
    for number in numbers if param.low is not None else ():
        if number is not None and not _within(param, number):
            message = f"Invalid '{param.name}': out of range. Expected {param.limits()}."
            _refuse(message, param.name, _range_code(param, number))


def _within(param: Param, number: float) -> bool:
    low, high = param.low, param.high
    return (low is None or number >= low) and (high is None or number <= high)


def _range_code(param: Param, number: float) -> str:
    kind = "integer" if "integer" in param.types else "decimal"
    below = param.low is not None and number < param.low
    return f"{kind}_below_min_value" if below else f"{kind}_above_max_value"


def _check_rules(endpoint: Endpoint, body: Mapping[str, Any]) -> None:
    """The rules between parameters that the OpenAI API reference gives in prose."""
    streams = body.get("stream") is True
    if body.get("stream_options") is not None and not streams:
        rule = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        _refuse(rule, "stream_options", None)
    if endpoint == "completions" and body.get("best_of") is not None:
        n = body.get("n") or 1
        if body["best_of"] < n:
            _refuse(f"'best_of' must be at least 'n', which is {n}.", "best_of", "invalid_value")
        if body["best_of"] > 1 and streams:
            rule = "Results cannot be streamed when 'best_of' is greater than 1."
            _refuse(rule, "best_of", "invalid_value")
    if endpoint == "chat" and body.get("top_logprobs") is not None and not body.get("logprobs"):
        rule = "'top_logprobs' is only allowed when 'logprobs' is true."
        _refuse(rule, "top_logprobs", "invalid_value")


def _refuse(message: str, param: str | None, code: str | None) -> NoReturn:
    raise InvalidRequest(message, param=param, code=code)


def unknown(endpoint: Endpoint, body: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in ``body`` that the endpoint's table does not have, in their order."""
    table = TABLES.get(endpoint, _NONE)
    return tuple(name for name in body if name not in table)


# Content in token ids, vectors or media, by the names servers use; no text scan can read it.
_OPAQUE: Final = frozenset(
    {
        "audio_url",
        "file",
        "image",
        "image_data",
        "image_url",
        "images",
        "input_audio",
        "input_embeds",
        "input_file",
        "input_ids",
        "input_image",
        "multi_modal_data",
        "prompt_embeds",
        "prompt_token_ids",
        "video",
        "video_url",
    }
)
_READABLE_PARTS: Final = frozenset({"text", "refusal", "input_text", "output_text", "thinking"})


def unscannable(endpoint: Endpoint, body: Mapping[str, Any]) -> tuple[str, ...]:
    """The places whose content no text scan can read, as ``messages[0].content[1]``.

    These are token arrays, embeddings, and content parts that are not text (images, audio, files,
    and any part of a type that is not known to be text).
    """
    return tuple(place_name(place) for place in _opaque_places(endpoint, body))


def _opaque_places(endpoint: Endpoint, body: Mapping[str, Any]) -> Iterator[Place]:
    yield from ((name,) for name in body if _fold(name) in _OPAQUE)
    for name in ("prompt", "input"):
        value = body.get(name)
        if isinstance(value, list | tuple) and not _all(value, _is_text):
            yield (name,)
    if endpoint == "chat":
        messages = body.get("messages")
        for number, message in enumerate(messages if isinstance(messages, list | tuple) else ()):
            yield from _opaque_in(message, ("messages", number))
        yield from _opaque_in(body.get("prediction"), ("prediction",))


def _opaque_in(message: Any, place: Place) -> Iterator[Place]:
    if not isinstance(message, Mapping):
        return
    yield from ((*place, name) for name in message if _fold(name) in _OPAQUE)
    content = message.get("content")
    for number, part in enumerate(content if isinstance(content, list | tuple) else ()):
        if not _is_readable(part):
            yield (*place, "content", number)


def _is_readable(part: Any) -> bool:
    if not isinstance(part, Mapping):
        return _is_text(part)
    # The type alone is not trusted: some servers go by the member that is there.
    kind = part.get("type")
    is_text = isinstance(kind, str) and kind in _READABLE_PARTS
    return is_text and not any(_fold(name) in _OPAQUE for name in part)
