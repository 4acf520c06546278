import logging
import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from proxy import ConfigError, Unavailable
from proxy.store import Store, StoreTable, schema
from tests.store.servers import PostgreSQL, opened, unprivileged

SUBJECT = {"subject": "test", "number": 0}
NUMBER = sa.select(schema.changes.c.number).where(schema.changes.c.subject == "test")
ADD = (
    schema.changes.update()
    .where(schema.changes.c.subject == "test")
    .values(number=schema.changes.c.number + 1)
)


def number(store: Store) -> Any:
    with store.reading() as connection:
        return connection.execute(NUMBER).scalar()


def add(store: Store) -> None:
    with store.writing() as connection:
        connection.execute(ADD)


@pytest.fixture
def counting(store: Store) -> Store:
    """A store with a number in it that tests count up."""
    with store.writing() as connection:
        connection.execute(schema.changes.insert(), SUBJECT)
    return store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "outgate.db"


@contextmanager
def sqlite(file: Path) -> Iterator[Store]:
    store = opened(f"sqlite:///{file}")
    try:
        yield store
    finally:
        store.close()


def refused(store: Store, caplog: pytest.LogCaptureFixture, *, says: str, write: bool) -> None:
    """The store says one thing to the caller, and the reason once, in one line, to the log."""
    caplog.clear()
    for _ in range(2):
        with pytest.raises(Unavailable) as found, store.writing() if write else store.reading():
            pass
    assert "store" in found.value.message
    assert found.value.retry_after > 0
    lines = [each.getMessage() for each in caplog.records if each.name == "outgate.store"]
    assert len(lines) == 1, lines
    assert says in lines[0]
    assert "\n" not in lines[0]


def then_fail(execute: Callable[[Any], Any], statement: Any) -> None:
    execute(statement)
    raise ZeroDivisionError


def around_a_restart(server: PostgreSQL, execute: Callable[[Any], Any], statement: Any) -> None:
    execute(statement)
    server.restart()
    execute(statement)


# -- transactions --------------------------------------------------------------------------------


def test_what_a_transaction_wrote_is_there_and_what_raised_is_not(counting: Store) -> None:
    add(counting)
    with pytest.raises(ZeroDivisionError), counting.writing() as connection:
        then_fail(connection.execute, ADD)
    assert number(counting) == 1


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_transaction_is_one_as_well(counting: Store, durable: bool) -> None:
    with counting.database.writing(durable=durable) as connection:
        connection.execute(ADD)
    add(counting)
    assert number(counting) == 2


def test_the_drivers_own_connection_commits_and_rolls_back_too(counting: Store) -> None:
    text = "UPDATE outgate_changes SET number = number + 1 WHERE subject = 'test'"
    with counting.database.driver(write=True) as raw:
        raw.execute(text)
    with pytest.raises(ZeroDivisionError), counting.database.driver(write=True) as raw:
        then_fail(raw.execute, text)
    with counting.database.driver(write=False) as raw:
        (found,) = raw.execute(
            "SELECT number FROM outgate_changes WHERE subject = 'test'"
        ).fetchone()
    assert found == 1


def test_a_row_that_is_there_already_is_no_fault_of_the_database(counting: Store) -> None:
    with pytest.raises(IntegrityError), counting.writing() as connection:
        connection.execute(schema.changes.insert(), SUBJECT)
    add(counting)


def test_no_update_of_many_threads_is_lost(counting: Store) -> None:
    def work() -> None:
        for _ in range(20):
            add(counting)

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert number(counting) == 640


def test_a_child_of_the_process_has_connections_of_its_own(counting: Store) -> None:
    add(counting)
    children = [
        multiprocessing.get_context("fork").Process(target=add, args=[counting]) for _ in "12"
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    add(counting)
    assert number(counting) == 4


def test_a_closed_store_opens_again(counting: Store) -> None:
    counting.close()
    counting.close()
    add(counting)
    assert number(counting) == 1


# -- SQLite --------------------------------------------------------------------------------------


def test_only_the_owner_may_read_the_file_and_those_beside_it(file: Path) -> None:
    with sqlite(file) as store:
        store.start()
        with store.writing():
            modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}
    assert set(modes) == {"outgate.db", "outgate.db-wal", "outgate.db-shm"}
    assert set(modes.values()) == {0o600}


def test_a_file_that_is_locked_refuses_writers_and_lets_readers_read(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite(file) as store:
        store.start()
        holder = sqlite3.connect(file, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        refused(store, caplog, says="locked: another process has been writing", write=True)
        with store.reading():
            pass
        store.start()  # it will be free again: no reason not to start
        holder.close()
        with store.writing():
            pass


def test_a_file_that_is_no_database_stops_the_start(file: Path) -> None:
    file.write_bytes(b"This is no database." * 1000)
    with (
        sqlite(file) as store,
        pytest.raises(ConfigError, match=r"not a database.*restore a backup"),
    ):
        store.start()


def test_a_file_that_was_damaged_is_refused_while_serving(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite(file) as store:
        store.start()
    with file.open("r+b") as damaged:
        damaged.seek(100)
        damaged.write(random.Random(1).randbytes(file.stat().st_size - 100))
    with sqlite(file) as store:
        refused(store, caplog, says="malformed: the file is damaged", write=True)
        with pytest.raises(ConfigError, match="damaged"):
            store.start()


def test_a_directory_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with sqlite(tmp_path / "no" / "outgate.db") as store:
        with pytest.raises(ConfigError, match=r"unable to open.*directory must be there"):
            store.start()
        assert not (tmp_path / "no").exists()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users can look into."""
    path = Path(tempfile.mkdtemp(prefix="outgate-"))
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


@contextmanager
def without_rights(directory: Path) -> Iterator[None]:
    """For a moment, nothing in the directory may be written by this process."""
    identity = unprivileged()
    if not identity:
        directory.chmod(0o555)
        (directory / "outgate.db").chmod(0o444)
        yield
        return
    (directory / "outgate.db").chmod(0o644)
    os.seteuid(identity["user"])
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_written_stops_the_start_and_refuses(
    open_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = open_directory / "outgate.db"
    with sqlite(file) as store:
        store.start()
    with without_rights(open_directory), sqlite(file) as store:
        with pytest.raises(ConfigError, match="the user of the gateway"):
            store.start()
        caplog.clear()
        with pytest.raises(Unavailable), store.writing():
            pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_refuses_and_loses_nothing_that_was_written(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite(small_disk / "outgate.db") as store:
        store.start()
        with store.writing() as connection:
            connection.execute(schema.changes.insert(), SUBJECT)
        done = 0
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        try:
            while done < 1000:  # what was allocated already is still used
                add(store)
                done += 1
        except Unavailable:
            pass
        assert done < 1000
        assert "full: make room" in caplog.text
        assert number(store) == done
        ballast.unlink()
        add(store)
        assert number(store) == done + 1


# -- PostgreSQL ----------------------------------------------------------------------------------


def test_a_server_that_restarts_between_two_calls_fails_neither(
    postgresql_server: PostgreSQL, postgresql: str
) -> None:
    store = opened(postgresql)
    store.start()
    with store.writing() as connection:
        connection.execute(schema.changes.insert(), SUBJECT)
    for _ in range(2):
        postgresql_server.restart()
        add(store)
        postgresql_server.restart()
        with store.database.driver(write=True) as raw:
            raw.execute("UPDATE outgate_changes SET number = number + 1 WHERE subject = 'test'")
    assert number(store) == 4
    store.close()


def test_a_server_that_is_down_refuses_until_it_is_up_again(
    postgresql_server: PostgreSQL, postgresql: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(postgresql)
    postgresql_server.stop()
    try:
        with caplog.at_level(logging.ERROR):
            store.start()  # is no reason not to start
            assert "connection failed" in caplog.text
            caplog.clear()
        store = opened(postgresql)
        refused(store, caplog, says="connection failed", write=False)
    finally:
        postgresql_server.start()
    with store.writing() as connection:
        connection.execute(schema.changes.insert(), SUBJECT)
    store.close()


def test_a_connection_that_breaks_in_a_transaction_undoes_it(
    postgresql_server: PostgreSQL, postgresql: str
) -> None:
    store = opened(postgresql)
    store.start()
    with store.writing() as connection:
        connection.execute(schema.changes.insert(), SUBJECT)
    with pytest.raises(Unavailable), store.writing() as connection:
        around_a_restart(postgresql_server, connection.execute, ADD)
    text = "UPDATE outgate_changes SET number = number + 1 WHERE subject = 'test'"
    with pytest.raises(Unavailable), store.database.driver(write=True) as raw:
        around_a_restart(postgresql_server, raw.execute, text)
    assert number(store) == 0
    store.close()


def test_a_transaction_waits_for_a_lock_only_so_long(postgresql: str) -> None:
    store = opened(postgresql)
    store.start()
    with store.writing() as connection:
        connection.execute(schema.changes.insert(), SUBJECT)
    with psycopg.connect(postgresql) as other:
        other.execute("LOCK TABLE outgate_changes")
        with pytest.raises(Unavailable):
            add(store)
    add(store)
    assert number(store) == 1
    store.close()


def test_a_password_is_not_in_what_is_said(
    postgresql_server: PostgreSQL,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = f"127.0.0.1:{postgresql_server.port}/none"
    monkeypatch.setenv("TEST_URL", f"postgresql://nobody:hunter2-hunter2@{address}")
    store = Store(StoreTable(url={"env": "TEST_URL"}))
    refused(store, caplog, says=f"nobody:***@{address}", write=False)
    assert "hunter2" not in caplog.text
    assert "hunter2" not in repr(store.table)
