"""``examples/dlp.toml`` as a new user runs it: nothing sensitive leaves, and the caller notices nothing of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.connection import Connection, Received
from tests.e2e.answers import COMPLETION, chunk
from tests.e2e.stack import ALICE_KEY, ROOT, UPSTREAM_KEY, Stack, running_stack
from tests.ports import free_address
from tests.upstream import ScriptedUpstream, json_reply, sse

EXAMPLE = ROOT / "examples" / "dlp.toml"
ENVIRONMENT = {"ALICE_KEY": ALICE_KEY, "OPENAI_API_KEY": UPSTREAM_KEY}
EMAIL, CARD, IBAN = (
    "anna.berg@acme-motors.com",
    "5555-5555-5555-4444",
    "DE89 3704 0044 0532 0130 00",
)
PROMPT = f"Write to {EMAIL} that card {CARD} and account {IBAN} are fine."
# Of the form that its provider documents, and nobody's.
TOKEN = "AKIA" + "Q3EGRIP7KLMNVWXZ"
BENCHMARK = "pii_leak_benchmark"


def example(base_url: str, folder: Path) -> str:
    """The example, whose provider is elsewhere and whose log is a file; nothing else is changed."""
    text = EXAMPLE.read_text()
    for line, more in (
        ('provider = "openai"\n', f'base_url = "{base_url}"\nallow_private = true\n'),
        ("required = true\n", f'[plugins.options]\npath = "{folder / "log.jsonl"}"\n'),
    ):
        assert text.count(line) == 1
        text = text.replace(line, line + more)
    return text


def echo(connection: Connection, request: Received) -> None:
    """Says what it was asked, in pieces of three characters when streamed: a model that repeats everything."""
    body = request.json()
    text = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
    pieces = [text[start : start + 3] for start in range(0, len(text), 3)]
    if "prompt" not in body:
        events: list[Any] = [_chat(piece) for piece in pieces] + [_chat(None, "stop")]
        whole: Any = _chat(text, "stop", whole=True)
    else:
        events = [chunk(piece) for piece in pieces] + [chunk("", "stop")]
        whole = {**COMPLETION, "choices": [{**COMPLETION["choices"][0], "text": text}]}
    script = sse([*events, "[DONE]"]) if body.get("stream") else json_reply(whole)
    script(connection, request)


def _chat(text: str | None, reason: str | None = None, *, whole: bool = False) -> dict[str, Any]:
    said = {"message" if whole else "delta": {"role": "assistant", "content": text}}
    choice = {"index": 0, "finish_reason": reason, **said}
    kind = "chat.completion" if whole else "chat.completion.chunk"
    return {"id": "c-1", "object": kind, "created": 1, "model": "m", "choices": [choice]}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def guarded(
    need_nginx: None, tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream
) -> Iterator[Stack]:
    """nginx, gunicorn and Outgate with the example."""
    folder = tmp_path_factory.mktemp("dlp")
    config = example(f"{upstream.url}/v1", folder)
    with running_stack(folder, config, environment=ENVIRONMENT) as stack:
        yield stack


@pytest.fixture
def client(guarded: Stack, upstream: ScriptedUpstream) -> Iterator[OpenAI]:
    upstream.play(echo)
    with OpenAI(base_url=guarded.base_url, api_key=ALICE_KEY, max_retries=0) as client:
        yield client


def left(upstream: ScriptedUpstream) -> str:
    """All that left, in one text."""
    return "".join(request.body.decode() for request in upstream.requests)


def test_masked_text_leaves_and_plain_text_comes_back(
    client: OpenAI, upstream: ScriptedUpstream
) -> None:
    answer = client.completions.create(model="m", prompt=PROMPT)
    assert answer.choices[0].text == PROMPT
    sent = json.loads(left(upstream))["prompt"]
    assert not any(value in sent for value in (EMAIL, CARD, IBAN))
    assert sent.startswith("Write to <EMAIL_1_")


def test_a_stream_gives_back_what_was_masked(client: OpenAI, upstream: ScriptedUpstream) -> None:
    with client.completions.create(model="m", prompt=PROMPT, stream=True) as stream:
        texts = [choice.text for event in stream for choice in event.choices]
    assert "".join(texts) == PROMPT
    assert len(texts) > 5  # it flowed: only what may still become a mask is waited for
    assert EMAIL not in left(upstream)


def test_a_chat_is_masked_and_restored_too(client: OpenAI, upstream: ScriptedUpstream) -> None:
    messages: Any = [{"role": "user", "content": PROMPT}]
    whole = client.chat.completions.create(model="m", messages=messages)
    with client.chat.completions.create(model="m", messages=messages, stream=True) as stream:
        streamed = [c.delta.content or "" for event in stream for c in event.choices]
    assert whole.choices[0].message.content == PROMPT == "".join(streamed)
    assert not any(value in left(upstream) for value in (EMAIL, CARD, IBAN))


def test_a_secret_is_refused_and_never_told(
    client: OpenAI, guarded: Stack, upstream: ScriptedUpstream
) -> None:
    before = len(guarded.records())
    with pytest.raises(openai.BadRequestError) as refusal:
        client.completions.create(model="m", prompt=f"Why does {TOKEN} not work?")
    assert refusal.value.code == "content_policy_violation"
    assert "aws-access-key-id in prompt" in str(refusal.value)
    assert upstream.requests == []
    record = guarded.wait_for_records(before + 1)[-1]
    assert record["outcome"] == "denied"
    assert TOKEN not in str(refusal.value) + json.dumps(record)


@pytest.mark.parametrize("size", [1, 2, 7, 200])
def test_what_a_model_says_by_itself_is_redacted_however_it_is_cut(
    client: OpenAI, upstream: ScriptedUpstream, size: int
) -> None:
    said = f"Ask bob.stone@acme-motors.com, his key is {TOKEN}."
    pieces = [said[start : start + size] for start in range(0, len(said), size)]
    upstream.play(sse([*map(chunk, pieces), chunk("", "stop"), "[DONE]"]))
    with client.completions.create(model="m", prompt="Who?", stream=True) as stream:
        text = "".join(choice.text for event in stream for choice in event.choices)
    assert text == "Ask [EMAIL], his key is [AWS-ACCESS-KEY-ID]."


def test_what_the_operator_allows_is_left_alone(client: OpenAI, upstream: ScriptedUpstream) -> None:
    client.completions.create(model="m", prompt="Write to support@example.com, cc x@example.org")
    assert json.loads(left(upstream))["prompt"].endswith("support@example.com, cc x@example.org")


# -- the public benchmark ------------------------------------------------------------------------


def benchmark(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """One of its commands. It knows our caller's key, and is the upstream itself."""
    if find_spec(BENCHMARK) is None:
        pytest.skip("pii-leak-benchmark is not installed")
    return subprocess.run(
        [sys.executable, "-m", f"{BENCHMARK}.{module}", *words],
        env={**os.environ, "CONFORMANCE_TARGET_API_KEY": ALICE_KEY},
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[tuple[Stack, str]]:
    """Outgate with the example, and the port at which the benchmark will be its upstream."""
    port = free_address().rpartition(":")[2]
    config = example(f"http://127.0.0.1:{port}/v1", tmp_path)
    with running_stack(tmp_path, config, front=False, environment=ENVIRONMENT) as stack:
        yield stack, port


def test_the_benchmark_finds_no_leak_in_requests(
    measured: tuple[Stack, str], tmp_path: Path
) -> None:
    stack, port = measured
    report = tmp_path / "v1.json"
    words: Sequence[str] = ("--target-base-url", stack.base_url, "--capture-port", port)
    done = benchmark("cli", *words, "--json-out", str(report))
    assert done.returncode == 0, done.stdout + done.stderr
    checks = json.loads(report.read_text())["checks"]
    assert {name: check["passed"] for name, check in checks.items()} == dict.fromkeys(checks, True)
    assert checks["configured_upstream_boundary"]["correlated_requests"] > 0


def test_the_benchmark_finds_no_leak_in_replies_cut_anywhere(
    measured: tuple[Stack, str], tmp_path: Path
) -> None:
    stack, port = measured
    summary = tmp_path / "v2.json"
    done = benchmark(
        "v2_cli", "--exhaustive-splits", "--seed", "a1b2c3d4e5f60001", "--only", "outgate",
        "--gateway-url", f"{stack.base_url}/chat/completions", "--upstream-port", port,
        "--out", str(tmp_path / "v2"), "--json-out", str(summary),
    )  # fmt: skip
    assert summary.exists(), done.stdout + done.stderr
    (row,) = json.loads(summary.read_text())["rows"]
    wanted = {
        "fidelity_rate": 1.0, "leak_single_chunk": 0.0, "leak_adversarial": 0.0, "delta_frag": 0.0,
        "inconclusive": 0, "request_path_leak": [], "outcome": "pass",
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
