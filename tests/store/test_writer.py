import sqlite3
import threading
import time
from pathlib import Path

import pytest

from proxy import Unavailable
from proxy.store import Store
from proxy.store.writer import begin
from tests.store.servers import opened

INSERT = "INSERT INTO outgate_changes (subject, number) VALUES ('test', 0)"
ADD = "UPDATE outgate_changes SET number = number + 1 WHERE subject = 'test'"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "outgate.db"


@pytest.fixture
def store(file: Path) -> Store:
    found = opened(f"sqlite:///{file}")
    with found.database.driver(write=True) as raw:
        raw.execute(INSERT)
    return found


def number(store: Store) -> int:
    with store.database.driver(write=False) as raw:
        query = "SELECT number FROM outgate_changes WHERE subject = 'test'"
        return int(raw.execute(query).fetchone()[0])


def add(store: Store) -> object:
    """The connection that did it."""
    with store.database.driver(write=True) as raw:
        raw.execute(ADD)
        return raw


def fail(store: Store, error: Exception) -> None:
    with store.database.driver(write=True) as raw:
        raw.execute(ADD)
        raise error


def test_one_connection_does_for_all_transactions(store: Store) -> None:
    assert add(store) is add(store)
    assert number(store) == 2


def test_an_error_of_the_caller_undoes_the_transaction_and_keeps_the_connection(
    store: Store,
) -> None:
    before = add(store)
    with pytest.raises(ZeroDivisionError):
        fail(store, ZeroDivisionError())
    assert add(store) is before
    assert number(store) == 2


def test_an_error_of_the_database_is_told_and_takes_the_connection_with_it(store: Store) -> None:
    before = add(store)
    with pytest.raises(Unavailable):
        fail(store, sqlite3.OperationalError("disk I/O error"))
    assert add(store) is not before
    assert number(store) == 2


def test_a_commit_that_fails_is_an_error_of_the_database(store: Store) -> None:
    def end() -> None:
        with store.database.driver(write=True) as raw:
            raw.execute("COMMIT")

    with pytest.raises(Unavailable):
        end()
    add(store)
    assert number(store) == 1


def test_whoever_finds_another_process_writing_waits_for_it(store: Store, file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    begin(other)
    done = threading.Thread(target=add, args=[store])
    done.start()
    time.sleep(0.1)
    assert number(store) == 0
    other.execute("COMMIT")
    other.close()
    done.join()
    assert number(store) == 1


def test_what_is_wrong_with_a_file_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    path.write_bytes(b"no database" * 1000)
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        begin(connection)
    connection.close()


def test_a_closed_store_opens_its_connection_again(store: Store) -> None:
    add(store)
    store.database.close()
    add(store)
    assert number(store) == 2


def test_a_checkpoint_moves_what_is_in_the_log_to_the_file(store: Store, file: Path) -> None:
    add(store)
    store.database.checkpoint()
    with sqlite3.connect(f"file:{file}?immutable=1", uri=True) as copy:  # as if there were no log
        assert copy.execute(
            "SELECT number FROM outgate_changes WHERE subject = 'test'"
        ).fetchone() == (1,)
    copy.close()
