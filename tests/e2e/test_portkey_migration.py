"""The example of a move from Portkey's gateway works as it is, with Portkey's own SDK."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from portkey_ai import Portkey

from proxy.app import create_app
from proxy.config import parse
from proxy.demo.loopback import running
from tests.e2e.answers import error
from tests.e2e.stack import ROOT
from tests.upstream import ScriptedUpstream, json_reply

EXAMPLE: Final = ROOT / "examples" / "portkey-migration"
SHAPES: Final = sorted(path.stem for path in (EXAMPLE / "configs").glob("*.json"))
KEYS: Final = {
    name: f"sk-{name.lower()}-0123456789"
    for name in ("OPENAI_TEAM_A_KEY", "OPENAI_TEAM_B_KEY", "TOGETHER_API_KEY", "PROGRAM_KEY")
}
#: What the operator sets here, and a config brought along there.
OPERATORS: Final = {"api_key", "custom_host", "input_guardrails"}
BUSY: Final = json_reply(error("busy"), 429, [("retry-after-ms", "1")])


def fine(text: str) -> Any:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return json_reply(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    )


@dataclass(frozen=True)
class Move:
    """The gateway of the example, with an upstream on this machine for each of its own."""

    url: str
    upstreams: dict[str, ScriptedUpstream]

    def ask(self, wanted: Any) -> tuple[str, str]:
        """What ``program.py`` prints, without the time that starting it takes."""
        key = KEYS["PROGRAM_KEY"]
        client = Portkey(base_url=self.url, api_key=key, config=wanted, metadata={"plan": "paid"})
        with closing(client._client), closing(client.openai_client):
            messages = [{"role": "user", "content": "Say hello."}]
            answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
        headers = answer.get_headers()
        names = ("last-used-option-index", "provider", "retry-attempt-count")
        return " ".join(headers[name] for name in names), answer.choices[0].message.content

    def run(self, config: str) -> subprocess.CompletedProcess[str]:
        environment = {"OUTGATE_URL": self.url, "PROGRAM_KEY": KEYS["PROGRAM_KEY"]}
        return subprocess.run(
            [sys.executable, "program.py", config],
            cwd=EXAMPLE, env={"PATH": os.environ["PATH"], **environment},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def tries(self) -> dict[str, int]:
        return {name: len(server.requests) for name, server in self.upstreams.items()}


@pytest.fixture
def move(monkeypatch: pytest.MonkeyPatch) -> Iterator[Move]:
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)
    settings = tomllib.loads((EXAMPLE / "outgate.toml").read_text())
    with ExitStack() as stack:
        upstreams = {}
        for name, table in settings["upstreams"].items():
            upstreams[name] = stack.enter_context(ScriptedUpstream(fine(f"Hello from {name}!")))
            table |= {"base_url": f"{upstreams[name].url}/v1", "allow_private": True}
        app = create_app(parse(settings))
        stack.callback(app.extensions["outgate"].close)
        yield Move(f"{stack.enter_context(running(app))}/v1", upstreams)


def config(folder: str, shape: str) -> Any:
    return json.loads(Path(EXAMPLE, folder, f"{shape}.json").read_text())


def without(value: Any) -> Any:
    """A config of old without what is the operator's."""
    if isinstance(value, dict):
        return {key: without(item) for key, item in value.items() if key not in OPERATORS}
    return [without(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("shape", SHAPES)
def test_a_config_only_loses_what_is_the_operators(shape: str) -> None:
    assert config("configs", shape) == without(config("before", shape))


@pytest.mark.parametrize("shape", ["fallback", "conditional"])
def test_a_config_that_is_listed_is_the_same_in_toml(shape: str) -> None:
    settings = tomllib.loads((EXAMPLE / "outgate.toml").read_text())
    (options,) = [entry["options"] for entry in settings["plugins"] if entry["use"] == "portkey"]
    assert options["configs"][f"pc-{shape}"] == config("configs", shape)


def test_every_shape_is_in_the_table() -> None:
    text = (EXAMPLE / "README.md").read_text()
    assert all(f"`{shape}.json`" in text for shape in SHAPES)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_program_gets_its_answer(move: Move, shape: str) -> None:
    _, text = move.ask(config("configs", shape))
    assert text.startswith("Hello from ")
    assert sum(move.tries().values()) == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_a_config_as_it_was_is_refused_with_what_to_leave_out(move: Move, shape: str) -> None:
    with pytest.raises(Exception, match="which is the operator's to set") as caught:
        move.ask(config("before", shape))
    assert type(caught.value).__name__ == "BadRequestError"
    assert sum(move.tries().values()) == 0


@pytest.mark.parametrize(
    ("name", "busy", "told", "tries"),
    [
        ("retry", {"openai": 2}, "config openai 2", {"openai": 3}),
        ("fallback", {"openai": 1}, "config.targets[1] together-ai 0", {"openai": 1, "together": 1}),
        ("pc-fallback", {"openai": 1}, "config.targets[1] together-ai 0", {"openai": 1, "together": 1}),
        ("conditional", {}, "config.targets[0] openai 0", {"openai": 1}),
        ("pc-conditional", {}, "config.targets[0] openai 0", {"openai": 1}),
    ],
)  # fmt: skip
def test_a_config_does_what_it_says(
    move: Move, name: str, busy: dict[str, int], told: str, tries: dict[str, int]
) -> None:
    for upstream, count in busy.items():
        move.upstreams[upstream].play(*[BUSY] * count, fine("Hello from openai!"))
    wanted = name if name.startswith("pc-") else config("configs", name)
    assert move.ask(wanted)[0] == told
    assert move.tries() == {"openai": 0, "openai_b": 0, "together": 0, "own": 0, **tries}


def test_the_program_prints_what_the_guide_shows(move: Move) -> None:
    done = move.run("configs/fallback.json")
    assert done.stdout == "config.targets[0] openai 0\nHello from openai!\n", done.stderr
    refused = move.run("before/fallback.json")
    assert (
        "leave out 'api_key' in config.targets[0], which is the operator's to set" in refused.stderr
    )


def test_a_nested_config_tries_one_key_again_and_then_the_companys_own_model(move: Move) -> None:
    for name in ("openai", "openai_b"):
        move.upstreams[name].play(BUSY)
    assert move.ask(config("configs", "nested"))[0] == "config.targets[1] vllm 0"
    tries = move.tries()
    assert sorted((tries["openai"], tries["openai_b"])) == [0, 3]
    assert tries["own"] == 1
    assert move.upstreams["own"].requests[0].json()["model"] == "company-llama"
