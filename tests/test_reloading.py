"""A reload takes a good configuration and refuses a broken one, and what is not reloaded does not act."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.stack import PATIENCE, Stack, configuration, running_stack

CONFIG = {"demo": "http://127.0.0.1:9/v1"}


def ready(stack: Stack) -> dict[str, Any]:
    with urllib.request.urlopen(f"{stack.direct}/readyz", timeout=PATIENCE) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def eventually(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def answered(stack: Stack) -> str | None:
    """The digest in force; None between the old workers and the new."""
    try:
        return str(ready(stack)["digest"])
    except OSError:
        return None


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_broken_file_is_refused_on_reload_and_does_not_act_when_a_worker_is_replaced(
    tmp_path: Path,
) -> None:
    good = configuration(CONFIG, tmp_path / "log.jsonl")
    with running_stack(tmp_path, good, front=False) as stack:
        path, log = tmp_path / "outgate.toml", tmp_path / "gunicorn.log"
        first = ready(stack)["digest"]

        path.write_text(good + "\n[limitz]\nbody_bytes = 5\n")
        stack.gunicorn.send_signal(signal.SIGHUP)
        eventually(lambda: "The reload is refused, nothing changes" in log.read_text())
        assert "unknown key 'limitz'" in log.read_text()
        assert ready(stack)["digest"] == first

        (worker,) = children(stack.gunicorn.pid)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: children(stack.gunicorn.pid) not in ([], [worker]))
        eventually(lambda: answered(stack) == first)

        path.write_text(good + "\n[limits]\nbody_bytes = 5000\n")
        stack.gunicorn.send_signal(signal.SIGHUP)
        eventually(lambda: answered(stack) not in (None, first))
    assert "Traceback" not in log.read_text()


def test_the_copy_in_force_is_gone_with_the_service(tmp_path: Path) -> None:
    copies = tmp_path / "temporary"
    copies.mkdir()
    environment = {"ALICE_KEY": "alice-key-0123456789", "DEMO_UPSTREAM_KEY": "up-key-0123456789"}
    config = configuration(CONFIG, tmp_path / "log.jsonl")
    environment["TMPDIR"] = str(copies)
    with running_stack(tmp_path, config, front=False, environment=environment):
        (copy,) = copies.glob("outgate-*/*/outgate.toml")
        assert copy.read_text() == config
        assert copy.parent.stat().st_mode & 0o77 == 0
        assert copy.parent.parent.stat().st_mode & 0o77 == 0
    assert list(copies.glob("outgate-*")) == []
