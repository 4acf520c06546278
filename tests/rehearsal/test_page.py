"""What the page on rehearsals shows is what happens."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.app import create_app
from proxy.cli import main
from proxy.config import load
from proxy.rehearsal.cases import As, Expect, Words, Written
from tests.pages import DOCS, blocks

PAGE = DOCS / "rehearsal.md"
KEY = "sk-0123456789abcdef-alice"
_NAME = re.compile(r"# (\S+\.toml)\n")


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the page, where its commands are typed; without any of the secrets they name."""
    monkeypatch.chdir(tmp_path)
    for text in blocks(PAGE, "toml"):
        if match := _NAME.match(text):
            path = Path(match[1])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("https://llm.example.com/v1", "http://127.0.0.1:9/v1"))
    (samples,) = blocks(PAGE, "json")
    Path("samples.jsonl").write_text(samples)
    return tmp_path


def run(command: str) -> Result:
    assert command in "".join(blocks(PAGE, "console"))
    return CliRunner().invoke(main, shlex.split(command)[1:])


def output(beginning: str) -> str:
    return next(text for text in blocks(PAGE, "text") if text.startswith(beginning))


def test_the_cases_of_the_page_pass_under_its_policy(at: Path) -> None:
    result = run("outgate test --config next.toml tests/policy")
    assert (result.exit_code, result.output) == (0, output("3 passed"))


def test_a_failure_looks_as_on_the_page(at: Path) -> None:
    Path("next.toml").write_text(Path("next.toml").read_text().replace('card = "deny"\n', ""))
    result = CliRunner().invoke(main, ["test", "--config", "next.toml", "-k", "card never"])
    assert (result.exit_code, result.output) == (1, output("FAILED"))


def test_the_replay_of_the_page_finds_what_the_page_shows(at: Path) -> None:
    result = run("outgate replay --config next.toml --against outgate.toml samples.jsonl")
    assert (result.exit_code, result.output) == (1, output("id  "))


def test_the_shadow_of_the_page_reports_as_the_page_shows(
    at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setenv("ALICE_KEY", KEY)
    table = next(text for text in blocks(PAGE, "toml") if text.startswith("[shadow]"))
    Path("outgate.toml").write_text(Path("outgate.toml").read_text() + table)
    app = create_app(load("outgate.toml"))
    body = {"model": "m", "messages": [{"role": "user", "content": "5555-5555-5555-4444"}]}
    headers = {"authorization": f"Bearer {KEY}"}
    answer = app.test_client().post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 502  # nobody is there
    assert app.extensions["outgate"].shadow.flush(60)
    app.extensions["outgate"].close()
    shown = CliRunner().invoke(main, ["shadow", "report"]).output
    assert neutral(shown) == neutral(output("calls  live"))


def neutral(text: str) -> list[list[str]]:
    """Words, with times and ids alike for all."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    return [line.split() for line in re.sub(r"req_\w+", "ID", text).splitlines()]


def test_what_a_case_may_say_is_on_the_page() -> None:
    text = PAGE.read_text()
    for struct in (As, Expect, Words, Written):
        for name in struct.__struct_encode_fields__:
            assert f"`{name}`" in text, name
