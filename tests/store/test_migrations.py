import multiprocessing
from pathlib import Path

import pytest
import sqlalchemy as sa

from proxy import ConfigError, Counts, Labels
from proxy.store import Store, migrations, schema
from proxy.store.entries import Used, this_hour
from proxy.store.migrations import STEPS, Step
from tests.store.servers import opened

NEXT = STEPS[-1].number + 1


def engine(url: str) -> sa.Engine:
    return opened(url).database._engine


def add_column(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE outgate_facts ADD COLUMN remark TEXT")


def fail(connection: sa.Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE half_done (x INTEGER)")
    raise RuntimeError("fails")


def columns(url: str) -> dict[str, set[str]]:
    inspector = sa.inspect(engine(url))
    return {
        table: {column["name"] for column in inspector.get_columns(table)}
        for table in inspector.get_table_names()
    }


def test_a_new_database_gets_every_table_of_the_schema(store_url: str) -> None:
    before = migrations.state(engine(store_url))
    assert (before.current, before.known) == (0, STEPS[-1].number)
    assert before.missing == tuple(step.title for step in STEPS)
    opened(store_url).start()
    after = migrations.state(engine(store_url))
    assert (after.current, after.missing) == (STEPS[-1].number, ())
    expected = {table.name: set(table.c.keys()) for table in schema.metadata.tables.values()}
    assert columns(store_url) == expected


def test_all_tables_carry_the_name_of_the_program() -> None:
    assert all(name.startswith("outgate_") for name in schema.metadata.tables)


def test_an_old_database_gets_what_is_missing_and_once_only(store_url: str) -> None:
    opened(store_url).start()
    steps = (*STEPS, Step(NEXT, "remarks", add_column))
    assert migrations.state(engine(store_url), steps).missing == ("remarks",)
    assert [step.title for step in migrations.upgrade(engine(store_url), steps)] == ["remarks"]
    assert migrations.upgrade(engine(store_url), steps) == ()
    assert "remark" in columns(store_url)["outgate_facts"]
    assert migrations.state(engine(store_url), steps).current == NEXT


def test_a_book_from_before_hits_were_counted_goes_on(store_url: str) -> None:
    before = opened(store_url)
    before.usage.add(Used(this_hour(), Labels(key="k"), Counts(calls=5)))
    with before.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE outgate_usage DROP COLUMN cached")
        connection.exec_driver_sql("DELETE FROM outgate_steps WHERE number = 2")
    before.close()
    assert [step.number for step in opened(store_url).database.upgrade()] == [2]
    after = opened(store_url)
    after.usage.add(Used(this_hour(), Labels(key="k"), Counts(calls=2, cached=1)))
    (row,) = after.usage.report(["key"])
    assert (row["calls"], row["cached"]) == (7, 1)


def test_a_new_database_does_not_go_through_the_steps_of_old_ones(store_url: str) -> None:
    steps = (*STEPS, Step(NEXT, "of old databases only", fail))
    migrations.upgrade(engine(store_url), steps)
    assert migrations.state(engine(store_url), steps).current == NEXT


def test_steps_are_applied_all_or_none(store_url: str) -> None:
    opened(store_url).start()
    steps = (*STEPS, Step(NEXT, "remarks", add_column), Step(NEXT + 1, "fails", fail))
    with pytest.raises(RuntimeError):
        migrations.upgrade(engine(store_url), steps)
    assert migrations.state(engine(store_url), steps).current == STEPS[-1].number
    assert "half_done" not in columns(store_url)
    assert "remark" not in columns(store_url)["outgate_facts"]


def test_a_newer_schema_is_refused_with_the_way_out(store_url: str) -> None:
    opened(store_url).start()
    steps = (*STEPS, Step(NEXT, "from the future", add_column))
    migrations.upgrade(engine(store_url), steps)
    with pytest.raises(ConfigError, match=f"schema {NEXT}.*restore the backup"):
        opened(store_url).start()
    assert migrations.state(engine(store_url)).current == NEXT


def start(url: str) -> None:
    store = opened(url)
    store.start()
    store.close()


def test_processes_that_start_at_once_upgrade_once(store_url: str) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=start, args=[store_url]) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    with opened(store_url).reading() as connection:
        rows = connection.execute(sa.select(schema.steps.c.number)).scalars().all()
        numbers = connection.execute(sa.select(schema.changes.c.subject)).scalars().all()
    assert list(rows) == [step.number for step in STEPS]
    assert list(numbers) == ["keys"]


def test_looking_makes_no_file(tmp_path: Path) -> None:
    store: Store = opened(f"sqlite:///{tmp_path / 'outgate.db'}")
    assert store.database.state().current == 0
    assert list(tmp_path.iterdir()) == []
