"""The tour is the first thing a newcomer sees: it is run as a newcomer runs it."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.config import load
from proxy.demo import create_upstream, running
from proxy.demo.tour import Target, configuration
from tests.ports import free_port

DEMO = (sys.executable, "-m", "proxy.cli", "demo")


def _environment(**extra: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "OPENAI_API_KEY"}
    return kept | extra


def _run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, "--bind", f"127.0.0.1:{free_port()}", *arguments],
        env=_environment(**extra),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_the_demo_shows_three_calls_with_what_arrived_and_what_was_recorded() -> None:
    done = _run("--once")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"  status    (\d+)", done.stdout) == ["200", "200", "400"]
    assert done.stdout.count('"outcome": "ok"') == 2
    assert '"outcome": "denied"' in done.stdout
    received = re.findall(r"  upstream  (received .*)", done.stdout)
    assert "The old harbour was quiet until" in received[0]
    assert '"stream":true' in received[1]
    assert received[2].startswith("received nothing of req_")
    assert not any("E-204518" in line for line in received)


def test_the_demo_goes_to_the_upstream_that_is_named_and_finds_its_model() -> None:
    with running(create_upstream()) as base:
        done = _run("--once", "--upstream", f"{base}/v1")
    assert done.returncode == 0, done.stderr
    assert f"upstream  {base}/v1\n" in done.stdout
    assert "only the bundled upstream can tell" in done.stdout
    assert '"model": "demo-instruct"' in done.stdout


def test_an_upstream_that_cannot_be_reached_is_told_in_one_sentence() -> None:
    done = _run("--once", "--upstream", f"http://127.0.0.1:{free_port()}/v1")
    assert done.returncode == 1
    assert "name one with --model" in done.stderr
    assert "Traceback" not in done.stderr


def test_calls_that_fail_make_the_demo_fail() -> None:
    done = _run("--once", "--upstream", f"http://127.0.0.1:{free_port()}/v1", "--model", "m")
    assert done.returncode == 1
    assert "Not as expected: A completion; A streamed completion" in done.stderr


@pytest.mark.skipif(not Path("/usr/bin/curl").exists(), reason="install curl")
def test_the_server_stays_for_the_printed_commands_and_leaves_on_ctrl_c() -> None:
    command = [*DEMO, "--bind", f"127.0.0.1:{free_port()}"]
    with subprocess.Popen(
        command, env=_environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stdout is not None
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if "print(client." in line:
                break
        curls = [shlex.split(line) for line in lines if line.startswith("  curl ")]
        answers = [
            subprocess.run([*curl, "-sS"], capture_output=True, text=True, check=True).stdout
            for curl in curls
        ]
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
    assert demo.returncode == 0
    for word, answer in zip(("cmpl-", "data: [DONE]", "employee-id"), answers, strict=True):
        assert word in answer


def test_a_public_upstream_gets_no_leave_to_be_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "demo.toml"
    path.write_text(configuration(Target("https://api.example.com/v1", "a-key-of-theirs", "m")))
    monkeypatch.setenv("DEMO_KEY", "a-key-of-16-characters")
    monkeypatch.setenv("DEMO_UPSTREAM_KEY", "a-key-of-theirs")
    upstream = load(path).config.upstreams["demo"]
    assert (upstream.base_url, upstream.allow_private) == ("https://api.example.com/v1", False)
