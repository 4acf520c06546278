"""A real PostgreSQL of the tests' own, on a socket and a port of loopback, gone when they are done."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.ports import free_port

PATIENCE: Final = 60.0
_USER: Final = "outgate"


def program(name: str) -> str | None:
    """A program of PostgreSQL, also where Debian puts it."""
    folders = [str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")]
    return shutil.which(name, path=":".join([*folders, os.environ.get("PATH", "")]))


@dataclass
class Server:
    """A database that can be stopped and started."""

    folder: Path
    port: int
    password: str
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{_USER}:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        command = [
            str(program("postgres")), "-D", str(self.folder / "data"), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
            "-c", "fsync=off", "-c", "log_min_messages=panic",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, cwd=self.folder, stderr=subprocess.DEVNULL, **as_nobody()
        )
        deadline = time.monotonic() + PATIENCE
        while not self._listens():
            assert time.monotonic() < deadline, "PostgreSQL does not start"
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
            self._process = None

    def _listens(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def as_nobody() -> dict[str, Any]:
    """PostgreSQL refuses to be root."""
    return {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def running_postgres() -> Iterator[Server]:
    """A fresh database."""
    port = free_port()
    # pytest's own folders are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="outgate-postgres-"))
    try:
        password = "pg-password-0123456789"
        (folder / "password").write_text(password)
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
            shutil.chown(folder / "password", "nobody")
        command = [
            str(program("initdb")), "-D", str(folder / "data"), "-U", _USER, "-A", "scram-sha-256",
            "--pwfile", str(folder / "password"), "-E", "UTF8", "--no-sync",
        ]  # fmt: skip
        subprocess.run(command, cwd=folder, check=True, capture_output=True, **as_nobody())
        server = Server(folder, port, password)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
