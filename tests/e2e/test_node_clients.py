"""The JavaScript SDKs of OpenAI and Portkey, through nginx and gunicorn."""

import json
import os
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.e2e.answers import COMPLETION, error
from tests.e2e.stack import ALICE_KEY, ROOT, UPSTREAM_KEY, Stack
from tests.upstream import ScriptedUpstream, json_reply

Run = Callable[..., dict[str, Any]]

STYLES = ["open source", "open source, key alone", "hosted", "hosted, provider"]


def options(style: str, upstream: str = "demo") -> str:
    """What the documentation tells its readers to write, with our keys, as JSON."""
    provider = "openai" if upstream == "demo" else upstream
    styles = {
        "open source": {"provider": provider, "Authorization": f"Bearer {ALICE_KEY}"},
        "open source, key alone": {"provider": provider, "Authorization": ALICE_KEY},
        "hosted": {"apiKey": ALICE_KEY, "virtualKey": f"{upstream}-virtual-key"},
        "hosted, provider": {"apiKey": ALICE_KEY, "provider": provider},
    }
    return json.dumps(styles[style])


def run_script(node: str, stack: Stack, script: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [node, script, stack.base_url, *arguments],
        cwd=ROOT / "tests" / "e2e" / "node",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def run(node: str, stack: Stack) -> Run:
    return partial(run_script, node, stack)


def test_openai_gets_whole_and_streamed_answers(run: Run) -> None:
    whole = run("openai.mjs", ALICE_KEY, "completion", "demo-instruct")
    assert whole["text"]
    assert whole["id"]
    streamed = run("openai.mjs", ALICE_KEY, "stream", "demo-instruct")
    assert len(streamed["texts"]) > 1
    assert "".join(streamed["texts"]) == whole["text"]


def test_openai_gets_a_chat(run: Run) -> None:
    assert run("openai.mjs", ALICE_KEY, "chat", "demo-instruct")["text"]


@pytest.mark.parametrize(
    ("key", "model", "expected"),
    [
        ("wrong-key-0123456789", "demo-instruct", ("AuthenticationError", 401, "invalid_api_key")),
        (ALICE_KEY, "no-such-model", ("NotFoundError", 404, "model_not_found")),
    ],
)
def test_openai_gets_typed_errors(
    run: Run, key: str, model: str, expected: tuple[str, int, str]
) -> None:
    answer = run("openai.mjs", key, "fail", model)
    assert (answer["error"], answer["status"], answer["code"]) == expected


@pytest.mark.parametrize("status", [429, 500])
def test_openai_tries_again_by_itself(run: Run, scripted: ScriptedUpstream, status: int) -> None:
    again = json_reply(error("again"), status, [("retry-after-ms", "1")])
    scripted.play(again, json_reply(COMPLETION))
    assert run("openai.mjs", ALICE_KEY, "retry", "scripted")["text"] == "fine"
    assert len(scripted.requests) == 2


@pytest.mark.parametrize("style", STYLES)
def test_portkey_gets_whole_and_streamed_answers(run: Run, style: str) -> None:
    whole = run("portkey.mjs", options(style), "completion", "demo-instruct")
    assert whole["text"]
    assert whole["provider"] in {"openai", "outgate"}
    streamed = run("portkey.mjs", options(style), "stream", "demo-instruct")
    assert len(streamed["texts"]) > 1
    assert "".join(streamed["texts"]) == whole["text"]


def test_portkey_gets_a_chat(run: Run) -> None:
    assert run("portkey.mjs", options("hosted"), "chat", "demo-instruct")["text"]


def test_portkey_gets_typed_errors(run: Run) -> None:
    wrong = {"apiKey": "wrong-key-0123456789", "virtualKey": "demo-virtual-key"}
    answer = run("portkey.mjs", json.dumps(wrong), "completion", "demo-instruct")
    assert (answer["error"], answer["status"]) == ("AuthenticationError", 401)
    answer = run("portkey.mjs", options("hosted"), "completion", "no-such-model")
    assert (answer["error"], answer["status"]) == ("NotFoundError", 404)


def test_portkey_leaves_the_retries_of_an_upstreams_error_to_the_gateway(
    run: Run, scripted: ScriptedUpstream
) -> None:
    scripted.play(json_reply(error("some_code"), 500))
    answer = run("portkey.mjs", options("hosted", "scripted"), "completion", "scripted")
    assert (answer["error"], answer["status"]) == ("InternalServerError", 500)
    # An x-portkey-trace-id tells its SDK that a gateway has dealt with the call.
    assert len(scripted.requests) == 1


def test_portkey_tries_again_when_the_gateway_was_busy(
    node: str, busy: tuple[Stack, ScriptedUpstream]
) -> None:
    stack, upstream = busy
    wanted = options("hosted", "scripted")
    answer = run_script(node, stack, "portkey.mjs", wanted, "completion", "scripted")
    # This SDK tries again at once, and only once.
    assert (answer["error"], answer["status"]) == ("InternalServerError", 503)
    assert [record["code"] for record in stack.wait_for_records(2)] == ["overloaded"] * 2
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("style", STYLES)
def test_nothing_of_portkey_reaches_the_upstream(
    run: Run, scripted: ScriptedUpstream, style: str
) -> None:
    scripted.play(json_reply(COMPLETION))
    assert (
        run("portkey.mjs", options(style, "scripted"), "completion", "scripted")["text"] == "fine"
    )
    (request,) = scripted.requests
    assert request.header_values("authorization") == [f"Bearer {UPSTREAM_KEY}"]
    assert [name for name, _ in request.headers if b"portkey" in name.lower()] == []


def test_portkey_falls_back_by_its_config(run: Run, scripted: ScriptedUpstream) -> None:
    scripted.play(json_reply(error("busy"), 429))
    targets = [
        {"virtualKey": "scripted-virtual-key"},
        {"virtualKey": "demo-virtual-key", "overrideParams": {"model": "demo-instruct"}},
    ]
    config = {"strategy": {"mode": "fallback"}, "targets": targets}
    wanted = json.dumps({"apiKey": ALICE_KEY, "config": config})
    answer = run("portkey.mjs", wanted, "completion", "scripted")
    assert answer["text"]
    assert answer["provider"] == "openai"
    assert len(scripted.requests) == 1
