import json
from pathlib import Path
from typing import Any

import pytest

from proxy import ConfigError
from proxy.testing import harness

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^(a+)+$"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    return str(file)


def choice(endpoint: str, text: str | None) -> dict[str, Any]:
    return {"text": text} if endpoint == "completions" else {"message": {"content": text}}


def refusal(
    path: str, *texts: str | None, endpoint: Any = "completions", **options: Any
) -> str | None:
    plugin = harness("json_schema", path=path, **options)
    denied = plugin.respond(
        {"choices": [choice(endpoint, text) for text in texts]}, endpoint
    ).denied
    return None if denied is None else denied.message


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_json_that_follows_the_schema_passes_bare_and_in_a_fence(path: str, endpoint: str) -> None:
    good = '{"name": "aaa", "age": 3}'
    assert refusal(path, good, f"```json\n{good}\n```", f"\n{good} ", endpoint=endpoint) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Certainly! Here it is.", "is no JSON"),
        ('{"name": "aaa"', "is no JSON"),
        ('{"age": 3}', "does not follow the schema at required"),
        ('{"name": "aaa", "age": "3"}', "at properties/age/type"),
        ('{"name": "aaa", "x": 1}', "at additionalProperties"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_anything_else_is_refused_with_the_place_and_none_of_its_text(
    path: str, text: str, words: str
) -> None:
    told = refusal(path, '{"name": "a"}', text) or ""
    assert told.startswith("Choice 1 ")
    assert words in told
    assert "Certainly" not in told


def test_a_pattern_that_backtracks_elsewhere_costs_nothing(path: str) -> None:
    assert "pattern" in (refusal(path, json.dumps({"name": "a" * 50_000 + "b"})) or "")


def test_a_choice_that_calls_tools_and_an_error_have_no_text(path: str) -> None:
    assert refusal(path, None, endpoint="chat") is None
    plugin = harness("json_schema", path=path)
    assert plugin.respond({"error": {"message": "no"}}).denied is None


def test_a_fence_is_no_json_where_the_operator_says_so(path: str) -> None:
    assert refusal(path, '```\n{"name": "a"}\n```', fenced=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON Schema"),
        ('{"type": "nothing"}', "is no JSON Schema"),
        ('{"$ref": "http://127.0.0.1:9/x"}', "is no JSON Schema"),
        ('{"pattern": "(?=a)"}', "is no JSON Schema"),
    ],
)
def test_a_file_that_is_no_schema_of_its_own_stops_the_start(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ConfigError, match=words):
        harness("json_schema", path=str(tmp_path / "s.json"))
    with pytest.raises(ConfigError, match="cannot be read"):
        harness("json_schema", path=str(tmp_path / "none.json"))
