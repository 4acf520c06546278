"""``outgate shadow report``, as it is typed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main
from proxy.rehearsal.report import line_of
from tests.rehearsal.test_report import found


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shadow = '[upstreams.x]\ncredential = { env = "NOT_HERE" }\n[shadow]\nconfig = "next.toml"\n'
    Path("outgate.toml").write_text(shadow)
    lines = [line_of(found(number)) for number in range(30)]
    Path("outgate-shadow.jsonl").write_bytes(b"".join(lines) + b"cut")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["shadow", "report", *words])


def test_disagreements_are_counted_by_kind_and_the_last_are_listed(at: Path) -> None:
    result = run("-n", "2")
    assert result.exit_code == 1
    lines = [" ".join(text.split()) for text in result.output.splitlines()]
    assert lines[1] == "30 allowed denied by pii (content_policy_violation)"
    assert lines[4].startswith(r"2026-08-01 12:00:00 req_28 alice\x1b[2J\x7f m verdict allowed")
    assert lines[-2:] == ["30 disagreements", "1 lines cannot be read"]


def test_json_is_for_programs(at: Path) -> None:
    found_in = json.loads(run("--json", "-n", "0").output)
    assert (found_in["disagreements"], found_in["unreadable"], found_in["calls"]) == (30, 1, [])
    assert found_in["kinds"][0]["calls"] == 30


def test_no_disagreement_is_status_0(at: Path) -> None:
    Path("other.jsonl").write_text("")
    result = run("--report", "other.jsonl")
    assert (result.exit_code, result.output) == (0, "0 disagreements\n")
    Path("outgate-shadow.jsonl").write_bytes(line_of(found()))
    assert run("--since", "2026-08-02").exit_code == 0


def test_where_there_is_no_list_the_way_out_is_told(at: Path) -> None:
    Path("outgate.toml").write_text("")
    result = run()
    assert result.exit_code == 2
    assert 'outgate.toml: there is no [shadow]. Add it with config = "next.toml"' in result.output
    assert "nothing: No such file" in run("--report", "nothing").output
