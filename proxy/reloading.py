"""Keeps the configuration that serves: a reload with a broken file is refused and changes nothing."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from proxy.config import CONFIG_VARIABLE, DEFAULT_CONFIG, IN_USE_VARIABLE, RUN_VARIABLE
from proxy.rehearsal.beside import keep_beside

_PATIENCE: Final = 60.0


def install(server: Any) -> None:
    """Have workers read a copy of the configuration, which only a reload that passes the check renews.

    ``server`` is gunicorn's arbiter. Without the copy a worker that dies after the file was edited
    would be replaced by one with another configuration, or by none. A second main process, started by
    an upgrade, keeps its own copy in the directory of the first.
    """
    asked = Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)
    if not (server.master_pid and os.path.isdir(os.environ.get(RUN_VARIABLE, ""))):  # noqa: PTH112
        os.environ[RUN_VARIABLE] = tempfile.mkdtemp(prefix="outgate-")
    copy = Path(os.environ[RUN_VARIABLE], str(os.getpid()), "outgate.toml")
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    _keep(asked, copy)
    reload = server.handle_hup

    def handle_hup() -> None:
        if fault := _fault(asked):
            server.log.error("The reload is refused, nothing changes: %s", fault)
            return
        _keep(asked, copy)
        reload()

    server.handle_hup = handle_hup


def remove(*, alone: bool) -> None:
    """Remove the copy when the main process ends, and what workers put beside it when no other is left."""
    os.environ.pop(IN_USE_VARIABLE, None)
    if directory := os.environ.pop(RUN_VARIABLE, ""):
        own = Path(directory, str(os.getpid()))
        shutil.rmtree(directory if alone else own, ignore_errors=True)


def _keep(asked: Path, copy: Path) -> None:
    """Copy the file, and a shadow's beside it; what cannot be read is left to the worker to complain about."""
    try:
        copy.write_bytes(asked.read_bytes())
    except OSError:
        os.environ.pop(IN_USE_VARIABLE, None)
    else:
        os.environ[IN_USE_VARIABLE] = str(copy)
        keep_beside(asked, copy)


def _fault(asked: Path) -> str:
    """What ``outgate check`` says against the file, in a process that loads everything anew; empty if nothing."""
    command = [sys.executable, "-m", "proxy.cli", "check", "--config", str(asked)]
    # What is asked for is checked, not the copies that are in force.
    environment = {name: text for name, text in os.environ.items() if name != IN_USE_VARIABLE}
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and command
            command,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the check did not run: {type(error).__name__}"
    return done.stderr.strip() or "the check failed" if done.returncode else ""
