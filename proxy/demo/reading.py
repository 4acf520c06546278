"""Reads request bodies as strictly as the API reference words them: types, ranges, rules."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from proxy.demo.refusals import Refused, out_of_range, wrong_type

_MOST_STOPS = 4
_TOKEN = re.compile(r"[0-9]{1,9}")
_NAMES: dict[type, str] = {
    int: "an integer",
    float: "a decimal",
    bool: "a boolean",
    str: "a string",
    dict: "an object",
    list: "an array",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What a parameter takes: a JSON type, an inclusive range, and whether null means absent."""

    kind: type
    low: float | None = None
    high: float | None = None
    nullable: bool = True


#: Parameters that mean the same on several routes.
SAMPLING: Mapping[str, Rule] = {
    "n": Rule(int, 1, 128),
    "temperature": Rule(float, 0, 2),
    "top_p": Rule(float, 0, 1),
    "presence_penalty": Rule(float, -2, 2),
    "frequency_penalty": Rule(float, -2, 2),
    "logit_bias": Rule(dict),
    "seed": Rule(int, -(2**63), 2**63 - 1),
    "stream": Rule(bool),
    "stream_options": Rule(dict),
    "user": Rule(str, nullable=False),
}


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request body. Raises Refused (400) when it is none."""
    try:
        body = json.loads(raw.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise Refused("The body of the request must be a JSON object.")
    return body


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def of_kind(value: object, kind: type) -> bool:
    """Whether a JSON value is of a JSON type; an integer is also a number, a boolean is neither."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def checked(body: Mapping[str, Any], rules: Mapping[str, Rule]) -> dict[str, Any]:
    """The values of `rules` that are present and not null. Raises Refused (400) for a wrong one.

    Keys without a rule are let pass: the schema of the API reference does not close the object.
    """
    return {
        name: _value(name, body[name], rule)
        for name, rule in rules.items()
        if name in body and not (rule.nullable and body[name] is None)
    }


def _value(name: str, value: Any, rule: Rule) -> Any:
    if not of_kind(value, rule.kind):
        raise wrong_type(name, _NAMES[rule.kind], value)
    if rule.low is not None and value < rule.low:
        raise out_of_range(name, rule.low, value)
    if rule.high is not None and value > rule.high:
        raise out_of_range(name, rule.high, value)
    return value


def stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The stop strings: one, or an array of at most four, none of them empty."""
    value = body.get("stop")
    if value is None:
        return ()
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(stop, str) for stop in found):
        raise wrong_type("stop", "a string or an array of strings", value)
    if len(found) > _MOST_STOPS:
        raise Refused(
            f"Invalid 'stop': at most {_MOST_STOPS} strings.",
            param="stop",
            code="array_above_max_length",
        )
    if "" in found:
        raise Refused("Invalid 'stop': empty string.", param="stop", code="empty_string")
    return tuple(found)


def bias(values: Mapping[str, Any], size: int) -> dict[int, float]:
    """`logit_bias` by token number. Raises Refused (400) for a key that is no token of `size`."""
    found: dict[int, float] = {}
    for key, value in values.items():
        if not (_TOKEN.fullmatch(key) and int(key) < size):
            raise Refused(
                f"Invalid key in 'logit_bias': {key}. A key is the number of a token.",
                param="logit_bias",
            )
        found[int(key)] = _value(f"logit_bias.{key}", value, Rule(float, -100, 100))
    return found


@dataclass(frozen=True, slots=True)
class Streaming:
    """`stream_options` of a call that streams."""

    usage: bool = False
    obfuscation: bool = False


def streaming(values: Mapping[str, Any]) -> Streaming | None:
    """How to stream; None for a whole reply. Raises Refused (400) for options without a stream."""
    options = values.get("stream_options")
    if not values.get("stream"):
        if options is not None:
            raise Refused(
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                param="stream_options",
            )
        return None
    rules = {"include_usage": Rule(bool), "include_obfuscation": Rule(bool)}
    found = checked(options or {}, rules)
    return Streaming(
        usage=found.get("include_usage", False),
        obfuscation=found.get("include_obfuscation", False),
    )


def tokens(value: Sequence[int], size: int, *, name: str) -> tuple[int, ...]:
    """Token numbers as given. Raises Refused (400) when one of them is no token of `size`."""
    wrong = next((number for number in value if not 0 <= number < size), None)
    if wrong is not None:
        raise Refused(
            f"Invalid '{name}': there is no token {wrong}.", param=name, code="invalid_prompt"
        )
    return tuple(value)


def integers(value: object) -> bool:
    """Whether a JSON value is a non-empty array of integers."""
    return isinstance(value, list) and bool(value) and all(of_kind(item, int) for item in value)
