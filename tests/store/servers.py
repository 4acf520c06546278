"""Real PostgreSQL and Redis servers on loopback, one of each for a session, and a fresh database for each test.

A test asks for ``store_url`` (SQLite and PostgreSQL, one after the other), ``postgresql`` or ``redis_url``.
As root the servers run as another user, because PostgreSQL refuses to run as root.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import redis

from proxy import Secret
from proxy.store import Store, StoreTable
from tests.ports import free_port

PEPPER: Final = "pepper-0123456789-0123456789-0123456789"
_PATIENCE: Final = 60.0
_stores: Final[list[Store]] = []


def unprivileged() -> dict[str, Any]:
    """For ``subprocess``: another user, if this one is root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Server:
    """A server process with a directory of its own, which can be ended, killed and started again."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="outgate-"))
        self.identity = unprivileged()
        if self.identity:
            os.chown(self.directory, self.identity["user"], self.identity["group"])
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        log = (self.directory / "log").open("ab")
        with log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.directory, **self.identity,
            )  # fmt: skip
        deadline = time.monotonic() + _PATIENCE
        while not self.answers():
            ended = self.process.poll() is not None or time.monotonic() > deadline
            assert not ended, (self.directory / "log").read_text()
            time.sleep(0.02)

    def stop(self, with_signal: int = signal.SIGINT) -> None:
        """End it: SIGINT tells PostgreSQL not to wait for its clients."""
        if self.process is not None:
            self.process.send_signal(with_signal)
            self.process.wait(_PATIENCE)
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class PostgreSQL(Server):
    """One cluster; ``emptied()`` gives the database of a test."""

    def __init__(self, binaries: Path) -> None:
        super().__init__()
        self._binaries = binaries
        subprocess.run(
            [binaries / "initdb", "-D", self.directory / "data", "-U", "postgres", "-A", "trust",
             "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True, capture_output=True, cwd=self.directory, **self.identity,
        )  # fmt: skip

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.directory),
            "port": self.port,
            "fsync": "off",
            "max_connections": 200,
        }
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self.directory / "data"), *given]

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def emptied(self) -> str:
        """The URL of an empty database; whoever still speaks to it is cut off. Quicker than a new one."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if not connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = 'test'"
            ).fetchone():
                connection.execute("CREATE DATABASE test")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'test'"
            )
        with psycopg.connect(self.url("test"), autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return self.url("test")


class Redis(Server):
    """One server without persistence."""

    def command(self) -> list[str]:
        words = f"--port {self.port} --bind 127.0.0.1 --appendonly no --daemonize no".split()
        return [str(_found("redis-server")), *words, "--save", "", "--dir", str(self.directory)]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def empty(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


def _found(name: str) -> Path | None:
    """The newest of the programs of that name; Debian keeps those of PostgreSQL outside of PATH."""
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    kept = sorted(versions, key=lambda path: float(path.parts[-3]))
    if found := shutil.which(name):
        kept.append(Path(found))
    return kept[-1] if kept else None


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    """A running PostgreSQL; a test that ends it starts it again."""
    program = _found("postgres")
    if program is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    server = PostgreSQL(program.resolve().parent)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A running Redis; a test that ends it starts it again."""
    if _found("redis-server") is None:
        pytest.skip("Redis is not installed: apt-get install redis-server")
    server = Redis()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgresql(postgresql_server: PostgreSQL) -> Iterator[str]:
    """The URL of an empty database."""
    yield postgresql_server.emptied()
    close_all()


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """The URL of an empty Redis."""
    redis_server.empty()
    return redis_server.url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, of every kind in turn."""
    if request.param == "postgresql":
        yield str(request.getfixturevalue("postgresql"))
    else:
        yield f"sqlite:///{tmp_path / 'outgate.db'}"
    close_all()


@pytest.fixture
def store(store_url: str) -> Store:
    """An open, empty store, of every kind in turn."""
    found = opened(store_url)
    found.start()
    return found


def opened(url: str, pepper: str = PEPPER) -> Store:
    """A store as a process of its own would have it; closed when the test is over."""
    _stores.append(Store(StoreTable(url=url, pepper=Secret(pepper))))
    return _stores[-1]


def close_all() -> None:
    """Close every store that ``opened`` gave."""
    while _stores:
        _stores.pop().close()
