"""``outgate test``, as it is typed: the shipped example passes, and a failure says why."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main
from tests.pages import ROOT
from tests.rehearsal.material import HEAD, TICKETS

EXAMPLE = ROOT / "examples" / "policy-tests"
CASES = """
[[case]]
name = "a ticket stays"
text = "TICKET-4711"
expect = { by = "tickets" }

[[case]]
name = "a greeting leaves"
text = "Hello"
expect = { verdict = "denied" }

[[case]]
name = "a reply is withheld"
text = "Hello"
reply = "TICKET-4711 \\u001b[2J"
expect = { reply = "denied" }
"""


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("outgate.toml").write_text(HEAD + TICKETS + '[policy.response]\nticket = "redact"\n')
    Path("tests/policy").mkdir(parents=True)
    Path("tests/policy/tickets.toml").write_text(CASES)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["test", *words])


def test_the_example_passes_without_any_key() -> None:
    result = run("--config", str(EXAMPLE / "outgate.toml"), str(EXAMPLE / "tests"), "-v")
    assert result.exit_code == 0, result.output
    assert "passed, 0 failed" in result.output
    assert "personal-data.toml:3  an address is masked on its way out" in result.output


def test_a_failure_says_what_was_expected_what_was_found_and_who_said_what(at: Path) -> None:
    result = run()
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "FAILED  tests/policy/tickets.toml:7  a greeting leaves",
        "    verdict",
        "      - denied",
        "      + allowed",
        "FAILED  tests/policy/tickets.toml:12  a reply is withheld",
        "    reply",
        "      - denied",
        "      + shown",
        "    tickets: ticket in reply choices[0].message.content, redact",
        "1 passed, 2 failed",
    ]


def test_the_verdicts_of_plugins_are_shown(at: Path) -> None:
    text = Path("outgate.toml").read_text()
    Path("outgate.toml").write_text(
        text + '[[plugins]]\nuse = "models"\noptions = { default = ["x"] }\n'
    )
    assert "    models: guard_request deny (model_not_allowed)" in run().output


def test_some_cases_can_be_chosen(at: Path) -> None:
    assert run("-k", "TICKET stays").output == "1 passed, 0 failed\n"
    result = run("-k", "nothing", "-k", "of it")
    assert result.exit_code == 2
    assert "no case has nothing or of it in its name or file" in result.output


def test_a_report_for_ci_is_written(at: Path) -> None:
    assert run("--junit", "report.xml").exit_code == 1
    suite = ET.parse("report.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    passed, failed, _ = suite
    assert list(passed) == []
    assert (failed.get("classname"), failed.get("line")) == ("tests/policy/tickets.toml", "7")
    assert failed[0].get("message") == "verdict: denied expected, found allowed"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--config", "nothing.toml"], "nothing.toml: No such file"),
        (["nothing"], "nothing"),
        (["outgate.toml"], "outgate.toml: unknown key 'access'"),
        (["--junit", "nowhere/report.xml"], "No such file"),
    ],
)
def test_what_could_not_be_run_is_status_2(at: Path, words: list[str], told: str) -> None:
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert told in result.output


def test_without_a_folder_of_cases_one_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("outgate.toml").write_text(HEAD)
    result = run()
    assert result.exit_code == 2
    assert "there is no folder tests/policy: name files or folders with cases" in result.output


def test_a_long_text_is_cut_and_a_plugin_left_out_is_named(at: Path) -> None:
    Path("outgate.toml").write_text(HEAD + '[[plugins]]\nuse = "virtual_keys"\n')
    Path("long.toml").write_text(
        f'[[case]]\nname = "x"\ntext = "{"y" * 5000}"\nexpect = {{ sent = {{ contains = ["z"] }} }}\n'
    )
    result = run("long.toml")
    assert "yyy...(+" in result.output
    assert "left out: virtual_keys" in result.output
