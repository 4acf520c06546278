"""Makes up a JSON value that satisfies a JSON Schema: the arguments of a demo tool call."""

from collections.abc import Callable, Mapping
from typing import Any

_DEEPEST = 8


def instance(schema: object, word: Callable[[], str], depth: int = 0) -> Any:
    """A plausible value for `schema`; `word` gives the text for a string that may be anything.

    Knows const, enum, default, type, properties, items, minimum, anyOf, oneOf, allOf; anything
    else, and anything nested absurdly deep, becomes a word.
    """
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return word()
    for key, pick in _GIVEN.items():
        if key in schema and schema[key] != []:
            return pick(schema[key])
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return instance(schema[key][0], word, depth + 1)
    return _of_type(schema, word, depth)


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) else values


_GIVEN: Mapping[str, Callable[[Any], Any]] = {
    "const": lambda value: value,
    "default": lambda value: value,
    "enum": _first,
}


def _of_type(schema: Mapping[str, Any], word: Callable[[], str], depth: int) -> Any:
    kind = str(_first(schema.get("type") or ("object" if "properties" in schema else "string")))
    if kind == "object":
        fields = schema.get("properties")
        found = fields if isinstance(fields, dict) else {}
        return {name: instance(one, word, depth + 1) for name, one in found.items()}
    if kind == "array":
        return [instance(schema.get("items"), word, depth + 1)]
    plain: dict[str, Any] = {
        "integer": schema.get("minimum", 1),
        "number": schema.get("minimum", 1.5),
        "boolean": True,
        "null": None,
    }
    return plain[kind] if kind in plain else word()
