"""The commands: what they print, how they end, and that a served gateway really serves."""

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy import hookimpl, manual
from proxy.cli import main
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
PATIENCE = 60.0
GOOD = """
[access]
anonymous = "guest"
[upstreams.main]
provider = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"
allow_private = true
credential = { env = "SOME_CREDENTIAL" }
timeouts = { total = 30 }
[[routes]]
models = ["gpt-*"]
upstreams = ["main"]
[[plugins]]
use = "openai_compatible"
[[plugins]]
use = "regex_guard"
mode = "monitor"
when = { groups = ["support"] }
[plugins.options.patterns]
ticket = 'T-[0-9]{1,9}'
[[plugins]]
use = "log_jsonl"
required = true
"""
CREDENTIAL = "sk-credential-0123456789"


@dataclass(frozen=True)
class Hooked:
    token: str = ""
    nested: dict[str, Any] = field(default_factory=dict)

    @hookimpl
    def guard_request(self) -> None: ...


@dataclass(frozen=True)
class Broken:
    @hookimpl
    def init_app(self) -> None:
        raise RuntimeError("no")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def config(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOME_CREDENTIAL", CREDENTIAL)
    path = folder / "outgate.toml"
    path.write_text(GOOD)
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def outgate(
    *arguments: str, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    return subprocess.run(
        [Path(sys.executable).with_name(arguments[0]), *arguments[1:]],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


# -- check and plugins ----------------------------------------------------------------------------


def test_check_prints_what_a_configuration_comes_to_and_no_secret(config: Path) -> None:
    result = run("check", "--config", str(config))
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "detect ticket regex_guard groups support monitor deny" in lines
    assert "log_exchange log_jsonl always enforce gates calls" in lines
    assert "gpt-* * always fallback main" in lines
    assert "upstreams.main.timeouts.total 30.0 " + str(config) in lines
    assert "upstreams.main.timeouts.idle 60.0 default" in lines
    assert "upstreams.main.credential Secret(***) env SOME_CREDENTIAL" in lines
    assert lines[-1].startswith(f"{config}: ok, digest ")
    assert CREDENTIAL not in result.output


def test_check_shows_scopes_modes_and_caller_keys(config: Path) -> None:
    config.write_text(
        GOOD.replace('provider = "openai_c', 'pass_caller_credential = true\nprovider = "openai_c')
        + """
[[plugins]]
use = "models"
on_error = "allow"
when = { principals = ["a", "b"], endpoints = ["chat", "models"] }
[plugins.options]
default = ["*"]
[[plugins]]
use = "tests.test_cli:Hooked"
name = "hooked"
options = { token = "hunter22", nested = { password = ["hunter22"], url = "https://x" } }
"""
    )
    result = run("check")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "guard_request models principals a|b and endpoints chat|models enforce allow" in lines
    assert any("and only models" in line for line in lines)
    assert any("env SOME_CREDENTIAL, or the caller's own" in line for line in lines)
    assert "plugins[4].options.token (not shown) outgate.toml" in lines
    assert "hunter22" not in result.output
    assert "https://x" in result.output


def test_check_tells_a_mistake_in_one_sentence_with_status_1(config: Path) -> None:
    config.write_text(GOOD.replace("provider =", "provder ="))
    result = run("check")
    assert result.exit_code == 1
    assert result.output.startswith(
        "Error: outgate.toml: upstreams.main: unknown key 'provder' = 'openai_compatible'."
    )
    assert len(result.output.splitlines()) == 1


def test_check_shows_rules_for_some_calls_and_thresholds(config: Path) -> None:
    config.write_text(
        GOOD.replace('mode = "monitor"\n', "")
        + """
[policy.request]
ticket = { action = "deny", at_least = 5, otherwise = "mask" }
[[policy.rules]]
when = { groups = ["a", "b"], models = ["m-*"] }
request = { ticket = "redact" }
[policy.conversation]
header = "x-session"
key = { env = "SOME_CREDENTIAL" }
"""
    )
    result = run("check")
    assert result.exit_code == 0, result.output
    assert "request deny if at least 5, else mask, response allow" in result.output
    assert re.search(r"groups a\|b and models m-\* +ticket redact +-\n", result.output)
    assert re.search(r"policy.conversation.key +\S+ +env SOME_CREDENTIAL", result.output)
    config.write_text(GOOD)
    assert "Policy for some calls" not in run("check").output


def test_check_runs_what_serving_runs_init_app_and_addresses_too(config: Path) -> None:
    config.write_text(GOOD + '[[plugins]]\nuse = "tests.test_cli:Broken"\nname = "broken"\n')
    assert "plugin 'broken': init_app failed: RuntimeError: no." in run("check").output
    config.write_text(GOOD.replace("allow_private = true", ""))
    assert run("check").exit_code == 1


def test_plugins_lists_what_is_loaded_and_what_is_only_installed(config: Path) -> None:
    result = run("plugins", "--config", str(config))
    assert result.exit_code == 0
    loaded, idle = result.output.split("Installed, but not listed, so not loaded")
    assert "regex_guard" in loaded
    assert "detectors" in loaded
    assert "outgate (plugins.regex_guard:RegexGuard)" in loaded
    assert "portkey" in idle
    assert "regex_guard" not in idle


# -- the rest -------------------------------------------------------------------------------------


def test_every_command_has_help_with_an_example() -> None:
    assert "outgate demo" in run("--help").output
    for name in main.commands:
        result = run(name, "--help")
        assert result.exit_code == 0
        assert "Example:" in result.output, name
        assert f"outgate {name}" in result.output


def test_the_version_is_that_of_the_distribution() -> None:
    assert run("version").output == f"{version('outgate')}\n"
    assert version("outgate") in run("--version").output


def test_docs_lists_pages_and_prints_one() -> None:
    listed = run("docs")
    assert listed.exit_code == 0
    assert "configuration" in listed.output
    assert "[[plugins]]" in run("docs", "configuration").output
    missing = run("docs", "nothing")
    assert missing.exit_code == 1
    assert "no page 'nothing'." in missing.output
    assert "There are: tutorial, " in missing.output


def test_docs_are_listed_in_groups_and_answer_misspelt_names_with_the_nearest() -> None:
    listed = run("docs").output.splitlines()
    assert listed[0] == "Learn"
    assert [line for line in listed if line in manual.GROUPS] == list(manual.GROUPS)
    assert "Did you mean 'routing'?" in run("docs", "rooting").output
    assert run("docs", "Routing.md").output == run("docs", "routing").output


def test_docs_print_a_section_and_a_map_for_language_models() -> None:
    section = run("docs", "routing#circuit-breakers").output
    assert section.startswith("## Circuit breakers\n")
    assert "## What is told" not in section
    assert "Did you mean 'circuit-breakers'?" in run("docs", "routing#circuit-braker").output
    assert run("docs", "llms.txt").output == manual.map_of_pages()


def test_docs_search_lists_the_sections_with_all_the_words() -> None:
    found = run("docs", "--search", "circuit breakers").output.splitlines()
    assert found[0].split() == ["routing#circuit-breakers", "Circuit", "breakers"]
    assert "more: add a word" in run("docs", "--search", "the").output
    missing = run("docs", "--search", "brakers")
    assert missing.exit_code == 1
    assert "Did you mean" in missing.output


@pytest.mark.parametrize("bind", ["8000", "host:", ":80", "h:65536", "h:²", "h:-1", "h:x"])
def test_an_address_to_bind_that_is_none_is_refused(bind: str) -> None:
    result = run("demo-upstream", "--bind", bind)
    assert result.exit_code == 2
    assert "is not HOST:PORT, e.g. 127.0.0.1:8000" in result.output


@pytest.mark.parametrize(
    ("provider", "variable"),
    [("openai", "OPENAI_API_KEY"), ("openai_compatible", "UPSTREAM_API_KEY")],
)
def test_init_writes_what_check_accepts(folder: Path, provider: str, variable: str) -> None:
    result = run("init", "--provider", provider)
    assert result.exit_code == 0
    assert f"export {variable}=…" in result.output
    (key,) = [word for word in result.output.split() if word.startswith("og-")]
    assert key not in (folder / "outgate.toml").read_text()
    again = run("init", "--provider", provider)
    assert again.exit_code == 1
    assert "outgate.toml: File exists. Choose another --output." in again.output
    without = outgate("outgate", "check", folder=folder)
    assert without.returncode == 1
    assert f"the environment variable '{variable}' is not set" in without.stderr
    checked = outgate("outgate", "check", folder=folder, environment={variable: "sk-0123456789"})
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "outgate.toml: ok, digest " in checked.stdout


# -- serving --------------------------------------------------------------------------------------


def readiness(port: int) -> int:
    """The status of ``/readyz``, or 0 while nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@contextmanager
def serving(*command: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [Path(sys.executable).with_name(command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, "SOME_CREDENTIAL": CREDENTIAL, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until_ready(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while readiness(port) != 200:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_serve_answers_and_ends_when_it_is_told_to(config: Path, folder: Path) -> None:
    port = free_port()
    bind = f"127.0.0.1:{port}"
    command = ("outgate", "serve", "--bind", bind, "--workers", "1", "--threads", "20")
    with serving(*command, folder=folder) as process:
        until_ready(process, port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_a_bare_gunicorn_in_the_root_takes_the_settings_of_the_project(config: Path) -> None:
    port = free_port()
    environment = {
        "OUTGATE_CONFIG": str(config),
        "OUTGATE_BIND": f"127.0.0.1:{port}",
        "OUTGATE_WORKERS": "1",
        "OUTGATE_THREADS": "20",
    }
    with serving("gunicorn", folder=ROOT, **environment) as process:
        until_ready(process, port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("command", [("outgate", "serve"), ("gunicorn", "wsgi:app")])
def test_a_wrong_configuration_ends_the_server_with_a_sentence(
    config: Path, command: tuple[str, ...]
) -> None:
    config.write_text(GOOD.replace("provider =", "provder ="))
    bind = f"127.0.0.1:{free_port()}"
    environment = {"OUTGATE_CONFIG": str(config), "OUTGATE_BIND": bind, "OUTGATE_WORKERS": "1"}
    ended = outgate(*command, folder=ROOT, environment=environment)
    assert ended.returncode != 0
    output = ended.stdout + ended.stderr
    assert output.count("unknown key 'provder' = 'openai_compatible'") == 1
    assert "Traceback" not in output
    assert output.count("Booting worker") <= 1


def test_flask_finds_the_application_and_shows_every_route(config: Path) -> None:
    environment = {"OUTGATE_CONFIG": str(config), "SOME_CREDENTIAL": CREDENTIAL}
    shown = outgate("flask", "--app", "wsgi", "routes", folder=ROOT, environment=environment)
    assert shown.returncode == 0, shown.stderr
    for path in ("/v1/completions", "/chat/completions", "/v1/models/<path:model>", "/readyz"):
        assert path in shown.stdout
