"""The document says what is served: every path, every parameter, and answers that are as it says."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest
from click.testing import CliRunner

from proxy.blueprint import blueprint
from proxy.cli import main
from proxy.demo import create_upstream, running
from proxy.openapi import as_json, body_schema, document
from proxy.param_tables import TABLES
from tests.e2e.stack import ALICE_KEY, UPSTREAM_KEY, Stack, configuration, running_stack
from tests.gateway import COMPLETION, Gateway, gateway, refused

_MODEL: Final = "demo-instruct"
#: What a running gateway must keep of the document, whatever is sent to it.
_CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@pytest.fixture(scope="module")
def gate() -> Iterator[Gateway]:
    with gateway() as running:
        yield running


def test_it_is_served_without_a_key_and_printed_by_the_command(gate: Gateway) -> None:
    answer = gate.ask(path="/openapi.json", method="GET", headers=[])
    assert (answer.status, answer.header("content-type")) == (200, "application/json")
    assert answer.json() == document()
    assert CliRunner().invoke(main, ["openapi"]).output == answer.body.decode()
    assert gate.records == []


def test_it_tells_nothing_of_a_configuration(gate: Gateway) -> None:
    with gateway(upstream={"strict": True}, parameters={"unknown": "refuse"}) as other:
        first, second = (
            each.ask(path="/openapi.json", method="GET", headers=[]) for each in (gate, other)
        )
    assert first.body == second.body
    for word in (b"main", b"alice", b"openai_compatible", str(gate.upstream.port).encode()):
        assert word not in first.body


def test_it_opens_nothing(gate: Gateway) -> None:
    for path in ("/v1/openapi.json", "/openapi", "/openapi.json/", "/openapi.yaml", "/docs"):
        refused(gate.ask(path=path, method="GET"), 404, "unknown_url")
    refused(gate.ask(COMPLETION, path="/openapi.json"), 405, "method_not_allowed")


def test_its_paths_are_exactly_those_that_are_served(gate: Gateway) -> None:
    rules = {
        rule.rule.replace("<path:model>", "{model}")
        for rule in gate.app.url_map.iter_rules()
        if rule.endpoint.startswith(f"{blueprint.name}.")
    }
    paths = set(document()["paths"])
    assert rules - paths == {path.removeprefix("/v1") for path in paths if path.startswith("/v1")}
    assert paths <= rules


@pytest.mark.parametrize("endpoint", TABLES)
def test_a_body_has_every_parameter_of_the_tables(endpoint: Any) -> None:
    schema = body_schema(endpoint)
    assert set(schema["properties"]) == set(TABLES[endpoint])
    jsonschema_rs.meta.validate(schema)


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        (COMPLETION, True),
        ({**COMPLETION, "prompt": None, "stop": ["a"], "n": 2, "top_k": 1}, True),
        ({**COMPLETION, "logit_bias": {"1": 0.5}, "temperature": 9, "seed": 2**63}, True),
        ({**COMPLETION, "stream": True, "stream_options": {"include_usage": True}}, True),
        ({**COMPLETION, "prompt": [[1, 2], [3]]}, True),
        ({**COMPLETION, "n": "1"}, False),
        ({**COMPLETION, "stream": 1}, False),
        ({**COMPLETION, "user": None}, False),
        ({**COMPLETION, "seed": 2**64}, False),
        ({**COMPLETION, "prompt": [[]]}, False),
        ({**COMPLETION, "api_base": "https://elsewhere.example"}, False),
        ({**COMPLETION, "stream": True, "stream_options": {"include_usage": 1}}, False),
        ({"model": "", "prompt": "p"}, False),
        ({"model": "m"}, False),
        ([], False),
    ],
)
def test_what_it_calls_valid_is_what_is_taken(gate: Gateway, body: Any, valid: bool) -> None:
    assert jsonschema_rs.is_valid(body_schema("completions"), body) is valid
    answer = gate.ask(body)
    taken = answer.status == 200 or answer.error["code"] == "token_prompt_not_scannable"
    assert taken is valid, answer


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("openapi")
    with running(create_upstream(api_key=UPSTREAM_KEY)) as demo:
        config = configuration({"demo": f"{demo}/v1"}, folder / "log.jsonl")
        with running_stack(folder, config, front=False) as stack:
            yield stack


def _strict() -> dict[str, Any]:
    """The document without what an upstream may answer on its own, and with models that this one has."""
    strict: dict[str, Any] = json.loads(as_json())
    for path in strict["paths"].values():
        for operation in path.values():
            if isinstance(operation, list):
                operation[0]["schema"] = {"enum": [_MODEL, "unknown"]}
                continue
            operation["responses"].pop("default", None)
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                schema["properties"]["model"] = {"enum": [_MODEL, "unknown"]}
    return strict


def test_whatever_is_sent_the_answers_are_as_it_says(
    stack: Stack, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    schema = tmp_path / "openapi.json"
    schema.write_text(json.dumps(_strict()))
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", str(schema)),
        *("--url", stack.direct, "--header", f"Authorization: Bearer {ALICE_KEY}"),
        *("--checks", ",".join(_CHECKS), "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", "40", "--seed", "1", "--no-color"),
    ]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False
    )
    record_property("figure", " ".join(re.findall(r"[0-9]+ generated.*", result.stdout)))
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert "Traceback" not in stack.logs()["gunicorn.log"]
