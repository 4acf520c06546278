"""Rows in a real PostgreSQL, once each, whatever is in a record and however often the server goes away."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from plugins.postgres_log import PostgresLog
from proxy import ConfigError, Secret, Undelivered, Usage
from proxy.testing import harness
from tests.gateway import COMPLETION, gateway
from tests.postgres import Server, program, running_postgres
from tests.records import PATIENCE, eventually, full, record

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    if program("initdb") is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with running_postgres() as server:
        yield server


@pytest.fixture
def table(request: pytest.FixtureRequest) -> str:
    """A table of its own for each test."""
    return f"t{abs(hash(request.node.name)) % 10**12}"


def rows(database: Server, query: str) -> list[Any]:
    with psycopg.connect(database.url) as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_record_is_a_row_that_sql_can_ask_for(database: Server, table: str) -> None:
    sink = PostgresLog(Secret(database.url), table)
    sink.log_exchange(full(), required=True)
    assert sink._outbox.flush(PATIENCE)
    (row,) = rows(
        database,
        f"select id, time, endpoint, outcome, status, seconds, principal, model, upstream, prompt_tokens,"
        f" completion_tokens, record->'findings'->0->>'kind', record->'metadata'->>'team' from {table}",
    )
    assert row[0] == "req_1"
    assert row[1].isoformat() == "2026-01-01T00:00:00.250000+00:00"
    assert row[2:] == ("chat", "ok", 200, 0.5, "alice", "gpt-x", "main", 11, 5, "email", "red")


def test_calls_through_the_gateway_arrive(
    database: Server, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_URL", database.url)
    options = {"url": {"env": "LOG_URL"}, "table": table}
    plugin = {"use": "postgres_log", "required": True, "options": options}
    with gateway(plugins=[plugin]) as gate:
        for _ in range(3):
            assert gate.ask(COMPLETION).status == 200
        gate.record(3)
        ids = {told.id for told in gate.records}
        eventually(lambda: table_exists(database, table) and len(ids_in(database, table)) == 3)
    assert ids_in(database, table) == ids


def table_exists(database: Server, table: str) -> bool:
    return rows(database, f"select to_regclass('{table}')")[0][0] is not None


def ids_in(database: Server, table: str) -> set[str]:
    return {row[0] for row in rows(database, f"select id from {table}")}


def test_while_the_server_is_away_records_wait_and_each_arrives_once(
    database: Server, table: str
) -> None:
    sink = PostgresLog(Secret(database.url), table)
    sink.log_exchange(record(id="before"), required=True)
    assert sink._outbox.flush(PATIENCE)
    database.stop()
    for number in range(10):
        sink.log_exchange(record(id=f"during_{number}"), required=False)
    eventually(lambda: sink._outbox.fault)
    with pytest.raises(Undelivered) as caught:
        sink.log_exchange(record(id="refused"), required=True)
    assert database.password not in str(caught.value)
    database.start()
    assert sink._outbox.flush(PATIENCE)
    sink.log_exchange(record(id="before"), required=True)  # as after an answer that was lost
    assert sink._outbox.flush(PATIENCE)
    expected = {"before", "refused", *(f"during_{number}" for number in range(10))}
    assert ids_in(database, table) == expected
    assert rows(database, f"select count(*) from {table}") == [(12,)]


@pytest.mark.parametrize(
    "text", ["\x00", "a\x00b\\u0000", "\ud800", "'; drop table x; --", "\x1b[31m"]
)
def test_no_text_keeps_a_row_out(database: Server, table: str, text: str) -> None:
    sink = PostgresLog(Secret(database.url), table)
    sink.log_exchange(full(model=text, notes={text: text}, principal=text), required=False)
    assert sink._outbox.flush(PATIENCE)
    assert sink._outbox.dropped == 0
    assert ids_in(database, table) == {"req_1"}


def test_a_number_that_no_column_holds_is_left_out(database: Server, table: str) -> None:
    sink = PostgresLog(Secret(database.url), table)
    sink.log_exchange(full(usage=Usage(2**70, 5)), required=False)
    assert sink._outbox.flush(PATIENCE)
    found = rows(database, f"select prompt_tokens, completion_tokens from {table}")
    assert found == [(None, 5)]


def test_a_row_that_the_table_refuses_costs_no_other(database: Server, table: str) -> None:
    sink = PostgresLog(Secret(database.url), table)
    sink.log_exchange(record(id="first"), required=False)
    assert sink._outbox.flush(PATIENCE)
    rows_of = f"alter table {table} add check (id <> 'bad')"
    with psycopg.connect(database.url) as connection:
        connection.execute(rows_of.encode())
    for name in ("good", "bad", "better"):
        sink.log_exchange(record(id=name), required=False)
    assert sink._outbox.flush(PATIENCE)
    assert ids_in(database, table) == {"first", "good", "better"}
    assert sink._outbox.dropped == 1


def test_several_processes_make_the_table_at_once(database: Server, table: str) -> None:
    code = """
import sys
from plugins.postgres_log import PostgresLog
from proxy import Secret
from tests.records import record
sink = PostgresLog(Secret(sys.argv[1]), sys.argv[2])
sink.log_exchange(record(id=sys.argv[3]), required=False)
assert sink._outbox.flush(60)
assert sink._outbox.fault is None
"""
    command = [sys.executable, "-c", code, database.url, table]
    processes = [subprocess.Popen([*command, str(number)], cwd=ROOT) for number in range(4)]
    assert [process.wait(PATIENCE * 2) for process in processes] == [0] * 4
    assert ids_in(database, table) == {"0", "1", "2", "3"}


def test_a_user_that_may_only_insert_will_do(database: Server, table: str) -> None:
    PostgresLog(Secret(database.url), table).log_exchange(record(id="first"), required=False)
    eventually(lambda: table_exists(database, table))
    with psycopg.connect(database.url) as connection:
        connection.execute(f"create user u{table} password 'narrow-0123456789'".encode())
        connection.execute(f"grant insert on {table} to u{table}".encode())
    url = database.url.replace(f"outgate:{database.password}", f"u{table}:narrow-0123456789")
    sink = PostgresLog(Secret(url), table, create=False)
    for name in ("second", "first"):
        sink.log_exchange(record(id=name), required=False)
    assert sink._outbox.flush(PATIENCE)
    assert sink._outbox.dropped == 0
    eventually(lambda: ids_in(database, table) == {"first", "second"})


def test_a_table_in_a_schema_can_be_made_beforehand(database: Server, table: str) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute(f"create schema s{table}".encode())
    PostgresLog(Secret(database.url), f"s{table}.calls").log_exchange(record(), required=False)
    eventually(lambda: table_exists(database, f"s{table}.calls"))
    sink = PostgresLog(Secret(database.url), f"s{table}.calls", create=False)
    sink.log_exchange(record(id="second"), required=False)
    assert sink._outbox.flush(PATIENCE)
    missing = PostgresLog(Secret(database.url), f"s{table}.none", create=False)
    missing.log_exchange(record(), required=False)
    eventually(lambda: missing._outbox.fault)
    assert missing._outbox.fault == "ConnectionError: UndefinedTable 42P01"
    eventually(lambda: ids_in(database, f"s{table}.calls") == {"req_1", "second"})


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:pass-word@db.example/x", "cross the network in plain text"),
        ("postgresql://u:pass-word@db.example/x?sslmode=prefer", "sslmode=verify-full"),
        ("postgresql://u:pass-word@localhost,db.example/x", "sslmode=verify-full"),
        ("postgresql:///x", "names no host"),
        ("service=prod12345", "names no host"),
        ("this is no url at all", "not understood"),
    ],
)
def test_a_url_that_will_not_do_is_refused_without_repeating_it(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        PostgresLog(Secret(url))
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@db.example/x?sslmode=verify-full",
        "host=/var/run/postgresql dbname=x",
        "postgresql://u:p@127.0.0.1/x",
    ],
)
def test_a_url_that_nobody_can_listen_to_is_taken(url: str) -> None:
    PostgresLog(Secret(url))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"table": 'a"; drop table b'}, 'write "name" or "schema.name"'),
        ({"table": "Calls"}, "small letters"),
        ({"batch": 0}, "above zero"),
        ({"url": "postgresql://u:p@127.0.0.1/x"}, "a secret never stands"),
    ],
)
def test_options_that_will_not_do_stop_the_start(options: dict[str, Any], told: str) -> None:
    known = {"url": Secret("postgresql://u:p@127.0.0.1/x")}
    with pytest.raises(ConfigError, match=told):
        harness("postgres_log", **{**known, **options})
