"""curl, as a reader of the documentation uses it, through nginx and gunicorn."""

import json
import select
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.answers import chunk
from tests.e2e.stack import ALICE_KEY, Stack
from tests.upstream import WAIT, ScriptedUpstream, sse

Ask = Callable[..., subprocess.CompletedProcess[str]]


def command(curl: str, url: str, body: dict[str, Any] | None, *options: str) -> list[str]:
    sent = [] if body is None else ["-d", json.dumps(body), "-H", "Content-Type: application/json"]
    # -q: no settings of the user who runs the tests.
    return [curl, "-q", "-sS", "--noproxy", "*", "--max-time", "60", url, *sent, *options]


@pytest.fixture
def ask(curl: str, stack: Stack) -> Ask:
    def run(
        path: str, body: dict[str, Any] | None = None, *options: str, key: str = ALICE_KEY
    ) -> subprocess.CompletedProcess[str]:
        words = command(curl, stack.url + path, body, "-H", f"Authorization: Bearer {key}")
        return subprocess.run([*words, *options], capture_output=True, text=True, check=True)

    return run


def test_a_completion_comes_whole(ask: Ask) -> None:
    body = {"model": "demo-instruct", "prompt": "Once upon a time", "max_tokens": 8}
    answer = json.loads(ask("/v1/completions", body).stdout)
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"]


def test_a_streamed_completion_ends_with_done(ask: Ask) -> None:
    body = {"model": "demo-instruct", "prompt": "Once", "max_tokens": 8, "stream": True}
    events = [line for line in ask("/v1/completions", body, "-N").stdout.splitlines() if line]
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
    assert len(events) > 2


def test_every_event_is_there_as_soon_as_the_upstream_sent_it(
    curl: str, stack: Stack, scripted: ScriptedUpstream
) -> None:
    scripted.play(sse([chunk("a"), WAIT, chunk("b"), WAIT, chunk("c", "stop"), "[DONE]"]))
    body = {"model": "scripted", "prompt": "x", "stream": True}
    header = f"Authorization: Bearer {ALICE_KEY}"
    words = command(curl, f"{stack.base_url}/completions", body, "-N", "-H", header)
    with subprocess.Popen(words, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        texts = []
        while select.select([process.stdout], [], [], 30)[0] and (
            data := process.stdout.read(65_536)
        ):
            texts += [
                json.loads(line.removeprefix(b"data: "))["choices"][0]["text"]
                for line in data.splitlines()
                if line.startswith(b"data: {")
            ]
            if len(texts) < 3:
                scripted.release(1)
    assert texts == ["a", "b", "c"]
    assert process.returncode == 0


def test_a_reply_names_its_record_and_the_upstreams_request(ask: Ask, stack: Stack) -> None:
    before = len(stack.records())
    head = ask("/v1/models", None, "-i").stdout.partition("\n\n")[0].lower()
    (record,) = stack.wait_for_records(before + 1)[before:]
    assert f"x-outgate-id: {record['id']}" in head
    assert f"x-request-id: {record['upstream_request_id']}" in head
    assert record["endpoint"] == "models"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/completions", {"model": "demo-instruct"}, 400, "invalid_prompt"),
        ("/v1/completions", {"model": "none", "prompt": "x"}, 404, "model_not_found"),
        ("/v1/nothing-here", {"model": "demo-instruct"}, 404, "unknown_url"),
        ("/nginx-bad-request", None, 400, "bad_request"),
    ],
)
def test_an_error_has_the_shape_that_clients_read(
    ask: Ask, path: str, body: dict[str, Any] | None, status: int, code: str
) -> None:
    answer = ask(path, body, "-w", "\n%{http_code} %{content_type}").stdout
    text, _, told = answer.rpartition("\n")
    assert told == f"{status} application/json"
    assert set(json.loads(text)["error"]) == {"message", "type", "param", "code"}
    assert json.loads(text)["error"]["code"] == code


def test_a_wrong_key_is_refused(ask: Ask) -> None:
    body = {"model": "demo-instruct", "prompt": "x"}
    answer = ask("/v1/completions", body, "-w", "\n%{http_code}", key="wrong-key-0123456789")
    text, _, status = answer.stdout.rpartition("\n")
    assert status == "401"
    assert json.loads(text)["error"]["code"] == "invalid_api_key"


def test_a_body_that_is_too_large_is_refused_in_that_shape(curl: str, stack: Stack) -> None:
    words = command(curl, f"{stack.base_url}/completions", None)
    words += ["--data-binary", "@-", "-H", "Content-Type: application/json"]
    words += ["-H", "Expect:", "-w", "\n%{http_code}"]
    # curl may fail to send the rest once nginx has answered; the answer is what counts.
    done = subprocess.run(words, input=b" " * 3_000_000, capture_output=True, check=False)
    text, _, status = done.stdout.rpartition(b"\n")
    assert status == b"413"
    assert json.loads(text)["error"]["code"] == "request_too_large"


def test_the_routes_answer_without_their_prefix_too(ask: Ask) -> None:
    body = {"model": "demo-instruct", "prompt": "Once upon a time", "max_tokens": 8}
    assert json.loads(ask("/completions", body).stdout)["choices"][0]["text"]


def test_health_and_readiness_need_no_key(curl: str, stack: Stack) -> None:
    for path in ("/healthz", "/readyz"):
        words = command(curl, stack.url + path, None, "-w", "\n%{http_code}")
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert done.stdout.rpartition("\n")[2] == "200"
