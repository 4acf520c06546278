from typing import Any

import pytest

from proxy.demo.instance import instance


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "word"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 7}, 7),
        ({"type": "number"}, 1.5),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["integer", "null"]}, 1),
        ({"enum": ["celsius", "kelvin"], "type": "string"}, "celsius"),
        ({"enum": [], "type": "string"}, "word"),
        ({"const": 0}, 0),
        ({"default": False, "type": "boolean"}, False),
        ({"type": "array", "items": {"type": "integer"}}, [1]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"properties": {"a": {"type": "string"}, "b": {}}}, {"a": "word", "b": "word"}),
        ({"type": "object"}, {}),
        ({"type": "object", "properties": []}, {}),
        ({"type": {}}, "word"),
        (None, "word"),
    ],
)
def test_a_value_satisfies_its_schema(schema: Any, expected: Any) -> None:
    assert instance(schema, lambda: "word") == expected


def test_a_schema_without_end_ends() -> None:
    schema: dict[str, Any] = {"type": "array"}
    schema["items"] = schema
    assert "word" in repr(instance(schema, lambda: "word"))
