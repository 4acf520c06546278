"""``outgate usage``, as it is typed."""

import csv
import json
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy import Counts, Labels
from proxy.cli import main
from proxy.store import Store, StoreTable
from proxy.store.entries import HOUR, Used, this_hour


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "outgate.toml"
    path.write_text(f'[store]\nurl = "sqlite:///{tmp_path / "outgate.db"}"\n')
    return path


@pytest.fixture
def store(path: Path) -> Store:
    return Store(StoreTable(url=f"sqlite:///{path.parent / 'outgate.db'}"))


def run(path: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--config", str(path)])


def add(store: Store, hours_ago: int, labels: Labels, **counts: int) -> None:
    store.usage.add(Used(this_hour() - hours_ago * HOUR, labels, Counts(calls=1, **counts)))


def fill(store: Store) -> None:
    add(store, 1, Labels(team="research", model="m", currency="USD"), prompt_tokens=5, cost=1_500)
    add(store, 2, Labels(team="sales", model="m", currency="EUR"), completion_tokens=7, cost=2)
    add(store, 2, Labels(team="sales", model="\x1b[31m"), refused=1)
    add(store, 24 * 40, Labels(team="research", model="old", currency="USD"), cost=10**9)
    store.close()


def test_usage_is_a_table_with_what_happened_and_a_total(path: Path, store: Store) -> None:
    fill(store)
    result = run(path, "usage")
    assert result.exit_code == 0, result.output
    assert [line.split() for line in result.output.splitlines()] == [
        ["team", "model", "calls", "refused", "prompt", "tokens", "completion", "tokens", "cost"],
        ["research", "m", "1", "0", "5", "0", "0.0000015", "USD"],
        ["sales", "\\x1b[31m", "1", "1", "0", "0", "-"],
        ["sales", "m", "1", "0", "0", "7", "0.000000002", "EUR"],
        ["total", "3", "1", "5", "7", "0.000000002", "EUR,", "0.0000015", "USD"],
    ]


def test_usage_for_programs_is_json_or_csv(path: Path, store: Store) -> None:
    fill(store)
    rows = json.loads(run(path, "usage", "--by", "team", "--format", "json").output)
    assert [(row["team"], row["currency"], row["cost"]) for row in rows] == [
        ("research", "USD", "0.0000015"), ("sales", "", "0.00"), ("sales", "EUR", "0.000000002"),
    ]  # fmt: skip
    output = run(path, "usage", "--by", "day,team", "--since", "60d", "--format", "csv").output
    table = list(csv.DictReader(output.splitlines()))
    assert {row["cost"] for row in table} >= {"1.00", "0.0000015"}
    assert datetime.fromisoformat(table[0]["day"]).hour == 0


def test_a_cell_that_a_spreadsheet_would_run_is_only_text(path: Path, store: Store) -> None:
    add(store, 1, Labels(key="=cmd|' /C calc'!A0"))
    store.close()
    output = run(path, "usage", "--by", "key", "--format", "csv").output
    (row,) = csv.DictReader(output.splitlines())
    assert row["key"] == "'=cmd|' /C calc'!A0"


def test_usage_is_of_those_that_are_asked_for(path: Path, store: Store) -> None:
    fill(store)
    result = run(path, "usage", "--by", "team", "--only", "team=sales", "--since", "3h")
    assert "sales" in result.output
    assert "research" not in result.output
    assert run(path, "usage", "--only", "team=nobody").output == "Nothing was used in this time.\n"
    assert run(path, "usage", "--only", "team=x", "--format", "csv").output == ""
    assert json.loads(run(path, "usage", "--only", "team=x", "--format", "json").output) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "tema"], "Did you mean 'team'?"),
        (["--only", "research"], "write NAME=VALUE"),
        (["--only", "tema=x"], "Did you mean 'team'?"),
        (["--since", "yesterday"], "write for example 7d"),
        (["--until", "never"], "write for example 7d"),
    ],
)
def test_usage_that_cannot_be_told_says_how_to_ask(
    path: Path, words: list[str], message: str
) -> None:
    result = run(path, "usage", *words)
    assert result.exit_code == 1
    assert message in result.output
