"""The shadow's file is kept for the workers as the main one is: an edit acts when it was checked, not before."""

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.config import load
from proxy.rehearsal.beside import announced, keep_beside, loaded_beside, shadow_of
from tests.e2e.stack import configuration, running_stack
from tests.rehearsal.material import HEAD, TICKETS
from tests.test_reloading import CONFIG, answered, children, eventually, ready

SHADOW = '\n[shadow]\nconfig = "next.toml"\n'
BROKEN = '\n[[plugins]]\nuse = "regex_gard"\n'


def test_an_edited_shadow_acts_after_a_reload_and_a_broken_one_never(tmp_path: Path) -> None:
    good = configuration(CONFIG, tmp_path / "log.jsonl")
    following = tmp_path / "next.toml"
    following.write_text(good)
    text = f'{good}{SHADOW}report = "{tmp_path}/shadow.jsonl"\n'
    with running_stack(tmp_path, text, front=False) as stack:
        log = tmp_path / "gunicorn.log"
        first = ready(stack)["digest"]

        following.write_text(good + BROKEN)
        stack.gunicorn.send_signal(signal.SIGHUP)
        eventually(lambda: "The reload is refused, nothing changes" in log.read_text())
        assert "next.toml: plugin 'regex_gard' is not installed" in log.read_text()

        (worker,) = children(stack.gunicorn.pid)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: children(stack.gunicorn.pid) not in ([], [worker]))
        eventually(lambda: answered(stack) == first)

        following.write_text(good + TICKETS)
        shadows = log.read_text().count("judges live calls without effect")
        stack.gunicorn.send_signal(signal.SIGHUP)
        eventually(lambda: log.read_text().count("judges live calls without effect") > shadows)
    assert "Traceback" not in log.read_text()


def test_check_checks_the_shadow_too_and_shows_its_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("outgate.toml").write_text(HEAD + SHADOW)
    Path("next.toml").write_text(HEAD + TICKETS)
    result = CliRunner().invoke(main, ["check"])
    assert result.exit_code == 0, result.output
    assert "Shadow next.toml: judged on live calls without effect" in result.output
    assert "detect ticket" in result.output
    assert "shadow.share" in result.output
    assert "note: shadow next.toml" in result.output
    # A plugin that no rehearsal runs is checked as well: tomorrow it serves.
    log = '\n[[plugins]]\nuse = "log_jsonl"\noptions = { path = "/nonexistent/x" }\n'
    Path("next.toml").write_text(HEAD + log)
    result = CliRunner().invoke(main, ["check"])
    assert result.exit_code == 1
    assert "next.toml: plugin 'log_jsonl'" in result.output


def test_what_a_shadow_leaves_out_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "outgate.toml").write_text(HEAD + SHADOW)
    store = '[[plugins]]\nuse = "virtual_keys"\n[store]\npepper = { file = "pepper" }\n'
    pepper = tmp_path / "pepper"
    pepper.write_text("0123456789abcdef" * 4)
    (tmp_path / "next.toml").write_text(HEAD + store.replace('"pepper"', f'"{pepper}"'))
    lines = announced(shadow_of(load(tmp_path / "outgate.toml")))
    assert "judges live calls without effect" in lines[0]
    assert lines[1] == "shadow leaves out virtual_keys: what they decide stands in the store"
    assert announced(None) == []


def test_without_a_shadow_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "outgate.toml"
    path.write_text(HEAD)
    assert loaded_beside(load(path)) is None
    assert shadow_of(load(path)) is None


@pytest.mark.parametrize(
    "text", ["", "shadow = 5\n", "= broken", '[shadow]\nconfig = "nothing.toml"\n']
)
def test_what_cannot_be_kept_is_left_to_the_check(tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    asked, copy = tmp_path / "outgate.toml", tmp_path / "run" / "outgate.toml"
    copy.write_text(text)
    kept = copy.with_name("shadow.toml")
    kept.write_text("of the time before")
    keep_beside(asked, copy)
    assert not kept.exists()
