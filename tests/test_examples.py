"""The examples work as they are."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from proxy.cli import main

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
CONFIGURATIONS: Final = sorted([*EXAMPLES.glob("[!.]*.toml"), *EXAMPLES.glob("*/outgate.toml")])
_NAMES: Final = re.compile(r'env = "(\w+)"')


def named(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in CONFIGURATIONS:
        for name in _NAMES.findall(path.read_text()):
            secret = f"sk-0123456789abcdef-{name}"
            proxied = name == "OUTBOUND_PROXY"
            monkeypatch.setenv(name, f"http://u:{secret}@localhost:1" if proxied else secret)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=named)
def test_an_example_configuration_is_accepted(
    path: Path, environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a store is made where the gateway runs
    result = CliRunner().invoke(main, ["check", "--config", str(path)])
    assert result.exit_code == 0, result.output
    assert f"{path}: ok" in result.output


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=named)
def test_an_example_says_which_variables_it_needs(path: Path) -> None:
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    if path.name != "demo.toml":  # the demo sets its own
        assert all(f"{name}=" in "".join(comments) for name in _NAMES.findall(path.read_text()))


def test_the_example_plugin_is_loaded_by_its_name(
    tmp_path: Path, environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    importlib.invalidate_caches()
    path = tmp_path / "outgate.toml"
    text = (EXAMPLES / "openai.toml").read_text()
    path.write_text(text + '\n[[plugins]]\nuse = "guard:"\n')
    result = CliRunner().invoke(main, ["check", "--config", str(path)])
    assert re.search(r"guard_request +guard: ", result.output), result.output


def test_the_test_of_the_example_plugin_passes() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    done = subprocess.run(
        [*command, "--rootdir", ".", "test_guard.py"],
        cwd=EXAMPLES, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_the_demo_of_budgets_ends_with_one_team_dry_and_the_other_at_work() -> None:
    done = subprocess.run(
        [sys.executable, "demo.py"],
        cwd=EXAMPLES / "budgets", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"of support: 429\n  The budget 'support-month' of the team", done.stdout)
    assert "research goes on: 200" in done.stdout
    assert re.search(r"^support +demo-instruct +5 +1 ", done.stdout, re.MULTILINE), done.stdout
