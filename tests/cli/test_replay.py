"""``outgate replay``, as it is typed, with the exit status that CI reads."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.audit import keys
from proxy.cli import main
from proxy.cli.replay import told
from proxy.rehearsal.decision import Decision, denied
from tests.gateway import COMPLETION
from tests.rehearsal.material import HEAD, TICKETS, line
from tests.rehearsal.test_samples import recorded

BODIES = ("Hello", "TICKET-4711", "TICKET-4712 \x1b[2J")


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("outgate.toml").write_text(HEAD)
    Path("next.toml").write_text(HEAD + TICKETS)
    calls = (
        line(endpoint="completions", body={"model": "m\x1b", "prompt": text}, principal="rosa")
        for text in BODIES
    )
    Path("samples.jsonl").write_text("".join(calls))
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["replay", *words])


def test_changes_are_a_table_and_status_1(at: Path) -> None:
    result = run("--config", "next.toml", "samples.jsonl")
    assert result.exit_code == 1
    lines = [" ".join(text.split()) for text in result.output.splitlines()]
    assert lines[0] == "id endpoint principal model differs before after"
    assert lines[1] == (
        r"line 2 completions rosa m\x1b verdict allowed denied by tickets (content_policy_violation)"
    )
    assert lines[-1] == "3 calls judged, 2 change"
    assert "4711" not in result.output


def test_no_change_is_status_0(at: Path) -> None:
    result = run("--config", "next.toml", "--against", "next.toml", "samples.jsonl")
    assert (result.exit_code, result.output) == (0, "3 calls judged, 0 change\n")
    assert run("--config", "next.toml", "--only", "reply", "samples.jsonl").exit_code == 0


def test_json_is_for_programs(at: Path) -> None:
    result = run("--config", "next.toml", "--against", "outgate.toml", "--json", "samples.jsonl")
    found = json.loads(result.output)
    assert (found["judged"], found["changed"]) == (3, 2)
    assert found["calls"][0]["after"] == {
        "verdict": "denied", "by": "tickets", "code": "content_policy_violation",
        "findings": {"ticket deny": 1},
    }  # fmt: skip


def test_a_limit_counts_the_calls_that_are_judged(at: Path) -> None:
    assert (
        "1 calls judged, 0 change"
        in run("--config", "next.toml", "--limit", "1", "samples.jsonl").output
    )


@pytest.mark.parametrize(
    ("words", "told_of"),
    [
        (["--config", "nothing.toml", "samples.jsonl"], "nothing.toml: No such file"),
        (["--config", "next.toml", "nothing.jsonl"], "nothing.jsonl"),
        (["--config", "next.toml", "empty.jsonl"], "empty.jsonl: no call could be judged"),
        (["--config", "next.toml", "next.toml"], "next.toml:2: no JSON"),
        (["--config", "next.toml", "trail"], "give the auditor's --private-key"),
        (["--config", "next.toml", "--private-key", "nothing", "trail"], "nothing"),
        (["samples.jsonl"], "--config"),
        (["--config", "next.toml", "--since", "noon", "samples.jsonl"], "is no time"),
    ],
)  # fmt: skip
def test_what_could_not_be_told_is_status_2(at: Path, words: list[str], told_of: str) -> None:
    Path("empty.jsonl").write_text("")
    Path("trail").mkdir()
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert told_of in result.output


def test_a_trail_is_judged_as_it_was_sent(at: Path) -> None:
    recorded(at, COMPLETION, {**COMPLETION, "prompt": "TICKET-4711"})
    key = str(at / "keys" / keys.SEALING_PRIVATE)
    result = run("--config", "next.toml", "--private-key", key, "--since", "1h", "trail")
    assert result.exit_code == 0, result.output
    assert "1 calls judged, 0 change" in result.output
    assert "1 not judged: nothing was sent, so nothing was kept" in result.output
    Path("strict.toml").write_text(
        HEAD + '[[plugins]]\nuse = "models"\noptions = { default = ["x"] }\n'
    )
    result = run("--config", "strict.toml", "--private-key", key, "trail")
    assert result.exit_code == 1
    assert "denied by models (model_not_allowed)" in result.output


def test_a_plugin_that_is_left_out_is_named(at: Path) -> None:
    Path("next.toml").write_text(HEAD + '[[plugins]]\nuse = "virtual_keys"\n')
    assert "left out: virtual_keys" in run("--config", "next.toml", "samples.jsonl").output


def test_a_decision_is_told_as_far_as_it_matters() -> None:
    allowed = Decision(verdict="allowed", findings={"email mask": 2, "card monitor": 1})
    assert told(denied(None, "x"), ("verdict",)) == "denied by the gateway (x)"
    assert told(allowed, ("verdict",)) == "allowed"
    assert told(allowed, ("findings",)) == "allowed; card monitor, email mask x2"
    assert told(Decision(verdict="allowed"), ("findings",)) == "allowed; nothing found"
    withheld = Decision(verdict="allowed", reply="denied", reply_by="pii", reply_code="x")
    assert told(withheld, ("reply",)) == "allowed; reply withheld by pii (x)"
    assert told(Decision(verdict="allowed", reply="shown"), ("reply",)) == "allowed; reply shown"
