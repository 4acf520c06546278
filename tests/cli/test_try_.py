"""``outgate try``: every plugin's verdict, what would leave and what would be shown, with no effect at all."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy import Call, Deny, Record, Reply, hookimpl
from proxy.cli import main

CONFIG = """
[upstreams.main]
provider = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"
allow_private = true
[upstreams.other]
provider = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"
allow_private = true
[[routes]]
models = ["other-*"]
upstreams = ["other"]
[[routes]]
models = ["test-*", "m"]
upstreams = ["main"]
[[plugins]]
use = "openai_compatible"
[[plugins]]
use = "static_keys"
[plugins.options]
keys = [{ name = "alice", key = { env = "KEY_OF_ALICE" } }]
[[plugins]]
use = "tests.cli.test_try_:Word"
name = "word"
[[plugins]]
use = "tests.cli.test_try_:Watched"
name = "watched"
mode = "monitor"
[[plugins]]
use = "tests.cli.test_try_:Support"
name = "support"
when = { groups = ["support"] }
[[plugins]]
use = "regex_guard"
[plugins.options.patterns]
ticket = 'TICKET-[0-9]{4,8}'
phrase = 'very secret'
[[plugins]]
use = "tests.cli.test_try_:Keeps"
name = "keeps"
required = true
[policy.request]
ticket = "mask"
[policy.response]
phrase = "redact"
ticket = "redact"
"""
KEPT: list[Any] = []


@dataclass(frozen=True)
class Word:
    @hookimpl
    def guard_request(self, call: Call) -> Deny | None:
        found = any("forbidden" in text.value for text in call.texts())
        return Deny("Do not say that.", "said", status=451) if found else None


@dataclass(frozen=True)
class Watched:
    @hookimpl
    def guard_request(self) -> Deny:
        return Deny("Always.", "always")


@dataclass(frozen=True)
class Support:
    @hookimpl
    def rewrite_request(self, call: Call) -> Call:
        return call.with_body(user=call.principal.name)

    @hookimpl
    def rewrite_response(self, reply: Reply) -> Reply:
        return reply.replace(notes={"seen": True})


@dataclass(frozen=True)
class Keeps:
    @hookimpl
    def admit(self, call: Call) -> None:
        KEPT.append(call.id)

    @hookimpl
    def log_exchange(self, record: Record) -> None:
        KEPT.append(record.id)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEY_OF_ALICE", "key-of-alice-0123456789")
    (tmp_path / "outgate.toml").write_text(CONFIG)
    return tmp_path


def run(*words: str, **options: Any) -> Result:
    return CliRunner().invoke(main, ["try", *words], **options)


def told(*words: str) -> dict[str, Any]:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def verdicts(found: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str]]:
    return {(r["plugin"], r["hook"]): (r["verdict"], r["why"]) for r in found["plugins"]}


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
@pytest.mark.parametrize("stream", [(), ("--stream",)])
def test_what_is_masked_leaves_masked_and_is_shown_again(
    folder: Path, endpoint: str, stream: tuple[str, ...]
) -> None:
    found = told("Is TICKET-1234 done?", "--endpoint", endpoint, *stream)
    assert "TICKET-1234" not in json.dumps(found["left"])
    assert "TICKET_1_" in json.dumps(found["left"])
    assert found["shown"] == "Is TICKET-1234 done?"
    assert found["refused"] is None
    assert found["upstream"] == "main"
    assert ("ticket", "mask") in {(row["kind"], row["action"]) for row in found["findings"]}
    assert verdicts(found)["regex_guard", "detectors"] == ("found", "ticket mask")


def test_each_plugin_says_what_it_did_and_why(folder: Path) -> None:
    found = told("hello", "--as", "bob")
    assert found["caller"] == "bob"
    assert verdicts(found) == {
        ("static_keys", "identify"): ("not asked", "the caller is named by --as"),
        ("word", "guard_request"): ("pass", ""),
        ("watched", "guard_request"): ("monitor:deny", "always"),
        ("support", "rewrite_request"): ("not asked", "it does not concern this call"),
        ("support", "rewrite_response"): ("not asked", "it does not concern this call"),
        ("regex_guard", "detectors"): ("nothing found", ""),
        ("keeps", "admit"): ("not asked", "it would keep something of this call"),
        ("keeps", "log_exchange"): ("not asked", "it would keep something of this call"),
    }


def test_groups_and_models_decide_who_is_asked_and_where_it_goes(folder: Path) -> None:
    found = told("hello", "--as", "bob", "--group", "support", "--model", "other-1")
    assert found["left"] == {"model": "other-1", "prompt": "hello", "user": "bob"}
    assert found["upstream"] == "other"
    assert verdicts(found)["support", "rewrite_request"][0] == "rewrite"
    assert told("hello", "--model", "unknown")["upstream"] is None
    assert "no upstream: no route fits" in run("hello", "--model", "unknown").output


def test_a_refusal_says_by_whom_and_nothing_leaves(folder: Path) -> None:
    found = told("a forbidden TICKET-1234")
    assert found["left"] is None
    assert found["refused"] == {
        "status": 451, "code": "said", "message": "Do not say that.", "by": "word",
    }  # fmt: skip
    assert verdicts(found)["word", "guard_request"] == ("deny", "Do not say that.")
    assert found["shown"] == "a forbidden [TICKET]"  # what a reply with this text would become
    denied = told("very secret")
    assert denied["refused"]["by"] == "regex_guard"
    assert verdicts(denied)["regex_guard", "detectors"] == ("found", "phrase deny")


def test_a_reply_that_is_withheld_is_told(folder: Path) -> None:
    path = folder / "outgate.toml"
    path.write_text(CONFIG.replace('phrase = "redact"', 'phrase = "deny"'))
    found = told("very secret")
    assert found["shown"] is None
    assert found["withheld"] == "The reply was withheld by policy: it held phrase."
    assert "it held phrase" in run("very secret").output


def test_nothing_is_kept(folder: Path) -> None:
    KEPT.clear()
    run("hello")
    run("forbidden")
    assert KEPT == []


def test_for_people_it_is_told_in_sections(folder: Path) -> None:
    output = run("Is TICKET-1234 done?").output
    assert "completions, model test-model, as tester" in output
    assert "What would leave, to main" in output
    assert "Is TICKET-1234 done?" in output.split("if the upstream said what it was sent")[1]
    refused = run("forbidden", "--group", "a", "--group", "b").output
    assert "as tester of a, b" in refused
    assert "Refused by word\n  451 said: Do not say that." in refused
    assert "if the upstream said this text\n  forbidden" in refused


def test_a_text_may_come_from_standard_input(folder: Path) -> None:
    result = run("-", "--json", input="from a pipe\n")
    assert json.loads(result.stdout)["left"]["prompt"] == "from a pipe\n"


def test_embeddings_have_no_text_to_show(folder: Path) -> None:
    found = told("TICKET-1234", "--endpoint", "embeddings")
    assert found["left"]["input"].startswith("<TICKET_1_")
    assert found["shown"] is None
    assert told("forbidden", "--endpoint", "embeddings")["shown"] is None
    wrong = run("x", "--endpoint", "embeddings", "--stream")
    assert wrong.exit_code == 2
    assert "leave out --stream" in wrong.output


def test_a_mistake_in_the_configuration_is_one_sentence(folder: Path) -> None:
    (folder / "outgate.toml").write_text(CONFIG.replace("provider =", "provder ="))
    result = run("hello")
    assert result.exit_code == 1
    assert result.output.startswith("Error: outgate.toml: upstreams.main: unknown key 'provder'")


def test_trace_leaves_a_line_for_each_hook_and_no_content(folder: Path) -> None:
    command = [str(Path(sys.executable).with_name("outgate")), "try", "Is TICKET-1234 done?"]
    environment = {**os.environ, "OUTGATE_TRACE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    traced = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in traced.stderr.splitlines()]
    assert [(line[1], line[2], *line[4:]) for line in lines][:4] == [
        ("identify", "try", "ms", "principal"),
        ("guard_request", "word", "ms", "nothing"),
        ("guard_request", "watched", "ms", "deny"),
        ("detectors", "policy", "ms", "searched"),
    ]
    assert all(float(line[3]) >= 0 for line in lines)
    assert lines[0][0].startswith("req_")
    assert "TICKET" not in traced.stderr
    environment["OUTGATE_TRACE"] = "0"
    silent = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    assert silent.stderr == ""
